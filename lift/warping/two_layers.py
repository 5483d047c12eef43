"""Gaussians straight from one depth map: the picture, and what lies behind its depth edges.

The picture layer has one Gaussian a pixel. It lies in the surface that the depth describes, and
covers its pixel in the input view. The second layer continues the background behind the near side
of each depth edge, as far as moderate motion can look behind it. It also continues the scene
beyond the picture's border.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from lift import spherical_harmonics
from lift.depths.edges import local_extremes
from lift.geometry import inverse_intrinsics, rotation_to_quat
from lift.types import Cameras, Depth, Gaussians
from lift.warping.backend import CPU_BACKEND, WarpingBackend

EDGE_THRESHOLD = 0.04
"""Step of inverse depth between neighbouring pixels that is a depth edge, in 1 / typical depth."""

PIXEL_SIGMA = 0.33
"""Standard deviation of a Gaussian of the picture, in pixels. A larger one blurs the input view."""

EDGE_SIGMA = 0.42
"""The same beside depth edges, where no coarser Gaussians close the gaps in a magnified view."""

COVER_SIGMA = 0.7
"""Standard deviation of Gaussians that hide everything behind them, in units of their distance."""

COVER_STRIDE = 2
"""Distance in pixels between the Gaussians that close the gaps of the picture layer."""

MOTION = 0.35
"""Sideways motion that the second layer allows for, as a fraction of the typical depth.

