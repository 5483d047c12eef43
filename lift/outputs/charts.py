"""Draw charts as inline SVG.

Colours come from CSS classes of the surrounding page, so that one chart fits light and dark pages.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

Number = int | float
"""A number. The type checker of the tests does not accept an int for a float."""

_RIGHT = 14
_TOP = 8
_BOTTOM = 22
_LABEL_HEIGHT = 16
"""Height of the label below the x axis."""
_CHAR_WIDTH = 6.4
"""Width of a digit in pixels, rounded up."""
_MAX_POINTS = 240
"""Largest number of points of a curve."""
_MAX_TIPS = 64
"""Largest number of positions that get a tooltip."""

NARROW = 340
"""Width of a chart for a phone, in about the pixels of its screen."""


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
    left: float
    """Pixels left of the plot, for the labels of the y axis."""
    bottom: int
    """Pixels below the plot, for the labels of the x axis."""
    x_range: tuple[Number, Number]
    y_range: tuple[Number, Number]
    log: bool

    @property
    def plot_height(self) -> int:
        return self.height - _TOP - self.bottom

    @property
    def plot_width(self) -> float:
        return self.width - self.left - _RIGHT

    def x(self, value: Number) -> float:
        low, high = self.x_range
        return self.left + self.plot_width * (value - low) / (high - low)

    def y(self, value: Number) -> float:
        low, high = self.y_range
        if self.log:
            fraction = math.log(value / low) / math.log(high / low)
        else:
            fraction = (value - low) / (high - low)
        return _TOP + self.plot_height * (1 - fraction)

    def shows(self, value: Number) -> bool:
        return math.isfinite(value) and (value > 0 or not self.log)


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

    A chart that is wider than a phone is drawn a second time for a phone. The style sheet of the
    page shows the one that fits.

    Args:
        title: Title of the chart, with the unit of the y axis.
        series: The curves.
        width: Width in pixels.
        height: Height in pixels.
        log: Whether the y axis is logarithmic. Values up to 0 are left out.
        from_zero: Whether a linear y axis starts at 0.
        bands: Intervals of the x axis that are shaded alternately.
        x_label: Label of the x axis.

    Returns:
        The chart with its title and legend. Empty if no value is finite.
    """
    finite = [v for s in series for v in s.y if math.isfinite(v) and (v > 0 or not log)]
    if not finite:
        return Markup("")
    # Over less than a decade, a logarithmic axis would have one or two labels.
    log = log and max(finite) >= 10 * min(finite)
    widths = [width] if width <= 1.5 * NARROW else [width, NARROW]
    drawings = [
        _drawing(title, series, finite, each, height, log, from_zero, bands, x_label)
        for each in widths
    ]
    if len(drawings) > 1:
        drawings = [
            f'<div class="for-{kind}">{drawing}</div>'
            for kind, drawing in zip(("wide", "narrow"), drawings, strict=True)
        ]
    legend = _legend(series) if len(series) > 1 else ""
    return Markup(
        f'<figure class="plot"><figcaption>{escape(title)}</figcaption>'
        f"{''.join(drawings)}{legend}</figure>"
    )


def _drawing(
    title: str,
    series: Sequence[Series],
    finite: Sequence[Number],
    width: int,
    height: int,
    log: bool,
    from_zero: bool,
    bands: Sequence[Band],
    x_label: str,
) -> str:
    """Draw the SVG of a line chart in one width."""
    edges = [edge for band in bands for edge in (band.start, band.end)]
    xs = [v for s in series for v in s.x] + edges
    if log:
        y_ticks = _log_ticks(min(finite), max(finite))
    else:
        low = min(0.0, min(finite)) if from_zero else min(finite)
        y_ticks = axis_ticks(low, max(finite), 4 if height >= 150 else 3)
    x_range = (min(xs), max(max(xs), min(xs) + 1e-9))
    y_range = (min(y_ticks[0], *finite), max(y_ticks[-1], *finite))
    left = _CHAR_WIDTH * max(len(format_number(tick)) for tick in y_ticks) + 12
    bottom = _BOTTOM + (_LABEL_HEIGHT if x_label else 0)
    axes = _Axes(width, height, left, bottom, x_range, y_range, log)
    out = [open_svg(title, width, height)]
    out += [_band(band, number, axes) for number, band in enumerate(bands)]
    out += _grid(axes, y_ticks)
    if x_label:
        middle = f"{left + axes.plot_width / 2:.1f}"
        out.append(tick_text(middle, str(height - 5), "middle", x_label))
    out += [_curve(curve, number, axes) for number, curve in enumerate(series)]
    out += _tips(series, x_label, axes)
    out.append("</svg>")
    return "".join(out)


