"""Draw a map of camera paths as inline SVG."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from markupsafe import Markup, escape
from torch import Tensor

from lift.outputs.charts import axis_ticks, circle, format_number, open_svg, tick_text

_CHAR_WIDTH = 6.4
_LINE_HEIGHT = 12.0
_MAX_NAME = 22
"""Number of characters from which a name is cut."""

_MARGIN = (190, 80)
"""Pixels beside and above the paths together, for names and the scale bar."""
_MIN_HEIGHT = 130

_Box = tuple[float, float, float, float]
"""Left, top, right and bottom in pixels."""


def map_view(
    title: str,
    curves: Sequence[Float[Tensor, "_ 2"]],
    names: Sequence[str],
    start: Float[Tensor, "2"],
    unit: float,
    unit_name: str,
    background: Sequence[Float[Tensor, "_ 2"]] = (),
    width: int = 520,
    max_height: int = 300,
) -> Markup:
    """Draw paths on a plane, with both axes to one scale.

    Args:
        title: Title of the map.
        curves: Points of each path.
        names: Name of each path, drawn at its end. An empty name is not drawn.
        start: The point that is marked as the input.
        unit: Length of the scale bar's unit in the units of the paths.
        unit_name: Name of that unit.
        background: Paths behind the others in a light colour.
        width: Width in pixels.
        max_height: Largest height in pixels. A flat map is lower.

    Returns:
        The map.
    """
    points = torch.cat([*curves, *background, start[None]])
    low = points.amin(0)
    high = points.amax(0)
    span = (high - low).clamp(min=1e-6 * unit)
    margin_x, margin_y = _MARGIN
    scale = float(min((width - margin_x) / span[0], (max_height - margin_y) / span[1]))
    height = round(max(_MIN_HEIGHT, scale * float(span[1]) + margin_y))
    offset = torch.tensor([width / 2, height / 2 - 6]) - scale * (low + high) / 2

    def to_pixels(curve: Tensor) -> list[str]:
        return [f"{x:.1f},{y:.1f}" for x, y in (scale * curve + offset).tolist()]

    out = [open_svg(title, width, height)]
    out += [f'<path class="faint" d="M{"L".join(to_pixels(curve))}"/>' for curve in background]
    for curve, name in zip(curves, names, strict=True):
        pixels = to_pixels(curve)
        out.append(
            f'<g class="branch"><title>{escape(name)}</title><path d="M{"L".join(pixels)}"/>'
        )
        out += [circle(pixel, 1.7) for pixel in pixels[1:]]
        out.append("</g>")
    x, y = to_pixels(start[None])[0].split(",")
    out.append(f'<circle class="start" cx="{x}" cy="{y}" r="4.5"><title>input</title></circle>')
    ends = [to_pixels(curve)[-1] for curve in curves]
    out += _labels(ends, names, (float(x), float(y)), width, height)
    out += _scale_bar(scale * unit, unit_name, height)
    out.append("</svg>")
    return Markup(
        f'<figure class="plot"><figcaption>{escape(title)}</figcaption>{"".join(out)}</figure>'
    )


def _labels(
    ends: Sequence[str],
    names: Sequence[str],
    start: tuple[float, float],
    width: int,
    height: int,
) -> list[str]:
    """Write names at the ends of paths.

    A name is left out if it would overlap another one, or would not fit into the map.
    """
    out = []
    x, y = start
    occupied: list[_Box] = [
        (x - 6, y - 6, x + 6, y + 6),
        (0.0, height - 24.0, 200.0, float(height)),
    ]
    for end, name in zip(ends, names, strict=True):
        x, y = (float(value) for value in end.split(","))
        text = name if len(name) <= _MAX_NAME else name[: _MAX_NAME - 1] + "…"
        length = _CHAR_WIDTH * len(text)
        right_half = x >= start[0]
        x = x + (7 if right_half else -7)
        left = x if right_half else x - length
        box = (left, y - _LINE_HEIGHT / 2, left + length, y + _LINE_HEIGHT / 2)
        fits = box[0] >= 0 and box[2] <= width
        if text and fits and not any(_overlap(box, other) for other in occupied):
            anchor = "start" if right_half else "end"
            out.append(tick_text(f"{x:.1f}", f"{y + 3.5:.1f}", anchor, text))
            occupied.append(box)
    return out


def _overlap(a: _Box, b: _Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _scale_bar(pixels_per_unit: float, unit_name: str, height: int) -> list[str]:
    bar = axis_ticks(0, 90 / pixels_per_unit, 2)[-1]
    bar = bar if bar * pixels_per_unit <= 140 else bar / 2
    length = bar * pixels_per_unit
    return [
        f'<path class="bar" d="M8,{height - 10}h{length:.1f}"/>',
        f'<text class="tick" x="{length + 14:.1f}" y="{height - 7}">'
        f"{format_number(bar)} {escape(unit_name)}</text>",
    ]
