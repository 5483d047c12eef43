"""Select the input and the targets of a scene, and compute what the input shows of them."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from lift.evaluation.datasets import CalibratedCapture
from lift.evaluation.matching import match_views, pixel_rays
from lift.io.json_files import read_json
from lift.io.names import user_path
from lift.io.parsing import PARSE_ERRORS
from lift.multiview.depth_alignment import nearest_depth
from lift.types import Cameras, Depth
from lift.warping.fill import close_gaps
from lift.warping.scaffold import EDGE_THRESHOLD
from lift.warping.surface import Surface, camera_matrices

MIN_PARALLAX = 1.0
"""Smallest angle in degrees between two rays that are triangulated."""

_MAX_REPROJECTION_ERROR = 1 / 320
"""Largest error of a triangulated point, divided by the picture's width."""


def select_views(capture: CalibratedCapture, protocol: Any) -> tuple[int, list[int]]:
    """Select the view that is lifted and the views that it is compared with.

    Args:
        capture: The scene.
        protocol: The settings `protocol`.

    Returns:
        Index of the input, and indices of the targets.

    Raises:
        FileNotFoundError: `protocol.targets` names a file that does not exist.
        PermissionError: It names a file outside of the dataset's folder.
        ValueError: A setting is invalid. The message names it and the choices.
    """
    input_name = protocol.input
    targets = protocol.targets
    step = re.fullmatch(r"every_([1-9]\d*)", targets)
    target_names = None
    if targets != "all" and not step:
        inputs, target_names = _read_split(capture, targets)
        if len(inputs) > 1:
            raise ValueError(
                f"protocol.targets is {targets}, which names {len(inputs)} input views of "
                f"{capture.scene}; a scene is lifted from one"
            )
        if inputs:
            input_name = inputs[0]
    input_view = _find_view(capture, input_name, "protocol.input")
    if target_names is not None:
        setting = f"protocol.targets={targets}"
        views = [_find_view(capture, name, setting) for name in target_names]
    else:
        views = list(range(0, len(capture.views), int(step[1]) if step else 1))
    views = [view for view in dict.fromkeys(views) if view != input_view]
    if protocol.max_targets is not None and len(views) > protocol.max_targets:
        views = [views[round(k)] for k in np.linspace(0, len(views) - 1, protocol.max_targets)]
    if not views:
        raise ValueError(
            f"protocol.targets is {targets!r}, which leaves no view of {capture.scene} but the "
            f"input; it has {len(capture.views)}"
        )
    return input_view, views


def _read_split(capture: CalibratedCapture, file: str) -> tuple[list[Any], list[Any]]:
    """Read the names of the inputs and targets from a JSON file."""
    paths = [user_path(file)]
    if capture.folder:
        paths += [capture.folder / file, capture.folder.parent / file]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        raise FileNotFoundError(
            f"protocol.targets is {file!r}; choose all, every_N, or a JSON file; there is none at "
            f"{', '.join(map(str, paths))}"
        )
    if capture.is_allowed is not None and not capture.is_allowed(path):
        raise PermissionError(
            f"protocol.targets is {file!r}, which lies outside of the dataset's folder after links "
            "are resolved; copy it there, or set dataset.allow_outside=true to read it"
        )
    try:
        content = read_json(path)
        split = content.get(capture.scene, content)
        inputs = split.get("input", split.get("train_ids", []))
        targets = split["targets"] if "targets" in split else split["test_ids"]
        return (inputs if isinstance(inputs, list) else [inputs]), list(targets)
    except PARSE_ERRORS as error:
        raise ValueError(
            f"{path} is no split: {type(error).__name__} {error}; it needs lists of views, input "
            "and targets (or train_ids and test_ids)"
        ) from None


def _find_view(capture: CalibratedCapture, name: Any, setting: str) -> int:
    """Find the index of a view by its name, name without suffix, full name or index."""
    if name == "first":
        return 0
    if name == "middle":
        centers = capture.cameras.centers
        return int((centers - centers.mean(0)).norm(dim=-1).argmin())
    index_of = {
        shorten(view): number
        for shorten in (lambda view: Path(view).stem, lambda view: Path(view).name, str)
        for number, view in enumerate(capture.views)
    }
    if str(name) in index_of:
        return index_of[str(name)]
    if str(name).isdecimal() and int(name) < len(capture.views):
        if missing := capture.notes.get("left out"):
            raise ValueError(
                f"{setting} is {name!r}, but numbers of views in {capture.scene} shift: {missing}; "
                "use names of views"
            )
        return int(name)
    raise ValueError(
        f"{setting} is {name!r}, no view of {capture.scene}; choose middle, first, 0 to "
        f"{len(capture.views) - 1}, or one of {', '.join(capture.views[:4])}"
        + (" ..." if len(capture.views) > 4 else "")
    )


