"""Mistakes accumulate along a clip: numbers of a frame as sums of changes from frame to frame."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lift.runtime.jit import fused
from lift.types import Trajectory


def ancestry(trajectory: Trajectory, num_views: int) -> Float[Tensor, "view view"]:
    """[i, j] is 1 where frame j is frame i or comes before it on its way from the input, which itself is left out; else 0."""
    before = torch.zeros(num_views, num_views)
    for clip, span in zip(trajectory.clips, trajectory.spans, strict=True):
        previous = clip.source
        for index in span:
            before[index] = before[previous]
            before[index, index] = 1.0
            previous = index
    return before


class PerFrame(nn.Module):
    """Numbers that every frame has for itself, zero to begin with and always for the input.

    chained: what is learned are changes from each frame to the next along the tree of clips. A clip continues a frame, mistakes and all,
    so a frame's picture tells of all that follow it; with few looks at each frame that is what they are learned by.
    """

    def __init__(
        self, num_views: int, shape: tuple[int, ...], trajectory: Trajectory, chained: bool
    ) -> None:
        super().__init__()
        self.shape = shape
        self.values = nn.Parameter(torch.zeros(num_views, *shape))
        """Of a frame, or its change from the frame before."""
        self.register_buffer(
            "before", ancestry(trajectory, num_views) if chained else None, persistent=False
        )

    def forward(self, view: Int[Tensor, "view"]) -> Float[Tensor, "view *number"]:
        if self.before is None:
            return (view > 0).to(self.values.dtype).view(-1, *[1] * len(self.shape)) * self.values[
                view
            ]
        return (self.before[view] @ self.values.reshape(len(self.values), -1)).view(
            len(view), *self.shape
        )

    def interpolate_frames(self, weights: Float[Tensor, "view view"]) -> None:
        """Replace the numbers of every frame by a weighted sum over frames.

        Args:
            weights: As for `lift.distortions.neighbours.PerFrameNumbers`.
        """
        views = len(self.values)
        numbers = self(torch.arange(views, device=self.values.device)).reshape(views, -1)
        mixed = weights.to(numbers) @ numbers
        if self.before is not None:
            chain = self.before.clone()
            chain[0, 0] = 1.0  # the input's own number is zero
            mixed = torch.linalg.solve_triangular(chain, mixed, upper=False)
        self.values.copy_(mixed.view_as(self.values))

    def norm(self, least: float, weight: float = 1.0) -> Float[Tensor, ""]:
        """`weight` times the mean over frames of the root mean square of a frame's numbers, rounded at zero over `least`. Pulls all sizes alike, so that what
        is not needed goes to zero, and what is needed is hardly held back.
        """
        numbers = self.values.reshape(len(self.values), -1)
        if fused(numbers):
            from lift.distortions.kernels import chain_triton

            return chain_triton.norm(numbers, least, weight)
        square = numbers.square().mean(1)
        return weight * (square / ((square + least**2).sqrt() + least)).mean()
