"""Scenes of which the truth is known, and their frames as a video generator would get them wrong.

A `World` is what a fit is given when every frame is right, with true views from cameras that it is not given. `spoil` makes mistakes of
known kinds and sizes in it (`lift.synthetic.corruptions`).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lift.camera_paths import around
from lift.geometry import inside, pinhole, project, unproject
from lift.io.lens import Photograph
from lift.multiview.depth_alignment import merged
from lift.planners.articulated import Articulated
from lift.synthetic.corruptions import BLUR, OBJECTS, SATURATION, Mistakes, bent, blurred, motion
from lift.synthetic.scenes import render
from lift.types import Cameras, Clip, Depth, Frames, PointCloud, Reconstruction, Trajectory

KINDS = ("warp", "objects", "camera", "color", "blur", "texture", "bad")
"""Smooth warps that drift over time; parts of the scene that move; camera error; exposure, balance and saturation; softness that grows;
texture that swims and mottles; frames gone bad outright."""

JUMP = 0.3
"""Share of a clip's mistakes that are there from its first frame on, and no other clip's."""
BAD = 0.08
"""Share of frames that are gone bad, times the strength."""
FIELD_OF_VIEW = 55.0
"""Degrees, across; `lift run`'s own."""


@dataclass(frozen=True)
class World:
    """frames: right ones, the input first, with depth where it is known (0 where not). typical: depth of the input, the unit of length.
    objects: places in the scene that move where `spoil` is asked for it. unseen: true views at `unseen_cameras`, never given to a fit.
    """

    name: str
    frames: Frames
    trajectory: Trajectory
    points: PointCloud
    typical: float
    objects: Float[Tensor, "object 3"]
    unseen: Frames
    unseen_cameras: Cameras


@dataclass(frozen=True)
class Spoiled:
    """What a fit is given, and what was done: flow, where each pixel comes from relative to itself, in pixels; tone, logarithms of gain;
    saturation, less 1; variance of the blur in pixels squared; which frames are gone bad.
    """

    frames: Frames
    reconstruction: Reconstruction
    flow: Float[Tensor, "view 2 height width"]
    tone: Float[Tensor, "view 3"]
    saturation: Float[Tensor, "view"]
    variance: Float[Tensor, "view"]
    bad: Bool[Tensor, "view"]


def ray_cast(
    name: str,
    size: tuple[int, int],
    frames: int = 8,
    cast: Callable[[str, Cameras], Frames] = render,
) -> World:
    """A built-in scene along the articulated trajectory, `frames` a clip, with true views from `unseen` cameras. size: width and height.

    cast: what makes the pictures of a scene; the default does it in this process.
    """
    width, height = size
    camera = pinhole(width, height, width / 2 / math.tan(math.radians(FIELD_OF_VIEW) / 2))
    start = cast(name, camera)
    depth = Depth(start.depth[0], start.depth[0] > 0, "metric")
    trajectory = Articulated(frames=frames)(camera, depth, None)
    cameras = unseen(camera, depth)
    made = cast(name, trajectory.cameras)
    cloud = merged(made, trajectory.cameras, made.depth, (made.depth > 0).float(), 2_000_000)
    known = unproject(start.depth, camera)[0][depth.valid]
    return World(
        name, made, trajectory, cloud, depth.typical, _spread(known), cast(name, cameras), cameras
    )


def unseen(camera: Cameras, depth: Depth, angles: Sequence[int | float] = (4.0, 9.0)) -> Cameras:
    """Eight cameras a ring, between the arms of the tree: `angles` degrees from the input, looking at the scene's centre as the plan does."""
    around_input = torch.deg2rad(22.5 + 45 * torch.arange(8.0)).repeat(len(angles))
    away = torch.tensor(angles, dtype=torch.float32).repeat_interleave(8)
    places = torch.stack(
        [away * around_input.cos(), away * around_input.sin(), torch.zeros_like(away)], dim=-1
    )
    return around(camera, places, depth.typical)


