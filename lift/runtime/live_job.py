"""What a running job tells `lift view`: a hidden folder beside the folder of its result.

The folder `<output>/<picture>/.NAME.running` has the state of the job, the newest Gaussians and
the input camera. It has none of the files of a finished run. The job holds a lock in it, which the
system releases when the job ends in any way. So the folder of a killed job is recognised. The same
command continues the job and uses the folder again. A finished job removes it.
"""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from filelock import FileLock, Timeout
from omegaconf import DictConfig, OmegaConf

from lift.io.files import decode_text, read_file
from lift.io.json_files import parse_json
from lift.io.nerfstudio import write_transforms
from lift.remote.urls import local_output
from lift.runtime.atomic_io import (
    hidden_path,
    is_own,
    make_folder,
    open_lock,
    prepare_draft,
    publish,
    remove,
)
from lift.runtime.cache import hash_key
from lift.runtime.run_folder import describe_unnamed
from lift.types import Cameras

SUFFIX = ".running"
"""End of the name of a running job's folder."""

STATE = "running.json"
"""File with the state of the job."""

PREVIEW = "preview.ply"
"""File with the Gaussians before the fit."""

PREVIEW_SHEET = "preview.jpg"
"""File with pictures of them."""

SNAPSHOT = "snapshot.ply"
"""File with the Gaussians of the fit."""

WATCH_SECONDS = 15.0
"""Seconds for which a viewer that has looked at the job counts as present."""

MAX_STATE_BYTES = 2**16
"""Largest file with a state in bytes. That of a job has less than 1000."""

_OTHER_SETTINGS = (
    "output",
    "deliver",
    "export",
    "device",
    "cache",
    "preview",
    "trainer",
    "logger",
)
"""Settings with which a killed job may be continued."""

_LOCK = "lock"
"""File that the job locks."""

_WATCHED = "watched"
"""File whose time of change is when a viewer looked last."""

_LOCK_SECONDS = 1.0
"""Seconds that a job waits for the lock. A viewer holds it for an instant to test it."""

Stage = Literal["start", "preview", "fit", "finished"]
"""What the newest Gaussians of a job are."""


@dataclass(frozen=True)
class LiveState:
    """The state of a job."""

    stage: Stage = "start"
    """start: there are no Gaussians yet. finished: the run's folder has them."""
    version: int = 0
    """Number of changes."""
    scene: str | None = None
    """File of the newest Gaussians in the folder. None: there are none."""
    step: int = 0
    """Steps of the fit that they have."""
    steps: int = 0
    """Steps of the whole fit."""
    folder: str | None = None
    """Name of the run's folder, once the job has finished."""
    settings: str = ""
    """Hash of the settings. A job with others starts anew."""


def live_path(config: DictConfig, picture: str) -> Path:
    """Return the folder in which a job tells its state.

    Args:
        config: Configuration of the run.
        picture: Name of the picture.
    """
    name = config.name or f"unnamed-{hash_key(describe_unnamed(config))}"
    return hidden_path(local_output(config) / picture / name, SUFFIX)


def read_state(folder: Path) -> LiveState | None:
    """Read the state of a job.

    Args:
        folder: Folder of the job.

    Returns:
        None if there is no state, or none that can be read.
    """
    try:
        text = decode_text(read_file(folder / STATE, MAX_STATE_BYTES))
        state = LiveState(**parse_json(text))
        numbers = (state.version, state.step, state.steps)
        names = [name for name in (state.scene, state.folder) if name is not None]
        is_valid = (
            state.stage in get_args(Stage)
            and isinstance(state.settings, str)
            and all(isinstance(number, int) for number in numbers)
            and all(isinstance(name, str) and _is_plain_name(name) for name in names)
        )
    except (OSError, ValueError, TypeError):
        return None
    return state if is_valid else None


def _is_plain_name(name: str) -> bool:
    """Whether a name stays in its folder: a separator, "", "." and ".." would lead out of it."""
    return name not in ("", ".", "..") and "\0" not in name and Path(name).name == name


def lasting_folder(folder: Path) -> Path:
    """Return where a viewer may save files that belong to what a folder shows.

    Args:
        folder: Folder of a job or of other files. The folder of a job is removed at its end.

    Returns:
        The folder of the picture's runs for a job, else the same folder.
    """
    name = folder.name
    return folder.parent if name.startswith(".") and name.endswith(SUFFIX) else folder


