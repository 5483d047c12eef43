"""What the ablations share: settings beside one another, each evaluated by `lift eval` on the same
scenes, and one table.

An experiment is a file with a question, `SETTINGS` by name, `DATA` to measure them on, and a call
of `main`. Stages that a setting does not change are found in the cache of `--output`; tasks that
are finished are not made again, so that a killed experiment goes on. Tables lie in
experiments/tables.
"""

import argparse
import inspect
import json
import math
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from depth import SHARED

from lift import cli
from lift.evaluation.tables import (
    MEASURES,
    RUN_MEASURES,
    available_measures,
    distance_bins,
    format_cells,
    mean_of,
)
from lift.runtime.machine import machine_info

TABLES = Path(__file__).parent / "tables"
WEIGHTS = (
    [f"protocol.weights={SHARED / 'weights/lpips_backbones'}"]
    if (SHARED / "weights/lpips_backbones").is_dir()
    else []
)
PHOTOGRAPHS = ("llff_fern", "llff_flower", "mipnerf360_kitchen", "sceaux_castle")
"""Scenes of `$LIFT_SHARED/data` with points, by which depth can be aligned."""

DEVICE = ["trainer=gpu", "renderer=gsplat"] if torch.cuda.is_available() else []
RAY_CAST = [
    "dataset=ray_cast",
    "dataset.scenes=[room,thin]",
    "preprocess.size=192",
    "motion_limit.on_exceed=ignore",
    "export.video_frames=2",
]
"""Built-in scenes of which every view is known, seen from 4, 9 and 16 degrees away: those in which
a plan that reaches 16 degrees does not go through the floor.
"""
REAL = [
    "dataset=folder",
    f"dataset.path={SHARED / 'data'}",
    f"dataset.scenes=[{','.join(PHOTOGRAPHS)}]",
    "protocol.max_targets=12",
    "preprocess.size=320",
    "export.video_frames=2",
    "fit.steps=800",
    "fit.coarse_to_fine.scales=[0.5]",
    "fit.coarse_to_fine.until=[0.25]",
]
"""Photographs, lifted from the one nearest to the middle, seen from where others were taken."""

ERROR = (
    "the standard error of the mean of its pairs (over scenes and over seeds, both added: few "
    "of either tell little)"
)
UNITS = (
    "`rotation` (degrees) and `position` (share of the typical depth): errors of the cameras "
    "of generated frames, where they were really taken is known; `s`: seconds of a run, all "
    "stages."
)


def main(
    file: str,
    settings: Mapping[str, Any],
    data: Mapping[str, Sequence[str]],
    remains: str,
    seeds: Sequence[int] = (0, 1, 2),
    to: Mapping[str, str] | None = None,
) -> None:
    """file: the experiment's `__file__`, whose docstring is the table's beginning. settings: of
    `lift run`, by the name in the table, the same for all data or by data. to: which of them each
    is compared with (the first). data: of `lift eval`, by name. remains: what this could not be
    measured with, and by which command it is.
    """
    by_data = {name: settings.get(name, settings) for name in data}
    labels = list(
        dict.fromkeys(label for label_settings in by_data.values() for label in label_settings)
    )
    name, doc = Path(file).stem, inspect.cleandoc(sys.modules["__main__"].__doc__ or "")
    parser = argparse.ArgumentParser(description=doc.splitlines()[0], epilog="; ".join(labels))
    parser.add_argument(
        "--only",
        action="append",
        metavar="NAME",
        help="of the settings below, this one (may be given again)",
    )
    parser.add_argument(
        "--seeds",
        type=lambda text: [int(seed) for seed in text.split(",")],
        default=list(seeds),
        metavar="A,B,...",
    )
    parser.add_argument("--processes", type=int, help="as `lift eval` takes it")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("outputs/ablations"),
        help="where runs and their cache lie: gigabytes",
    )
    parser.add_argument(
        "--to",
        type=Path,
        help="the folder of the table (experiments/tables; with --only, --seeds or settings, "
        "tables beside the runs)",
    )
    parser.add_argument("settings", nargs="*", metavar="setting=value", help="for all of them")
    args = parser.parse_intermixed_args()
    if unknown := [label for label in args.only or () if label not in labels]:
        parser.error(f"--only has {unknown[0]!r}; choose of {'; '.join(labels)}")
    extra_settings = [
        setting for setting in args.settings if not setting.startswith("protocol.weights")
    ]  # where they lie is nobody's business
    seed_option = [f"--seeds {','.join(map(str, args.seeds))}"] if args.seeds != list(seeds) else []
    folder = args.to or (
        args.output / "tables" if args.only or extra_settings or seed_option else TABLES
    )
    command, runs = (
        [
            "eval",
            *DEVICE,
            *WEIGHTS,
            f"protocol.seeds={args.seeds}".replace(" ", ""),
            f"output={args.output}",
        ],
        {},
    )
    for data_name, data_settings in data.items():
        for label, label_settings in by_data[data_name].items():
            if not args.only or label in args.only:
                runs[data_name, label] = "-".join(
                    map(_slug, [name, data_name, label, *extra_settings])
                )
                command += [
                    "--",
                    *data_settings,
                    *label_settings,
                    *args.settings,
                    f"name={runs[data_name, label]}",
                ]
    if status := cli.main(
        [*command, *(["--processes", str(args.processes)] if args.processes is not None else [])]
    ):
        sys.exit(status)
    sections, results = [], {}
    for data_name in data:
        tables = {
            label: json.loads((args.output / "eval" / run / "table.json").read_text())
            for (data_of_run, label), run in runs.items()
            if data_of_run == data_name
        }
        if tables:
            sections.append(f"## {data_name}\n\n{section(tables, to)}")
            results[data_name] = {label: summarize(table) for label, table in tables.items()}
    folder.mkdir(parents=True, exist_ok=True)
    command_text = " ".join([f"python experiments/{name}.py", *seed_option, *extra_settings])
    seeds_text = (
        f"Seeds {', '.join(map(str, args.seeds))}; ± is the spread over seeds, of the "
        f"last column {ERROR}. {UNITS} Made by `{command_text}`."
    )
    text = "\n\n".join(
        [f"# {doc}", seeds_text, *sections, f"## What remains\n\n{inspect.cleandoc(remains)}"]
    )
    (folder / f"{name}.md").write_text(text + "\n", encoding="utf-8")
    (folder / f"{name}.json").write_text(
        json.dumps(
            {
                "experiment": name,
                "data": results,
                "machine": machine_info("cuda" if DEVICE else "cpu"),
            },
            indent=1,
        )
        + "\n"
    )
    print(text)


