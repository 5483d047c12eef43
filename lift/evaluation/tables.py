"""Present evaluations: averages, tables in Markdown, and sheets of pictures."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

MEASURES = {
    "psnr": "PSNR",
    "ssim": "SSIM",
    "lpips": "LPIPS",
    "dists": "DISTS",
    "visible": "visible",
    "psnr_visible": "PSNR, visible",
    "ssim_visible": "SSIM, visible",
    "lpips_visible": "LPIPS, visible",
    "psnr_input": "PSNR of the input",
}
"""Measures of a view: key and heading."""

RUN_MEASURES = {
    "abs_rel": "AbsRel",
    "rank_correlation": "depth rank",
    "rotation": "rotation",
    "position": "position",
    "seconds": "s",
    "peak_gib": "GiB",
}
"""Measures of a run: key and heading.

The first two are of the input's depth. Rotation (degrees) and position (fraction of the typical
depth) are of the frames' cameras, where the generator knows the true ones. The others are of all
stages.
"""

WITHOUT_DEVIATION = ("seconds", "peak_gib")
"""Measures without a standard deviation over seeds. They depend on the load of the machine."""

_PERCENT_DIGITS = {"visible": 0, "position": 2}
"""Measures in percent, with the number of digits."""
_DIGITS = {"seconds": 0, "peak_gib": 1, "rotation": 2}
"""Numbers of digits of other measures. PSNR has 2, all others have 3."""

_GAP = 4
"""Pixels between the pictures of a sheet."""
_TITLE_HEIGHT = 16
"""Pixels above the pictures of a sheet."""

View = Mapping[str, Any]
Row = Mapping[str, Any]


def stage_costs(stages: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Sum the costs of each stage over clips.

    Args:
        stages: Entry `stages` of provenance.json.

    Returns:
        `seconds` and `peak_gib` of each stage, as they were when it was computed.
    """
    out: dict[str, dict[str, float]] = {}
    for stage in stages:
        costs = out.setdefault(stage["stage"], {"seconds": 0.0, "peak_gib": 0.0})
        costs["seconds"] = round(costs["seconds"] + stage["seconds"], 3)
        costs["peak_gib"] = round(max(costs["peak_gib"], stage["peak_bytes"] / 2**30), 3)
    return out


def mean_of(
    rows: Sequence[Row], condition: Callable[[View], bool] = lambda view: True
) -> dict[str, Any]:
    """Average over views, then over scenes, then over seeds.

    Scenes count only if all seeds have them, unless no scene is common to all seeds. A row
    without matching views does not count.

    Args:
        rows: Results of tasks.
        condition: Selects the views that count.

    Returns:
        Means of MEASURES and RUN_MEASURES, the number of `views`, and `KEY_std`, the standard
        deviation of the seeds' means. None stands for a mean without values.
    """
    out: dict[str, Any] = {"views": 0}
    for key in MEASURES:
        means: dict[int, dict[str, float]] = {}
        for row in rows:
            views = [view for view in row["views"] if condition(view) and view[key] is not None]
            if views:
                mean = float(np.mean([view[key] for view in views]))
                means.setdefault(row["seed"], {})[row["scene"]] = mean
        seeds = _seed_means(means)
        out[key] = float(np.mean(seeds)) if seeds else None
        if len(seeds) > 1:
            out[f"{key}_std"] = float(np.std(seeds, ddof=1))
    out["views"] = sum(condition(view) for row in rows for view in row["views"])
    for part, keys in (
        ("depth", ("abs_rel", "delta1", "rank_correlation")),
        ("cameras", ("rotation", "position")),
    ):
        for key in keys:
            by_seed: dict[int, dict[str, float]] = {}
            for row in rows:
                if row[part]:
                    by_seed.setdefault(row["seed"], {})[row["scene"]] = row[part][key]
            values = [value for scenes in by_seed.values() for value in scenes.values()]
            out[key] = float(np.mean(values)) if values else None
            if len(by_seed) > 1:
                out[f"{key}_std"] = float(np.std(_seed_means(by_seed), ddof=1))
    seconds = [sum(stage["seconds"] for stage in row["stages"].values()) for row in rows]
    out["seconds"] = float(np.mean(seconds)) if rows else None
    peaks = (stage["peak_gib"] for row in rows for stage in row["stages"].values())
    out["peak_gib"] = max(peaks, default=None)
    return out


