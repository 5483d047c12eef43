"""Viewing a job while it works."""

import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from lift.geometry import pinhole
from lift.io.splats import read_ply, write_ply
from lift.outputs import live_view
from lift.outputs.live_view import LiveScene, find_job
from lift.registry import ComponentError
from lift.runtime.atomic_io import remove
from lift.runtime.live_job import live_path, open_live_job
from lift.types import Gaussians
from tests.helpers.fits import ball

CAMERA = pinhole(16, 16, 16.0)
SCENE = ball(5)
FITTED = ball(7)


@pytest.fixture
def config(tmp_path):
    return OmegaConf.create({"output": str(tmp_path), "name": "mine"})


@pytest.fixture
def run(tmp_path) -> Path:
    """Where the finished run will be."""
    return tmp_path / "coffee" / "mine"


def show_preview(job: Any) -> None:
    assert job.show("preview", "preview.ply", lambda path: write_ply(path, SCENE))


def show_step(job: Any, step: int = 10) -> None:
    assert job.show("fit", "snapshot.ply", lambda path: write_ply(path, FITTED), step, 30)


def test_the_name_of_a_running_run_finds_its_job(config, run):
    with open_live_job(config, "coffee", CAMERA) as job:
        assert job is not None
        assert find_job(run) == find_job(run.parent) == find_job(job.folder) == job.folder


def test_a_finished_run_is_no_job(config, run):
    run.mkdir(parents=True)
    (run / "gaussians.ply").touch()
    assert find_job(run) is None
    with open_live_job(config, "coffee", CAMERA) as job:
        assert job is not None
        assert find_job(run) == job.folder, "it is being replaced"
        show_preview(job)
    assert find_job(run) is None, "the result comes before a stopped job"


def test_a_stopped_job_is_shown_if_there_is_no_result(config, run):
    with open_live_job(config, "coffee", CAMERA) as job:
        assert job is not None
        show_preview(job)
    assert find_job(run) == find_job(run.parent) == job.folder


def test_other_folders_are_no_jobs(tmp_path):
    assert find_job(tmp_path) is None
    assert find_job(tmp_path / "nothing") is None


def test_several_running_jobs_are_named(config, run):
    with open_live_job(config, "coffee", CAMERA):
        config.name = "other"
        with (
            open_live_job(config, "coffee", CAMERA),
            pytest.raises(ComponentError, match="2 running jobs; give one of them: .*mine.running"),
        ):
            find_job(run.parent)


def test_a_viewer_sees_preview_steps_and_the_finished_run(config, run):
    with open_live_job(config, "coffee", CAMERA) as job:
        assert job is not None
        scene = LiveScene(job.folder)
        assert scene.poll() == (None, True)
        assert scene.status == "waiting for the first Gaussians"
        show_preview(job)
        gaussians, is_new = scene.poll()
        assert is_new and scene.status == "preview, before the fit"
        assert gaussians is not None
        torch.testing.assert_close(gaussians.means, SCENE.means)
        assert scene.poll() == (None, False), "nothing is new"
        assert job.is_watched()
        show_step(job)
        gaussians, _ = scene.poll()
        assert gaussians is not None and len(gaussians) == len(FITTED)
        assert scene.status == "step 10 of 30 of the fit"
        job.finish(run)
    scene.poll()
    assert (scene.status, scene.run_folder) == ("finished", run)
    assert scene.is_over


def test_a_killed_job_is_said_to_have_stopped(config):
    with open_live_job(config, "coffee", CAMERA) as job:
        assert job is not None
        show_step(job)
    scene = LiveScene(job.folder)
    gaussians, _ = scene.poll()
    assert gaussians is not None
    assert "step 10 of 30" in scene.status and "the job has stopped" in scene.status
    with open_live_job(config, "coffee", CAMERA) as job:
        assert job is not None
        scene.poll()
        assert scene.status == "step 10 of 30 of the fit", "the same command continues it"
        show_step(job, 20)
        assert scene.poll()[0] is not None


def test_a_removed_job_has_ended(config):
    with open_live_job(config, "coffee", CAMERA) as job:
        assert job is not None
        scene = LiveScene(job.folder)
    remove(job.folder)
    for _ in range(live_view.ROUNDS_WITHOUT_JOB):
        scene.poll()
    assert scene.is_over and scene.run_folder is None