def section(tables: Mapping[str, Mapping[str, Any]], to: Mapping[str, str] | None = None) -> str:
    """A line a setting: figures over all targets, PSNR by distance, and how far from the setting
    that `to` says or the first, pair by pair of scene and seed (with its standard error).
    """
    reference_table = next(iter(tables.values()))
    distances = distance_bins(reference_table["protocol"]["bins"])
    distance_columns = [f"PSNR {name}" for name in distances]
    means = [table["mean"] for table in tables.values()]
    measures = available_measures(means) | {
        key: name
        for key, name in available_measures(means, RUN_MEASURES).items()
        if key in ("rotation", "position", "seconds")
    }
    heads = ["settings", *measures.values(), *distance_columns, "difference in PSNR"]
    lines = [_describe(tables), "", "| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for label, table in tables.items():
        rows, reference = table["rows"], (to or {}).get(label, next(iter(tables)))
        gain = (
            f"{difference(rows, tables[reference]['rows'])} to {reference}"
            if reference in tables and reference != label
            else ""
        )
        by_distance = [mean_of(rows, within)["psnr"] for within in distances.values()]
        distance_cells = [f"{value:.2f}" if value is not None else "-" for value in by_distance]
        lines.append(
            "| "
            + " | ".join([label, *format_cells(table["mean"], measures), *distance_cells, gain])
            + " |"
        )
    return "\n".join(lines)


def difference(rows: Sequence[Mapping[str, Any]], other_rows: Sequence[Mapping[str, Any]]) -> str:
    """Of mean PSNR, over scenes and seeds that both have, with its standard error (`ERROR`)."""

    def by_task(rows: Sequence[Mapping[str, Any]]) -> dict[tuple[str, int], float]:
        return {(row["scene"], row["seed"]): mean_of([row])["psnr"] for row in rows}

    scores, other_scores = by_task(rows), by_task(other_rows)
    differences = {
        task: scores[task] - other_scores[task]
        for task in scores.keys() & other_scores.keys()
        if scores[task] is not None and other_scores[task] is not None
    }
    if not differences:
        return "-"
    means = [
        [
            float(
                np.mean(
                    [value for task, value in differences.items() if task[axis] == value_of_axis]
                )
            )
            for value_of_axis in {task[axis] for task in differences}
        ]
        for axis in (0, 1)
    ]
    error = math.hypot(
        *(np.std(values, ddof=1) / math.sqrt(len(values)) for values in means if len(values) > 1)
    )
    return f"{np.mean(means[0]):+.2f}" + (f" ± {error:.2f}" if len(differences) > 1 else "")


def summarize(table: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept of a table.json beside the committed table: means a task, not every view."""
    tasks = [
        {
            "scene": row["scene"],
            "seed": row["seed"],
            **{key: mean_of([row])[key] for key in (*MEASURES, "views", "seconds", "abs_rel")},
        }
        for row in table["rows"]
    ]
    return {"mean": table["mean"], "tasks": tasks, "machine": table["machine"]}


def _describe(tables: Mapping[str, Mapping[str, Any]]) -> str:
    table = next(iter(tables.values()))
    protocol, dataset = table["protocol"], table["dataset"]
    priors = dict.fromkeys(entry["settings"]["prior"]["name"] for entry in tables.values())
    scenes = list(dict.fromkeys(row["scene"] for row in table["rows"]))
    made_on = (
        table["machine"]["device"]
        if table["machine"]["device"] != "cpu"
        else f"{table['machine']['cores']} cores ({table['machine']['processor']})"
    )
    return (
        f"Dataset `{dataset['name']}`: {', '.join(scenes)}; "
        f"{table['mean']['views'] // max(1, len(protocol['seeds']))} targets in all; input "
        f"`{protocol['input']}`; alignment `{protocol['align']}`; "
        f"{table['settings']['preprocess']['size']} pixels; prior "
        f"{' or '.join(f'`{name}`' for name in priors)}; {table['settings']['fit']['steps']} "
        f"steps. Measured on {made_on}; seconds of a run that had its share of it. Distances in "
        "units of the typical depth."
    )


def _slug(label: str) -> str:
    return re.sub(r"\W+", "_", label).strip("_")
