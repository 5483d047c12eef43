"""A compact motion field: a few shapes in space, mixed by a few numbers a frame."""

from typing import Annotated

import torch
from annotated_types import Interval
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import grid_sample

from lift.distortions import Distortion, deform, distortions
from lift.registry.ranges import LearningRate, Weight
from lift.types import Gaussians, Trajectory


@distortions.register("field")
class Field(Distortion):
    """Move, turn and scale Gaussians by a smooth field that is low-rank over frames.

    A frame's field is a sum of `rank` shapes, which all frames share, with weights of the frame.
    A shape is a trilinear grid over the input view's frustum: across, down and inverse depth.
    Near parts, which the picture shows in fine detail, therefore have a finer grid. The shapes
    are interpolated once a step, whatever the number of views.

    Args:
        rank: Number of shapes.
        cells: Number of cells of the grid across and down; it has half as many in depth.
        learning_rate: Learning rate of the nodes and the weights. Nodes hold translations in
            units of the scene's typical depth, rotations in radians and logarithms of scales.
        weight: Weight of the penalty on the mean square of the weights times that of the nodes,
            in hundredths.
        smoothness: Weight of the penalty on differences between neighbouring nodes.
        num_views: Number of frames, the input included.
        extent: The scene's typical depth.
        trajectory: The tree of clips.

    Raises:
        ValueError: If `rank` is below 1 or `cells` below 2.
    """

    input_view: Tensor
    """[4 4], world to camera of the input."""
    focal: Tensor
    """[2], focal lengths of the input in half picture sizes."""

    replayable = True

    def __init__(
        self,
        rank: Annotated[int, Interval(ge=1, le=128)] = 12,
        cells: Annotated[int, Interval(ge=2, le=64)] = 12,
        learning_rate: LearningRate = 1e-3,
        weight: Weight = 0.1,
        smoothness: Weight = 0.1,
        *,
        num_views: int,
        extent: float,
        trajectory: Trajectory,
    ) -> None:
        super().__init__()
        self.learning_rate = learning_rate
        self.weight = weight
        self.smoothness = smoothness
        self.extent = extent
        self.shapes = nn.Parameter(torch.zeros(rank * 9, cells // 2 + 1, cells + 1, cells + 1))
        rng = torch.Generator().manual_seed(0)
        # Random, because neither would have a gradient if weights and shapes were both zero.
        self.mixing = nn.Parameter(torch.randn(num_views, rank, generator=rng) / rank**0.5)
        start = trajectory.start
        self.register_buffer("input_view", start.world_to_camera[0].clone(), persistent=False)
        focal = torch.stack(
            [
                2 * start.intrinsics[0, 0, 0] / start.width,
                2 * start.intrinsics[0, 1, 1] / start.height,
            ]
        )
        self.register_buffer("focal", focal, persistent=False)

    def gaussians(self, gaussians: Gaussians, view: Int[Tensor, "view"]) -> Gaussians:
        """Move, turn and scale the Gaussians.

        Args:
            gaussians: The scene, shared by the views or one set a view.
            view: Indices of the frames; 0 is the input.

        Returns:
            The deformed scene, one set a view.
        """
        mixing = (view > 0).to(self.mixing.dtype)[:, None] * self.mixing[view]
        # A Gaussian's position gets no gradient from how the field deforms it.
        shapes = self.interpolate_shapes(gaussians.means.detach())
        if shapes.ndim == 3:
            offsets = (mixing @ shapes.flatten(1)).view(len(view), -1, 9)
        else:
            offsets = torch.einsum("vr,vrgc->vgc", mixing, shapes)
        translations, rotations, log_scales = offsets.split(3, dim=-1)
        quats = gaussians.quats.expand(*translations.shape[:-1], 4)
        return deform(
            gaussians, self.extent * translations, _quat_offsets(quats, rotations), log_scales
        )

    def interpolate_frames(self, weights: Float[Tensor, "view view"]) -> None:
        """Replace the weights of the shapes of every frame by a weighted sum over frames.

        Args:
            weights: As for `lift.distortions.parameters.neighbours.PerFrameNumbers`.
        """
        mixing = self.mixing.clone()
        mixing[0] = 0  # the input shows no shape
        self.mixing.copy_(weights.to(mixing) @ mixing)

    def interpolate_shapes(
        self, means: Float[Tensor, "*view gaussian 3"]
    ) -> Float[Tensor, "*view rank gaussian 9"]:
        """Interpolate the shapes at positions.

        Args:
            means: Positions in the world.

        Returns:
            Translation, rotation and logarithm of scale of each shape at each position.
        """
        local = means @ self.input_view[:3, :3].T + self.input_view[:3, 3]
        z = local[..., 2:].clamp(min=0.05 * self.extent)
        # The grid spans the picture and a quarter of its size beyond each border.
        across = (local[..., :2] / z * self.focal) / 1.5
        inverse = 1 - self.extent / z  # -1 at half the typical depth, 1 at infinity
        position = torch.cat([across, inverse], dim=-1).clamp(-1, 1)
        samples = grid_sample(
            self.shapes[None].expand(1, -1, -1, -1, -1),
            position.reshape(1, 1, 1, -1, 3),
            align_corners=True,
        )
        samples = samples.view(-1, 9, *means.shape[:-1]).movedim(1, -1)
        return samples if means.ndim == 2 else samples.movedim(0, 1)

    def penalty(self) -> Float[Tensor, ""]:
        """Return the weighted size and roughness of the field."""
        size = (
            self.shapes.square().mean()
            * self.mixing[1:].square().sum()
            / max(1, self.mixing[1:].numel())
        )
        roughness = sum(self.shapes.diff(dim=axis).square().mean() for axis in (1, 2, 3))
        return 1e4 * (self.weight * size + self.smoothness * roughness)


def _quat_offsets(
    quats: Float[Tensor, "*n 4"], rotations: Float[Tensor, "*n 3"]
) -> Float[Tensor, "*n 4"]:
    """Return what small rotation vectors add to unit quaternions w x y z: half their product."""
    w = quats[..., :1]
    axis = quats[..., 1:]
    return 0.5 * torch.cat(
        [
            -(rotations * axis).sum(-1, keepdim=True),
            w * rotations + torch.linalg.cross(rotations, axis.expand_as(rotations)),
        ],
        dim=-1,
    )
