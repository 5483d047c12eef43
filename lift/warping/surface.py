"""What has been seen so far, as textured surfaces, and how it looks from elsewhere.

Every frame adds the part of it that was new: a mesh with a vertex at each pixel centre, cut where depth jumps. Pictures of it are
made by rasterising the mesh on a lattice of half pixels and looking colours up where they came from, so that nothing is ever
resampled twice, approaching leaves no cracks, and a camera that did not move sees exactly the pixels it started from.
"""

from copy import copy
from dataclasses import dataclass
from functools import reduce

import cv2
import numba
import numpy as np
from numba import prange

from lift.runtime import jit
from lift.runtime.jit import PARALLEL, compiled
from lift.types import Cameras

CLOSE = 1e-3
"""A mesh is not drawn where it comes nearer to the camera than this share of the scene's typical depth."""
PARTS = 64
"""In how many parts a surface's cells are projected."""

LATER = 0.01
"""What was seen first wins against what was made up later, within this share of depth."""
SHARP = 16
FRONT = 32
"""Flags of a cell beside the four bits of its corners: its surroundings are uncut; it belongs to the near side of a cut."""


@dataclass
class View:
    """A picture of the surface, of H x W pixels, and the lattice of (2H+1) x (2W+1) samples it was made from."""

    rgb: np.ndarray
    inverse: np.ndarray
    """1 / z-depth; 0 in holes."""
    front: np.ndarray
    """Pixels of something nearer than what a hole beside it must be filled with."""
    cell: np.ndarray
    place: np.ndarray

    @property
    def hole(self) -> np.ndarray:
        return self.cell[1::2, 1::2] < 0


