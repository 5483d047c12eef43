"""Fields of offsets: products of feature planes over pairs of coordinates, and a network."""

from collections.abc import Iterable, Sequence
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import grid_sample

from lift.camera_paths import DIRECTIONS
from lift.registry import ComponentError
from lift.types import PointCloud, Trajectory

SCENE_HALF_SIZE = 10.0
"""Half the side of the cube that the released code of LiftImage3D scales a scene to.

The released learning rates and penalties are meant for this size.
"""

PAIRS = ((0, 1), (0, 2), (0, 3), (0, 4), (1, 2), (1, 3), (1, 4), (2, 3), (2, 4), (3, 4))
"""The planes of a level by their two coordinates, out of x, y, z, u, v."""

LEVELS = (1, 2, 4)
"""Factors of the resolution of each level."""

CHANNELS = 16
"""Number of features of a plane."""

RESOLUTION = 64
"""Number of nodes along a side of a plane at the coarsest level."""

HIDDEN_WIDTH = 128
"""Number of hidden units of the network."""

HEAD_WIDTHS = (3, 3, 4)
"""Number of outputs of each head: offsets of position, logarithm of scale, quaternion."""

Offsets = tuple[
    Float[Tensor, "gaussian 3"], Float[Tensor, "gaussian 3"], Float[Tensor, "gaussian 4"]
]
"""Offsets of position, logarithm of scale and quaternion."""

Codes = Sequence[tuple[float, float]]
"""(u, v) of each view, see `tree_codes`."""


class FramePlanes(nn.Module):
    """Offsets as a function of position and frame.

    A level has three planes over pairs of x, y, z, and for each frame one row of features along
    each of x, y, z. Their product is the input of the network.

    Args:
        low: Lower corner of the scene, [3]. Beyond the corners the border's values hold.
        high: Upper corner of the scene, [3].
        num_views: Number of frames, the input included.
        smoothness: Weight of the mean squared second difference of the frames' rows.
        l1_time_planes: Weight of the mean absolute distance of the frames' rows from one.
    """

    low: Tensor
    high: Tensor

    def __init__(
        self,
        low: Tensor,
        high: Tensor,
        num_views: int,
        smoothness: float,
        l1_time_planes: float,
    ) -> None:
        super().__init__()
        self.smoothness = smoothness
        self.l1_time_planes = l1_time_planes
        self.register_buffer("low", low, persistent=False)
        self.register_buffer("high", high, persistent=False)
        sides = [RESOLUTION * level for level in LEVELS]
        self.planes = nn.ParameterList(
            torch.empty(3, CHANNELS, side, side).uniform_(0.1, 0.5) for side in sides
        )
        self.rows = nn.ParameterList(torch.ones(num_views, 3 * CHANNELS, side) for side in sides)
        self.trunk, self.heads = _network()
        for head in cast("Iterable[nn.Sequential]", self.heads):
            last = cast("nn.Linear", head[-1])
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(
        self, means: Float[Tensor, "gaussian 3"], view: Int[Tensor, "view"]
    ) -> list[Offsets]:
        """Return the offsets of Gaussians in some frames.

        Args:
            means: Positions of the Gaussians in the world.
            view: Indices of the frames; 0 is the input.

        Returns:
            Offsets, one tuple a view.
        """
        position = (2 * (means - self.low) / (self.high - self.low) - 1).clamp(-1, 1)
        pairs = torch.stack([position[:, [0, 1]], position[:, [0, 2]], position[:, [1, 2]]])[
            :, None
        ]
        levels = []
        for planes, rows in zip(self.planes, self.rows, strict=False):
            space = grid_sample(planes, pairs, align_corners=True)[:, :, 0].prod(0).T.contiguous()
            x_row, y_row, z_row = (
                interpolate_table(
                    rows[view, CHANNELS * axis : CHANNELS * (axis + 1)].flatten(0, 1).T,
                    position[:, axis],
                ).unflatten(1, (len(view), CHANNELS))
                for axis in range(3)
            )
            levels.append(space[:, None] * x_row * y_row * z_row)
        hidden = self.trunk(torch.cat(levels, dim=-1)).unbind(1)
        return [_offsets(self.heads, features) for features in hidden]

    def interpolate_frames(self, weights: Float[Tensor, "view view"]) -> None:
        """Replace the rows of every frame by a weighted sum over generated frames.

        The input has no rows: its picture shows the canonical scene, which no row of this field
        stands for. A frame that has only the input as a neighbour keeps its own rows.

        Args:
            weights: As for `lift.distortions.parameters.neighbours.PerFrameNumbers`.
        """
        generated = weights.clone()
        generated[:, 0] = 0
        total = generated.sum(1)
        alone = total == 0
        generated[alone] = torch.eye(len(weights), dtype=weights.dtype)[alone]
        generated = generated / generated.sum(1, keepdim=True)
        for rows in self.rows:
            rows.copy_(torch.einsum("ij,jcs->ics", generated.to(rows), rows))

    def penalty(self) -> Float[Tensor, ""]:
        """Return the weighted roughness of the frames' rows and their distance from one."""
        roughness = sum(rows.diff(n=2, dim=-1).square().mean() for rows in self.rows)
        distance = sum((1 - rows).abs().mean() for rows in self.rows)
        penalty = self.smoothness * roughness + self.l1_time_planes * distance
        return cast("Tensor", penalty)


