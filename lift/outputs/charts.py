"""Draw charts as inline SVG.

Colours come from CSS classes of the surrounding page, so that one chart fits light and dark pages.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from markupsafe import Markup, escape
from torch import Tensor

Number = int | float
"""A number. The type checker of the tests does not accept an int for a float."""

_LEFT = 46
_RIGHT = 12
_TOP = 24
_BOTTOM = 24
_MAX_POINTS = 240
"""Largest number of points of a curve."""

_MIN_LABEL_DISTANCE = (60, 11)
"""Horizontal and vertical distance in pixels below which a second label is left out."""


@dataclass(frozen=True)
class Series:
    """One curve. Values that are not finite leave a gap."""

    name: str
    """Label in the legend."""
    x: Sequence[Number]
    """Positions on the x axis."""
    y: Sequence[Number]
    """Values, one for each position."""
    dots: bool = False
    """Whether to draw single dots without a line."""


@dataclass(frozen=True)
class Band:
    """A named interval of the x axis."""

    start: Number
    """Lower end."""
    end: Number
    """Upper end."""
    name: str
    """Text of the tooltip."""


@dataclass(frozen=True)
class _Axes:
    """Maps values to pixels of a line chart."""

    width: int
    height: int
    x_range: tuple[Number, Number]
    y_range: tuple[Number, Number]
    log: bool

    @property
    def plot_height(self) -> int:
        return self.height - _TOP - _BOTTOM

    def x(self, value: Number) -> float:
        low, high = self.x_range
        return _LEFT + (self.width - _LEFT - _RIGHT) * (value - low) / (high - low)

    def y(self, value: Number) -> float:
        low, high = self.y_range
        if self.log:
            fraction = math.log(value / low) / math.log(high / low)
        else:
            fraction = (value - low) / (high - low)
        return _TOP + self.plot_height * (1 - fraction)


def line_chart(
    title: str,
    series: Sequence[Series],
    *,
    width: int = 520,
    height: int = 190,
    log: bool = False,
    from_zero: bool = False,
    bands: Sequence[Band] = (),
    x_label: str = "",
) -> Markup:
    """Draw curves over one pair of axes.

    Args:
        title: Title of the chart.
        series: The curves.
        width: Width in pixels.
        height: Height in pixels.
        log: Whether the y axis is logarithmic. Values up to 0 are left out.
        from_zero: Whether a linear y axis starts at 0.
        bands: Intervals of the x axis that are shaded alternately.
        x_label: Label of the x axis.

    Returns:
        The chart with its legend. Empty if no value is finite.
    """
    finite = [v for s in series for v in s.y if math.isfinite(v) and (v > 0 or not log)]
    edges = [edge for band in bands for edge in (band.start, band.end)]
    xs = [v for s in series for v in s.x] + edges
    if not finite:
        return Markup("")
    if log:
        ticks = _log_ticks(min(finite), max(finite))
    else:
        ticks = _ticks(0.0 if from_zero else min(finite), max(finite))
    x_range = (min(xs), max(max(xs), min(xs) + 1e-9))
    y_range = (min(ticks[0], *finite), max(ticks[-1], *finite))
    axes = _Axes(width, height, x_range, y_range, log)
    out = [_open_svg(title, width, height)]
    out += [_band(band, number, axes) for number, band in enumerate(bands)]
    out += _grid(axes, ticks)
    out.append(f'<text class="title" x="{_LEFT}" y="13">{escape(title)}</text>')
    if x_label:
        out.append(_tick_text(width - _RIGHT, "13", "end", x_label))
    out += [_curve(curve, number, axes) for number, curve in enumerate(series)]
    out.append("</svg>")
    if len(series) > 1:
        out.append(_legend(series))
    return Markup("".join(out))


def _open_svg(title: str, width: int, height: int) -> str:
    return (
        f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{escape(title)}">'
    )


def _tick_text(x: Number | str, y: str, anchor: str, text: str) -> str:
    return f'<text class="tick" x="{x}" y="{y}" text-anchor="{anchor}">{escape(text)}</text>'


def _band(band: Band, number: int, axes: _Axes) -> str:
    left = axes.x(band.start)
    right = axes.x(band.end)
    return (
        f'<g class="band b{number % 2}"><title>{escape(band.name)}</title>'
        f'<rect x="{left:.1f}" y="{_TOP}" width="{right - left:.1f}" '
        f'height="{axes.plot_height}"/></g>'
    )


def _grid(axes: _Axes, ticks: Sequence[float]) -> list[str]:
    """Draw the lines of the grid and the labels of both axes."""
    out = []
    for tick in ticks:
        y = axes.y(tick)
        right = axes.width - _RIGHT
        out.append(f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        out.append(_tick_text(_LEFT - 6, f"{y + 3.5:.1f}", "end", format_number(tick)))
    low, high = axes.x_range
    for tick in _ticks(low, high, 6):
        if low <= tick <= high:
            x = f"{axes.x(tick):.1f}"
            out.append(_tick_text(x, str(axes.height - 8), "middle", format_number(tick)))
    return out


def _legend(series: Sequence[Series]) -> str:
    keys = [
        f'<span class="s{number}{" hollow" if curve.dots else ""}">{escape(curve.name)}</span>'
        for number, curve in enumerate(series)
    ]
    return f'<div class="legend">{"".join(keys)}</div>'


def _curve(curve: Series, number: int, axes: _Axes) -> str:
    """Draw a curve as a path with gaps, or as dots."""
    x, y = (list(curve.x), list(curve.y)) if curve.dots else downsample(curve.x, curve.y)
    points = [
        f"{axes.x(a):.1f},{axes.y(b):.1f}" if math.isfinite(b) and (b > 0 or not axes.log) else ""
        for a, b in zip(x, y, strict=False)
    ]
    if curve.dots:
        circles = [_circle(point, 3) for point in points if point]
        return f'<g class="dots s{number}">{"".join(circles)}</g>'
    paths: list[str] = []
    run: list[str] = []
    for point in [*points, ""]:
        if point:
            run.append(point)
        elif run:
            # A single point is drawn twice. It shows as a round cap.
            paths.append("M" + "L".join(run if len(run) > 1 else run * 2))
            run = []
    return f'<path class="line s{number}" d="{"".join(paths)}"/>'


def _circle(point: str, radius: Number) -> str:
    x, y = point.split(",")
    return f'<circle cx="{x}" cy="{y}" r="{radius}"/>'


def map_view(
    title: str,
    curves: Sequence[Float[Tensor, "_ 2"]],
    names: Sequence[str],
    start: Float[Tensor, "2"],
    unit: float,
    unit_name: str,
    background: Sequence[Float[Tensor, "_ 2"]] = (),
    width: int = 520,
    height: int = 300,
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
        height: Height in pixels.

    Returns:
        The map.
    """
    points = torch.cat([*curves, *background, start[None]])
    low = points.amin(0)
    high = points.amax(0)
    span = (high - low).clamp(min=1e-6 * unit)
    scale = float(min((width - 150) / span[0], (height - 90) / span[1]))
    offset = torch.tensor([width / 2, height / 2 + 6]) - scale * (low + high) / 2

    def to_pixels(curve: Tensor) -> list[str]:
        return [f"{x:.1f},{y:.1f}" for x, y in (scale * curve + offset).tolist()]

    out = [_open_svg(title, width, height)]
    out.append(f'<text class="title" x="8" y="14">{escape(title)}</text>')
    out += [f'<path class="faint" d="M{"L".join(to_pixels(curve))}"/>' for curve in background]
    for curve, name in zip(curves, names, strict=True):
        pixels = to_pixels(curve)
        out.append(
            f'<g class="branch"><title>{escape(name)}</title><path d="M{"L".join(pixels)}"/>'
        )
        out += [_circle(pixel, 1.7) for pixel in pixels[1:]]
        out.append("</g>")
    x, y = to_pixels(start[None])[0].split(",")
    out.append(f'<circle class="start" cx="{x}" cy="{y}" r="4.5"><title>input</title></circle>')
    ends = [to_pixels(curve)[-1] for curve in curves]
    out += _labels(ends, names, (float(x), float(y)), width)
    out += _scale_bar(scale * unit, unit_name, height)
    out.append("</svg>")
    return Markup("".join(out))


