"""Kill runs at random moments, run them again, and compare the results.

    python benchmarks/interruptions.py [--kills 100] [--cuts 100] [--kinds KIND ...]
        [--workers 2] [--seed 0] [--work FOLDER] [--results FOLDER] [--limit SECONDS]
        [--commit NAME]
    python benchmarks/interruptions.py --add FILE ... [--results FOLDER]

Each trial starts a command in an empty folder, stops it after a random time, and runs it again. The
second run has to end with exit status 0, with the same stages and the same scene as a run that
nobody stopped, byte for byte. A kill sends SIGKILL, SIGTERM or SIGINT to the command's processes. A
power cut sends SIGKILL and then damages the folder: see `power_cut.py`. A fifth of the trials stop
the second run, too.

The trials are kept in WORK/trials.jsonl. Started again with the same work folder, the program goes
on. The result file is written after each trial. It keeps its rows of other seeds, machines and
commits, so each start on a fresh machine needs a seed of its own. `--add` merges result files.

`lift` need not be installed: the program runs from a source tree, with or without git.
"""

import argparse
import hashlib
import importlib.util
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT))  # for a tree that is not installed

from interruption_rows import merge_rows, read_rows, summarize  # noqa: E402
from measure import add_results_option, write_results  # noqa: E402
from power_cut import SyncLog, cut  # noqa: E402

from lift.runtime.devices import cpu_cores  # noqa: E402
from lift.runtime.machine import commit  # noqa: E402

TINY = (
    "preprocess.size=64",
    "planner.levels=1",
    "planner.num_frames=3",
    "fit.steps=30",
    "fit.checkpoint_every=10",
    "fit.initial_gaussians=1000",
    "fit.test_every=4",
    "export.film.seconds=0.17",
)
KINDS: dict[str, tuple[str, ...]] = {
    "run": ("run", "image=coffee", "name=scene", *TINY),
    "processes": (
        "run",
        "image=coffee",
        "name=scene",
        *TINY,
        "trainer.accelerator=cpu",
        "trainer.devices=2",
    ),
    "batch": ("batch", "coffee", "rocket", "name=scene", *TINY),
    "eval": ("eval", "dataset=ray_cast", "dataset.scenes=[room]", "name=table", *TINY),
}
"""Commands by name, without their output folder."""
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
VARYING = {
    "manifest.json",
    "metrics.json",
    "provenance.json",
    "report.html",
    "config.yaml",
    "checkpoint.ckpt",
    "logs.json",
}
"""Files that hold times, paths, random names or the step at which a run went on."""
COMPARED = {"gaussians.ply", "transforms.json", "distortion.safetensors", "fly_through.json"}
"""Files of a delivered run that are compared, besides all files of the cache."""
RECORDER = Path(__file__).with_name("sync_recorder")
"""Folder of the module that records what processes sync."""
TIME_LIMIT = 900.0
"""Seconds after which a run counts as hanging."""


@dataclass(frozen=True)
class Reference:
    """Runs that nobody stopped."""

    seconds: float
    """Median time from start to end, beside as many other commands as there are workers."""
    files: dict[str, str]
    """Hash by path, the same in all of them."""


def import_path(work: Path) -> str:
    """Return the value of PYTHONPATH by which commands find this tree's `lift`.

    A tree that is not installed has no folder `lift/configs`. Then links in the work folder show
    the package as an installation has it.

    Args:
        work: Folder of all trials.
    """
    source = ROOT
    if importlib.util.find_spec("lift.configs") is None:
        source = work / "source"
        package = source / "lift"
        package.mkdir(parents=True, exist_ok=True)
        for entry in (*(ROOT / "lift").iterdir(), ROOT / "configs"):
            link = package / entry.name
            if entry.name != "__pycache__" and not link.is_symlink():
                link.symlink_to(entry)
    inherited = os.environ.get("PYTHONPATH")
    return os.pathsep.join([str(source), *([inherited] if inherited else [])])


