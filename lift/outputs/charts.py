"""Charts as inline SVG. Colours are left to CSS classes of the page around them, so that one chart serves light and dark alike."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from markupsafe import Markup, escape
from torch import Tensor

Number = int | float  # the checker of the tests does not take an int for a float

_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 24, 24
_MOST_POINTS = 240


@dataclass(frozen=True)
class Series:
    """One curve; values that are not finite leave a gap. `dots` are drawn one by one, without a line."""

    name: str
    x: Sequence[Number]
    y: Sequence[Number]
    dots: bool = False


@dataclass(frozen=True)
class Band:
    """A named stretch of the x axis."""

    start: Number
    end: Number
    name: str


def line_chart(
    title: str,
    series: Sequence[Series],
    *,
    width: int = 520,
    height: int = 190,
    log: bool = False,
    zero: bool = False,
    bands: Sequence[Band] = (),
    x_name: str = "",
) -> Markup:
    """Curves over one pair of axes. log: a logarithmic y axis, which leaves out what is not positive. zero: the y axis starts at 0."""
    finite = [v for s in series for v in s.y if math.isfinite(v) and (v > 0 or not log)]
    xs = [v for s in series for v in s.x] + [
        edge for band in bands for edge in (band.start, band.end)
    ]
    if not finite:
        return Markup("")
    ticks = (
        _log_ticks(min(finite), max(finite))
        if log
        else _ticks(0.0 if zero else min(finite), max(finite))
    )
    low, high = min(ticks[0], *finite), max(ticks[-1], *finite)
    first, last = min(xs), max(max(xs), min(xs) + 1e-9)
    inner, tall = width - _LEFT - _RIGHT, height - _TOP - _BOTTOM

    def across(x: Number) -> float:
        return _LEFT + inner * (x - first) / (last - first)

    def down(y: Number) -> float:
        share = math.log(y / low) / math.log(high / low) if log else (y - low) / (high - low)
        return _TOP + tall * (1 - share)

    out = [
        f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">'
    ]
    for number, band in enumerate(bands):
        left, right = across(band.start), across(band.end)
        out.append(f'<g class="band b{number % 2}"><title>{escape(band.name)}</title>')
        out.append(
            f'<rect x="{left:.1f}" y="{_TOP}" width="{right - left:.1f}" height="{tall}"/></g>'
        )
    for tick in ticks:
        y = down(tick)
        out.append(
            f'<line class="grid" x1="{_LEFT}" x2="{width - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        )
        out.append(
            f'<text class="tick" x="{_LEFT - 6}" y="{y + 3.5:.1f}" text-anchor="end">{number_text(tick)}</text>'
        )
    for tick in _ticks(first, last, 6):
        if first <= tick <= last:
            out.append(
                f'<text class="tick" x="{across(tick):.1f}" y="{height - 8}" text-anchor="middle">{number_text(tick)}</text>'
            )
    out.append(f'<text class="title" x="{_LEFT}" y="13">{escape(title)}</text>')
    if x_name:
        out.append(
            f'<text class="tick" x="{width - _RIGHT}" y="13" text-anchor="end">{escape(x_name)}</text>'
        )
    for number, one in enumerate(series):
        out.append(_curve(one, number, across, down, log))
    out.append("</svg>")
    if len(series) > 1:
        keys = (
            f'<span class="s{number}{" hollow" if one.dots else ""}">{escape(one.name)}</span>'
            for number, one in enumerate(series)
        )
        out.append(f'<div class="legend">{"".join(keys)}</div>')
    return Markup("".join(out))


def _curve(one: Series, number: int, across, down, log: bool) -> str:
    x, y = (list(one.x), list(one.y)) if one.dots else thinned(one.x, one.y)
    known = [math.isfinite(value) and (value > 0 or not log) for value in y]
    places = [
        f"{across(a):.1f},{down(b):.1f}" if k else "" for a, b, k in zip(x, y, known, strict=False)
    ]
    if one.dots:
        circles = (
            f'<circle cx="{place.split(",")[0]}" cy="{place.split(",")[1]}" r="3"/>'
            for place in places
            if place
        )
        return f'<g class="dots s{number}">{"".join(circles)}</g>'
    runs, run = [], []
    for place in [*places, ""]:
        if place:
            run.append(place)
        elif run:
            runs.append(
                "M" + "L".join(run if len(run) > 1 else run * 2)
            )  # a lone point shows as a round cap
            run = []
    return f'<path class="line s{number}" d="{"".join(runs)}"/>'


def map_view(
    title: str,
    curves: Sequence[Float[Tensor, "_ 2"]],
    names: Sequence[str],
    start: Float[Tensor, "2"],
    unit: float,
    unit_name: str,
    faint: Sequence[Float[Tensor, "_ 2"]] = (),
    width: int = 520,
    height: int = 300,
) -> Markup:
    """Paths on a plane, both axes to one scale, each with its name at its end (if not empty); `start` is marked.

    unit: length of the scale bar's unit in the paths' units; a round share of it is drawn. faint: paths behind, in a quiet colour.
    """
    every = torch.cat([*curves, *faint, start[None]])
    low, high = every.amin(0), every.amax(0)
    span = (high - low).clamp(min=1e-6 * unit)
    scale = float(min((width - 150) / span[0], (height - 90) / span[1]))
    offset = torch.tensor([width / 2, height / 2 + 6]) - scale * (low + high) / 2

    def place(curve: Tensor) -> list[str]:
        return [f"{x:.1f},{y:.1f}" for x, y in (scale * curve + offset).tolist()]

    out = [
        f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">'
    ]
    out.append(f'<text class="title" x="8" y="14">{escape(title)}</text>')
    out += [f'<path class="faint" d="M{"L".join(place(curve))}"/>' for curve in faint]
    for curve, name in zip(curves, names, strict=True):
        places = place(curve)
        out.append(
            f'<g class="branch"><title>{escape(name)}</title><path d="M{"L".join(places)}"/>'
        )
        out += ['<circle cx="{}" cy="{}" r="1.7"/>'.format(*p.split(",")) for p in places[1:]]
        out.append("</g>")
    x, y = place(start[None])[0].split(",")
    out.append(f'<circle class="start" cx="{x}" cy="{y}" r="4.5"><title>input</title></circle>')
    taken: list[tuple[float, float]] = [(float(x), float(y))]
    for curve, name in zip(curves, names, strict=True):
        x, y = (float(v) for v in place(curve)[-1].split(","))
        outward = x >= width / 2
        x, y = x + (7 if outward else -7), y + 3.5
        if name and all(
            abs(x - a) > 60 or abs(y - b) > 11 for a, b in taken
        ):  # a name that would lie on another is left to the tooltip
            out.append(
                f'<text class="tick" x="{x:.1f}" y="{y:.1f}" text-anchor="{"start" if outward else "end"}">{escape(name)}</text>'
            )
            taken.append((x, y))
    bar = _ticks(0, 90 / scale / unit, 2)[-1]
    bar = bar if bar * unit * scale <= 140 else bar / 2
    length = bar * unit * scale
    out.append(f'<path class="bar" d="M8,{height - 10}h{length:.1f}"/>')
    out.append(
        f'<text class="tick" x="{length + 14:.1f}" y="{height - 7}">{number_text(bar)} {escape(unit_name)}</text></svg>'
    )
    return Markup("".join(out))


def thinned(x: Sequence[Number], y: Sequence[Number]) -> tuple[list[Number], list[Number]]:
    """Long curves as means of equal stretches."""
    step = -(-len(x) // _MOST_POINTS)
    if step <= 1:
        return list(x), list(y)
    parts = [slice(i, i + step) for i in range(0, len(x), step)]
    return [sum(x[p]) / len(x[p]) for p in parts], [sum(y[p]) / len(y[p]) for p in parts]


def number_text(value: Number) -> str:
    """Three digits, thousands and millions as k and M."""
    size, letter = (1e6, "M") if abs(value) >= 1e6 else (1e3, "k") if abs(value) >= 1e4 else (1, "")
    shown = value / size
    return (f"{shown:.3g}" if abs(shown) < 1000 else f"{shown:.0f}") + letter


def _ticks(low: Number, high: Number, count: int = 4) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) that enclose low to high."""
    if high - low < 1e-9 * max(abs(high), 1e-9):
        low, high = low - max(abs(low), 1e-3) * 0.5, high + max(abs(high), 1e-3) * 0.5
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(k * step, 12) for k in range(first, last + 1)]


def _log_ticks(low: Number, high: Number) -> list[float]:
    """1, 2, 5 times powers of ten, or powers of ten alone, that enclose low to high."""
    steps = (1, 2, 5) if high < 100 * low else (1,)
    powers = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 2)
    every = [m * 10.0**p for p in powers for m in steps]
    first = max(i for i, v in enumerate(every) if v <= low * 1.0001)
    last = min(i for i, v in enumerate(every) if v >= high * 0.9999)
    return every[first : max(last, first + 1) + 1]
