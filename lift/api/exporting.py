"""Hand a scene to other programs: files of Gaussians, checked by rendering, with their cameras."""

import json
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lift.io.nerfstudio import transforms_frames
from lift.io.output_paths import check_writable
from lift.io.splats import FORMATS, SPLAT_FORMATS, export, find_format
from lift.outputs.fidelity import MAX_PSNR, MIN_PSNR, compare_renders
from lift.outputs.publication import check_no_result
from lift.runtime.atomic_io import publish
from lift.runtime.kept_files import PLY, scene_file
from lift.types import Gaussians

EXPORTS = "exports"
"""Folder in that of a run for files of all formats."""
PAGE = ".html"
"""Suffix of a share page."""

_SPZ_VERSION = re.compile(r"\.v(\d+)\.spz$", re.IGNORECASE)
"""Ending of a name that states a version of spz."""

_SPZ_VERSIONS = (3, 4)
"""Versions of spz that can be written."""

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExportedFile:
    """A file that was written, or why it was not."""

    path: Path
    """The file."""
    title: str
    """Its format and version."""
    psnr: float | None = None
    """PSNR in dB of its render of the input view against that of the scene. None: not measured."""
    note: str = ""
    """What a user should know about the format."""
    problem: str = ""
    """Why it was not written. Empty: it was."""

    def describe(self) -> str:
        """Describe the file in one line."""
        if self.problem:
            return f"{self.path.name}: not written: {self.problem}"
        parts = [self.title, f"{self.path.stat().st_size / 1e6:.2f} MB"]
        if self.psnr is not None:
            equal = self.psnr >= MAX_PSNR
            fidelity = "equal" if equal else f"{self.psnr:.1f} dB"
            parts.append(f"{fidelity} to the scene at the input view")
        return f"{self.path.name}: {', '.join(parts)}{'. Note: ' if self.note else ''}{self.note}"


def export_scene(
    scene: Any, path: Path, title: str | None = None, caption: str | None = None
) -> ExportedFile:
    """Write a scene to a file of the format of its ending, read it back and compare.

    Values are compared, and renders of the input view. Beside the file, NAME.cameras.json has the
    cameras of the input view and of the fly-through.

    Args:
        scene: The finished run, a `lift.Scene`.
        path: The file. Its ending is the name of a format, or .html for a share page.
        title: Title of a share page. None: the name of the input.
        caption: Text below the title of a share page. None: no text.

    Returns:
        The file.

    Raises:
        ValueError: The ending is another one, the format cannot hold the scene, or the file is a
            result of a run. Or a title or a caption is not for a page. In this case no file is
            written.
    """
    path = Path(path)
    is_page = path.suffix.lower() == PAGE
    if not is_page and (title is not None or caption is not None):
        raise ValueError(
            f"a title and a caption are for a page, a name that ends with {PAGE}, or for `all`; "
            f"the output is {str(path)!r}"
        )
    _check_output(path)
    format = "" if is_page else _find_format(path)
    if is_page:
        from lift.outputs.share_page import write_share_page

        path.parent.mkdir(parents=True, exist_ok=True)
        write_share_page(scene, path, title, caption)
        return ExportedFile(path, "share page, opens in any browser")
    path.parent.mkdir(parents=True, exist_ok=True)
    psnr = [0.0]

    def check(decoded: Gaussians) -> None:
        psnr[0] = compare_renders(
            scene.render_gaussians, scene.gaussians, decoded, scene.cameras[:1]
        )
        if psnr[0] < MIN_PSNR:
            message = (
                f"{format} shows the input view with {psnr[0]:.1f} dB against the scene; at least "
                f"{MIN_PSNR:.0f} dB are expected"
            )
            if format != "splat":
                raise ValueError(f"{message}; choose another format")
            _LOGGER.warning("%s: splat holds no view dependence", message)

    export(scene.gaussians, path, format, check)
    cameras_path = path.with_name(f"{path.name[: -len(format) - 1]}.cameras.json")
    publish(cameras_path, lambda draft: _write_cameras(draft, scene))
    notes = [FORMATS[format].note, _describe_source(scene)]
    return ExportedFile(path, FORMATS[format].title, psnr[0], "; ".join(filter(None, notes)))


