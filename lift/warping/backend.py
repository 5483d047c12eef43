"""What warping a picture takes, in one form for arrays on the CPU and tensors on a GPU."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lift.types import Depth
from lift.warping import border, fill, surface


@dataclass(frozen=True)
class WarpingBackend:
    """Functions of `lift.warping` that take and return values of one kind."""

    from_tensor: Callable[[Tensor], Any]
    """Convert a tensor of any device."""
    to_tensor: Callable[[Any], Tensor]
    """Convert back to a tensor on the CPU."""
    ones: Callable[[tuple[int, int]], Any]
    """Make a mask that is true everywhere."""
    round_colors: Callable[[Any], Any]
    """Round colours in 0..255 to uint8."""
    invert: Callable[[Any], Any]
    """Compute z-depth from inverse depth, or the other way round."""
    close_gaps: Callable[[Depth], Any]
    """See `lift.warping.fill`; likewise for the next three."""
    fill_behind: Callable[..., tuple[Any, Any]]
    fill_with_network: Callable[[Any, Any, Any], Any]
    interior_holes: Callable[[Any], Any]
    extend_picture: Callable[[Any, Any, int], tuple[Any, Any]]
    """See `lift.warping.border`."""
    new_surface: Callable[[float, float], Any]
    """Make an empty `lift.warping.surface.Surface`."""

    def on_arrays(self, function: Callable[..., Any], *values: Any) -> Any:
        """Call one of the functions with arrays of numpy, and return arrays of numpy.

        Args:
            function: The function.
            *values: Its arguments. Arrays are converted.
        """
        arguments = [
            self.from_tensor(torch.from_numpy(value)) if isinstance(value, np.ndarray) else value
            for value in values
        ]
        results = function(*arguments)
        if isinstance(results, tuple):
            return tuple(self.to_tensor(result).numpy() for result in results)
        return self.to_tensor(results).numpy()


def warping_backend(device: torch.device) -> WarpingBackend:
    """Return the functions that run on a device.

    Args:
        device: The CPU or a CUDA device.
    """
    return CPU_BACKEND if device.type == "cpu" else gpu_backend(device)


CPU_BACKEND = WarpingBackend(
    from_tensor=lambda tensor: tensor.cpu().numpy(),
    to_tensor=torch.from_numpy,
    ones=lambda shape: np.ones(shape, bool),
    round_colors=lambda colors: np.clip(np.rint(colors), 0, 255).astype(np.uint8),
    invert=lambda values: (1 / values).astype(np.float32),
    close_gaps=fill.close_gaps,
    fill_behind=fill.fill_behind,
    fill_with_network=fill.fill_with_network,
    interior_holes=fill.interior_holes,
    extend_picture=border.extend_picture,
    new_surface=surface.Surface,
)
"""Arrays of numpy, with loops that numba compiles."""


def gpu_backend(device: torch.device) -> WarpingBackend:
    """Return the functions of `lift.warping.gpu`, which also run on the CPU, for tests.

    Args:
        device: Device of the tensors.
    """
    from lift.warping.gpu import border as gpu_border
    from lift.warping.gpu import fill as gpu_fill
    from lift.warping.gpu import surface as gpu_surface

    return WarpingBackend(
        from_tensor=lambda tensor: tensor.to(device),
        to_tensor=lambda tensor: tensor.cpu(),
        ones=lambda shape: torch.ones(shape, dtype=torch.bool, device=device),
        round_colors=lambda colors: colors.round().clamp(0, 255).to(torch.uint8),
        invert=lambda values: 1 / values.float(),
        close_gaps=lambda depth: gpu_fill.close_gaps(depth, device),
        fill_behind=gpu_fill.fill_behind,
        fill_with_network=gpu_fill.fill_with_network,
        interior_holes=gpu_fill.interior_holes,
        extend_picture=gpu_border.extend_picture,
        new_surface=gpu_surface.TensorSurface,
    )
