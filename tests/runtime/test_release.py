"""Memory after a run."""

import gc
import weakref

from lift.runtime.release import freeze_older_objects


class Cycle:
    """An object that refers to itself."""

    def __init__(self) -> None:
        self.itself = self


def test_searches_leave_out_older_objects_within_the_block() -> None:
    gc.collect()
    frozen = gc.get_freeze_count()
    gc.unfreeze()
    try:
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
    finally:
        if frozen:
            gc.freeze()
