"""Monocular depth in place of depth that a network is not confident of."""

import torch
from jaxtyping import Float
from torch import Tensor

from lift.multiview.depth_alignment import MIN_CONFIDENCE, fit_scale_shift
from lift.poses.sfm.state import MIN_FRAME_POINTS


def fill_with_monocular(
    depth: Float[Tensor, "height width"],
    confidence: Float[Tensor, "height width"],
    estimate: Float[Tensor, "height width"],
    tolerance: float,
) -> tuple[Float[Tensor, "height width"], Float[Tensor, "height width"]]:
    """Replace depth of low confidence by monocular depth.

    Scale and shift of the inverse monocular depth are fitted where `depth` is confident. The new
    confidence is the median agreement there, or the old one if that is larger. The agreement is
    1 / (1 + (ln(fitted / depth) / tolerance)^2). With too few confident pixels nothing changes.

    Args:
        depth: z-depth.
        confidence: Confidence in [0, 1].
        estimate: Monocular z-depth with any scale and shift of its inverse; 0 if unknown.
        tolerance: Relative depth error at which the confidence is a half.

    Returns:
        The new depth and confidence.
    """
    both = (confidence >= MIN_CONFIDENCE) & (estimate > 0)
    if int(both.sum()) < MIN_FRAME_POINTS:
        return depth, confidence
    scale, offset = fit_scale_shift(1 / estimate[both], 1 / depth[both], weight=confidence[both])
    inverse = (scale / estimate.clamp(min=1e-9) + offset).clamp(
        1 / (3 * float(depth[both].max())), 3 / float(depth[both].min())
    )
    agreement = 1 / (1 + ((1 / inverse[both] / depth[both]).log() / tolerance) ** 2)
    filled = (confidence < MIN_CONFIDENCE) & (estimate > 0)
    return torch.where(filled, 1 / inverse, depth), torch.where(
        filled, torch.maximum(confidence, agreement.median()), confidence
    )


def align_like_liftimage3d(
    estimate: Float[Tensor, "height width"], depth: Float[Tensor, "height width"]
) -> Float[Tensor, "height width"]:
    """Align monocular depth as LiftImage3D does, for comparison.

    Inverse monocular depth, in 255 steps, is fitted as affine in `depth` itself, by medians over
    the image. That is wrong where depth varies much, because its inverse is what is affine.

    Args:
        estimate: Monocular z-depth; 0 if unknown.
        depth: z-depth to align to.

    Returns:
        Aligned z-depth; 0 where it is behind the camera.
    """
    inverse = 1 / torch.where(estimate > 0, estimate, torch.inf)
    low = inverse.min()
    high = inverse.max()
    m = (255 * (inverse - low) / (high - low).clamp(min=1e-12)).round() / 65535
    depth_offset = depth - depth.median() + 1e-8
    offset = m - m.median() + 1e-8
    scale = (depth_offset / offset).median()
    aligned = scale * m + (depth - scale * m).median()
    sampled = aligned.flatten()[:: max(1, aligned.numel() // 100_000)]
    smallest = torch.minimum(sampled.quantile(0.01), aligned.new_tensor(1e-6))
    return torch.where((aligned > 0) & (aligned >= smallest), aligned, 0.0)
