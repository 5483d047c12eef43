"""Batches as jobs of SLURM, on this machine."""

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from PIL import Image
from skimage import data

from lift.batch import slurm
from lift.batch.jobs import Options
from lift.batch.records import Journal, Record, Summary, follow_records, read_summary
from lift.batch.slurm import run_shard, run_slurm
from lift.batch.slurm_executor import TIMEOUT_MIN, read_parameters
from lift.batch.tasks import BatchTask
from tests.helpers.batch_jobs import find_file, make_file
from tests.helpers.commands import here, lift, start_lift
from tests.helpers.settings import MINIMAL

pytest.importorskip("submitit")

ROOT = Path(__file__).parents[2]
LOCAL = {"cluster": "local", "timeout_min": "10"}
ENGINE = ("--engine=slurm", "--engine-option=cluster=local", "--engine-option=timeout_min=10")


def write_pictures(folder: Path) -> None:
    """Write two small pictures and a file that is none."""
    for name, pixels in (("a", data.coffee()), ("b", data.chelsea())):
        Image.fromarray(pixels[:96, :128]).save(folder / f"{name}.png")
    (folder / "bad.jpg").write_bytes(b"no picture")


def processes() -> Iterator[psutil.Process]:
    """Return the processes that run submitit."""
    for process in psutil.process_iter(["cmdline"]):
        if any("submitit" in word for word in process.info["cmdline"] or ()):
            yield process


