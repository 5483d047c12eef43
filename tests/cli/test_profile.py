"""`lift run --profile`: where the time of a run goes."""

import json
import time

import pytest

from lift.runtime import profiling
from lift.runtime.profiling import Profile, profile_run, profiled, span
from tests.helpers.commands import here, lift
from tests.helpers.settings import MINIMAL


def test_spans_are_added_by_name_and_by_what_is_around_them():
    profile = Profile(time.time())
    with profile.span("clip"):
        pass
    with profile.span("clip"), profile.span("warp"):
        time.sleep(0.05)
    with profile.span("fit"):
        pass
    lines = [line.split(" | ") for line in profile.table().splitlines()[2:]]
    assert [line[0].strip("| ") for line in lines] == ["clip", "- warp", "fit", "other", "all"]
    counts = [int(line[1]) for line in lines]
    assert counts == [2, 1, 1, 1, 1]
    seconds = [float(line[2]) for line in lines]
    assert 0.05 <= seconds[1] <= seconds[0] <= seconds[-1] < 5


def test_operations_of_a_part_are_recorded_once_and_on_the_clock_of_the_spans():
    import torch

    with profile_run() as profile:
        add = profiled("add", lambda: torch.ones(3) + 1)
        add()
        recorded = len(profile.trace()["traceEvents"])
        add()
    events = profile.trace()["traceEvents"]
    assert len(events) == recorded + 1, "the second time there is only a span"
    first = next(event for event in events if event["name"] == "add" and event["cat"] == "lift")
    inner = [event for event in events if event["name"] == "aten::add"]
    assert inner, "an operation of torch"
    for event in inner:
        assert (
            first["ts"] <= event["ts"] <= event["ts"] + event["dur"] <= first["ts"] + first["dur"]
        )


def test_nothing_is_measured_without_the_option():
    with span("fit"):
        pass
    assert profiling._active is None


@pytest.mark.slow
def test_a_run_writes_its_profile_beside_its_results(tmp_path):
    command = ("run", "image=coffee", *MINIMAL, "output=out")
    for count in range(2):  # the second run delivers again what it finds
        done = lift(*command, "--profile", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        run = tmp_path / done.stdout.strip()
        table = (run / "profile" / "table.md").read_text()
        assert table in done.stderr and "- film | 1 |" in table and "USDT" not in done.stderr
        assert ("| fit | 1 |" in table) == (count == 0)
        names = {
            event["name"]
            for event in json.loads((run / "profile/trace.json").read_text())["traceEvents"]
        }
        assert {"start", "delivery", "report"} <= names
        assert ({"steps at full size", "aten::mul"} <= names) == (count == 0)
    again = here(*command, cwd=tmp_path)
    assert again.returncode == 0 and "finished before" in again.stderr, "a profile is no damage"


@pytest.mark.parametrize(
    "setting, message",
    [
        ("trainer.devices=2", "--profile needs a run in one process, and trainer.devices is 2"),
        ("output=memory://x", "--profile: output is 'memory://x'; choose a local folder"),
    ],
)
def test_a_run_that_cannot_be_profiled_says_why(setting, message, tmp_path):
    done = here("run", "image=coffee", "trainer=cpu", setting, "--profile", cwd=tmp_path)
    assert done.returncode == 2 and message in done.stderr, done.stderr
