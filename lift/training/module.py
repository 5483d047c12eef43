"""The Lightning module that fits canonical Gaussians and the distortion of each frame."""

from collections.abc import Hashable
from typing import Any

import torch
import torch.distributed
from omegaconf import DictConfig
from torch import Tensor

from lift.distortions import Distortion
from lift.renderers import Renderer
from lift.runtime.profiling import step_span
from lift.training.densify import Densifier, McmcDensifier
from lift.training.densify_gradient import GradientDensifier
from lift.training.finite import LossCheck
from lift.training.loggers import log_picture
from lift.training.model import SceneModel
from lift.training.optimisers import (
    adam_betas,
    build_adam,
    decay_rates,
    limit_rate,
    scale_rates,
    splat_groups,
)
from lift.training.picture_graph import PictureGraph, PictureTerms
from lift.training.schedule import depth_ratio, sh_degree, stage_progress
from lift.training.splats import Splats
from lift.types import Frames, Gaussians, Reconstruction, Render

PRUNING_FRAMES = 12
"""Approximate number of frames whose errors decide which parts of a distortion are kept."""
MAX_LOGGED_IMAGES = 4
"""Largest number of views whose pictures are logged."""
MAX_LOGGED_HEIGHT = 512
"""Largest height in pixels of a logged picture. Encoding takes as long as many steps."""

_SEED_STRIDE = 1_000_003
"""Distance between the random seeds of consecutive run seeds."""


