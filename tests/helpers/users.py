"""Commands of users without an account, and compiled loops for them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from numba.core.caching import _CacheLocator

import lift

GROUP = 54320
"""Identifier that no group has."""

needs_root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0 or shutil.which("setpriv") is None,
    reason="only root can run as another user, by setpriv",
)

READ_ALL = ("--inh-caps", "-all,+dac_read_search", "--ambient-caps", "-all,+dac_read_search")
"""Options of setpriv for a user who reads what only root may, as a Python below /root."""


def user_command(user: int, *options: str, python: str = sys.executable) -> list[str]:
    """Command of a Python that runs as a user without an account."""
    identity = ["--reuid", str(user), "--regid", str(GROUP), "--clear-groups"]
    return ["setpriv", *identity, *options, python]


def can_import(user: int, folder: Path, *options: str) -> bool:
    """Whether a user can import `lift`."""
    command = [*user_command(user, *options), "-c", "import lift"]
    return subprocess.run(command, cwd=folder, capture_output=True).returncode == 0


def copy_loops(target: Path, package: Path | None = None) -> None:
    """Copy compiled loops to a folder of NUMBA_CACHE_DIR, which saves their compilation.

    Another folder of `lift` with the same source can use them.
    """
    original = Path(lift.__file__).parent
    for index in original.rglob("__pycache__/*.nbi"):
        source = (package or original) / index.parents[1].relative_to(original)
        source /= f"{index.name.split('.')[0]}.py"
        folder = target / _CacheLocator.get_suitable_cache_subpath(str(source))
        folder.mkdir(parents=True, exist_ok=True)
        for file in index.parent.glob(f"{index.stem}.*nb[ic]"):
            shutil.copy(file, folder)
