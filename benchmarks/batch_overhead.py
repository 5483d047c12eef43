"""What does `lift batch` cost for each picture, apart from the scene?

    python benchmarks/batch_overhead.py [--pictures 10000] [--engines local] [--workers 2]
        [--milliseconds 0] [--results FOLDER]

The real driver, engine and records do tasks that sleep instead of making a scene. Each finished
task leaves an empty file. Three cases are measured for each engine, each in a process of its own:

- `all`: a batch from its start to its end.
- `restart`: the same batch is killed (SIGKILL) when half of the pictures are done, and started
  again. The second start is measured. No picture may be made twice that had a record.
- `twice as many`: the batch with twice as many pictures, for how memory and time grow.

`seconds` are those of the clock, from the first task to the last record, workers' start included.
`processor_seconds` are those of the driver alone. `peak_mib` is the driver's peak of resident
memory, and `base_mib` that before the first task. Ray gets a tenth of the pictures.
"""

import argparse
import json
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
from measure import add_results_option, write_results

from lift.batch.jobs import Options, make_tasks, run_tasks
from lift.batch.pictures import BatchPicture
from lift.batch.records import Record, Summary, read_summary
from lift.batch.tasks import BatchTask


def sleep(task: BatchTask) -> Record:
    """Do nothing for a while, and leave a file in place of a scene."""
    time.sleep(float(task.settings[0]) / 1e3)
    result = Path(task.folder, "done", task.title)
    result.touch(exist_ok=False)
    stages = {"depth": 4.2, "plan": 0.1, "clip": 31.7, "reconstruct": 0.3, "fit": 47.9}
    return task.record(
        "finished",
        result=str(result),
        stages=stages,
        seconds=90.1,
        psnr=31.4159265,
        peak_gib=2.125,
        verdict="good",
    )


def find(task: BatchTask) -> Record | None:
    """Find the file of a finished task."""
    result = Path(task.folder, "done", task.title)
    return task.record("passed over", result=str(result)) if result.exists() else None


def drive(folder: Path, count: int, engine: str, workers: int, milliseconds: float) -> None:
    """Run a batch in this process, and print what it took as JSON.

    Args:
        folder: Folder for the files.
        count: Number of pictures.
        engine: Engine of the batch.
        workers: Number of workers.
        milliseconds: Duration of a task.
    """
    pictures = [
        BatchPicture(f"photos/2024/holiday/IMG_{number:07d}.jpg") for number in range(count)
    ]
    (folder / "done").mkdir(exist_ok=True)
    base = peak_mib()
    start, processor = time.perf_counter(), time.process_time()
    tasks = make_tasks(pictures, (str(milliseconds),))
    tasks = [BatchTask(t.image, t.title, t.settings, t.own_settings, str(folder)) for t in tasks]
    listed = time.perf_counter()
    summary = Summary(folder / "summary.jsonl")
    needs = {"num_cpus": "1"} if engine == "ray" else {}
    options = Options(engine, needs, workers, as_json=True)
    records = run_tasks(tasks, options, summary, sleep, find)
    summary.close()
    seconds = time.perf_counter() - start
    assert len(records) == count, len(records)
    row = {
        "seconds": round(seconds, 2),
        "listing_seconds": round(listed - start, 2),
        "processor_seconds": round(time.process_time() - processor, 2),
        "base_mib": base,
        "peak_mib": peak_mib(),
        "summary_bytes": summary.path.stat().st_size,
        "states": {
            state: sum(record.state == state for record in records)
            for state in ("finished", "passed over", "failed")
        },
    }
    print(json.dumps(row), flush=True)


def peak_mib() -> float:
    """Return the peak of the resident memory of this process in MiB."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def start(folder: Path, *arguments: object) -> subprocess.Popen[str]:
    """Start `drive` in a process of its own."""
    folder.mkdir(exist_ok=True)
    words = [sys.executable, __file__, "--drive", str(folder), *map(str, arguments)]
    with (folder / "progress.jsonl").open("ab") as errors:
        return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=errors, text=True)


def measure_batch(folder: Path, *arguments: object) -> dict[str, Any]:
    """Run one batch, and return its row."""
    process = start(folder, *arguments)
    out, _ = process.communicate()
    if process.returncode:
        raise SystemExit((folder / "progress.jsonl").read_text()[-2000:])
    return json.loads(out.splitlines()[-1])


def measure_restart(folder: Path, count: int, *arguments: object) -> dict[str, Any]:
    """Kill a batch at its half, start it again, and return the row of the second start."""
    process = start(folder, count, *arguments)
    path = folder / "summary.jsonl"
    while not path.exists() or path.read_bytes().count(b"\n") < count // 2:
        time.sleep(0.05)
        assert process.poll() is None, "the batch has ended before its half"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = len(read_summary(path))
    wait_for_workers(folder)
    row = measure_batch(folder, count, *arguments)
    assert row["states"]["failed"] == 0, row
    return {"recorded_before": before, **row}


def wait_for_workers(folder: Path) -> None:
    """Wait until no process works in a folder. Workers follow their driver within a second."""
    quiet = 0
    while quiet < 3:
        before = sum(1 for _ in (folder / "done").iterdir())
        time.sleep(0.5)
        quiet = quiet + 1 if sum(1 for _ in (folder / "done").iterdir()) == before else 0


def main() -> None:
    """Measure the engines, and write the result."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("--pictures", type=int, default=10_000)
    parser.add_argument("--engines", nargs="+", default=["local"], help="local, ray")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--milliseconds", type=float, default=0.0, help="duration of a task")
    parser.add_argument("--drive", nargs=5, help=argparse.SUPPRESS)
    add_results_option(parser)
    options = parser.parse_args()
    if options.drive:
        folder, count, engine, workers, milliseconds = options.drive
        drive(Path(folder), int(count), engine, int(workers), float(milliseconds))
        return
    rows = []
    for engine in options.engines:
        few = max(2, options.pictures // 10) if engine == "ray" else options.pictures
        cases = {"all": few, "restart": few, "twice as many": 2 * few}
        for case, count in cases.items():
            folder = Path(tempfile.mkdtemp(prefix="overhead-"))
            run = measure_restart if case == "restart" else measure_batch
            try:
                row = run(folder, count, engine, options.workers, options.milliseconds)
            finally:
                shutil.rmtree(folder, ignore_errors=True)
            load = round(psutil.getloadavg()[0], 1)
            rows.append({"engine": engine, "case": case, "pictures": count, "load": load, **row})
            print(rows[-1], flush=True)
            write_results("batch-overhead", 0, "cpu", rows, "seconds", options.results)


if __name__ == "__main__":
    main()