class TreePlanes(nn.Module):
    """Offsets as a function of position and of tree coordinates, as LiftImage3D released.

    A level has ten planes over pairs of x, y, z, u, v, which are multiplied; a linear layer and
    three heads follow. Codes (u, v) in [0, 1] are used where planes span [-1, 1], so half of each
    such axis is never used. This is as released.

    Args:
        low: Lower corner of the initial cloud, [3]. Beyond the corners the border's values hold.
        high: Upper corner of the initial cloud, [3].
        evaluation: `plain` interpolates all planes for every Gaussian and view. `factored` is
            the same function in a faster order. A view has one (u, v), so the six planes over
            one of them are first interpolated to lines, and the plane over both to a vector.
            The features of x, y, z are shared by the views of a step.

    Raises:
        ValueError: If `evaluation` is neither.

    Reference:
        LiftImage3D, arXiv 2412.09597.
    """

    low: Tensor
    high: Tensor

    def __init__(self, low: Tensor, high: Tensor, evaluation: str) -> None:
        super().__init__()
        if evaluation not in ("plain", "factored"):
            raise ValueError(f"field is {evaluation!r}; choose plain or factored")
        self.evaluation = evaluation
        self.register_buffer("low", low)
        self.register_buffer("high", high)
        self.planes = nn.ParameterList()
        for level in LEVELS:
            sides = [RESOLUTION * level] * 3 + [RESOLUTION] * 2
            self.planes += [
                nn.Parameter(torch.empty(1, CHANNELS, sides[b], sides[a]).uniform_(0.1, 0.5))
                for a, b in PAIRS
            ]
        self.trunk, self.heads = _network()

    def forward(self, means: Tensor, codes: Codes) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Return the offsets of Gaussians in some views.

        Args:
            means: Positions of the Gaussians in the world, [gaussian 3].
            codes: (u, v) of each view.

        Returns:
            Offsets [gaussian 3], [gaussian 3], [gaussian 4], one tuple a view.
        """
        position = 2 * (means - self.low) / (self.high - self.low) - 1
        features = (
            self.plain_features(position, codes)
            if self.evaluation == "plain"
            else self.factored_features(position, codes)
        )
        hidden = [self.trunk(feature) for feature in features]
        return [_offsets(self.heads, view) for view in hidden]

    def plain_features(self, position: Tensor, codes: Codes) -> list[Tensor]:
        """Interpolate all planes at every Gaussian.

        Args:
            position: [gaussian 3], from -1 to 1 within the corners.
            codes: (u, v) of each view.

        Returns:
            Features [gaussian 48], one tensor a view.
        """
        views = []
        for u, v in codes:
            coordinates = torch.cat(
                [
                    position,
                    torch.full_like(position[:, :1], u),
                    torch.full_like(position[:, :1], v),
                ],
                dim=-1,
            )
            levels = [self._product(level, PAIRS, coordinates) for level in range(len(LEVELS))]
            views.append(torch.cat(levels).T)
        return views

    def factored_features(self, position: Tensor, codes: Codes) -> list[Tensor]:
        """Interpolate in two dimensions only where both coordinates differ between Gaussians.

        Args:
            position: [gaussian 3], from -1 to 1 within the corners.
            codes: (u, v) of each view.

        Returns:
            Features [gaussian 48], one tensor a view.
        """
        levels = []
        for level in range(len(LEVELS)):
            spatial = self._product(level, PAIRS[:2] + PAIRS[4:5], position)
            spatial = spatial.T.contiguous()[:, None]
            for axis in range(3):
                lines = [
                    _row(self._plane(level, axis, 3 + k), code[k]) for code in codes for k in (0, 1)
                ]
                samples = interpolate_table(torch.cat(lines).T, position[:, axis])
                samples = samples.unflatten(1, (len(codes), 2, CHANNELS))
                spatial = spatial * samples[:, :, 0] * samples[:, :, 1]
            uv_features = [
                _row(_row(self._plane(level, 3, 4), v)[None, :, None, :].mT, u)[:, 0]
                for u, v in codes
            ]
            levels.append(spatial * torch.stack(uv_features))
        return list(torch.cat(levels, dim=-1).unbind(1))

    def penalty(self) -> Tensor:
        """Return the regularisation of the planes, as released.

        It is the mean squared second difference along the second coordinate and the distance of
        "time" planes from one. With four coordinates, the planes 0, 1, 3 would be spatial and 2,
        4, 5 temporal. With five they are xy, xz, xv and xu, yz, yu.
        """
        total = self.low.new_zeros(())
        for level in range(len(LEVELS)):
            planes = list(self.planes)[level * len(PAIRS) : (level + 1) * len(PAIRS)]
            for weight, indices in ((2e-4, (0, 1, 3)), (1e-3, (2, 4, 5))):
                total = total + weight * sum(
                    planes[index].diff(n=2, dim=-2).square().mean() for index in indices
                )
            total = total + 1e-4 * sum((1 - planes[index]).abs().mean() for index in (2, 4, 5))
        return total

    def _plane(self, level: int, a: int, b: int) -> Tensor:
        return self.planes[level * len(PAIRS) + PAIRS.index((a, b))]

    def _product(
        self, level: int, pairs: tuple[tuple[int, int], ...], coordinates: Tensor
    ) -> Tensor:
        """Return the product of some planes at coordinates [gaussian axis]: [channel gaussian]."""
        product = None
        for a, b in pairs:
            grid = torch.stack([coordinates[:, a], coordinates[:, b]], dim=-1)[None, None]
            samples = grid_sample(
                self._plane(level, a, b), grid, "bilinear", "border", align_corners=True
            )[0, :, 0]
            product = samples if product is None else product * samples
        assert product is not None
        return product


def tree_codes(trajectory: Trajectory) -> list[tuple[float, float]]:
    """Return the coordinates (u, v) of every frame in the tree of clips.

    They count signed steps from the input to the right and up. They are scaled so that [0, 1]
    spans the tree and the input is (0.5, 0.5). The released code reads them from file names.
    Different frames may have the same ones: left/up ends where up/left does.

    Args:
        trajectory: The tree of clips.

    Returns:
        (u, v) of each frame, the input first.

    Raises:
        ComponentError: If a clip's last motion is neither right, left, up nor down.
    """
    steps = [(0, 0)]
    levels = 1
    longest = 1
    for clip in trajectory.clips:
        path = clip.name.split("/")
        across, up, nearer = DIRECTIONS.get(path[-1], (0, 0, 1))
        if nearer:
            raise ComponentError(
                f"clip {clip.name!r} moves {path[-1]!r}; "
                "the published field knows right, left, up and down"
            )
        levels = max(levels, len(path))
        longest = max(longest, len(clip.cameras))
        u, v = steps[clip.source]
        steps += [
            (u + round(across) * step, v + round(up) * step)
            for step in range(1, len(clip.cameras) + 1)
        ]
    limit = levels * longest
    return [((u + limit) / (2 * limit), (v + limit) / (2 * limit)) for u, v in steps]


def released_unit(points: PointCloud) -> float:
    """Return the unit of length of the released code, in scene units.

    The code moves the mean of all points to the origin. It then scales the largest coordinate to
    `SCENE_HALF_SIZE`.

    Args:
        points: The points that all frames show, at least one.
    """
    offsets = points.points - points.points.mean(0)
    return float(offsets.abs().max()) / SCENE_HALF_SIZE


def interpolate_table(table: Tensor, position: Tensor) -> Tensor:
    """Interpolate linearly between the rows of a table.

    Args:
        table: [row column].
        position: [gaussian], from -1 at the first row to 1 at the last; clamped to these.

    Returns:
        [gaussian column].
    """
    row = ((position + 1) / 2 * (len(table) - 1)).clamp(0, len(table) - 1)
    low = row.detach().floor().clamp(max=len(table) - 2).long()
    return torch.lerp(
        table.index_select(0, low), table.index_select(0, low + 1), (row - low)[:, None]
    )


def _network() -> tuple[nn.Linear, nn.ModuleList]:
    """Return the linear layer that takes the features, and the heads."""
    trunk = nn.Linear(CHANNELS * len(LEVELS), HIDDEN_WIDTH)
    heads = nn.ModuleList(
        nn.Sequential(
            nn.ReLU(),
            nn.Linear(HIDDEN_WIDTH, HIDDEN_WIDTH),
            nn.ReLU(),
            nn.Linear(HIDDEN_WIDTH, width),
        )
        for width in HEAD_WIDTHS
    )
    for layer in (trunk, *heads.modules()):
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
    return trunk, heads


def _offsets(heads: nn.ModuleList, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the output of each head."""
    position, log_scale, quat = (head(hidden) for head in heads)
    return position, log_scale, quat


def _row(plane: Tensor, position: float) -> Tensor:
    """Interpolate between two rows of a plane [1 channel row column], to [channel column].

    `position` runs from -1 at the first row to 1 at the last.
    """
    row = (position + 1) / 2 * (plane.shape[2] - 1)
    low = min(int(row), plane.shape[2] - 2)
    return torch.lerp(plane[0, :, low], plane[0, :, low + 1], row - low)
