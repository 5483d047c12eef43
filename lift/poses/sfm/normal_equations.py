"""The linear system of one step of bundle adjustment.

The Schur complement eliminates the points. On a CPU with up to hundreds of frames, the remaining
system is formed and factorized. Otherwise it is never formed: conjugate gradients need only its
products with vectors, so memory grows with the number of observations alone.

Reference:
    Agarwal et al., "Bundle adjustment in the large", ECCV 2010.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from numba import prange
from torch import Tensor

from lift.runtime.jit import PARALLEL, njit_cached, parallel_lock, to_numpy

FOCAL = 6
"""Column of the log focal length in a frame's parameters, after rotation and translation."""
SCALE = 7
"""Column of the log depth scale in a frame's parameters."""
MAX_DENSE_FRAMES = 400
"""Number of frames up to which the cameras' system is factorized on a CPU."""
MAX_CG_STEPS = 150
"""Largest number of steps of conjugate gradients."""


@dataclass(frozen=True)
class Linearization:
    """Errors and derivatives at one state of bundle adjustment."""

    frame: Int[Tensor, "observation"]
    """Frame of each observation."""
    point: Int[Tensor, "observation"]
    """Point of each observation."""
    error: Float[Tensor, "observation 3"]
    """Errors in x, y and log depth, in units of their sigma."""
    by_camera: Float[Tensor, "observation 3 8"]
    """Derivatives of the errors by the camera's parameters."""
    by_point: Float[Tensor, "observation 3 3"]
    """Derivatives of the errors by the point."""
    weight: Float[Tensor, "observation 3"]
    """Robust weights of the errors."""
    prior_error: Float[Tensor, "frame 8"]
    """Errors of the camera priors, in units of their sigma."""
    prior_precision: Float[Tensor, "frame 8"]
    """Inverse variances of the camera priors; 0 for no prior."""
    free: Float[Tensor, "frame 8"]
    """1 for camera parameters to estimate, else 0."""
    points: int
    """Number of points."""


