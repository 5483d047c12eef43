"""Bundle adjustment: cameras and points that explain where points were seen.

Levenberg and Marquardt's method on robust residuals. Points are eliminated (Schur's complement) and the system of the cameras that remains
is never formed: conjugate gradients need only its products with vectors, so that memory grows with what was seen and with nothing else
(Agarwal et al., "Bundle adjustment in the large", ECCV 2010). Batched on one device, in double precision.
"""

import warnings
from dataclasses import dataclass, fields, replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lift.geometry import rotation_from_vector
from lift.runtime.jit import array, compiled
from lift.types import Items

FOCAL, SCALE = 6, 7
"""Columns of a frame's parameters, after rotation and translation."""
NEAR = 1e-6
DENSE = 160
"""Frames up to which the cameras' system is formed and factorised on a CPU."""


@dataclass(frozen=True)
class Sightings(Items):
    """Which point was seen in which frame, at which pixel. weight: trust in [0, 1]. log_depth: logarithm of what was measured of its
    z-depth there, up to a factor a frame; NaN where nothing was.
    """

    frame: Int[Tensor, "sighting"]
    point: Int[Tensor, "sighting"]
    pixel: Float[Tensor, "sighting 2"]
    weight: Float[Tensor, "sighting"]
    log_depth: Float[Tensor, "sighting"] | None = None


@dataclass(frozen=True)
class Scene:
    """world_to_camera as rotation and translation, logarithm of the focal length in pixels, principal point, logarithm of the scale of
    measured depth, world points. placed: frames that are known; `at_rest` are the frames whose pose is not touched.
    """

    rotation: Float[Tensor, "frame 3 3"]
    translation: Float[Tensor, "frame 3"]
    log_focal: Float[Tensor, "frame"]
    middle: Float[Tensor, "frame 2"]
    log_scale: Float[Tensor, "frame"]
    points: Float[Tensor, "point 3"]
    placed: Bool[Tensor, "frame"]

    def seen(
        self, sightings: Sightings
    ) -> tuple[Float[Tensor, "sighting 3"], Float[Tensor, "sighting 2"]]:
        """Points in the frames' own coordinates, and where they should appear minus where they did, in pixels."""
        rotation, translation = self.rotation[sightings.frame], self.translation[sightings.frame]
        local = (rotation @ self.points[sightings.point][..., None])[..., 0] + translation
        focal = self.log_focal.exp()[sightings.frame, None]
        at = focal * local[:, :2] / local[:, 2:].clamp(min=NEAR) + self.middle[sightings.frame]
        return local, at - sightings.pixel

    def to(self, device: torch.device | str) -> "Scene":
        return replace(self, **{f.name: getattr(self, f.name).to(device) for f in fields(self)})

    @property
    def centers(self) -> Float[Tensor, "frame 3"]:
        return -(self.rotation.mT @ self.translation[..., None])[..., 0]


@dataclass(frozen=True)
class Prior:
    """Poses that are believed beforehand, up to so much: radians, units of the world."""

    rotation: Float[Tensor, "frame 3 3"]
    translation: Float[Tensor, "frame 3"]
    turn: float
    shift: float


