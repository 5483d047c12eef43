"""Show a job in the viewer while it works: preview, snapshots of the fit, finished scene."""

import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from lift.io.cameras import TRANSFORMS, read_cameras
from lift.io.names import user_path
from lift.io.splats import read_ply
from lift.outputs.viewer import HOST, Viewer, ViewerContent, announce, start_viewer
from lift.registry import ComponentError
from lift.runtime.atomic_io import hidden_path
from lift.runtime.kept_files import has_scene
from lift.runtime.live_job import (
    STATE,
    SUFFIX,
    LiveState,
    is_running,
    lasting_folder,
    list_jobs,
    mark_watched,
    read_state,
    remove_job,
)
from lift.types import Cameras, Gaussians

POLL_SECONDS = 1.0
"""Seconds between two looks at the state of a job."""

REMOVAL_SECONDS = 5.0
"""Seconds after which the folder of a finished job is removed. Other viewers read it before."""

LOCK_SECONDS = 1.0
"""Seconds that the removal waits for a job that has finished and ends now."""

ROUNDS_WITHOUT_JOB = 3
"""Looks that find no folder of the job before it counts as ended."""


def find_job(source: Path) -> Path | None:
    """Find the job that a path of `lift view` means.

    A running job comes before an older result of the same name. A stopped job is shown if there is
    no result.

    Args:
        source: Folder of a run that may not be finished, folder of all runs of a picture, or
            folder of a job.

    Returns:
        Folder of the job. None: the path means no job.

    Raises:
        ComponentError: The folder has several running jobs, or none runs and several are stopped.
    """
    source = user_path(source)
    source = source if source.name.strip(".") else source.resolve()
    if source.name.endswith(SUFFIX) and (source / STATE).is_file():
        return source
    own = hidden_path(source, SUFFIX)
    if (own / STATE).is_file():
        has_result = has_scene(source)
        if is_running(own) or (not has_result and _is_stopped(own)):
            return own
    if has_scene(source):
        return None
    jobs = list_jobs(source)
    running = [job for job in jobs if is_running(job)]
    candidates = running or [job for job in jobs if _is_stopped(job)]
    if len(candidates) > 1:
        state = "running" if running else "stopped"
        names = ", ".join(str(job) for job in candidates)
        raise ComponentError(
            f"{source} has {len(candidates)} {state} jobs; give one of them: {names}"
        )
    return candidates[0] if candidates else None


def _is_stopped(job: Path) -> bool:
    """Whether a job that does not run has Gaussians to show."""
    state = read_state(job)
    return state is not None and state.scene is not None and (job / state.scene).is_file()


def describe_state(state: LiveState, running: bool) -> str:
    """Say in a line what the Gaussians of a job are.

    Args:
        state: The state of the job.
        running: Whether the job runs now.
    """
    if state.stage == "finished":
        return "finished"
    if state.scene is None:
        text = "waiting for the first Gaussians"
    elif state.stage == "preview":
        text = "preview, before the fit"
    else:
        text = f"step {state.step} of {state.steps} of the fit"
    if running:
        return text
    return f"{text}; the job has stopped, and the same command continues it"


class LiveScene:
    """Follows the files of a job.

    Args:
        job: Folder of the job.
    """

    def __init__(self, job: Path) -> None:
        self.job = job
        self.state = LiveState(version=-1)
        """The state that was read last."""
        self.status = ""
        """What it is, in a line."""
        self.run_folder: Path | None = None
        """Folder of the run, once the job has finished."""
        self._missing = 0
        self._shown_version = -1
        """Version of the state whose Gaussians were read last."""

    @property
    def is_over(self) -> bool:
        """Whether the job has finished, or its folder has been removed."""
        return self.run_folder is not None or self._missing >= ROUNDS_WITHOUT_JOB

    def poll(self) -> tuple[Gaussians | None, bool]:
        """Look at the job, and tell it that somebody looks.

        Returns:
            New Gaussians, if there are any, and whether `status` has changed.
        """
        mark_watched(self.job)
        state = read_state(self.job)
        if state is None:
            self._missing += 1
            return None, self._tell("the job has ended") if self.is_over else False
        self._missing = 0
        gaussians = None
        if state.stage == "finished" and state.folder is not None:
            self.run_folder = self.job.parent / state.folder
        elif state.scene is not None and state.version != self._shown_version:
            # It is replaced, or a power cut has damaged it. The next look tries again.
            with suppress(OSError, ValueError):
                gaussians = read_ply(self.job / state.scene)
                self._shown_version = state.version
        self.state = state
        return gaussians, self._tell(describe_state(state, is_running(self.job)))

    def _tell(self, status: str) -> bool:
        """Set `status`, and return whether it was another one."""
        is_new = status != self.status
        self.status = status
        return is_new