class Surface:
    """Grows by `add`, is looked at by `look`. Cameras: world_to_camera 4x4 and intrinsics 3x3, as numpy float64.

    unit: the scene's typical depth. jump: a step of inverse depth between neighbouring pixels, in units of 1 / unit, beyond which
    they belong to different things.
    """

    def __init__(self, unit: float, jump: float) -> None:
        self.unit, self.jump = unit, jump
        self.corners = np.zeros((0, 4, 3), np.float32)
        self.cells = np.zeros((0, 3), np.int32)
        self.flags = np.zeros(0, np.uint8)
        self.textures = np.zeros((0, 1, 1, 3), np.uint8)
        self.layers = 0
        self.first: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None

    def copy(self) -> "Surface":
        """One that grows by itself."""
        other = copy(self)  # arrays are replaced as it grows, but for the textures
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
        """Image [H W 3] uint8, depth [H W] without gaps, new [H W]: the pixels that were not on the surface yet."""
        height, width = depth.shape
        if self.layers == len(self.textures):
            textures = np.zeros((max(8, 2 * self.layers), height, width, 3), np.uint8)
            textures[: self.layers] = self.textures if self.layers else 0
            self.textures = textures
        self.textures[self.layers] = image
        self.first = self.first or (depth, to_camera, intrinsics)
        index, value, flags = self._cells(1 / np.pad(depth.astype(np.float64), 1, mode="edge"), new)
        row, column = np.divmod(index, width + 1)
        inverse_intrinsics, to_world = np.linalg.inv(intrinsics), np.linalg.inv(to_camera)
        down, right = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
        pixels = np.stack(
            [column[:, None] + right - 0.5, row[:, None] + down - 0.5, np.ones((len(index), 4))],
            axis=-1,
        )
        points = (pixels @ inverse_intrinsics.T) / value[..., None] @ to_world[:3, :3].T + to_world[
            :3, 3
        ]
        layer = np.full(len(index), self.layers)
        self.corners = np.concatenate([self.corners, points.astype(np.float32)])
        self.cells = np.concatenate(
            [self.cells, np.stack([layer, row, column], axis=1).astype(np.int32)]
        )
        self.flags = np.concatenate([self.flags, flags])
        self.layers += 1

    def look(self, to_camera: np.ndarray, intrinsics: np.ndarray, width: int, height: int) -> View:
        scale = np.diag([2.0, 2.0, 1.0])  # the lattice has two steps a pixel
        matrix = (scale @ intrinsics @ to_camera[:3]).astype(np.float32)
        shape = (2 * height + 1, 2 * width + 1)
        inverse, cell, place = (
            np.zeros(shape, np.float32),
            np.full(shape, -1, np.int32),
            np.zeros((*shape, 2), np.float32),
        )
        rgb, front = np.zeros((height, width, 3), np.float32), np.zeros((height, width), np.bool_)
        with jit.one_at_a_time:
            _rasterize(
                self.corners,
                self.cells,
                self.flags,
                matrix,
                np.float32(CLOSE * self.unit),
                numba.get_num_threads(),
                inverse,
                cell,
                place,
            )
            _shade(self.cells, self.flags, self.textures, cell, place, rgb, front)
        return View(rgb, inverse[1::2, 1::2].copy(), front, cell, place)

    def recede(
        self, depth: np.ndarray, hole: np.ndarray, to_camera: np.ndarray, intrinsics: np.ndarray
    ) -> np.ndarray:
        """Depth with what was made up in holes moved back until it hides nothing of the first picture."""
        first, to_first, first_intrinsics = self.first
        height, width = first.shape
        row, column = np.nonzero(hole)
        rays = (
            np.stack([column + 0.5, row + 0.5, np.ones(len(row))], axis=1)
            @ np.linalg.inv(intrinsics).T
        )
        change = to_first @ np.linalg.inv(to_camera)
        # In the first camera's pixels, a ray is the line away * z + origin.
        away, origin = (
            rays @ (first_intrinsics @ change[:3, :3]).T,
            first_intrinsics @ change[:3, 3],
        )
        out, far = depth.astype(np.float64), first.max()
        z, todo = out[row, column], np.arange(len(row))
        while len(todo):
            x, y, w = (away[todo] * z[todo, None] + origin).T
            seen = (w > 0) & (x >= 0) & (x < width * w) & (y >= 0) & (y < height * w)
            todo, x, y, w = todo[seen], x[seen], y[seen], w[seen]
            before = w < (1 - LATER) * first[(y / w).astype(int), (x / w).astype(int)]
            todo = todo[before]
            z[todo] *= 1.02
            todo = todo[z[todo] < 2 * far]
        out[row, column] = z
        return out.astype(depth.dtype)

    def soften(self, view: View) -> np.ndarray:
        """The view's colours, holes filled by now, with silhouettes antialiased."""
        out = view.rgb.copy()
        with jit.one_at_a_time:
            _blend(self.cells, self.flags, self.textures, view.cell, view.place, view.rgb, out)
        return out

    def _cells(
        self, inverse: np.ndarray, new: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Cells between four neighbouring pixels: their index, the inverse depth of their corners, their flags.

        A cell whose corners belong together is one piece. A cut one becomes two, each flat, drawn only in the quarters of its own
        corners. `inverse` has a border of one pixel: half a cell is drawn outside the outermost pixel centres.
        """
        corners = _corners(inverse)
        low, high = reduce(np.minimum, corners), reduce(np.maximum, corners)
        cut, middle = (high - low) * self.unit > self.jump, (low + high) / 2
        # The near side of a cut, two pixels deep: a hole beside it lies behind it.
        brink, beyond = np.zeros(inverse.shape, bool), np.zeros(inverse.shape, bool)
        for corner, on_brink, is_beyond in zip(
            corners, _corners(brink), _corners(beyond), strict=True
        ):
            on_brink |= cut & (corner > middle)
            is_beyond |= cut & (corner <= middle)
        brink |= _grown(brink) & ~beyond
        around = _grown(cut)
        # From here on only the cells that show something new.
        index = np.flatnonzero(reduce(np.logical_or, _corners(np.pad(new, 1))))
        cut, middle, around = cut.ravel()[index], middle.ravel()[index], around.ravel()[index]
        corner, present, fresh, edge = (
            np.stack([part.ravel()[index] for part in _corners(a)], axis=1)
            for a in (inverse, np.pad(np.ones(new.shape, bool), 1), np.pad(new, 1), brink)
        )
        near = corner > middle[:, None]
        chosen = []
        for group in (near | ~cut[:, None], ~near & cut[:, None]):
            member = group & present
            used = (member & fresh).any(1)
            whole = member.all(1) & ~around
            flags = (
                (member * np.array([1, 2, 4, 8])).sum(1)
                + SHARP * whole
                + FRONT * (edge & member).any(1)
            )
            chosen.append(
                (index[used], _flattened(corner[used], group[used]), flags[used].astype(np.uint8))
            )
        return tuple(np.concatenate(parts) for parts in zip(*chosen, strict=True))


def matrices_of(cameras: Cameras) -> list[tuple[np.ndarray, np.ndarray]]:
    """World to camera and intrinsics of each, as `Surface` takes them."""
    return list(
        zip(
            cameras.world_to_camera.double().cpu().numpy(),
            cameras.intrinsics.double().cpu().numpy(),
            strict=True,
        )
    )


def _corners(a: np.ndarray) -> tuple[np.ndarray, ...]:
    """Views of every cell's four corners, upper left, upper right, lower left, lower right."""
    return a[:-1, :-1], a[:-1, 1:], a[1:, :-1], a[1:, 1:]


def _grown(mask: np.ndarray) -> np.ndarray:
    return cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)