def test_a_damaged_snapshot_is_not_shown(config):
    with open_live_job(config, "coffee", CAMERA) as job:
        assert job is not None
        job.show("fit", "snapshot.ply", lambda path: path.write_bytes(b"ply\n"), 10, 30)
        assert LiveScene(job.folder).poll()[0] is None


def test_a_file_that_could_not_be_read_is_tried_again(config):
    with open_live_job(config, "coffee", CAMERA) as job:
        assert job is not None
        show_step(job)
        path = job.folder / "snapshot.ply"
        data = path.read_bytes()
        path.write_bytes(b"ply\n")
        scene = LiveScene(job.folder)
        assert scene.poll()[0] is None
        path.write_bytes(data)
        assert scene.poll()[0] is not None
        assert scene.poll()[0] is None, "nothing is new"


def test_paths_of_a_running_job_are_saved_where_they_last(config, run):
    with open_live_job(config, "coffee", CAMERA) as job:
        assert job is not None
        show_preview(job)
        content = live_view._first_content(LiveScene(job.folder), lambda folder: None)
    assert content.folder == run.parent
    assert (content.label, content.status) == ("mine", "preview, before the fit")
    assert content.cameras is not None and content.cameras.width == CAMERA.width


def test_a_job_that_finishes_meanwhile_is_shown(config, run, monkeypatch):
    with open_live_job(config, "coffee", CAMERA) as job:
        assert job is not None
        show_step(job)

        def read_before_the_end(path: Path) -> Gaussians:
            gaussians = read_ply(path)
            remove(job.folder)
            return gaussians

        monkeypatch.setattr(live_view, "read_ply", read_before_the_end)
        content = live_view._first_content(LiveScene(job.folder), lambda folder: None)
        assert len(content.gaussians) == len(FITTED) and content.cameras is None


class FakeViewer(live_view.Viewer):
    """Keeps what it is told to show. It has no server."""

    def __init__(self) -> None:
        self.shown: list[tuple[str, Any]] = []

    def set_gaussians(self, gaussians: Gaussians, status: str | None = None) -> None:
        self.shown.append((status or "", len(gaussians)))

    def set_status(self, text: str) -> None:
        self.shown.append((text, None))

    def set_content(self, content: live_view.ViewerContent) -> None:
        self.shown.append((content.status, content))


def test_an_open_viewer_follows_the_job(config, run, monkeypatch):
    monkeypatch.setattr(live_view, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(live_view, "REMOVAL_SECONDS", 0.0)
    viewer = FakeViewer()
    finished = live_view.ViewerContent(FITTED, "mine")
    with open_live_job(config, "coffee", CAMERA) as job:
        assert job is not None
        scene = LiveScene(job.folder)
        show_preview(job)
        scene.poll()
        follower = threading.Thread(
            target=live_view._follow,
            args=(scene, viewer, lambda folder: finished, threading.Event()),
        )
        follower.start()
        show_step(job)
        while not viewer.shown and follower.is_alive():
            follower.join(0.01)
        job.finish(run)
    follower.join(30)
    assert viewer.shown[0] == ("step 10 of 30 of the fit", len(FITTED))
    assert viewer.shown[-1][0] == f"finished: {run}"
    assert not live_path(config, "coffee").exists(), "a viewer that has seen the end removes it"


def test_a_job_that_was_started_again_is_not_removed(config, run, monkeypatch):
    viewer = FakeViewer()
    with open_live_job(config, "coffee", CAMERA) as job:
        assert job is not None
        scene = LiveScene(job.folder)
        scene.poll()
        job.finish(run)
    monkeypatch.setattr(live_view, "POLL_SECONDS", 0.0)
    monkeypatch.setattr(live_view, "LOCK_SECONDS", 0.0)
    again = open_live_job(config, "coffee", CAMERA)

    class Ended(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            if timeout == live_view.REMOVAL_SECONDS:
                again.__enter__()
            return False

    finished = live_view.ViewerContent(FITTED, "mine")
    live_view._follow(scene, viewer, lambda folder: finished, Ended())
    assert viewer.shown[-1][0] == f"finished: {run}"
    assert live_view.is_running(job.folder)
    again.__exit__(None, None, None)
    assert (job.folder / live_view.STATE).is_file()
