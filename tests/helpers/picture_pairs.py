"""Pictures to compare, and masks."""

import torch


def wave_picture() -> torch.Tensor:
    """A fixed picture. Tests hold the figures that other packages give for it."""
    x, y = torch.meshgrid(torch.arange(96.0), torch.arange(64.0), indexing="xy")
    return (
        torch.stack([(x * k / 17).sin() * 0.5 + 0.5 for k in (1, 2, 3)], -1)
        * ((y / 9).cos() * 0.3 + 0.7)[..., None]
    )


def similar_pair(height: int = 40, width: int = 52) -> tuple[torch.Tensor, torch.Tensor]:
    """Two pictures that are alike; a few values lie outside [0, 1]."""
    noise = torch.Generator().manual_seed(0)
    a = torch.rand(height, width, 3, generator=noise)
    return a, a + 0.2 * torch.randn(height, width, 3, generator=noise)


def patch_mask(height: int = 40, width: int = 52) -> torch.Tensor:
    mask = torch.zeros(height, width, dtype=torch.bool)
    mask[3:20, 10:31] = True
    mask[8:12, 15:20] = False
    return mask
