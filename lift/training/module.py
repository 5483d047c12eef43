"""The Lightning module that fits canonical Gaussians and what each frame got wrong."""

import math
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytorch_lightning as lightning
import torch
import torch.distributed
from jaxtyping import Float, UInt8
from omegaconf import DictConfig, OmegaConf
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from lift.config import resolve_fit
from lift.distortions import Distortion
from lift.registry import ComponentError
from lift.renderers import Renderer
from lift.runtime.jit import fused
from lift.training import densify, losses
from lift.training.splats import NAMES, Splats
from lift.types import Cameras, Frames, Gaussians, Reconstruction, Render

AROUND = 9
"""Pixels across, over which the error of one is averaged."""
GOOD_INPUT = 0.0135
"""Mean absolute difference, in [0, 1], of an input view that is explained well: about 33 dB."""
MOST_INPUT = 0.4
"""Largest share of the draws that the input view gets while it is explained badly."""
JUDGED = 12
"""Frames by which a distortion is told what it is worth, about."""


@dataclass(frozen=True)
class Targets:
    """What renders of one size are held to."""

    images: UInt8[Tensor, "view height width 3"]
    depth: Float[Tensor, "view height width"]
    confidence: Float[Tensor, "view height width"]
    intrinsics: Float[Tensor, "view 3 3"]

    def resized(self, width: int, height: int) -> "Targets":
        """Smaller pictures: means of pixels; of depth, whose means would lie in the air, the nearest."""
        factor = self.intrinsics.new_tensor(
            [[width / self.images.shape[2]], [height / self.images.shape[1]], [1.0]]
        )
        small = [
            interpolate(i[None].permute(0, 3, 1, 2).float(), (height, width), mode="area")
            for i in self.images
        ]
        near = [
            interpolate(values[:, None], (height, width), mode="nearest")[:, 0]
            for values in (self.depth, self.confidence)
        ]
        return Targets(
            torch.cat([i.round().to(torch.uint8) for i in small]).permute(0, 2, 3, 1).contiguous(),
            *near,
            self.intrinsics * factor,
        )


