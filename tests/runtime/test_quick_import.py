"""The garbage collector around the import of large packages."""

import gc
import subprocess
import sys

import pytest

from lift.runtime.quick_import import pause_collector, quick_import


@pytest.mark.parametrize("enabled", [True, False])
def test_the_collector_is_off_in_the_block_and_then_as_before(enabled: bool) -> None:
    frozen, before = gc.get_freeze_count(), gc.isenabled()
    (gc.enable if enabled else gc.disable)()
    try:
        with pytest.raises(ImportError), quick_import():
            assert not gc.isenabled()
            raise ImportError
        assert gc.isenabled() == enabled
    finally:
        (gc.enable if before else gc.disable)()
    assert gc.get_freeze_count() == frozen, "torch is here, so garbage of others may be, too"


def test_a_pause_ends_with_its_block() -> None:
    assert gc.isenabled()
    with pause_collector():
        with pause_collector():
            assert not gc.isenabled()
        assert not gc.isenabled(), "the outer block goes on"
    assert gc.isenabled()


@pytest.mark.parametrize(("loaded", "frozen"), [("None", True), ("sys", False)])
def test_frozen_objects_are_freed_at_the_end_for_triton_only(loaded: str, frozen: bool) -> None:
    code = (
        "import atexit, gc, sys, lift.cli\n"
        "atexit.register(lambda: print(gc.get_freeze_count() > 100_000))\n"
        "from lift.runtime.quick_import import quick_import\n"
        "with quick_import(): import torch\n"
        f"if {loaded}: sys.modules['triton'] = {loaded}"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == [str(frozen)], done.stderr


@pytest.mark.parametrize(("first", "frozen"), [("import lift.cli", "True"), ("", "False")])
def test_only_a_command_does_not_search_what_it_imported(first: str, frozen: str) -> None:
    code = (
        f"{first}\nimport gc; from lift.runtime.quick_import import quick_import\n"
        "with quick_import(): import torch\n"
        "print(gc.get_freeze_count() > 100_000, gc.isenabled())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == [frozen, "True"], done.stderr
