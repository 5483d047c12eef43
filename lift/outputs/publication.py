"""Publish the folder of a run as a whole: a reader finds the old result or the new one."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lift import __version__
from lift.config.loggers import CALLBACK_FOLDER, LOGGERS
from lift.outputs.storage import FRAMES, VIEWS
from lift.runtime.atomic_io import (
    acquire,
    hidden_path,
    make_folder,
    open_lock,
    prepare_draft,
    publish_folder,
    recover_folder,
    remove,
    set_permissions,
)
from lift.runtime.integrity import MANIFEST, DamagedFileError, read_manifest, write_manifest
from lift.runtime.run_folder import claim_run_folder
from lift.training import CHECKPOINT, LOG_RECORD

_CLAIMS = ".multirun-"
"""Start of the names of files that `claim_run_folder` writes."""

_RESULTS = {
    FRAMES,
    VIEWS,
    CHECKPOINT,
    LOG_RECORD,
    CALLBACK_FOLDER,
    MANIFEST,
    *LOGGERS,
    "colmap",
    "config.yaml",
    "distortion.safetensors",
    "fly_through.jpg",
    "fly_through.json",
    "metrics.json",
    "provenance.json",
    "report.html",
    "split.json",
    "transforms.json",
    "video.mp4",
}
"""Results of a run whose folder has no manifest, besides `gaussians.*`."""


@contextmanager
def publish_run(folder: Path, key: str, say: Callable[[str], None]) -> Iterator[Path]:
    """Yield an empty draft of a run's folder, and publish it if the block raises no error.

    A lock protects the folder. An earlier result stays until the new one is complete. Files in the
    folder that no run has written are kept.

    Args:
        folder: Folder of the run.
        key: Key of the scene.
        say: Receives messages for the user.

    Yields:
        The draft.

    Raises:
        FileExistsError: There is a file of this name.
        ValueError: Another run delivered another scene to the folder meanwhile, or another job of
            the multirun has the folder.
    """
    shown = folder
    folder = folder.resolve() if folder.is_symlink() else folder
    make_folder(folder.parent)
    before = read_scene_key(folder)
    waited = []

    def wait() -> None:
        waited.append(True)
        say(f"waiting for another run that delivers to {shown}")

    lock = open_lock(hidden_path(folder, ".lock"))
    acquire(lock, wait)
    draft = hidden_path(folder, ".draft")
    try:
        recover_folder(folder)
        current = read_scene_key(folder)
        if waited and current not in (None, before, key):
            raise ValueError(
                f"another run with other settings has delivered to {shown} meanwhile; choose "
                "another name=NAME (the stages of this run are found in the cache)"
            )
        if folder.exists() and not folder.is_dir():
            raise FileExistsError(f"{shown} is a file, not a run's folder; choose another name")
        if current not in (None, key):
            say(f"{shown} has another scene; it is replaced when the new one is complete")
        prepare_draft(draft)
        for claim in folder.glob(f"{_CLAIMS}*"):
            shutil.copyfile(claim, draft / claim.name)
        claim_run_folder(draft)
        yield draft
        write_manifest(draft, {"scene": key, "lift": __version__})
        set_permissions(draft)
        _keep_files(folder, draft)
        publish_folder(draft, folder)
    except BaseException:
        with suppress(OSError):
            remove(draft)
        raise
    finally:
        lock.release()


def read_scene_key(folder: Path) -> str | None:
    """Return the key of the scene in a run's folder. None without one that can be read.

    Args:
        folder: Folder of a run.
    """
    try:
        text = (folder / "provenance.json").read_text(encoding="utf-8")
        return str(json.loads(text)["stages"][-1]["key"])
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _keep_files(old: Path, new: Path) -> None:
    """Link or copy to a new result what no run has written to the old one.

    Args:
        old: Folder of the old result. It need not exist.
        new: Folder of the new one, whose files take precedence.
    """
    results: set[str] | None = None
    with suppress(DamagedFileError, OSError):
        results = set(read_manifest(old).get("files", ())) or None
    for root, folders, files in os.walk(old):
        links = [name for name in folders if Path(root, name).is_symlink()]
        for name in (*files, *links):
            path = Path(root, name)
            relative = path.relative_to(old)
            target = new / relative
            if not _is_result(relative, results) and not os.path.lexists(target):
                with suppress(FileExistsError, NotADirectoryError):  # a result has this name now
                    target.parent.mkdir(parents=True, exist_ok=True)
                    _link(path, target)


def _is_result(relative: Path, results: set[str] | None) -> bool:
    """Whether a run has written a file of a run's folder."""
    top = relative.parts[0]
    if top == MANIFEST or top.startswith(_CLAIMS):
        return True
    if results is not None:
        return relative.as_posix() in results
    return top in _RESULTS or top.startswith("gaussians.")


def _link(path: Path, target: Path) -> None:
    """Give a file a second name; copy it where the file system has no links."""
    try:
        os.link(path, target, follow_symlinks=False)
    except FileExistsError:
        raise
    except (OSError, NotImplementedError):
        shutil.copy2(path, target, follow_symlinks=False)
