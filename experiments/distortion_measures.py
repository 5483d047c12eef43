"""Measure a fit to corrupted frames: the canonical scene, and how well a distortion was learned."""

import math
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from lift.distortions import Distortion
from lift.distortions.blur import gaussian_blur
from lift.distortions.image_warp import warp_render
from lift.evaluation.lpips import LPIPS
from lift.evaluation.metrics import psnr, ssim
from lift.geometry import project, rotation_angle
from lift.renderers import Renderer
from lift.synthetic.worlds import CorruptedScene, World
from lift.types import Cameras, Gaussians, Render

MAX_FRAMES = 32
"""Number of frames whose distortion is compared with the true corruption, at most."""
MAX_GAUSSIANS = 2000
"""Number of Gaussians whose positions in the frames are compared, at most."""
BORDER = 0.05
"""Fraction of the picture's width at its border where positions are not compared."""


class Oracle(Distortion):
    """Apply the true corruption. It has no parameters.

    The oracle knows the true cameras, displacements, blur and colours, and which frames are bad.
    It does not know the false texture. So it is an upper bound for modules that keep frames as
    they are.

    Args:
        cameras: The true cameras of all frames.
        corrupted: The corrupted scene.
    """

    poses: Tensor
    intrinsics: Tensor
    flow: Tensor
    log_gain: Tensor
    saturation: Tensor
    blur_variance: Tensor
    frame_weight: Tensor

    def __init__(self, cameras: Cameras, corrupted: CorruptedScene) -> None:
        super().__init__()
        self.size = (cameras.width, cameras.height)
        self.max_variance = float(corrupted.blur_variance.max())
        self.register_buffer("poses", cameras.world_to_camera)
        self.register_buffer("intrinsics", cameras.intrinsics)
        self.register_buffer("frame_weight", (~corrupted.bad).float())
        for name in ("flow", "log_gain", "saturation", "blur_variance"):
            self.register_buffer(name, getattr(corrupted, name))

    def cameras(self, cameras: Cameras, view: Tensor) -> Cameras:
        """Return the true cameras, in the size of the given ones."""
        true = Cameras(self.poses[view], self.intrinsics[view], *self.size)
        return true.resized(cameras.width, cameras.height)

    def image(self, render: Render, view: Tensor) -> Render:
        """Warp, blur and recolour renders as the frames were. Bad frames get weight 0."""
        height, width = render.rgb.shape[1:3]
        scale = width / self.size[0]
        flow = interpolate(self.flow[view], (height, width), mode="area")
        render = warp_render(render, scale * flow)
        rgb = gaussian_blur(
            render.rgb, scale**2 * self.blur_variance[view], scale**2 * self.max_variance
        )
        grey = rgb.mean(-1, keepdim=True)
        vivid = grey + (1 + self.saturation[view])[:, None, None, None] * (rgb - grey)
        weight = render.info["weight"] * self.frame_weight[view][:, None, None]
        return replace(
            render,
            rgb=vivid * self.log_gain[view].exp()[:, None, None],
            info={**render.info, "weight": weight},
        )


@torch.no_grad()
def evaluate_scene(
    renderer: Renderer, gaussians: Gaussians, world: World, lpips: LPIPS | None = None
) -> dict[str, float]:
    """Compare the canonical scene with the test views.

    Args:
        renderer: The renderer.
        gaussians: The canonical scene.
        world: The true scene.
        lpips: Network, or None to leave LPIPS out.

    Returns:
        Means over the test views: `psnr` in dB, `ssim`, `lpips`, and `depth_error`, the median
        absolute logarithm of estimated over true depth, if depth is known.
    """
    gaussians = gaussians.to(renderer.device)
    rows = []
    for view in range(len(world.test_frames)):
        rendered = renderer(gaussians, world.test_cameras[view].to(renderer.device))
        truth = world.test_frames[view]
        row = {
            "psnr": psnr(rendered.rgb[0].cpu(), truth.rgb[0]),
            "ssim": ssim(rendered.rgb[0].cpu(), truth.rgb[0]),
        }
        if lpips:
            row["lpips"] = lpips(rendered.rgb[0], truth.rgb[0])
        if truth.depth is not None:
            valid = (truth.depth[0] > 0) & (rendered.alpha[0].cpu() > 0.5)
            if valid.any():
                ratio = rendered.depth[0].cpu()[valid] / truth.depth[0][valid]
                row["depth_error"] = float(ratio.log().abs().median())
        rows.append(row)
    names = dict.fromkeys(name for row in rows for name in row)
    values = {name: [row[name] for row in rows if name in row] for name in names}
    return {name: sum(numbers) / len(numbers) for name, numbers in values.items()}