class NormalEquations:
    """Normal equations of one step, as blocks per frame, per point and per observation.

    Args:
        linearization: Errors and derivatives.
        pattern: Positions of the blocks in sparse matrices.
        shared_focal: Whether all frames have one focal length.
    """

    def __init__(
        self, linearization: Linearization, pattern: "BlockPattern", shared_focal: bool
    ) -> None:
        self.frame = linearization.frame
        self.point = linearization.point
        self.free = linearization.free
        self.shared_focal = shared_focal
        self.pattern = pattern
        frames = len(self.free)
        points = linearization.points
        error = linearization.error
        weight = linearization.weight
        by_camera = linearization.by_camera
        by_point = linearization.by_point
        weighted = weight[..., None] * by_camera
        self.coupling = weighted.mT @ by_point
        self.dense = self.frame.device.type == "cpu" and frames <= MAX_DENSE_FRAMES
        if not self.dense:
            self.matrix, self.transposed = pattern.fill(self.coupling)
        cameras = _sum_by_index(weighted.mT @ by_camera, self.frame, frames)
        self.points = _sum_by_index(
            (weight[..., None] * by_point).mT @ by_point, self.point, points
        )
        camera_target = -_sum_by_index((weighted.mT @ error[..., None])[..., 0], self.frame, frames)
        self.point_target = -_sum_by_index(
            (by_point.mT @ (weight * error)[..., None])[..., 0], self.point, points
        )
        prior_error = linearization.prior_error
        precision = linearization.prior_precision * self.free / (1 + prior_error.square())
        self.cameras = cameras + torch.diag_embed(precision)
        self.camera_target = (
            camera_target - prior_error * precision.sqrt() * (1 + prior_error.square()) ** -0.5
        )

    def solve(self, damping: float) -> tuple[Float[Tensor, "frame 8"], Float[Tensor, "point 3"]]:
        """Solve for one damped step.

        Args:
            damping: Levenberg-Marquardt damping, relative to the diagonal.

        Returns:
            Steps of cameras and points; 0 for parameters without any observation.
        """
        cameras = _damp(self.cameras, damping)
        inverse = torch.linalg.inv(_damp(self.points, damping))
        if self.dense:
            return self._solve_dense(cameras, inverse)

        def to_cameras(points: Tensor) -> Tensor:
            return (self.matrix @ points.flatten()).view(-1, 8)

        def to_points(cameras: Tensor) -> Tensor:
            return (self.transposed @ cameras.flatten()).view(-1, 3)

        def product(step: Tensor) -> Tensor:
            return self._tie_focal(
                (cameras @ step[..., None])[..., 0]
                - to_cameras((inverse @ to_points(step)[..., None])[..., 0])
            )

        eliminated = (inverse @ self.point_target[..., None])[..., 0]
        target = self._tie_focal(self.camera_target - to_cameras(eliminated))
        blocks = cameras - _sum_by_index(
            self.coupling @ inverse[self.point] @ self.coupling.mT, self.frame, len(cameras)
        )
        diagonal = torch.diag_embed(blocks.diagonal(dim1=1, dim2=2) + 1)
        step = _conjugate_gradients(
            product, target, torch.linalg.inv(blocks + 1e-9 * diagonal), self._tie_focal
        )
        point_target = self.point_target - to_points(step)
        return step * self.free, (inverse @ point_target[..., None])[..., 0]

    def _solve_dense(
        self, cameras: Float[Tensor, "frame 8 8"], inverse: Float[Tensor, "point 3 3"]
    ) -> tuple[Float[Tensor, "frame 8"], Float[Tensor, "point 3"]]:
        """Form the Schur complement and factorize it: on a CPU much faster than CG."""
        frames = len(cameras)
        points = len(inverse)
        order = self.pattern.order
        blocks = self.coupling.mT[order]
        arrays = (
            *(order.argsort(), _starts(self.frame, frames), _starts(self.point, points)),
            *(self.frame[order], self.point, blocks, inverse, self.point_target),
        )
        with parallel_lock:
            complement, eliminated = _schur_complement(*(to_numpy(value) for value in arrays))
        matrix = torch.block_diag(*cameras) - torch.from_numpy(complement)
        target = self.camera_target.flatten() - torch.from_numpy(eliminated)
        step = self._solve_cameras(matrix, target)
        step = step.view(frames, 8) * self.free
        point_target = self.point_target - _sum_by_index(
            (self.coupling.mT @ step[self.frame][..., None])[..., 0], self.point, points
        )
        return step, (inverse @ point_target[..., None])[..., 0]

    def _solve_cameras(self, matrix: Tensor, target: Tensor) -> Tensor:
        """Solve the cameras' system. The focal lengths that are one unknown get the same step."""
        tied = matrix.new_empty(0, dtype=torch.long)
        if self.shared_focal:
            tied = (self.free[:, FOCAL] > 0).nonzero()[:, 0] * 8 + FOCAL
        kept = torch.ones(len(target), dtype=torch.bool)
        if len(tied) > 1:
            matrix[:, tied[0]] = matrix[:, tied].sum(1)
            matrix[tied[0]] = matrix[tied].sum(0)
            target[tied[0]] = target[tied].sum()
            kept[tied[1:]] = False
            matrix = matrix[kept][:, kept]
        matrix.diagonal().add_(1e-12 * (matrix.diagonal() + 1))
        factor, failed = torch.linalg.cholesky_ex(matrix)
        if int(failed):  # rounding made it indefinite
            solution = torch.linalg.solve(matrix, target[kept])
        else:
            solution = torch.cholesky_solve(target[kept][:, None], factor)[:, 0]
        step = torch.zeros_like(target)
        step[kept] = solution
        if len(tied) > 1:
            step[tied] = float(step[tied[0]])
        return step

    def _tie_focal(self, step: Tensor) -> Tensor:
        """Average the focal lengths' steps if all frames share one."""
        if not self.shared_focal:
            return step
        step = step.clone()
        estimated = self.free[:, FOCAL] > 0
        step[estimated, FOCAL] = step[estimated, FOCAL].mean()
        return step


class BlockPattern:
    """Positions of the observations' 8 x 3 blocks in a sparse matrix and in its transpose.

    Args:
        frame: Frame of each observation. Observations are ordered by frame, then by point.
        point: Point of each observation.
        frames: Number of frames.
        points: Number of points.
    """

    def __init__(
        self,
        frame: Int[Tensor, "observation"],
        point: Int[Tensor, "observation"],
        frames: int,
        points: int,
    ) -> None:
        self.rows = self._layout(frame, point, frames, 8, 3)
        self.order = (point * frames + frame).argsort()
        self.columns = self._layout(point[self.order], frame[self.order], points, 3, 8)
        self.shape = (8 * frames, 3 * points)

    @staticmethod
    def _layout(
        row: Tensor, column: Tensor, rows: int, height: int, width: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the blocks' positions among the values, and the two indices of a CSR matrix."""
        counts = torch.bincount(row, minlength=rows)
        first = counts.cumsum(0) - counts
        rank = torch.arange(len(row), device=row.device) - first[row]
        down = torch.arange(height, device=row.device)
        across = torch.arange(width, device=row.device)
        position = (
            (height * first[row] * width + rank * width)[:, None, None]
            + (counts[row] * width)[:, None, None] * down[:, None]
            + across
        )
        start = torch.cat(
            [counts.new_zeros(1), (counts * width).repeat_interleave(height).cumsum(0)]
        )
        columns = torch.empty(position.numel(), dtype=torch.long, device=row.device)
        columns[position] = (column * width)[:, None, None] + across.expand(height, width)
        return position, start, columns

    def fill(self, blocks: Float[Tensor, "observation 8 3"]) -> tuple[Tensor, Tensor]:
        """Build the sparse matrix and its transpose.

        Args:
            blocks: One block per observation.

        Returns:
            CSR matrices [8 * frames, 3 * points] and [3 * points, 8 * frames].
        """
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sparse")  # PyTorch warns that CSR is in beta.
            matrix = _sparse_matrix(self.rows, blocks, self.shape)
            transposed = _sparse_matrix(self.columns, blocks[self.order].mT, self.shape[::-1])
        return matrix, transposed


def _sparse_matrix(
    layout: tuple[Tensor, Tensor, Tensor], blocks: Tensor, shape: tuple[int, ...]
) -> Tensor:
    """Build a CSR matrix from blocks."""
    position, start, columns = layout
    values = torch.empty(position.numel(), dtype=blocks.dtype, device=blocks.device)
    values[position] = blocks
    return torch.sparse_csr_tensor(start, columns, values, shape, check_invariants=False)


def _starts(index: Int[Tensor, "observation"], count: int) -> Int[Tensor, "group"]:
    """Return where each index begins among sorted ones, and the end."""
    counts = torch.bincount(index, minlength=count)
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)])


