"""Tasks beside the main thread end with their block, and their errors surface."""

import threading
import time

import pytest
import torch

from lift.runtime.background import Handover, HandoverError, background, finished_task
from lift.runtime.profiling import profile_run, span


def fail():
    raise OSError("the disk is full")


def test_results_are_returned_by_the_tasks():
    with background() as tasks:
        first = tasks.start("first", lambda: 1)
        second = tasks.start("second", lambda: first.result() + 1)
        assert second.result() == 2
    assert finished_task("x").result() == "x"


def test_the_block_ends_when_its_tasks_have_ended():
    done = []
    before = threading.active_count()
    with background() as tasks:
        tasks.start("slow", lambda: (time.sleep(0.1), done.append(True)))
    assert done and threading.active_count() == before


def test_an_error_that_nobody_asked_for_surfaces_at_the_end():
    with pytest.raises(OSError, match="full"), background() as tasks:
        tasks.start("fails", fail)


def test_an_error_that_was_handled_does_not_surface_again():
    with background() as tasks:
        task = tasks.start("fails", fail)
        with pytest.raises(OSError):
            task.result()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_of_the_block_waits_for_running_tasks_only(error):
    begun = threading.Event()
    done = []

    def slow():
        begun.set()
        time.sleep(0.1)
        done.append("slow")

    before = threading.active_count()
    with pytest.raises(error), background(threads=1) as tasks:
        tasks.start("slow", slow)
        tasks.start("waits", lambda: done.append("waits"))
        begun.wait()
        raise error
    assert done == ["slow"] and threading.active_count() == before


def test_tasks_use_as_many_threads_of_torch_as_the_block():
    with background() as tasks:
        count = tasks.start("count", torch.get_num_threads).result()
    assert count == torch.get_num_threads()


def test_items_are_handed_over_in_order_and_never_too_many():
    pending = 0
    most = 0
    items = Handover(3)

    def take():
        nonlocal pending
        taken = []
        for item in items:
            time.sleep(0.001)
            taken.append(item)
            pending -= 1
        return taken

    with background() as tasks:
        task = tasks.start("take", take, own_thread=True)
        with items:
            for item in range(50):
                assert items.put(item)
                pending += 1
                most = max(most, pending)
        assert task.result() == list(range(50))
    assert most <= 5, "three that wait, one that is taken and one that was just put in"


def test_nothing_is_handed_over_to_who_has_stopped():
    items = Handover(1)
    with background() as tasks, items:
        assert items.put(1)
        tasks.start("stop", items.abandon, own_thread=True).result()
        assert not items.put(2)


def test_an_error_of_who_hands_over_reaches_the_other_thread():
    items = Handover(1)
    with background() as tasks:
        task = tasks.start("take", lambda: list(items), own_thread=True)
        with pytest.raises(ValueError), items:
            raise ValueError
        with pytest.raises(HandoverError):
            task.result()


def test_profiles_show_tasks_within_the_span_that_started_them():
    with profile_run() as profile:
        with span("delivery"), background() as tasks:
            tasks.start("files", lambda: time.sleep(0.05)).result()
        lines = profile.table().splitlines()
    assert any(line.startswith("| - files (beside) | 1 | 0.0") for line in lines)
    threads = {event["tid"] for event in profile.trace()["traceEvents"]}
    assert threads == {"lift", "lift: files"}
