"""Draws of views, and frames that are held out."""

from lift.training.data import ViewSampler, split_frames


def test_views_are_drawn_by_seed_epoch_and_rank_alone():
    def drawn(epoch, rank=0, world=1, share=0.2):
        sampler = ViewSampler(
            [1, 2, 3, 4, 5], 2, 50, lambda: share, seed=3, rank=rank, world_size=world
        )
        sampler.set_epoch(epoch)
        return list(sampler)

    assert drawn(1) == drawn(1) != drawn(2)
    flat = [view for batch in drawn(0) for view in batch]
    assert (
        len(flat) == 100
        and 8 <= flat.count(0) <= 35
        and min(flat.count(v) for v in range(1, 6)) >= 10
    )
    ranks = [drawn(0, rank, 2) for rank in (0, 1)]
    together = ViewSampler([1, 2, 3, 4, 5], 2, 100, lambda: 0.2, seed=3)
    assert [batch for pair in zip(*ranks, strict=True) for batch in pair] == list(together)
    assert {v for b in ViewSampler([], 1, 4, lambda: 0.1, 0) for v in b} == {0}


def test_held_out_frames_are_spread_and_never_the_input():
    train, held_out = split_frames(list(range(1, 21)), 8)
    assert held_out == [5, 13] and sorted(train + held_out) == list(range(1, 21))
    assert split_frames([1, 2], 0) == ([1, 2], [])