@njit_cached(parallel=PARALLEL)
def _schur_complement(rank, first, start, frame, point, blocks, inverse, point_target):
    """Return what the points subtract from the cameras' matrix and target.

    Observations are ordered by frame, then by point. Those of frame f are first[f] to first[f + 1],
    their points `point`, and `rank` is where they stand when ordered by point, then by frame. In
    that order, those of point p are start[p] to start[p + 1], with frames `frame` and `blocks`.

    `blocks` has the shape [observation, 3, 8], the matrix [8 * frames, 8 * frames], the target
    [8 * frames].
    """
    frames = len(first) - 1
    matrix = np.zeros((8 * frames, 8 * frames))
    target = np.zeros(8 * frames)
    arrays = (rank, start, frame, point, blocks, inverse, point_target)
    # The first frames have the longest rows of the upper triangle, so each loop takes two ends.
    for view in prange((frames + 1) // 2):
        _eliminate_frame(view, first, arrays, matrix, target)
        if frames - 1 - view > view:
            _eliminate_frame(frames - 1 - view, first, arrays, matrix, target)
    for row in prange(8 * frames):
        for column in range(row // 8 * 8):
            matrix[row, column] = matrix[column, row]
    return matrix, target


@njit_cached()
def _eliminate_frame(view, first, arrays, matrix, target):
    """Compute the rows of one frame, from its own block to the right."""
    rank, start, frame, point, blocks, inverse, point_target = arrays
    half = np.empty((8, 3))
    row = 8 * view
    for i in range(first[view], first[view + 1]):
        p = point[i]
        own = blocks[rank[i]]
        for a in range(8):
            for c in range(3):
                half[a, c] = (
                    own[0, a] * inverse[p, 0, c]
                    + own[1, a] * inverse[p, 1, c]
                    + own[2, a] * inverse[p, 2, c]
                )
                target[row + a] += half[a, c] * point_target[p, c]
        for j in range(rank[i], start[p + 1]):  # itself and later frames
            column = 8 * frame[j]
            block = blocks[j]
            for a in range(8):
                x = half[a, 0]
                y = half[a, 1]
                z = half[a, 2]
                values = matrix[row + a, column : column + 8]
                for b in range(8):  # in order of memory, so that it becomes one vector
                    values[b] += x * block[0, b] + y * block[1, b] + z * block[2, b]


def _conjugate_gradients(
    product: Callable[[Tensor], Tensor],
    target: Tensor,
    preconditioner: Tensor,
    project: Callable[[Tensor], Tensor],
) -> Tensor:
    """Solve `product(step) = target` by preconditioned conjugate gradients."""
    step = torch.zeros_like(target)
    residual = target
    preconditioned = project((preconditioner @ residual[..., None])[..., 0])
    direction = preconditioned
    norm = (residual * preconditioned).sum()
    initial_norm = float(norm)
    for _ in range(MAX_CG_STEPS):
        if not float(norm) > 1e-7 * initial_norm:
            break
        image = product(direction)
        length = norm / (direction * image).sum().clamp(min=1e-300)
        step = step + length * direction
        residual = residual - length * image
        preconditioned = project((preconditioner @ residual[..., None])[..., 0])
        new_norm = (residual * preconditioned).sum()
        direction = preconditioned + new_norm / norm * direction
        norm = new_norm
    return step


def _damp(blocks: Tensor, damping: float) -> Tensor:
    """Add damping to the diagonals of blocks; diagonals of 0 become about 1."""
    diagonal = blocks.diagonal(dim1=1, dim2=2)
    return blocks + torch.diag_embed(
        damping * diagonal
        + 1e-9 * diagonal.amax(1, keepdim=True)
        + (diagonal == 0).double()
        + 1e-12
    )


def _sum_by_index(values: Tensor, index: Tensor, count: int) -> Tensor:
    """Sum values with the same index."""
    return values.new_zeros(count, *values.shape[1:]).index_add_(0, index, values)