def open_svg(title: str, width: int, height: int) -> str:
    """Write the start tag of a chart.

    Args:
        title: Text for readers who do not see the chart.
        width: Width in pixels.
        height: Height in pixels.

    Returns:
        The tag.
    """
    return (
        f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{escape(title)}">'
    )


def tick_text(x: Number | str, y: str, anchor: str, text: str) -> str:
    """Write a small text.

    Args:
        x: Horizontal position in pixels.
        y: Position of the baseline in pixels.
        anchor: start, middle or end: what of the text is at `x`.
        text: The text. It is escaped.

    Returns:
        The element.
    """
    return f'<text class="tick" x="{x}" y="{y}" text-anchor="{anchor}">{escape(text)}</text>'


def _band(band: Band, number: int, axes: _Axes) -> str:
    """Shade an interval, and name it if the name fits into it."""
    left = axes.x(band.start)
    width = axes.x(band.end) - left
    name = ""
    if len(band.name) * _CHAR_WIDTH + 8 <= width:
        name = tick_text(f"{left + 4:.1f}", str(_TOP + 11), "start", band.name)
    return (
        f'<g class="band b{number % 2}"><title>{escape(band.name)}</title>'
        f'<rect x="{left:.1f}" y="{_TOP}" width="{width:.1f}" '
        f'height="{axes.plot_height}"/>{name}</g>'
    )


def _grid(axes: _Axes, ticks: Sequence[float]) -> list[str]:
    """Draw the lines of the grid and the labels of both axes."""
    out = []
    right = axes.width - _RIGHT
    for tick in ticks:
        y = axes.y(tick)
        out.append(
            f'<line class="grid" x1="{axes.left:.1f}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>'
        )
        out.append(tick_text(f"{axes.left - 6:.1f}", f"{y + 3.5:.1f}", "end", format_number(tick)))
    low, high = axes.x_range
    baseline = str(axes.height - axes.bottom + 14)
    for tick in axis_ticks(low, high, max(2, int(axes.plot_width // 60)), whole=True):
        if low <= tick <= high:
            x = f"{axes.x(tick):.1f}"
            out.append(tick_text(x, baseline, "middle", format_number(tick)))
    return out


def _tips(series: Sequence[Series], x_label: str, axes: _Axes) -> list[str]:
    """Put an invisible strip with a tooltip over each position of a short chart."""
    values: dict[Number, list[str]] = {}
    for curve in series:
        for x, y in zip(curve.x, curve.y, strict=True):
            if axes.shows(y):
                name = f"{curve.name} " if len(series) > 1 else ""
                values.setdefault(x, []).append(f"{name}{format_number(y)}")
    if len(values) > _MAX_TIPS:
        return []
    half = axes.plot_width / max(1, len(values)) / 2
    return [
        f'<rect class="tip" x="{axes.x(x) - half:.1f}" y="{_TOP}" width="{2 * half:.1f}" '
        f'height="{axes.plot_height}"><title>'
        f"{escape(f'{x_label} {format_number(x)}: '.lstrip() + ', '.join(texts))}</title></rect>"
        for x, texts in values.items()
    ]


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
        f"{axes.x(a):.1f},{axes.y(b):.1f}" if axes.shows(b) else ""
        for a, b in zip(x, y, strict=True)
    ]
    if curve.dots:
        circles = [circle(point, 3) for point in points if point]
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


def circle(point: str, radius: Number) -> str:
    """Draw a disk.

    Args:
        point: Its centre, `x,y` in pixels.
        radius: Its radius in pixels.

    Returns:
        The element.
    """
    x, y = point.split(",")
    return f'<circle cx="{x}" cy="{y}" r="{radius}"/>'


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


def axis_ticks(low: Number, high: Number, count: int = 4, whole: bool = False) -> list[float]:
    """Choose the labels of an axis.

    Args:
        low: Lower end of the axis.
        high: Upper end.
        count: Approximate number of labels.
        whole: Whether the labels are whole numbers.

    Returns:
        Numbers that enclose both ends, 1, 2 or 5 times a power of ten apart.
    """
    if high - low < 1e-9 * max(abs(high), 1e-9):
        low = low - max(abs(low), 1e-3) * 0.5
        high = high + max(abs(high), 1e-3) * 0.5
    rough = max((high - low) / count, 1.0 if whole else 0.0)
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