def photographed(folder: Path) -> tuple[Cameras, PointCloud, list[Path], float]:
    """What `photographs` reads, as it is: cameras, points, pictures and the lowest coefficient of the lens."""
    for name in ("cameras.npz", "sparse_points.npz", "images"):
        if not (folder / name).exists():
            raise FileNotFoundError(
                f"there is no {name} in {folder}, which is to be a scene of photographs with cameras"
            )
    known, sparse = np.load(folder / "cameras.npz"), np.load(folder / "sparse_points.npz")
    poses, matrices = torch.from_numpy(known["w2c"]).float(), torch.from_numpy(known["K"]).float()
    cameras = Cameras(poses, matrices, int(known["width"]), int(known["height"]))
    cloud = PointCloud(
        torch.from_numpy(sparse["xyz"]).float(), torch.from_numpy(sparse["rgb"]).float() / 255
    )
    return (
        cameras,
        cloud,
        [folder / "images" / str(name) for name in known["names"]],
        float(known["k1_simple_radial"]),
    )


def photographs(folder: Path, size: tuple[int, int], every: int = 5) -> World:
    """Photographs with cameras (`cameras.npz`: names, K, w2c, k1_simple_radial, width, height; `sparse_points.npz`: xyz, rgb; `images/`).

    The input is the one nearest to the middle of all cameras; the others make two clips, to either side along the direction in which the
    cameras spread most, nearest first. Every `every`-th view is kept as a true view. Lens distortion is undone, the lowest-order one; the
    middle of the picture is cut out and resized to `size`. Depth is not known. Raises FileNotFoundError for what is missing.
    """
    cameras, cloud, paths, k1 = photographed(folder)
    centers = cameras.centers - cameras.centers.mean(0)
    side = torch.linalg.svd(centers, full_matrices=False).Vh[0]
    first = int(centers.norm(dim=-1).argmin())
    along = (cameras.centers - cameras.centers[first]) @ side
    ordered = along.argsort().tolist()
    kept_back = [index for index in ordered[every // 2 :: every] if index != first]
    left = [i for i in reversed(ordered) if along[i] < 0 and i not in kept_back]
    right = [i for i in ordered if along[i] > 0 and i not in kept_back]
    made = [photograph(paths[i], cameras[i], k1, size) for i in range(len(cameras))]
    frames, views = (
        Frames.cat([frame for frame, _ in made]),
        Cameras.cat([camera for _, camera in made]),
    )
    given = [first, *right, *left]
    clips = tuple(
        Clip(name, 0, views[which]) for name, which in (("right", right), ("left", left)) if which
    )
    pixels, depth = project(cloud.points, views[first])
    seen = (depth[0] > 0) & inside(pixels[0], views[first])
    pictures = Frames(frames.images[given], torch.zeros(len(given), size[1], size[0]))
    return World(
        folder.name,
        pictures,
        Trajectory(views[first], clips),
        cloud,
        float(depth[0][seen].median()),
        _spread(cloud.points[seen]),
        frames[kept_back],
        views[kept_back],
    )


def spoil(world: World, sizes: Mapping[str, float], seed: int) -> Spoiled:
    """Makes mistakes. sizes: of each kind (`KINDS`), 1 what the prior `synthetic` makes at full motion; here that is the farthest camera's.

    Cameras are wrong by what the fit is told of them. Raises ValueError for an unknown kind.
    """
    for kind in sizes:
        if kind not in KINDS:
            raise ValueError(f"mistake {kind!r} is not known; choose among {', '.join(KINDS)}")
    size = {kind: sizes.get(kind, 0.0) for kind in KINDS}
    cameras, images = world.trajectory.cameras, world.frames.rgb
    height, width = images.shape[1:3]
    away = torch.tensor(
        [motion(cameras[0], cameras[view], world.typical) for view in range(len(cameras))]
    )
    away = away / away.max()
    mistakes = _mistakes(world.trajectory, seed)
    chance = torch.Generator().manual_seed(seed * 7919 + 1)
    bad = torch.rand(len(images), generator=chance) < BAD * size["bad"]
    other = torch.randint(len(images), (len(images),), generator=chance)
    bad[0] = False
    pictures, depths, told, flows, tones = (
        [images[0]],
        [world.frames.depth[0]],
        [cameras[0]],
        [torch.zeros(2, height, width)],
        [torch.zeros(3)],
    )
    for view in range(1, len(images)):
        wrong, far = mistakes[view], float(away[view])
        flow = wrong.smooth(far * size["warp"], height, width) + wrong.swim(
            far * size["texture"], height, width
        )
        if size["objects"]:
            places, depth = project(world.objects, cameras[view])
            flow = flow + wrong.moved(far * size["objects"], places[0], depth[0] > 0, height, width)
        source, known = images[view], world.frames.depth[view]
        if bad[view]:  # another frame, the wrong way round, and melting; depth of neither
            source, known = images[other[view]].flip(1), known.flip(1)
            flow = flow + wrong.smooth(6.0, height, width)
        rgb, depth = bent(source, known, flow) if bool(flow.any()) else (source, known)
        rgb = wrong.mottle(rgb, far * size["texture"])
        rgb = blurred(rgb, BLUR * far * size["blur"] * width)
        toned = wrong.color(rgb, far * size["color"])
        pictures.append(toned.clamp(0, 1))
        depths.append(depth)
        told.append(wrong.camera(cameras[view], far * size["camera"], world.typical))
        flows.append(width * flow)
        tones.append(wrong.gain(far * size["color"]))
    depth, given = torch.stack(depths), Cameras.cat(told)
    frames = Frames((255 * torch.stack(pictures)).round().to(torch.uint8), depth)
    confidence = (depth > 0).float()
    points = (
        merged(frames, given, depth, confidence, 2_000_000) if confidence.any() else world.points
    )
    variance, saturation = (
        (BLUR * size["blur"] * width * away) ** 2,
        SATURATION * size["color"] * away,
    )
    return Spoiled(
        frames,
        Reconstruction(given, points, depth, confidence),
        torch.stack(flows),
        torch.stack(tones),
        saturation,
        variance,
        bad,
    )


def _mistakes(trajectory: Trajectory, seed: int) -> list[Mistakes]:
    made = [Mistakes.of(0, seed)]
    for number, (clip, span) in enumerate(zip(trajectory.clips, trajectory.spans, strict=True)):
        source, last, own = (
            Mistakes.of(clip.source, seed),
            Mistakes.of(span[-1], seed),
            Mistakes.of(-1 - number, seed),
        )
        made += [
            source.fading(last, (step + 1) / len(span)).fading(own, JUMP)
            for step in range(len(span))
        ]
    return made


def _spread(points: Float[Tensor, "point 3"]) -> Float[Tensor, "object 3"]:
    """Places far from one another, the first in the middle."""
    points = points[:: max(1, len(points) // 2000)]
    chosen = [points[(points - points.median(0).values).norm(dim=-1).argmin()]]
    while len(chosen) < min(OBJECTS, len(points)):
        away = torch.stack([(points - place).norm(dim=-1) for place in chosen]).amin(0)
        chosen.append(points[away.argsort()[int(0.9 * len(away))]])
    return torch.stack(chosen)


def photograph(
    path: Path, camera: Cameras, k1: float, size: tuple[int, int]
) -> tuple[Frames, Cameras]:
    """One photograph, straightened, and its camera."""
    width, height = size
    shrink = min(camera.width / width, camera.height / height)  # photograph's pixels a pixel
    intrinsics = camera.intrinsics.clone()
    intrinsics[:, :2] /= shrink
    intrinsics[:, 0, 2] += (width - camera.width / shrink) / 2
    intrinsics[:, 1, 2] += (height - camera.height / shrink) / 2
    made = Cameras(camera.world_to_camera, intrinsics, width, height)
    return Photograph(path, camera, (k1,)).look(made), made
