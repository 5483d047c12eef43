"""Wires module, data and Lightning's Trainer together; killed anywhere it goes on from its last checkpoint."""

import inspect
import json
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as lightning
import torch
from omegaconf import DictConfig
from pytorch_lightning.callbacks import Callback, RichProgressBar
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.plugins.io import AsyncCheckpointIO, TorchCheckpointIO

from lift.config import resolve_fit
from lift.registry import ComponentError
from lift.runtime.cache import save
from lift.runtime.parallel import torch_on_one_thread
from lift.training import CHECKPOINT
from lift.training.data import SceneData, split
from lift.training.module import SceneModule
from lift.training.replicas import Replicas
from lift.types import Gaussians


def fit(
    module: SceneModule,
    placed: list[int],
    folder: Path,
    settings: DictConfig,
    trainer: dict[str, Any],
    seed: int,
    held_out: Sequence[int] | None = None,
) -> None:
    """Optimises `module` and leaves in `folder` its Gaussians and distortion (`lift.runtime.cache.save`), a checkpoint and TensorBoard logs.

    placed: indices of the generated frames that were placed by the pose stage. held_out: frames to hold out, if not every
    `fit.held_out`-th. settings: `fit` of the configuration; trainer: keyword
    arguments of pytorch_lightning.Trainer, unknown ones raise ComponentError. In a process group (torch.distributed) all processes call
    this, each with its own copy of the module on its own device, and the first one writes.
    """
    settings = resolve_fit(settings)
    train, held_out = split(placed, settings.held_out, held_out)
    world = torch.distributed.get_world_size() if _together() else 1
    # Steps count as those of one process, and an epoch has at least `checkpoint_every`, so these are enough whatever number of processes
    # began the fit; `Keep` ends it in time.
    epochs = -(-settings.steps // settings.checkpoint_every)
    batches = -(-min(settings.steps, settings.checkpoint_every) // world)
    data = SceneData(train, held_out, settings.views_per_step, batches, seed, settings.log_every)
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch_on_one_thread(module.renderer.own_threads):
        # Its advice (more loader workers, a longer epoch, ...) is for another kind of data.
        warnings.filterwarnings("ignore", module="pytorch_lightning")
        made = _trainer(trainer, epochs, folder)
        checkpoint = folder / CHECKPOINT
        try:
            made.fit(
                module,
                data,
                ckpt_path=checkpoint if checkpoint.exists() else None,
                weights_only=True,
            )
        except torch.OutOfMemoryError:
            raise ComponentError(
                f"fit.max_gaussians is {settings.max_gaussians}, and {module.splats.count} of them with fit.views_per_step "
                f"{settings.views_per_step} are more than the GPU's memory holds; choose fewer of either, or a smaller intake.size. More GPUs do not "
                "help: each holds the whole scene (gsplat's distributed mode takes neither distortions nor colours a view)"
            ) from None
        except SystemExit:  # Lightning's answer to Ctrl-C
            raise KeyboardInterrupt from None
    module.distortion.progress = 1.0
    if _together() and torch.distributed.get_rank() > 0:
        return
    save({"gaussians": _sound(module), "distortion": module.distortion.state_dict()}, folder)
    (folder / "split.json").write_text(json.dumps({"train": train, "held_out": held_out}))


@torch.no_grad()
def _sound(module: SceneModule) -> Gaussians:
    """What was fitted, less the Gaussians that are no numbers, which no renderer shows. Raises ComponentError where nothing is left, or where what the
    distortion has learned is no number: the scene then was held to nothing.
    """
    learned = next(
        (
            name
            for name, value in module.distortion.named_parameters()
            if not value.isfinite().all()
        ),
        None,
    )
    gaussians = module.splats.gaussians()
    values = (
        gaussians.means,
        gaussians.quats,
        gaussians.scales,
        gaussians.opacities[:, None],
        gaussians.sh_coeffs.flatten(1),
    )
    sound = torch.stack([value.isfinite().all(1) for value in values]).all(0)
    if learned or (len(sound) and not sound.any()):
        wrong = f"distortion.{learned}" if learned else "the scene"
        raise ComponentError(
            f"{wrong} is no number after {module.step} steps of the fit; choose smaller learning rates or another distortion"
        )
    if sound.all():
        return gaussians
    warnings.warn(
        f"{int((~sound).sum())} of {len(sound)} Gaussians are no numbers after the fit, and are left out",
        stacklevel=2,
    )
    return gaussians[sound]


def _trainer(settings: dict[str, Any], max_epochs: int, folder: Path) -> lightning.Trainer:
    known = inspect.signature(lightning.Trainer).parameters
    settings = {**settings, "devices": _device(settings)}
    ours = {
        "max_epochs": max_epochs,
        "logger": TensorBoardLogger(folder, name="tensorboard", version=""),
        "callbacks": [
            Keep(folder / CHECKPOINT),
            *([RichProgressBar(console_kwargs={"stderr": True})] if sys.stderr.isatty() else []),
        ],
        "plugins": [AsyncCheckpointIO(Whole())],
        "enable_progress_bar": sys.stderr.isatty(),
        "enable_checkpointing": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "use_distributed_sampler": False,
        "log_every_n_steps": 1,  # batches; the module says when
        "check_val_every_n_epoch": next(
            n for n in range(max(1, max_epochs // 4), max_epochs + 1) if max_epochs % n == 0
        ),  # the last one, too
        "strategy": Replicas() if _together() else "auto",
        "num_nodes": torch.distributed.get_world_size() if _together() else 1,
    }
    counting = {
        "max_steps",
        "min_steps",
        "min_epochs",
    }  # the module counts its own steps, of which a batch is many
    for key in settings:
        if key not in known or key in ours or key in counting:
            choices = sorted(set(known) - set(ours) - counting)
            raise ComponentError(
                f"trainer.{key} is not an argument of Lightning's Trainer that can be set; choose one of {', '.join(choices)}"
            )
    return lightning.Trainer(**settings, **ours)


def _together() -> bool:
    return (
        torch.distributed.is_available()
        and torch.distributed.is_initialized()
        and torch.distributed.get_world_size() > 1
    )


def _device(settings: dict[str, Any]) -> int | list[int]:
    """This process's own device in Lightning's terms, whatever `trainer.devices` says of all: each counts as a node with one."""
    on_cuda = (
        settings.get("accelerator", "auto") in ("gpu", "cuda", "auto") and torch.cuda.is_available()
    )
    return [torch.cuda.current_device()] if on_cuda else 1


class Keep(Callback):
    """Has the checkpoint written after each epoch, by a thread of Lightning's beside the next one."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_epoch_end(
        self, trainer: lightning.Trainer, module: lightning.LightningModule
    ) -> None:
        trainer.save_checkpoint(self.path)
        for logger in trainer.loggers:  # a run that goes on from here has its curves until here
            logger.save()
        trainer.should_stop = module.step >= module.settings.steps


class Whole(TorchCheckpointIO):
    """Writes a checkpoint whole or not at all, straight to its file: Lightning's own goes through two copies in memory."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        draft = Path(path).with_suffix(".draft")
        torch.save(checkpoint, draft)
        os.replace(draft, path)