def adjust(
    scene: Scene,
    sightings: Sightings,
    at_rest: Bool[Tensor, "frame"],
    focal: Literal["fixed", "shared", "each"] = "fixed",
    believed: float = 0.0,
    spread: float = 1.0,
    depth_spread: float = 0.0,
    prior: Prior | None = None,
    steps: int = 20,
    given: Float[Tensor, "frame"] | None = None,
) -> Scene:
    """The scene that explains the sightings best.

    focal: whether focal lengths are known, one unknown for all frames, or one a frame; believed: spread of the logarithm by which they
    may differ from those `given`, the scene's if they are not (0: nothing is believed). spread: pixels of error from which on a sighting counts less (Cauchy's function);
    depth_spread: the same of the logarithm of depth, where it was measured (0: it is not used). Sightings in frames that are not placed
    are not looked at.
    """
    sightings = sightings[scene.placed[sightings.frame]]
    free = torch.ones(len(scene.rotation), 8, dtype=torch.float64, device=scene.points.device)
    free[at_rest, :6] = 0
    free[~scene.placed] = 0
    free[:, FOCAL] *= focal != "fixed"
    free[:, SCALE] *= depth_spread > 0 and sightings.log_depth is not None
    began, damping = scene.log_focal if given is None else given, 1e-4
    order = (sightings.frame * len(scene.points) + sightings.point).argsort()
    sightings = sightings[order]
    errors = _Errors(sightings, spread, depth_spread, prior, began, believed, free)
    ties = _Ties(sightings.frame, sightings.point, len(scene.rotation), len(scene.points))
    cost = errors.cost(scene)
    for _ in range(steps):
        system = _System(errors, ties, scene, focal == "shared")
        for _ in range(6):
            cameras, points = system.solve(damping)
            moved = _moved(scene, cameras, points)
            new = errors.cost(moved)
            if new < cost:
                break
            damping *= 8
        else:
            return scene
        damping = max(damping / 6, 1e-9)
        gained, scene, cost = cost - new, moved, new
        if gained < 1e-5 * cost:
            break
    return scene


def _moved(
    scene: Scene, cameras: Float[Tensor, "frame 8"], points: Float[Tensor, "point 3"]
) -> Scene:
    turn = rotation_from_vector(cameras[:, :3])
    return replace(
        scene,
        rotation=turn @ scene.rotation,
        translation=(turn @ scene.translation[..., None])[..., 0] + cameras[:, 3:6],
        log_focal=scene.log_focal + cameras[:, FOCAL],
        log_scale=scene.log_scale + cameras[:, SCALE],
        points=scene.points + points,
    )


@dataclass(frozen=True)
class _Errors:
    """What is to be made small, in units of its spread."""

    sightings: Sightings
    spread: float
    depth_spread: float
    prior: Prior | None
    log_focal: Float[Tensor, "frame"]
    believed: float
    free: Float[Tensor, "frame 8"]

    def of(self, scene: Scene) -> tuple[Tensor, Float[Tensor, "sighting 3"]]:
        """Local points, and errors of pixel and depth."""
        local, pixel = scene.seen(self.sightings)
        out = torch.zeros_like(local)
        out[:, :2] = pixel / self.spread
        if self.depth_spread and self.sightings.log_depth is not None:
            depth = (
                local[:, 2].clamp(min=NEAR).log()
                - self.sightings.log_depth
                - scene.log_scale[self.sightings.frame]
            )
            out[:, 2] = depth.nan_to_num(0.0) / self.depth_spread
        # What is behind a camera is far off, whatever its pixel.
        return local, torch.where(local[:, 2:] > NEAR, out, 1e3)

    def before(self, scene: Scene) -> Float[Tensor, "frame 8"]:
        """Of what is believed beforehand: errors of each parameter."""
        out = torch.zeros_like(self.free)
        if self.prior:
            turn = scene.rotation @ self.prior.rotation.mT
            out[:, :3] = _log(turn) / self.prior.turn
            out[:, 3:6] = (
                scene.translation - (turn @ self.prior.translation[..., None])[..., 0]
            ) / self.prior.shift
        if self.believed:
            out[:, FOCAL] = (scene.log_focal - self.log_focal) / self.believed
        return out * self.free

    def cost(self, scene: Scene) -> float:
        _, error = self.of(scene)
        seen = self.sightings.weight * (
            torch.log1p(error[:, :2].square().sum(-1)) + torch.log1p(error[:, 2].square())
        )
        return float(seen.sum() + torch.log1p(self.before(scene).square()).sum())


