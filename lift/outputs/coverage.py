"""Measure how much of a view shows surfaces that a training frame observed.

A view far from all frames shows surfaces that no frame observed: holes, stretched Gaussians and
guesses. Coverage finds such views from the scene alone, without true pictures.
"""

import math
from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from lift.geometry import inside, project, unproject
from lift.renderers import Renderer
from lift.runtime.parallel import torch_on_one_thread
from lift.types import Cameras, Gaussians

LONG_SIDE = 96
"""Longer side in pixels of the depth maps that coverage is measured on."""

MAX_FRAMES = 40
"""Largest number of frames that are compared. Of more frames, an even subset is compared."""

FRAME_BATCH = 4
"""Number of frames that the CPU searches for a view's points at the same time.

A GPU searches all frames at once: each step waits for it, which takes longer than the search.
"""

OPAQUE = 0.5
"""Alpha above which a pixel shows a surface."""

DEPTH_TOLERANCE = 0.08
"""Relative depth by which a point may lie behind a frame's surface and not count as hidden."""

MAX_ANGLE = 30.0
"""Largest angle in degrees between two directions onto a point.

Beyond it, the appearance in one view does not determine that in the other.
"""

DEPTH_BATCH_SIZE = 16
"""Number of frames whose depth a GPU renders in a batch."""


class Coverage:
    """Fraction of a view's pixels whose surface was observed by at least one training frame.

    The surface of a view is the scene's rendered depth. A frame observed a point of it if three
    conditions hold: the point projects into the frame, no nearer surface of the scene hides it
    there, and the directions onto it are similar.
    """

    def __init__(
        self,
        renderer: Renderer,
        gaussians: Gaussians,
        frames: Cameras,
        long_side: int = LONG_SIDE,
        max_frames: int = MAX_FRAMES,
    ) -> None:
        """Render the depth of each training frame.

        Args:
            renderer: Renders the scene. Its device is used throughout.
            gaussians: The canonical scene.
            frames: Cameras of the training frames, at least one.
            long_side: Longer side of the depth maps in pixels.
            max_frames: Largest number of frames that are compared.
        """
        self._renderer = renderer
        gaussians = gaussians.to(renderer.device)
        # Colours do not matter here. Without view dependence they are the cheapest.
        self._gaussians = replace(gaussians, sh_coeffs=gaussians.sh_coeffs[:, :1])
        self._long_side = long_side
        self._frames = self._prepare(_subsample(frames, max_frames))
        count = 1 if renderer.device.type == "cpu" else DEPTH_BATCH_SIZE
        parts = torch.arange(len(self._frames)).split(count)
        with torch_on_one_thread(renderer.has_thread_pool):
            rendered = [self._surface(self._frames[part]) for part in parts]
        depth = torch.cat([depth for depth, _ in rendered])
        opaque = torch.cat([opaque for _, opaque in rendered])
        self._depth = depth.where(opaque, torch.inf)
        self._typical = depth[opaque].median() if opaque.any() else depth.new_ones(())

    @torch.no_grad()
    def __call__(self, cameras: Cameras) -> Float[Tensor, "view"]:
        """Measure the coverage of views.

        Args:
            cameras: The views, of any picture size.

        Returns:
            Coverage of each view in [0, 1], on the CPU. A pixel with alpha up to 0.5 is not
            covered.
        """
        views = self._prepare(cameras)
        return torch.tensor([self._view_coverage(views[index]) for index in range(len(views))])

    def surface(
        self, camera: Cameras
    ) -> tuple[Float[Tensor, "1 height width"], Bool[Tensor, "1 height width"]]:
        """Render the depth map of one view, as small as those that are compared.

        Args:
            camera: The view, of any picture size.

        Returns:
            z-depth in scene units, and where the view shows a surface, on the renderer's device.
        """
        return self._surface(self._prepare(camera))

    def _prepare(self, cameras: Cameras) -> Cameras:
        """Resize cameras to the size of the depth maps and move them to the renderer's device."""
        factor = min(1.0, self._long_side / max(cameras.width, cameras.height))
        width = max(1, round(cameras.width * factor))
        height = max(1, round(cameras.height * factor))
        return cameras.resized(width, height).to(self._renderer.device)

    @torch.no_grad()
    def _surface(
        self, camera: Cameras
    ) -> tuple[Float[Tensor, "view height width"], Bool[Tensor, "view height width"]]:
        """Render the scene's depth, and where it is opaque."""
        render = self._renderer(self._gaussians, camera)
        return render.depth, render.alpha > OPAQUE

    def _view_coverage(self, camera: Cameras) -> float:
        """Measure the coverage of one view."""
        depth, opaque = self._surface(camera)
        points = unproject(depth, camera)[opaque]
        if len(points) == 0:
            return 0.0
        uncovered = points
        # Near frames come first. They observe most points, so the others have few left to check.
        batch = FRAME_BATCH if points.device.type == "cpu" else len(self._frames)
        for frames in self._nearest_first(camera).split(batch):
            if len(uncovered) == 0:
                break
            uncovered = uncovered[~self._observed_by(uncovered, camera.centers, frames).any(0)]
        return (len(points) - len(uncovered)) / opaque.numel()

    def _nearest_first(self, camera: Cameras) -> Int[Tensor, "frame"]:
        """Sort frames by the shift of their centre and of the point at the typical depth."""
        frames = self._frames
        target = frames.centers + self._typical * frames.world_to_camera[:, 2, :3]
        view_target = camera.centers + self._typical * camera.world_to_camera[:, 2, :3]
        distance = (frames.centers - camera.centers).norm(dim=-1)
        return (distance + (target - view_target).norm(dim=-1)).argsort()

    def _observed_by(
        self,
        points: Float[Tensor, "point 3"],
        center: Float[Tensor, "1 3"],
        index: Int[Tensor, "frame"],
    ) -> Bool[Tensor, "frame point"]:
        """Whether each frame observed each point, in a direction similar to that from `center`."""
        frames = self._frames[index]
        pixels, depth = project(points, frames)
        in_picture = inside(pixels, frames)
        column = pixels[..., 0].nan_to_num(0.0).clamp(0, frames.width - 1).long()
        row = pixels[..., 1].nan_to_num(0.0).clamp(0, frames.height - 1).long()
        surface = self._depth[index[:, None], row, column]
        unoccluded = depth <= surface * (1 + DEPTH_TOLERANCE)
        towards_view = normalize(points - center, dim=-1)
        towards_frame = normalize(points - frames.centers[:, None], dim=-1)
        cosine = (towards_view * towards_frame).sum(-1)
        similar = cosine > math.cos(math.radians(MAX_ANGLE))
        return in_picture & unoccluded & similar


def _subsample(cameras: Cameras, max_count: int) -> Cameras:
    """Select at most `most` cameras, evenly spaced, with the first and the last among them."""
    if len(cameras) <= max_count:
        return cameras
    return cameras[torch.linspace(0, len(cameras) - 1, max_count).round().long()]
