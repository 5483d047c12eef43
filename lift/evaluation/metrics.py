"""Measure errors of pictures, depths and cameras."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lift.geometry import align_similarity, rotation_angle, transform_cameras
from lift.types import Cameras

Picture = Float[Tensor, "height width 3"]
"""A picture in [0, 1]."""
Mask = Bool[Tensor, "height width"]
"""Pixels that count."""


def psnr(a: Picture, b: Picture) -> float:
    """Compute the peak signal-to-noise ratio.

    Args:
        a: A picture. It is clamped to [0, 1].
        b: The other picture.

    Returns:
        dB, at most 100, which stands for equal. NaN if a picture holds a NaN.
    """
    error = float((a.clamp(0, 1) - b.clamp(0, 1)).square().mean())
    if math.isnan(error):
        return math.nan
    return min(100.0, -10 * torch.tensor(max(error, 1e-12)).log10().item())


def masked_psnr(a: Picture, b: Picture, mask: Mask) -> float:
    """Compute the peak signal-to-noise ratio over a mask.

    Args:
        a: A picture. It is clamped to [0, 1].
        b: The other picture.
        mask: Pixels that count.

    Returns:
        dB, at most 100. NaN if the mask is empty.
    """
    return psnr(a[mask][None], b[mask][None]) if mask.any() else float("nan")


def ssim(a: Picture, b: Picture) -> float:
    """Compute the structural similarity (Wang et al., 2004) as torchmetrics does, data range 1.

    Args:
        a: A picture. It is clamped to [0, 1].
        b: The other picture.

    Returns:
        The similarity, at most 1.
    """
    return float(_ssim_map(a, b).reshape(1, -1).mean(-1))


def masked_ssim(a: Picture, b: Picture, mask: Mask) -> float:
    """Average the map of the structural similarity over a mask.

    Args:
        a: A picture. It is clamped to [0, 1].
        b: The other picture.
        mask: Pixels that count. Those up to 5 pixels around it have an effect, too.

    Returns:
        The similarity, at most 1. NaN if the mask is empty.
    """
    return float(_ssim_map(a, b)[:, mask].reshape(1, -1).mean(-1))


def _ssim_map(a: Picture, b: Picture) -> Float[Tensor, "3 height width"]:
    """Compute the structural similarity of each pixel and channel."""
    # The import takes seconds.
    from torchmetrics.functional.image import structural_similarity_index_measure

    first, second = (x.clamp(0, 1).permute(2, 0, 1)[None] for x in (a, b))
    return structural_similarity_index_measure(
        first, second, data_range=1.0, return_full_image=True
    )[1][0]


def depth_errors(
    estimate: Float[Tensor, "height width"],
    truth: Float[Tensor, "height width"],
    valid: Bool[Tensor, "height width"],
) -> dict[str, float]:
    """Compare an estimated depth with the truth.

    Args:
        estimate: The estimate. For AbsRel and delta1 it is scaled by the median ratio.
        truth: The true depth.
        valid: Pixels that count.

    Returns:
        `abs_rel`: mean relative error. `delta1`: fraction of pixels with a ratio below 1.25.
        `rank_correlation`: Spearman's, which needs no alignment. `scale`: median of estimate /
            truth.
    """
    from scipy.stats import spearmanr

    a = estimate[valid].double()
    b = truth[valid].double()
    scale = float((a / b).median())
    ratio = a / scale / b
    correlation = spearmanr(a.numpy(), b.numpy())
    return {
        "abs_rel": float((ratio - 1).abs().mean()),
        "delta1": float((torch.maximum(ratio, 1 / ratio) < 1.25).double().mean()),
        "rank_correlation": float(correlation.statistic),  # pyright: ignore[reportAttributeAccessIssue]
        "scale": scale,
    }


def camera_errors(estimate: Cameras, truth: Cameras, typical: int | float) -> dict[str, float]:
    """Compare estimated cameras with the true ones, which may be in another world.

    Positions are compared after the similarity that aligns them best (Umeyama, 1991).

    Args:
        estimate: The estimated cameras.
        truth: The true cameras, one for each view.
        typical: Typical depth of the scene in the unit of the truth.

    Returns:
        Medians over views, and the worst values as `NAME_worst`. `rotation`: degrees, relative to
        the first view, which is left out. `position`: distance divided by the typical depth.
        `focal`: absolute logarithm of the ratio.

    Raises:
        ValueError: The numbers of cameras or the picture sizes differ, or there are fewer than
            three positions, or all positions are on one line.
    """
    sizes = [(len(cameras), cameras.width, cameras.height) for cameras in (estimate, truth)]
    if sizes[0] != sizes[1]:
        raise ValueError(
            "errors of {} cameras of {} x {} pixels against {} of {} x {}; give one true camera "
            "a view, of one size".format(*sizes[0], *sizes[1])
        )
    if not typical > 0:
        raise ValueError(f"typical depth {typical}; it is a length above 0")
    estimated = estimate.to(torch.float64)
    true = truth.to(torch.float64)
    rotations = [
        cameras.world_to_camera[:, :3, :3] @ cameras.world_to_camera[0, :3, :3].T
        for cameras in (estimated, true)
    ]
    aligned = transform_cameras(estimated, *align_similarity(estimated.centers, true.centers))
    errors = {
        "rotation": rotation_angle(*rotations)[1:],
        "position": (aligned.centers - true.centers).norm(dim=-1) / typical,
        "focal": (estimated.intrinsics[:, 0, 0] / true.intrinsics[:, 0, 0]).log().abs(),
    }
    return {
        name + suffix: float(value)
        for name, values in errors.items()
        for suffix, value in (("", values.median()), ("_worst", values.max()))
    }