def export_all(
    scene: Any, folder: Path | None = None, title: str | None = None, caption: str | None = None
) -> Iterator[ExportedFile]:
    """Write a scene in all formats and as a share page, one file after the other.

    Args:
        scene: The finished run, a `lift.Scene`.
        folder: Folder of the files scene.FORMAT. None: exports in the folder of the run.
        title: As for `export_scene`.
        caption: As for `export_scene`.

    Yields:
        Each file. One that a format cannot hold has a `problem`, and the others are written.
    """
    folder = Path(scene.folder) / EXPORTS if folder is None else folder
    for ending in (*SPLAT_FORMATS, PAGE.removeprefix(".")):
        path = folder / f"scene.{ending}"
        try:
            yield export_scene(scene, path, *((title, caption) if path.suffix == PAGE else ()))
        except ValueError as error:
            yield ExportedFile(path, ending, problem=str(error))


def export_file(source: Path, path: Path) -> ExportedFile:
    """Convert a file of Gaussians to another format.

    Args:
        source: A file of a format that can be read.
        path: The file to write.

    Returns:
        The file.

    Raises:
        ValueError: A format is unknown, the source is damaged, or the format cannot hold it. Or
            the file is the source itself or a result of a run.
    """
    if path.suffix.lower() == PAGE:
        raise ValueError(
            f"a share page is made of a run's folder, with its cameras; {str(source)!r} is a file"
        )
    _check_output(path)
    format = _find_format(path)
    if path.exists() and path.samefile(source):
        raise ValueError(f"{str(path)!r} is the file to convert; choose another name")
    path.parent.mkdir(parents=True, exist_ok=True)
    export(source, path, format)
    return ExportedFile(path, FORMATS[format].title, note=FORMATS[format].note)


def _find_format(path: Path) -> str:
    """Find the format of a file. Raise ValueError with the choices."""
    try:
        format = find_format(path)
    except ValueError as error:
        raise ValueError(f"{error}, {PAGE}") from None
    version = _SPZ_VERSION.search(path.name)
    if version and int(version[1]) not in _SPZ_VERSIONS:
        raise ValueError(
            f"{path.name!r} names version {version[1]} of spz; choose a name that ends with .spz "
            "(version 3) or .v4.spz"
        )
    return format


def _check_output(path: Path) -> None:
    """Raise ValueError if a file cannot be written, or must not be replaced."""
    if path.name.lower() in (f".{ending}" for ending in (*SPLAT_FORMATS, PAGE[1:])):
        raise ValueError(f"{path.name!r} is only an ending; choose a name before it")
    check_writable(path)
    if path.is_dir():
        raise ValueError(f"the output is {str(path)!r}, a folder; choose the name of a file")
    check_no_result(path)


def _describe_source(scene: Any) -> str:
    """Say that a run has kept its scene with a loss. Empty if it has not."""
    name = scene_file(scene.folder)
    return "" if name == PLY else f"the run keeps a lossy scene, {name} (deliver.keep=minimal)"


def _write_cameras(path: Path, scene: Any) -> None:
    """Write the cameras of the input view and of the fly-through as transforms.json."""
    path_cameras = scene.fly_through
    names = [f"fly_through/{view:06d}.png" for view in range(len(path_cameras))]
    content = {
        "camera_model": "OPENCV",
        "scene_axes": (
            "Cameras are in the world of the ply file: x right, y down, z forward. Files of spz "
            "and glb have y and z of the opposite sign."
        ),
        "frames": [
            *transforms_frames(scene.cameras[:1], ["input.png"]),
            *transforms_frames(path_cameras, names),
        ],
    }
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