class SceneModule(lightning.LightningModule):
    """Canonical Gaussians, a distortion, and the frames they are held to.

    `step` counts steps as one process would take them: with several processes, each on views of its own, an optimiser's step counts
    for as many. Everything random is a function of seed and step, so a resumed fit equals an uninterrupted one.
    """

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
        """settings: `fit` of the configuration. extent: the scene's typical depth, its unit of length."""
        super().__init__()
        self.automatic_optimization = False
        self.splats = Splats.of(gaussians)
        self.distortion, self.renderer = distortion, renderer
        settings = resolve_fit(settings)
        self.settings, self.extent, self.seed = settings, extent, seed
        self.how = _plain(
            OmegaConf.to_container(settings, resolve=True)
        )  # asked dozens of times a step, which OmegaConf takes its time for
        distortion.plan(self.how.steps * self.how.views_per_step / len(frames))
        self.step = 0  # of our own: Lightning's global_step counts optimisers. A plain number: a tensor's would be waited for
        cameras = reconstruction.cameras
        self.size = (cameras.width, cameras.height)
        self.initial_count = self.splats.count
        self.activity = torch.zeros(self.splats.count)
        """Per Gaussian: sum of the norms of its position's gradient since the last growth."""
        self._given = {
            "images": frames.images,
            "depth": reconstruction.depth,
            "confidence": reconstruction.confidence,
            "world_to_camera": cameras.world_to_camera,
            "intrinsics": cameras.intrinsics,
        }
        for name, value in self._given.items():
            self.register_buffer(name, value, persistent=False)
        self.register_buffer("errors", torch.zeros(len(frames)))
        """Last mean absolute difference of each frame; 0 where it was not drawn yet."""
        self.register_buffer("drawn", torch.zeros(len(frames), dtype=torch.long))
        """The step after which that was."""
        weights = settings.loss
        self.register_buffer(
            "weights",
            torch.tensor([1 - weights.ssim, weights.ssim, weights.depth]),
            persistent=False,
        )
        self._distorts = any(parameter.requires_grad for parameter in distortion.parameters())
        self._smaller: dict[tuple[int, int], Targets] = {}
        self._validated: dict[str, list[Tensor]] = {}

    def cameras(self, views: Tensor, size: tuple[int, int] | None = None) -> Cameras:
        """Where the frames are believed to have been taken, before any distortion. size: width and height if not the frames' own."""
        size = size or self.size
        return Cameras(self.world_to_camera[views], self.targets(size).intrinsics[views], *size)

    def targets(self, size: tuple[int, int]) -> Targets:
        """The frames at a width and height."""
        if size == self.size:
            return Targets(self.images, self.depth, self.confidence, self.intrinsics)
        if size not in self._smaller:  # one at a time: phases do not come back
            self._smaller = {size: self.targets(self.size).resized(*size)}
        return self._smaller[size]

    def render(
        self,
        views: Tensor,
        background: Tensor | None = None,
        size: tuple[int, int] | None = None,
        canonical: Gaussians | None = None,
    ) -> Render:
        """What the frames should look like, distortions included. canonical: the Gaussians, where they are at hand."""
        gaussians, cameras = self.seen(views, size, canonical)
        return self.distortion.image(self.renderer(gaussians, cameras, background), views)

    def seen(
        self, views: Tensor, size: tuple[int, int] | None = None, canonical: Gaussians | None = None
    ) -> tuple[Gaussians, Cameras]:
        """What is to be rendered, as the distortion has it, and from where."""
        cameras = self.distortion.cameras(self.cameras(views, size), views)
        return self.distortion.gaussians(
            self.splats.gaussians() if canonical is None else canonical, views
        ), cameras

    def loss(
        self,
        render: Render,
        views: Tensor,
        canonical: Gaussians | None = None,
        worth: Tensor | None = None,
    ) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """The weighted sum, its unweighted parts, and the mean absolute difference of each view's colours; regularised are the canonical Gaussians.
        worth: what `worth` says of these frames, where that is at hand.
        """
        weights, targets = self.how.loss, self.targets((render.rgb.shape[2], render.rgb.shape[1]))
        rgb, confidence, trusted = (
            render.rgb,
            targets.confidence[views],
            self.trusted(render, views, worth),
        )
        if trusted is not None:
            rgb, confidence = losses.weighed(rgb, trusted), confidence * trusted
        differences, ssim = losses.photometric(rgb, targets.images[views])
        parts = {"l1": differences.mean(), "dssim": 1 - ssim}
        if weights.depth:
            parts["depth"] = losses.inverse_depth(
                render.depth, render.alpha, targets.depth[views], confidence, self.extent
            )
        total = torch.dot(torch.stack(list(parts.values())), self.weights[: len(parts)])
        if weights.opacity or weights.scale:
            canonical = self.splats.gaussians() if canonical is None else canonical
            total = total + losses.weighted_means(
                (weights.opacity, canonical.opacities),
                (weights.scale / self.extent, canonical.scales),
            )
        return total, parts, differences.detach()

    @torch.no_grad()
    def trusted(self, render: Render, views: Tensor, worth: Tensor | None = None) -> Tensor | None:
        """How much each pixel counts, [view height width], in [0, 1]; None if all count whole.

        The distortion's word (`info["weight"]`), times what the frames are worth (`worth`, if that is not at hand), times the same of pixels.
        """
        pixels, factors = (
            self.how.trust.pixels,
            [render.info.get("weight"), self.worth(views) if worth is None else worth],
        )
        if pixels:
            frames = self.targets((render.rgb.shape[2], render.rgb.shape[1])).images[views]
            errors = (render.rgb.detach() - frames / 255).abs().mean(-1)
            around = avg_pool2d(errors, AROUND, 1, AROUND // 2, count_include_pad=False)
            factors.append(_worth(around / (pixels * errors.mean((1, 2), keepdim=True)), views))
        factors = [factor for factor in factors if factor is not None]
        return (
            math.prod(factors[1:], start=factors[0]).expand(render.alpha.shape) if factors else None
        )

    @torch.no_grad()
    def worth(self, views: Tensor) -> Tensor | None:
        """What frames count by their last errors, [view 1 1]: one at `fit.trust.frames` times the median error counts a half, and less the worse
        it is. The input is always taken at its word. None if that is not asked for.
        """
        if not self.how.trust.frames:
            return None
        if fused(self.errors) and len(self.errors) <= 1024:  # sorting more takes long to compile
            from lift.training.kernels import step_triton

            return step_triton.worth(self.errors, views, self.how.trust.frames)[:, None, None]
        typical = torch.where(self.errors > 0, self.errors, torch.nan).nanmedian()
        return _worth(
            (self.errors[views] / (self.how.trust.frames * typical))[:, None, None], views
        )

    def training_step(self, batch: Tensor, batch_idx: int) -> None:
        """Several optimiser's steps, on the views [step view] of `batch`: see `data.STEPS_A_BATCH`."""
        before = self.step
        for views in batch:
            if self.step < self.how.steps:  # the last epoch may be longer than what is left
                render, logged = self.optimise(views)
        if self.trainer.world_size > 1 and batch_idx + 1 == self.trainer.num_training_batches:
            # Each process knows of the frames that it drew; at the epoch's end, before the checkpoint, all learn the newest.
            errors, drawn = _gathered(self.errors), _gathered(self.drawn)
            self.errors.copy_(errors.gather(0, drawn.argmax(0, keepdim=True))[0])
            self.drawn.copy_(drawn.amax(0))
        if self._passes(before, self.how.log_every):
            self._write(
                {
                    **logged,
                    "gaussians": self.splats.count,
                    "psnr": -10 * torch.log10(self._error(render, views)),
                }
            )

    def optimise(self, views: Tensor) -> tuple[Render, dict[str, Tensor]]:
        """One step; what it saw and what it lost."""
        rng = torch.Generator(self.device).manual_seed(self.seed * 1_000_003 + self.step)
        background = torch.rand(
            3, generator=rng, device=self.device
        )  # no colour behind can hide a hole
        canonical = self.splats.gaussians()
        self.distortion.progress = self.step / self.how.steps
        self.distortion.judge(self.judged)
        gaussians, cameras = self.seen(views, self._picture_size(), canonical)
        # What does not need the picture comes before it: the rasteriser waits for the device, and then the device would wait for this.
        penalty, worth = self.distortion.penalty() if self._distorts else 0.0, self.worth(views)
        render = self.distortion.image(self.renderer(gaussians, cameras, background), views)
        loss, parts, differences = self.loss(render, views, canonical, worth)
        self.manual_backward(loss + penalty)
        self._record_activity()
        self._set_learning_rates()
        for optimiser in self.trainer.optimizers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        before, self.step = self.step, self.step + self.trainer.world_size
        with torch.no_grad():
            self._densify(rng, before)
            self.errors.index_copy_(0, views, differences)
            self.drawn.index_fill_(
                0, views, self.step
            )  # as an assignment the number would be copied to the device, and waited for
        return render, {"loss": loss, **parts, "penalty": penalty}

    @torch.no_grad()
    def judged(self) -> Tensor:
        """Mean squared error of a dozen of the frames that are trained on, as they are rendered now; on the CPU, and the same in all processes."""
        views, canonical = self.trainer.datamodule.train, self.splats.gaussians()
        errors = []
        for view in views[:: max(1, -(-len(views) // JUDGED))]:
            index = torch.tensor([view], device=self.device)
            errors.append(
                self._error(self.render(index, None, self._picture_size(), canonical), index)
            )
        return self.trainer.strategy.broadcast(
            torch.stack(errors).cpu() if errors else torch.zeros(0)
        )

    def input_share(self) -> float:
        """Share of the draws that are the input view. Asked for once an epoch.

        The canonical scene must explain the input, whatever a distortion makes of the other frames.
        So the share rises above `fit.input_share` while the input's error is larger than the median
        frame's, or than that of a good input view.
        """
        least = self.how.input_share
        errors = self.errors.cpu()
        frames = errors[1:][errors[1:] > 0]
        if not least or float(errors[0]) <= 0 or not len(frames):
            return least
        target = min(float(frames.median()), GOOD_INPUT)
        return max(least, min(MOST_INPUT, least * (float(errors[0]) / target) ** 2))

    def importance(self) -> Tensor | None:
        """How often each frame is to be drawn, as weights; None if all alike. Asked for once an epoch."""
        if not self.how.importance:
            return None
        errors = self.errors.cpu()
        typical = errors[errors > 0].median() if (errors > 0).any() else torch.ones(())
        weights = torch.where(errors > 0, errors, typical) / typical
        return (
            weights.clamp(0.25, 4) ** self.how.importance
        )  # within bounds: a frame gone bad must not take all draws

    def validation_step(self, views: Tensor, batch_idx: int) -> None:
        """Pictures of the canonical scene: a held-out frame has no distortion of its own to learn."""
        render = self.renderer(self.splats.gaussians(), self.cameras(views))
        psnr = -10 * torch.log10(self._error(render, views))
        self._validated.setdefault(
            "val/input_psnr" if int(views[0]) == 0 else "val/held_out_psnr", []
        ).append(psnr)
        last = (
            self.trainer.current_epoch + self.trainer.check_val_every_n_epoch
            >= self.trainer.max_epochs
        )
        if self.logger is not None and last and batch_idx < 4:
            shown = torch.cat([self.images[views[0]].float() / 255, render.rgb[0].clamp(0, 1)], 1)
            shown = shown[
                :: -(-shown.shape[0] // 512), :: -(-shown.shape[0] // 512)
            ]  # encoding takes as long as dozens of steps
            self.logger.experiment.add_image(
                f"view_{int(views[0])}", shown, self.step, dataformats="HWC"
            )

    def on_validation_epoch_end(self) -> None:
        """To the curves at the steps of our own, where Lightning's `log` would count batches."""
        means = {
            name: float(torch.stack(values).mean()) for name, values in self._validated.items()
        }
        self._validated.clear()
        for logger in self.trainer.loggers:
            logger.log_metrics(means, self.step)

    def on_train_start(self) -> None:
        """Rates are those of this number of processes, whatever a checkpoint brought along."""
        for optimiser, starts in zip(self.trainer.optimizers, self._starts, strict=True):
            for group, start in zip(optimiser.param_groups, starts, strict=True):
                group["start"] = start

    def on_train_end(self) -> None:
        """Before Lightning moves all to the CPU: gigabytes that are there already."""
        self._smaller.clear()
        for name, value in self._given.items():
            setattr(self, name, value)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        rates = self.how.learning_rate
        rate = {
            "means": rates.means * self.extent,
            "scales": rates.scales,
            "quats": rates.quats,
            "opacities": rates.opacities,
            "sh0": rates.colors,
            "shN": rates.colors / 20,
        }
        groups = [{"name": name, "params": [self.splats[name]], "lr": rate[name]} for name in NAMES]
        # A step on n views is worth n of one: its rate grows with the root of n, and its memory is as many steps shorter
        # (Malladi et al., "On the SDEs and Scaling Rules for Adaptive Gradient Algorithms", NeurIPS 2022).
        views = self.how.views_per_step * self.trainer.world_size
        betas = (0.9**views, 0.999**views)
        optimisers = [self._adam(groups, betas)]
        if distorting := [self._paced(group, views) for group in self.distortion.groups()]:
            optimisers.append(self._adam(distorting, betas))
        for optimiser in optimisers:
            for group in optimiser.param_groups:
                group["start"] = group["lr"] = group["lr"] * views**0.5
        self._starts = [
            [group["start"] for group in optimiser.param_groups] for optimiser in optimisers
        ]
        return optimisers

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["shapes"] = {
            name: list(parameter.shape) for name, parameter in self.splats.items()
        }
        checkpoint["step"] = self.step
        checkpoint["activity"] = self.activity
        # How long moments last goes by the views of a step; a fit may go on with other numbers of both.
        checkpoint["views"] = self.how.views_per_step * self.trainer.world_size

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.splats = Splats.blank(checkpoint["shapes"]).to(self.device)
        self.step = checkpoint["step"]
        self.activity = checkpoint["activity"].to(self.device)
        views = self.how.views_per_step * self.trainer.world_size
        for optimiser in checkpoint["optimizer_states"]:
            for group in optimiser["param_groups"]:
                group["betas"] = tuple(
                    beta ** (views / checkpoint["views"]) for beta in group["betas"]
                )

    def _write(self, values: dict[str, Tensor | float]) -> None:
        """To the curves, and the last two to the progress bar. All are read at once, and not by `log`, which takes a step's time for each."""
        numbers = torch.stack(
            [
                torch.as_tensor(value, dtype=torch.float32, device=self.device).detach()
                for value in values.values()
            ]
        ).tolist()
        values = dict(zip(values, numbers, strict=False))
        for logger in self.trainer.loggers:
            logger.log_metrics(values, self.step)
        if self.trainer.progress_bar_callback is not None:
            for name in list(values)[-2:]:
                self.log(name, values[name], prog_bar=True, logger=False, batch_size=1)

    def _paced(self, group: dict[str, Any], views: int) -> dict[str, Any]:
        """A distortion's group of parameters with its rate for this fit, where it says for how many steps of one view it is meant. How far Adam
        goes is steps times rate, and a step on n views counts as the root of n (`configure_optimizers`). views: of all processes together.
        """
        group = dict(group)
        if meant := group.pop("steps", None):
            steps = self.how.steps / self.trainer.world_size
            group["lr"] *= min(1.0, meant / (steps * views**0.5))
        return group

    def _adam(self, groups: list[dict], betas: tuple[float, float]) -> torch.optim.Optimizer:
        """Ours for dense parameters with a rate of their own and nothing more; torch's for all else that a distortion may ask for."""
        groups = [
            {
                **group,
                "params": [group["params"]]
                if isinstance(group["params"], Tensor)
                else list(group["params"]),
            }
            for group in groups
        ]
        parameters = [parameter for group in groups for parameter in group["params"]]
        for group in groups:
            if isinstance(group["lr"], (int, float)) and not 0 <= group["lr"] < math.inf:
                raise ComponentError(
                    f"a learning rate of {group.get('name', 'the distortion')} is {group['lr']:g}; choose 0 or more"
                )
        plain = all(
            set(group) <= {"name", "params", "lr"} and isinstance(group["lr"], (int, float))
            for group in groups
        )
        if (
            plain
            and all(isinstance(p, Tensor) and p.is_contiguous() for p in parameters)
            and fused(*parameters)
        ):
            from lift.training.kernels.step_triton import Adam

            return Adam(groups, betas=betas, eps=1e-15)
        return torch.optim.Adam(groups, betas=betas, eps=1e-15, fused=True)

    def _picture_size(self) -> tuple[int, int]:
        """Width and height that this step renders at."""
        coarse, done = self.how.coarse, self.step / self.how.steps
        for share, end in zip(coarse.sizes, coarse.until, strict=False):
            if done < end:
                return max(1, round(self.size[0] * share)), max(1, round(self.size[1] * share))
        self._smaller.clear()
        return self.size

    def _passes(self, before: int, every: int) -> bool:
        """Whether the step that began at `before` reached or passed a multiple of `every`."""
        return self.step // every > before // every

    def _set_learning_rates(self) -> None:
        """Positions settle to a hundredth, distortions to a tenth, over the steps."""
        done = self.step / self.how.steps
        splats, *distorting = self.trainer.optimizers
        for group in splats.param_groups:
            group["lr"] = group["start"] * (0.01**done if group["name"] == "means" else 1)
        for optimiser in distorting:
            for group in optimiser.param_groups:
                group["lr"] = group["start"] * 0.1**done

    @torch.no_grad()
    def _record_activity(self) -> None:
        """Gaussians that many pixels pull at are the ones to split."""
        gradient = self.splats["means"].grad
        if not self.how.densify.activity or gradient is None:
            return
        if self.activity.shape != gradient.shape[:1] or self.activity.device != gradient.device:
            self.activity = torch.zeros(len(gradient), device=gradient.device)
        self.activity += gradient.norm(dim=-1)

    def _densify(self, rng: torch.Generator, before: int) -> None:
        how = self.how.densify
        optimiser = self.trainer.optimizers[0]
        active = how.first <= self.step <= how.last * self.how.steps
        if active and self._passes(before, how.every):
            densify.relocate(self.splats, optimiser, how.dead, self._importance, rng)
            densify.grow(self.splats, optimiser, self._target_count(), self._importance(), rng)
            self.activity = torch.zeros(self.splats.count, device=self.device)
        if active and how.noise:
            densify.explore(self.splats, how.noise * 5e5 * optimiser.param_groups[0]["lr"], rng)

    def _target_count(self) -> int:
        """Number of Gaussians at this step: grows evenly from the start to `fit.max_gaussians`."""
        how = self.how.densify
        first, last = how.first, how.growth * self.how.steps
        share = min(1.0, max(0.0, (self.step - first) / max(1.0, last - first)))
        return round(self.initial_count + share * (self.how.max_gaussians - self.initial_count))

    def _importance(self) -> Tensor:
        """Weights in [0, 1] by which Gaussians to clone are drawn: opacity times activity."""
        opacities = self.splats["opacities"].detach().sigmoid()
        power = self.how.densify.activity
        if not power or self.activity.shape != opacities.shape or not bool(self.activity.any()):
            return opacities
        activity = self.activity / self.activity.mean()
        return opacities * (activity.clamp(max=20) / 20) ** power

    def _error(self, render: Render, views: Tensor) -> Tensor:
        frames = self.targets((render.rgb.shape[2], render.rgb.shape[1])).images[views]
        return (render.rgb.detach().clamp(0, 1) - frames / 255).square().mean()


def _gathered(tensor: Tensor) -> Tensor:
    """A tensor of every process, [process ...]. Lightning's all_gather warns that torch's is deprecated."""
    parts = [torch.empty_like(tensor) for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather(parts, tensor)
    return torch.stack(parts)


def _worth(ratio: Tensor, views: Tensor) -> Tensor:
    """What counts a half at a ratio of 1, and ever less beyond; all of it in the input's picture."""
    return torch.where(views[:, None, None] > 0, 1 / (1 + ratio.nan_to_num(0.0) ** 6), 1.0)


def _plain(settings: Any) -> Any:
    """Settings as attributes and nothing more."""
    return (
        SimpleNamespace(**{name: _plain(value) for name, value in settings.items()})
        if isinstance(settings, dict)
        else settings
    )
