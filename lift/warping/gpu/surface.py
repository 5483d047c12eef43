"""Frames as textured surfaces, rendered on a CUDA device. Twin of `lift.warping.surface`.

All functions work on tensors of any device.
"""

from copy import copy
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from torch.nn.functional import pad

from lift.runtime.cuda_graphs import cuda_graph
from lift.warping.gpu.masks import dilate
from lift.warping.gpu.raster import MAX_CANDIDATES, draw, rasterize
from lift.warping.gpu.shading import antialias, shade
from lift.warping.surface import MIN_DEPTH
from lift.warping.surface_kernels import FIRST_VIEW_MARGIN, FRONT, SHARP

_STEP_BACK = 1.02
"""Factor of depth by which `push_back` moves a pixel at once."""


@dataclass
class TensorSurfaceView:
    """A rendered view of H x W pixels, with its lattice of (2H+1) x (2W+1) samples."""

    rgb: Float[Tensor, "height width 3"]
    """Colours in 0..255."""
    inverse: Float[Tensor, "height width"]
    """Inverse depth. 0 in holes."""
    front: Bool[Tensor, "height width"]
    """Pixels in front of the filling of a neighbouring hole."""
    cell: Int[Tensor, "row column"]
    """Index of the cell at each lattice sample, -1 in holes."""
    uv: Float[Tensor, "row column 2"]
    """Position in the cell at each lattice sample, in [0, 1]."""

    @property
    def hole(self) -> Bool[Tensor, "height width"]:
        """Pixels that show no surface."""
        return self.cell[1::2, 1::2] < 0


