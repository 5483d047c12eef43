"""Scenes with ground truth, and their frames with a video generator's errors.

A `World` holds correct frames for a fit, and test views from other cameras. `corrupt_world` adds
errors of known kinds and sizes (`lift.synthetic.corruptions`).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lift.camera_paths import orbit_cameras
from lift.geometry import pinhole, project, unproject
from lift.multiview.depth_alignment import merge_points
from lift.planners.articulated import Articulated
from lift.synthetic.corruptions import (
    BLUR,
    OBJECTS,
    SATURATION,
    FrameCorruption,
    blur_picture,
    relative_motion,
    warp_frame,
)
from lift.synthetic.scenes import render
from lift.types import Cameras, Depth, Frames, PointCloud, Reconstruction, Trajectory

CORRUPTION_KINDS = ("warp", "objects", "camera", "color", "blur", "texture", "bad")
"""The kinds of errors.

warp: smooth warps that drift over time. objects: moving parts of the scene. camera: camera errors.
color: exposure, balance and saturation. blur: growing blur. texture: swimming and false texture.
bad: frames that fail completely.
"""

CLIP_FRACTION = 0.3
"""Fraction of a clip's errors that is constant over the clip and not shared with other clips."""
BAD_FRACTION = 0.08
"""Fraction of bad frames at size 1."""
_MAX_POINTS = 2_000_000
FIELD_OF_VIEW = 55.0
"""Horizontal field of view in degrees, the default of `lift run`."""


@dataclass(frozen=True)
class World:
    """A scene with correct frames and test views."""

    name: str
    """Name of the scene."""
    frames: Frames
    """Correct frames, the input first. Depth is 0 where unknown."""
    trajectory: Trajectory
    """The cameras of the frames."""
    points: PointCloud
    """The scene's points."""
    typical: float
    """Typical depth of the input, the unit of length."""
    objects: Float[Tensor, "object 3"]
    """Positions in the scene that `corrupt_world` moves if it gets a size for `objects`."""
    test_frames: Frames
    """Correct views that a fit never gets."""
    test_cameras: Cameras
    """The cameras of the test views."""


@dataclass(frozen=True)
class CorruptedScene:
    """The corrupted input of a fit, and the corruption itself."""

    frames: Frames
    """Corrupted frames."""
    reconstruction: Reconstruction
    """Wrong cameras, and points and depth that follow from them."""
    flow: Float[Tensor, "view 2 height width"]
    """Where each pixel comes from, relative to itself, in pixels."""
    log_gain: Float[Tensor, "view 3"]
    """Logarithms of the gains of red, green and blue."""
    saturation: Float[Tensor, "view"]
    """Factor of the saturation minus 1."""
    blur_variance: Float[Tensor, "view"]
    """Variance of the blur in pixels squared."""
    bad: Bool[Tensor, "view"]
    """Which frames fail completely."""


def ray_cast_world(
    name: str,
    size: tuple[int, int],
    frames: int = 8,
    render_scene: Callable[[str, Cameras], Frames] = render,
) -> World:
    """Render a built-in scene along the articulated trajectory, with test views.

    Args:
        name: Name of the scene.
        size: Width and height of the pictures in pixels.
        frames: Frames per clip.
        render_scene: Renders a scene by name. The default runs in this process.

    Returns:
        The world.
    """
    width, height = size
    camera = pinhole(width, height, width / 2 / math.tan(math.radians(FIELD_OF_VIEW) / 2))
    start = render_scene(name, camera)
    assert start.depth is not None
    depth = Depth(start.depth[0], start.depth[0] > 0, "metric")
    trajectory = Articulated(num_frames=frames)(camera, depth, None)
    cameras = ring_cameras(camera, depth)
    views = render_scene(name, trajectory.cameras)
    assert views.depth is not None
    confidence = (views.depth > 0).float()
    cloud = merge_points(views, trajectory.cameras, views.depth, confidence, _MAX_POINTS)
    points = unproject(start.depth, camera)[0][depth.valid]
    return World(
        name,
        views,
        trajectory,
        cloud,
        depth.typical,
        distant_points(points),
        render_scene(name, cameras),
        cameras,
    )


def ring_cameras(
    camera: Cameras, depth: Depth, angles: Sequence[int | float] = (4.0, 9.0)
) -> Cameras:
    """Create rings of eight cameras between the branches of the articulated trajectory.

    Args:
        camera: The input camera, one view.
        depth: Depth of the input picture.
        angles: Angle of each ring to the input camera, in degrees.

    Returns:
        Cameras that look at the scene's centre.
    """
    direction = torch.deg2rad(22.5 + 45 * torch.arange(8.0)).repeat(len(angles))
    angle = torch.tensor(angles, dtype=torch.float32).repeat_interleave(8)
    offsets = torch.stack(
        [angle * direction.cos(), angle * direction.sin(), torch.zeros_like(angle)], dim=-1
    )
    return orbit_cameras(camera, offsets, depth.typical)