def _seed_means(means: Mapping[int, Mapping[str, float]]) -> list[float]:
    """Average over the scenes of each seed."""
    common = set.intersection(*map(set, means.values())) if means else set()
    return [
        float(np.mean([value for scene, value in scenes.items() if scene in common or not common]))
        for scenes in means.values()
    ]


def available_measures(
    means: Sequence[Mapping[str, Any]], measures: Mapping[str, str] = MEASURES
) -> dict[str, str]:
    """Select the measures that have a value.

    Args:
        means: Results of `mean_of`.
        measures: Headings by key.

    Returns:
        The headings of measures with a value in at least one mean.
    """
    return {
        key: name for key, name in measures.items() if any(mean[key] is not None for mean in means)
    }


def distance_bins(bins: Sequence[float]) -> dict[str, Callable[[View], bool]]:
    """Divide views by their distance from the input.

    Args:
        bins: Distances between the bins in ascending order, in typical depths.

    Returns:
        For each bin a heading, and a function that tells whether a view belongs to it.
    """
    edges = [0.0, *bins, math.inf]

    def condition(low: float, high: float) -> Callable[[View], bool]:
        return lambda view: low <= view["distance"] < high

    return {
        f"from {low:g}" if high == math.inf else f"{low:g} to {high:g}": condition(low, high)
        for low, high in zip(edges, edges[1:], strict=False)
    }


def format_cells(mean: Mapping[str, Any], keys: Iterable[str]) -> list[str]:
    """Format the cells of a row.

    Args:
        mean: Result of `mean_of`.
        keys: Keys of the columns.

    Returns:
        The texts.
    """
    cells = []
    for key in keys:
        std = mean.get(f"{key}_std")
        # Percentages have no deviation, which keeps their columns narrow.
        deviation = "" if std is None or key in _PERCENT_DIGITS else f" ± {format_number(key, std)}"
        cells.append(f"{format_value(key, mean[key])}{deviation}")
    return cells


def format_value(key: str, value: float | None, sign: bool = False) -> str:
    """Format a measure with its unit.

    Args:
        key: Key of the measure.
        value: The value, or None without one.
        sign: Whether a positive value has a sign, as in a difference.

    Returns:
        The text, `-` without a value.
    """
    if value is None:
        return "-"
    return format_number(key, value, sign) + (" %" if key in _PERCENT_DIGITS else "")


def format_number(key: str, value: float, sign: bool = False) -> str:
    """Format a measure with its number of digits and without its unit.

    Args:
        key: Key of the measure.
        value: The value.
        sign: Whether a positive value has a sign.
    """
    if key in _PERCENT_DIGITS:
        value = 100 * value
    digits = (_PERCENT_DIGITS | _DIGITS).get(key, 2 if key.startswith("psnr") else 3)
    return f"{value:{'+' if sign else ''}.{digits}f}"


def format_table(
    rows: Sequence[Row],
    description: str,
    bins: Sequence[float],
    failed: Mapping[str, str] | None = None,
    unmeasured: Sequence[str] = (),
) -> str:
    """Format the results of an evaluation in Markdown.

    Args:
        rows: Results of tasks.
        description: Paragraph above the tables.
        bins: Distances between the bins, in typical depths.
        failed: Error of each failed task by name.
        unmeasured: Names of tasks that nobody has done yet.

    Returns:
        Tables of scenes, alignments, distances and stages, and notes.
    """
    mean = mean_of(rows)
    measures = available_measures([mean])
    columns = measures | available_measures([mean], RUN_MEASURES)
    lines = [description, *_header(["scene", "seed", "views", *columns.values()])]
    for row in rows:
        row_mean = mean_of([row])
        cells = [row["scene"], row["seed"], row_mean["views"], *format_cells(row_mean, columns)]
        lines.append(_line(cells))
    if len(rows) > 1:
        lines.append(_line(["mean", "all", mean["views"], *format_cells(mean, columns)]))
    lines.append("")
    for name, error in (failed or {}).items():
        lines.append(f"Failed, and in no mean: {name} ({error})")
    if unmeasured:
        lines.append(f"Not measured yet, and in no mean: {', '.join(unmeasured)}")
    lines += _alignment_table(rows)
    lines += _header(["distance", "views", *measures.values()])
    for name, condition in distance_bins(bins).items():
        bin_mean = mean_of(rows, condition)
        if bin_mean["views"]:
            lines.append(_line([name, bin_mean["views"], *format_cells(bin_mean, measures)]))
    lines += _stage_table(rows)
    lines += _notes(rows)
    return "\n".join(lines)


