"""The Gaussians that a fit starts from."""

from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from scipy.spatial import cKDTree  # pyright: ignore[reportAttributeAccessIssue]
from torch import Tensor

from lift.geometry import unproject
from lift.multiview.depth_alignment import MIN_CONFIDENCE
from lift.registry import ComponentError
from lift.training.splats import initialise, round_gaussians
from lift.types import Frames, Gaussians, PointCloud, Reconstruction

NEIGHBOURS = 3
"""Number of nearest points whose distance is a Gaussian's size, as in 3DGS."""

_MIN_SCALE = 1e-4
"""Smallest standard deviation, relative to the median. Points may have the same position."""


def initial_gaussians(
    frames: Frames,
    reconstruction: Reconstruction,
    settings: Any,
    device: torch.device | str = "cpu",
) -> Gaussians:
    """Return the Gaussians that the settings choose, on the CPU.

    Args:
        frames: All frames, the input first.
        reconstruction: Their cameras, depth and points.
        settings: Settings `fit` of the configuration, without null.
        device: Device on which voxels are counted.

    Raises:
        ComponentError: There are too few points for the settings.
    """
    init = settings.init
    count = settings.initial_gaussians
    by_neighbours = init.scales == "neighbours"
    if init.points == "input":
        points = input_points(frames, reconstruction, count)
        if by_neighbours:
            scales = neighbour_distances(points.points)
            return round_gaussians(points, scales, settings.sh_degree, init.opacity)
        reconstruction = replace(reconstruction, points=points)
    gaussians = initialise(reconstruction, count, settings.sh_degree, device, init.opacity)
    if by_neighbours:
        scales = neighbour_distances(gaussians.means)
        return replace(gaussians, scales=scales[:, None].repeat(1, 3))
    return gaussians


def input_points(frames: Frames, reconstruction: Reconstruction, count: int) -> PointCloud:
    """Return the points of an even grid of the input's pixels, where their depth is known.

    Args:
        frames: All frames, the input first.
        reconstruction: Their cameras and depth.
        count: Largest number of pixels.

    Raises:
        ComponentError: The depth of no pixel of the grid is known.
    """
    height, width = frames.images.shape[1:3]
    scale = min(1.0, (count / (height * width)) ** 0.5)
    columns = max(1, round(scale * width))
    rows = max(1, min(round(scale * height), count // columns))
    row, column = (
        ((torch.arange(number) + 0.5) * full / number).long()
        for number, full in ((rows, height), (columns, width))
    )
    row = row[:, None]
    depth = reconstruction.depth[:1].cpu()
    confident = reconstruction.confidence[0].cpu() >= MIN_CONFIDENCE
    known = ((depth[0] > 0) & confident)[row, column]
    if not known.any():
        raise ComponentError(
            f"fit.init.points is 'input', but none of the {len(known)} pixels that "
            "fit.initial_gaussians leaves of the input has a confident depth; choose all, or more "
            "Gaussians"
        )
    points = unproject(depth, reconstruction.cameras[0].to("cpu"))[0][row, column][known]
    colors = frames.images[0].cpu()[row, column][known].float() / 255
    return PointCloud(points, colors)


def neighbour_distances(points: Float[Tensor, "point 3"]) -> Float[Tensor, "point"]:
    """Return the root mean square distance of each point to its three nearest ones.

    Args:
        points: Positions on the CPU.

    Raises:
        ComponentError: There are fewer than four points, or all have one position.
    """
    if len(points) <= NEIGHBOURS:
        raise ComponentError(
            f"fit.init.scales is 'neighbours', which needs {NEIGHBOURS + 1} points, and there are "
            f"{len(points)}; choose voxels"
        )
    positions = points.numpy()
    threads = torch.get_num_threads()
    found = cKDTree(positions).query(positions, NEIGHBOURS + 1, workers=threads)
    distances = torch.from_numpy(found[0][:, 1:])
    scales = distances.square().mean(-1).sqrt().float()
    smallest = _MIN_SCALE * float(scales.median())
    if not smallest > 0:
        raise ComponentError(
            "fit.init.scales is 'neighbours', but most points have a neighbour at the same "
            "position; choose voxels"
        )
    return scales.clamp(min=smallest)
