"""Compiled loops are found in folders that cannot be written, as those of a container image."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.helpers.users import READ_ALL, can_import, needs_root, user_command

USER = 54323
"""Identifier that no account has."""

SOURCE = """
import sys
from lift.runtime.jit import is_cached, njit_cached

@njit_cached()
def add_one(value):
    return value + 1

if __name__ == "__main__":
    cached = is_cached(add_one)
    value = float(sys.argv[1]) if "." in sys.argv[1] else int(sys.argv[1])
    print(cached, add_one(value), sum(add_one.stats.cache_hits.values()))
"""

pytestmark = [pytest.mark.slow, needs_root]

Run = Callable[..., subprocess.CompletedProcess]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A program with a loop, that root compiled into the folder `loops`."""
    folder = Path(tempfile.mkdtemp(prefix="lift-stored-loops-"))
    folder.chmod(0o755)
    (folder / "loops.py").write_text(SOURCE)
    (folder / "home").mkdir()
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(folder / "loops")}
    subprocess.run([sys.executable, "loops.py", "1"], cwd=folder, env=environment, check=True)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def options() -> tuple[str, ...]:
    """Options of setpriv with which the user can read this installation."""
    for options in ((), READ_ALL):
        if can_import(USER, Path("/"), *options):
            return options
    pytest.skip("other users cannot read this installation")


@pytest.fixture
def run(folder, options) -> Run:
    """Run the program as a user who cannot write its folders, and maybe not the home."""

    def run(value: str, **environment: str) -> subprocess.CompletedProcess:
        variables = {**os.environ, "HOME": str(folder / "home"), "PYTHONDONTWRITEBYTECODE": "1"}
        variables.pop("XDG_CACHE_HOME", None)
        return subprocess.run(
            [*user_command(USER, *options), "loops.py", value],
            cwd=folder,
            env={**variables, **environment},
            capture_output=True,
            text=True,
            check=True,
        )

    return run


def test_loops_in_a_read_only_folder_are_used(folder, run):
    done = run("1", NUMBA_CACHE_DIR=str(folder / "loops"))
    assert done.stdout.split() == ["True", "2", "1"]
    assert "compiled anew" not in done.stderr


def test_loops_beside_a_read_only_source_are_used(folder, run):
    environment = {k: v for k, v in os.environ.items() if k != "NUMBA_CACHE_DIR"}
    subprocess.run([sys.executable, "loops.py", "1"], cwd=folder, env=environment, check=True)
    assert run("1", NUMBA_CACHE_DIR="").stdout.split() == ["True", "2", "1"]


def test_other_types_are_stored_in_the_home(folder, run):
    os.chown(folder / "home", USER, USER)
    variables = {"NUMBA_CACHE_DIR": str(folder / "loops")}
    assert run("1.5", **variables).stdout.split() == ["True", "2.5", "0"]
    assert run("1.5", **variables).stdout.split() == ["True", "2.5", "1"]
    assert run("1", **variables).stdout.split() == ["True", "2", "1"]


def test_loops_of_another_processor_are_compiled_anew(folder, run):
    done = run("1", NUMBA_CACHE_DIR=str(folder / "loops"), NUMBA_CPU_NAME="generic")
    assert done.stdout.split() == ["True", "2", "0"], "no cache can be written: True"
    assert "loops are compiled anew in each process" in done.stderr
