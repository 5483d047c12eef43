"""The garbage collector around the import of large packages."""

import gc
import subprocess
import sys

import pytest

from lift.runtime.quick_import import quick_import


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


@pytest.mark.parametrize(("first", "frozen"), [("import lift.cli", "True"), ("", "False")])
def test_only_a_command_does_not_search_what_it_imported(first: str, frozen: str) -> None:
    code = (
        f"{first}\nimport gc; from lift.runtime.quick_import import quick_import\n"
        "with quick_import(): import torch\n"
        "print(gc.get_freeze_count() > 100_000, gc.isenabled())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == [frozen, "True"], done.stderr
