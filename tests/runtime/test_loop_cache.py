"""Damaged files in numba's cache are noticed, and the loop is compiled again."""

import importlib.util
from pathlib import Path

import pytest

from tests.helpers.damage import KINDS, damage

SOURCE = """
from lift.runtime.jit import njit_cached

@njit_cached()
def add_one(value):
    return value + 1
"""


def call(folder: Path) -> tuple[int, bool]:
    """Result of the loop in a fresh module, and whether it came from the cache."""
    spec = importlib.util.spec_from_file_location("loops", folder / "loops.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    result = module.add_one(1)
    return result, bool(sum(module.add_one.stats.cache_hits.values()))


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "loops.py").write_text(SOURCE)
    assert call(tmp_path) == (2, False)
    assert call(tmp_path) == (2, True)
    return tmp_path


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("folder", "longer")])
@pytest.mark.parametrize("suffix", ["nbi", "nbc"])
def test_a_damaged_loop_is_compiled_again(folder, suffix, kind, caplog):
    (file,) = folder.glob(f"__pycache__/*.{suffix}")
    damage(file, kind)
    assert call(folder) == (2, False)
    assert kind == "missing" or f"{file} is damaged" in caplog.text
    assert call(folder) == (2, True)


def test_loops_of_older_versions_are_used(folder):
    for file in folder.glob("__pycache__/*.nb?"):
        file.write_bytes(file.read_bytes()[:-9])
    assert call(folder) == (2, True)
