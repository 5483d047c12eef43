"""Load finished runs."""

import os
from pathlib import Path

from lift.api.scene import Scene
from lift.io.names import user_path
from lift.outputs.storage import MAX_TRIES
from lift.remote.results import local_run
from lift.runtime.atomic_io import hidden_path
from lift.runtime.integrity import identify
from lift.runtime.kept_files import has_scene, missing_files
from lift.runtime.live_job import SUFFIX, is_running


def load(folder: str | os.PathLike[str], renderer: str | None = None) -> Scene:
    """Load a finished run. Its folder may have been moved or copied.

    Args:
        folder: Folder of the run, as `lift run` prints it. Or its URL: then its files are copied to
            the user's cache folder and compared with their checksums.
        renderer: Name of the renderer for `Scene.render`. None: that of the run.

    Returns:
        The scene. Its parts are read when they are used first.

    Raises:
        FileNotFoundError: The folder is no finished run. The message names what is missing.
        ComponentError: There is no renderer of this name.
    """
    path = user_path(local_run(folder))
    if missing := _missing(path):
        raise FileNotFoundError(_explain_missing(path, missing))
    scene = Scene(path, renderer)
    if renderer is not None:
        scene.renderer  # noqa: B018, builds it
    return scene


def _missing(path: Path) -> list[str]:
    """List what a folder lacks. One that a run replaces meanwhile is looked at again."""
    missing: list[str] = []
    for _ in range(MAX_TRIES):
        before = identify(path)
        missing = missing_files(path)
        if not missing or identify(path) == before:
            break
    return missing


def _explain_missing(path: Path, missing: list[str]) -> str:
    """Say why a folder is no finished run, and which runs are in it."""
    reason = "there is no such folder"
    if is_running(hidden_path(path.absolute(), SUFFIX)):
        reason = (
            f"its job is running; `lift view {path}` shows it, and the folder is there at its end"
        )
    elif path.is_file():
        reason = "it is a file; give the run's folder"
    elif path.is_dir():
        reason = f"it has no {', '.join(missing)}"
        runs = sorted(inner.name for inner in path.glob("[!.]*") if has_scene(inner))
        if runs:
            reason += f"; it has runs, give one of them: {', '.join(runs)}"
    return f"there is no finished run at {path}: {reason}"