def start(kind: str, folder: Path, log: Path | None) -> subprocess.Popen[str]:
    """Start a command in a process group of its own.

    Args:
        kind: Name of the command.
        folder: Folder of the trial.
        log: File for the record of syncs; None keeps no record.
    """
    environment = {
        **os.environ,
        "CUDA_VISIBLE_DEVICES": "",  # sums on a GPU differ in the last bits
        "OMP_NUM_THREADS": "1",
        "NUMBA_NUM_THREADS": "1",
    }
    if log is not None:
        environment["LIFT_SYNC_LOG"] = str(log)
        environment["PYTHONPATH"] = os.pathsep.join([str(RECORDER), os.environ["PYTHONPATH"]])
    output = folder / "output"
    output.mkdir(parents=True, exist_ok=True)
    with (folder / "stderr.txt").open("w", encoding="utf-8") as stderr:
        return subprocess.Popen(
            [sys.executable, "-m", "lift", *KINDS[kind], f"output={output}"],
            env=environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            text=True,
            start_new_session=True,
        )


def stop(process: subprocess.Popen[str], kind: signal.Signals) -> int:
    """Send a signal to all processes of a command, wait, and return the exit status."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, kind)
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return -1000
    with suppress(ProcessLookupError):  # children that outlive their parent
        os.killpg(process.pid, signal.SIGKILL)
    return process.returncode


def file_hashes(output: Path) -> dict[str, str]:
    """Hash the stages and the delivered scenes below a folder.

    Args:
        output: Output folder of a command.
    """
    hashes = {}
    for path in sorted(output.rglob("*")):
        relative = path.relative_to(output)
        ignored = any(part.startswith(".") or ".damaged-" in part for part in relative.parts)
        in_cache = "cache" in relative.parts
        if not path.is_file() or ignored or path.name in VARYING or "tensorboard" in relative.parts:
            continue
        if in_cache:
            name = str(relative)
        elif path.name in COMPARED:
            name = f"{relative.parts[0]}/*/{path.name}"  # names of evaluated runs hash `output`
        else:
            continue
        hashes[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return hashes


def make_references(kinds: Sequence[str], workers: int, work: Path) -> dict[str, Reference]:
    """Run commands undisturbed, or read what an earlier start of this program measured.

    The first runs compile loops, so they are not timed. The timed ones share the machine with as
    many others as the trials do.

    Args:
        kinds: Names of the commands.
        workers: Number of commands at the same time.
        work: Folder of all trials.
    """
    records = {kind: work / f"reference-{kind}.json" for kind in kinds}
    missing = [kind for kind, record in records.items() if not record.exists()]
    if missing:
        tell(f"running {', '.join(missing)} undisturbed")
        with ThreadPoolExecutor(workers) as pool:
            first = list(pool.map(lambda kind: run_undisturbed(kind, work, 0), missing))
            count = max(workers, len(missing))
            timed = [missing[number % len(missing)] for number in range(count)]
            second = list(
                pool.map(
                    lambda item: run_undisturbed(item[1], work, item[0]),
                    enumerate(timed, start=1),
                )
            )
        for kind, (_, files) in zip(missing, first, strict=True):
            runs = [run for other, run in zip(timed, second, strict=True) if other == kind]
            if any(run_files != files for _, run_files in runs):
                raise SystemExit(f"{kind} gives other files when nobody stops it")
            seconds = statistics.median(run_seconds for run_seconds, _ in runs)
            tell(f"{kind} takes {seconds:.0f} s undisturbed")
            record = {"seconds": seconds, "files": files}
            records[kind].write_text(json.dumps(record), encoding="utf-8")
    return {
        kind: Reference(**json.loads(record.read_text(encoding="utf-8")))
        for kind, record in records.items()
    }


def run_undisturbed(kind: str, work: Path, number: int) -> tuple[float, dict[str, str]]:
    """Run a command to its end, and return its time in seconds and the hashes of its files."""
    folder = work / f"reference-{kind}-{number}"
    shutil.rmtree(folder, ignore_errors=True)
    began = time.monotonic()
    if start(kind, folder, None).wait(TIME_LIMIT):
        raise SystemExit(f"{kind} fails undisturbed: {tail(folder)}")
    seconds = time.monotonic() - began
    files = file_hashes(folder / "output")
    shutil.rmtree(folder)
    return seconds, files


def tell(line: str) -> None:
    """Print a line of progress."""
    print(line, file=sys.stderr, flush=True)


def tail(folder: Path) -> str:
    """Return the end of what a command said."""
    return (folder / "stderr.txt").read_text(encoding="utf-8", errors="replace")[-2000:]


@dataclass(frozen=True)
class Trial:
    """What a trial stops, and how."""

    cause: str
    """`kill` or `cut`."""
    kind: str
    """Name of the command."""
    seed: int
    """Seed of all trials of a start of this program."""
    number: int
    """Index among the trials of the same cause, kind and seed."""

    @property
    def name(self) -> str:
        """Name of the trial's folder."""
        return f"{self.cause}-{self.kind}-{self.seed}-{self.number}"