class _System:
    """Of linear equations for one step: blocks a frame, blocks a point, and what ties them."""

    def __init__(self, errors: _Errors, ties: "_Ties", scene: Scene, shared: bool) -> None:
        self.frame, self.point, self.shared, self.free = (
            errors.sightings.frame,
            errors.sightings.point,
            shared,
            errors.free,
        )
        local, error = errors.of(scene)
        focal = scene.log_focal.exp()[self.frame]
        depth = local[:, 2].clamp(min=NEAR)
        x, y = local[:, 0] / depth, local[:, 1] / depth
        zero, one = torch.zeros_like(x), torch.ones_like(x)
        # Rows: derivatives of the errors after the local point.
        by_local = (
            torch.stack([one, zero, -x, zero, one, -y], -1).view(-1, 2, 3)
            * (focal / depth / errors.spread)[:, None, None]
        )
        tied = torch.zeros_like(zero)
        if errors.depth_spread and errors.sightings.log_depth is not None:
            tied = (~errors.sightings.log_depth.isnan()).double() / errors.depth_spread
        by_local = torch.cat([by_local, torch.stack([zero, zero, tied / depth], -1)[:, None]], 1)
        a, b, c = local.unbind(-1)
        cross = torch.stack([zero, c, -b, -c, zero, a, b, -a, zero], -1).view(
            -1, 3, 3
        )  # of a small turn
        by_focal = torch.stack([x * focal / errors.spread, y * focal / errors.spread, zero], -1)
        by_scale = torch.stack([zero, zero, -tied], -1)
        by_camera = (
            torch.cat([by_local @ cross, by_local, by_focal[..., None], by_scale[..., None]], -1)
            * self.free[self.frame, None]
        )
        by_point = by_local @ scene.rotation[self.frame]
        trust = torch.stack(
            [1 / (1 + error[:, :2].square().sum(-1))] * 2 + [1 / (1 + error[:, 2].square())], -1
        )
        trust = errors.sightings.weight[:, None] * trust * (local[:, 2:] > NEAR)
        weighted = trust[..., None] * by_camera
        frames, points = len(scene.rotation), len(scene.points)
        self.tie = weighted.mT @ by_point
        self.ties, self.dense = ties, self.frame.device.type == "cpu" and frames <= DENSE
        if not self.dense:
            self.tied, self.tied_back = ties.filled(self.tie)
        self.cameras = _summed(weighted.mT @ by_camera, self.frame, frames)
        self.points = _summed((trust[..., None] * by_point).mT @ by_point, self.point, points)
        self.of_cameras = -_summed((weighted.mT @ error[..., None])[..., 0], self.frame, frames)
        self.of_points = -_summed(
            (by_point.mT @ (trust * error)[..., None])[..., 0], self.point, points
        )
        believed = torch.zeros_like(self.free)
        if errors.prior:
            believed[:, :3], believed[:, 3:6] = errors.prior.turn**-2, errors.prior.shift**-2
        if errors.believed:
            believed[:, FOCAL] = errors.believed**-2
        known = errors.before(scene)
        believed = believed * self.free / (1 + known.square())
        self.cameras = self.cameras + torch.diag_embed(believed)
        self.of_cameras = self.of_cameras - known * believed.sqrt() * (1 + known.square()) ** -0.5

    def solve(self, damping: float) -> tuple[Float[Tensor, "frame 8"], Float[Tensor, "point 3"]]:
        """Steps of cameras and points; parameters that nothing is known of stay."""
        cameras, points = _damped(self.cameras, damping), _damped(self.points, damping)
        inverse = torch.linalg.inv(points)
        if self.dense:
            return self._solve_dense(cameras, inverse)

        def behind(points: Tensor) -> Tensor:
            return (self.tied @ points.flatten()).view(-1, 8)

        def before(cameras: Tensor) -> Tensor:
            return (self.tied_back @ cameras.flatten()).view(-1, 3)

        def product(step: Tensor) -> Tensor:
            return self._one(
                (cameras @ step[..., None])[..., 0]
                - behind((inverse @ before(step)[..., None])[..., 0])
            )

        back = (inverse @ self.of_points[..., None])[..., 0]
        target = self._one(self.of_cameras - behind(back))
        own = cameras - _summed(
            self.tie @ inverse[self.point] @ self.tie.mT, self.frame, len(cameras)
        )
        step = _gradients(
            product,
            target,
            torch.linalg.inv(own + 1e-9 * torch.diag_embed(own.diagonal(dim1=1, dim2=2) + 1)),
            self._one,
        )
        known = self.of_points - before(step)
        return step * self.free, (inverse @ known[..., None])[..., 0]

    def _solve_dense(
        self, cameras: Float[Tensor, "frame 8 8"], inverse: Float[Tensor, "point 3 3"]
    ) -> tuple[Float[Tensor, "frame 8"], Float[Tensor, "point 3"]]:
        """Forms the Schur complement and factorises it: for few frames much faster than CG."""
        frames, points = len(cameras), len(inverse)
        order = self.ties.order
        start = torch.cat(
            [order.new_zeros(1), torch.bincount(self.point, minlength=points).cumsum(0)]
        )
        arrays = (order, start, self.frame, self.tie, inverse, self.of_points)
        matrix, behind = _schur_complement(*(array(value) for value in arrays), frames)
        matrix = torch.block_diag(*cameras) - torch.from_numpy(matrix)
        target = self.of_cameras.flatten() - torch.from_numpy(behind)
        basis = torch.eye(8 * frames, dtype=matrix.dtype)
        if self.shared:
            columns = (self.free[:, FOCAL] > 0).nonzero()[:, 0] * 8 + FOCAL
            if len(columns):
                basis[:, columns[0]] = basis[:, columns].sum(1)
                basis = basis[:, ~torch.isin(torch.arange(8 * frames), columns[1:])]
        reduced = basis.T @ matrix @ basis
        reduced += 1e-12 * torch.diag_embed(reduced.diagonal() + 1)
        step = basis @ torch.linalg.solve(reduced, basis.T @ target)
        step = step.view(frames, 8) * self.free
        known = self.of_points - _summed(
            (self.tie.mT @ step[self.frame][..., None])[..., 0], self.point, points
        )
        return step, (inverse @ known[..., None])[..., 0]

    def _one(self, step: Tensor) -> Tensor:
        """With one focal length for all frames that have any."""
        if not self.shared:
            return step
        step = step.clone()
        some = self.free[:, FOCAL] > 0
        step[some, FOCAL] = step[some, FOCAL].mean()
        return step


