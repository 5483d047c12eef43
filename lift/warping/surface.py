"""Frames as textured surfaces, rendered from other views.

Every frame adds its new part: a mesh with a vertex at each pixel centre, cut at depth edges. The
mesh is rasterised on a lattice of half pixels, and colours are looked up in the source frame. So
nothing is resampled twice, and approaching leaves no cracks. A camera that does not move sees
exactly the pixels of its frame.
"""

from copy import copy
from dataclasses import dataclass
from functools import reduce

import cv2
import numba
import numpy as np

from lift.runtime import jit
from lift.types import Cameras
from lift.warping.surface_kernels import (
    FIRST_VIEW_MARGIN,
    FRONT,
    SHARP,
    blend,
    rasterize,
    shade,
)

MIN_DEPTH = 1e-3
"""Near plane, as a fraction of the scene's typical depth."""


@dataclass
class SurfaceView:
    """A rendered view of H x W pixels, with its lattice of (2H+1) x (2W+1) samples."""

    rgb: np.ndarray
    """Colours in 0..255, [height, width, 3]."""
    inverse: np.ndarray
    """Inverse depth, [height, width]. 0 in holes."""
    front: np.ndarray
    """Pixels in front of the filling of a neighbouring hole, [height, width]."""
    cell: np.ndarray
    """Index of the cell at each lattice sample, -1 in holes."""
    uv: np.ndarray
    """Position in the cell at each lattice sample, in [0, 1]."""

    @property
    def hole(self) -> np.ndarray:
        """Pixels that show no surface, [height, width]."""
        return self.cell[1::2, 1::2] < 0