def run_trial(trial: Trial, reference: Reference, work: Path) -> dict[str, Any]:
    """Stop a command at a random moment, run it again, and compare.

    Args:
        trial: The trial.
        reference: The command's runs that nobody stopped.
        work: Folder of all trials.

    Returns:
        The row of the trial. `problem` is None if the second run gave the same result.
    """
    rng = random.Random(trial.name)
    folder = work / trial.name
    shutil.rmtree(folder, ignore_errors=True)
    log = folder / "synced.jsonl" if trial.cause == "cut" else None
    stops = []
    problems = []
    for _ in range(2 if rng.random() < 0.2 else 1):
        stops.append(stop_once(trial, reference, folder, log, rng, problems))
    process = start(trial.kind, folder, log)
    try:
        status = process.wait(TIME_LIMIT)
    except subprocess.TimeoutExpired:
        status = stop(process, signal.SIGKILL)
    row = {**vars(trial), "cores": cpu_cores(), "stops": stops}
    if status:
        problems.append(f"the run ended with {status}: {tail(folder)}")
    else:
        files = file_hashes(folder / "output")
        row["set_aside"] = len(list(folder.glob("output/cache/*.damaged-*")))
        changed = [path for path, digest in reference.files.items() if files.get(path) != digest]
        more = sorted(set(files) - set(reference.files))
        if changed or more:
            problems.append(f"files differ: {changed[:5]}, files that were not there: {more[:5]}")
    row["problem"] = "; ".join(problems) or None
    if not problems:
        shutil.rmtree(folder)
    return row


def stop_once(
    trial: Trial,
    reference: Reference,
    folder: Path,
    log: Path | None,
    rng: random.Random,
    problems: list[str],
) -> dict[str, Any]:
    """Start a command and stop it at a random moment before its end.

    Args:
        trial: The trial.
        reference: The command's runs that nobody stopped.
        folder: Folder of the trial.
        log: File for the record of syncs; None keeps no record.
        rng: Source of randomness.
        problems: Takes what is wrong with the end of the command.

    Returns:
        Signal, moment in seconds, exit status, number of finished stages, and damage. `end` is the
        end of the messages if the signal does not explain the status.
    """
    name = signal.SIGKILL if trial.cause == "cut" else rng.choice(SIGNALS)
    delay = rng.uniform(0.0, reference.seconds)
    process = start(trial.kind, folder, log)
    with suppress(subprocess.TimeoutExpired):
        process.wait(delay)
    is_finished = process.poll() is not None
    status = stop(process, name)
    stages = [path for path in folder.glob("output/cache/*") if not path.name.startswith(".")]
    if status == -1000:
        problems.append(f"did not end within 60 s of {name.name}")
    if "Traceback" in tail(folder):
        problems.append(f"traceback after {name.name}: {tail(folder)}")
    damage = cut(folder / "output", SyncLog.read(log), rng) if log else {}
    expected = (0, -name, 128 + name)
    return {
        **({} if status in expected else {"end": tail(folder)[-500:]}),
        "signal": name.name,
        "seconds": round(delay, 2),
        "status": status,
        "finished": is_finished,
        "stages": len(stages),
        **damage,
    }


