"""Fit a scene with Lightning's Trainer. A killed fit continues from its last checkpoint."""

import inspect
import json
import logging
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytorch_lightning as lightning
import torch
from omegaconf import DictConfig
from pytorch_lightning.callbacks import Callback, Checkpoint, ProgressBar, RichProgressBar
from pytorch_lightning.loggers import Logger
from pytorch_lightning.plugins.io import AsyncCheckpointIO

from lift.config import resolve_fit
from lift.config.loggers import CALLBACK_FOLDER, check_trainer_setting
from lift.registry import ComponentError
from lift.runtime.parallel import torch_on_one_thread
from lift.runtime.serialization import save
from lift.training import CHECKPOINT, PREVIOUS_CHECKPOINT
from lift.training.callbacks import StepCallback, name_failed_callback, uses_batches
from lift.training.checkpoint import (
    AtomicCheckpointIO,
    CheckpointCallback,
    epoch_count,
    read_progress,
)
from lift.training.data import STEPS_PER_BATCH, SceneData, split_frames
from lift.training.finite import NonFiniteError, invalid_parameter
from lift.training.loggers import LogSettings, open_loggers
from lift.training.module import SceneModule
from lift.training.replicas import ReplicaStrategy
from lift.types import Gaussians

_STEP_SETTINGS = {"max_steps", "min_steps", "min_epochs"}
"""Arguments of Lightning's Trainer that count batches. The module counts its own steps."""

_FIXED_SETTINGS = {
    "max_epochs",
    "logger",
    "callbacks",
    "plugins",
    "enable_progress_bar",
    "enable_checkpointing",
    "enable_model_summary",
    "num_sanity_val_steps",
    "use_distributed_sampler",
    "log_every_n_steps",
    "check_val_every_n_epoch",
    "strategy",
    "num_nodes",
}
"""Arguments of Lightning's Trainer that are set here."""


