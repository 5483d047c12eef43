"""Frames from elsewhere: in turn, of the right size, and never more than there are."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lift.geometry import pinhole
from lift.planners.articulated import Articulated
from lift.planners.single import Single
from lift.priors import priors
from lift.types import Cameras, Depth, Frames, Trajectory


def folder(path: Path, count: int, width: int = 32, height: int = 24) -> Path:
    """Frame k is grey 10 k, with a white middle column."""
    for k in range(count):
        image = np.full((height, width, 3), 10 * k, np.uint8)
        image[:, width // 2 - 1 : width // 2 + 1] = 255
        Image.fromarray(image).save(path / f"frame_{k}.png")
    return path


def start(width: int = 32, height: int = 24) -> tuple[Frames, Cameras, Depth]:
    depth = Depth(
        torch.full((height, width), 4.0), torch.ones(height, width, dtype=torch.bool), "scale"
    )
    return (
        Frames(torch.zeros(1, height, width, 3, dtype=torch.uint8)),
        pinhole(width, height, 30.0),
        depth,
    )


def made(prior: object, plan: Trajectory, frames: Frames) -> Frames:
    cameras = plan.start
    for clip in plan.clips:
        frames = Frames.cat([frames, prior(frames, cameras, clip, 0)])
        cameras = Cameras.cat([cameras, clip.cameras])
    return frames


def greys(frames: Frames) -> list[int]:
    return [int(value) for value in frames.images[:, 3, 3, 0]]


def test_the_file_is_one_clip(tmp_path: Path) -> None:
    frames, camera, depth = start()
    prior = priors.build({"name": "frames", "path": str(folder(tmp_path, 12))})
    assert prior.clip_length == 11
    assert greys(made(prior, Single()(camera, depth, prior.clip_length), frames)) == [
        10 * k for k in range(12)
    ]


def test_clips_take_consecutive_frames(tmp_path: Path) -> None:
    frames, camera, depth = start()
    prior = priors.build({"name": "frames", "path": str(folder(tmp_path, 12)), "length": 3})
    plan = Articulated(1, ("right", "left", "up"))(camera, depth, prior.clip_length)
    assert greys(made(prior, plan, frames)) == [0, 10, 20, 30, 40, 50, 60, 70, 80, 90]


def test_first_stride_and_input(tmp_path: Path) -> None:
    frames, camera, depth = start()
    settings = {"name": "frames", "path": str(folder(tmp_path, 12)), "start": 2, "stride": 3}
    with_input, without = (
        priors.build(settings),
        priors.build({**settings, "includes_input": False}),
    )
    assert greys(made(with_input, Single()(camera, depth, with_input.clip_length), frames)) == [
        0,
        50,
        80,
        110,
    ]
    assert greys(made(without, Single()(camera, depth, without.clip_length), frames)) == [
        0,
        20,
        50,
        80,
        110,
    ]


def test_too_many_frames_requested(tmp_path: Path) -> None:
    frames, camera, depth = start()
    prior = priors.build({"name": "frames", "path": str(folder(tmp_path, 8)), "length": 4})
    with pytest.raises(ValueError, match="asks for 8 new frames with clip 'left', but .* has 7"):
        made(prior, Articulated(1, ("right", "left"))(camera, depth, 4), frames)


def test_scaled_to_the_run_and_cropped_only_on_request(tmp_path: Path) -> None:
    path = folder(tmp_path, 3, 64, 48)
    frames, camera, depth = start()
    small = made(
        priors.build({"name": "frames", "path": str(path)}), Single()(camera, depth, 2), frames
    )
    assert small.images.shape == (3, 24, 32, 3)
    assert abs(int(small.images[1, 3, 3, 0]) - 10) <= 1
    assert small.depth is None
    frames, camera, depth = start(24, 24)
    with pytest.raises(
        ValueError, match=r"frames of 64x48 pixels, but the input is 24x24.*prior\.crop=true"
    ):
        made(
            priors.build({"name": "frames", "path": str(path)}), Single()(camera, depth, 2), frames
        )
    square = made(
        priors.build({"name": "frames", "path": str(path), "crop": True}),
        Single()(camera, depth, 2),
        frames,
    ).images[1]
    column = square[12, :, 0].float()
    assert int(column.argmax()) in (11, 12) and float(column[11] - column[12]) == pytest.approx(
        0, abs=2
    )  # the middle stays the middle


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stride": 0}, r"prior\.stride is 0; choose 1 to 1000000"),
        ({"length": 5}, r"prior\.length is 5, but .* has 3 new frames"),
        ({"start": 3}, "no frame left"),
    ],
)
def test_wrong_settings_are_named(tmp_path: Path, settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        priors.build({"name": "frames", "path": str(folder(tmp_path, 4)), **settings})
