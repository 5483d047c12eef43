"""What would be seen there: video generators, and what stands in for them."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from lift.registry import Registry
from lift.types import Cameras, Clip, Frames


@dataclass(frozen=True)
class Asked:
    """A clip that is wanted, with all that `VideoPrior` is called with."""

    frames: Frames
    cameras: Cameras
    clip: Clip
    seed: int


class VideoPrior(ABC):
    """Continues frames along a clip's cameras.

    Class attributes say what a user must know before choosing it: `licence`; `requires` and `extra`, as for every component;
    `clip_length`, how many new frames it makes in one go (None = any number); `multiple`, which its pictures' sides must be
    multiples of; `follows`, how it is told to move; `sees`, which frames a clip is made from: with "all" those of every clip before it
    in the plan, so that clips are made one after the other; with "ancestors" only those that lead to it (the input, the clip that
    continues the input, and so on to the clip that it continues), so that several processes make branches at the same time; `agree`,
    whether all its frames show one and the same scene from just the cameras asked for, as a renderer's do: then there is nothing that a
    distortion could correct; `exact_depth`, whether its frames come with their depth; `at_once`, how many clips that do not stand on
    one another are best made in one call of `many`; `costs_only`, the settings that change what a clip costs, but not what it is: clips made with others of them are found again.
    A constructor may ask for (keyword-only): `image` (str: the run's `image` setting), `depth` (Depth of the input picture),
    `estimator` (DepthEstimator), `device` (torch.device).
    """

    clip_length: int | None = None
    multiple: int = 1
    follows: str = "poses"
    sees: Literal["ancestors", "all"] = "all"
    agree: bool = False
    exact_depth: bool = False
    at_once: int = 1
    costs_only: tuple[str, ...] = ()

    def many(self, asked: Sequence[Asked]) -> list[Frames]:
        """Clips that do not stand on one another; each comes out as if it were asked for alone, but for rounding."""
        return [self(one.frames, one.cameras, one.clip, one.seed) for one in asked]

    def taken(self, start: Cameras, known: int, clip: Clip, seed: int) -> Cameras | None:
        """Where a clip's frames are really taken, if it is known (of a generator whose mistakes are made on purpose). start: the input's camera; known: how
        many frames it was called with; clip, seed: as it was.
        """
        return None

    def release(self) -> None:  # noqa: B027
        """Gives back what only making clips needs: a GPU's memory."""

    @abstractmethod
    def __call__(self, frames: Frames, cameras: Cameras, clip: Clip, seed: int) -> Frames:
        """The frames of `clip`, one a camera of it, without the frame it continues.

        frames, cameras: what `sees` says, the input first, whole clips in the plan's order, cameras as planned. `clip.source` is the
        index in just these frames (with "all" it is the plan's; with "ancestors" the source lies in the last clip handed over, not
        always at its end). A call is a pure function of its arguments (a memo of earlier work is allowed), so a killed run can be
        continued after any clip. The result has `depth` if and only if the prior knows it; then `frames.depth` of earlier clips is
        there too, and the input's is the `depth` that was handed over.
        """


priors: Registry[VideoPrior] = Registry("prior", VideoPrior)
