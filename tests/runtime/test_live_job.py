"""What a running job tells viewers."""

import json
import os
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from lift.config import compose_run
from lift.geometry import pinhole
from lift.runtime import live_job
from lift.runtime.live_job import (
    STATE,
    is_running,
    lasting_folder,
    list_jobs,
    live_path,
    mark_watched,
    open_live_job,
    read_state,
    remove_job,
)

CAMERA = pinhole(16, 16, 16.0)


@pytest.fixture
def config(tmp_path):
    return OmegaConf.create({"output": str(tmp_path), "name": "mine"})


@pytest.fixture
def folder(config) -> Path:
    return live_path(config, "coffee")


def state_of(folder: Path) -> tuple:
    state = read_state(folder)
    assert state is not None
    return state.stage, state.version, state.scene, state.step, state.steps


def write(path: Path) -> None:
    path.write_text("Gaussians", encoding="utf-8")


def test_a_job_tells_its_state(config, folder):
    with open_live_job(config, "coffee", CAMERA) as job:
        assert job is not None and job.folder == folder
        assert state_of(folder) == ("start", 1, None, 0, 0)
        assert job.show("preview", "preview.ply", write)
        assert state_of(folder) == ("preview", 2, "preview.ply", 0, 0)
        assert job.show("fit", "snapshot.ply", write, 10, 30)
        assert state_of(folder) == ("fit", 3, "snapshot.ply", 10, 30)


def test_nothing_unfinished_looks_finished(config, folder):
    from lift.runtime.kept_files import REQUIRED

    with open_live_job(config, "coffee", CAMERA) as job:
        assert job is not None
        job.show("preview", "preview.ply", write)
        job.show("fit", "snapshot.ply", write, 10, 30)
        names = {path.name for path in folder.iterdir()}
    assert names & set(REQUIRED["full"]) == {"transforms.json"}
    assert folder.name.startswith(".")
    assert not (folder.parent / "mine").exists()


def test_a_running_job_is_told_from_a_stopped_one(config, folder):
    assert not is_running(folder)
    with open_live_job(config, "coffee", CAMERA) as job:
        assert job is not None
        job.show("preview", "preview.ply", write)
        assert is_running(folder)
    assert not is_running(folder)
    assert (folder / "preview.ply").is_file(), "a stopped job keeps its preview"


def test_the_same_job_is_not_told_twice(config, folder):
    with open_live_job(config, "coffee", CAMERA) as first:
        assert first is not None
        first.show("preview", "preview.ply", write)
        with open_live_job(config, "coffee", CAMERA) as second:
            assert second is None
        assert is_running(folder)


def test_a_resumed_job_shows_what_it_had(config, folder):
    with open_live_job(config, "coffee", CAMERA) as job:
        assert job is not None
        job.show("fit", "snapshot.ply", write, 10, 30)
    with open_live_job(config, "coffee", CAMERA) as job:
        assert job is not None
        job.show("preview", "preview.ply", write)
        assert state_of(folder) == ("fit", 2, "snapshot.ply", 10, 30), "not the preview again"


def test_a_job_with_other_settings_starts_anew(config, folder):
    with open_live_job(config, "coffee", CAMERA) as job:
        assert job is not None
        job.show("fit", "snapshot.ply", write, 10, 30)
    config.seed = 1
    with open_live_job(config, "coffee", CAMERA):
        assert state_of(folder) == ("start", 3, None, 0, 0)


def test_a_resumed_job_without_its_file_starts_anew(config, folder):
    with open_live_job(config, "coffee", CAMERA) as job:
        assert job is not None
        job.show("fit", "snapshot.ply", write, 10, 30)
    (folder / "snapshot.ply").unlink()
    with open_live_job(config, "coffee", CAMERA):
        assert state_of(folder) == ("start", 3, None, 0, 0)


def test_a_finished_job_leaves_nothing(config, folder):
    with open_live_job(config, "coffee", CAMERA) as job:
        assert job is not None
        job.show("preview", "preview.ply", write)
        job.finish(folder.parent / "mine")
    assert not folder.exists()


def test_a_viewer_learns_where_the_finished_run_is(config, folder):
    with open_live_job(config, "coffee", CAMERA) as job:
        assert job is not None
        job.show("preview", "preview.ply", write)
        mark_watched(folder)
        job.finish(folder.parent / "mine")
    state = read_state(folder)
    assert state is not None and (state.stage, state.folder) == ("finished", "mine")
    assert not list(folder.glob("*.ply"))