@torch.no_grad()
def measure_corruption_errors(
    distortion: Distortion, gaussians: Gaussians, world: World, corrupted: CorruptedScene
) -> dict[str, float]:
    """Compare a learned distortion with the true corruption.

    Args:
        distortion: The learned distortion.
        gaussians: The canonical scene.
        world: The true scene.
        corrupted: The corrupted scene.

    Returns:
        Medians over at most MAX_FRAMES generated frames that are not bad:

        - `position_error_px`: distance, in pixels, between the positions at which a frame shows a
          Gaussian by the distortion and by the truth.
        - `rotation_error_deg`: angle between the cameras, in degrees.
        - `translation_error`: distance between the cameras, as a fraction of the typical depth.
        - `log_focal_error`: absolute difference of the logarithms of the focal lengths.
        - `log_color_error`: mean absolute difference of the logarithms of the colours' gains.
        - `blur_variance_error`: absolute difference of the variances of the blur, pixels squared.

        The same names with `_identity` hold the errors of a distortion that changes nothing.
    """
    true_cameras = world.trajectory.cameras
    nominal_cameras = corrupted.reconstruction.cameras
    order = torch.randperm(len(gaussians), generator=torch.Generator().manual_seed(0))
    subset = gaussians[order[:MAX_GAUSSIANS]]
    errors: dict[str, list[float]] = {}
    views = [view for view in range(1, len(nominal_cameras)) if not corrupted.bad[view]]
    for view in views[:: max(1, -(-len(views) // MAX_FRAMES))]:
        for suffix, compared in (("", distortion), ("_identity", Distortion())):
            values = _frame_errors(
                compared,
                view,
                subset,
                true_cameras[view],
                nominal_cameras[view],
                corrupted,
                world.typical,
            )
            for name, value in values.items():
                errors.setdefault(name + suffix, []).append(value)
    medians = {name: float(torch.tensor(values).nanmedian()) for name, values in errors.items()}
    return {name: value for name, value in medians.items() if not math.isnan(value)}


def _frame_errors(
    distortion: Distortion,
    index: int,
    gaussians: Gaussians,
    true_camera: Cameras,
    nominal_camera: Cameras,
    corrupted: CorruptedScene,
    typical: float,
) -> dict[str, float]:
    """Compute the errors of one frame. See `measure_corruption_errors`."""
    view = torch.tensor([index])
    width = nominal_camera.width
    height = nominal_camera.height
    camera = distortion.cameras(nominal_camera, view)
    means = distortion.gaussians(gaussians, view).means.reshape(-1, 3)
    learned, learned_depth = (value[0] for value in project(means, camera))
    true, true_depth = (value[0] for value in project(gaussians.means, true_camera))
    margin = BORDER * width
    inside = (true > margin).all(-1) & (true < true.new_tensor([width, height]) - margin).all(-1)
    valid = (learned_depth > 0) & (true_depth > 0) & inside
    flow, log_gain, variance = _estimate_image_effect(distortion, view, width, height, typical)
    difference = _warp_points(learned, flow) - _warp_points(true, corrupted.flow[index])
    position_errors = difference.norm(dim=-1)[valid]
    rotations = (camera.world_to_camera[:, :3, :3], true_camera.world_to_camera[:, :3, :3])
    focal_ratio = camera.intrinsics[0, 0, 0] / true_camera.intrinsics[0, 0, 0]
    return {
        "position_error_px": float(position_errors.median()) if len(position_errors) else math.nan,
        "rotation_error_deg": float(rotation_angle(*rotations)[0]),
        "translation_error": float((camera.centers - true_camera.centers).norm()) / typical,
        "log_focal_error": float(focal_ratio.log().abs()),
        "log_color_error": float((log_gain - corrupted.log_gain[index]).abs().mean()),
        "blur_variance_error": float((variance - corrupted.blur_variance[index]).abs()),
    }


def _estimate_image_effect(
    distortion: Distortion, view: Tensor, width: int, height: int, typical: float
) -> tuple[Float[Tensor, "2 height width"], Float[Tensor, "3"], Float[Tensor, ""]]:
    """Probe `distortion.image` with test pictures, so that it works for any distortion.

    Pixels that move take their depth along. So a picture whose depth is its column or row shows
    the displacement.

    Returns:
        Where each pixel comes from, relative to itself, in pixels. The logarithm of the gain of
        each colour of a grey picture. The variance of the image of a dot, in pixels squared.
    """
    rows, columns = torch.meshgrid(
        torch.arange(float(height)), torch.arange(float(width)), indexing="ij"
    )
    grey = torch.full((height, width, 3), 0.5)
    dot = torch.zeros(height, width, 1)
    dot[height // 2, width // 2] = 1

    def distorted(rgb: Tensor, depth: Tensor) -> Render:
        return distortion.image(Render(rgb[None], torch.ones(1, height, width), depth[None]), view)

    columns_render = distorted(grey, typical + columns)
    rows_render = distorted(grey + dot, typical + rows)
    flow = torch.stack(
        [columns_render.depth[0] - typical - columns, rows_render.depth[0] - typical - rows]
    )
    spot = (rows_render.rgb - columns_render.rgb)[0].sum(-1)
    spot = spot / spot.sum()
    row_variance, column_variance = (
        ((axis - (spot * axis).sum()).square() * spot).sum() for axis in (rows, columns)
    )
    log_gain = (columns_render.rgb[0] / 0.5).clamp(min=1e-3).log().mean((0, 1))
    return flow, log_gain, (row_variance + column_variance) / 2


def _warp_points(
    pixels: Float[Tensor, "point 2"], flow: Float[Tensor, "2 height width"]
) -> Float[Tensor, "point 2"]:
    """Find where a warped picture shows what the original shows at `pixels`.

    The flow says where each pixel y of the warped picture comes from. So y + flow(y) = x is solved
    for y by fixed-point iteration.
    """
    height, width = flow.shape[1:]
    warped = pixels
    for _ in range(4):
        x = warped[:, 0].long().clamp(0, width - 1)
        y = warped[:, 1].long().clamp(0, height - 1)
        warped = pixels - flow[:, y, x].T
    return warped
