"""A compact field of motion: few shapes in space, a few numbers a frame that mix them."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import grid_sample

from lift.distortions import Distortion, deformed, distortions
from lift.types import Gaussians, Trajectory


@distortions.register("field")
class Field(Distortion):
    """The scene itself had moved: Gaussians are shifted, turned and scaled by a smooth field, low-rank over frames.

    A frame's field is a sum of `rank` shapes, shared by all frames, with weights of its own. A shape is a grid over the input view's
    frustum (across, down, inverse depth), three-linear between nodes, so that near and far, where the picture shows it finely, it is fine
    as well. Looking the shapes up costs once a step, whatever the number of views. Settings:
    - rank: shapes; cells: of the grid across and down, half as many in depth;
    - learning_rate: of nodes (motion in units of the scene's typical depth; turns in radians; logarithms of scales) and weights;
    - weight: of the penalty, the mean square of the weights times that of the nodes, in hundredths; smoothness: of nodes' differences.
    """

    def __init__(
        self,
        rank: int = 12,
        cells: int = 12,
        learning_rate: float = 1e-3,
        weight: float = 0.1,
        smoothness: float = 0.1,
        *,
        num_views: int,
        extent: float,
        trajectory: Trajectory,
    ) -> None:
        super().__init__()
        for key, value, least in (("rank", rank, 1), ("cells", cells, 2)):
            if value < least:
                raise ValueError(f"distortion.{key} is {value}; choose {least} or more")
        self.learning_rate, self.weight, self.smoothness, self.extent = (
            learning_rate,
            weight,
            smoothness,
            extent,
        )
        self.shapes = nn.Parameter(torch.zeros(rank * 9, cells // 2 + 1, cells + 1, cells + 1))
        rng = torch.Generator().manual_seed(0)
        self.mixing = nn.Parameter(torch.randn(num_views, rank, generator=rng) / rank**0.5)
        """Random to begin with: were weights and shapes both zero, neither would have a gradient."""
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
        mixing = (view > 0).to(self.mixing.dtype)[:, None] * self.mixing[view]
        shapes = self.looked_up(
            gaussians.means.detach()
        )  # where a Gaussian is does not follow from how the field bends it
        if shapes.ndim == 3:
            motion, turn, growth = (
                (mixing @ shapes.flatten(1)).view(len(view), -1, 9).split(3, dim=-1)
            )
        else:
            motion, turn, growth = torch.einsum("vr,vrgc->vgc", mixing, shapes).split(3, dim=-1)
        quats = gaussians.quats.expand(*motion.shape[:-1], 4)
        return deformed(gaussians, self.extent * motion, _turned(quats, turn), growth)

    def interpolate_frames(self, weights: Float[Tensor, "view view"]) -> None:
        """Replace the weights of the shapes of every frame by a weighted sum over frames.

        Args:
            weights: As for `lift.distortions.neighbours.PerFrameNumbers`.
        """
        mixing = self.mixing.clone()
        mixing[0] = 0  # the input shows no shape
        self.mixing.copy_(weights.to(mixing) @ mixing)

    def looked_up(
        self, means: Float[Tensor, "*view gaussian 3"]
    ) -> Float[Tensor, "*view rank gaussian 9"]:
        """The shapes' values."""
        local = means @ self.input_view[:3, :3].T + self.input_view[:3, 3]
        z = local[..., 2:].clamp(min=0.05 * self.extent)
        across = (
            local[..., :2] / z * self.focal
        ) / 1.5  # a picture and a quarter of one beyond each border
        inverse = 1 - self.extent / z  # -1 at half the typical depth, 1 at infinity
        at = torch.cat([across, inverse], dim=-1).clamp(-1, 1)
        found = grid_sample(
            self.shapes[None].expand(1, -1, -1, -1, -1),
            at.reshape(1, 1, 1, -1, 3),
            align_corners=True,
        )
        found = found.view(-1, 9, *means.shape[:-1]).movedim(1, -1)
        return found if means.ndim == 2 else found.movedim(0, 1)

    def penalty(self) -> Float[Tensor, ""]:
        size = (
            self.shapes.square().mean()
            * self.mixing[1:].square().sum()
            / max(1, self.mixing[1:].numel())
        )
        rough = sum(self.shapes.diff(dim=axis).square().mean() for axis in (1, 2, 3))
        return 1e4 * (self.weight * size + self.smoothness * rough)


def _turned(quats: Float[Tensor, "*n 4"], vector: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 4"]:
    """What turning by a small rotation vector adds to unit quaternions w x y z: half the product of both."""
    w, axis = quats[..., :1], quats[..., 1:]
    return 0.5 * torch.cat(
        [
            -(vector * axis).sum(-1, keepdim=True),
            w * vector + torch.linalg.cross(vector, axis.expand_as(vector)),
        ],
        dim=-1,
    )
