"""A prior without a network: the input picture, warped by its depth."""

import hashlib
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Interval
from torch import Tensor

from lift.priors import VideoPrior, priors
from lift.registry.ranges import Positive
from lift.runtime.cuda_graphs import release_graphs
from lift.runtime.parallel import parallel_map
from lift.types import Cameras, Clip, Depth, Frames
from lift.warping.backend import warping_backend
from lift.warping.surface import camera_matrices

_CPU = torch.device("cpu")


@priors.register("warp")
class Warp(VideoPrior):
    """Warp the input by its depth and fill holes. Exact cameras, no download.

    The picture, and all that is filled in later frames, is one growing textured surface. It is cut
    at depth edges. Every frame is a render of this surface, so all branches of the tree are
    consistent. A hole is filled once, from the background, and is part of the scene from then on.
    It is filled in the frame that shows it first. Only the network fills it in the clip's last
    frame, which shows all of it.
    The result is deterministic and ignores the seed. A GPU searches for patches in another order
    than a CPU, so its textures differ.

    Args:
        edge_threshold: Step of inverse depth between neighbouring pixels at which the surface is
            cut, in units of 1 / typical depth. Above 0.
        fill: How holes are filled, always from the background: `patches` copies texture, `network`
            uses a small network of the package, `telea` is OpenCV's inpainting (Telea, 2004),
            `smooth` has no texture.
        margin: Width by which the picture is continued beyond each border before any frame is
            rendered, as a fraction of its longer side. 0: holes at the border are filled as they
            appear. Only `network` and `patches` continue the picture.
    """

    control = "poses"
    multiview_consistent = True
    exact_depth = True
    differs_by_device = True
    origin = (
        "lift made these frames by moving the pixels of the photograph by its depth and "
        "painting the gaps."
    )

    def __init__(
        self,
        edge_threshold: Positive = 0.04,
        fill: Literal["network", "patches", "telea", "smooth"] = "network",
        margin: Annotated[float, Interval(ge=0, le=0.45)] = 0.25,
        *,
        depth: Depth,
        device: torch.device = _CPU,
    ) -> None:
        """Check the settings. The first call builds the surface.

        Args:
            edge_threshold: Step of inverse depth at which the surface is cut, above 0.
            fill: How holes are filled.
            margin: Width of the continued border, as a fraction of the longer side.
            depth: Depth of the input picture.
            device: Device that warps and fills.
        """
        self.edge_threshold = edge_threshold
        self.fill: Literal["network", "patches", "telea", "smooth"] = fill
        self.margin = margin if fill in ("network", "patches") else 0.0
        self.depth = depth
        self.backend = warping_backend(device)
        self._surface: Any = None
        self._digests: list[bytes] = []

    @torch.no_grad()
    def __call__(self, frames: Frames, cameras: Cameras, clip: Clip, seed: int) -> Frames:
        """Render the new frames of a clip, with depth, as `VideoPrior` says.

        Args:
            frames: Frames so far, with depth.
            cameras: Their cameras.
            clip: The clip to generate.
            seed: Not used.

        Returns:
            One frame a camera of `clip`, with depth.

        Raises:
            ValueError: If sizes differ, depth is missing, or a frame shows no known surface.
        """
        height, width = frames.images.shape[1:3]
        size = (height, width)
        if tuple(self.depth.depth.shape) != size:
            raise ValueError(
                f"the input's depth is {tuple(self.depth.depth.shape)} pixels, its picture {size}"
            )
        if len(frames) > 1 and frames.depth is None:
            raise ValueError("prior 'warp' continues frames with depth; these have none")
        surface = self._surface_of(frames, cameras)
        matrices = camera_matrices(clip.cameras)
        tools = self.backend
        if self.fill == "network":
            # The remembered surface grows in the order of the frames, whatever was generated
            # before. So the clip fills a copy.
            surface = surface.copy()
            self._fill_last_view(surface, *matrices[-1], size)
        images = []
        depths = []
        for to_camera, intrinsics in matrices:
            view = surface.render(to_camera, intrinsics, width, height)
            hole = view.hole
            if hole.all():
                raise ValueError(
                    f"clip {clip.name!r} shows nothing known in frame {len(images) + 1}; "
                    "choose a smaller motion"
                )
            view.rgb, inverse = tools.fill_behind(
                view.rgb, view.inverse, hole, view.front, self.fill
            )
            image = tools.round_colors(surface.antialias(view))
            depth = surface.push_back(tools.invert(inverse), hole, to_camera, intrinsics)
            surface.add(image, depth, hole, to_camera, intrinsics)
            images.append(tools.to_tensor(image))
            depths.append(tools.to_tensor(depth))
            if surface is self._surface:
                self._digests.append(_digest(images[-1], depths[-1], to_camera, intrinsics))
        device = frames.images.device
        return Frames(torch.stack(images).to(device), torch.stack(depths).to(device))

    def release(self) -> None:
        """Forget the surface and CUDA graphs, which take hundreds of megabytes of a GPU."""
        release_graphs()
        self._surface = None
        self._digests = []

    def _fill_last_view(
        self, surface: Any, to_camera: np.ndarray, intrinsics: np.ndarray, size: tuple[int, int]
    ) -> None:
        """Fill the holes within the clip's last view. Frame by frame they would be strips."""
        tools = self.backend
        view = surface.render(to_camera, intrinsics, size[1], size[0])
        hole = view.hole
        inner_hole = tools.interior_holes(hole)
        if inner_hole.any() and not hole.all():
            smooth, inverse = tools.fill_behind(view.rgb, view.inverse, hole, view.front, "smooth")
            image = tools.round_colors(tools.fill_with_network(smooth, inverse, inner_hole))
            depth = surface.push_back(tools.invert(inverse), inner_hole, to_camera, intrinsics)
            surface.add(image, depth, inner_hole, to_camera, intrinsics)

    def _surface_of(self, frames: Frames, cameras: Cameras) -> Any:
        """Return the surface of all frames so far.

        The remembered surface is used if it was built from the first of these frames. Otherwise the
        surface is rebuilt.
        """
        images = list(frames.images.cpu())
        depths = [self.depth.depth.cpu()]
        if frames.depth is not None:
            depths += list(frames.depth[1:].cpu())
        views = list(zip(images, depths, *zip(*camera_matrices(cameras), strict=True), strict=True))
        digests = parallel_map(lambda view: _digest(*view), views)
        if self._surface is None or self._digests != digests[: len(self._digests)]:
            self._surface = self.backend.new_surface(self.depth.typical, self.edge_threshold)
            self._digests = []
        for image, depth, to_camera, intrinsics in views[len(self._digests) :]:
            self._add_frame(self._surface, image, depth, to_camera, intrinsics)
        self._digests = digests
        return self._surface

    def _add_frame(
        self,
        surface: Any,
        image: Tensor,
        depth: Tensor,
        to_camera: np.ndarray,
        intrinsics: np.ndarray,
    ) -> None:
        """Add what a frame shows first. The first frame is the input, with a border around it."""
        tools = self.backend
        pixels = tools.from_tensor(image)
        height, width = depth.shape
        if surface.num_layers:
            new = surface.find_holes(to_camera, intrinsics, width, height)
            surface.add(pixels, tools.from_tensor(depth), new, to_camera, intrinsics)
            return
        closed = tools.close_gaps(self.depth)
        surface.add(pixels, closed, tools.ones((height, width)), to_camera, intrinsics)
        # Two shifted pictures have to cover the extended one, and a mirrored side has to exist.
        margin = min(round(self.margin * max(height, width)), (min(height, width) - 1) // 2)
        if margin < 1:
            return
        wide_image, wide_depth = tools.extend_picture(pixels, closed, margin)
        new = tools.ones(tuple(wide_depth.shape))
        new[margin : margin + height, margin : margin + width] = False
        for row in (0, 2 * margin):
            for column in (0, 2 * margin):
                part = np.s_[row : row + height, column : column + width]
                shifted = intrinsics.copy()
                shifted[0, 2] += margin - column
                shifted[1, 2] += margin - row
                surface.add(wide_image[part], wide_depth[part], new[part], to_camera, shifted)
                new[part] = False


def _digest(image: Tensor, depth: Tensor, *camera: np.ndarray) -> bytes:
    """Hash a frame and its camera."""
    state = hashlib.sha256()  # most processors have instructions for it
    for array in (image.numpy(), depth.numpy(), *camera):
        state.update(np.ascontiguousarray(array).data)
    return state.digest()