def main() -> None:
    """Run the trials that are missing, and write the table."""
    options = parse_options()
    target = options.results / "interruptions-cpu.json"
    if options.add:
        rows = merge_rows(*(read_rows(file) for file in (target, *options.add)))
        print(write_results("interruptions", options.seed, "cpu", rows, "trials", options.results))
        return
    began = time.monotonic()
    work = options.work or Path(tempfile.mkdtemp(prefix="lift-interruptions-"))
    work.mkdir(parents=True, exist_ok=True)
    work = work.resolve()
    tell(f"work folder: {work}")
    os.environ["PYTHONPATH"] = import_path(work)
    # Commands would inherit from a background job that SIGINT is ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    references = make_references(options.kinds, options.workers, work)
    name = options.commit or commit()

    def write(trials: Sequence[dict[str, Any]]) -> Path:
        rows = merge_rows(read_rows(target), summarize(trials, name))
        return write_results("interruptions", options.seed, "cpu", rows, "trials", options.results)

    wanted = wanted_trials(options)
    stop_at = began + options.limit if options.limit else None
    trials = run_trials(wanted, references, options.workers, work, stop_at, write)
    print(write(trials))


def parse_options() -> argparse.Namespace:
    """Read the arguments."""
    parser = argparse.ArgumentParser(description="Stop runs, run them again, and compare.")
    parser.add_argument("--kills", type=int, default=100, help="number of killed runs")
    parser.add_argument("--cuts", type=int, default=100, help="number of power cuts")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), metavar="KIND")
    parser.add_argument("--workers", type=int, default=1, help="trials at the same time")
    parser.add_argument("--seed", type=int, default=0, help="seed of all random choices")
    parser.add_argument("--work", type=Path, help="folder of the trials (default: a temporary one)")
    parser.add_argument("--limit", type=float, help="seconds after which no trial starts")
    parser.add_argument("--commit", help="name of the commit (default: what git says)")
    parser.add_argument("--add", nargs="+", type=Path, metavar="FILE", help="merge result files")
    add_results_option(parser)
    return parser.parse_args()


def wanted_trials(options: argparse.Namespace) -> list[Trial]:
    """List the trials: kills and cuts in turn, and all kinds in turn."""
    trials = [
        (number, Trial(cause, options.kinds[number % len(options.kinds)], options.seed, number))
        for cause, count in (("kill", options.kills), ("cut", options.cuts))
        for number in range(count)
    ]
    return [trial for _, trial in sorted(trials, key=lambda item: item[0])]


def run_trials(
    wanted: Sequence[Trial],
    references: dict[str, Reference],
    workers: int,
    work: Path,
    stop_at: float | None,
    write: Callable[[Sequence[dict[str, Any]]], Any],
) -> list[dict[str, Any]]:
    """Run the trials that are missing.

    Args:
        wanted: All trials.
        references: Runs that nobody stopped, by kind.
        workers: Number of trials at the same time.
        work: Folder of all trials.
        stop_at: Time of the monotonic clock after which no trial starts. None: no limit.
        write: Writes the result file from the rows of finished trials.

    Returns:
        Rows of all finished trials, those of earlier starts too.
    """
    record = work / "trials.jsonl"
    lines = record.read_text(encoding="utf-8").splitlines() if record.exists() else []
    rows = [json.loads(line) for line in lines if line]
    finished = {Trial(row["cause"], row["kind"], row["seed"], row["number"]) for row in rows}
    missing = [trial for trial in wanted if trial not in finished]
    lock = threading.Lock()
    began = time.monotonic()
    tell(f"{len(wanted) - len(missing)} of {len(wanted)} trials are finished")

    def run_one(trial: Trial) -> None:
        if stop_at is not None and time.monotonic() > stop_at:
            return
        row = run_trial(trial, references[trial.kind], work)
        with lock:
            rows.append(row)
            with record.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(row) + "\n")
            write(rows)
            tell(
                f"[{len(rows)}/{len(finished) + len(missing)}] {trial.name}: "
                f"{row['problem'] or 'resumed identically'}, {time.monotonic() - began:.0f} s"
            )

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(run_one, missing))
    return rows


if __name__ == "__main__":
    main()
