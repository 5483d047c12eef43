"""Numbers that say how right a picture, a depth or a camera is."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lift.geometry import align_similarity, rotation_angle, transform_cameras
from lift.types import Cameras

Picture = Float[Tensor, "height width 3"]
Mask = Bool[Tensor, "height width"]


def psnr(a: Picture, b: Picture) -> float:
    """Compute the peak signal-to-noise ratio of pictures in [0, 1].

    Returns:
        dB, at most 100, which stands for equal. NaN if a picture holds a NaN.
    """
    error = float((a.clamp(0, 1) - b.clamp(0, 1)).square().mean())
    if math.isnan(error):
        return math.nan
    return min(100.0, -10 * torch.tensor(max(error, 1e-12)).log10().item())


def masked_psnr(a: Picture, b: Picture, mask: Mask) -> float:
    """`psnr` of the pixels of the mask; NaN if it has none."""
    return psnr(a[mask][None], b[mask][None]) if mask.any() else float("nan")


def ssim(a: Picture, b: Picture) -> float:
    """Structural similarity (Wang et al., 2004) as torchmetrics defines it, data range 1."""
    return float(_ssim_map(a, b).reshape(1, -1).mean(-1))


def masked_ssim(a: Picture, b: Picture, mask: Mask) -> float:
    """The mean of `ssim`'s map over the pixels of the mask; NaN if it has none. What lies up to 5 pixels beyond the mask counts, too."""
    return float(_ssim_map(a, b)[:, mask].reshape(1, -1).mean(-1))


def _ssim_map(a: Picture, b: Picture) -> Float[Tensor, "3 height width"]:
    from torchmetrics.functional.image import (
        structural_similarity_index_measure,
    )  # seconds, so only for who asks

    pair = [x.clamp(0, 1).permute(2, 0, 1)[None] for x in (a, b)]
    return structural_similarity_index_measure(*pair, data_range=1.0, return_full_image=True)[1][0]


def depth_errors(
    estimate: Float[Tensor, "height width"],
    truth: Float[Tensor, "height width"],
    valid: Bool[Tensor, "height width"],
) -> dict[str, float]:
    """AbsRel and delta1 after scaling the estimate by the median ratio; Spearman's rank correlation, which needs no alignment;
    and the scale itself, estimate / truth.
    """
    from scipy.stats import spearmanr

    a, b = estimate[valid].double(), truth[valid].double()
    scale = float((a / b).median())
    ratio = a / scale / b
    return {
        "abs_rel": float((ratio - 1).abs().mean()),
        "delta1": float((torch.maximum(ratio, 1 / ratio) < 1.25).double().mean()),
        "rank_correlation": float(spearmanr(a.numpy(), b.numpy()).statistic),
        "scale": scale,
    }


def camera_errors(estimate: Cameras, truth: Cameras, typical: int | float) -> dict[str, float]:
    """How far cameras are from the true ones, which may be in another world: medians over views, and the worst.

    `rotation`: degrees, relative to the first view's, which is left out. `position`: after the similarity that brings the estimated positions closest to
    the true ones (Umeyama, 1991), as a share of `typical`, the scene's depth in the truth's unit. `focal`: the ratio's logarithm, its absolute value.
    Raises ValueError for cameras that do not pair up, fewer than three positions, and positions on one line.
    """
    sizes = [(len(cameras), cameras.width, cameras.height) for cameras in (estimate, truth)]
    if sizes[0] != sizes[1]:
        raise ValueError(
            "errors of {} cameras of {} x {} pixels against {} of {} x {}; give one true camera a view, of one size".format(
                *sizes[0], *sizes[1]
            )
        )
    if not typical > 0:
        raise ValueError(f"typical depth {typical}; it is a length above 0")
    got, true = estimate.to(torch.float64), truth.to(torch.float64)
    turns = [
        cameras.world_to_camera[:, :3, :3] @ cameras.world_to_camera[0, :3, :3].T
        for cameras in (got, true)
    ]
    aligned = transform_cameras(got, *align_similarity(got.centers, true.centers))
    errors = {
        "rotation": rotation_angle(*turns)[1:],
        "position": (aligned.centers - true.centers).norm(dim=-1) / typical,
        "focal": (got.intrinsics[:, 0, 0] / true.intrinsics[:, 0, 0]).log().abs(),
    }
    return {
        name + which: float(value)
        for name, each in errors.items()
        for which, value in (("", each.median()), ("_worst", each.max()))
    }
