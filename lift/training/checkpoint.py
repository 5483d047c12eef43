"""Checkpoints of a fit: written after each epoch, atomically, and verified before they are used."""

import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as lightning
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.plugins.io import TorchCheckpointIO

from lift.runtime.atomic_io import remove, replace, set_aside
from lift.runtime.integrity import DamagedFileError, damage_of
from lift.training import CHECKPOINT, PREVIOUS_CHECKPOINT
from lift.training.callbacks import check_states
from lift.training.finite import check_parameters


def read_progress(checkpoint: Path) -> tuple[int, int]:
    """Read how far a fit has come.

    Args:
        checkpoint: File of the checkpoint.

    Returns:
        Number of epochs and number of steps that are done.

    Raises:
        DamagedFileError: It cannot be read.
    """
    with damage_of(checkpoint):
        state = torch.load(checkpoint, map_location="cpu", mmap=True, weights_only=True)
        # The checkpoint is written at the end of an epoch, before Lightning counts it.
        return state["epoch"] + 1, state["step"]


def verify_checkpoint(checkpoint: Path) -> None:
    """Check the checksums of a checkpoint. torch writes them, but does not compare them.

    Args:
        checkpoint: File of the checkpoint, a zip archive.

    Raises:
        DamagedFileError: It is damaged.
    """
    with damage_of(checkpoint), zipfile.ZipFile(checkpoint) as archive:
        if name := archive.testzip():
            raise DamagedFileError(checkpoint, f"the checksum of {name!r} in it differs")
    with damage_of(checkpoint), checkpoint.open("rb") as file:
        # As Lightning loads it: torch reads headers that Python's zipfile ignores.
        state = torch.load(file, map_location="cpu", weights_only=True)
        if not {"epoch", "step"} <= state.keys():
            raise DamagedFileError(checkpoint, "it is no checkpoint of a fit")


def restore_checkpoint(folder: Path, say: Callable[[str], None]) -> None:
    """Make sure that the checkpoint of a killed fit is good. Else that before it is used, or none.

    Args:
        folder: Folder of the fit. Damaged checkpoints are renamed and kept beside it.
        say: Receives messages for the user.
    """
    for name in (CHECKPOINT, PREVIOUS_CHECKPOINT):
        checkpoint = folder / name
        if not os.path.lexists(checkpoint):
            continue
        try:
            verify_checkpoint(checkpoint)
        except DamagedFileError as error:
            moved = folder.with_name(f".{folder.name}.checkpoint")
            os.replace(checkpoint, moved)
            aside = set_aside(moved, f"{folder.name.removesuffix('.draft')}.checkpoint")
            say(f"fit: {error}; it is kept as {aside.name}, and an earlier one or none is used")
        else:
            os.replace(checkpoint, folder / CHECKPOINT)
            previous = folder / PREVIOUS_CHECKPOINT
            if previous.is_dir():  # the next checkpoint could not be renamed over it
                remove(previous)
            return


def epoch_count(checkpoint: Path, steps: int, checkpoint_every: int) -> int:
    """Return the number of epochs after which a fit has done its steps.

    Steps count as those of one process, and an epoch has at least `checkpoint_every`. So these
    epochs are enough for any number of processes. `StepCallback` ends the fit in time.

    Args:
        checkpoint: File of the checkpoint that the fit continues. It need not exist.
        steps: Steps of the whole fit.
        checkpoint_every: Steps of an epoch.
    """
    epoch, step = read_progress(checkpoint) if checkpoint.exists() else (0, 0)
    return epoch + -(-max(0, steps - step) // min(steps, checkpoint_every))


class CheckpointCallback(Callback):
    """Write the checkpoint after each epoch.

    A thread of Lightning's writes it beside the next epoch.

    Args:
        path: File of the checkpoint.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._is_checked = False

    def on_train_epoch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
    ) -> None:
        """Write the checkpoint and the curves up to it.

        Args:
            trainer: Lightning's trainer.
            pl_module: A `lift.training.module.SceneModule`.

        Raises:
            NonFiniteError: A parameter of the distortion is NaN or infinite.
        """
        module: Any = pl_module
        check_parameters(module.distortion, module.step)
        if not self._is_checked:
            check_states(trainer.callbacks)  # pyright: ignore[reportAttributeAccessIssue]
            self._is_checked = True
        # An epoch that was stopped is complete, too. Lightning would go on within it.
        trainer.fit_loop.epoch_loop.batch_progress.is_last_batch = True
        trainer.save_checkpoint(self.path)
        for logger in trainer.loggers:
            logger.save()


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write a checkpoint completely or not at all, straight to its file.

    Lightning's own plugin makes two copies in memory.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        """Write a checkpoint to a draft, and rename it. The one before it is kept.

        Args:
            checkpoint: Lightning's checkpoint.
            path: File of the checkpoint.
            storage_options: Not used.
        """
        path = Path(path)
        draft = path.with_suffix(".draft")
        draft.parent.mkdir(parents=True, exist_ok=True)
        torch.save(checkpoint, draft)
        if path.exists():
            os.replace(path, path.with_name(PREVIOUS_CHECKPOINT))
        replace(draft, path)
