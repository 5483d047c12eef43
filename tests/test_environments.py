"""Whole runs of users without a name, a writable home, a terminal or a UTF-8 locale."""

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.settings import MINIMAL
from tests.helpers.users import (
    GROUP,
    READ_ALL,
    can_import,
    copy_loops,
    needs_root,
    user_command,
)

FIRST_USER = 54321
SECOND_USER = 54322
"""Identifiers that no account has."""

pytestmark = pytest.mark.slow


def run_as(user: int, folder: Path, *settings: str) -> subprocess.CompletedProcess[str]:
    """Run `lift` as a user without an account, whose home cannot be written."""
    home = folder / f"home-{user}"
    home.mkdir(mode=0o555, exist_ok=True)
    environment = {k: v for k, v in os.environ.items() if k not in ("USER", "LOGNAME", "USERNAME")}
    environment |= {"HOME": str(home), "TMPDIR": str(folder / "tmp")}
    environment["NUMBA_CACHE_DIR"] = str(folder / "loops")
    options = () if can_import(user, folder) else READ_ALL
    return subprocess.run(
        [*user_command(user, *options), "-m", "lift", "run", "image=coffee", *MINIMAL, *settings],
        cwd=folder / "work",
        env=environment,
        umask=0o002,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def shared_folder() -> Iterator[Path]:
    """A folder in which all users of the group may write. That of pytest is root's alone."""
    folder = Path(tempfile.mkdtemp(prefix="lift-environments-"))
    folder.chmod(0o755)
    copy_loops(folder / "loops")
    for name in ("work", "tmp"):
        (folder / name).mkdir()
    for path in (folder / "work", folder / "tmp", *(folder / "loops").glob("**/")):
        os.chown(path, 0, GROUP)
        path.chmod(0o2775)
    if not can_import(FIRST_USER, folder) and not can_import(FIRST_USER, folder, *READ_ALL):
        pytest.skip("other users cannot read this installation")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def first_run(shared_folder: Path) -> subprocess.CompletedProcess[str]:
    """The run of the first user, who shares its files with the group."""
    return run_as(FIRST_USER, shared_folder)


@needs_root
def test_a_user_without_account_and_writable_home_gets_a_scene(first_run, shared_folder):
    assert first_run.returncode == 0, first_run.stderr
    assert (shared_folder / "work" / first_run.stdout.strip() / "gaussians.ply").is_file()
    assert not list(shared_folder.glob("home-*/*"))


@needs_root
def test_users_of_a_group_share_a_cache(first_run, shared_folder):
    assert first_run.returncode == 0, first_run.stderr
    second = run_as(SECOND_USER, shared_folder, "fit.steps=5", "name=second")
    assert second.returncode == 0, second.stderr
    lines = [line for line in second.stderr.splitlines() if line.startswith("clip")]
    assert lines and all(line.endswith("found") for line in lines), second.stderr
    owners = {path.stat().st_uid for path in (shared_folder / "work").glob("outputs/cache/fit-*")}
    assert owners == {FIRST_USER, SECOND_USER}


@needs_root
def test_files_of_a_group_are_writable_for_it_and_not_for_all(first_run, shared_folder):
    paths = [path for path in (shared_folder / "work").rglob("*") if not path.is_symlink()]
    modes = {path: path.stat().st_mode for path in paths}
    assert paths and not [path for path, mode in modes.items() if mode & stat.S_IWOTH]
    is_shared = stat.S_IRGRP | stat.S_IWGRP
    assert not [path for path, mode in modes.items() if mode & is_shared != is_shared]
    assert {path.stat().st_gid for path in paths} == {GROUP}


def test_a_run_without_terminal_in_the_c_locale_gives_a_scene(tmp_path):
    kept = ("PATH", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "PYTHONPATH", "HOME")
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    environment |= {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    words = [sys.executable, "-m", "lift", "run", "image=coffee", *MINIMAL, "name=scene"]
    with (tmp_path / "errors.txt").open("wb") as errors:
        done = subprocess.run(
            ["sh", "-c", 'exec "$@" <&- >&-', "sh", *words],
            cwd=tmp_path,
            env=environment,
            stderr=errors,
            timeout=300,
            start_new_session=True,
        )
    assert done.returncode == 0, (tmp_path / "errors.txt").read_text()
    assert (tmp_path / "outputs" / "coffee" / "scene" / "gaussians.ply").is_file()
