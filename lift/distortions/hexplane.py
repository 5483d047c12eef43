"""The published field: planes over pairs of coordinates, multiplied, and a small network."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import grid_sample

from lift.camera_paths import DIRECTIONS
from lift.distortions import Distortion, deformed, distortions
from lift.registry import ComponentError
from lift.types import Gaussians, PointCloud, Trajectory

PAIRS = ((0, 1), (0, 2), (0, 3), (0, 4), (1, 2), (1, 3), (1, 4), (2, 3), (2, 4), (3, 4))
"""The planes of a level by their two coordinates, of x, y, z, u, v."""
LEVELS, CHANNELS, RESOLUTION, WIDTH = (1, 2, 4), 16, 64, 128
SCENE_SIZE = 10.0
"""Half the side of the cube that the released code scales a scene to; its rates and penalties are meant for that."""
COARSE = 3000 / 17_000
"""Share of the released steps in which nothing is deformed yet."""
OUT = (3, 3, 4)
"""Offsets of position, logarithm of scale, quaternion."""

Offsets = tuple[
    Float[Tensor, "gaussian 3"], Float[Tensor, "gaussian 3"], Float[Tensor, "gaussian 4"]
]
Codes = Sequence[tuple[float, float]]


@distortions.register("hexplane")
class HexPlane(Distortion):
    """Offsets of each Gaussian's position, scale and rotation in a frame, by planes of features over pairs of coordinates.

    HexPlane (Cao and Johnson, CVPR 2023) and K-Planes (Fridovich-Keil et al., CVPR 2023) as 4DGS (Wu et al., CVPR 2024) deforms
    Gaussians with them; three levels, sixteen channels. By default over x, y, z and the frame: planes of two places, and for each
    place and frame a row of its own, which begins as ones, is pulled there and kept smooth along space; heads begin at zero.

    as_released: the field of LiftImage3D (arXiv 2412.09597) instead, defects included: five coordinates, of which two are the frame's
    place in the articulated tree (several frames may share one), heads that begin at random, planes regularised as if there were four
    coordinates, and an input view that is tied to the canonical scene by a penalty alone; so it is no identity to begin with. It
    starts after 3/17 of the steps, and wants clips that go right, left, up or down. All planes are looked up for every Gaussian and view.

    learning_rate: of planes, in a scene of +-10; the network's is a tenth. smoothness, ones: weights of the default's penalties.
    """

    def __init__(
        self,
        as_released: bool = False,
        learning_rate: float = 1.6e-3,
        smoothness: float = 2e-4,
        ones: float = 1e-3,
        *,
        num_views: int,
        trajectory: Trajectory,
        points: PointCloud,
    ) -> None:
        super().__init__()
        self.learning_rate, self.as_released = learning_rate, as_released
        low, high = points.points.amin(0), points.points.amax(0)
        self.unit = float((high - low).max()) / 2 / SCENE_SIZE
        centers = trajectory.cameras.centers
        self.reach = max(
            1.1 * float((centers - centers.mean(0)).norm(dim=-1).max()) / self.unit, 1e-3
        )
        self.codes = tree_codes(trajectory) if as_released else None
        self.planes = (
            TreePlanes(low, high, "plain")
            if as_released
            else FramePlanes(low, high, num_views, smoothness, ones)
        )
        self._tied: Tensor | None = None

    def gaussians(self, gaussians: Gaussians, view: Int[Tensor, "view"]) -> Gaussians:
        if self.as_released and self.progress < COARSE:
            return gaussians
        means = (
            gaussians.means
            if gaussians.means.ndim == 3
            else gaussians.means[None].expand(len(view), -1, -1)
        ).unbind(0)
        if self.as_released:
            offsets = [
                self.planes(mean, [self.codes[index]])[0]
                for mean, index in zip(means, view.tolist(), strict=False)
            ]
            last = offsets[-1]
            self._tied = (
                last[0].square().mean() + last[1].abs().mean() + last[2].abs().mean()
                if int(view[-1]) == 0
                else None
            )
            moved, grown, turned = (torch.stack(parts) for parts in zip(*offsets, strict=False))
        else:
            offsets = (
                self.planes(means[0], view)
                if gaussians.means.ndim == 2
                else [self.planes(m, v[None])[0] for m, v in zip(means, view, strict=False)]
            )
            generated = (view > 0).to(gaussians.means.dtype)[:, None, None]
            moved, grown, turned = (
                generated * torch.stack(parts) for parts in zip(*offsets, strict=False)
            )
        return deformed(gaussians, self.unit * moved, turned, grown)

    def penalty(self) -> Float[Tensor, ""]:
        if self.as_released and self.progress < COARSE:
            return super().penalty()
        total, tied, self._tied = self.planes.penalty(), self._tied, None
        return total if tied is None else total + tied

    def groups(self) -> Iterator[dict[str, Any]]:
        network = [*self.planes.trunk.parameters(), *self.planes.heads.parameters()]
        known = {id(parameter) for parameter in network}
        rate = self.learning_rate * self.reach
        yield {
            "params": [parameter for parameter in self.parameters() if id(parameter) not in known],
            "lr": rate,
        }
        yield {"params": network, "lr": rate / 10}


class FramePlanes(nn.Module):
    """Offsets as a function of place and frame: three planes of two places a level, and for each frame three rows along one."""

    def __init__(
        self, low: Tensor, high: Tensor, num_views: int, smoothness: float, ones: float
    ) -> None:
        """low, high: corners of the scene, [3]; beyond them the border's values hold."""
        super().__init__()
        self.smoothness, self.ones = smoothness, ones
        self.register_buffer("low", low, persistent=False)
        self.register_buffer("high", high, persistent=False)
        sides = [RESOLUTION * level for level in LEVELS]
        self.planes = nn.ParameterList(
            torch.empty(3, CHANNELS, side, side).uniform_(0.1, 0.5) for side in sides
        )
        self.rows = nn.ParameterList(torch.ones(num_views, 3 * CHANNELS, side) for side in sides)
        self.trunk, self.heads = _network()
        for head in self.heads:
            nn.init.zeros_(head[-1].weight)
            nn.init.zeros_(head[-1].bias)

    def forward(
        self, means: Float[Tensor, "gaussian 3"], view: Int[Tensor, "view"]
    ) -> list[Offsets]:
        """A view each."""
        at = (2 * (means - self.low) / (self.high - self.low) - 1).clamp(-1, 1)
        pairs = torch.stack([at[:, [0, 1]], at[:, [0, 2]], at[:, [1, 2]]])[:, None]
        levels = []
        for planes, rows in zip(self.planes, self.rows, strict=False):
            space = grid_sample(planes, pairs, align_corners=True)[:, :, 0].prod(0).T.contiguous()
            found = [
                interpolate(
                    rows[view, CHANNELS * axis : CHANNELS * (axis + 1)].flatten(0, 1).T, at[:, axis]
                ).unflatten(1, (len(view), CHANNELS))
                for axis in range(3)
            ]
            levels.append(space[:, None] * found[0] * found[1] * found[2])
        hidden = self.trunk(torch.cat(levels, dim=-1)).unbind(1)
        return [tuple(head(one) for head in self.heads) for one in hidden]

    def interpolate_frames(self, weights: Float[Tensor, "view view"]) -> None:
        """Replace the rows of every frame by a weighted sum over generated frames.

        The input has no rows: what its picture shows is the canonical scene, which no row of this
        field stands for. A frame that has only the input as a neighbour keeps its own rows.

        Args:
            weights: As for `lift.distortions.neighbours.PerFrameNumbers`.
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
        """Of the frames' rows: mean squared second differences along space, and distance from one; zero to begin with."""
        rough = sum(rows.diff(n=2, dim=-1).square().mean() for rows in self.rows)
        away = sum((1 - rows).abs().mean() for rows in self.rows)
        return self.smoothness * rough + self.ones * away


