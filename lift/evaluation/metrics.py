"""Numbers that say how right a picture, a depth or a camera is."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Picture = Float[Tensor, "height width 3"]


def psnr(a: Picture, b: Picture) -> float:
    """Peak signal-to-noise ratio in dB of pictures in [0, 1]; at most 100, which stands for equal."""
    error = float((a.clamp(0, 1) - b.clamp(0, 1)).square().mean())
    return min(100.0, -10 * torch.tensor(max(error, 1e-12)).log10().item())


def ssim(a: Picture, b: Picture) -> float:
    """Structural similarity (Wang et al., 2004) as torchmetrics defines it, data range 1."""
    from torchmetrics.functional.image import structural_similarity_index_measure  # seconds, so only for who asks

    pair = [x.clamp(0, 1).permute(2, 0, 1)[None] for x in (a, b)]
    return float(structural_similarity_index_measure(*pair, data_range=1.0))


def depth_errors(
    estimate: Float[Tensor, "height width"], truth: Float[Tensor, "height width"], valid: Bool[Tensor, "height width"]
) -> dict[str, float]:
    """AbsRel and delta1 after scaling the estimate by the median ratio; Spearman's rank correlation, which needs no alignment;
    and the scale itself, estimate / truth."""
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