@pytest.fixture(autouse=True)
def _jobs_find_the_package(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(slurm, "_POLL_SECONDS", 0.1)


def make_tasks(folder: Path, orders: list[str]) -> list[BatchTask]:
    """Write a file for each order, and return tasks for them."""
    for number, order in enumerate(orders):
        (folder / f"{number:02d}.txt").write_text(order)
    names = [f"{number:02d}" for number in range(len(orders))]
    return [BatchTask(f"{name}.txt", name, (), folder=str(folder)) for name in names]


def run(folder: Path, tasks: list[BatchTask], **options) -> dict[str, Record]:
    """Run tasks in jobs of this machine; return the records by title."""
    summary = Summary(folder / "summary.jsonl")
    options = {"engine_options": LOCAL, "processes": 2, **options}
    records = run_slurm(tasks, Options("slurm", **options), summary, make_file, find_file)
    summary.close()
    return {record.title: record for record in records}


def words(path: Path) -> Counter:
    return Counter(path.read_text().split()) if path.exists() else Counter()


@pytest.mark.slow
def test_jobs_and_workers_that_are_lost_cost_nothing_twice(tmp_path, capsys):
    orders = ["ok"] * 40
    for number in (3, 18):
        orders[number] = "corrupt"
    orders[10], orders[13], orders[21], orders[25] = "job", "always", "memory", "killed"
    tasks = make_tasks(tmp_path, orders)
    records = run(tmp_path, tasks, as_json=True)
    failed = {name for name, record in records.items() if record.state == "failed"}
    assert list(records) == [task.title for task in tasks]
    assert failed == {"03", "13", "18", "21"}, "one that ends its job takes no other with it"
    assert {records[name].cause for name in ("03", "18")} == {"permanent"}
    assert records["21"].is_transient and records["21"].attempts == 2
    assert records["13"].is_transient and "its job was lost" in (records["13"].error or "")
    lines = [json.loads(line) for line in (tmp_path / "summary.jsonl").read_text().splitlines()]
    assert sorted(line["title"] for line in lines) == list(records)
    made, done = words(tmp_path / "made"), words(tmp_path / "done")
    assert len(done) == 36 and set(done.values()) == {1}
    again = {name: count for name, count in made.items() if count > 1}
    assert again == {"10": 2, "13": 3, "21": 2, "25": 2}
    events = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    kinds = Counter(event["event"] for event in events)
    assert kinds == {"submitted": 1, "done": 40, "resubmitted": 3, "lost": 1}
    (lost,) = [event for event in events if event["event"] == "lost"]
    assert "without a result" in lost["error"] and "_log.err" in lost["error"]

    for number in (3, 13, 21):  # what failed before is done now, and nothing else
        (tmp_path / f"{number:02d}.txt").write_text("ok")
    records = run(tmp_path, tasks, processes=1)
    assert {name for name, record in records.items() if record.state == "failed"} == {"18"}
    assert sum(words(tmp_path / "made").values()) == sum(made.values()) + 4
    written = Counter(record.state for record in read_summary(tmp_path / "summary.jsonl"))
    assert written == {"finished": 39, "failed": 1}
    assert "[19/40] 18.txt failed: it is no picture" in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_makes_scenes_in_jobs(tmp_path):
    write_pictures(tmp_path)
    (tmp_path / "list").mkdir()
    (tmp_path / "list" / "all.txt").write_text("../a.png\n../bad.jpg\n../b.png\n")
    command = ("batch", "list/all.txt", *MINIMAL, "output=out", "name=run", *ENGINE)
    done = lift(*command, "--processes=1", "--prometheus=lift.prom", cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert done.stdout.split() == ["out/a/run", "out/b/run"]
    assert "lift: 1 of 3 pictures failed:\n  list/../bad.jpg: " in done.stderr
    assert "3 of 3 pictures: 1 failed, 2 finished" in done.stderr
    assert 'lift_batch_pictures{state="finished"} 2.0' in (tmp_path / "lift.prom").read_text()
    records = {r.title: r for r in read_summary(tmp_path / "out" / "summary.jsonl")}
    assert records["a"].psnr and records["b"].stages["fit"] > 0
    manifest = tmp_path / "out" / "a" / "run" / "manifest.json"
    before = manifest.stat()
    again = here(*command, "--shard=0/2", cwd=tmp_path)  # a and b: nothing to submit
    assert again.returncode == 0 and again.stdout.split() == done.stdout.split()
    assert "jobs" not in again.stderr
    assert (manifest.stat().st_ino, manifest.stat().st_mtime) == (before.st_ino, before.st_mtime)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_cancels_the_jobs_and_leaves_nothing_half_made(tmp_path, number):
    write_pictures(tmp_path)
    settings = (*MINIMAL, "fit.steps=100000", "output=out", "--processes=2")
    started = start_lift("batch", "a.png", "b.png", *settings, *ENGINE, cwd=tmp_path)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("out/cache/*")) and time.monotonic() < deadline:
        time.sleep(0.1)
    jobs = [p for p in processes() if str(tmp_path) in p.info["cmdline"][-1]]
    jobs += [child for job in jobs for child in job.children(recursive=True)]
    assert len(jobs) >= 4, "a controller and a job for each picture"
    started.send_signal(number)
    done = started.finish()
    assert done.returncode == 128 + number, done.stderr
    assert "2 jobs were cancelled" in done.stderr and "Traceback" not in done.stderr
    assert not psutil.wait_procs(jobs, timeout=10)[1], "jobs and workers have ended"
    assert not [*tmp_path.glob("out/a/[!.]*"), *tmp_path.glob("out/b/[!.]*")]
    assert not (tmp_path / "out" / "summary.jsonl").exists()


def test_a_job_that_slurm_stops_counts_no_picture_as_failed(tmp_path):
    tasks = make_tasks(tmp_path, ["ok", "ok", "ok"])

    def find(task: BatchTask) -> Record | None:
        if task.title == "01":
            os.kill(os.getpid(), signal.SIGUSR2)  # as at the time limit
        return task.record("passed over", result="x")

    path = tmp_path / "records.jsonl"
    before = signal.getsignal(signal.SIGUSR2)
    with pytest.raises(RuntimeError, match="stopped by SIGUSR2"):
        run_shard(tasks, Options(), str(path), make_file, find)
    assert signal.getsignal(signal.SIGUSR2) is before
    assert [record.title for record in read_summary(path)] == ["00"]


@pytest.mark.parametrize(
    "option, expected",
    [
        ("cluster=x", "cluster=x; choose one of slurm, local"),
        ("foo=1", "foo=1; choose one of cluster, cpus_per_task, gpus_per_node"),
        ("slurm_nodes=2", "slurm_nodes=2; choose one of"),
        ("mem_gb=much", "mem_gb=much; choose a number of at least 0"),
        ("timeout_min=1.5", "timeout_min=1.5; choose a whole number"),
        ("slurm_partition=gpu", "finds no program sbatch"),
    ],
)
def test_wrong_engine_options_are_named_before_any_output(tmp_path, monkeypatch, option, expected):
    monkeypatch.setenv("PATH", str(tmp_path))
    command = ("batch", "coffee", "output=out", "--engine=slurm", f"--engine-option={option}")
    done = here(*command, cwd=tmp_path)
    assert done.returncode == 2 and expected in done.stderr and done.stderr.count("\n") == 1
    assert not os.listdir(tmp_path)


def test_engine_options_are_read_by_their_types():
    options = {"mem_gb": "3.5", "gpus_per_node": "2", "slurm_partition": "gpu", "name": "7"}
    options |= {"slurm_setup": "module load cuda", "slurm_exclusive": "true"}
    assert read_parameters(options) == {
        "name": "7",
        "timeout_min": TIMEOUT_MIN,
        "mem_gb": 3.5,
        "gpus_per_node": 2,
        "slurm_partition": "gpu",
        "slurm_setup": ["module load cuda"],
        "slurm_exclusive": True,
    }


def test_an_array_is_submitted_to_slurm_and_cancelled(tmp_path, monkeypatch):
    """Programs stand for those of SLURM. They write down how they are called."""
    programs = tmp_path / "bin"
    programs.mkdir()
    scripts = {"sbatch": "echo Submitted batch job 77", "srun": "true", "scancel": "true"}
    scripts["sacct"] = "echo 'JobID|State'; echo '77_0|RUNNING'; echo '77_1|RUNNING'"
    for name, line in scripts.items():
        call = f'echo {name} "$@" >> {tmp_path}/calls'
        (programs / name).write_text(f"#!/bin/sh\n{call}\n{line}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(slurm.time, "sleep", interrupt)
    options = {"gpus_per_node": "1", "slurm_partition": "gpu"}
    tasks = make_tasks(tmp_path, ["ok"] * 5)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, tasks, engine_options=options)
    (script,) = tmp_path.glob(".batch/*/*_submission.sh")
    text = script.read_text()
    lines = ("--array=0-1%", "--gpus-per-node=1", "--partition=gpu", f"--time={TIMEOUT_MIN}")
    assert all(f"#SBATCH {line}" in text for line in lines), text
    calls = (tmp_path / "calls").read_text()
    assert calls.count("sbatch") == 1 and "scancel 77_0 77_1" in calls


def test_a_journal_goes_on_after_a_cut_line(tmp_path):
    path = tmp_path / "records.jsonl"
    new_records = follow_records(path)
    assert next(new_records) == []
    with Journal(path) as journal:
        journal.begin(("a",))
        journal.add(Record("a.jpg", "a", "finished", result="out/a"))
        journal.begin(("b",))
    assert [record.title for record in next(new_records)] == ["a"]
    with path.open("a") as stream:
        stream.write('{"image": "c.jp')
    assert next(new_records) == []
    with Journal(path) as journal:
        assert journal.keys == {("a",)} and journal.begun == {("b",)}
        journal.add(Record("d.jpg", "d", "held"))
    assert [record.title for record in next(new_records)] == ["d"]
