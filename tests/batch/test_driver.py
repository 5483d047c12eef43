"""What becomes of tasks that an engine runs."""

import json
import os
from collections import Counter
from concurrent.futures import Future
from pathlib import Path

import pytest

from lift.batch.driver import Driver, Policy
from lift.batch.engine import LocalEngine, WorkerLostError
from lift.batch.jobs import Options, count_own, finish, run_tasks
from lift.batch.progress import Progress, format_duration
from lift.batch.records import Record, Summary, read_summary
from lift.batch.tasks import BatchTask, make_scene
from lift.registry import ComponentError
from tests.helpers.engines import InlineEngine, stand_in


def make_tasks(folder: Path, orders: list[str]) -> list[BatchTask]:
    """Write a file for each order, and return tasks for them."""
    for number, order in enumerate(orders):
        (folder / f"{number}.txt").write_text(order)
    names = [str(number) for number in range(len(orders))]
    return [BatchTask(f"{name}.txt", name, (), folder=str(folder)) for name in names]


def run(folder: Path, tasks: list[BatchTask], engine, found=lambda task: None, **policy):
    """Run tasks; return the records by title, and the file with all of them."""
    summary = Summary(folder / "summary.jsonl")
    driver = Driver(
        lambda: engine, stand_in, Policy(**policy), summary, Progress(len(tasks), as_json=True)
    )
    records = driver.run(tasks, found)
    summary.close()
    written = read_summary(summary.path) if summary.path.exists() else []
    return {record.title: record for record in records}, {r.title: r for r in written}


def words(path: Path) -> Counter:
    return Counter(path.read_text().split())


def test_permanent_failures_are_not_tried_again_and_transient_ones_are(tmp_path, capsys):
    tasks = make_tasks(tmp_path, ["ok", "corrupt", "memory"])
    records, written = run(tmp_path, tasks, InlineEngine(), retries=2)
    assert [records[name].state for name in "012"] == ["finished", "failed", "finished"]
    assert [records[name].attempts for name in "012"] == [1, 1, 2]
    assert records["1"].cause == "permanent" and "no picture" in records["1"].error
    assert {name: written[name].state for name in written} == {
        name: record.state for name, record in records.items()
    }
    events = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [event["event"] for event in events].count("retried") == 1
    assert events[-1]["counts"] == {"finished": 2, "failed": 1}


def test_without_retries_a_transient_failure_is_the_last_word(tmp_path):
    records, _ = run(tmp_path, make_tasks(tmp_path, ["memory"]), InlineEngine(), retries=0)
    assert records["0"].is_transient and "memory" in records["0"].error


def test_fail_fast_begins_nothing_more(tmp_path):
    tasks = make_tasks(tmp_path, ["corrupt", "ok", "ok"])
    engine = InlineEngine()
    records, _ = run(tmp_path, tasks, engine, fail_fast=True)
    assert list(records) == ["0"] and engine.is_closed


def test_after_the_first_failure_nothing_is_tried_again(tmp_path):
    def fail(task: BatchTask) -> Record:
        raise ComponentError("a wrong row")

    tasks = make_tasks(tmp_path, ["ok", "ok"])
    records, _ = run(tmp_path, tasks, InlineEngine(), found=fail, fail_fast=True)
    assert list(records) == ["0"] and records["0"].cause == "permanent"


def test_a_store_out_of_reach_is_asked_again_by_a_worker(tmp_path):
    def fail(task: BatchTask) -> Record:
        raise ConnectionError("no route to the store")

    records, _ = run(tmp_path, make_tasks(tmp_path, ["ok"]), InlineEngine(), found=fail)
    assert records["0"].state == "finished"


def test_waiting_for_another_job_costs_no_try(tmp_path):
    states = iter(["held", "failed", "finished"])

    def make(task: BatchTask) -> Record:
        state = next(states)
        return task.record(state, cause="transient" if state == "failed" else None)

    summary = Summary(tmp_path / "summary.jsonl")
    driver = Driver(InlineEngine, make, Policy(retries=1), summary, Progress(1))
    (record,) = driver.run(make_tasks(tmp_path, ["ok"]), lambda task: None)
    assert (record.state, record.attempts) == ("finished", 2)


def test_a_worker_that_cannot_start_fails_its_tasks_and_not_the_pool(tmp_path, monkeypatch):
    monkeypatch.setattr("lift.batch.worker._problem", "its worker could not start: no GPU")
    (task,) = make_tasks(tmp_path, ["ok"])
    record = make_scene(task)
    assert record.is_transient and "no GPU" in (record.error or "")


def test_finished_pictures_need_no_engine(tmp_path):
    tasks = make_tasks(tmp_path, ["ok", "ok"])
    records, _ = run(
        tmp_path, tasks, None, found=lambda task: task.record("passed over", result="there")
    )
    assert {record.state for record in records.values()} == {"passed over"}
    assert not (tmp_path / "made").exists()


def test_a_picture_of_another_job_is_looked_at_once_more(tmp_path):
    looks = []

    def held_once(task: BatchTask) -> Record:
        looks.append(task.title)
        return task.record("held" if looks.count(task.title) == 1 else "finished", result="x")

    tasks = make_tasks(tmp_path, ["ok", "ok"])
    summary = Summary(tmp_path / "summary.jsonl")
    driver = Driver(InlineEngine, held_once, Policy(), summary, Progress(2))
    assert {record.state for record in driver.run(tasks, lambda task: None)} == {"finished"}
    assert looks == ["0", "1", "0", "1"]


