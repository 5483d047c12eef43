"""Snapshots of a scene that is being fitted."""

from types import SimpleNamespace
from typing import Any

import torch

from lift.training.snapshots import MAX_COST, SnapshotCallback
from lift.training.splats import Splats
from tests.helpers.fits import ball


class Follower:
    """Keeps the snapshots that it gets."""

    def __init__(self) -> None:
        self.shown: list[tuple[Any, int, int]] = []
        self.watched = True

    def show(self, gaussians: Any, step: int, steps: int) -> None:
        self.shown.append((gaussians, step, steps))

    def is_watched(self) -> bool:
        return self.watched


def module(step: int = 20) -> Any:
    splats = Splats.from_gaussians(ball(10))
    return SimpleNamespace(splats=splats, step=step, settings=SimpleNamespace(steps=100))


def test_a_watched_fit_hands_out_its_gaussians():
    follower = Follower()
    callback = SnapshotCallback(follower.show, follower.is_watched)
    callback.observe(module())
    callback.close()
    [(gaussians, step, steps)] = follower.shown
    assert (step, steps) == (20, 100)
    torch.testing.assert_close(gaussians.means, ball(10).means)
    assert gaussians.sh_degree == 0 and not gaussians.means.requires_grad


def test_a_snapshot_does_not_change_with_the_fit():
    follower = Follower()
    callback = SnapshotCallback(follower.show, follower.is_watched)
    fitted = module()
    callback.observe(fitted)
    with torch.no_grad():
        fitted.splats["means"].add_(1)
    callback.close()
    torch.testing.assert_close(follower.shown[0][0].means, ball(10).means)


def test_nobody_looks_and_nothing_is_copied():
    follower = Follower()
    follower.watched = False
    callback = SnapshotCallback(follower.show, follower.is_watched)
    callback.observe(module())
    callback.close()
    assert not follower.shown


def test_snapshots_keep_their_distance():
    follower = Follower()
    callback = SnapshotCallback(follower.show, follower.is_watched, min_seconds=60.0)
    for step in (20, 40):
        callback.observe(module(step))
    callback.close()
    assert [step for _, step, _ in follower.shown] == [20]


def test_snapshots_take_a_small_part_of_the_time(monkeypatch):
    from lift.training import snapshots

    clock = [100.0]
    monkeypatch.setattr(
        snapshots, "time", SimpleNamespace(monotonic=lambda: clock[0], thread_time=lambda: 0.0)
    )
    follower = Follower()
    callback = SnapshotCallback(follower.show, follower.is_watched, min_seconds=0.0)
    take = callback._take

    def slow(fitted: Any) -> None:
        take(fitted)
        clock[0] += 1

    monkeypatch.setattr(callback, "_take", slow)
    callback.observe(module(20))
    clock[0] = 100 + 0.9 / MAX_COST
    callback.observe(module(40))
    clock[0] = 100 + 1.1 / MAX_COST
    callback.close()
    callback.observe(module(60))
    callback.close()
    assert [step for _, step, _ in follower.shown] == [20, 60]


def test_gaussians_that_are_not_finite_are_left_out():
    follower = Follower()
    callback = SnapshotCallback(follower.show, follower.is_watched)
    fitted = module()
    with torch.no_grad():
        fitted.splats["means"][3] = torch.nan
    callback.observe(fitted)
    callback.close()
    assert len(follower.shown[0][0]) == 9