class Surface:
    """A growing textured surface. `add` adds a frame, `render` renders a view.

    Cameras are given as world_to_camera [4, 4] and intrinsics [3, 3], numpy float64.

    Args:
        unit: Typical depth of the scene.
        edge_threshold: Step of inverse depth between neighbouring pixels at which the surface is
            cut, in units of 1 / `unit`.
    """

    def __init__(self, unit: float, edge_threshold: float) -> None:
        self.unit = unit
        self.edge_threshold = edge_threshold
        self.corners = np.zeros((0, 4, 3), np.float32)
        self.cells = np.zeros((0, 3), np.int32)
        self.flags = np.zeros(0, np.uint8)
        self.textures = np.zeros((0, 1, 1, 3), np.uint8)
        self.num_layers = 0
        self.first_view: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None

    def copy(self) -> "Surface":
        """Return a copy that grows independently."""
        other = copy(self)  # growth replaces all arrays except for the textures
        other.textures = self.textures.copy()
        return other

    def add(
        self,
        image: np.ndarray,
        depth: np.ndarray,
        new: np.ndarray,
        to_camera: np.ndarray,
        intrinsics: np.ndarray,
    ) -> None:
        """Add the new pixels of a frame.

        Args:
            image: Colours, [height, width, 3] uint8.
            depth: z-depth without gaps, [height, width].
            new: Pixels that the surface does not show yet, [height, width].
            to_camera: World to camera, [4, 4].
            intrinsics: Calibration matrix in pixels, [3, 3].
        """
        height, width = depth.shape
        if self.num_layers == len(self.textures):
            textures = np.zeros((max(8, 2 * self.num_layers), height, width, 3), np.uint8)
            textures[: self.num_layers] = self.textures if self.num_layers else 0
            self.textures = textures
        self.textures[self.num_layers] = image
        self.first_view = self.first_view or (depth, to_camera, intrinsics)
        index, value, flags = self._cells(1 / np.pad(depth.astype(np.float64), 1, mode="edge"), new)
        row, column = np.divmod(index, width + 1)
        inverse_intrinsics = np.linalg.inv(intrinsics)
        to_world = np.linalg.inv(to_camera)
        down = np.array([0, 0, 1, 1])
        right = np.array([0, 1, 0, 1])
        pixels = np.stack(
            [column[:, None] + right - 0.5, row[:, None] + down - 0.5, np.ones((len(index), 4))],
            axis=-1,
        )
        local = (pixels @ inverse_intrinsics.T) / value[..., None]
        points = local @ to_world[:3, :3].T + to_world[:3, 3]
        layer = np.full(len(index), self.num_layers)
        self.corners = np.concatenate([self.corners, points.astype(np.float32)])
        self.cells = np.concatenate(
            [self.cells, np.stack([layer, row, column], axis=1).astype(np.int32)]
        )
        self.flags = np.concatenate([self.flags, flags])
        self.num_layers += 1

    def render(
        self, to_camera: np.ndarray, intrinsics: np.ndarray, width: int, height: int
    ) -> SurfaceView:
        """Render a view.

        Args:
            to_camera: World to camera, [4, 4].
            intrinsics: Calibration matrix in pixels, [3, 3].
            width: Width in pixels.
            height: Height in pixels.

        Returns:
            The view, with holes.
        """
        inverse, cell, uv = self._rasterize(to_camera, intrinsics, width, height)
        rgb = np.zeros((height, width, 3), np.float32)
        front = np.zeros((height, width), np.bool_)
        with jit.parallel_lock:
            shade(self.cells, self.flags, self.textures, cell, uv, rgb, front)
        return SurfaceView(rgb, inverse[1::2, 1::2].copy(), front, cell, uv)

    def find_holes(
        self, to_camera: np.ndarray, intrinsics: np.ndarray, width: int, height: int
    ) -> np.ndarray:
        """Find the pixels of a view that show no surface, without its colours.

        Args:
            to_camera: World to camera, [4, 4].
            intrinsics: Calibration matrix in pixels, [3, 3].
            width: Width in pixels.
            height: Height in pixels.

        Returns:
            Mask of holes, [height, width].
        """
        return self._rasterize(to_camera, intrinsics, width, height)[1][1::2, 1::2] < 0

    def _rasterize(
        self, to_camera: np.ndarray, intrinsics: np.ndarray, width: int, height: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return inverse depth, cell and position in the cell of the lattice's samples."""
        scale = np.diag([2.0, 2.0, 1.0])  # the lattice has two steps per pixel
        matrix = (scale @ intrinsics @ to_camera[:3]).astype(np.float32)
        shape = (2 * height + 1, 2 * width + 1)
        inverse = np.zeros(shape, np.float32)
        cell = np.full(shape, -1, np.int32)
        uv = np.zeros((*shape, 2), np.float32)
        near = np.float32(MIN_DEPTH * self.unit)
        threads = numba.get_num_threads()
        surface = self.corners, self.cells, self.flags
        with jit.parallel_lock:
            rasterize(*surface, matrix, near, threads, inverse, cell, uv)
        return inverse, cell, uv

    def push_back(
        self, depth: np.ndarray, hole: np.ndarray, to_camera: np.ndarray, intrinsics: np.ndarray
    ) -> np.ndarray:
        """Move filled holes back until they hide nothing of the first picture.

        Args:
            depth: z-depth with holes filled, [height, width].
            hole: The filled pixels, [height, width].
            to_camera: World to camera, [4, 4].
            intrinsics: Calibration matrix in pixels, [3, 3].

        Returns:
            z-depth, [height, width].
        """
        assert self.first_view is not None, "the surface is empty"
        first_depth, to_first, first_intrinsics = self.first_view
        height, width = first_depth.shape
        row, column = np.nonzero(hole)
        rays = (
            np.stack([column + 0.5, row + 0.5, np.ones(len(row))], axis=1)
            @ np.linalg.inv(intrinsics).T
        )
        change = to_first @ np.linalg.inv(to_camera)
        # In the first camera's pixels, a ray is the line direction * z + origin.
        direction = rays @ (first_intrinsics @ change[:3, :3]).T
        origin = first_intrinsics @ change[:3, 3]
        out = depth.astype(np.float64)
        far = first_depth.max()
        z = out[row, column]
        active = np.arange(len(row))
        while len(active):
            x, y, w = (direction[active] * z[active, None] + origin).T
            visible = (w > 0) & (x >= 0) & (x < width * w) & (y >= 0) & (y < height * w)
            active = active[visible]
            x = x[visible]
            y = y[visible]
            w = w[visible]
            surface_depth = first_depth[(y / w).astype(int), (x / w).astype(int)]
            active = active[w < (1 - FIRST_VIEW_MARGIN) * surface_depth]
            z[active] *= 1.02
            active = active[z[active] < 2 * far]
        out[row, column] = z
        return out.astype(depth.dtype)

    def antialias(self, view: SurfaceView) -> np.ndarray:
        """Antialias silhouettes.

        Args:
            view: A view whose holes are filled.

        Returns:
            Colours in 0..255, [height, width, 3].
        """
        out = view.rgb.copy()
        with jit.parallel_lock:
            blend(self.cells, self.flags, self.textures, view.cell, view.uv, view.rgb, out)
        return out

    def _cells(
        self, inverse: np.ndarray, new: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Build the cells between four neighbouring pixels.

        A cell without a cut is one piece. A cut cell becomes two flat pieces. Each is drawn only in
        the quarters of its own corners.

        Args:
            inverse: Inverse depth with a border of one pixel. So half a cell is drawn outside of
                the outermost pixel centres.
            new: Pixels that the surface does not show yet.

        Returns:
            Index of each cell, inverse depth of its corners, and its flags.
        """
        corners = _corners(inverse)
        low = reduce(np.minimum, corners)
        high = reduce(np.maximum, corners)
        cut = (high - low) * self.unit > self.edge_threshold
        threshold = (low + high) / 2
        near_side = self._near_side(corners, cut, threshold, inverse.shape)
        near_cut = _dilate(cut)
        # From here on only the cells that show something new.
        index = np.flatnonzero(reduce(np.logical_or, _corners(np.pad(new, 1))))
        cut = cut.ravel()[index]
        threshold = threshold.ravel()[index]
        near_cut = near_cut.ravel()[index]
        corner, inside, is_new, edge = (
            np.stack([part.ravel()[index] for part in _corners(a)], axis=1)
            for a in (inverse, np.pad(np.ones(new.shape, bool), 1), np.pad(new, 1), near_side)
        )
        near = corner > threshold[:, None]
        pieces = []
        for group in (near | ~cut[:, None], ~near & cut[:, None]):
            member = group & inside
            has_new = (member & is_new).any(1)
            sharp = member.all(1) & ~near_cut
            flags = (
                (member * np.array([1, 2, 4, 8])).sum(1)
                + SHARP * sharp
                + FRONT * (edge & member).any(1)
            )
            pieces.append(
                (
                    index[has_new],
                    _fill_corners(corner[has_new], group[has_new]),
                    flags[has_new].astype(np.uint8),
                )
            )
        indices, values, flags = (np.concatenate(parts) for parts in zip(*pieces, strict=True))
        return indices, values, flags

    @staticmethod
    def _near_side(
        corners: tuple[np.ndarray, ...],
        cut: np.ndarray,
        threshold: np.ndarray,
        shape: tuple[int, ...],
    ) -> np.ndarray:
        """Mark the near side of cuts, two pixels deep. A hole beside it is behind it."""
        near_side = np.zeros(shape, bool)
        far_side = np.zeros(shape, bool)
        for corner, is_near, is_far in zip(
            corners, _corners(near_side), _corners(far_side), strict=True
        ):
            is_near |= cut & (corner > threshold)
            is_far |= cut & (corner <= threshold)
        near_side |= _dilate(near_side) & ~far_side
        return near_side


def camera_matrices(cameras: Cameras) -> list[tuple[np.ndarray, np.ndarray]]:
    """Convert cameras to the form that `Surface` uses.

    Args:
        cameras: The cameras.

    Returns:
        World to camera and intrinsics of each camera.
    """
    return list(
        zip(
            cameras.world_to_camera.double().cpu().numpy(),
            cameras.intrinsics.double().cpu().numpy(),
            strict=True,
        )
    )


def _corners(a: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return every cell's corners as views: upper left, upper right, lower left, lower right."""
    return a[:-1, :-1], a[:-1, 1:], a[1:, :-1], a[1:, 1:]


def _dilate(mask: np.ndarray) -> np.ndarray:
    """Dilate a mask by one pixel."""
    return cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)


def _fill_corners(corner: np.ndarray, member: np.ndarray) -> np.ndarray:
    """Give other corners the value of neighbouring members, so that adjacent pieces meet."""
    out = corner.copy()
    for k in range(4):
        horizontal = k ^ 1
        below = k ^ 2
        across = k ^ 3
        weight = member[:, horizontal] * 1.0 + member[:, below]
        mean = (
            member[:, horizontal] * corner[:, horizontal] + member[:, below] * corner[:, below]
        ) / np.maximum(weight, 1)
        out[:, k] = np.where(
            member[:, k], corner[:, k], np.where(weight > 0, mean, corner[:, across])
        )
    return out