def corrupt_world(world: World, sizes: Mapping[str, float], seed: int) -> CorruptedScene:
    """Corrupt the frames and cameras of a world.

    Cameras are corrupted in the reconstruction that the fit gets. The frames show the true cameras.

    Args:
        world: The correct world.
        sizes: Size of each kind of CORRUPTION_KINDS, 0 if missing. Size 1 is what the prior
            `synthetic` uses at a full motion. Here the farthest camera has a full motion.
        seed: Random seed.

    Returns:
        The corrupted scene.

    Raises:
        ValueError: If a kind does not exist.
    """
    size = _all_sizes(sizes)
    cameras = world.trajectory.cameras
    images = world.frames.rgb
    depths = world.frames.depth
    assert depths is not None
    motion = torch.tensor(
        [relative_motion(cameras[0], cameras[view], world.typical) for view in range(len(cameras))]
    )
    motion = motion / motion.max()
    corruptions = _frame_corruptions(world.trajectory, seed)
    bad, replacement = _select_bad(len(images), BAD_FRACTION * size["bad"], seed)
    height, width = images.shape[1:3]
    no_flow = torch.zeros(2, height, width)
    views = [_CorruptedView(images[0], depths[0], cameras[0], no_flow, torch.zeros(3))]
    for view in range(1, len(images)):
        corruption = corruptions[view]
        source = images[view]
        depth = depths[view]
        bad_flow = None
        if bad[view]:
            # A bad frame is another frame, mirrored and strongly warped. Its depth is of neither.
            source = images[replacement[view]].flip(1)
            depth = depth.flip(1)
            bad_flow = corruption.smooth_flow(6.0, height, width)
        views.append(
            _corrupt_view(
                world, corruption, size, float(motion[view]), cameras[view], source, depth, bad_flow
            )
        )
    depth = torch.stack([view.depth for view in views])
    estimated = Cameras.cat([view.camera for view in views])
    rgb = torch.stack([view.rgb for view in views])
    frames = Frames((255 * rgb).round().to(torch.uint8), depth)
    return CorruptedScene(
        frames,
        _reconstruct(frames, estimated, depth, world.points),
        torch.stack([view.flow for view in views]),
        torch.stack([view.log_gain for view in views]),
        SATURATION * size["color"] * motion,
        (BLUR * size["blur"] * width * motion) ** 2,
        bad,
    )


def _all_sizes(sizes: Mapping[str, float]) -> dict[str, float]:
    """Check the kinds, and set those that are missing to 0."""
    for kind in sizes:
        if kind not in CORRUPTION_KINDS:
            choices = ", ".join(CORRUPTION_KINDS)
            raise ValueError(f"corruption {kind!r} is not known; choose among {choices}")
    return {kind: sizes.get(kind, 0.0) for kind in CORRUPTION_KINDS}


def _select_bad(count: int, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Draw which frames are bad, and the frame that each of them would show instead."""
    generator = torch.Generator().manual_seed(seed * 7919 + 1)
    bad = torch.rand(count, generator=generator) < fraction
    replacement = torch.randint(count, (count,), generator=generator)
    bad[0] = False
    return bad, replacement


def _reconstruct(
    frames: Frames, cameras: Cameras, depth: Tensor, points: PointCloud
) -> Reconstruction:
    """Build the reconstruction of corrupted frames. Without depth, use the true points."""
    confidence = (depth > 0).float()
    if confidence.any():
        points = merge_points(frames, cameras, depth, confidence, _MAX_POINTS)
    return Reconstruction(cameras, points, depth, confidence)


@dataclass(frozen=True)
class _CorruptedView:
    """One corrupted frame. See `CorruptedScene`."""

    rgb: Float[Tensor, "height width 3"]
    depth: Float[Tensor, "height width"]
    camera: Cameras
    flow: Float[Tensor, "2 height width"]
    log_gain: Float[Tensor, "3"]


def _corrupt_view(
    world: World,
    corruption: FrameCorruption,
    size: Mapping[str, float],
    motion: float,
    camera: Cameras,
    rgb: Tensor,
    depth: Tensor,
    bad_flow: Tensor | None,
) -> _CorruptedView:
    """Corrupt one frame. `size` holds the size of each kind at motion 1."""
    height, width = depth.shape
    flow = corruption.smooth_flow(motion * size["warp"], height, width)
    flow = flow + corruption.texture_flow(motion * size["texture"], height, width)
    if size["objects"]:
        positions, z = project(world.objects, camera)
        flow = flow + corruption.object_flow(
            motion * size["objects"], positions[0], z[0] > 0, height, width
        )
    if bad_flow is not None:
        flow = flow + bad_flow
    if bool(flow.any()):
        rgb, depth = warp_frame(rgb, depth, flow)
    rgb = corruption.add_false_texture(rgb, motion * size["texture"])
    rgb = blur_picture(rgb, BLUR * motion * size["blur"] * width)
    rgb = corruption.shift_color(rgb, motion * size["color"])
    return _CorruptedView(
        rgb.clamp(0, 1),
        depth,
        corruption.perturb_camera(camera, motion * size["camera"], world.typical),
        width * flow,
        corruption.log_gain(motion * size["color"]),
    )


def _frame_corruptions(trajectory: Trajectory, seed: int) -> list[FrameCorruption]:
    """Sample the corruption of every frame: continuous within a clip, with jumps between clips."""
    corruptions = [FrameCorruption.sample(0, seed)]
    for number, (clip, span) in enumerate(zip(trajectory.clips, trajectory.spans, strict=True)):
        source = FrameCorruption.sample(clip.source, seed)
        end = FrameCorruption.sample(span[-1], seed)
        constant = FrameCorruption.sample(-1 - number, seed)
        corruptions += [
            source.interpolate(end, (step + 1) / len(span)).interpolate(constant, CLIP_FRACTION)
            for step in range(len(span))
        ]
    return corruptions


def distant_points(points: Float[Tensor, "point 3"]) -> Float[Tensor, "object 3"]:
    """Select points far from one another. The first is the central one.

    Args:
        points: Points of a scene.

    Returns:
        At most OBJECTS of the points.
    """
    points = points[:: max(1, len(points) // 2000)]
    out = [points[(points - points.median(0).values).norm(dim=-1).argmin()]]
    while len(out) < min(OBJECTS, len(points)):
        distance = torch.stack([(points - point).norm(dim=-1) for point in out]).amin(0)
        out.append(points[distance.argsort()[int(0.9 * len(distance))]])
    return torch.stack(out)
