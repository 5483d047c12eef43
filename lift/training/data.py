"""Order in which views are drawn for training."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytorch_lightning as lightning
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler

STEPS_PER_BATCH = 20
"""Largest number of optimiser steps whose views make one batch of Lightning's.

With one step in a batch, Lightning's own work would take a fifth of a step's time on a GPU.
"""

_SEED_STRIDE = 1_000_003
"""Distance between the random seeds of consecutive run seeds."""


class ViewSampler(Sampler[list[int]]):
    """Draw the view indices of each step.

    The draws are a function of seed, epoch and weights alone, so a resumed fit draws the same views
    as an uninterrupted one. Views are drawn in shuffled rounds, or by weight. Each draw is then
    replaced by the input view with the probability `input_fraction`. With several processes each
    takes every `world_size`-th batch.

    Args:
        views: Indices of the views to train on, without the input.
        batch_size: Views in a step.
        num_batches: Steps of one process in one epoch.
        input_fraction: Returns the fraction of draws that are the input view, at each epoch's
            start.
        seed: Seed of the run.
        rank: Index of this process.
        world_size: Number of processes.
        weights: Returns a weight for each frame of the scene [view], or None for shuffled rounds,
            at each epoch's start.
    """

    def __init__(
        self,
        views: list[int],
        batch_size: int,
        num_batches: int,
        input_fraction: Callable[[], float],
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        weights: Callable[[], Tensor | None] = lambda: None,
    ) -> None:
        self.views = views
        self.batch_size = batch_size
        self.num_batches = num_batches
        self.input_fraction = input_fraction
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.weights = weights
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch to draw for. Lightning calls this before each epoch.

        Args:
            epoch: Index of the epoch, from 0.
        """
        self.epoch = epoch

    def __len__(self) -> int:
        return self.num_batches

    def __iter__(self) -> Iterator[list[int]]:
        rng = torch.Generator().manual_seed(self.seed * _SEED_STRIDE + self.epoch)
        count = self.batch_size * self.num_batches * self.world_size
        views = torch.tensor(self.views or [0])
        weights = self.weights()
        if weights is None:
            rounds = [
                torch.randperm(len(views), generator=rng) for _ in range(-(-count // len(views)))
            ]
            draws = views[torch.cat(rounds)[:count]]
        else:
            draws = views[torch.multinomial(weights[views], count, replacement=True, generator=rng)]
        draws[torch.rand(count, generator=rng) < self.input_fraction()] = 0
        batches = draws.reshape(self.num_batches, self.world_size, self.batch_size)
        yield from batches[:, self.rank].tolist()


class SceneData(lightning.LightningDataModule):
    """Draw view indices for training, and iterate over the held-out ones for validation.

    The frames themselves lie on the device, in `lift.training.module.SceneModule`.

    Args:
        train: Indices of the generated frames to train on. The input, 0, is always trained on.
        held_out: Indices of the held-out frames.
        batch_size: Views in a step.
        num_batches: Steps of one process in one epoch.
        seed: Seed of the run.
        steps_per_batch: Largest number of optimiser steps in a batch of Lightning's.
    """

    def __init__(
        self,
        train: list[int],
        held_out: list[int],
        batch_size: int,
        num_batches: int,
        seed: int,
        steps_per_batch: int = STEPS_PER_BATCH,
    ) -> None:
        super().__init__()
        self.train = train
        self.held_out = held_out
        self.batch_size = batch_size
        self.num_batches = num_batches
        self.seed = seed
        self.steps_per_batch = steps_per_batch

    def train_dataloader(self) -> DataLoader:
        """Return batches of view indices [step view]."""
        trainer = self.trainer
        assert trainer is not None
        module: Any = trainer.lightning_module
        sampler = ViewSampler(
            self.train,
            self.batch_size,
            self.num_batches,
            module.input_fraction,
            self.seed,
            trainer.global_rank,
            trainer.world_size,
            module.draw_weights,
        )
        return DataLoader(
            _ViewIndices(),
            batch_sampler=BatchSampler(sampler, self.steps_per_batch, drop_last=False),  # pyright: ignore[reportArgumentType]
        )

    def val_dataloader(self) -> DataLoader:
        """Return the indices of the input and of each held-out frame, one at a time [1]."""
        return DataLoader(
            _ViewIndices(), sampler=[[view] for view in (0, *self.held_out)], batch_size=None
        )


class _ViewIndices(Dataset):
    """A data set whose items are their own indices."""

    def __getitem__(self, index: list[int]) -> Tensor:
        return torch.tensor(index)


def split_frames(
    registered: list[int], test_every: int, test_frames: Sequence[int] | None = None
) -> tuple[list[int], list[int]]:
    """Split frames into those to train on and those to hold out.

    Args:
        registered: Indices of the frames whose cameras are known, without the input.
        test_every: Hold out every N-th frame, the first from the middle of N. 0 holds out none.
        test_frames: Hold out these frames instead.

    Returns:
        Indices to train on, and indices to hold out.
    """
    if test_frames is not None:
        held_out = [index for index in registered if index in set(test_frames)]
    else:
        held_out = registered[test_every // 2 :: test_every] if test_every else []
    return [index for index in registered if index not in set(held_out)], held_out
