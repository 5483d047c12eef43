"""The field of offsets that LiftImage3D uses, in a corrected form and as released."""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lift.distortions import Distortion, deform, distortions
from lift.distortions.parameters.planes import (
    SCENE_HALF_SIZE,
    FramePlanes,
    TreePlanes,
    released_unit,
    tree_codes,
)
from lift.geometry import inside, project
from lift.registry.ranges import LearningRate, Weight
from lift.types import Gaussians, PointCloud, Trajectory

COARSE_FRACTION = 3000 / 17_000
"""Fraction of the steps of the released fit in which nothing is deformed yet."""


@distortions.register("hexplane")
class HexPlane(Distortion):
    """Deform Gaussians by feature planes over pairs of axes, as LiftImage3D does.

    Offsets of each Gaussian's position, scale and rotation come from three levels of planes with
    sixteen channels. By default the planes are over pairs of x, y, z. For each of x, y, z a frame
    has a row of its own, which starts as ones, is pulled there and is kept smooth along space.
    The heads of the network start at zero.

    Args:
        as_released: Use the field of LiftImage3D instead, defects included. It has five
            coordinates, of which two are the frame's coordinates in the tree of clips. Several
            frames may have the same ones. Heads start at random, planes are regularised as if
            there were four coordinates, and only a penalty keeps the input view at the canonical
            scene. It therefore does not start as the identity. It acts after 3/17 of the steps,
            even if `fit.canonical_steps` is less, and needs clips that go right, left, up or down.
            All planes are interpolated for every Gaussian and view.
        learning_rate: Learning rate of the planes, in a scene of +-10 units; the network's is a
            tenth.
        smoothness: Weight of the mean squared second difference of the frames' rows. As released
            it is not used: the released weights are fixed.
        l1_time_planes: Weight of the mean absolute distance of the frames' rows from one. As
            released it is not used, either.
        num_views: Number of frames, the input included.
        trajectory: The tree of clips, with the cameras of the frames.
        points: The points that the frames show. Their bounds are those of the planes. As released,
            these are the bounds of the points in the input's picture.

    Reference:
        HexPlane (Cao and Johnson, CVPR 2023) and K-Planes (Fridovich-Keil et al., CVPR 2023), as
        4DGS (Wu et al., CVPR 2024) deforms Gaussians with them. LiftImage3D: arXiv 2412.09597.
    """

    planes: FramePlanes | TreePlanes

    def __init__(
        self,
        as_released: bool = False,
        learning_rate: LearningRate = 1.6e-3,
        smoothness: Weight = 2e-4,
        l1_time_planes: Weight = 1e-3,
        *,
        num_views: int,
        trajectory: Trajectory,
        points: PointCloud,
    ) -> None:
        super().__init__()
        self.learning_rate = learning_rate
        self.as_released = as_released
        self.keeps_input = not as_released
        shown = _input_points(points, trajectory) if as_released else points.points
        low = shown.amin(0)
        high = shown.amax(0)
        self.unit = (
            released_unit(points)
            if as_released
            else float((high - low).max()) / 2 / SCENE_HALF_SIZE
        )
        centers = trajectory.cameras.centers
        self.path_radius = max(
            1.1 * float((centers - centers.mean(0)).norm(dim=-1).max()) / self.unit, 1e-3
        )
        """Radius of the camera path in units of the released scene; a factor of the rates."""
        self.codes = tree_codes(trajectory) if as_released else []
        self.planes = (
            TreePlanes(low, high, "plain")
            if as_released
            else FramePlanes(low, high, num_views, smoothness, l1_time_planes)
        )
        self._input_penalty: Tensor | None = None

    def gaussians(self, gaussians: Gaussians, view: Int[Tensor, "view"]) -> Gaussians:
        """Move, turn and scale the Gaussians.

        Args:
            gaussians: The scene, shared by the views or one set a view.
            view: Indices of the frames; 0 is the input.

        Returns:
            The deformed scene, one set a view.
        """
        if self.as_released and self.progress < COARSE_FRACTION:
            return gaussians
        shared = gaussians.means.ndim == 2
        means = (
            gaussians.means[None].expand(len(view), -1, -1) if shared else gaussians.means
        ).unbind(0)
        if isinstance(self.planes, TreePlanes):
            offsets = [
                self.planes(mean, [self.codes[index]])[0]
                for mean, index in zip(means, view.tolist(), strict=False)
            ]
            last = offsets[-1]
            self._input_penalty = (
                last[0].square().mean() + last[1].abs().mean() + last[2].abs().mean()
                if int(view[-1]) == 0
                else None
            )
            positions, log_scales, quats = (
                torch.stack(parts) for parts in zip(*offsets, strict=False)
            )
        else:
            offsets = (
                self.planes(means[0], view)
                if shared
                else [
                    self.planes(mean, index[None])[0]
                    for mean, index in zip(means, view, strict=False)
                ]
            )
            generated = (view > 0).to(gaussians.means.dtype)[:, None, None]
            positions, log_scales, quats = (
                generated * torch.stack(parts) for parts in zip(*offsets, strict=False)
            )
        return deform(gaussians, self.unit * positions, quats, log_scales)

    def penalty(self) -> Float[Tensor, ""]:
        """Return the planes' penalty; as released, plus that of the input view."""
        if self.as_released and self.progress < COARSE_FRACTION:
            return super().penalty()
        total = self.planes.penalty()
        input_penalty = self._input_penalty
        self._input_penalty = None
        return total if input_penalty is None else total + input_penalty

    def groups(self) -> Iterator[dict[str, Any]]:
        """Yield one group for the planes and one for the network."""
        network = [*self.planes.trunk.parameters(), *self.planes.heads.parameters()]
        in_network = {id(parameter) for parameter in network}
        rate = self.learning_rate * self.path_radius
        planes = [parameter for parameter in self.parameters() if id(parameter) not in in_network]
        yield {"params": planes, "lr": rate}
        yield {"params": network, "lr": rate / 10}


def _input_points(points: PointCloud, trajectory: Trajectory) -> Float[Tensor, "point 3"]:
    """Return the positions of the points in the input's picture, or of all if there are none."""
    pixels, depth = project(points.points, trajectory.start)
    shown = inside(pixels[0], trajectory.start) & (depth[0] > 0)
    return points.points[shown] if shown.any() else points.points
