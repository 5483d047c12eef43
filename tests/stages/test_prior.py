"""Mistakes in the settings of a prior are told before the first stage of a run."""

from pathlib import Path

import pytest

from lift import pipeline
from lift.config import compose_run
from lift.io.image import load_picture
from lift.priors import VideoPrior, priors
from lift.registry import catalogue
from lift.runtime.session import Session
from lift.stages.prior import build_early_prior
from lift.types import Cameras, Clip, Depth, Frames


class Still(VideoPrior):
    """Make clips of four frames.

    Args:
        mix: A factor, whose range the constructor checks.
    """

    clip_length = 4

    def __init__(self, mix: float = 0.5) -> None:
        if mix > 1:
            raise ValueError(f"prior.mix is {mix}; choose 0 to 1")

    def __call__(self, frames: Frames, cameras: Cameras, clip: Clip, seed: int) -> Frames:
        raise NotImplementedError


class StillWithDepth(Still):
    """Take the depth of the input, too."""

    def __init__(self, mix: float = 0.5, *, depth: Depth) -> None:
        super().__init__(mix)


@pytest.fixture(autouse=True)
def still(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register the priors `still` and `still_with_depth` for one test."""
    entries = catalogue().entries
    monkeypatch.setitem(entries, "prior", dict(entries["prior"]))
    priors.register("still")(Still)
    priors.register("still_with_depth")(StillWithDepth)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("prior=still", "prior.mix=2"), "prior.mix is 2.0; choose 0 to 1"),
        (("prior=still", "planner.num_frames=9"), "num_frames is 9, but the prior makes clips of"),
        (("prior=synthetic",), "image is coffee; prior synthetic renders its own scene"),
    ],
)
def test_a_wrong_setting_is_told_before_the_depth(
    tmp_path: Path, settings: tuple[str, ...], message: str
) -> None:
    config = compose_run(["image=coffee", "preprocess.size=64", f"output={tmp_path}", *settings])
    picture = load_picture("coffee", 64, 55.0)
    with pytest.raises(ValueError, match=message):
        pipeline.generate_views(Session(config), picture)
    assert not list(tmp_path.glob("cache/*"))


@pytest.mark.parametrize(
    ("name", "expected"), [("still", Still), ("still_with_depth", None), ("warp", None)]
)
def test_a_prior_that_takes_the_depth_is_built_later(
    tmp_path: Path, name: str, expected: type | None
) -> None:
    config = compose_run(["image=coffee", f"output={tmp_path}", f"prior={name}"])
    session = Session(config)
    picture = load_picture("coffee", 64, 55.0)
    estimator = pipeline.build_depth_estimator(session, picture)
    planner = pipeline.build_planner(session, picture)
    prior = build_early_prior(session, picture, estimator, planner)
    assert type(prior) is (expected or type(None))
