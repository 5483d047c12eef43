"""Memory after a run."""

import gc
import weakref
from collections.abc import Iterator

import pytest

from lift.runtime import release
from lift.runtime.release import freeze_older_objects


class Cycle:
    """An object that refers to itself."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def nothing_frozen(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As in a process whose last run ended well. What was frozen is frozen again afterwards."""
    monkeypatch.setattr(release, "_failed", False)
    gc.collect()
    frozen = gc.get_freeze_count()
    gc.unfreeze()
    gc.disable()  # only searches that are asked for
    yield
    gc.enable()
    if frozen:
        gc.freeze()


def test_searches_leave_out_older_objects_within_the_block() -> None:
    older = weakref.ref(Cycle())
    with freeze_older_objects():
        own = weakref.ref(Cycle())
        gc.collect()
        assert older() is not None and own() is None
        with freeze_older_objects():
            pass
        assert gc.get_freeze_count() > 0  # the inner block changes nothing
    assert gc.get_freeze_count() == 0
    gc.collect()
    assert older() is None


def test_what_a_failed_block_has_left_is_searched() -> None:
    with pytest.raises(ValueError), freeze_older_objects():
        left = weakref.ref(Cycle())
        raise ValueError
    with freeze_older_objects():
        assert left() is None
