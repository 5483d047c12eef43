"""Contract of priors."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from lift.contracts.samples import CAMERA, sample_picture
from lift.contracts.subject import CheckSkipped, Subject, require
from lift.contracts.weights import lists_its_published_weights
from lift.depths import depths
from lift.io.image import load_picture
from lift.planners import planners
from lift.priors import ClipRequest, VideoPrior
from lift.stages.checks import check_clips, check_prior, check_true_cameras
from lift.stages.clips import join_frames
from lift.types import Cameras, Clip, Depth, Frames

_BUILT_IN_SCENES = {"synthetic": "room"}
"""Priors that only continue a built-in scene, and the one to use."""

_MAX_ROUNDING = 2
"""Largest difference in a colour of 0 to 255 between a batch and single calls."""


@dataclass(frozen=True)
class _Setting:
    """The input of a prior."""

    source: str
    """Name of the picture."""
    camera: Cameras
    frames: Frames
    """The input with its depth."""

    @cached_property
    def depth(self) -> Depth:
        values = self.frames.depth
        assert values is not None
        return Depth(values[0], values[0] > 0, "scale")

    def build(self, subject: Subject) -> VideoPrior:
        """Build the prior with what the pipeline supplies."""
        prior = subject.build(
            image=self.source,
            depth=self.depth,
            camera=self.camera,
            estimator=depths.build({"name": "ramp"}, camera=self.camera),
            device=torch.device("cpu"),
        )
        check_prior(prior)
        return prior

    def request(self, prior: VideoPrior, seed: int = 3) -> ClipRequest:
        """Return a request for a clip of the prior's length that continues the input."""
        trajectory = planners.build({"name": "single"})(self.camera, self.depth, 4)
        clip = trajectory.clips[0]
        if prior.clip_length:
            indices = [min(index, 3) for index in range(prior.clip_length)]
            clip = Clip(clip.name, 0, clip.cameras[indices])
        return ClipRequest(self.frames, trajectory.start, clip, seed)


def _setting(subject: Subject) -> _Setting:
    """Load the input of a prior."""
    source = _BUILT_IN_SCENES.get(subject.name)
    loaded = load_picture(source, 64, 55.0) if source else None
    images = loaded.frames.images if loaded else sample_picture()[None]
    frames = Frames(images, torch.full(images.shape[:3], 3.0))
    return _Setting(source or "x", loaded.cameras if loaded else CAMERA, frames)


def _generate(prior: VideoPrior, request: ClipRequest) -> Frames:
    """Call a prior and check what it returns."""
    frames = prior(request.frames, request.cameras, request.clip, request.seed)
    return check_clips(prior, [frames], [request])[0]


def makes_one_frame_a_camera(subject: Subject) -> None:
    """Return one uint8 frame of the input's size a camera, with depth as declared.

    Args:
        subject: The prior.
    """
    setting = _setting(subject)
    prior = setting.build(subject)
    frames = _generate(prior, setting.request(prior))
    has_depth = frames.depth is not None
    found = "have depth" if has_depth else "have no depth"
    require(
        has_depth == prior.exact_depth, f"exact_depth is {prior.exact_depth}, but frames {found}"
    )
    require(
        prior.has_recorded_frames == (prior.num_recorded > 0),
        f"has_recorded_frames is {prior.has_recorded_frames}, but num_recorded is "
        f"{prior.num_recorded}",
    )


def repeats_itself(subject: Subject) -> None:
    """Return the same frames for the same arguments.

    Args:
        subject: The prior.
    """
    setting = _setting(subject)
    results = []
    for _ in range(2):
        prior = setting.build(subject)
        results.append(_generate(prior, setting.request(prior)))
    first, again = (frames.tensors() for frames in results)
    require(
        first.keys() == again.keys() and all(first[key].equal(again[key]) for key in first),
        "two calls with the same arguments and the same seed return different frames",
    )


def batches_equal_single_calls(subject: Subject) -> None:
    """Return from `generate_batch` what single calls return, up to rounding.

    Args:
        subject: The prior.
    """
    setting = _setting(subject)
    prior = setting.build(subject)
    request = setting.request(prior)
    single = _generate(prior, request)
    for frames in check_clips(prior, prior.generate_batch([request] * 2), [request] * 2):
        difference = float((frames.images.float() - single.images.float()).abs().max())
        require(
            difference <= _MAX_ROUNDING,
            f"generate_batch differs from a single call by {difference:g} of 255",
        )


def continues_a_generated_frame(subject: Subject) -> None:
    """Continue the last frame of a clip that it generated.

    Args:
        subject: The prior.
    """
    setting = _setting(subject)
    prior = setting.build(subject)
    if prior.has_recorded_frames:
        raise CheckSkipped("has recorded frames")
    request = setting.request(prior)
    generated = _generate(prior, request)
    clip = Clip("next", len(request.clip.cameras), request.clip.cameras)
    cameras = Cameras.cat([request.cameras, request.clip.cameras])
    _generate(prior, ClipRequest(join_frames([request.frames, generated]), cameras, clip, 4))


def knows_one_true_camera_a_frame(subject: Subject) -> None:
    """Return one true camera a frame, or None.

    Args:
        subject: The prior.
    """
    setting = _setting(subject)
    prior = setting.build(subject)
    request = setting.request(prior)
    arguments: Any = (request.cameras, 1, request.clip, request.seed)
    if check_true_cameras(prior, prior.true_cameras(*arguments), request.clip) is None:
        raise CheckSkipped("does not know where its frames are really taken")


CHECKS = (
    makes_one_frame_a_camera,
    repeats_itself,
    batches_equal_single_calls,
    continues_a_generated_frame,
    knows_one_true_camera_a_frame,
    lists_its_published_weights,
)
"""The checks, in their order."""