class SceneModule(SceneModel):
    """Training of a scene: steps, densification, curves and checkpoints.

    `step` counts steps as one process would take them. With several processes, each on views of
    its own, one optimiser step counts for as many. Everything random is a function of seed and
    step, so a resumed fit equals an uninterrupted one.

    Args:
        gaussians: Initial canonical Gaussians.
        distortion: Learns how each frame deviates from the canonical scene.
        renderer: Renders Gaussians from cameras.
        frames: All frames, the input first.
        reconstruction: Their cameras, depth and confidence.
        settings: Settings `fit` of the configuration.
        extent: The scene's typical depth, its unit of length.
        seed: Seed of the run.
    """

    error_steps: Tensor
    """Step after which the last error of each frame was measured [frame]."""

    def __init__(
        self,
        gaussians: Gaussians,
        distortion: Distortion,
        renderer: Renderer,
        frames: Frames,
        reconstruction: Reconstruction,
        settings: DictConfig,
        extent: float,
        seed: int,
    ) -> None:
        super().__init__(gaussians, distortion, renderer, frames, reconstruction, settings, extent)
        self.automatic_optimization = False
        self.seed = seed
        distortion.prepare(self.settings.steps * self.settings.batch_size / len(frames))
        # Lightning's `global_step` counts the steps of all optimisers. This is a Python number,
        # because reading a tensor would wait for the device.
        self.step = 0
        self.densifier = self._build_densifier()
        self.register_buffer("error_steps", torch.zeros(len(frames), dtype=torch.long))
        self._has_distortion = any(p.requires_grad for p in distortion.parameters())
        self._validation_psnr: dict[str, list[Tensor]] = {}
        self._initial_rates: list[list[float]] = []
        self._pictures_step = -1
        self._loss_check = LossCheck()
        self._picture_graph = PictureGraph(self._picture_terms, self.distortion)

    def training_step(self, batch: Tensor, batch_idx: int) -> None:
        """Take several optimiser steps; see `lift.training.data.STEPS_PER_BATCH`.

        Args:
            batch: Indices of the frames of each step [step view].
            batch_idx: Index of the batch in the epoch.
        """
        with step_span(self.step, len(batch), self.settings.steps):
            for views in batch:
                if self.step < self.settings.steps:  # the last epoch may be longer than the rest
                    previous_step = self.step
                    render, logged = self.optimise(views)
                    self._log_step(previous_step, views, render, logged)
        is_last = batch_idx + 1 == self.trainer.num_training_batches
        if self.trainer.world_size > 1 and (is_last or self.step >= self.settings.steps):
            self._share_errors()

    def optimise(self, views: Tensor) -> tuple[Render, dict[str, Tensor | float]]:
        """Take one optimiser step.

        Args:
            views: Indices of the frames [view].

        Returns:
            The renders, and the loss with its terms if a point of the curves follows, or on a CPU.
        """
        rng = torch.Generator(self.device).manual_seed(self.seed * _SEED_STRIDE + self.step)
        # No background colour can hide a hole, because it is random.
        background = torch.rand(3, generator=rng, device=self.device)
        next_step = self.step + self.trainer.world_size
        canonical = self.splats.gaussians(sh_degree(self.settings, next_step))
        self.depth_ratio = depth_ratio(self.settings, self.step)
        self.distortion.progress = self.step / self.settings.steps
        size = self._picture_size()
        is_distorted = self.step >= self.settings.canonical_steps
        if is_distorted:
            self.distortion.prune(self.training_errors)
            gaussians, cameras = self.distorted_scene(views, size, canonical)
        else:
            gaussians, cameras = canonical, self.cameras(views, size)
        gaussians = self.densifier.watch(gaussians, len(views), self.step)
        # What does not need the picture comes first. The rasteriser waits for the device, and
        # afterwards the device would wait for this.
        regulariser = self.gaussian_penalty(canonical)
        undistorted = self.renderer(gaussians, cameras, background)
        kind = self._picture_kind(undistorted, views, is_distorted)
        picture = self._picture_graph(kind, undistorted, views, self.depth_ratio)
        total = picture.total if regulariser is None else picture.total + regulariser
        is_due = self.device.type == "cpu" or self._logs_next()
        self._loss_check.update(total, views, self.step, self.distortion, is_due)
        self.manual_backward(total)
        self.densifier.record(self.splats, cameras, undistorted)
        decay = self.settings.learning_rate.decay
        progress = stage_progress(self.settings, self.step, decay.steps)
        decay_rates(self.trainer.optimizers, progress, decay)
        for optimiser in self.trainer.optimizers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        previous_step = self.step
        self.step = next_step
        with torch.no_grad():
            self.densifier.update(
                self.splats, self.trainer.optimizers[0], previous_step, self.step, rng
            )
            if previous_step < self.settings.canonical_steps <= self.step:
                self._start_stage()
            self.errors.index_copy_(0, views, picture.differences)
            # An assignment would copy the number to the device, and wait for it.
            self.error_steps.index_fill_(0, views, self.step)
        if not is_due:
            return picture.render, {}
        loss = total.detach() - picture.penalty
        return picture.render, {"loss": loss, **picture.terms, "penalty": picture.penalty}

    def _picture_terms(
        self, undistorted: Render, views: Tensor, depth_ratio: float | Tensor
    ) -> PictureTerms:
        """Compute what the pictures of a step add to the loss."""
        targets = self.targets((undistorted.rgb.shape[2], undistorted.rgb.shape[1]))
        if self.step < self.settings.canonical_steps:
            loss, terms, differences = self.picture_loss(undistorted, views, depth_ratio)
            return PictureTerms(undistorted, loss, 0.0, terms, differences, targets)
        penalty = self.distortion.penalty() if self._has_distortion else 0.0
        render = self.distortion.image(undistorted, views)
        loss, terms, differences = self.picture_loss(render, views, depth_ratio)
        return PictureTerms(render, loss + penalty, penalty, terms, differences, targets)

    def _picture_kind(self, undistorted: Render, views: Tensor, is_distorted: bool) -> Hashable:
        """Return what the operations after the rasteriser depend on. None: no GPU replays them."""
        if self.device.type != "cuda" or "weight" in undistorted.info:
            return None
        if is_distorted and not self.distortion.is_replayable():
            return None
        parts = self.distortion.active_parts() if is_distorted else []
        return undistorted.rgb.shape, is_distorted, tuple(map(id, parts))

    @torch.no_grad()
    def training_errors(self) -> Tensor:
        """Render about a dozen training frames with their distortions.

        Returns:
            Mean squared errors [frame] on the CPU, the same in all processes.
        """
        trainer: Any = self.trainer
        views = trainer.datamodule.train
        canonical = self.splats.gaussians()
        errors = []
        for view in views[:: max(1, -(-len(views) // PRUNING_FRAMES))]:
            index = torch.tensor([view], device=self.device)
            render = self.render(index, None, self._picture_size(), canonical)
            errors.append(self.squared_error(render, index))
        return self.trainer.strategy.broadcast(
            torch.stack(errors).cpu() if errors else torch.zeros(0)
        )

    def validation_step(self, views: Tensor, batch_idx: int) -> None:
        """Measure one view of the canonical scene. A held-out frame has no learned distortion.

        Args:
            views: Index of the frame [1].
            batch_idx: Index of the batch.
        """
        render = self.renderer(self.splats.gaussians(), self.cameras(views))
        psnr = -10 * torch.log10(self.squared_error(render, views))
        name = "val/input_psnr" if int(views[0]) == 0 else "val/held_out_psnr"
        self._validation_psnr.setdefault(name, []).append(psnr)

    def on_validation_epoch_end(self) -> None:
        """Write the means to the curves at `step`. Lightning's `log` would count batches."""
        means = {
            name: float(torch.stack(values).mean())
            for name, values in self._validation_psnr.items()
        }
        self._validation_psnr.clear()
        self._log_metrics(means)

    def on_train_start(self) -> None:
        """Use the learning rates of this number of processes, not those of a checkpoint."""
        for optimiser, rates in zip(self.trainer.optimizers, self._initial_rates, strict=True):
            for group, rate in zip(optimiser.param_groups, rates, strict=True):
                group["start"] = rate

    def on_train_end(self) -> None:
        """Log the last pictures, and use the CPU's copies of the frames.

        Lightning would move gigabytes there.
        """
        if self._pictures_step < self.step:
            self._log_pictures()
        self._picture_graph.release()
        self.release_targets()

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Return an optimiser for the Gaussians, and one for the distortion if it has groups."""
        settings = self.settings
        adam = settings.adam
        views = self._views_per_step() / settings.learning_rate.views
        betas = adam_betas(adam.betas, views)
        groups = splat_groups(self.splats, settings.learning_rate, self.scene_scale)
        optimisers = [build_adam(groups, betas, adam.eps)]
        distortion_groups = [
            limit_rate(group, settings.steps, self.trainer.world_size, views)
            for group in self.distortion.groups()
        ]
        if distortion_groups:
            optimisers.append(build_adam(distortion_groups, betas, adam.eps))
        self._initial_rates = scale_rates(optimisers, views)
        return optimisers

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the state of this module that is not in its `state_dict`.

        Args:
            checkpoint: Lightning's checkpoint.
        """
        shapes = {name: list(parameter.shape) for name, parameter in self.splats.items()}
        checkpoint["shapes"] = shapes
        checkpoint["step"] = self.step
        checkpoint.update(self.densifier.state(self.splats))
        # Adam's betas depend on the views of a step, which may change when a fit is resumed.
        checkpoint["views"] = self._views_per_step()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore what `on_save_checkpoint` added, and adapt Adam's betas.

        Args:
            checkpoint: Lightning's checkpoint.
        """
        self.splats = Splats.zeros(checkpoint["shapes"]).to(self.device)
        self.step = checkpoint["step"]
        self.densifier.load_state(checkpoint, self.device)
        views = self._views_per_step()
        for optimiser in checkpoint["optimizer_states"]:
            for group in optimiser["param_groups"]:
                group["betas"] = tuple(
                    beta ** (views / checkpoint["views"]) for beta in group["betas"]
                )

    def _build_densifier(self) -> Densifier:
        """Build the strategy that `fit.densify.strategy` names."""
        if self.settings.densify.strategy == "mcmc":
            return McmcDensifier(self.settings, self.splats.count)
        return GradientDensifier(self.settings, self.splats.count, self.scene_scale, self.size)

    def _start_stage(self) -> None:
        """Let Adam and densification start anew, after the stage of the canonical Gaussians."""
        for optimiser in self.trainer.optimizers:
            optimiser.state.clear()
        self.densifier.restart(self.splats)

    def _views_per_step(self) -> int:
        """Return the number of views in a step, of all processes together."""
        return self.settings.batch_size * self.trainer.world_size

    def _logs_next(self) -> bool:
        """Whether a point of the curves follows this step."""
        every = self.settings.log_every
        return (self.step + self.trainer.world_size) // every > self.step // every

    def _log_step(
        self,
        previous_step: int,
        views: Tensor,
        render: Render,
        logged: dict[str, Tensor | float],
    ) -> None:
        """Write a point of the curves and pictures, if it is their turn."""
        every = self.settings.log_every
        if self.step // every > previous_step // every:
            psnr = -10 * torch.log10(self.squared_error(render, views))
            self._write({**logged, "gaussians": self.splats.count, "psnr": psnr})
        every = self.settings.log_images_every
        if every and self.step // every > previous_step // every:
            self._log_pictures()

    def _write(self, values: dict[str, Tensor | float]) -> None:
        """Write values to the curves, and the last two to the progress bar.

        All are read from the device at once. Lightning's `log` takes a step's time for each.
        """
        numbers = torch.stack(
            [
                torch.as_tensor(value, dtype=torch.float32, device=self.device).detach()
                for value in values.values()
            ]
        ).tolist()
        metrics = dict(zip(values, numbers, strict=True))
        self._log_metrics(metrics)
        if self.trainer.progress_bar_callback is not None:
            for name in list(metrics)[-2:]:
                self.log(name, metrics[name], prog_bar=True, logger=False, batch_size=1)

    def _log_metrics(self, metrics: dict[str, float]) -> None:
        """Write values to the curves, and let callbacks such as EarlyStopping read them."""
        for logger in self.trainer.loggers:
            logger.log_metrics(metrics, self.step)
        latest: Any = self.trainer.callback_metrics
        latest.update({name: torch.tensor(value) for name, value in metrics.items()})

    @torch.no_grad()
    def _log_pictures(self) -> None:
        """Log renders of the input and of held-out frames, each beside its frame."""
        self._pictures_step = self.step
        if not self.trainer.loggers or not self.trainer.is_global_zero:
            return
        trainer: Any = self.trainer
        canonical = self.splats.gaussians()
        for view in (0, *trainer.datamodule.held_out)[:MAX_LOGGED_IMAGES]:
            index = torch.tensor([view], device=self.device)
            rgb = self.renderer(canonical, self.cameras(index)).rgb[0].clamp(0, 1)
            picture = torch.cat([self.images[view], (rgb * 255).round().to(torch.uint8)], 1)
            stride = -(-picture.shape[0] // MAX_LOGGED_HEIGHT)
            pixels = picture[::stride, ::stride].cpu().numpy()
            log_picture(self.trainer.loggers, f"view_{view}", pixels, self.step)

    def _picture_size(self) -> tuple[int, int]:
        """Return the width and height that this step renders at."""
        coarse = self.settings.coarse_to_fine
        progress = self.step / self.settings.steps
        for scale, end in zip(coarse.scales, coarse.until, strict=False):
            if progress < end:
                return max(1, round(self.size[0] * scale)), max(1, round(self.size[1] * scale))
        self._resized_targets.clear()
        return self.size

    def _share_errors(self) -> None:
        """Take the newest error of each frame from all processes, at the end of an epoch.

        Each process knows the errors of the frames that it drew.
        """
        errors = _gather(self.errors)
        steps = _gather(self.error_steps)
        self.errors.copy_(errors.gather(0, steps.argmax(0, keepdim=True))[0])
        self.error_steps.copy_(steps.amax(0))


def _gather(tensor: Tensor) -> Tensor:
    """Return a tensor of every process [process ...].

    Lightning's all_gather warns that torch's is deprecated.
    """
    parts = [torch.empty_like(tensor) for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather(parts, tensor)
    return torch.stack(parts)