def fit(
    module: SceneModule,
    registered: list[int],
    folder: Path,
    settings: DictConfig,
    trainer: dict[str, Any],
    seed: int,
    test_frames: Sequence[int] | None = None,
    logs: LogSettings | None = None,
    callbacks: Sequence[Callback] = (),
    observer: Callback | None = None,
) -> None:
    """Optimise a scene, and write its Gaussians, its distortion, a checkpoint and curves.

    In a process group (torch.distributed) all processes call this function, each with its own copy
    of the module on its own device. The main process writes.

    Args:
        module: The scene.
        registered: Indices of the generated frames that the pose stage registered.
        folder: Folder of the results (`lift.runtime.serialization.save`). A checkpoint in it is
            continued.
        settings: Settings `fit` of the configuration.
        trainer: Keyword arguments of pytorch_lightning.Trainer.
        seed: Seed of the run.
        test_frames: Frames to hold out; by default every `fit.test_every`-th.
        logs: What writes the curves; by default TensorBoard.
        callbacks: Callbacks of the user.
        observer: A callback that changes nothing, such as one that takes snapshots.

    Raises:
        ComponentError: An argument of the Trainer is unknown, or memory is too small.
        NonFiniteError: The loss or the result is NaN or infinite. No checkpoint is kept.
        KeyboardInterrupt: The user pressed Ctrl-C.
    """
    _check_trainer_settings(trainer)
    settings = resolve_fit(settings)
    train, held_out = split_frames(registered, settings.test_every, test_frames)
    world_size = torch.distributed.get_world_size() if _is_distributed() else 1
    batches = -(-min(settings.steps, settings.checkpoint_every) // world_size)
    # A callback that is called after each batch expects that a batch is a step.
    batch_steps = 1 if uses_batches(callbacks) else STEPS_PER_BATCH
    data = SceneData(train, held_out, settings.batch_size, batches, seed, batch_steps)
    is_main = not _is_distributed() or torch.distributed.get_rank() == 0
    try:
        _train(module, data, folder, settings, trainer, logs or LogSettings(), callbacks, observer)
        gaussians = _finite_gaussians(module) if is_main else None
    except NonFiniteError:
        if is_main:  # a checkpoint of a wrong fit would be continued after its code was mended
            (folder / CHECKPOINT).unlink(missing_ok=True)
            (folder / PREVIOUS_CHECKPOINT).unlink(missing_ok=True)
        raise
    module.distortion.progress = 1.0
    if is_main:
        result = {"gaussians": gaussians, "distortion": module.distortion.state_dict()}
        _write_results(folder, result, {"train": train, "held_out": held_out})


def _write_results(folder: Path, result: dict[str, Any], split: dict[str, Any]) -> None:
    """Write the result of the fit and the split of its frames, and remove what is not needed."""
    with suppress(OSError):  # it does not exist, or callbacks wrote files
        (folder / CALLBACK_FOLDER).rmdir()
    save(result, folder)
    (folder / "split.json").write_text(json.dumps(split), encoding="utf-8")
    (folder / PREVIOUS_CHECKPOINT).unlink(missing_ok=True)


def _train(
    module: SceneModule,
    data: SceneData,
    folder: Path,
    settings: DictConfig,
    trainer: dict[str, Any],
    logs: LogSettings,
    callbacks: Sequence[Callback],
    observer: Callback | None,
) -> None:
    """Run Lightning's Trainer from the checkpoint in the folder, or from the start."""
    checkpoint = folder / CHECKPOINT
    step = read_progress(checkpoint)[1] if checkpoint.exists() else 0
    epochs = epoch_count(checkpoint, settings.steps, settings.checkpoint_every)
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    with (
        warnings.catch_warnings(),
        torch_on_one_thread(module.renderer.has_thread_pool),
        open_loggers(logs, folder, step) as loggers,
    ):
        # Lightning's advice, such as more loader workers, is for another kind of data.
        warnings.filterwarnings("ignore", module="pytorch_lightning")
        lightning_trainer = _build_trainer(trainer, epochs, folder, loggers, callbacks, observer)
        try:
            lightning_trainer.fit(
                module,
                data,
                ckpt_path=checkpoint if checkpoint.exists() else None,
                weights_only=True,
            )
        except torch.OutOfMemoryError:
            raise _memory_error(settings, module.splats.count) from None
        except SystemExit:  # Lightning's answer to Ctrl-C
            raise KeyboardInterrupt from None
        except Exception as error:
            if named := name_failed_callback(error, callbacks):
                raise named from error
            raise


def _memory_error(settings: DictConfig, count: int) -> ComponentError:
    """Return the error for a scene that does not fit into the GPU's memory."""
    return ComponentError(
        f"fit.max_gaussians is {settings.max_gaussians}, and {count} of them with fit.batch_size "
        f"{settings.batch_size} are more than the GPU's memory holds; choose fewer of either, or a "
        "smaller preprocess.size. More GPUs do not help: each holds the whole scene (gsplat's "
        "distributed mode takes neither distortions nor colours a view)"
    )


@torch.no_grad()
def _finite_gaussians(module: SceneModule) -> Gaussians:
    """Return the fitted Gaussians without those that are NaN or infinite.

    Raises:
        NonFiniteError: No Gaussian is left, or the distortion is NaN or infinite.
    """
    parameter = invalid_parameter(module.distortion)
    gaussians = module.splats.gaussians()
    values = (
        gaussians.means,
        gaussians.quats,
        gaussians.scales,
        gaussians.opacities[:, None],
        gaussians.sh_coeffs.flatten(1),
    )
    finite = torch.stack([value.isfinite().all(1) for value in values]).all(0)
    if parameter or (len(finite) and not finite.any()):
        name = f"distortion.{parameter}" if parameter else "the scene"
        raise NonFiniteError(name, f"after {module.step} steps of the fit")
    if finite.all():
        return gaussians
    warnings.warn(
        f"{int((~finite).sum())} of {len(finite)} Gaussians are NaN or infinite after the fit, and "
        "are left out",
        stacklevel=2,
    )
    return gaussians[finite]


def _check_trainer_settings(settings: dict[str, Any]) -> None:
    """Check the names of the settings `trainer` of the configuration.

    Raises:
        ComponentError: A setting is not an argument of the Trainer, or is set by `lift` itself.
    """
    arguments = inspect.signature(lightning.Trainer).parameters
    for key in settings:
        check_trainer_setting(key)
        if key not in arguments or key in _FIXED_SETTINGS | _STEP_SETTINGS:
            choices = sorted(set(arguments) - _FIXED_SETTINGS - _STEP_SETTINGS)
            raise ComponentError(
                f"trainer.{key} is not an argument of Lightning's Trainer that can be set; "
                f"choose one of {', '.join(choices)}"
            )


def _build_trainer(
    settings: dict[str, Any],
    max_epochs: int,
    folder: Path,
    loggers: list[Logger],
    callbacks: Sequence[Callback],
    observer: Callback | None = None,
) -> lightning.Trainer:
    """Build Lightning's Trainer.

    Args:
        settings: Settings `trainer` of the configuration.
        max_epochs: Number of epochs.
        folder: Folder of the checkpoint. Callbacks write to a folder in it.
        loggers: What writes the curves.
        callbacks: Callbacks of the user.
        observer: A callback that changes nothing. None: there is none.
    """
    root = folder / CALLBACK_FOLDER
    if callbacks:
        root.mkdir(parents=True, exist_ok=True)
    has_progress_bar = any(isinstance(callback, ProgressBar) for callback in callbacks)
    own_callbacks: list[Callback] = [StepCallback(), CheckpointCallback(folder / CHECKPOINT)]
    if observer is not None:
        own_callbacks.append(observer)
    if sys.stderr.isatty() and not has_progress_bar:
        own_callbacks.append(RichProgressBar(console_kwargs={"stderr": True}))
        has_progress_bar = True
    fixed = {
        "max_epochs": max_epochs,
        "logger": loggers or False,
        "callbacks": [*own_callbacks, *callbacks],
        "plugins": [AsyncCheckpointIO(AtomicCheckpointIO())],
        "enable_progress_bar": has_progress_bar,
        # Lightning's own checkpoints, if the user has a callback for them.
        "enable_checkpointing": any(isinstance(callback, Checkpoint) for callback in callbacks),
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "use_distributed_sampler": False,
        "log_every_n_steps": 1,  # counts batches; the module decides when to log
        "check_val_every_n_epoch": _validation_interval(max_epochs),
        "strategy": ReplicaStrategy() if _is_distributed() else "auto",
        "num_nodes": torch.distributed.get_world_size() if _is_distributed() else 1,
    }
    assert fixed.keys() == _FIXED_SETTINGS
    chosen = {
        "default_root_dir": str(root),
        **settings,
        "devices": _lightning_devices(settings),
    }
    return lightning.Trainer(**chosen, **fixed)


def _validation_interval(max_epochs: int) -> int:
    """Return the epochs between validations: about a quarter, and the last epoch is validated."""
    start = max(1, max_epochs // 4)
    return next(n for n in range(start, max_epochs + 1) if max_epochs % n == 0)


def _is_distributed() -> bool:
    """Return whether several processes fit the scene together."""
    return (
        torch.distributed.is_available()
        and torch.distributed.is_initialized()
        and torch.distributed.get_world_size() > 1
    )


def _lightning_devices(settings: dict[str, Any]) -> int | list[int]:
    """Return this process's device for Lightning, in which each process is a node of one device."""
    accelerator = settings.get("accelerator", "auto")
    if accelerator in ("gpu", "cuda", "auto") and torch.cuda.is_available():
        return [torch.cuda.current_device()]
    return 1
