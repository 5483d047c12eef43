"""The model of a scene: canonical Gaussians, a distortion, and the loss of their renders."""

import math
from types import SimpleNamespace
from typing import Any

import pytorch_lightning as lightning
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from lift.config import resolve_fit
from lift.distortions import Distortion
from lift.renderers import Renderer
from lift.training import losses, robust
from lift.training.scene_scale import depth_unit, scene_scale
from lift.training.splats import Splats
from lift.training.targets import Targets
from lift.types import Cameras, Frames, Gaussians, Reconstruction, Render

INPUT_ERROR_TARGET = 0.0135
"""Mean absolute difference, in [0, 1], of an input view that is explained well: about 33 dB."""

_IMPORTANCE_RANGE = (0.25, 4)
"""Range of a frame's relative error in the draw. So one bad frame cannot take all draws."""


class SceneModel(lightning.LightningModule):
    """Canonical Gaussians, a distortion, and the frames that their renders are compared with.

    Args:
        gaussians: Initial canonical Gaussians.
        distortion: Learns how each frame deviates from the canonical scene.
        renderer: Renders Gaussians from cameras.
        frames: All frames, the input first.
        reconstruction: Their cameras, depth and confidence.
        settings: Settings `fit` of the configuration.
        extent: The scene's typical depth, its unit of length.
    """

    images: Tensor
    """Colours of the frames, uint8 [frame height width 3]."""
    depth: Tensor
    """z-depth of the frames [frame height width]."""
    confidence: Tensor
    """Weights of the depth in [0, 1] [frame height width]."""
    world_to_camera: Tensor
    """Poses of the frames [frame 4 4]."""
    intrinsics: Tensor
    """Pinhole matrices of the frames in pixels [frame 3 3]."""
    errors: Tensor
    """Last mean absolute difference of each frame [frame]; 0 if it was not drawn yet."""
    loss_weights: Tensor
    """Weights of the terms l1, dssim and depth [3]."""
    depth_ratio = 1.0
    """Weight of the depth term in this step, relative to `loss_weights`."""

    def __init__(
        self,
        gaussians: Gaussians,
        distortion: Distortion,
        renderer: Renderer,
        frames: Frames,
        reconstruction: Reconstruction,
        settings: DictConfig,
        extent: float,
    ) -> None:
        super().__init__()
        self.splats = Splats.from_gaussians(gaussians)
        self.distortion = distortion
        self.renderer = renderer
        self.extent = extent
        # A step reads settings dozens of times, and reading an OmegaConf container is slow.
        self.settings: Any = _as_namespace(
            OmegaConf.to_container(resolve_fit(settings), resolve=True)
        )
        cameras = reconstruction.cameras
        self.size = (cameras.width, cameras.height)
        self._cpu_buffers = {
            "images": frames.images,
            "depth": reconstruction.depth,
            "confidence": reconstruction.confidence,
            "world_to_camera": cameras.world_to_camera,
            "intrinsics": cameras.intrinsics,
        }
        for name, value in self._cpu_buffers.items():
            self.register_buffer(name, value, persistent=False)
        self.register_buffer("errors", torch.zeros(len(frames)))
        weights = self.settings.loss
        self.scene_scale = scene_scale(self.settings.scene_scale, reconstruction, extent)
        self.depth_unit = depth_unit(weights.depth_unit, reconstruction, extent)
        l1 = 1 - weights.ssim if weights.l1 is None else weights.l1
        self.register_buffer(
            "loss_weights", torch.tensor([l1, weights.ssim, weights.depth]), persistent=False
        )
        self._resized_targets: dict[tuple[int, int], Targets] = {}

    def cameras(self, views: Tensor, size: tuple[int, int] | None = None) -> Cameras:
        """Return the reconstructed cameras of frames, before any distortion.

        Args:
            views: Indices of the frames [view].
            size: Width and height in pixels; by default those of the frames.
        """
        size = size or self.size
        intrinsics = self.targets(size).intrinsics[views]
        return Cameras(self.world_to_camera[views], intrinsics, *size)

    def targets(self, size: tuple[int, int]) -> Targets:
        """Return all frames at a width and height in pixels. The last smaller size is cached.

        Args:
            size: Width and height in pixels.
        """
        if size == self.size:
            return Targets(self.images, self.depth, self.confidence, self.intrinsics)
        if size not in self._resized_targets:
            self._resized_targets = {size: self.targets(self.size).resized(*size)}
        return self._resized_targets[size]

    def render(
        self,
        views: Tensor,
        background: Tensor | None = None,
        size: tuple[int, int] | None = None,
        canonical: Gaussians | None = None,
    ) -> Render:
        """Render frames with their distortions.

        Args:
            views: Indices of the frames [view].
            background: Colour behind everything [3]; black by default.
            size: Width and height in pixels; by default those of the frames.
            canonical: Value of `splats.gaussians()`, if it was computed already.
        """
        gaussians, cameras = self.distorted_scene(views, size, canonical)
        return self.distortion.image(self.renderer(gaussians, cameras, background), views)

    def distorted_scene(
        self, views: Tensor, size: tuple[int, int] | None = None, canonical: Gaussians | None = None
    ) -> tuple[Gaussians, Cameras]:
        """Return Gaussians and cameras of frames with their distortions.

        Args:
            views: Indices of the frames [view].
            size: Width and height in pixels; by default those of the frames.
            canonical: Value of `splats.gaussians()`, if it was computed already.
        """
        cameras = self.distortion.cameras(self.cameras(views, size), views)
        canonical = self.splats.gaussians() if canonical is None else canonical
        return self.distortion.gaussians(canonical, views), cameras

    def loss(
        self,
        render: Render,
        views: Tensor,
        canonical: Gaussians | None = None,
    ) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """Compute the training loss. Its regularisers act on the canonical Gaussians.

        Args:
            render: Renders of the frames.
            views: Indices of the frames [view].
            canonical: Value of `splats.gaussians()`, if it was computed already.

        Returns:
            The weighted sum, its unweighted terms, and the mean absolute difference of each view.
        """
        total, terms, differences = self.picture_loss(render, views, self.depth_ratio)
        penalty = self.gaussian_penalty(canonical)
        return total if penalty is None else total + penalty, terms, differences

    def picture_loss(
        self,
        render: Render,
        views: Tensor,
        depth_ratio: float | Tensor = 1.0,
    ) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """Compute the loss without regularisers of the Gaussians.

        Args:
            render: Renders of the frames.
            views: Indices of the frames [view].
            depth_ratio: Weight of the depth term, relative to its setting.

        Returns:
            The weighted sum, its unweighted terms, and the mean absolute difference of each view.
        """
        targets = self.targets(_size(render))
        rgb = render.rgb
        confidence = targets.confidence[views]
        pixel_weights = self.combined_weights(render, views)
        if pixel_weights is not None:
            rgb = losses.reweight(rgb, pixel_weights)
            confidence = confidence * pixel_weights
        differences, ssim = losses.photometric(rgb, targets.images[views])
        terms = {"l1": differences.mean(), "dssim": 1 - ssim}
        if self.settings.loss.depth:
            terms["depth"] = losses.inverse_depth(
                render.depth, render.alpha, targets.depth[views], confidence, self.depth_unit
            )
        values = list(terms.values())
        if self.settings.loss.depth and (isinstance(depth_ratio, Tensor) or depth_ratio != 1):
            values[-1] = depth_ratio * values[-1]
        total = torch.dot(torch.stack(values), self.loss_weights[: len(values)])
        return total, terms, differences.detach()

    def gaussian_penalty(self, canonical: Gaussians | None = None) -> Tensor | None:
        """Return the regularisers of the canonical Gaussians, or None if their weights are 0.

        Args:
            canonical: Value of `splats.gaussians()`, if it was computed already.
        """
        weights = self.settings.loss
        if not (weights.opacity or weights.scale):
            return None
        canonical = self.splats.gaussians() if canonical is None else canonical
        return losses.weighted_means(
            (weights.opacity, canonical.opacities),
            (weights.scale / self.extent, canonical.scales),
        )

    @torch.no_grad()
    def combined_weights(self, render: Render, views: Tensor) -> Tensor | None:
        """Return the weight of each pixel in the loss.

        It is the product of the distortion's `info["weight"]`, the frame's robust weight and the
        pixel's robust weight.

        Args:
            render: Renders of the frames.
            views: Indices of the frames [view].

        Returns:
            Weights in [0, 1] [view height width], or None if all are 1.
        """
        bound = self.settings.robust.pixels
        factors = [render.info.get("weight"), self.frame_weights(views)]
        if bound:
            frames = self.targets(_size(render)).images[views]
            errors = (render.rgb.detach() - frames / 255).abs().mean(-1)
            factors.append(robust.pixel_weights(errors, views, bound))
        factors = [factor for factor in factors if factor is not None]
        if not factors:
            return None
        return math.prod(factors[1:], start=factors[0]).expand(render.alpha.shape)

    @torch.no_grad()
    def frame_weights(self, views: Tensor) -> Tensor | None:
        """Return the robust weights of frames by their last errors. That of the input is 1.

        Args:
            views: Indices of the frames [view].

        Returns:
            Weights in [0, 1] [view 1 1], or None if `fit.robust.frames` is 0.
        """
        bound = self.settings.robust.frames
        return robust.frame_weights(self.errors, views, bound) if bound else None

    def squared_error(self, render: Render, views: Tensor) -> Tensor:
        """Return the mean squared error of colours in [0, 1].

        Args:
            render: Renders of the frames.
            views: Indices of the frames [view].
        """
        frames = self.targets(_size(render)).images[views]
        return (render.rgb.detach().clamp(0, 1) - frames / 255).square().mean()

    def input_fraction(self) -> float:
        """Return the fraction of the draws that are the input view, for the next epoch.

        The canonical scene must explain the input, whatever a distortion makes of other frames. So
        the fraction rises above `fit.input_fraction`, up to `fit.max_input_fraction`, while the
        input's error is larger than the median frame's, or than `INPUT_ERROR_TARGET`.
        """
        minimum = self.settings.input_fraction
        errors = self.errors.cpu()
        frames = errors[1:][errors[1:] > 0]
        if not minimum or float(errors[0]) <= 0 or not len(frames):
            return minimum
        target = min(float(frames.median()), INPUT_ERROR_TARGET)
        fraction = minimum * (float(errors[0]) / target) ** 2
        return max(minimum, min(self.settings.max_input_fraction, fraction))

    def draw_weights(self) -> Tensor | None:
        """Return the relative frequency [frame] with which to draw frames in the next epoch.

        None draws all alike. The input view has its own fraction (`input_fraction`).
        """
        if not self.settings.importance_power:
            return None
        errors = self.errors.cpu()
        typical = errors[errors > 0].median() if (errors > 0).any() else torch.ones(())
        ratio = torch.where(errors > 0, errors, typical) / typical
        return ratio.clamp(*_IMPORTANCE_RANGE) ** self.settings.importance_power

    def release_targets(self) -> None:
        """Drop the resized targets, and use the CPU's copies of the frames from here on."""
        self._resized_targets.clear()
        for name, value in self._cpu_buffers.items():
            setattr(self, name, value)


def _size(render: Render) -> tuple[int, int]:
    """Return the width and height of a render."""
    return render.rgb.shape[2], render.rgb.shape[1]


def _as_namespace(settings: Any) -> Any:
    """Return nested settings as objects with plain attributes."""
    if isinstance(settings, dict):
        return SimpleNamespace(**{name: _as_namespace(value) for name, value in settings.items()})
    return settings