def _flattened(corner: np.ndarray, member: np.ndarray) -> np.ndarray:
    """Corners that are not members get the value of members beside them, so that neighbouring pieces meet."""
    out = corner.copy()
    for k in range(4):
        beside, below, across = k ^ 1, k ^ 2, k ^ 3
        weight = member[:, beside] * 1.0 + member[:, below]
        mean = (
            member[:, beside] * corner[:, beside] + member[:, below] * corner[:, below]
        ) / np.maximum(weight, 1)
        out[:, k] = np.where(
            member[:, k], corner[:, k], np.where(weight > 0, mean, corner[:, across])
        )
    return out


@compiled(fastmath=True)
def _rasterize_rows(x, y, w, rows, cells, flags, top, bottom, inverse, cell, place):
    width = inverse.shape[1]
    for q in range(len(rows)):
        if rows[q, 1] < top or rows[q, 0] >= bottom:
            continue
        bias = np.float32(1 - LATER) if cells[q, 0] > 0 else np.float32(1)
        mask = flags[q]
        for half in range(2):
            a = 0 if half == 0 else 3  # right angle at the upper left, then at the lower right
            b, c = (1, 2) if half == 0 else (2, 1)
            abx, aby, acx, acy = (
                x[q, b] - x[q, a],
                y[q, b] - y[q, a],
                x[q, c] - x[q, a],
                y[q, c] - y[q, a],
            )
            area = abx * acy - aby * acx
            if area < 1e-7:  # seen from behind, or from the side
                continue
            scale = 1 / area
            first_i = max(top, int(np.ceil(min(y[q, a], y[q, b], y[q, c]) - 1e-3)))
            last_i = min(bottom - 1, int(np.floor(max(y[q, a], y[q, b], y[q, c]) + 1e-3)))
            first_j = max(0, int(np.ceil(min(x[q, a], x[q, b], x[q, c]) - 1e-3)))
            last_j = min(width - 1, int(np.floor(max(x[q, a], x[q, b], x[q, c]) + 1e-3)))
            for i in range(first_i, last_i + 1):
                for j in range(first_j, last_j + 1):
                    dx, dy = j - x[q, a], i - y[q, a]
                    s = (dx * acy - dy * acx) * scale
                    t = (abx * dy - aby * dx) * scale
                    if s < -1e-3 or t < -1e-3 or s + t > 1.001:
                        continue
                    value = (w[q, a] + s * (w[q, b] - w[q, a]) + t * (w[q, c] - w[q, a])) * bias
                    if value <= inverse[i, j]:
                        continue
                    u, v = (s, t) if half == 0 else (1 - s, 1 - t)
                    # In the middle between two corners a sample is either's: no crack runs between the pieces of a cut cell.
                    bits = (
                        (1 if u < 0.501 else 0)
                        | (2 if u > 0.499 else 0)
                        | (4 if u < 0.501 else 0)
                        | (8 if u > 0.499 else 0)
                    )
                    bits &= (3 if v < 0.501 else 0) | (12 if v > 0.499 else 0)
                    if mask & bits:
                        inverse[i, j], cell[i, j] = value, q
                        place[i, j, 0], place[i, j, 1] = u, v
    for i in range(top, bottom):
        for j in range(width):
            if cell[i, j] >= 0 and cells[cell[i, j], 0] > 0:
                inverse[i, j] /= np.float32(1 - LATER)


