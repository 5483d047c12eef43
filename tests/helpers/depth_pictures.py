"""Depth estimators of the tests, and pictures to estimate."""

import torch
from scipy.stats import spearmanr

from lift.depths import depths
from lift.io.image import load_picture

CPU = torch.device("cpu")


def build_depth(name: str, **settings):
    supplied = {key: settings.pop(key) for key in ("image", "camera") if key in settings}
    return depths.build({"name": name, **settings}, device=CPU, **supplied)


def coffee(size: int = 256) -> torch.Tensor:
    return load_picture("coffee", size, 55.0).frames.images[0]


def gradient(height: int, width: int) -> torch.Tensor:
    row, column = torch.meshgrid(
        torch.linspace(0, 255, height), torch.linspace(0, 255, width), indexing="ij"
    )
    return torch.stack([row, column, 255 - row], dim=-1).to(torch.uint8)


def rank_correlation(depth: torch.Tensor, truth: torch.Tensor, known: torch.Tensor) -> float:
    return float(spearmanr(depth[known], truth[known]).statistic)


def motorcycle(size: int = 512):
    picture = load_picture("motorcycle_left", size, 55.0)
    image = picture.frames.images[0]
    return image, build_depth("known", image="motorcycle_left", camera=picture.cameras)(image)
