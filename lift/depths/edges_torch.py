"""Sharpen depth with torch, for a GPU. See `lift.depths.edges` for the method and its CPU loops."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import max_pool2d, pad

MIN_STEP = 0.06
"""A window contains a step if it spans at least this fraction of the range of inverse depth."""
MIN_STEP_RATIO = 0.65
"""A step spans at least this fraction of the change in a window twice as wide."""
COLOR_SIGMA = 0.06
"""Standard deviation of similar colours, in [0, 1]."""
OUTLINE_STEP = 0.04
"""Step between neighbouring pixels at an object's outline, in units of 1 / typical depth."""

_CHUNK = 2**22
"""Number of pixels in windows that are read at a time, in about 200 MiB."""


def sharpen_inverse_map(
    rgb: Float[Tensor, "height width 3"],
    inverse: Float[Tensor, "height width"],
    valid: Bool[Tensor, "height width"],
    radius: int,
) -> Float[Tensor, "height width"]:
    """Sharpen soft steps of inverse depth and widen the near side of each step by one pixel.

    Args:
        rgb: Colours in [0, 1].
        inverse: Inverse depth in units of 1 / typical depth, positive everywhere.
        valid: Which pixels have a depth. The border of a gap is no step.
        radius: Half width of soft steps in pixels. 0: the steps are already sharp.

    Returns:
        The sharpened inverse depth.
    """
    if radius:
        sharp = sharpen_steps(rgb, inverse, radius)
        near_gap = local_maximum((~valid).to(inverse.dtype), 2 * radius) > 0
        inverse = torch.where(near_gap, inverse, sharp)
    high = local_maximum(inverse, 1)
    return torch.where(high - inverse > OUTLINE_STEP, high, inverse)


def sharpen_steps(
    rgb: Float[Tensor, "height width 3"], inverse: Float[Tensor, "height width"], radius: int
) -> Float[Tensor, "height width"]:
    """Sharpen soft steps of inverse depth. See `lift.depths.edges.sharpen_inverse_depth`.

    Args:
        rgb: Colours in [0, 1].
        inverse: Inverse depth.
        radius: Half width of soft steps in pixels.

    Returns:
        The sharpened inverse depth.
    """
    high = local_maximum(inverse, radius)
    low = -local_maximum(-inverse, radius)
    wide_step = local_maximum(inverse, 2 * radius) + local_maximum(-inverse, 2 * radius)
    step = high - low
    on_step = (step > MIN_STEP * (inverse.max() - inverse.min())) & (
        step > MIN_STEP_RATIO * wide_step
    )
    rows, columns = on_step.nonzero(as_tuple=True)
    if not len(rows):
        return inverse
    sharp = inverse.clone()
    count = max(1, _CHUNK // (4 * radius + 1) ** 2)
    for part in (slice(start, start + count) for start in range(0, len(rows), count)):
        row, column = rows[part], columns[part]
        bounds = low[row, column], high[row, column]
        sharp[row, column] = _choose_sides(rgb, inverse, row, column, *bounds, 2 * radius)
    # An outline's pixels mix two colours and may resemble a third object. Their neighbours decide.
    padded = pad(sharp[None, None], (2, 2, 2, 2), mode="replicate")[0, 0]
    out = inverse.clone()
    out[rows, columns] = _windows(padded, rows, columns, 2).median(1).values
    return out


def local_maximum(
    values: Float[Tensor, "height width"], radius: int
) -> Float[Tensor, "height width"]:
    """Compute the highest value within a square window.

    Args:
        values: Values.
        radius: Half width of the window in pixels.

    Returns:
        Maximum.
    """
    size = 2 * radius + 1
    rows = max_pool2d(values[None, None], (1, size), stride=1, padding=(0, radius))
    return max_pool2d(rows, (size, 1), stride=1, padding=(radius, 0))[0, 0]


def _choose_sides(
    rgb: Float[Tensor, "height width 3"],
    inverse: Float[Tensor, "height width"],
    row: Tensor,
    column: Tensor,
    low: Float[Tensor, "pixel"],
    high: Float[Tensor, "pixel"],
    radius: int,
) -> Float[Tensor, "pixel"]:
    """Return for each pixel the mean of the side whose colours resemble its own."""
    # Beyond the border values are infinite, so they have no vote.
    border = (radius, radius, radius, radius)
    values = _windows(pad(inverse, border, value=torch.inf), row, column, radius)
    third = (high - low) / 3
    between = (values > (low + third)[:, None]) & (values < (high - third)[:, None])
    beyond = (values > (high + third)[:, None]) | (values < (low - third)[:, None])
    votes = ~(between | beyond)
    values = values.where(votes, 0.0)
    difference = torch.zeros_like(values)
    for channel in rgb.unbind(-1):
        colors = _windows(pad(channel, border), row, column, radius)
        difference += (colors - channel[row, column][:, None]) ** 2
    steps = torch.arange(-radius, radius + 1, device=rgb.device)
    distance = (steps[:, None] ** 2 + steps**2).flatten() / (radius * radius)
    weight = torch.exp(-2 * distance)
    similarity = weight * (torch.exp(-difference / (2 * COLOR_SIGMA**2)) + 1e-6) * votes
    is_near = values > ((low + high) / 2)[:, None]
    near, near_sum, far, far_sum = (
        (similarity * side * factor).sum(1)
        for side in (is_near, ~is_near)
        for factor in (1, values)
    )
    # Compare sums, not means: the side with more pixels of this colour wins.
    chosen = torch.where(near > far, near_sum / near, far_sum / far)
    return torch.where((near > 0) & (far > 0), chosen, inverse[row, column])


def _windows(
    padded: Float[Tensor, "rows columns"], row: Tensor, column: Tensor, radius: int
) -> Float[Tensor, "pixel window"]:
    """Read the square windows around pixels from a map that is padded by the radius."""
    steps = torch.arange(2 * radius + 1, device=padded.device)
    width = padded.shape[1]
    offsets = (steps[:, None] * width + steps).flatten()
    return padded.flatten()[(row * width + column)[:, None] + offsets]
