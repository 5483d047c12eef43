"""Random weights, and folders of pipelines."""

from pathlib import Path

import torch


def save_pipeline(pipe, folder: Path) -> Path:
    """Perturb all networks of a pipeline and save it as users have it."""
    rng = torch.Generator().manual_seed(0)
    for part in pipe.components.values():
        if isinstance(part, torch.nn.Module):
            perturb_parameters(part, rng)
    pipe.save_pretrained(folder)
    return folder


def perturb_parameters(part: torch.nn.Module, rng: torch.Generator) -> None:
    """Add noise to all parameters.

    Layers that are initialised with zeros have no effect otherwise.
    """
    for parameter in part.parameters():
        parameter.data += 0.02 * torch.randn(parameter.shape, generator=rng)