@pytest.mark.slow
def test_a_pool_outlives_workers_that_are_killed_hang_or_fail(tmp_path):
    orders = ["ok"] * 40
    for number in (3, 17, 31):
        orders[number] = "corrupt"
    orders[7], orders[20], orders[12], orders[25] = "killed", "memory", "hangs 1", "hangs 9"
    records, written = run(
        tmp_path, make_tasks(tmp_path, orders), LocalEngine(2), retries=1, timeout=2.0
    )
    assert len(records) == 40 and records.keys() == written.keys()
    failed = {name for name, record in records.items() if record.state == "failed"}
    assert failed == {"3", "17", "25", "31"}
    assert records["25"].is_transient and "longer than 2 s" in records["25"].error
    assert [records[name].attempts for name in ("7", "20", "12", "25")] == [2, 2, 2, 2]
    done = words(tmp_path / "done")
    assert len(done) == 36 and set(done.values()) == {1}, "nothing is made twice"


def test_ranks_share_a_list_without_a_queue(tmp_path, monkeypatch):
    tasks = make_tasks(tmp_path, ["ok"] * 5)
    monkeypatch.setattr("lift.batch.jobs.LocalEngine", InlineEngine)
    summary = Summary(tmp_path / "summary.jsonl")
    done: set[str] = set()

    def find(task: BatchTask, view: object = None) -> Record | None:
        return task.record("passed over", result="x") if task.title in done else None

    monkeypatch.setattr("lift.batch.jobs.find_finished", find)
    for rank in range(2):
        for name, value in {"RANK": rank, "WORLD_SIZE": 2, "LOCAL_RANK": rank}.items():
            monkeypatch.setenv(name, str(value))
        with pytest.raises(ComponentError, match="have been started"):
            run_tasks(tasks, Options(processes=2), summary, stand_in)
        count = count_own(tasks)
        records = run_tasks(tasks, Options(), summary, stand_in)
        assert finish(records, count, Options(), summary.path) == 0, "others do the rest"
        done |= {record.title for record in records}
        assert "RANK" not in os.environ, "a worker is no rank"
    assert (tmp_path / "made").read_text().split() == ["0", "2", "4", "1", "3"]


def test_lost_workers_are_described(tmp_path):
    tasks = make_tasks(tmp_path, ["killed", "ok"])
    records, _ = run(tmp_path, tasks, LocalEngine(1), retries=0)
    assert "SIGKILL" in records["0"].error and records["0"].is_transient
    assert records["1"].state == "finished"


class TestSummary:
    """The file with a line for each picture."""

    def test_the_last_line_of_a_picture_counts_and_cut_lines_do_not(self, tmp_path):
        path = tmp_path / "summary.jsonl"
        summary = Summary(path)
        summary.add(Record("a.jpg", "a", "failed", error="x", cause="transient"))
        summary.add(Record("b.jpg", "b", "finished", result="out/b"))
        summary.add(Record("a.jpg", "a", "finished", result="out/a"))
        with path.open("a") as stream:
            stream.write('{"image": "c.jp')
        assert [(r.title, r.state) for r in read_summary(path)] == [
            ("a", "finished"),
            ("b", "finished"),
        ]
        later = Summary(path)
        later.add(Record("d.jpg", "d", "finished", result="out/d"))
        later.close()
        assert [r.title for r in read_summary(path)] == ["a", "b", "d"]
        assert path.read_text().count("\n") == 3

    def test_what_is_known_is_not_replaced_by_less(self, tmp_path):
        summary = Summary(tmp_path / "summary.jsonl")
        summary.add(Record("a.jpg", "a", "finished", seconds=7.0, result="out/a"))
        summary = Summary(tmp_path / "summary.jsonl")
        summary.add(Record("a.jpg", "a", "passed over", result="out/a"))
        summary.add(Record("b.jpg", "b", "held"))
        (only,) = read_summary(tmp_path / "summary.jsonl")
        assert (only.state, only.seconds) == ("finished", 7.0)
        summary.add(Record("a.jpg", "a", "failed", error="x", cause="transient"))
        summary = Summary(tmp_path / "summary.jsonl")  # after a kill
        summary.add(Record("a.jpg", "a", "passed over", result="out/a"))
        assert [r.state for r in read_summary(tmp_path / "summary.jsonl")] == ["passed over"]


def test_durations_are_read_at_a_glance():
    assert [format_duration(seconds) for seconds in (5.0, 200.0, 9000.0)] == [
        "5 s",
        "3 min",
        "2 h 30 min",
    ]


def test_prometheus_reads_the_counts(tmp_path):
    path = tmp_path / "lift.prom"
    progress = Progress(3, prometheus=path)
    progress.finish(Record("a.jpg", "a", "finished", seconds=2.0), 0)
    progress.finish(Record("b.jpg", "b", "failed", error="x", cause="permanent"), 1)
    text = path.read_text()
    assert 'lift_batch_pictures{state="finished"} 1.0' in text
    assert 'lift_batch_pictures{state="failed"} 1.0' in text
    assert "lift_batch_pictures_total 3.0" in text and "lift_batch_work_seconds 2.0" in text
    assert os.listdir(tmp_path) == ["lift.prom"]


def test_a_picture_that_a_lost_worker_still_holds_is_made_later(tmp_path):
    tasks = make_tasks(tmp_path, ["ok"])
    ends = iter([WorkerLostError("its node was lost"), tasks[0].record("held"), None])

    class LosingEngine(InlineEngine):
        """The node of the first try is lost, and its worker ends after the second try."""

        def submit(self, function, *arguments, timeout=None) -> Future:
            end = next(ends)
            future: Future = Future()
            if isinstance(end, Exception):
                future.set_exception(end)
            else:
                future.set_result(end or function(*arguments))
            return future

    records, _ = run(tmp_path, tasks, LosingEngine())
    assert (records["0"].state, records["0"].attempts) == ("finished", 2)
