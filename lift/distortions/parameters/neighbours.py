"""Infer the distortion of held-out frames from their neighbours along the clip.

A frame that the fit never saw has no numbers of its own. Distortions change smoothly along a clip,
so its numbers are interpolated between those of the nearest fitted frames before and after it.
"""

import copy
from collections.abc import Collection
from typing import Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lift.types import Trajectory

DistortionT = TypeVar("DistortionT", bound=nn.Module)


@runtime_checkable
class PerFrameNumbers(Protocol):
    """A module with numbers for each frame that can be interpolated between frames."""

    def interpolate_frames(self, weights: Float[Tensor, "view view"]) -> None:
        """Replace the numbers of every frame by a weighted sum over frames.

        Args:
            weights: Row i has the weights by which frame i is made; a row sums to 1. Frames that
                stay as they are have a 1 on the diagonal. The input, frame 0, is the identity.
        """


def infer_held_out(
    distortion: DistortionT, trajectory: Trajectory, held_out: Collection[int]
) -> DistortionT:
    """Return a copy in which held-out frames have distortions inferred from their neighbours.

    Args:
        distortion: A fitted distortion; it stays as it is.
        trajectory: The tree of clips, which says which frames are neighbours.
        held_out: Indices of the frames that the fit did not see.

    Returns:
        The copy. Modules without numbers per frame are copied unchanged.
    """
    inferred = copy.deepcopy(distortion)
    if not held_out:
        return inferred
    weights = neighbour_weights(trajectory, held_out)
    with torch.no_grad():
        for module in inferred.modules():
            if isinstance(module, PerFrameNumbers):
                module.interpolate_frames(weights)
    return inferred


def neighbour_weights(
    trajectory: Trajectory, held_out: Collection[int]
) -> Float[Tensor, "view view"]:
    """Weights of linear interpolation along the clips.

    A held-out frame lies between the nearest fitted frame before it, on its way from the input,
    and the nearest one after it in its own clip. At the end of a clip it takes the one before.

    Args:
        trajectory: The tree of clips.
        held_out: Indices of the frames that the fit did not see; the input is not one of them.

    Returns:
        Rows that sum to 1. The row of a frame that is not held out is that of the identity.

    Raises:
        ValueError: If the input is held out.
    """
    if 0 in held_out:
        raise ValueError("held_out has frame 0, the input, which is always fitted")
    views = len(trajectory.cameras)
    before = [0] * views
    after: list[int | None] = [None] * views
    for clip, span in zip(trajectory.clips, trajectory.spans, strict=True):
        for previous, index in zip([clip.source, *span], span, strict=False):
            before[index] = previous
            if previous != clip.source:
                after[previous] = index
    hidden = set(held_out)
    weights = torch.eye(views)
    for index in sorted(hidden):
        low = before[index]
        steps_back = 1
        while low in hidden:
            low = before[low]
            steps_back += 1
        high = after[index]
        steps_ahead = 1
        while high is not None and high in hidden:
            high = after[high]
            steps_ahead += 1
        weights[index] = 0
        if high is None:
            weights[index, low] = 1
        else:
            weights[index, low] = steps_ahead / (steps_back + steps_ahead)
            weights[index, high] = steps_back / (steps_back + steps_ahead)
    return weights
