"""What is shown of evaluations: figures averaged, tables in Markdown, sheets of pictures."""

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
    "seen": "seen",
    "psnr_seen": "PSNR, seen",
    "ssim_seen": "SSIM, seen",
    "lpips_seen": "LPIPS, seen",
    "psnr_input": "PSNR of the input",
}
"""Of a view: key and heading."""

OF_A_RUN = {
    "abs_rel": "AbsRel",
    "rank_correlation": "depth rank",
    "rotation": "rotation",
    "position": "position",
    "seconds": "s",
    "peak_gib": "GiB",
}
"""Of the input's depth; of the cameras of its frames (degrees; share of the typical depth), where the generator knows the truth; of all stages."""


def costs(stages: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Seconds and GiB at the peak by stage, clips summed, as they were when the stage was made."""
    out: dict[str, dict[str, float]] = {}
    for stage in stages:
        own = out.setdefault(stage["stage"], {"seconds": 0.0, "peak_gib": 0.0})
        own["seconds"] = round(own["seconds"] + stage["seconds"], 3)
        own["peak_gib"] = round(max(own["peak_gib"], stage["peak_bytes"] / 2**30), 3)
    return out


def mean_of(
    rows: Sequence[Mapping[str, Any]],
    choose: Callable[[Mapping[str, Any]], bool] = lambda view: True,
) -> dict[str, Any]:
    """Means over views, then over scenes that all seeds have (if there are such), then over seeds; a row without chosen views does not count. `std` is over seeds' means."""
    out: dict[str, Any] = {"views": 0}
    for key in MEASURES:
        means: dict[int, dict[str, float]] = {}
        for row in rows:
            values = [view[key] for view in row["views"] if choose(view) and view[key] is not None]
            if values:
                means.setdefault(row["seed"], {})[row["scene"]] = float(np.mean(values))
        common = set.intersection(*map(set, means.values())) if means else set()
        seeds = [
            float(np.mean([value for scene, value in own.items() if scene in common or not common]))
            for own in means.values()
        ]
        out[key] = float(np.mean(seeds)) if seeds else None
        if len(seeds) > 1:
            out[f"{key}_std"] = float(np.std(seeds, ddof=1))
    out["views"] = sum(choose(view) for row in rows for view in row["views"])
    for part, keys in (
        ("depth", ("abs_rel", "delta1", "rank_correlation")),
        ("cameras", ("rotation", "position")),
    ):
        for key in keys:
            values = [row[part][key] for row in rows if row[part]]
            out[key] = float(np.mean(values)) if values else None
    out["seconds"] = (
        float(np.mean([sum(stage["seconds"] for stage in row["stages"].values()) for row in rows]))
        if rows
        else None
    )
    out["peak_gib"] = max(
        (stage["peak_gib"] for row in rows for stage in row["stages"].values()), default=None
    )
    return out


def measured(
    means: Sequence[Mapping[str, Any]], of: Mapping[str, str] = MEASURES
) -> dict[str, str]:
    """Those of which there are figures."""
    return {key: name for key, name in of.items() if any(mean[key] is not None for mean in means)}


def spans(bins: Sequence[float]) -> dict[str, Callable[[Mapping[str, Any]], bool]]:
    """Between which distances views are averaged apart: a heading, and whether a view is one of them."""
    edges = [0.0, *bins, math.inf]
    return {
        f"from {low:g}"
        if high == math.inf
        else f"{low:g} to {high:g}": lambda view, low=low, high=high: low <= view["distance"] < high
        for low, high in zip(edges, edges[1:], strict=False)
    }


def figures(mean: Mapping[str, Any], keys: Iterable[str]) -> list[str]:
    """Cells of a table."""
    cells = []
    for key in keys:
        value, spread = mean[key], mean.get(f"{key}_std")
        if value is None:
            cells.append("-")
        elif key in ("seen", "position"):
            cells.append(f"{100 * value:.{0 if key == 'seen' else 2}f} %")
        else:
            digits = {"seconds": 0, "peak_gib": 1, "rotation": 2}.get(
                key, 2 if key.startswith("psnr") else 3
            )
            cells.append(
                f"{value:.{digits}f}" + (f" ± {spread:.{digits}f}" if spread is not None else "")
            )
    return cells


def table(
    rows: Sequence[Mapping[str, Any]],
    about: str,
    bins: Sequence[float],
    failed: Mapping[str, str] = {},
) -> str:
    """Markdown: scenes, distances, stages; what is not among them."""
    whole = mean_of(rows)
    measures = measured([whole])
    every = measures | measured([whole], OF_A_RUN)
    lines = [
        about,
        "",
        "| scene | seed | views | " + " | ".join(every.values()) + " |",
        "|---" * (3 + len(every)) + "|",
    ]

    def line(name: str, seed: str, mean: Mapping[str, Any]) -> str:
        return f"| {name} | {seed} | {mean['views']} | " + " | ".join(figures(mean, every)) + " |"

    lines += [line(row["scene"], str(row["seed"]), mean_of([row])) for row in rows]
    if len(rows) > 1:
        lines.append(line("mean", "all", whole))
    lines += ["", *(f"Failed, and in no mean: {name} ({error})" for name, error in failed.items())]
    if any(len(row["alignment"]) > 1 for row in rows):
        keys = list(dict.fromkeys(key for row in rows for key in row["alignment"]))
        lines += [
            "",
            "| alignment | seed | " + " | ".join(keys) + " |",
            "|---" * (2 + len(keys)) + "|",
        ]
        for row in rows:
            cells = [
                f"{value:.4g}" if isinstance(value, float) else str(value)
                for value in (row["alignment"].get(key, "-") for key in keys)
            ]
            lines.append(f"| {row['scene']} | {row['seed']} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "| distance | views | " + " | ".join(measures.values()) + " |",
        "|---" * (2 + len(measures)) + "|",
    ]
    for name, within in spans(bins).items():
        mean = mean_of(rows, within)
        if mean["views"]:
            lines.append(
                f"| {name} | {mean['views']} | " + " | ".join(figures(mean, measures)) + " |"
            )
    stages = list(dict.fromkeys(stage for row in rows for stage in row["stages"]))
    lines += ["", "| stage | seconds | peak GiB |", "|---|---|---|"]
    for stage in stages:
        own = [row["stages"][stage] for row in rows if stage in row["stages"]]
        lines.append(
            f"| {stage} | {np.mean([one['seconds'] for one in own]):.1f} | {max(one['peak_gib'] for one in own):.2f} |"
        )
    for note in dict.fromkeys(note for row in rows for note in row["missing"]):
        lines += ["", f"Not measured: {note}"]
    notes: dict[str, list[str]] = {}
    for row in rows:
        for key, value in row["notes"].items():
            if row["scene"] not in (told := notes.setdefault(f"{key}: {value}", [])):
                told.append(row["scene"])
    if notes:
        lines += ["", *(f"- {note} ({', '.join(scenes)})" for note, scenes in notes.items())]
    return "\n".join(lines)


def sheet(
    image: Tensor, targets: Sequence[tuple[Tensor, Tensor, Tensor]], titles: Sequence[str]
) -> Tensor:
    """A picture [y x 3] of the input, and below it a row a target: truth, render, absolute error (full brightness at a half), what the input shows of the truth, the rest of it greyed.
    titles: of the rows.
    """
    gap, above = 4, 16

    def row(title: str, pictures: Sequence[Tensor]) -> Tensor:
        """On white, four wide."""
        height, width = image.shape[:2]
        canvas = torch.ones(above + height + gap, 4 * (width + gap), 3)
        for k, picture in enumerate(pictures):
            canvas[above : above + height, k * (width + gap) : k * (width + gap) + width] = picture
        drawn = Image.fromarray((canvas * 255).round().to(torch.uint8).numpy())
        ImageDraw.Draw(drawn).text((2, 2), title, fill=(0, 0, 0))
        return torch.from_numpy(np.array(drawn)).float() / 255

    lines = [row(titles[0] + "   (below: truth, render, error, what the input shows)", [image])]
    for title, (truth, rgb, seen) in zip(titles[1:], targets, strict=True):
        error = ((rgb - truth).abs().mean(-1, keepdim=True) * 2).clamp(0, 1).expand_as(truth)
        lines.append(
            row(
                title,
                [
                    truth,
                    rgb,
                    error,
                    torch.where(
                        seen[..., None], truth, 0.5 + 0.1 * (truth.mean(-1, keepdim=True) - 0.5)
                    ),
                ],
            )
        )
    return torch.cat(lines)
