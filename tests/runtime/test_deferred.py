"""Stages that are written beside the computation of the next ones."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from filelock import FileLock, Timeout

from lift.runtime.atomic_io import open_lock
from lift.runtime.cache import Store
from lift.runtime.deferred import MAX_PENDING, DeferredWriter
from lift.runtime.serialization import as_loaded, load, save
from lift.types import Frames


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """An event that all writes of stages wait for."""
    event = threading.Event()

    def slow_save(value, folder) -> None:
        assert event.wait(10)
        save(value, folder)

    monkeypatch.setattr("lift.runtime.cache.save", slow_save)
    return event


def held_lock(path) -> FileLock:
    lock = open_lock(path)
    lock.acquire()
    return lock


def is_free(path) -> bool:
    try:
        with FileLock(path, timeout=0):
            return True
    except Timeout:
        return False


def test_functions_are_called_in_order_and_locks_released(tmp_path) -> None:
    writer = DeferredWriter()
    written: list[int] = []
    gate = threading.Event()
    writer.submit(lambda: (gate.wait(), written.append(0))[1], held_lock(tmp_path / "0"))
    writer.submit(lambda: written.append(1), held_lock(tmp_path / "1"))
    writer.raise_errors()  # does not wait
    assert written == [] and not is_free(tmp_path / "0")
    gate.set()
    writer.flush()
    assert written == [0, 1]
    assert is_free(tmp_path / "0") and is_free(tmp_path / "1")
    assert not [t for t in threading.enumerate() if t.name.startswith("lift-writer")]


def test_an_error_is_raised_when_the_others_are_written(tmp_path) -> None:
    writer = DeferredWriter()
    written: list[int] = []

    def fail() -> None:
        raise OSError(28, "No space left on device")

    writer.submit(fail, held_lock(tmp_path / "0"))
    writer.submit(lambda: written.append(1), held_lock(tmp_path / "1"))
    with pytest.raises(OSError, match="No space left"):
        writer.flush()
    assert written == [1]
    assert is_free(tmp_path / "0") and is_free(tmp_path / "1")
    writer.flush()  # the error is told once


def make(indices: list[int]) -> list[torch.Tensor]:
    return [torch.full((3,), float(index)) for index in indices]


def test_stages_are_on_disk_after_the_block(tmp_path, gate) -> None:
    store = Store(tmp_path)
    with store.deferred():
        first = store.batch("clip", ["a"], make, 1)
        assert first[0][0].tolist() == [0.0, 0.0, 0.0]
        assert store.find("clip", "a") is None
        # Another job does not make the same stage meanwhile.
        assert Store(tmp_path).batch("clip", ["a"], make, 1) == {}
        gate.set()
        store.batch("clip", ["b"], make, 1)
    value, stage = Store(tmp_path).batch("clip", ["a"], make, 1)[0]
    assert stage.cached and value.tolist() == [0.0, 0.0, 0.0]
    assert store.find("clip", "b") is not None


def test_values_are_written_beside_the_next_ones_until_the_outer_block_ends(tmp_path, gate) -> None:
    store = Store(tmp_path)
    with store.deferred():
        with store.deferred():
            store.batch("clip", ["a"], make, 1)
        value, stage = store.value("reconstruct", "b", lambda: {"depth": torch.ones(2)})
        assert value["depth"].tolist() == [1.0, 1.0] and not stage.cached
        assert store.find("clip", "a") is None and store.find("reconstruct", "b") is None
        gate.set()
    assert store.find("clip", "a") is not None
    again, stage = store.value("reconstruct", "b", lambda: {"depth": torch.zeros(2)})
    assert stage.cached and again["depth"].tolist() == [1.0, 1.0]


def test_a_value_that_is_being_written_is_waited_for(tmp_path, gate) -> None:
    store = Store(tmp_path)
    with store.deferred():
        first, _ = store.value("depth", "a", lambda: torch.ones(2))
        threading.Timer(0.3, gate.set).start()
        again, stage = store.value("depth", "a", lambda: torch.zeros(2))
        assert torch.equal(first, again) and stage.cached


def test_a_job_need_not_wait_for_later_stages_of_another_one(tmp_path) -> None:
    store = Store(tmp_path)

    with ThreadPoolExecutor(1) as pool:  # as another process

        def long_fit(folder) -> None:
            other = pool.submit(Store(tmp_path).value, "reconstruct", "a", lambda: torch.zeros(2))
            value, stage = other.result(timeout=10)
            assert stage.cached and value.tolist() == [1.0, 1.0]
            (folder / "done").write_text("")

        with store.deferred():
            store.value("reconstruct", "a", lambda: torch.ones(2))
            store.folder("fit", "b", long_fit)


def test_a_write_that_failed_ends_the_job_before_a_long_stage(tmp_path, monkeypatch) -> None:
    def full_disk(value, folder) -> None:
        raise OSError(28, "No space left on device")

    store = Store(tmp_path)
    monkeypatch.setattr("lift.runtime.cache.save", full_disk)
    with pytest.raises(OSError, match="No space left"), store.deferred():
        store.value("reconstruct", "a", lambda: torch.ones(2))
        store._writer.wait()
        store.folder("fit", "b", lambda folder: pytest.fail("the fit began"))


def test_a_stage_that_cannot_be_written_ends_the_block(tmp_path, monkeypatch) -> None:
    def full_disk(value, folder) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lift.runtime.cache.save", full_disk)
    store = Store(tmp_path)
    with pytest.raises(OSError, match="No space left"), store.deferred():
        store.batch("clip", ["a"], make, 1)
    monkeypatch.undo()
    with pytest.raises(OSError, match="No space left"):
        monkeypatch.setattr("lift.runtime.cache.save", full_disk)
        store.batch("clip", ["a"], make, 1)  # outside of a block it is written at once
    monkeypatch.undo()
    assert not Store(tmp_path).batch("clip", ["a"], make, 1)[0][1].cached


def test_values_are_what_load_returns(tmp_path) -> None:
    pictures = torch.arange(2 * 4 * 6 * 3).reshape(2, 4, 6, 3).to(torch.uint8)
    learned = torch.ones(3, requires_grad=True)
    value = {"frames": Frames(pictures, torch.rand(2, 4, 6)), "list": [1, learned], "none": None}
    save(value, tmp_path)
    loaded, direct = load(tmp_path), as_loaded(value)
    assert torch.equal(direct["frames"].images, loaded["frames"].images)
    assert torch.equal(direct["frames"].depth, loaded["frames"].depth)
    assert isinstance(direct["list"], tuple) and isinstance(loaded["list"], tuple)
    assert not direct["list"][1].requires_grad
    assert direct["none"] is loaded["none"] is None


def test_a_value_may_be_changed_after_it_was_handed_over(tmp_path, gate) -> None:
    buffer = torch.zeros(3)
    store = Store(tmp_path)
    with store.deferred():
        results = store.batch("clip", ["a"], lambda indices: [buffer], 1)
        buffer += 7
        gate.set()
    assert results[0][0].tolist() == [0.0, 0.0, 0.0]
    assert Store(tmp_path).batch("clip", ["a"], make, 1)[0][0].tolist() == [0.0, 0.0, 0.0]


def test_the_error_of_a_write_is_raised_before_a_later_one_of_the_block(
    tmp_path, monkeypatch
) -> None:
    def limited(value, folder) -> None:
        raise OSError(27, "File too large")

    monkeypatch.setattr("lift.runtime.cache.save", limited)
    store = Store(tmp_path)
    with pytest.raises(OSError, match="File too large"), store.deferred():
        store.batch("clip", ["a"], make, 1)
        raise RuntimeError("a checkpoint cannot be written either")


def test_an_interrupt_is_raised_and_the_error_of_a_write_is_told(tmp_path, monkeypatch) -> None:
    def full_disk(value, folder) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lift.runtime.cache.save", full_disk)
    lines: list[str] = []
    store = Store(tmp_path, lines.append)
    with pytest.raises(KeyboardInterrupt), store.deferred():
        store.batch("clip", ["a"], make, 1)
        raise KeyboardInterrupt
    assert len(lines) == 1 and "the disk is full" in lines[0]
    monkeypatch.undo()
    assert Store(tmp_path).batch("clip", ["a"], make, 1)[0][1].cached is False


def test_an_interrupt_while_waiting_releases_the_locks(tmp_path) -> None:
    writer = DeferredWriter()
    written: list[int] = []
    writer.submit(lambda: written.append(0), held_lock(tmp_path / "0"))
    first = writer._pending[0]
    first.exception()  # it has returned

    class Interrupted:
        """A future whose wait is interrupted once."""

        def result(self) -> None:
            raise KeyboardInterrupt

        def exception(self) -> None:
            return first.exception()

    writer._pending[0] = Interrupted()  # pyright: ignore[reportArgumentType]
    writer.submit(lambda: written.append(1), held_lock(tmp_path / "1"))
    with pytest.raises(KeyboardInterrupt):
        writer.flush()
    assert written == [0, 1]
    assert is_free(tmp_path / "0") and is_free(tmp_path / "1")


def test_few_stages_wait_to_be_written(tmp_path) -> None:
    writer = DeferredWriter()
    written: list[int] = []
    for number in range(6):
        writer.submit(
            lambda number=number: written.append(number), held_lock(tmp_path / f"{number}")
        )
        assert len(writer._pending) <= MAX_PENDING
    assert written[: 6 - MAX_PENDING] == list(range(6 - MAX_PENDING))
    writer.flush()
