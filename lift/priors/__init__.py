"""Video generators: they show what cameras beside the input picture would see."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lift.registry import Registry
from lift.types import Cameras, Clip, Frames
from lift.weights import UsesWeights


@dataclass(frozen=True)
class ClipRequest:
    """The arguments of one call of a `VideoPrior`."""

    frames: Frames
    """Frames so far, the input first. They must not be changed: later requests share memory."""
    cameras: Cameras
    """Their cameras, as planned."""
    clip: Clip
    """The clip to generate."""
    seed: int
    """Seed of the clip."""


class VideoPrior(UsesWeights, ABC):
    """Base class of video priors: they continue frames along a clip's cameras.

    The constructor of a component may ask for these keyword-only parameters: `image` (str, the
    run's setting `image`), `depth` (Depth of the input picture), `estimator` (DepthEstimator) and
    `device` (torch.device). A component also declares `licence`, `requires` and `extra`.
    """

    clip_length: int | None = None
    """New frames a call. None: any number."""
    input_multiple: int = 1
    """Width and height of the run's picture must be multiples of this number of pixels."""
    control: str = "poses"
    """How the camera path controls the generator, for `lift show`."""
    context: Literal["ancestors", "all"] = "all"
    """Frames that a clip is generated from.

    `all`: the frames of all earlier clips, so clips are generated one after the other.
    `ancestors`: the input, and the clips from the input to the clip that this one continues. Then
    several processes generate branches of the tree at the same time.
    """
    multiview_consistent: bool = False
    """Whether all frames show one scene from exactly the planned cameras, as a renderer's do.

    If so, a distortion model has nothing to correct.
    """
    exact_depth: bool = False
    """Whether the frames come with their exact depth."""
    has_recorded_frames: bool = False
    """Whether the frames exist already, so that no plan can change their cameras.

    Then only a planner with `hints_recorded_frames` plans, and its path is a hint for the pose
    stage. With any other planner all `num_recorded` frames are one clip.
    """
    origin: str = "The video generator made these frames."
    """A sentence for the report that says how the frames were made."""
    num_recorded: int = 0
    """Number of frames that exist already, without the input. 0: frames are generated."""
    seed_scope: Literal["clip", "source"] = "clip"
    """What a clip's seed depends on, besides the run's.

    `clip`: the index of the clip. `source`: its index among the clips that continue the same frame.
    """
    batch_size: int = 1
    """Number of independent clips that one call of `generate_batch` should get."""
    differs_by_device: bool = False
    """Whether a GPU makes other clips than a CPU, beyond rounding. Then their keys differ."""
    cost_settings: tuple[str, ...] = ()
    """Settings that change the cost of a clip, but not the clip: they are no part of its key."""

    @classmethod
    def choose_shape(
        cls, settings: Mapping[str, Any], width: int, height: int
    ) -> tuple[tuple[int, int] | None, str]:
        """Choose the shape that the run's picture is cropped to, before the prior is built.

        A prior with a shape of its own overrides it. All stages then work on the cropped picture.

        Args:
            settings: Settings of the prior, with its `name`. Those at their defaults may be left
                out.
            width: Width in pixels at which the picture would be processed.
            height: Its height in pixels.

        Returns:
            Width and height whose ratio the picture is cropped to, or None, and a sentence for the
            user, which may be empty.
        """
        return None, ""

    def generate_batch(self, requests: Sequence[ClipRequest]) -> list[Frames]:
        """Generate clips that do not depend on one another.

        Args:
            requests: The clips to generate.

        Returns:
            The new frames of each clip. They equal those of single calls, up to rounding.
        """
        return [
            self(request.frames, request.cameras, request.clip, request.seed)
            for request in requests
        ]

    def true_cameras(
        self, start: Cameras, context_length: int, clip: Clip, seed: int
    ) -> Cameras | None:
        """Return the cameras that the frames of a clip really show, if the prior knows them.

        A prior that corrupts its frames on purpose knows them.

        Args:
            start: The input's camera.
            context_length: Number of frames that the prior was called with.
            clip: The clip, as in the call.
            seed: The seed, as in the call.

        Returns:
            One camera a new frame, or None.
        """
        return None

    def release(self) -> None:  # noqa: B027
        """Free what only generating needs, such as GPU memory."""

    @abstractmethod
    def __call__(self, frames: Frames, cameras: Cameras, clip: Clip, seed: int) -> Frames:
        """Generate the new frames of a clip.

        A call is a pure function of its arguments; it may remember earlier work. So a run that was
        stopped continues after any clip.

        Args:
            frames: Frames so far, as `context` says: the input first, then whole clips in the
                plan's order. They have `depth` if the prior returns depth; that of the input is
                the `depth` of the constructor.
            cameras: Their cameras, as planned.
            clip: The clip to generate. `clip.source` is the index of the continued frame in
                `frames`. With the context "ancestors" it lies in the last clip of `frames`, not
                always at its end.
            seed: Seed of the clip.

        Returns:
            One frame a camera of `clip`, without the frame that it continues. They have `depth` if
            and only if the prior knows it.
        """


priors: Registry[VideoPrior] = Registry("prior", VideoPrior)
"""The components of the slot `prior`."""