class TreePlanes(nn.Module):
    """The released field: ten planes a level over x, y, z and (u, v), multiplied; a linear layer and three heads.

    (u, v) in [0, 1] are used where planes span [-1, 1], so that half of each such axis is never visited: as released.
    """

    def __init__(self, low: Tensor, high: Tensor, evaluation: str) -> None:
        """low, high: corners of the initial cloud, [3]; beyond them the border's values hold.

        evaluation: plain, or factored, which is the same function in the order that suits it. A view has one (u, v), so the six planes
        that hold one of them are first interpolated to lines and the plane of both to a vector; x, y, z features are shared by the views of a step.
        """
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
        """A view each: offsets [gaussian 3], [gaussian 3], [gaussian 4] of Gaussians at `means` [gaussian 3]."""
        at = 2 * (means - self.low) / (self.high - self.low) - 1
        features = (
            self.looked_up(at, codes) if self.evaluation == "plain" else self.factored(at, codes)
        )
        hidden = [self.trunk(feature) for feature in features]
        return [tuple(head(view) for head in self.heads) for view in hidden]

    def looked_up(self, at: Tensor, codes: Codes) -> list[Tensor]:
        """Features [gaussian 48] a view, all planes interpolated at every Gaussian."""
        views = []
        for u, v in codes:
            place = torch.cat(
                [at, torch.full_like(at[:, :1], u), torch.full_like(at[:, :1], v)], dim=-1
            )
            views.append(
                torch.cat([self._product(level, PAIRS, place) for level in range(len(LEVELS))]).T
            )
        return views

    def factored(self, at: Tensor, codes: Codes) -> list[Tensor]:
        """The same by lines: two dimensions only where two coordinates differ between Gaussians."""
        levels = []
        for level in range(len(LEVELS)):
            spatial = self._product(level, PAIRS[:2] + PAIRS[4:5], at).T.contiguous()[:, None]
            for axis in range(3):
                lines = [
                    _row(self._plane(level, axis, 3 + k), code[k]) for code in codes for k in (0, 1)
                ]
                found = interpolate(torch.cat(lines).T, at[:, axis]).unflatten(
                    1, (len(codes), 2, CHANNELS)
                )
                spatial = spatial * found[:, :, 0] * found[:, :, 1]
            both = [
                _row(_row(self._plane(level, 3, 4), v)[None, :, None, :].mT, u)[:, 0]
                for u, v in codes
            ]
            levels.append(spatial * torch.stack(both))
        return list(torch.cat(levels, dim=-1).unbind(1))

    def penalty(self) -> Tensor:
        """Mean squared second differences along the second coordinate, and distance of "time" planes from one.

        The planes are those that would be spatial (0, 1, 3) and temporal (2, 4, 5) of four coordinates; of five they are xy, xz, xv and
        xu, yz, yu: as released.
        """
        total = self.low.new_zeros(())
        for level in range(len(LEVELS)):
            planes = list(self.planes)[level * len(PAIRS) : (level + 1) * len(PAIRS)]
            for weight, chosen in ((2e-4, (0, 1, 3)), (1e-3, (2, 4, 5))):
                total = total + weight * sum(
                    planes[index].diff(n=2, dim=-2).square().mean() for index in chosen
                )
            total = total + 1e-4 * sum((1 - planes[index]).abs().mean() for index in (2, 4, 5))
        return total

    def _plane(self, level: int, a: int, b: int) -> Tensor:
        return self.planes[level * len(PAIRS) + PAIRS.index((a, b))]

    def _product(self, level: int, pairs: tuple[tuple[int, int], ...], at: Tensor) -> Tensor:
        """[channel gaussian]"""
        product = None
        for a, b in pairs:
            grid = torch.stack([at[:, a], at[:, b]], dim=-1)[None, None]
            found = grid_sample(
                self._plane(level, a, b), grid, "bilinear", "border", align_corners=True
            )[0, :, 0]
            product = found if product is None else product * found
        return product


