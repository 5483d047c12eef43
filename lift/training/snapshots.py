"""Snapshots of a scene that is being fitted, for viewers."""

import math
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytorch_lightning as lightning
import torch
from pytorch_lightning.callbacks import Callback

from lift.types import Gaussians

MIN_SECONDS = 3.0
"""Smallest number of seconds between two snapshots."""

MAX_COST = 0.01
"""Largest fraction of a CPU core's time that snapshots may take."""


class SnapshotCallback(Callback):
    """Hand out the Gaussians every few seconds while somebody looks.

    The fit waits for the copy of the Gaussians alone. A thread does the rest. The time between two
    snapshots grows with the cost of one, so that it stays below `MAX_COST`.

    Args:
        show: Receives the Gaussians on the CPU, of degree 0, and the number of steps that are done
            and of all steps. It is called in a thread, once at a time.
        is_watched: Whether somebody looks.
        min_seconds: Smallest number of seconds between two snapshots.
    """

    def __init__(
        self,
        show: Callable[[Gaussians, int, int], Any],
        is_watched: Callable[[], bool],
        min_seconds: float = MIN_SECONDS,
    ) -> None:
        self._show = show
        self._is_watched = is_watched
        self._min_seconds = min_seconds
        self._last = -math.inf
        self._seconds = 0.0
        self._pool: ThreadPoolExecutor | None = None
        self._pending: Future[Any] | None = None

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Take a snapshot if it is time for one.

        Args:
            trainer: Lightning's trainer.
            pl_module: A `lift.training.module.SceneModule`.
            outputs: Not used.
            batch: Not used.
            batch_idx: Not used.
        """
        self.observe(pl_module)

    def observe(self, module: Any) -> None:
        """Take a snapshot if somebody looks and it is time for one.

        Args:
            module: A `lift.training.module.SceneModule`.
        """
        start = time.monotonic()
        is_pending = self._pending is not None and not self._pending.done()
        if is_pending or start < self._last + max(self._min_seconds, self._seconds / MAX_COST):
            return
        self._last = start
        self._seconds = 0.0
        if self._is_watched():
            self._take(module)
            self._seconds += time.monotonic() - start

    def on_train_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Wait for the last snapshot.

        Args:
            trainer: Lightning's trainer.
            pl_module: Not used.
        """
        self.close()

    def on_exception(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        exception: BaseException,
    ) -> None:
        """Wait for the last snapshot of a fit that ends with an error.

        Args:
            trainer: Lightning's trainer.
            pl_module: Not used.
            exception: Not used.
        """
        self.close()

    @torch.no_grad()
    def _take(self, module: Any) -> None:
        """Copy the finite Gaussians, and hand them to the thread."""
        gaussians: Gaussians = module.splats.gaussians(0).map(lambda value: value.detach().cpu())
        # Activated values are new tensors, but positions are the parameters themselves.
        gaussians = gaussians.map(torch.clone)
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, "snapshot")
        steps = int(module.settings.steps)
        self._pending = self._pool.submit(self._hand_out, gaussians, int(module.step), steps)

    def _hand_out(self, gaussians: Gaussians, step: int, steps: int) -> None:
        """Call `show` with the finite Gaussians, if there are any, and add its time."""
        start = time.thread_time()
        finite = torch.stack(
            [
                value.reshape(len(value), -1).isfinite().all(1)
                for value in gaussians.tensors().values()
            ]
        ).all(0)
        if bool(finite.any()):
            self._show(gaussians if bool(finite.all()) else gaussians[finite], step, steps)
        self._seconds += time.thread_time() - start

    def close(self) -> None:
        """Wait for the last snapshot."""
        if self._pool is not None:
            self._pool.shutdown(wait=True)
            self._pool = None