def sparse_depth(capture: CalibratedCapture, camera: Cameras) -> Float[Tensor, "height width"]:
    """Project the dataset's points into a camera.

    Args:
        capture: The scene.
        camera: The camera, one view.

    Returns:
        z-depth of the nearest point in each pixel, 0 where there is none.
    """
    if capture.points is None:
        return torch.zeros(camera.height, camera.width)
    return nearest_depth(capture.points.points, camera)


def triangulate_depth(
    camera: Cameras,
    image: UInt8[Tensor, "height width 3"],
    cameras: Cameras,
    images: UInt8[Tensor, "view height width 3"],
) -> Float[Tensor, "height width"]:
    """Triangulate matches of the input with other views, all with their true cameras.

    Points with a small parallax or a large reprojection error are dropped. Of several points in
    a pixel, that with the largest parallax counts.

    Args:
        camera: The input's camera, one view.
        image: The input.
        cameras: Cameras of the other views.
        images: The other views.

    Returns:
        z-depth of the input, 0 where unknown.
    """
    pixel_indices = []
    depths = []
    angles = []
    pose = camera.world_to_camera[0].double()
    for view, (pixels, view_pixels) in enumerate(match_views(image, images)):
        relative = cameras.world_to_camera[view].double() @ torch.linalg.inv(pose)
        ray = pixel_rays(pixels, camera.intrinsics[0]) @ relative[:3, :3].T
        view_ray = pixel_rays(view_pixels, cameras.intrinsics[view])
        normal = torch.linalg.cross(view_ray, ray)
        moment = torch.linalg.cross(view_ray, relative[:3, 3].expand_as(view_ray))
        z = -(normal * moment).sum(-1) / normal.square().sum(-1).clamp(min=1e-24)
        points = z[:, None] * ray + relative[:3, 3]
        focal = float(cameras.intrinsics[view, 0, 0])
        error = (points[:, :2] / points[:, 2:] - view_ray[:, :2]).norm(dim=-1) * focal
        angle = torch.rad2deg(torch.atan2(normal.norm(dim=-1), (view_ray * ray).sum(-1)))
        max_error = cameras.width * _MAX_REPROJECTION_ERROR
        good = (z > 0) & (points[:, 2] > 0) & (error < max_error) & (angle > MIN_PARALLAX)
        column, row = pixels[good].long().unbind(-1)
        column = column.clamp(0, camera.width - 1)
        row = row.clamp(0, camera.height - 1)
        pixel_indices.append(row * camera.width + column)
        depths.append(z[good])
        angles.append(angle[good])
    z = torch.cat(depths).float()
    order = np.argsort(-torch.cat(angles).numpy(), kind="stable")
    pixel, first = np.unique(torch.cat(pixel_indices).numpy()[order], return_index=True)
    depth = torch.zeros(camera.height * camera.width)
    depth[torch.from_numpy(pixel)] = z[torch.from_numpy(order[first])]
    return depth.view(camera.height, camera.width)


def visible_pixels(
    camera: Cameras, image: UInt8[Tensor, "height width 3"], depth: Depth, targets: Cameras
) -> Bool[Tensor, "view height width"]:
    """Find the pixels of the targets whose surface is visible in the input.

    Args:
        camera: The input's camera, one view.
        image: The input.
        depth: Depth of the input in the unit of the cameras.
        targets: Cameras of the targets.

    Returns:
        True where the input's surface, warped by its depth, covers the target.
    """
    surface = Surface(depth.typical, EDGE_THRESHOLD)
    everywhere = np.ones(image.shape[:2], bool)
    surface.add(image.numpy(), close_gaps(depth), everywhere, *camera_matrices(camera)[0])
    masks = [
        ~surface.find_holes(*matrices, targets.width, targets.height)
        for matrices in camera_matrices(targets)
    ]
    return torch.from_numpy(np.stack(masks))


def rescale_depth(
    depth: Depth,
    true_depth: Float[Tensor, "height width"],
    lifted: Float[Tensor, "height width"],
    scale: float,
) -> Depth:
    """Bring an estimated depth to the dataset's unit of length.

    Args:
        depth: The estimate.
        true_depth: Depth of the dataset, 0 where unknown.
        lifted: Depth of the lifted scene, used if the dataset has none.
        scale: Factor from the dataset's lengths to the lifted scene's.

    Returns:
        The estimate times the median ratio, or unchanged if no pixel has both depths.
    """
    reference = true_depth if (true_depth > 0).any() else lifted / scale
    valid = depth.valid & (reference > 0)
    if not valid.any():
        return depth
    ratio = float((reference[valid] / depth.depth[valid]).median())
    return replace(depth, depth=depth.depth * ratio)