def test_finished_jobs_are_removed_by_a_later_one(config, folder, monkeypatch):
    with open_live_job(config, "coffee", CAMERA) as job:
        assert job is not None
        mark_watched(folder)
        job.finish(folder.parent / "mine")
    monkeypatch.setattr(live_job, "WATCH_SECONDS", -1.0)
    config.name = "other"
    with open_live_job(config, "coffee", CAMERA):
        assert list_jobs(folder.parent) == [live_path(config, "coffee")]


def test_a_finished_job_is_removed(config, folder):
    with open_live_job(config, "coffee", CAMERA) as job:
        assert job is not None
        mark_watched(folder)
        job.finish(folder.parent / "mine")
        assert not remove_job(folder), "its process holds the lock"
    assert remove_job(folder)
    assert not folder.exists()


def test_a_job_that_was_started_again_is_not_removed(config, folder):
    with open_live_job(config, "coffee", CAMERA) as job:
        assert job is not None
        mark_watched(folder)
        job.finish(folder.parent / "mine")
    with open_live_job(config, "coffee", CAMERA):
        assert not remove_job(folder)
        assert state_of(folder)[0] == "start"
    assert not remove_job(folder), "a stopped job can be continued"
    assert (folder / STATE).is_file()


@pytest.mark.skipif(os.name == "nt" or not hasattr(os, "symlink"), reason="links need rights")
def test_a_linked_folder_of_a_job_is_not_emptied(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / STATE).write_text('{"stage": "finished"}', encoding="utf-8")
    (tmp_path / ".a.running").symlink_to(tmp_path / "elsewhere")
    assert not remove_job(tmp_path / ".a.running")
    assert (tmp_path / "elsewhere" / STATE).is_file()


def test_files_beside_a_job_last(tmp_path):
    assert lasting_folder(tmp_path / ".mine.running") == tmp_path
    assert lasting_folder(tmp_path / "mine") == tmp_path / "mine"


def test_an_error_before_any_gaussians_leaves_nothing(config, folder):
    with pytest.raises(ValueError), open_live_job(config, "coffee", CAMERA):
        raise ValueError
    assert not folder.parent.exists()


def test_an_error_after_the_preview_keeps_it(config, folder):
    with pytest.raises(ValueError), open_live_job(config, "coffee", CAMERA) as job:
        assert job is not None
        job.show("preview", "preview.ply", write)
        raise ValueError
    assert (folder / "preview.ply").is_file()


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"stage": "fit", "scene": "../../secret.ply"}',
        '{"stage": "other"}',
        '{"stage": "fit", "version": "many"}',
        '{"unknown": 1}',
        '{"stage": "finished", "folder": ".."}',
        '{"stage": "finished", "folder": "."}',
        '{"stage": "finished", "folder": ""}',
        '{"stage": "fit", "scene": "a\\u0000"}',
        "[" * 60_000,
        "[" * 200_000,
        '{"settings": "' + "a" * live_job.MAX_STATE_BYTES + '"}',
    ],
    ids=range(13),
)
def test_a_damaged_state_is_none(tmp_path, content):
    (tmp_path / STATE).write_text(content, encoding="utf-8")
    assert read_state(tmp_path) is None


def test_a_failing_disk_does_not_end_the_job(config, folder):
    with open_live_job(config, "coffee", CAMERA) as job:
        assert job is not None

        def fail(path: Path) -> None:
            raise OSError(28, "No space left on device")

        assert not job.show("preview", "preview.ply", fail)
        assert state_of(folder) == ("start", 1, None, 0, 0)


def test_an_unnamed_job_has_the_same_folder_when_it_is_resumed(tmp_path):
    config = compose_run([], {"image": "coffee", "output": str(tmp_path)})
    first = live_path(config, "coffee")
    config.preview = True
    assert live_path(config, "coffee") == first
    config.seed = 1
    assert live_path(config, "coffee") != first


@pytest.mark.skipif(os.name == "nt" or not hasattr(os, "symlink"), reason="links need rights")
def test_a_link_in_place_of_the_folder_is_not_followed(config, folder, tmp_path):
    folder.parent.mkdir()
    (tmp_path / "elsewhere").mkdir()
    folder.symlink_to(tmp_path / "elsewhere")
    with open_live_job(config, "coffee", CAMERA):
        assert not list((tmp_path / "elsewhere").iterdir())
        assert json.loads((folder / STATE).read_text(encoding="utf-8"))["stage"] == "start"