def _line(cells: Iterable[Any]) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def _header(names: Sequence[str]) -> list[str]:
    return ["", _line(names), "|---" * len(names) + "|"]


def _alignment_table(rows: Sequence[Row]) -> list[str]:
    """List the alignments, if they have more than a scale."""
    if not any(len(row["alignment"]) > 1 for row in rows):
        return []
    keys = list(dict.fromkeys(key for row in rows for key in row["alignment"]))
    lines = _header(["alignment", "seed", *keys])
    for row in rows:
        values = [row["alignment"].get(key, "-") for key in keys]
        cells = [f"{value:.4g}" if isinstance(value, float) else str(value) for value in values]
        lines.append(_line([row["scene"], row["seed"], *cells]))
    return lines


def _stage_table(rows: Sequence[Row]) -> list[str]:
    lines = _header(["stage", "seconds", "peak GiB"])
    for stage in dict.fromkeys(stage for row in rows for stage in row["stages"]):
        costs = [row["stages"][stage] for row in rows if stage in row["stages"]]
        seconds = np.mean([cost["seconds"] for cost in costs])
        peak = max(cost["peak_gib"] for cost in costs)
        lines.append(_line([stage, f"{seconds:.1f}", f"{peak:.2f}"]))
    return lines


def _notes(rows: Sequence[Row]) -> list[str]:
    """List missing measures, and notes with the scenes that they apply to."""
    lines = []
    for note in dict.fromkeys(note for row in rows for note in row["missing"]):
        lines += ["", f"Not measured: {note}"]
    notes: dict[str, list[str]] = {}
    for row in rows:
        for key, value in row["notes"].items():
            scenes = notes.setdefault(f"{key}: {value}", [])
            if row["scene"] not in scenes:
                scenes.append(row["scene"])
    if notes:
        lines += ["", *(f"- {note} ({', '.join(scenes)})" for note, scenes in notes.items())]
    return lines


def contact_rows(
    image: Tensor, targets: Sequence[tuple[Tensor, Tensor, Tensor]], titles: Sequence[str]
) -> Tensor:
    """Draw the input, and a row for each target.

    A row shows the truth, the render, the absolute error (full brightness at 0.5), and the truth
    with the pixels that the input does not show in grey.

    Args:
        image: The input [height width 3] in [0, 1].
        targets: Truth and render [height width 3] in [0, 1], and visible pixels [height width].
        titles: Titles of the input and of the targets.

    Returns:
        The sheet [sheet_height sheet_width 3] in [0, 1].
    """
    legend = "   (below: truth, render, error, what the input shows)"
    rows = [_draw_row(titles[0] + legend, [image])]
    for title, (truth, rgb, visible) in zip(titles[1:], targets, strict=True):
        error = ((rgb - truth).abs().mean(-1, keepdim=True) * 2).clamp(0, 1).expand_as(truth)
        grey = 0.5 + 0.1 * (truth.mean(-1, keepdim=True) - 0.5)
        visible_truth = torch.where(visible[..., None], truth, grey)
        rows.append(_draw_row(title, [truth, rgb, error, visible_truth]))
    return torch.cat(rows)


def _draw_row(title: str, pictures: Sequence[Tensor]) -> Tensor:
    """Draw a title and up to four pictures on white."""
    height, width = pictures[0].shape[:2]
    canvas = torch.ones(_TITLE_HEIGHT + height + _GAP, 4 * (width + _GAP), 3)
    for k, picture in enumerate(pictures):
        left = k * (width + _GAP)
        canvas[_TITLE_HEIGHT : _TITLE_HEIGHT + height, left : left + width] = picture
    image = Image.fromarray((canvas * 255).round().to(torch.uint8).numpy())
    ImageDraw.Draw(image).text((2, 2), title, fill=(0, 0, 0))
    return torch.from_numpy(np.array(image)).float() / 255


def sheet_picture(
    sheet: Image.Image, size: tuple[int, int], row: int, column: int
) -> Image.Image | None:
    """Cut a picture out of a sheet that `contact_rows` drew.

    Args:
        sheet: The sheet.
        size: Width and height of its pictures.
        row: 0 for the input, then the targets.
        column: 0 for the truth or the input, 1 for the render.

    Returns:
        The picture. None if the sheet does not have it.
    """
    width, height = size
    left = column * (width + _GAP)
    top = row * (_TITLE_HEIGHT + height + _GAP) + _TITLE_HEIGHT
    if sheet.width != 4 * (width + _GAP) or top + height > sheet.height:
        return None
    return sheet.crop((left, top, left + width, top + height))
