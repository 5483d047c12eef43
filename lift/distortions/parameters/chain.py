"""Parameters of each frame as sums of changes along a clip, because errors accumulate along it."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lift.runtime.jit import can_use_triton
from lift.types import Trajectory


def ancestry(trajectory: Trajectory, num_views: int) -> Float[Tensor, "view view"]:
    """Return which frames precede which on the way from the input.

    Args:
        trajectory: The tree of clips.
        num_views: Number of frames, the input included.

    Returns:
        Entry [i, j] is 1 if frame j is frame i or precedes it, else 0. The input is left out:
        its row and column are 0.
    """
    before = torch.zeros(num_views, num_views)
    for clip, span in zip(trajectory.clips, trajectory.spans, strict=True):
        previous = clip.source
        for index in span:
            before[index] = before[previous]
            before[index, index] = 1.0
            previous = index
    return before


class PerFrame(nn.Module):
    """Store numbers for every frame, zero at initialisation and always zero for the input.

    If `chained`, the parameters are changes from each frame to the next along the tree of clips.
    A clip continues a frame together with its errors, so one picture informs all frames that
    follow it. This is how the numbers are learned if each frame is rendered only a few times.

    Args:
        num_views: Number of frames, the input included.
        shape: Shape of the numbers of one frame.
        trajectory: The tree of clips.
        chained: Whether changes from frame to frame are learned, not each frame on its own.
    """

    before: Tensor | None
    """`ancestry` of the frames; None if not chained."""

    def __init__(
        self, num_views: int, shape: tuple[int, ...], trajectory: Trajectory, chained: bool
    ) -> None:
        super().__init__()
        self.shape = shape
        self.values = nn.Parameter(torch.zeros(num_views, *shape))
        """Numbers of each frame or, if chained, their change from the frame before."""
        self.register_buffer(
            "before", ancestry(trajectory, num_views) if chained else None, persistent=False
        )

    def forward(self, view: Int[Tensor, "view"]) -> Float[Tensor, "view *number"]:
        """Return the numbers of some frames.

        Args:
            view: Indices of the frames; 0 is the input.

        Returns:
            The numbers, of shape [view *shape].
        """
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
            weights: As for `lift.distortions.parameters.neighbours.PerFrameNumbers`.
        """
        views = len(self.values)
        numbers = self(torch.arange(views, device=self.values.device)).reshape(views, -1)
        mixed = weights.to(numbers) @ numbers
        if self.before is not None:
            chain = self.before.clone()
            chain[0, 0] = 1.0  # the input's own number is zero
            mixed = torch.linalg.solve_triangular(chain, mixed, upper=False)
        self.values.copy_(mixed.view_as(self.values))

    def norm(self, epsilon: float, weight: float = 1.0) -> Float[Tensor, ""]:
        """Return the mean over frames of the root mean square of a frame's parameters.

        The root is smoothed at zero over `epsilon`. Its gradient is equally strong for all
        sizes: parameters that are not needed go to zero, and needed ones are hardly held back.

        Args:
            epsilon: Size below which the norm is quadratic, in units of the parameters; above 0.
            weight: Factor of the result.

        Returns:
            The weighted norm, a scalar.
        """
        numbers = self.values.reshape(len(self.values), -1)
        if can_use_triton(numbers):
            from lift.distortions.kernels import chain_triton

            return chain_triton.norm(numbers, epsilon, weight)
        square = numbers.square().mean(1)
        return weight * (square / ((square + epsilon**2).sqrt() + epsilon)).mean()
