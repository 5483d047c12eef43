"""Render the pictures of a film: colours, depth or normals, without needles and gaps."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn.functional import avg_pool2d, normalize, pad

from lift.geometry import project, unproject
from lift.renderers import EPS2D
from lift.types import Cameras, Gaussians, Render

RenderFunction = Callable[[Gaussians, Cameras], Render]
"""Renders one view of Gaussians."""

OPAQUE = 0.5
"""Alpha above which a pixel shows a surface. Others are black in films of depth and normals."""

DEPTH_COLORMAP = "turbo"
"""Colormap of matplotlib for depth. Near is red, far is blue."""

DEPTH_QUANTILES = (0.01, 0.99)
"""Quantiles of the inverse depth at the ends of the colormap, over the whole film."""

RANGE_VIEWS = 8
"""Number of views of the film that the range of depths is taken from."""

RANGE_SIDE = 96
"""Longer side in pixels of these views."""

MAX_SUPERSAMPLING = 4
"""Largest number of rendered pixels along a side of a pixel of the film."""

FILTER_FRAMES = 16
"""Largest number of frames whose resolution limits the detail of Gaussians."""

NORMAL_WINDOW = 9
"""Side in pixels of the window that a normal is fitted to, in a picture of 256 pixels."""


STEP_TOLERANCE = 0.02
"""Relative change of depth within a window that may be a slope. A larger one is a step."""


@torch.no_grad()
def film_frames(
    render: RenderFunction,
    gaussians: Gaussians,
    cameras: Cameras,
    frames: Cameras,
    kind: str = "color",
) -> Iterator[UInt8[np.ndarray, "height width 3"]]:
    """Render the pictures of a film one after the other.

    Args:
        render: Renders one view on the renderer's device. The result may be on any device.
        gaussians: The scene, on the renderer's device.
        cameras: Views of the film.
        frames: Cameras of the frames that the scene was fitted to. No finer detail is rendered.
        kind: color, depth (inverse depth by `DEPTH_COLORMAP`, one range for the whole film) or
            normal (in axes of the camera: red is right, green is up, blue is towards the camera).

    Yields:
        The pictures.
    """
    wide = limit_detail(gaussians, frames, cameras)
    factor = supersampling(frames, cameras)
    paint = _painter(kind, render, wide, cameras)
    for view in range(len(cameras)):
        camera = cameras[view].resized(factor * cameras.width, factor * cameras.height)
        rgb = paint(render(wide, camera), camera)
        if factor > 1:
            rgb = avg_pool2d(rgb.permute(2, 0, 1), factor).permute(1, 2, 0)
        yield (rgb.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()


def limit_detail(gaussians: Gaussians, frames: Cameras, film: Cameras) -> Gaussians:
    """Widen Gaussians as much as the frames blurred them, where a film is larger than the frames.

    Every renderer blurs each Gaussian by a fraction of a pixel. In a larger picture this blur is
    smaller, so thin Gaussians show as needles and gaps open between them. The lost part is added
    to the Gaussians, by the finest pixel of a frame at their distance.

    Args:
        gaussians: The scene.
        frames: Cameras of the frames that it was fitted to.
        film: Cameras of the film.

    Returns:
        The Gaussians, unchanged if the film is not larger.

    Reference:
        Yu et al., "Mip-Splatting: Alias-free 3D Gaussian Splatting", CVPR 2024, section 5.1.
    """
    focal = _focal(frames)
    film_focal = _focal(film)
    if film_focal <= focal:
        return gaussians
    step = max(1, math.ceil(len(frames) / FILTER_FRAMES))
    cameras = frames[::step].to(gaussians.means.device)
    pixels, depth = project(gaussians.means, cameras)
    margin_x, margin_y = 0.15 * frames.width, 0.15 * frames.height
    x, y = pixels.unbind(-1)
    visible = (x > -margin_x) & (x < frames.width + margin_x)
    visible &= (y > -margin_y) & (y < frames.height + margin_y) & (depth > 0)
    nearest = depth.where(visible, torch.inf).min(0).values
    nearest = nearest.where(nearest.isfinite(), torch.zeros_like(nearest))
    variance = EPS2D * nearest.square() * (1 / focal**2 - 1 / film_focal**2)
    scales = (gaussians.scales.square() + variance[:, None]).sqrt()
    return replace(gaussians, scales=scales)


def supersampling(frames: Cameras, film: Cameras) -> int:
    """Return how many pixels a side to render for each pixel of a film smaller than the frames.

    Args:
        frames: Cameras of the frames.
        film: Cameras of the film.
    """
    return max(1, min(MAX_SUPERSAMPLING, math.ceil(_focal(frames) / _focal(film) - 0.01)))


def normals_from_depth(
    depth: Float[Tensor, "1 height width"], camera: Cameras
) -> Float[Tensor, "height width 3"]:
    """Fit a plane to the surface around each pixel.

    Args:
        depth: z-depth in scene units.
        camera: The view, of the same size.

    Returns:
        Unit normals that face the camera, in its axes (x right, y down, z forward).
    """
    local = replace(camera, world_to_camera=torch.eye(4)[None].to(depth))
    points = unproject(depth, local)[0]
    side = max(depth.shape[-2:])
    radius = max(1, round(NORMAL_WINDOW * side / 256 / 2))
    right = _difference(points, radius, axis=1)
    down = _difference(points, radius, axis=0)
    normals = normalize(torch.linalg.cross(down, right), dim=-1)
    return normalize(_smooth(normals, radius // 2), dim=-1)


def _focal(cameras: Cameras) -> float:
    """Return the largest focal length in pixels."""
    return float(cameras.intrinsics[:, 0, 0].max())


def _smooth(values: Float[Tensor, "height width 3"], radius: int) -> Tensor:
    """Average over a square window."""
    if radius < 1:
        return values
    planes = pad(values.permute(2, 0, 1)[None], (radius,) * 4, mode="replicate")
    return avg_pool2d(planes, 2 * radius + 1, stride=1)[0].permute(1, 2, 0)


def _difference(
    points: Float[Tensor, "height width 3"], radius: int, axis: int
) -> Float[Tensor, "height width 3"]:
    """Differentiate points along an axis, on the side where the depth changes less.

    Args:
        points: The surface in axes of the camera.
        radius: Distance in pixels.
        axis: 0 for rows, 1 for columns.
    """
    planes = points.permute(2, 0, 1)[None]
    margins = (radius, radius, 0, 0) if axis == 1 else (0, 0, radius, radius)
    padded = pad(planes, margins, mode="replicate")[0].permute(1, 2, 0)
    count = points.shape[axis]
    ahead = padded.narrow(axis, 2 * radius, count) - points
    behind = points - padded.narrow(axis, 0, count)
    # A window across a step of depth would make a surface that is not there.
    tolerance = STEP_TOLERANCE * points[..., 2:].abs() + 1e-9
    weight_ahead = 1 / (ahead[..., 2:].abs() + tolerance).square()
    weight_behind = 1 / (behind[..., 2:].abs() + tolerance).square()
    at_end = torch.zeros(count, device=points.device)
    at_start = at_end.clone()
    at_end[-radius:] = 1
    at_start[:radius] = 1
    shape = (1, count, 1) if axis == 1 else (count, 1, 1)
    weight_ahead = weight_ahead * (1 - at_end.view(shape))
    weight_behind = weight_behind * (1 - at_start.view(shape))
    total = (weight_ahead + weight_behind).clamp(min=1e-12)
    return (weight_ahead * ahead + weight_behind * behind) / total


Painter = Callable[[Render, Cameras], Float[Tensor, "height width 3"]]
"""Makes the picture of one render."""


def _painter(kind: str, render: RenderFunction, gaussians: Gaussians, cameras: Cameras) -> Painter:
    """Return what makes pictures of a kind."""
    if kind == "color":
        return lambda result, _: result.rgb[0]
    if kind == "normal":
        return _paint_normals
    low, high = _inverse_depth_range(render, gaussians, cameras)
    import matplotlib

    colors = matplotlib.colormaps[DEPTH_COLORMAP](np.arange(256))[:, :3]
    table = torch.from_numpy(colors).float()

    def paint_depth(result: Render, _: Cameras) -> Float[Tensor, "height width 3"]:
        depth, opaque = _surface(result)
        nearness = (1 / depth.clamp(min=1e-6) - low) / max(high - low, 1e-12)
        index = (nearness.clamp(0, 1) * 255).round().long()
        return table[index] * opaque[..., None]

    return paint_depth


def _paint_normals(result: Render, camera: Cameras) -> Float[Tensor, "height width 3"]:
    """Color normals: red is right, green is up, blue is towards the camera."""
    depth, opaque = _surface(result)
    axes = torch.tensor([1.0, -1.0, -1.0])
    normals = normals_from_depth(depth[None], camera.to("cpu"))
    return (0.5 + 0.5 * axes * normals) * opaque[..., None]


def _surface(result: Render) -> tuple[Float[Tensor, "height width"], Bool[Tensor, "height width"]]:
    """Return the depth of one view, and where it has a surface, on the CPU."""
    return result.depth[0].cpu(), result.alpha[0].cpu() > OPAQUE


def _inverse_depth_range(
    render: RenderFunction, gaussians: Gaussians, cameras: Cameras
) -> tuple[float, float]:
    """Measure the range of inverse depths over a film."""
    step = max(1, len(cameras) // RANGE_VIEWS)
    factor = min(1.0, RANGE_SIDE / max(cameras.width, cameras.height))
    small = cameras[::step].resized(
        max(1, round(factor * cameras.width)), max(1, round(factor * cameras.height))
    )
    values = []
    for view in range(len(small)):
        depth, opaque = _surface(render(gaussians, small[view]))
        values.append(1 / depth[opaque].clamp(min=1e-6))
    inverse = torch.cat(values)
    if len(inverse) == 0:
        return 0.0, 1.0
    low, high = inverse.quantile(torch.tensor(DEPTH_QUANTILES)).tolist()
    return low, high