def _labels(
    ends: Sequence[str], names: Sequence[str], start: tuple[float, float], width: int
) -> list[str]:
    """Write names at the ends of paths. A name that would overlap another is left out."""
    out = []
    occupied = [start]
    min_x, min_y = _MIN_LABEL_DISTANCE
    for end, name in zip(ends, names, strict=True):
        x, y = (float(value) for value in end.split(","))
        right_half = x >= width / 2
        x = x + (7 if right_half else -7)
        y = y + 3.5
        if name and all(abs(x - a) > min_x or abs(y - b) > min_y for a, b in occupied):
            anchor = "start" if right_half else "end"
            out.append(_tick_text(f"{x:.1f}", f"{y:.1f}", anchor, name))
            occupied.append((x, y))
    return out


def _scale_bar(pixels_per_unit: float, unit_name: str, height: int) -> list[str]:
    bar = _ticks(0, 90 / pixels_per_unit, 2)[-1]
    bar = bar if bar * pixels_per_unit <= 140 else bar / 2
    length = bar * pixels_per_unit
    return [
        f'<path class="bar" d="M8,{height - 10}h{length:.1f}"/>',
        f'<text class="tick" x="{length + 14:.1f}" y="{height - 7}">'
        f"{format_number(bar)} {escape(unit_name)}</text>",
    ]