class TensorSurface:
    """A growing textured surface. See `lift.warping.surface.Surface`.

    Cameras are given as world_to_camera [4, 4] and intrinsics [3, 3], numpy float64.

    Args:
        unit: Typical depth of the scene.
        edge_threshold: Step of inverse depth between neighbouring pixels at which the surface is
            cut, in units of 1 / `unit`.
    """

    def __init__(self, unit: float, edge_threshold: float) -> None:
        self.unit = unit
        self.edge_threshold = edge_threshold
        self.num_layers = 0
        self.first_view: tuple[Tensor, np.ndarray, np.ndarray] | None = None
        self._corners: list[Tensor] = []
        self._cells: list[Tensor] = []
        self._flags: list[Tensor] = []
        self.textures = torch.zeros((0, 1, 1, 3), dtype=torch.uint8)

    def copy(self) -> "TensorSurface":
        """Return a copy that grows independently."""
        other = copy(self)
        other._corners = list(self._corners)
        other._cells = list(self._cells)
        other._flags = list(self._flags)
        other.textures = self.textures.clone()
        return other

    @property
    def corners(self) -> Float[Tensor, "cell 4 3"]:
        """World positions of the cells' corners."""
        return _joined(self._corners)

    @property
    def cells(self) -> Int[Tensor, "cell 3"]:
        """Layer, row and column of the cells."""
        return _joined(self._cells)

    @property
    def flags(self) -> UInt8[Tensor, "cell"]:
        """Flags of the cells."""
        return _joined(self._flags)

    def add(
        self,
        image: UInt8[Tensor, "height width 3"],
        depth: Float[Tensor, "height width"],
        new: Bool[Tensor, "height width"],
        to_camera: np.ndarray,
        intrinsics: np.ndarray,
    ) -> None:
        """Add the new pixels of a frame.

        Args:
            image: Colours.
            depth: z-depth without gaps.
            new: Pixels that the surface does not show yet.
            to_camera: World to camera, [4, 4].
            intrinsics: Calibration matrix in pixels, [3, 3].
        """
        height, width = depth.shape
        if self.num_layers == len(self.textures):
            shape = (max(8, 2 * self.num_layers), height, width, 3)
            textures = torch.zeros(shape, dtype=torch.uint8, device=image.device)
            textures[: self.num_layers] = self.textures if self.num_layers else 0
            self.textures = textures
        self.textures[self.num_layers] = image
        self.first_view = self.first_view or (depth, to_camera, intrinsics)
        inverse = 1 / pad(depth.double()[None, None], (1, 1, 1, 1), mode="replicate")[0, 0]
        values, flags = _build_cells(inverse, new, threshold=self.edge_threshold / self.unit)
        piece, row, column = flags.nonzero(as_tuple=True)
        value = values[piece, row, column]
        down = torch.tensor([0, 0, 1, 1], device=row.device)
        right = torch.tensor([0, 1, 0, 1], device=row.device)
        x = column[:, None] + right - 0.5
        y = row[:, None] + down - 0.5
        pixels = torch.stack([x, y, torch.ones_like(x)], -1).double()
        to_world = np.linalg.inv(to_camera)
        rays = _constant(to_world[:3, :3] @ np.linalg.inv(intrinsics), pixels)
        origin = _constant(to_world[:3, 3], pixels)
        points = (pixels @ rays.T) / value[..., None] + origin
        layer = torch.full_like(row, self.num_layers)
        self._corners.append(points.float())
        self._cells.append(torch.stack([layer, row, column], 1))
        self._flags.append(flags[piece, row, column])
        self.num_layers += 1

    def render(
        self, to_camera: np.ndarray, intrinsics: np.ndarray, width: int, height: int
    ) -> TensorSurfaceView:
        """Render a view.

        Args:
            to_camera: World to camera, [4, 4].
            intrinsics: Calibration matrix in pixels, [3, 3].
            width: Width in pixels.
            height: Height in pixels.

        Returns:
            The view, with holes.
        """
        inverse, cell, uv = rasterize(*self._raster_arguments(to_camera, intrinsics, width, height))
        rgb, front = shade(self.cells, self.flags, self.textures, cell, uv)
        return TensorSurfaceView(rgb, inverse[1::2, 1::2].contiguous(), front, cell, uv)

    def find_holes(
        self, to_camera: np.ndarray, intrinsics: np.ndarray, width: int, height: int
    ) -> Bool[Tensor, "height width"]:
        """Find the pixels of a view that show no surface, without its colours.

        Args:
            to_camera: World to camera, [4, 4].
            intrinsics: Calibration matrix in pixels, [3, 3].
            width: Width in pixels.
            height: Height in pixels.
        """
        keys = draw(*self._raster_arguments(to_camera, intrinsics, width, height))
        return keys.view(2 * height + 1, 2 * width + 1)[1::2, 1::2] == 0

    def _raster_arguments(
        self, to_camera: np.ndarray, intrinsics: np.ndarray, width: int, height: int
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, float, tuple[int, int]]:
        """Return the arguments of `rasterize` for a view."""
        scale = np.diag([2.0, 2.0, 1.0])  # the lattice has two steps per pixel
        matrix = _constant(scale @ intrinsics @ to_camera[:3], self.corners)
        near = MIN_DEPTH * self.unit
        shape = (2 * height + 1, 2 * width + 1)
        return self.corners, self.cells, self.flags, matrix, near, shape

    def push_back(
        self,
        depth: Float[Tensor, "height width"],
        hole: Bool[Tensor, "height width"],
        to_camera: np.ndarray,
        intrinsics: np.ndarray,
    ) -> Float[Tensor, "height width"]:
        """Move filled holes back until they hide nothing of the first picture.

        Args:
            depth: z-depth with holes filled.
            hole: The filled pixels.
            to_camera: World to camera, [4, 4].
            intrinsics: Calibration matrix in pixels, [3, 3].

        Returns:
            z-depth.
        """
        assert self.first_view is not None, "the surface is empty"
        first_depth, to_first, first_intrinsics = self.first_view
        height, width = first_depth.shape
        row, column = hole.nonzero(as_tuple=True)
        pixels = torch.stack([column + 0.5, row + 0.5, torch.ones_like(row)], 1).double()
        change = to_first @ np.linalg.inv(to_camera)
        # In the first camera's pixels, a ray is the line direction * z + origin.
        matrix = first_intrinsics @ change[:3, :3] @ np.linalg.inv(intrinsics)
        direction = pixels @ _constant(matrix, pixels).T
        origin = _constant(first_intrinsics @ change[:3, 3], pixels)
        start = depth[hole].double()
        far = first_depth.max().double()

        def hides(line: Tensor, z: Tensor) -> Tensor:
            """Return whether points [pixel step] on lines [pixel 3] hide the first picture."""
            x, y, w = (line[:, None] * z[..., None] + origin).unbind(-1)
            visible = (w > 0) & (x >= 0) & (x < width * w) & (y >= 0) & (y < height * w)
            w = w.where(visible, torch.ones_like(w))
            seen_row = (y / w).where(visible, torch.zeros_like(y)).long().clamp(0, height - 1)
            seen_column = (x / w).where(visible, torch.zeros_like(x)).long().clamp(0, width - 1)
            return visible & (w < (1 - FIRST_VIEW_MARGIN) * first_depth[seen_row, seen_column])

        hiding = hides(direction, start[:, None])[:, 0].nonzero()[:, 0]
        out = depth.clone()
        if len(hiding):
            nearest = start[hiding]
            ratio = float((2 * far / nearest.min()).clamp(min=1))
            count = int(np.ceil(np.log(ratio) / np.log(_STEP_BACK))) + 1
            factors = _STEP_BACK ** torch.arange(count + 1, device=depth.device).double()
            for part in hiding.split(max(1, MAX_CANDIDATES // (count + 1))):
                z = start[part, None] * factors
                moves = hides(direction[part], z) & (z < 2 * far)
                moves[:, 0] = True
                steps = moves.long().cumprod(1).sum(1).clamp(max=count)
                start[part] = z.gather(1, steps[:, None])[:, 0]
            out[hole] = start.to(depth.dtype)
        return out

    def antialias(self, view: TensorSurfaceView) -> Float[Tensor, "height width 3"]:
        """Antialias silhouettes.

        Args:
            view: A view whose holes are filled.

        Returns:
            Colours in 0..255.
        """
        return antialias(self.cells, self.flags, self.textures, view.cell, view.uv, view.rgb)


@cuda_graph
def _build_cells(inverse: Tensor, new: Tensor, *, threshold: float) -> tuple[Tensor, Tensor]:
    """Build the cells between four neighbouring pixels. See `lift.warping.surface`.

    Args:
        inverse: Inverse depth with a border of one pixel [row column].
        new: Pixels that the surface does not show yet [height width].
        threshold: Step of inverse depth at which the surface is cut.

    Returns:
        For both pieces of all cells: inverse depth of the corners [piece row column 4], and flags
        [piece row column], 0 where the cell has no such piece or it shows nothing new.
    """
    corner = torch.stack(_corners(inverse), -1)
    low = corner.amin(-1)
    high = corner.amax(-1)
    cut = high - low > threshold
    middle = (low + high) / 2
    near_side = _near_side(corner, cut, middle)
    inside, is_new, edge = (
        torch.stack(_corners(mask), -1)
        for mask in (
            pad(torch.ones_like(new), (1, 1, 1, 1)),
            pad(new, (1, 1, 1, 1)),
            near_side,
        )
    )
    near = corner > middle[..., None]
    group = torch.stack([near | ~cut[..., None], ~near & cut[..., None]])
    member = group & inside
    bits = 1 << torch.arange(4, device=new.device)
    sharp = member.all(-1) & ~dilate(cut, 1)
    flags = (member * bits).sum(-1) + SHARP * sharp + FRONT * (edge & member).any(-1)
    flags = flags * (member & is_new).any(-1)
    return _fill_corners(corner, group), flags.to(torch.uint8)


def _near_side(
    corner: Float[Tensor, "row column 4"],
    cut: Bool[Tensor, "row column"],
    threshold: Float[Tensor, "row column"],
) -> Bool[Tensor, "row_1 column_1"]:
    """Mark the near side of cuts, two pixels deep. A hole beside it is behind it."""
    rows, columns = cut.shape
    near_side = cut.new_zeros((rows + 1, columns + 1))
    far_side = torch.zeros_like(near_side)
    for value, is_near, is_far in zip(
        corner.unbind(-1), _corners(near_side), _corners(far_side), strict=True
    ):
        is_near |= cut & (value > threshold)
        is_far |= cut & (value <= threshold)
    return near_side | (dilate(near_side, 1) & ~far_side)


def _corners(a: Tensor) -> tuple[Tensor, ...]:
    """Return every cell's corners as views: upper left, upper right, lower left, lower right."""
    return a[:-1, :-1], a[:-1, 1:], a[1:, :-1], a[1:, 1:]


def _fill_corners(
    corner: Float[Tensor, "row column 4"], member: Bool[Tensor, "piece row column 4"]
) -> Float[Tensor, "piece row column 4"]:
    """Give other corners the value of neighbouring members, so that adjacent pieces meet."""
    zero = torch.zeros_like(corner)
    value = corner.where(member, zero).unflatten(-1, (2, 2))
    count = member.to(corner).unflatten(-1, (2, 2))
    total = value.flip(-1) + value.flip(-2)
    weights = count.flip(-1) + count.flip(-2)
    across = corner.flip(-1).unflatten(-1, (2, 2)).expand_as(total)
    mean = (total / weights.clamp(min=1)).where(weights > 0, across).flatten(-2)
    return corner.where(member, mean)


def _joined(parts: list[Tensor]) -> Tensor:
    """Concatenate the tensors of a list, and keep the result in it."""
    if len(parts) > 1:
        parts[:] = [torch.cat(parts)]
    return parts[0]


def _constant(values: np.ndarray, like: Tensor) -> Tensor:
    """Copy a small array to the device and type of a tensor."""
    return torch.from_numpy(np.ascontiguousarray(values)).to(like)
