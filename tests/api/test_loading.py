"""A folder that a run replaces at this moment is no incomplete one."""

from pathlib import Path

import pytest
from filelock import FileLock

from lift.api import loading
from lift.api.loading import load
from lift.runtime.kept_files import REQUIRED as REQUIRED_BY_KIND

REQUIRED = REQUIRED_BY_KIND["full"]


def test_a_folder_that_is_replaced_meanwhile_is_looked_at_again(tmp_path, monkeypatch):
    calls: list[Path] = []

    def identify(path: Path) -> tuple[int, ...]:
        calls.append(path)
        if len(calls) == 2:  # after the first look
            for name in REQUIRED:
                (tmp_path / name).touch()
        return (len(calls),)

    monkeypatch.setattr(loading, "identify", identify)
    assert load(tmp_path).folder == tmp_path


def test_a_folder_that_lacks_files_is_looked_at_once(tmp_path, monkeypatch):
    (tmp_path / REQUIRED[0]).touch()
    calls: list[Path] = []
    monkeypatch.setattr(loading, "identify", lambda path: calls.append(path) or (1,))
    with pytest.raises(FileNotFoundError, match=f"it has no {', '.join(REQUIRED[1:])}"):
        load(tmp_path)
    assert len(calls) == 2


def test_a_running_job_is_told_with_the_command_that_shows_it(tmp_path):
    job = tmp_path / ".live.running"
    job.mkdir()
    with (
        FileLock(job / "lock"),
        pytest.raises(
            FileNotFoundError, match=r"its job is running; `lift view \S+/live` shows it"
        ),
    ):
        load(tmp_path / "live")