def tree_codes(trajectory: Trajectory) -> list[tuple[float, float]]:
    """(u, v) of every frame: signed steps from the input to the right and up, so that [0, 1] spans the tree and the input is (0.5, 0.5).

    The released code reads them from file names, and different frames may share one: left/up ends where up/left does. Raises ValueError
    for a clip whose last motion is neither right, left, up nor down.
    """
    places, levels, longest = [(0, 0)], 1, 1
    for clip in trajectory.clips:
        path = clip.name.split("/")
        across, up, nearer = DIRECTIONS.get(path[-1], (0, 0, 1))
        if nearer:
            raise ComponentError(
                f"clip {clip.name!r} moves {path[-1]!r}; the published field knows right, left, up and down"
            )
        levels, longest = max(levels, len(path)), max(longest, len(clip.cameras))
        u, v = places[clip.source]
        places += [
            (u + round(across) * step, v + round(up) * step)
            for step in range(1, len(clip.cameras) + 1)
        ]
    most = levels * longest
    return [((u + most) / (2 * most), (v + most) / (2 * most)) for u, v in places]


def _network() -> tuple[nn.Linear, nn.ModuleList]:
    trunk = nn.Linear(CHANNELS * len(LEVELS), WIDTH)
    heads = nn.ModuleList(
        nn.Sequential(nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, out))
        for out in OUT
    )
    for layer in (trunk, *heads.modules()):
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
    return trunk, heads


def _row(plane: Tensor, at: float) -> Tensor:
    """[channel column] of a plane [1 channel row column], between two rows; `at` in [-1, 1]."""
    position = (at + 1) / 2 * (plane.shape[2] - 1)
    low = min(int(position), plane.shape[2] - 2)
    return torch.lerp(plane[0, :, low], plane[0, :, low + 1], position - low)


def interpolate(table: Tensor, at: Tensor) -> Tensor:
    """[gaussian column] from a table [row column], linear between rows; `at` [gaussian], [-1, 1] from the first to the last."""
    position = ((at + 1) / 2 * (len(table) - 1)).clamp(0, len(table) - 1)
    low = position.detach().floor().clamp(max=len(table) - 2).long()
    return torch.lerp(
        table.index_select(0, low), table.index_select(0, low + 1), (position - low)[:, None]
    )
