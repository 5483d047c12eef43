"""Shared by the ablations: evaluate several settings on the same scenes, and write one table.

An experiment is a file with a question, `SETTINGS` by name, `DATA` to evaluate them on, and a call
of `main`. `lift eval` evaluates the settings. Stages that a setting does not change come from the
cache in `--output`. Finished tasks are not repeated, so an interrupted experiment goes on. Tables
are in experiments/tables.
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
"""Scenes of `$LIFT_SHARED/data` with sparse points, to which depth can be aligned."""

DEVICE = ["trainer=gpu", "renderer=gsplat"] if torch.cuda.is_available() else []
RAY_CAST = [
    "dataset=ray_cast",
    "dataset.scenes=[room,thin]",
    "preprocess.size=192",
    "fit.coarse_to_fine.scales=[]",
    "fit.coarse_to_fine.until=[]",
    "motion_limit.on_exceed=ignore",
    "export.film.seconds=0.05",
]
"""Built-in scenes, seen from 4, 9 and 16 degrees away.

All views are known. In these scenes a plan that reaches 16 degrees does not go through the floor.
"""
REAL = [
    "dataset=folder",
    f"dataset.path={SHARED / 'data'}",
    f"dataset.scenes=[{','.join(PHOTOGRAPHS)}]",
    "protocol.max_targets=12",
    "preprocess.size=320",
    "export.film.seconds=0.05",
    "fit.steps=800",
    "fit.coarse_to_fine.scales=[0.5]",
    "fit.coarse_to_fine.until=[0.25]",
]
"""Photographs, lifted from the central one and compared with the others."""

NOTES = (
    "± is the standard deviation over seeds. In the last column it is the standard error of the "
    "mean difference, over scenes and over seeds together. With few of either it is uncertain. "
    "`rotation` (degrees) and `position` (fraction of the typical depth) are errors of the cameras "
    "of generated frames, if their true cameras are known. `s` is seconds of a run, all stages."
)


def main(
    file: str,
    settings: Mapping[str, Any],
    data: Mapping[str, Sequence[str]],
    not_measured: str,
    seeds: Sequence[int] = (0, 1, 2),
    baselines: Mapping[str, str] | None = None,
) -> None:
    """Evaluate settings and write the table.

    Args:
        file: The experiment's `__file__`. Its docstring is the beginning of the page.
        settings: Settings of `lift run` by their name in the table, for all data or for each.
        data: Settings of `lift eval` by name.
        not_measured: What was not measured, and the commands that measure it.
        seeds: Random seeds.
        baselines: The row that a row is compared with. Default: the first row.
    """
    by_data = {name: settings.get(name, settings) for name in data}
    labels = list(
        dict.fromkeys(label for label_settings in by_data.values() for label in label_settings)
    )
    name = Path(file).stem
    doc = inspect.cleandoc(sys.modules["__main__"].__doc__ or "")
    parser = argparse.ArgumentParser(description=doc.splitlines()[0], epilog="; ".join(labels))
    parser.add_argument(
        "--only",
        action="append",
        metavar="NAME",
        help="one of the settings below (may be repeated)",
    )
    parser.add_argument(
        "--seeds",
        type=lambda text: [int(seed) for seed in text.split(",")],
        default=list(seeds),
        metavar="A,B,...",
    )
    parser.add_argument("--processes", type=int, help="number of processes, as for `lift eval`")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("outputs/ablations"),
        help="folder of the runs and their cache (gigabytes)",
    )
    parser.add_argument(
        "--results",
        type=Path,
        metavar="FOLDER",
        help="folder of the table (default: experiments/tables; with --only, --seeds or settings: "
        "the folder tables of --output)",
    )
    parser.add_argument("settings", nargs="*", metavar="setting=value", help="for all rows")
    args = parser.parse_intermixed_args()
    if unknown := [label for label in args.only or () if label not in labels]:
        parser.error(f"--only has {unknown[0]!r}; choose among {'; '.join(labels)}")
    extra_settings = [
        setting for setting in args.settings if not setting.startswith("protocol.weights")
    ]  # the folder of the weights does not change results
    seed_option = [f"--seeds {','.join(map(str, args.seeds))}"] if args.seeds != list(seeds) else []
    folder = args.results or (
        args.output / "tables" if args.only or extra_settings or seed_option else TABLES
    )
    seeds_setting = f"protocol.seeds={args.seeds}".replace(" ", "")
    command = ["eval", *DEVICE, *WEIGHTS, seeds_setting, f"output={args.output}"]
    runs = {}
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
    sections = []
    results = {}
    for data_name in data:
        tables = {
            label: json.loads((args.output / "eval" / run / "table.json").read_text())
            for (data_of_run, label), run in runs.items()
            if data_of_run == data_name
        }
        if tables:
            sections.append(f"## {data_name}\n\n{section(tables, baselines)}")
            results[data_name] = {label: summarize(table) for label, table in tables.items()}
    folder.mkdir(parents=True, exist_ok=True)
    command_text = " ".join([f"python experiments/{name}.py", *seed_option, *extra_settings])
    seeds_text = f"Seeds {', '.join(map(str, args.seeds))}. {NOTES} Made by `{command_text}`."
    text = "\n\n".join(
        [f"# {doc}", seeds_text, *sections, f"## Not measured\n\n{inspect.cleandoc(not_measured)}"]
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


def section(
    tables: Mapping[str, Mapping[str, Any]], baselines: Mapping[str, str] | None = None
) -> str:
    """Format the table of one dataset, a row for each setting.

    Args:
        tables: Contents of table.json by setting.
        baselines: The row that a row is compared with. Default: the first row.

    Returns:
        Means over all targets, PSNR by distance, and the difference to the baseline over pairs of
        scene and seed, with its standard error.
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
        rows = table["rows"]
        reference = (baselines or {}).get(label, next(iter(tables)))
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
    """Format the mean difference in PSNR over common scenes and seeds, with its standard error."""

    def by_task(rows: Sequence[Mapping[str, Any]]) -> dict[tuple[str, int], float]:
        return {(row["scene"], row["seed"]): mean_of([row])["psnr"] for row in rows}

    scores = by_task(rows)
    other_scores = by_task(other_rows)
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
    """Reduce a table.json to the means of each task, for the file beside the table."""
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
    protocol = table["protocol"]
    dataset = table["dataset"]
    priors = dict.fromkeys(entry["settings"]["prior"]["name"] for entry in tables.values())
    scenes = list(dict.fromkeys(row["scene"] for row in table["rows"]))
    machine = (
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
        f"steps. Measured on {machine}. Runs share it, and seconds are of a run. Distances are "
        "in units of the typical depth."
    )


def _slug(label: str) -> str:
    return re.sub(r"\W+", "_", label).strip("_")
