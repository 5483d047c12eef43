"""Frames on the device and the order in which they are drawn."""

from collections.abc import Callable, Iterator, Sequence

import pytorch_lightning as lightning
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler

STEPS_A_BATCH = 20
"""How many steps' views make one batch of Lightning's, at most: its own work around a batch would take a fifth of a step's time on a GPU."""


class ViewSampler(Sampler[list[int]]):
    """Each step's view indices, a function of seed, epoch and weights alone, so that a resumed fit draws what it would have drawn.

    Generated views come in shuffled rounds; with `weights`, one a view, each draw is by weight instead. Each draw is the input view
    with probability `input_share`. With several processes each takes every `world`-th batch.
    """

    def __init__(
        self,
        views: list[int],
        batch: int,
        batches: int,
        input_share: Callable[[], float],
        seed: int,
        rank: int = 0,
        world: int = 1,
        weights: Callable[[], Tensor | None] = lambda: None,
    ) -> None:
        """batches: of one process in one epoch. input_share, weights: asked for at each epoch's start."""
        self.views, self.batch, self.batches, self.input_share, self.seed = (
            views,
            batch,
            batches,
            input_share,
            seed,
        )
        self.rank, self.world, self.weights, self.epoch = rank, world, weights, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[list[int]]:
        rng = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        draws = self.batch * self.batches * self.world
        views, weights = torch.tensor(self.views or [0]), self.weights()
        if weights is None:
            rounds = [
                torch.randperm(len(views), generator=rng) for _ in range(-(-draws // len(views)))
            ]
            drawn = views[torch.cat(rounds)[:draws]]
        else:
            drawn = views[torch.multinomial(weights[views], draws, replacement=True, generator=rng)]
        drawn[torch.rand(draws, generator=rng) < self.input_share()] = 0
        yield from drawn.reshape(self.batches, self.world, self.batch)[:, self.rank].tolist()


class SceneData(lightning.LightningDataModule):
    """Draws views for training and walks the held-out ones; the pictures themselves lie on the device, in the module."""

    def __init__(
        self,
        train: list[int],
        held_out: list[int],
        batch: int,
        batches: int,
        seed: int,
        log_every: int = STEPS_A_BATCH,
    ) -> None:
        """train: indices of generated frames; the input, 0, is always trained on. batches: steps of one process in one epoch, `batch` views
        each. log_every: steps between points of the curves; a batch of Lightning's can have one.
        """
        super().__init__()
        self.train, self.held_out, self.batch, self.batches = train, held_out, batch, batches
        self.seed, self.steps_a_batch = seed, min(STEPS_A_BATCH, log_every)

    def train_dataloader(self) -> DataLoader:
        sampler = ViewSampler(
            self.train,
            self.batch,
            self.batches,
            self.trainer.lightning_module.input_share,
            self.seed,
            self.trainer.global_rank,
            self.trainer.world_size,
            self.trainer.lightning_module.importance,
        )
        return DataLoader(
            _Views(), batch_sampler=BatchSampler(sampler, self.steps_a_batch, drop_last=False)
        )

    def val_dataloader(self) -> DataLoader:
        return DataLoader(
            _Views(), sampler=[[view] for view in (0, *self.held_out)], batch_size=None
        )


class _Views(Dataset):
    """A data set whose items are the indices they are asked for by."""

    def __getitem__(self, views: list[int]) -> Tensor:
        return torch.tensor(views)


def split(
    placed: list[int], every: int, chosen: Sequence[int] | None = None
) -> tuple[list[int], list[int]]:
    """Split frames into those to train on and those to hold out.

    Args:
        placed: Indices of the frames, without the input.
        every: Hold out every N-th frame, from the middle of the first N on; 0: none.
        chosen: If given, hold out these frames instead.

    Returns:
        Indices to train on, and indices to hold out.
    """
    if chosen is not None:
        held_out = [index for index in placed if index in set(chosen)]
    else:
        held_out = placed[every // 2 :: every] if every else []
    return [index for index in placed if index not in set(held_out)], held_out
