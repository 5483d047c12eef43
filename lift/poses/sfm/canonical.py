"""One depth map per frame, averaged over all pairs that predict it."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate

from lift.multiview.depth_alignment import normalize_confidence
from lift.types import Cameras

MAX_SCALE_PIXELS = 10_000
"""Number of pixels from which the scale between two depth maps is estimated."""


class CanonicalDepth:
    """Running mean of each frame's log depth, up to one factor per frame.

    Args:
        frames: Number of frames.
    """

    def __init__(self, frames: int) -> None:
        self.frames = frames
        self.count = torch.zeros(frames, dtype=torch.long)
        self.log_depth = torch.zeros(frames, 0, 0)
        self.weight = torch.zeros(frames, 0, 0)
        self.confidence = torch.zeros(frames, 0, 0)

    def add(
        self,
        frames: Sequence[int],
        depth: Float[Tensor, "pair height width"],
        confidence: Float[Tensor, "pair height width"],
    ) -> None:
        """Add depth maps, each with a scale of its own.

        Args:
            frames: Frame of each map; frames may repeat.
            depth: z-depth.
            confidence: Confidence, at least 1.
        """
        if not self.log_depth.numel():
            self.log_depth, self.weight, self.confidence = (
                depth.new_zeros(self.frames, *depth.shape[1:]) for _ in range(3)
            )
        remaining = list(range(len(frames)))
        while remaining:  # Maps of the same frame are added one after another.
            batch = {frames[k]: k for k in reversed(remaining)}
            index = list(batch.values())
            self._add(torch.tensor(list(batch)), depth[index], confidence[index])
            remaining = [k for k in remaining if batch[frames[k]] != k]

    def _add(
        self,
        frames: Int[Tensor, "map"],
        depth: Float[Tensor, "map height width"],
        confidence: Float[Tensor, "map height width"],
    ) -> None:
        """Add one map to each of several frames."""
        log_depth = depth.clamp(min=1e-6).log()
        weight = confidence * (depth > 0)
        new = (self.count[frames] == 0).to(depth.device)[:, None, None]
        self.count[frames] += 1
        count = self.count[frames].to(depth)
        frames = frames.to(depth.device)
        old = self.log_depth[frames]
        old_weight = self.weight[frames]
        old_confidence = self.confidence[frames]
        step = max(1, int((log_depth[0].numel() / MAX_SCALE_PIXELS) ** 0.5))
        both = torch.minimum(weight, old_weight)[:, ::step, ::step].flatten(1)
        difference = (old - log_depth)[:, ::step, ::step].flatten(1)
        confident = both >= both.median(1, keepdim=True).values
        offset = torch.where(confident, difference, torch.nan).nanmedian(1).values
        log_depth = torch.where(new, log_depth, log_depth + offset[:, None, None])
        total = old_weight + weight
        self.log_depth[frames] = old + (log_depth - old) * torch.where(
            new, 1.0, weight / total.clamp(min=1e-9)
        )
        self.weight[frames] = total
        self.confidence[frames] = (
            old_confidence + (confidence - old_confidence) / count[:, None, None]
        )

    def normalized_confidence(self, frame: int) -> Float[Tensor, "height width"]:
        """Return a frame's confidence in [0, 1].

        Args:
            frame: Index of the frame.

        Returns:
            The confidence.
        """
        return normalize_confidence(self.confidence[frame])

    def sample(
        self, frame: int, pixels: Float[Tensor, "pixel 2"], plan: Cameras
    ) -> Float[Tensor, "pixel"]:
        """Interpolate a frame's log depth.

        Args:
            frame: Index of the frame.
            pixels: Positions in pixels of the frame.
            plan: Cameras, for the frame's size.

        Returns:
            Log depth at the positions, in double precision on the CPU.
        """
        if not len(pixels):
            return torch.zeros(0, dtype=torch.float64)
        log_depth = self.log_depth[frame]
        grid = pixels.to(log_depth) * log_depth.new_tensor([2 / plan.width, 2 / plan.height]) - 1
        return (
            grid_sample(
                log_depth[None, None], grid[None, None], padding_mode="border", align_corners=False
            )[0, 0, 0]
            .double()
            .cpu()
        )


def resize_bilinear(
    values: Float[Tensor, "_h _w"], height: int, width: int
) -> Float[Tensor, "height width"]:
    """Resize a map bilinearly.

    Args:
        values: The map.
        height: New height in pixels.
        width: New width in pixels.

    Returns:
        The resized map.
    """
    return interpolate(values[None, None], (height, width), mode="bilinear", align_corners=False)[
        0, 0
    ]


def resize_log_depth(
    log_depth: Float[Tensor, "_h _w"], height: int, width: int
) -> Float[Tensor, "height width"]:
    """Resize log depth smoothly, but not across depth edges.

    Args:
        log_depth: Log depth.
        height: New height in pixels.
        width: New width in pixels.

    Returns:
        The resized log depth.
    """
    smooth = resize_bilinear(log_depth, height, width)
    nearest = interpolate(log_depth[None, None], (height, width), mode="nearest-exact")[0, 0]
    return torch.where((smooth - nearest).abs() < 0.02, smooth, nearest)