def downsample(x: Sequence[Number], y: Sequence[Number]) -> tuple[list[Number], list[Number]]:
    """Replace a long curve by means over equal intervals.

    Args:
        x: Positions.
        y: Values, one for each position.

    Returns:
        At most 240 positions and values.
    """
    step = -(-len(x) // _MAX_POINTS)
    if step <= 1:
        return list(x), list(y)
    parts = [slice(i, i + step) for i in range(0, len(x), step)]
    return [_mean(x[part]) for part in parts], [_mean(y[part]) for part in parts]


def _mean(values: Sequence[Number]) -> Number:
    return sum(values) / len(values)


def format_number(value: Number) -> str:
    """Format a number with three digits, and thousands and millions as k and M.

    Args:
        value: The number.

    Returns:
        The text.
    """
    size, letter = (1e6, "M") if abs(value) >= 1e6 else (1e3, "k") if abs(value) >= 1e4 else (1, "")
    scaled = value / size
    return (f"{scaled:.3g}" if abs(scaled) < 1000 else f"{scaled:.0f}") + letter


def _ticks(low: Number, high: Number, count: int = 4) -> list[float]:
    """Return numbers that enclose [low, high], 1, 2 or 5 times a power of ten apart."""
    if high - low < 1e-9 * max(abs(high), 1e-9):
        low = low - max(abs(low), 1e-3) * 0.5
        high = high + max(abs(high), 1e-3) * 0.5
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough * 0.999)
    first = math.floor(low / step + 1e-9)
    last = math.ceil(high / step - 1e-9)
    return [round(k * step, 12) for k in range(first, last + 1)]


def _log_ticks(low: Number, high: Number) -> list[float]:
    """Return 1, 2, 5 times powers of ten, or only powers of ten, that enclose [low, high]."""
    steps = (1, 2, 5) if high < 100 * low else (1,)
    powers = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 2)
    candidates = [m * 10.0**p for p in powers for m in steps]
    first = max(i for i, v in enumerate(candidates) if v <= low * 1.0001)
    last = min(i for i, v in enumerate(candidates) if v >= high * 0.9999)
    return candidates[first : max(last, first + 1) + 1]