Two cameras that look at the typical depth from directions 20 degrees apart have this distance.
"""

MARGIN = 0.33
"""Width of the border beyond the picture, as a fraction of its longer side."""

MARGIN_STRIDE = 2
"""Distance in pixels between the Gaussians beyond the border."""

BACKDROP_STRIDE = 16
"""Distance in pixels between the Gaussians of the backdrop. A multiple of `MARGIN_STRIDE`."""

BACKDROP_MARGIN = 0.25
"""Width of the backdrop beyond the border, as a fraction of its longer side."""

BEHIND = 0.02
"""Relative depth by which the second layer lies behind the picture layer at least."""

BORDER_BEHIND = 0.004
"""The same for the continuation of the picture, which joins its border."""

MAX_STRETCH = 6.0
"""Largest length of a Gaussian on a slanted surface, in lengths of one that faces the camera."""

FLATNESS = 0.1
"""Thickness of a Gaussian, as a fraction of its width when it faces the camera."""

OPACITY = 0.995
"""Opacity of all Gaussians."""


@dataclass(frozen=True)
class Layer:
    """A grid of Gaussians as the input view shows it."""

    rgb: np.ndarray
    """Colours in 0..255, [row, column, 3] float32."""
    inverse: np.ndarray
    """Inverse depth in 1 / typical depth, above 0, [row, column] float32."""
    mask: np.ndarray
    """Places of the grid that have a Gaussian, [row, column]."""
    stride: int = 1
    """Distance between places in pixels."""
    margin: int = 0
    """Width in pixels of the border beyond the picture that the grid has on each side."""
    sigma: np.ndarray | float = COVER_SIGMA
    """Standard deviation in units of `stride`, [row, column] float32 or one for all."""


def two_layers(
    rgb: np.ndarray, depth: Depth, camera: Cameras, backend: WarpingBackend = CPU_BACKEND
) -> list[Layer]:
    """Split a picture into layers.

    Args:
        rgb: Colours of the picture, [height, width, 3] uint8.
        depth: Depth of the picture.
        camera: Camera of the picture, one view.
        backend: Functions that fill and continue the picture.

    Returns:
        The picture, a coarse copy that closes its gaps in magnified views, what is behind its
        depth edges, what is beyond its border, and a backdrop.
    """
    inverse = depth.typical / backend.to_tensor(backend.close_gaps(depth)).numpy()
    inverse = inverse.astype(np.float32)
    low, high = local_extremes(inverse, 1)
    at_edge = cv2.dilate((high - low > EDGE_THRESHOLD).astype(np.uint8), _square(1)) > 0
    sigma = np.where(at_edge, EDGE_SIGMA, PIXEL_SIGMA).astype(np.float32)
    everywhere = np.ones(inverse.shape, bool)
    picture = Layer(rgb.astype(np.float32), inverse, everywhere, sigma=sigma)
    border = beyond_border(picture, backend)
    return [
        picture,
        _coarse_copy(picture, at_edge),
        behind_edges(picture, camera, backend),
        border,
        backdrop(border),
    ]


def _coarse_copy(picture: Layer, at_edge: np.ndarray) -> Layer:
    """Return a coarse copy just behind a picture, without the places at depth edges."""
    height, width = picture.inverse.shape
    size = (width // COVER_STRIDE, height // COVER_STRIDE)
    # On a slanted surface, a wide Gaussian must not be in front of its neighbours' pixels.
    behind = local_extremes(picture.inverse, COVER_STRIDE)[0]
    rgb, inverse, edge = (
        cv2.resize(values, size, interpolation=cv2.INTER_AREA)
        for values in (picture.rgb, behind, at_edge.astype(np.float32))
    )
    return Layer(rgb, (1 - BORDER_BEHIND) * inverse, edge == 0, COVER_STRIDE)


def behind_edges(picture: Layer, camera: Cameras, backend: WarpingBackend = CPU_BACKEND) -> Layer:
    """Continue the background behind depth edges, as far as `MOTION` can look behind them.

    Args:
        picture: The picture layer.
        camera: Its camera, one view.
        backend: Functions that fill the holes.

    Returns:
        A layer of the same size.
    """
    inverse = picture.inverse
    step = 1 / (MOTION * float(camera.intrinsics[0, 0, 0]))
    envelope = _cone_erosion(inverse, step)
    hole = inverse - envelope > EDGE_THRESHOLD
    if not hole.any() or hole.all():
        return Layer(picture.rgb, inverse, np.zeros_like(hole))
    # Beside a hole, what is much nearer than the hole's background is foreground.
    beside = cv2.erode(np.where(hole, envelope, np.inf).astype(np.float32), _square(1))
    front = ~hole & (inverse > beside + EDGE_THRESHOLD / 2)
    rgb, filled = backend.on_arrays(
        backend.fill_behind, picture.rgb, inverse, hole, front, "smooth"
    )
    rgb = rgb.astype(np.float32)
    rgb = backend.on_arrays(backend.fill_with_network, rgb, filled, hole)
    return Layer(rgb, np.minimum(filled, (1 - BEHIND) * inverse).astype(np.float32), hole)


def beyond_border(picture: Layer, backend: WarpingBackend = CPU_BACKEND) -> Layer:
    """Continue the picture beyond its border.

    Args:
        picture: The picture layer.
        backend: Functions that continue the picture.

    Returns:
        A coarser layer with a margin. Its Gaussians are in the margin, and in one line of places
        behind the picture's border.
    """
    height, width = picture.inverse.shape
    rows = -(-height // MARGIN_STRIDE)
    columns = -(-width // MARGIN_STRIDE)
    margin = min(round(MARGIN * max(rows, columns)), (min(rows, columns) - 1) // 2)
    behind = local_extremes(picture.inverse, MARGIN_STRIDE)[0]
    rgb, inverse = (
        cv2.resize(values, (columns, rows), interpolation=cv2.INTER_AREA)
        for values in (picture.rgb, behind)
    )
    image, depth = backend.on_arrays(
        backend.extend_picture, np.rint(rgb).astype(np.uint8), 1 / inverse, margin
    )
    mask = np.ones(depth.shape, bool)
    mask[margin + 1 : margin + rows - 1, margin + 1 : margin + columns - 1] = False
    inverse = ((1 - BORDER_BEHIND) / depth).astype(np.float32)
    return Layer(image.astype(np.float32), inverse, mask, MARGIN_STRIDE, margin * MARGIN_STRIDE)


def backdrop(border: Layer) -> Layer:
    """Return blurred Gaussians behind everything, so that no view has black holes.

    Args:
        border: The layer of `beyond_border`. Its mask is not used.

    Returns:
        A layer with a wider margin.
    """
    factor = BACKDROP_STRIDE // border.stride
    rows, columns = border.inverse.shape
    pad = [(0, -rows % factor + factor), (0, -columns % factor + factor)]
    inverse = np.pad(border.inverse, pad, mode="edge")
    # The background has more weight in the colour than what is in front of it.
    behind = local_extremes(inverse, 2 * factor)[0]
    weight = (EDGE_THRESHOLD / (EDGE_THRESHOLD + inverse - behind)) ** 2
    values = np.concatenate(
        [np.pad(border.rgb, [*pad, (0, 0)], mode="edge") * weight[..., None], weight[..., None]], -1
    )
    size = (inverse.shape[1] // factor, inverse.shape[0] // factor)
    small = cv2.resize(values.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    behind = cv2.resize(behind, size, interpolation=cv2.INTER_NEAREST)
    cells = round(BACKDROP_MARGIN * max(size))
    rgb = np.pad(small[..., :3] / small[..., 3:], [(cells, cells)] * 2 + [(0, 0)], mode="edge")
    far = (1 - BEHIND) * local_extremes(np.pad(behind, cells, mode="edge"), 1)[0]
    margin = border.margin + cells * BACKDROP_STRIDE
    return Layer(rgb, far, np.ones(far.shape, bool), BACKDROP_STRIDE, margin)


def layer_gaussians(
    layer: Layer, camera: Cameras, unit: float, device: torch.device | str = "cpu"
) -> Gaussians:
    """Return one Gaussian of degree 0 for each place of a layer, row by row.

    Args:
        layer: The layer.
        camera: Camera of the picture, one view.
        unit: Typical depth of the scene, in its unit of length.
        device: Device of the Gaussians.
    """
    mask, inverse, colors = (
        torch.from_numpy(values).to(device) for values in (layer.mask, layer.inverse, layer.rgb)
    )
    place = mask.nonzero()
    rows, columns = place.unbind(1)
    slopes = torch.stack(_slopes(inverse), -1)[rows, columns]
    inverse = inverse[rows, columns]
    colors = colors[rows, columns].clamp(0, 255) / 255
    sigma = torch.as_tensor(layer.sigma, dtype=torch.float32).to(device)
    sigma = sigma.expand(layer.mask.shape)[rows, columns]
    pixels = (place.flip(1) + 0.5) * layer.stride - layer.margin
    z = unit / inverse
    camera = camera.to(torch.float32).to(device)
    to_ray = inverse_intrinsics(camera)[0]
    rays = torch.cat([pixels, torch.ones_like(z)[:, None]], 1) @ to_ray.T
    # How far the surface moves when the pixel moves by one place, along the rows and the columns.
    facing = z[:, None] * to_ray[:, :2].norm(dim=0) * layer.stride
    change = -z[:, None] / inverse[:, None] * slopes
    change = change.clamp(-MAX_STRETCH * facing, MAX_STRETCH * facing)
    tangents = (
        z[:, None, None] * layer.stride * to_ray[:, :2] + rays[..., None] * change[:, None]
    ) * sigma[:, None, None]
    rotation, lengths = _principal_axes(tangents)
    thickness = FLATNESS * (sigma * facing.mean(1))[:, None]
    to_world = camera.camera_to_world[0]
    means = (rays * z[:, None]) @ to_world[:3, :3].T + to_world[:3, 3]
    return Gaussians(
        means,
        rotation_to_quat(to_world[:3, :3] @ rotation),
        torch.cat([lengths, thickness], 1),
        torch.full_like(z, OPACITY),
        spherical_harmonics.from_rgb(colors)[:, None],
    )


def _principal_axes(
    tangents: Float[Tensor, "gaussian 3 2"],
) -> tuple[Float[Tensor, "gaussian 3 3"], Float[Tensor, "gaussian 2"]]:
    """Return axes and standard deviations of flat Gaussians, in closed form.

    Args:
        tangents: Two vectors whose outer products add up to the covariance.

    Returns:
        Rotations whose columns are the axes, the normal last; and the lengths of the first two.
    """
    a = tangents[:, :, 0].square().sum(1)
    b = (tangents[:, :, 0] * tangents[:, :, 1]).sum(1)
    c = tangents[:, :, 1].square().sum(1)
    angle = 0.5 * torch.atan2(2 * b, a - c)
    cosine = angle.cos()[:, None]
    sine = angle.sin()[:, None]
    first = cosine * tangents[:, :, 0] + sine * tangents[:, :, 1]
    second = cosine * tangents[:, :, 1] - sine * tangents[:, :, 0]
    lengths = torch.stack([first.norm(dim=1), second.norm(dim=1)], 1).clamp(min=1e-12)
    first = first / lengths[:, :1]
    second = second / lengths[:, 1:]
    return torch.stack([first, second, torch.linalg.cross(first, second)], -1), lengths


def _slopes(
    inverse: Float[Tensor, "row column"],
) -> tuple[Float[Tensor, "row column"], Float[Tensor, "row column"]]:
    """Return the changes of inverse depth along rows and columns, on this side of depth edges."""
    slopes = []
    for axis in (1, 0):
        step = inverse.diff(dim=axis)
        is_smooth = step.abs() <= EDGE_THRESHOLD
        step = step.where(is_smooth, 0)
        before, after = ((1, 0), (0, 1)) if axis == 1 else ((0, 0, 1, 0), (0, 0, 0, 1))
        count = pad(is_smooth.float(), before) + pad(is_smooth.float(), after)
        slopes.append((pad(step, before) + pad(step, after)) / count.clamp(min=1))
    return slopes[0], slopes[1]


def _cone_erosion(values: np.ndarray, step: float) -> np.ndarray:
    """Return the largest function below some values that rises by at most `step` a pixel."""
    out = values
    limit = int(np.ptp(values) / step) + 1
    for _ in range(min(limit, max(values.shape))):
        lower = np.minimum(out, cv2.erode(out, _square(1)) + np.float32(step))
        if np.array_equal(lower, out):
            break
        out = lower
    return out


def _square(radius: int) -> np.ndarray:
    """Return the kernel of a square window."""
    return np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)
