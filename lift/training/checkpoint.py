"""Checkpoints of a fit: written after each epoch, atomically."""

import os
from pathlib import Path
from typing import Any

import pytorch_lightning as lightning
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.plugins.io import TorchCheckpointIO


class CheckpointCallback(Callback):
    """Write the checkpoint after each epoch, and stop the fit after its last step.

    A thread of Lightning's writes it beside the next epoch.

    Args:
        path: File of the checkpoint.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

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
        trainer.save_checkpoint(self.path)
        for logger in trainer.loggers:
            logger.save()
        settings: Any = pl_module.settings
        trainer.should_stop = pl_module.step >= settings.steps


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
        torch.save(checkpoint, draft)
        os.replace(draft, path)