def serve_live(
    job: Path,
    load: Callable[[Path], Any],
    port: int,
    host: str = HOST,
    allowed_hosts: Sequence[str] = (),
) -> None:
    """Show a job until interrupted. Open pages follow it without a move of their cameras.

    Args:
        job: Folder of the job.
        load: Returns the content of a finished run's folder for the viewer.
        port: Port of the server. 0 uses any free one.
        host: Address of the server.
        allowed_hosts: Names by which the server may be reached besides those of this machine.

    Raises:
        ComponentError: An address or a name cannot be used.
        ImportError: viser is not installed.
        ValueError: The port is in use, or the job ended before it had Gaussians.
    """
    scene = LiveScene(job)
    content = _first_content(scene, load)
    viewer = start_viewer(content, port, host, allowed_hosts)
    announce(viewer)
    ended = threading.Event()
    follower = threading.Thread(target=_follow, args=(scene, viewer, load, ended), daemon=True)
    try:
        if content.run is None:
            follower.start()
        viewer.wait()
    finally:
        ended.set()
        viewer.stop()


def _first_content(scene: LiveScene, load: Callable[[Path], Any]) -> ViewerContent:
    """Wait for the first Gaussians of a job, and return them as a viewer shows them."""
    while True:
        gaussians, is_new = scene.poll()
        if is_new:
            _say(scene.status)
        if scene.run_folder is not None:
            return _finished_content(scene.run_folder, load)
        if gaussians is not None:
            return _running_content(scene, gaussians)
        if scene.is_over:
            raise ValueError(
                f"the job of {scene.job.parent} has ended before it had Gaussians; start it again, "
                "or give the folder of a finished run"
            )
        time.sleep(POLL_SECONDS)


def _running_content(scene: LiveScene, gaussians: Gaussians) -> ViewerContent:
    """Return the content of a job that has not finished. The job may remove its files any time."""
    cameras: Cameras | None = None
    with suppress(OSError, ValueError):
        cameras = read_cameras(scene.job / TRANSFORMS)
    label = scene.job.name.removeprefix(".").removesuffix(SUFFIX)
    folder = lasting_folder(scene.job)  # saved paths stay there when the job has finished
    return ViewerContent(gaussians, label, cameras, folder=folder, status=scene.status)


def _follow(
    scene: LiveScene, viewer: Viewer, load: Callable[[Path], Any], ended: threading.Event
) -> None:
    """Show what is new of a job until it has finished."""
    while not ended.wait(POLL_SECONDS):
        gaussians, is_new = scene.poll()
        if is_new:
            _say(scene.status)
        if scene.run_folder is not None:
            with suppress(OSError, ValueError):  # the result was moved: its Gaussians stay
                viewer.set_content(_finished_content(scene.run_folder, load))
            ended.wait(REMOVAL_SECONDS)
            with suppress(OSError):
                remove_job(scene.job, LOCK_SECONDS)
            return
        if gaussians is not None:
            viewer.set_gaussians(gaussians, scene.status)
        elif is_new:
            viewer.set_status(scene.status)
        if scene.is_over:
            return


def _finished_content(folder: Path, load: Callable[[Path], Any]) -> ViewerContent:
    """Return the content of the finished run."""
    return replace(load(folder), status=f"finished: {folder}")


def _say(text: str) -> None:
    """Print a line about the job on standard error."""
    print(text, file=sys.stderr, flush=True)