def is_running(folder: Path) -> bool:
    """Whether the job of a folder runs now.

    Args:
        folder: Folder of the job.
    """
    if not (folder / _LOCK).is_file():
        return False
    lock = FileLock(folder / _LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    except OSError:  # the folder vanished, or is another user's: the state tells what it is
        return folder.is_dir()
    lock.release()
    return False


def mark_watched(folder: Path) -> None:
    """Tell a job that a viewer looks at it, so that it writes snapshots.

    Args:
        folder: Folder of the job.
    """
    with suppress(OSError):
        (folder / _WATCHED).touch()


class LiveJob:
    """Writes the state of a job. No problem with its files ends the job.

    Args:
        folder: Folder of the job. Its lock is held.
        settings: Hash of the settings of the run.
    """

    def __init__(self, folder: Path, settings: str = "") -> None:
        self.folder = folder
        state = read_state(folder) or LiveState()
        goes_on = (
            state.stage != "finished"
            and state.settings == settings
            and (folder / (state.scene or STATE)).is_file()
        )
        anew = LiveState(version=state.version + 1, settings=settings)
        self._state = state if goes_on else anew
        self._write_state()

    @property
    def stage(self) -> Stage:
        """What viewers show of the job."""
        return self._state.stage

    def is_watched(self) -> bool:
        """Whether a viewer has looked at the job in the last `WATCH_SECONDS`."""
        try:
            age = time.time() - (self.folder / _WATCHED).stat().st_mtime
        except OSError:
            return False
        return age < WATCH_SECONDS

    def show(
        self,
        stage: Stage,
        scene: str,
        write: Callable[[Path], Any],
        step: int = 0,
        steps: int = 0,
    ) -> bool:
        """Replace the Gaussians that viewers show. A preview does not replace those of the fit.

        Args:
            stage: What they are.
            scene: Name of their file.
            write: Writes them to the path that it receives.
            step: Steps of the fit that they have.
            steps: Steps of the whole fit.

        Returns:
            Whether they could be written.
        """
        with suppress(OSError):
            publish(self.folder / scene, write)
            state = self._state
            if not (stage == "preview" and state.stage == "fit"):  # a job that was resumed
                version = state.version + 1
                self._state = replace(
                    state, stage=stage, version=version, scene=scene, step=step, steps=steps
                )
                self._write_state()
            return True
        return False

    def finish(self, folder: Path) -> None:
        """Tell viewers that the run has finished, or remove the job's folder if there are none.

        Args:
            folder: Folder of the run.
        """
        if not self.is_watched():
            with suppress(OSError):
                remove(self.folder)
            return
        for name in (PREVIEW, PREVIEW_SHEET, SNAPSHOT):
            with suppress(OSError):
                remove(self.folder / name)
        state = replace(self._state, stage="finished", scene=None, folder=folder.name)
        self._state = replace(state, version=state.version + 1)
        self._write_state()

    def fail(self) -> None:
        """Remove the folder of a job that has ended with an error before it had Gaussians."""
        if self._state.scene is None and self._state.stage != "finished":
            with suppress(OSError):
                remove(self.folder)

    def _write_state(self) -> None:
        text = json.dumps(asdict(self._state)) + "\n"
        with suppress(OSError):
            publish(self.folder / STATE, lambda path: path.write_text(text, encoding="utf-8"))


@contextmanager
def open_live_job(config: DictConfig, picture: str, camera: Cameras) -> Iterator[LiveJob | None]:
    """Create or continue the folder of a job, and hold its lock during the block.

    Args:
        config: Configuration of the run.
        picture: Name of the picture.
        camera: The input camera, one view.

    Yields:
        The job. None if its folder cannot be written, or another process runs the same job.
    """
    folder = live_path(config, picture)
    lock = None
    job = None
    created = [parent for parent in folder.parents if not parent.exists()]
    with suppress(OSError, Timeout):
        make_folder(folder.parent)
        prepare_draft(folder, resumable=True)
        lock = open_lock(folder / _LOCK)
        lock.acquire(timeout=_LOCK_SECONDS)
        remove_finished(folder.parent)
        publish(folder / "transforms.json", lambda path: write_transforms(path, camera, [""]))
        job = LiveJob(folder, _settings_key(config))
    try:
        yield job
    except BaseException:
        if job is not None:
            job.fail()
        for parent in created:  # those with files stay
            with suppress(OSError):
                parent.rmdir()
        raise
    finally:
        if lock is not None:
            lock.release()


def _settings_key(config: DictConfig) -> str:
    """Hash the settings that decide what a job shows."""
    settings: Any = OmegaConf.to_container(config, resolve=True)
    for key in _OTHER_SETTINGS:
        settings.pop(key, None)
    return hash_key(settings)


def list_jobs(folder: Path) -> list[Path]:
    """List the folders of running and of stopped jobs, the newest first.

    Args:
        folder: Folder of the runs of one picture.
    """
    with suppress(OSError):
        states = [path / STATE for path in folder.glob(f".*{SUFFIX}") if (path / STATE).is_file()]
        return [path.parent for path in sorted(states, key=os.path.getmtime, reverse=True)]
    return []


def remove_finished(folder: Path) -> None:
    """Remove the folders of finished jobs that no viewer looks at any more.

    Args:
        folder: Folder of the runs of one picture.
    """
    for job in list_jobs(folder):
        with suppress(OSError):
            if time.time() - (job / STATE).stat().st_mtime > WATCH_SECONDS:
                remove_job(job)


def remove_job(folder: Path, timeout: float = 0.0) -> bool:
    """Remove the folder of a finished job, unless the same command has started the job again.

    The lock is held meanwhile, so that no job starts in the folder.

    Args:
        folder: Folder of the job.
        timeout: Seconds to wait for the lock.

    Returns:
        Whether the folder was removed.

    Raises:
        OSError: A file cannot be removed.
    """
    state = read_state(folder)
    if state is None or state.stage != "finished" or folder.is_symlink() or not is_own(folder):
        return False
    lock = open_lock(folder / _LOCK)
    try:
        lock.acquire(timeout=timeout)
    except Timeout:
        return False
    try:
        state = read_state(folder)
        if state is None or state.stage != "finished":
            return False
        for path in folder.iterdir():
            if path.name != _LOCK:
                remove(path)
        if os.name != "nt":
            remove(folder)
    finally:
        lock.release()
    if os.name == "nt":  # an open file cannot be removed there, nor one that a new job has opened
        (folder / _LOCK).unlink(missing_ok=True)
        folder.rmdir()
    return True
