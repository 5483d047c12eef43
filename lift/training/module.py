"""The Lightning module that fits canonical Gaussians and what each frame got wrong."""

from typing import Any

import pytorch_lightning as lightning
import torch
from omegaconf import DictConfig
from torch import Tensor

from lift.distortions import Distortion
from lift.renderers import Renderer
from lift.training import densify, losses
from lift.training.splats import NAMES, Splats
from lift.types import Cameras, Frames, Gaussians, Reconstruction, Render


class SceneModule(lightning.LightningModule):
    """Canonical Gaussians, a distortion, and the frames they are held to.

    Everything random is a function of seed and step, so a resumed fit equals an uninterrupted one.
    """

    def __init__(
        self, gaussians: Gaussians, distortion: Distortion, renderer: Renderer, frames: Frames, reconstruction: Reconstruction,
        settings: DictConfig, extent: float, seed: int,
    ) -> None:  # fmt: skip
        """settings: `fit` of the configuration. extent: the scene's typical depth, its unit of length."""
        super().__init__()
        self.automatic_optimization = False
        self.splats = Splats.of(gaussians)
        self.distortion, self.renderer = distortion, renderer
        self.settings, self.extent, self.seed = settings, extent, seed
        self.register_buffer("step", torch.zeros((), dtype=torch.long))  # Lightning's global_step counts optimisers, not batches
        cameras = reconstruction.cameras
        self.size = (cameras.width, cameras.height)
        for name, value in {
            "images": frames.images, "depth": reconstruction.depth, "confidence": reconstruction.confidence,
            "world_to_camera": cameras.world_to_camera, "intrinsics": cameras.intrinsics,
        }.items():  # fmt: skip
            self.register_buffer(name, value, persistent=False)

    def cameras(self, views: Tensor) -> Cameras:
        """Where the frames are believed to have been taken, before any distortion."""
        return Cameras(self.world_to_camera[views], self.intrinsics[views], *self.size)

    def render(self, views: Tensor, background: Tensor | None = None) -> Render:
        """What the frames should look like, distortions included."""
        cameras = self.distortion.cameras(self.cameras(views), views)
        gaussians = self.distortion.gaussians(self.splats.gaussians(), views)
        return self.distortion.image(self.renderer(gaussians, cameras, background), views)

    def loss(self, render: Render, views: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted sum and its unweighted parts."""
        weights, target = self.settings.loss, self.images[views].float() / 255
        parts = {"l1": (render.rgb - target).abs().mean(), "dssim": 1 - losses.ssim(render.rgb, target)}
        total = (1 - weights.ssim) * parts["l1"] + weights.ssim * parts["dssim"]
        if weights.depth:
            depth = losses.inverse_depth(render.depth, render.alpha, self.depth[views], self.confidence[views], self.extent)
            parts["depth"], total = depth, total + weights.depth * depth
        if weights.opacity or weights.scale:
            opacity, scale = self.splats["opacities"].sigmoid().mean(), self.splats["scales"].exp().mean() / self.extent
            total = total + weights.opacity * opacity + weights.scale * scale
        return total, parts

    def training_step(self, views: Tensor, batch_idx: int) -> None:
        if self.step >= self.settings.steps:  # the last epoch may be longer than what is left
            return
        rng = torch.Generator().manual_seed(self.seed * 1_000_003 + int(self.step))
        render = self.render(views, torch.rand(3, generator=rng).to(self.device))  # no colour behind can hide a hole
        loss, parts = self.loss(render, views)
        penalty = self.distortion.penalty()
        optimisers = self.optimizers()
        self.manual_backward(loss + penalty)
        self._set_learning_rates()
        for optimiser in optimisers if isinstance(optimisers, list) else [optimisers]:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        self.step += 1
        with torch.no_grad():
            self._densify(rng)
        if self.step % self.settings.log_every == 0:
            self.log_dict({"loss": loss, **parts, "penalty": penalty}, prog_bar=False)
            self.log("gaussians", float(self.splats.count), prog_bar=True)
            self.log("psnr", -10 * torch.log10(self._error(render, views)), prog_bar=True)

    def validation_step(self, views: Tensor, batch_idx: int) -> None:
        """Pictures of the canonical scene: a held-out frame has no distortion of its own to learn."""
        render = self.renderer(self.splats.gaussians(), self.cameras(views))
        psnr = -10 * torch.log10(self._error(render, views))
        self.log("val/input_psnr" if int(views[0]) == 0 else "val/held_out_psnr", psnr, batch_size=len(views), add_dataloader_idx=False)
        if self.logger is not None and batch_idx < 4:
            target = self.images[views[0]].float() / 255
            self.logger.experiment.add_image(
                f"view_{int(views[0])}", torch.cat([target, render.rgb[0].clamp(0, 1)], 1), int(self.step), dataformats="HWC"
            )

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        rates = self.settings.learning_rate
        rate = {
            "means": rates.means * self.extent, "scales": rates.scales, "quats": rates.quats, "opacities": rates.opacities,
            "sh0": rates.colors, "shN": rates.colors / 20,
        }  # fmt: skip
        groups = [{"name": name, "params": [self.splats[name]], "lr": rate[name]} for name in NAMES]
        optimisers = [torch.optim.Adam(groups, eps=1e-15, fused=True)]
        if distorting := list(self.distortion.groups()):
            optimisers.append(torch.optim.Adam(distorting, eps=1e-15))
        for optimiser in optimisers:
            for group in optimiser.param_groups:
                group["start"] = group["lr"]
        return optimisers

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["shapes"] = {name: list(parameter.shape) for name, parameter in self.splats.items()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.splats = Splats.blank(checkpoint["shapes"]).to(self.device)

    def _set_learning_rates(self) -> None:
        """Positions settle to a hundredth, distortions to a tenth, over the steps."""
        done = int(self.step) / self.settings.steps
        splats, *distorting = self.trainer.optimizers
        for group in splats.param_groups:
            if group["name"] == "means":
                group["lr"] = group["start"] * 0.01**done
        for optimiser in distorting:
            for group in optimiser.param_groups:
                group["lr"] = group["start"] * 0.1**done

    def _densify(self, rng: torch.Generator) -> None:
        how, step = self.settings.densify, int(self.step)
        optimiser = self.trainer.optimizers[0]
        active = how.first <= step <= how.last * self.settings.steps
        if active and step % how.every == 0:
            densify.relocate(self.splats, optimiser, how.dead, rng)
            densify.grow(self.splats, optimiser, how.growth, self.settings.max_gaussians, rng)
        if active and how.noise:
            densify.explore(self.splats, how.noise * 5e5 * optimiser.param_groups[0]["lr"], rng)

    def _error(self, render: Render, views: Tensor) -> Tensor:
        return (render.rgb.detach().clamp(0, 1) - self.images[views].float() / 255).square().mean()