class _Ties:
    """Where blocks of 8 x 3, one a sighting, lie in a sparse matrix of frames by points, and in its transpose. Sightings are in order of frame,
    then point.
    """

    def __init__(self, frame: Tensor, point: Tensor, frames: int, points: int) -> None:
        self.rows = self._layout(frame, point, frames, 8, 3)
        order = (point * frames + frame).argsort()
        self.order, self.columns = order, self._layout(point[order], frame[order], points, 3, 8)
        self.shape = (8 * frames, 3 * points)

    @staticmethod
    def _layout(
        row: Tensor, column: Tensor, rows: int, high: int, wide: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Of blocks in order of rows: where each of their numbers goes, and the two indices of a CSR matrix."""
        counts = torch.bincount(row, minlength=rows)
        first = counts.cumsum(0) - counts
        place = torch.arange(len(row), device=row.device) - first[row]
        down, across = torch.arange(high, device=row.device), torch.arange(wide, device=row.device)
        at = (
            (high * first[row] * wide + place * wide)[:, None, None]
            + (counts[row] * wide)[:, None, None] * down[:, None]
            + across
        )
        start = torch.cat([counts.new_zeros(1), (counts * wide).repeat_interleave(high).cumsum(0)])
        columns = torch.empty(at.numel(), dtype=torch.long, device=row.device)
        columns[at] = (column * wide)[:, None, None] + across.expand(high, wide)
        return at, start, columns

    def filled(self, blocks: Float[Tensor, "sighting 8 3"]) -> tuple[Tensor, Tensor]:
        made = []
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", "Sparse"
            )  # of torch, which calls its CSR matrices beta
            for (at, start, columns), values, shape in (
                (self.rows, blocks, self.shape),
                (self.columns, blocks[self.order].mT, self.shape[::-1]),
            ):
                placed = torch.empty(at.numel(), dtype=blocks.dtype, device=blocks.device)
                placed[at] = values
                made.append(
                    torch.sparse_csr_tensor(start, columns, placed, shape, check_invariants=False)
                )
        return made[0], made[1]


@compiled()
def _schur_complement(order, start, frame, tie, inverse, of_points, frames):
    """What the points take away from the cameras' matrix [8 frame, 8 frame] and target [8 frame].

    `order` sorts the observations by point; those of point p are start[p] to start[p + 1].
    """
    matrix = np.zeros((8 * frames, 8 * frames))
    target = np.zeros(8 * frames)
    half = np.empty((8, 3))
    for point in range(len(start) - 1):
        for i in range(start[point], start[point + 1]):
            first = order[i]
            row = 8 * frame[first]
            for a in range(8):
                for c in range(3):
                    half[a, c] = 0.0
                    for b in range(3):
                        half[a, c] += tie[first, a, b] * inverse[point, b, c]
                for c in range(3):
                    target[row + a] += half[a, c] * of_points[point, c]
            for j in range(start[point], start[point + 1]):
                second = order[j]
                column = 8 * frame[second]
                for a in range(8):
                    for b in range(8):
                        total = 0.0
                        for c in range(3):
                            total += half[a, c] * tie[second, b, c]
                        matrix[row + a, column + b] += total
    return matrix, target


def _gradients(product, target: Tensor, preconditioner: Tensor, one) -> Tensor:
    """Conjugate gradients."""
    step, left = torch.zeros_like(target), target
    before = one((preconditioner @ left[..., None])[..., 0])
    way, size = before, (left * before).sum()
    first = float(size)
    for _ in range(150):
        if not float(size) > 1e-7 * first:
            break
        along = product(way)
        length = size / (way * along).sum().clamp(min=1e-300)
        step, left = step + length * way, left - length * along
        before = one((preconditioner @ left[..., None])[..., 0])
        new = (left * before).sum()
        way, size = before + new / size * way, new
    return step


def _damped(blocks: Tensor, damping: float) -> Tensor:
    diagonal = blocks.diagonal(dim1=1, dim2=2)
    return blocks + torch.diag_embed(
        damping * diagonal
        + 1e-9 * diagonal.amax(1, keepdim=True)
        + (diagonal == 0).double()
        + 1e-12
    )


def _summed(values: Tensor, index: Tensor, count: int) -> Tensor:
    return values.new_zeros(count, *values.shape[1:]).index_add_(0, index, values)


def _log(rotation: Float[Tensor, "frame 3 3"]) -> Float[Tensor, "frame 3"]:
    """Of a rotation that is not near a half turn: the vector about whose direction it turns, by its length in radians."""
    r = rotation
    twice = torch.stack(
        [r[:, 2, 1] - r[:, 1, 2], r[:, 0, 2] - r[:, 2, 0], r[:, 1, 0] - r[:, 0, 1]], -1
    )
    sine, cosine = (
        twice.norm(dim=-1, keepdim=True) / 2,
        (r.diagonal(dim1=1, dim2=2).sum(-1, keepdim=True) - 1) / 2,
    )
    angle = torch.atan2(sine, cosine)
    return torch.where(sine > 1e-9, angle / (2 * sine.clamp(min=1e-9)), 0.5) * twice
