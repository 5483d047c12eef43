"""Checkpoints of a fit: written after each epoch, atomically."""

import os
from pathlib import Path
from typing import Any

import pytorch_lightning as lightning
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.plugins.io import TorchCheckpointIO

from lift.training.callbacks import check_states


def read_progress(checkpoint: Path) -> tuple[int, int]:
    """Read how far a fit has come.

    Args:
        checkpoint: File of the checkpoint.

    Returns:
        Number of epochs and number of steps that are done.
    """
    state = torch.load(checkpoint, map_location="cpu", mmap=True, weights_only=True)
    # The checkpoint is written at the end of an epoch, before Lightning counts it.
    return state["epoch"] + 1, state["step"]


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
        """
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
        """Write a checkpoint to a draft, and rename it.

        Args:
            checkpoint: Lightning's checkpoint.
            path: File of the checkpoint.
            storage_options: Not used.
        """
        draft = Path(path).with_suffix(".draft")
        draft.parent.mkdir(parents=True, exist_ok=True)
        torch.save(checkpoint, draft)
        os.replace(draft, path)
