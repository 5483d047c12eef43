"""What a share page shows, and what its viewer has to know about it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from lift.geometry import rotation_to_quat
from lift.io.sources import list_title
from lift.io.splats import encode
from lift.outputs.films.rendering import limit_detail
from lift.outputs.view_region import ViewRegion
from lift.renderers import NEAR_PLANE
from lift.types import Cameras, Gaussians

SPLAT_FORMAT = "spz"
"""Format of the Gaussians in the page."""

DETAIL_SCALE = 2.0
"""Size of a picture, in sizes of a frame, up to which the frames' blur is added to the Gaussians.

In larger pictures the viewer blurs the rest on the screen, so that the Gaussians show no needles.
"""

FLY_THROUGH_SECONDS = 8.0
"""Duration of one loop of the fly-through in seconds."""


@dataclass(frozen=True)
class ShareContent:
    """What a share page shows."""

    gaussians: Gaussians
    """The canonical scene."""
    input_camera: Cameras
    """Camera of the input, one view. The page starts there."""
    frames: Cameras
    """Cameras of the frames that the scene was fitted to. No finer detail is shown."""
    fly_through: Cameras
    """Views along a closed path."""
    region: ViewRegion
    """Limits of the camera."""
    poster: UInt8[Tensor, "height width 3"]
    """Picture of the input view, shown until the scene is drawn."""
    title: str
    """Title of the page."""
    caption: str = ""
    """Text below the title. Empty: none."""
    source: str = ""
    """Name of the file that was the input, or of the first of several. Empty: unknown."""


def share_content(run: Any, title: str | None = None, caption: str | None = None) -> ShareContent:
    """Collect what the share page of a finished run shows.

    Args:
        run: The finished run, such as a `lift.Scene`. Its `settings`, `gaussians`, `cameras`,
            `fly_through`, `view_region` and `input_image` are read.
        title: Title of the page. None: the name of the input without its suffix,
            with blanks for underscores.
        caption: Text below the title. None: no text.

    Returns:
        The content.
    """
    name, source = _name_input(run.settings["image"])
    return ShareContent(
        gaussians=run.gaussians,
        input_camera=run.cameras[:1],
        frames=run.cameras,
        fly_through=run.fly_through,
        region=run.view_region,
        poster=run.input_image,
        title=_readable(name) if title is None else title,
        caption=caption or "",
        source=source,
    )


def _name_input(image: str | Sequence[str]) -> tuple[str, str]:
    """Return the name of an input, and that of its file.

    Args:
        image: The setting `image`: one name, or a list of names.
    """
    names = [image] if isinstance(image, str) else [str(name) for name in image]
    file = Path(names[0]).name
    if len(names) == 1:
        return Path(file).stem, file
    return list_title(names), f"{file} and {len(names) - 1} more"


def _readable(name: str) -> str:
    """Return the name of a file as a title, with blanks for underscores."""
    return " ".join(name.replace("_", " ").split()) or name


def viewer_settings(content: ShareContent) -> dict[str, Any]:
    """Describe the content to the viewer, which is web/viewer.js.

    Its world has the axes of the input camera in OpenGL's convention: x right, y up, z back.

    Args:
        content: What the page shows.

    Returns:
        Numbers, texts, lists and dictionaries for JSON.
    """
    camera = content.input_camera
    focal_x, focal_y, center_x, center_y = (
        float(camera.intrinsics[0, row, column]) for row, column in ((0, 0), (1, 1), (0, 2), (1, 2))
    )
    region = content.region
    return {
        "input": {
            "width": camera.width,
            "height": camera.height,
            "focal": [focal_x, focal_y],
            "center": [center_x, center_y],
        },
        "region": {
            "inputDistance": region.input_distance,
            "azimuth": list(region.azimuth),
            "elevation": list(region.elevation),
            "distance": list(region.distance),
            "near": NEAR_PLANE,
        },
        "flyThrough": {
            "seconds": FLY_THROUGH_SECONDS,
            "poses": _relative_poses(content.fly_through, camera).tolist(),
        },
        "splats": {
            "type": SPLAT_FORMAT,
            "fileToInput": (_world_to_input(camera) @ _FILE_AXES).flatten().tolist(),
            "frameFocal": float(content.frames.intrinsics[:, 0, 0].max()),
            "addedBlur": 1 - 1 / DETAIL_SCALE**2,
        },
    }


def encode_gaussians(gaussians: Gaussians, frames: Cameras) -> bytes:
    """Encode Gaussians in the format of `SPLAT_FORMAT`, with the blur of the frames.

    Args:
        gaussians: The canonical scene.
        frames: Cameras of the frames that the scene was fitted to.

    Returns:
        The content of a file.

    Raises:
        ValueError: The format cannot hold the scene.
    """
    size = (round(DETAIL_SCALE * frames.width), round(DETAIL_SCALE * frames.height))
    wide = limit_detail(gaussians, frames, frames.resized(*size))
    return encode(wide, SPLAT_FORMAT)


def _world_to_input(camera: Cameras) -> Float[Tensor, "4 4"]:
    """Return the transform from the scene's world to the viewer's, row by row."""
    return _OPENGL @ camera.world_to_camera[0].double().cpu()


def _relative_poses(cameras: Cameras, camera: Cameras) -> Float[Tensor, "view 7"]:
    """Return the place and the rotation (x y z w) of cameras in the viewer's world."""
    to_world = cameras.world_to_camera.double().cpu().inverse()
    poses = _world_to_input(camera) @ to_world @ _OPENGL
    quats = rotation_to_quat(poses[:, :3, :3])  # w x y z
    # q and -q are the same rotation. Neighbours must agree for interpolation.
    signs = torch.ones(len(quats), 1, dtype=quats.dtype)
    flips = (quats[1:] * quats[:-1]).sum(-1) < 0
    signs[1:, 0] = torch.where(flips, -1.0, 1.0).cumprod(0)
    return torch.cat([poses[:, :3, 3], (signs * quats)[:, [1, 2, 3, 0]]], dim=-1)


_OPENGL = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=torch.float64))
"""Changes axes between OpenCV's convention and OpenGL's."""

_FILE_AXES = _OPENGL
"""From the axes of the encoded Gaussians to the scene's world. SPZ files have y up and z back."""