@compiled(fastmath=True, parallel=PARALLEL)
def _rasterize(corners, cells, flags, matrix, close, bands, inverse, cell, place):
    height, width = inverse.shape
    x, y, w = (
        np.empty((len(corners), 4), np.float32),
        np.empty((len(corners), 4), np.float32),
        np.empty((len(corners), 4), np.float32),
    )
    rows = np.empty(
        (len(corners), 2), np.int32
    )  # the first and last of the lattice that a cell may touch
    for part in prange(PARTS):
        for q in range(part * len(corners) // PARTS, (part + 1) * len(corners) // PARTS):
            rows[q, 0], rows[q, 1] = height, -1
            for k in range(4):
                p = corners[q, k]
                z = matrix[2, 0] * p[0] + matrix[2, 1] * p[1] + matrix[2, 2] * p[2] + matrix[2, 3]
                w[q, k] = 1 / z if z >= close else np.float32(0)
                x[q, k] = (
                    matrix[0, 0] * p[0] + matrix[0, 1] * p[1] + matrix[0, 2] * p[2] + matrix[0, 3]
                ) * w[q, k]
                y[q, k] = (
                    matrix[1, 0] * p[0] + matrix[1, 1] * p[1] + matrix[1, 2] * p[2] + matrix[1, 3]
                ) * w[q, k]
            low, high = max(min(y[q]), np.float32(-1)), min(max(y[q]), np.float32(height))
            if min(w[q]) > 0 and max(x[q]) >= 0 and min(x[q]) <= width - 1:
                rows[q, 0], rows[q, 1] = (
                    int(np.ceil(low - np.float32(1e-3))),
                    int(np.floor(high + np.float32(1e-3))),
                )
    for band in prange(bands):
        top, bottom = band * height // bands, (band + 1) * height // bands
        _rasterize_rows(x, y, w, rows, cells, flags, top, bottom, inverse, cell, place)


@compiled(fastmath=True)
def _cubic(t, weights):
    """Catmull-Rom: interpolates, and stays sharp where a bilinear lookup blurs."""
    weights[0] = ((-t + 2) * t - 1) * t / 2
    weights[1] = ((3 * t - 5) * t * t + 2) / 2
    weights[2] = ((-3 * t + 4) * t + 1) * t / 2
    weights[3] = (t - 1) * t * t / 2


@compiled(fastmath=True)
def _color(cells, flags, textures, q, u, v, out, wu, wv):
    """Colour of cell q at (u, v): Catmull-Rom away from cuts, else bilinear among the corners that belong to the cell."""
    layer, row, column = cells[q, 0], cells[q, 1] - 1, cells[q, 2] - 1
    height, width = textures.shape[1], textures.shape[2]
    out[:] = 0
    if flags[q] & SHARP and 1 <= row < height - 2 and 1 <= column < width - 2:
        _cubic(u, wu)
        _cubic(v, wv)
        for i in range(4):
            for j in range(4):
                weight = wv[i] * wu[j]
                for k in range(3):
                    out[k] += weight * textures[layer, row - 1 + i, column - 1 + j, k]
        return
    total = np.float32(0)
    for corner in range(4):
        if flags[q] & (1 << corner):
            i, j = corner >> 1, corner & 1
            weight = (v if i else 1 - v) * (u if j else 1 - u) + np.float32(1e-6)
            total += weight
            for k in range(3):
                out[k] += weight * textures[layer, row + i, column + j, k]
    for k in range(3):
        out[k] /= total


@compiled(fastmath=True, parallel=PARALLEL)
def _shade(cells, flags, textures, cell, place, rgb, front):
    for i in prange(rgb.shape[0]):
        wu, wv = np.empty(4, np.float32), np.empty(4, np.float32)
        for j in range(rgb.shape[1]):
            q = cell[2 * i + 1, 2 * j + 1]
            if q >= 0:
                u, v = place[2 * i + 1, 2 * j + 1]
                _color(cells, flags, textures, q, u, v, rgb[i, j], wu, wv)
                front[i, j] = flags[q] & FRONT


@compiled()
def _beside_hole(cell, a, b):
    """A pixel beside sample (a, b) that is a hole, or (-1, -1)."""
    for c in range((a - 1) // 2, a // 2 + 1):
        for d in range((b - 1) // 2, b // 2 + 1):
            if (
                0 <= 2 * c < cell.shape[0] - 1
                and 0 <= 2 * d < cell.shape[1] - 1
                and cell[2 * c + 1, 2 * d + 1] < 0
            ):
                return c, d
    return -1, -1


@compiled(fastmath=True, parallel=PARALLEL)
def _blend(cells, flags, textures, cell, place, rgb, out):
    """Where neighbouring samples come from different places, a pixel is their tent-weighted mean; a missing sample takes the
    colour that a hole beside it was filled with.
    """
    height, width = rgb.shape[:2]
    for i in prange(height):
        wu, wv, color = np.empty(4, np.float32), np.empty(4, np.float32), np.empty(3, np.float32)
        for j in range(width):
            q = cell[2 * i + 1, 2 * j + 1]
            if q < 0:
                continue
            x, y = (
                cells[q, 2] + place[2 * i + 1, 2 * j + 1, 0],
                cells[q, 1] + place[2 * i + 1, 2 * j + 1, 1],
            )
            torn = False
            for a in range(2 * i, 2 * i + 3):
                for b in range(2 * j, 2 * j + 3):
                    r = cell[a, b]
                    if r < 0:
                        torn |= _beside_hole(cell, a, b)[0] >= 0
                    elif cells[r, 0] != cells[q, 0] or (
                        abs(cells[r, 2] + place[a, b, 0] - x) > 0.8
                        or abs(cells[r, 1] + place[a, b, 1] - y) > 0.8
                    ):
                        torn = True
            if not torn:
                continue
            total = np.float32(0)
            out[i, j] = 0
            for a in range(2 * i, 2 * i + 3):
                for b in range(2 * j, 2 * j + 3):
                    weight = np.float32((2 - abs(a - 2 * i - 1)) * (2 - abs(b - 2 * j - 1)))
                    r = cell[a, b]
                    if r >= 0:
                        _color(
                            cells, flags, textures, r, place[a, b, 0], place[a, b, 1], color, wu, wv
                        )
                    else:
                        c, d = _beside_hole(cell, a, b)
                        if c < 0:
                            continue
                        color[:] = rgb[c, d]
                    total += weight
                    for k in range(
                        3
                    ):  # as an array's expression it cannot be compiled where numba has only `_color` cached
                        out[i, j, k] += weight * color[k]
            out[i, j] /= total
