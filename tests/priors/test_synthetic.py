"""The prior with known corruptions: exact at severity 0, else continuous and repeatable."""

import typing
from inspect import signature

import pytest
import torch

from lift.geometry import pinhole, rotation_angle
from lift.planners.articulated import Articulated
from lift.priors import priors
from lift.priors.synthetic import Synthetic
from lift.stages import clips
from lift.synthetic.scenes import SCENES, render
from lift.types import Cameras, Depth, Frames, Trajectory

CAMERA = pinhole(64, 64, 58.0)
DEPTH = Depth(torch.full((64, 64), 4.0), torch.ones(64, 64, dtype=torch.bool), "metric")
PLAN = Articulated(2, ("right", "up"), num_frames=2, angle=8.0)(CAMERA, DEPTH, None)
KINDS = ("geometry", "texture", "color", "blur", "camera")


def made(prior: Synthetic, plan: Trajectory = PLAN, clips: int = 3, seed: int = 3) -> Frames:
    frames, cameras = prior.render_truth(plan.start), plan.start
    for clip in plan.clips[:clips]:
        frames = Frames.cat([frames, prior(frames, cameras, clip, seed)])
        cameras = Cameras.cat([cameras, clip.cameras])
    return frames


def error(frames: Frames, prior: Synthetic, plan: Trajectory = PLAN) -> torch.Tensor:
    truth = prior.render_truth(plan.cameras[list(range(len(frames)))])
    return (frames.rgb - truth.rgb).abs().mean((1, 2, 3))


def test_severity_0_is_exact() -> None:
    prior = Synthetic(severity=0.0, image="room")
    frames, truth = made(prior), render("room", PLAN.cameras[:7])
    assert torch.equal(frames.images, truth.images)
    assert torch.equal(frames.depth, truth.depth)


def test_corruptions_grow_along_the_tree_and_with_severity() -> None:
    prior = Synthetic(image="plain")
    wrong = error(made(prior), prior)
    assert float(wrong[0]) == 0
    assert 0 < float(wrong[1]) < float(wrong[2])
    assert float(wrong[1:3].mean()) < float(wrong[5:7].mean())  # right, then right/right
    assert 0.01 < float(wrong[6]) < 0.15
    weak = Synthetic(severity=0.3, image="plain")
    assert float(error(made(weak), weak)[1:].mean()) < 0.7 * float(wrong[1:].mean())


@pytest.mark.parametrize("kind", KINDS)
def test_every_corruption_kind_shows_alone(kind: str) -> None:
    severity = {"texture": 8.0, "blur": 11.0}.get(
        kind, 3.0
    )  # these sizes are small, and so is the picture
    alone = Synthetic(
        severity=severity, **{other: float(other == kind) for other in KINDS}, image="plain"
    )
    frames = made(alone, clips=1)
    truth = alone.render_truth(PLAN.cameras[:3])
    assert float(error(frames, alone)[1:].min()) > 3e-4
    assert torch.equal(frames.depth, truth.depth) == (
        kind in ("color", "blur")
    )  # the depth is that of what was drawn
    assert float((frames.depth / truth.depth).median()) == pytest.approx(1.0, abs=0.05)


def test_blur_takes_detail_away() -> None:
    soft = Synthetic(blur=3.0, geometry=0.0, texture=0.0, color=0.0, camera=0.0, image="room")
    frames, truth = made(soft, clips=1), soft.render_truth(PLAN.cameras[:3])
    detail, true = (f.rgb.diff(dim=1).abs().mean((1, 2, 3)) for f in (frames, truth))
    assert bool(((detail / true).diff() < 0).all())


def test_clip_continues_the_corruptions_of_its_source() -> None:
    """With many small steps, corruptions of neighbours differ less than they corrupt."""
    plan = Articulated(2, ("right",), num_frames=8, angle=8.0)(CAMERA, DEPTH, None)
    prior = Synthetic(geometry=0.0, texture=0.0, blur=0.0, camera=0.0, image="plain")
    frames = made(prior, plan, clips=2)
    wrong = (frames.rgb - prior.render_truth(plan.cameras).rgb).mean((1, 2))
    steps = wrong.diff(dim=0).norm(dim=-1)
    assert float(steps[8]) < 2.5 * float(steps[4:12].median()) + 1e-3  # into the second clip


