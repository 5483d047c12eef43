"""Publish the folder of a run as a whole: a reader finds the old result or the new one."""

import json
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lift import __version__
from lift.config.delivery_schema import FULL, KEEP
from lift.config.loggers import CALLBACK_FOLDER, LOGGERS
from lift.outputs.storage import FRAMES, VIEWS
from lift.runtime.atomic_io import (
    acquire,
    hidden_path,
    is_own,
    make_folder,
    open_lock,
    prepare_draft,
    publish_folder,
    recover_folder,
    remove,
    set_permissions,
)
from lift.runtime.finished import REQUEST
from lift.runtime.integrity import MANIFEST, DamagedFileError, read_manifest, write_manifest
from lift.runtime.kept_files import KEPT, delivered_kind
from lift.runtime.run_folder import claim_run_folder
from lift.training import CHECKPOINT, LOG_RECORD

_CLAIMS = ".multirun-"
"""Start of the names of files that `claim_run_folder` writes."""

_RESULTS = {
    CHECKPOINT,
    LOG_RECORD,
    CALLBACK_FOLDER,
    *LOGGERS,
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
    "view_region.json",
}
"""Files and folders of a run whose folder has no manifest, besides those of `_RESULT_PATHS`."""

_RESULT_PATHS = re.compile(
    r"gaussians\.(ply|splat|spz|sog|compressed\.ply)"
    rf"|{FRAMES}/\d{{6}}\.png"
    r"|colmap/(cameras|images|points3D)\.txt"
    rf"|{VIEWS}/(value\.json|tensors\.safetensors|value\.[^/]+/\d{{6}}\.png)"
)
"""Results of such a run in folders that may have files of the user, too."""


@contextmanager
def publish_run(
    folder: Path,
    key: str,
    say: Callable[[str], None],
    request: str | None = None,
    keep: str = FULL,
) -> Iterator[Path]:
    """Yield an empty draft of a run's folder, and publish it if the block raises no error.

    A lock protects the folder. An earlier result stays until the new one is complete. Files in the
    folder of a run that no run has written are kept.

    Args:
        folder: Folder of the run.
        key: Key of the scene.
        say: Receives messages for the user.
        request: What the run was asked for (`lift.runtime.finished`). None: the folder does not
            answer a request.
        keep: The setting `deliver.keep`.

    Yields:
        The draft.

    Raises:
        FileExistsError: There is a file of this name.
        ValueError: Another run delivered another scene to the folder meanwhile, another job of
            the multirun has the folder, or `check_run_folder` refuses it.
    """
    shown = folder
    check_run_folder(folder)
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
        check_run_folder(folder)
        if current not in (None, key):
            say(f"{shown} has another scene; it is replaced when the new one is complete")
        elif current == key and KEEP.index(kept := delivered_kind(folder)) < KEEP.index(keep):
            say(f"{shown} has the results of deliver.keep={kept}; those of {keep} replace them")
        prepare_draft(draft)
        for claim in folder.glob(f"{_CLAIMS}*"):
            if not claim.is_symlink():
                shutil.copyfile(claim, draft / claim.name)
        claim_run_folder(draft)
        yield draft
        content = {"scene": key, "lift": __version__, KEPT: keep}
        write_manifest(draft, content | ({} if request is None else {REQUEST: request}))
        set_permissions(draft)
        _keep_files(folder, draft)
        publish_folder(draft, folder)
    except BaseException:
        with suppress(OSError):
            remove(draft)
        raise
    finally:
        lock.release()


def check_run_folder(folder: Path) -> None:
    """Check that a run may replace a folder. This takes no lock.

    Args:
        folder: Folder of the run. It need not exist.

    Raises:
        ValueError: It has files but no run's result, or another user's link leads to it.
    """
    _check_links(folder)
    if folder.is_dir() and not _is_run(folder) and (name := _first_file(folder)):
        raise ValueError(
            f"{folder} holds files that no run has written, such as {name}; choose another "
            "name=NAME, or move them"
        )


def _check_links(folder: Path) -> None:
    """Raise ValueError if another user decides where a run's folder is."""
    for path in (folder, folder.parent):
        # A link in place of the folder above may lead to a disk of the administrator.
        if path.is_symlink() and not (
            is_own(path) or (path == folder.parent and path.lstat().st_uid == 0)
        ):
            raise ValueError(
                f"{path} is a link of another user, which is not followed; remove it, or choose "
                "another name=NAME or output=FOLDER"
            )
    if folder.is_symlink() and folder.exists() and not is_own(folder.resolve()):
        raise ValueError(
            f"{folder} is a link to {folder.resolve()} of another user, which is not replaced; "
            "choose another name=NAME"
        )


def _is_run(folder: Path) -> bool:
    """Whether a run has written to a folder. Those of lift 0.2 have no manifest."""
    with suppress(DamagedFileError, OSError):
        if "scene" in read_manifest(folder):
            return True
    return read_scene_key(folder) is not None


def check_no_result(path: Path) -> None:
    """Check that an output replaces no result of a run. Links are followed, too.

    Args:
        path: The output, a file or a folder. It need not exist.

    Raises:
        ValueError: A run has written the file, or a file in the folder.
    """
    for output in (Path(os.path.abspath(path)), path.resolve()):
        for folder in output.parents:
            if _is_run(folder) and _holds_result(output, folder):
                raise ValueError(
                    f"the output {str(path)!r} is a result of the run {str(folder)!r}, which is "
                    "not replaced; choose another name"
                )


def _holds_result(output: Path, run: Path) -> bool:
    """Whether a path in a run's folder is a file that a run has written, or a folder with one."""
    results: set[str] | None = None
    with suppress(DamagedFileError, OSError):
        results = set(read_manifest(run).get("files", ())) or None
    relative = output.relative_to(run)
    names = {relative, *(Path(name) for name in results or ())}
    if output.is_dir():
        names |= {path.relative_to(run) for path in output.rglob("*") if not path.is_dir()}
    inside = [name for name in names if name == relative or relative in name.parents]
    return any(_is_result(name, results) for name in inside)


def _first_file(folder: Path) -> str | None:
    """Return the relative path of a file in a folder that claims no folder for a job, if any."""
    for root, folders, files in os.walk(folder):
        folders.sort()
        links = [name for name in folders if Path(root, name).is_symlink()]
        for name in sorted((*files, *links)):
            if not name.startswith(_CLAIMS):
                return Path(root, name).relative_to(folder).as_posix()
    return None


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

    Links are not followed. Files of other users are copied, and their links are left out.

    Args:
        old: Folder of the old result. It need not exist.
        new: Folder of the new one, whose files take precedence.
    """
    if old.is_symlink():
        return
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
    return top in _RESULTS or _RESULT_PATHS.fullmatch(relative.as_posix()) is not None


def _link(path: Path, target: Path) -> None:
    """Give a file a second name; copy it where the file system has no links."""
    if not is_own(path):
        if stat.S_ISREG(path.lstat().st_mode):
            shutil.copy2(path, target, follow_symlinks=False)
        return
    try:
        os.link(path, target, follow_symlinks=False)
    except FileExistsError:
        raise
    except (OSError, NotImplementedError):
        shutil.copy2(path, target, follow_symlinks=False)