def test_repeatable_without_memory_and_varied_by_seed_and_clip() -> None:
    prior, other = Synthetic(image="plain"), Synthetic(image="plain")
    frames = made(prior)
    clip = PLAN.clips[2]
    again = other(frames[:5], PLAN.cameras[:5], clip, 3)  # its first call
    assert torch.equal(again.images, frames.images[5:7])
    assert torch.equal(again.depth, frames.depth[5:7])
    assert not torch.equal(other(frames[:5], PLAN.cameras[:5], clip, 4).images, again.images)
    at_right, at_up = (
        Synthetic(geometry=0.0, texture=0.0, blur=0.0, camera=0.0, image="plain") for _ in range(2)
    )
    assert at_right.factors == at_up.factors
    right, up = (error(made(at_right), at_right)[i] for i in (2, 4))
    assert float((right - up).abs()) > 1e-4  # siblings err in their own ways


def test_it_starts_with_its_own_picture() -> None:
    prior = Synthetic(image="room")
    photo = Frames(torch.zeros(1, 64, 64, 3, dtype=torch.uint8))
    with pytest.raises(
        ValueError, match="prior synthetic renders its own scene; start it with image=room"
    ):
        prior(photo, PLAN.start, PLAN.clips[0], 0)
    with pytest.raises(
        ValueError, match=r"image is holiday\.jpg.*start it with image=room or image=terrace"
    ):
        priors.build({"name": "synthetic"}, image="holiday.jpg")
    assert Synthetic(image="thin").scene == "thin"
    assert Synthetic("plain", image="copy of plain.png").scene == "plain"


def test_settings() -> None:
    choices = typing.get_args(
        typing.get_args(signature(Synthetic).parameters["scene"].annotation)[0]
    )
    assert choices == tuple(SCENES)
    with pytest.raises(ValueError, match=r"prior\.blur is -1.0; choose 0 to 100"):
        priors.build({"name": "synthetic", "blur": -1.0}, image="room")


@pytest.mark.slow
def test_true_cameras_cover_the_whole_tree() -> None:
    plan = Articulated(2, ("right", "up"), num_frames=2, angle=8.0)(CAMERA, DEPTH, None)
    prior = Synthetic(geometry=0.0, texture=0.0, color=0.0, blur=0.0, image="room")
    cameras, frames = clips.true_cameras(prior, plan, 5), [prior.render_truth(plan.start)]
    history = clips.FrameHistory(frames[0], len(plan.cameras))
    for number in range(len(plan.clips)):  # as `pipeline.generate` asks for them
        context = clips.clip_context(plan, plan.parents, number)
        request = context.request(history, dict(enumerate(frames[1:])), 5 + number)
        frames.append(prior(request.frames, request.cameras, request.clip, request.seed))
    truth = render("room", cameras)
    assert torch.equal(Frames.cat(frames).images, truth.images)
    assert (cameras.centers - plan.cameras.centers)[1:].norm(dim=-1).min() > 1e-4, (
        "and they differ from the requested cameras"
    )


def test_a_smaller_motion_than_planned_is_shown_and_known() -> None:
    prior = Synthetic(severity=0.0, motion_scale=0.25, image="plain")
    assert not prior.multiview_consistent
    true = clips.true_cameras(prior, PLAN, seed=0)
    assert true is not None
    angles = rotation_angle(
        true.world_to_camera[:1, :3, :3].expand(len(true), 3, 3), true.world_to_camera[:, :3, :3]
    )
    planned = rotation_angle(
        PLAN.cameras.world_to_camera[:1, :3, :3].expand(len(true), 3, 3),
        PLAN.cameras.world_to_camera[:, :3, :3],
    )
    torch.testing.assert_close(angles, 0.25 * planned, atol=2e-2, rtol=0)
    frames = made(prior)
    assert torch.equal(frames.images, render("plain", true[:7]).images)
