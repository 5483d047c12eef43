"""What the ablations share: settings beside one another, each evaluated by `lift eval` on the same scenes, and one table.

An experiment is a file with a question, `SETTINGS` by name, `DATA` to measure them on, and a call of `main`. Stages that a setting does not change are found in the cache
of `--output`; tasks that are finished are not made again, so that a killed experiment goes on. Tables lie in experiments/tables.
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
from lift.evaluation.tables import MEASURES, OF_A_RUN, figures, mean_of, measured, spans
from lift.runtime.machine import machine

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
    "intake.size=192",
    "reach.beyond=ignore",
    "deliver.video_frames=2",
]
"""Built-in scenes of which every view is known, seen from 4, 9 and 16 degrees away: those in which a plan that reaches 16 degrees does not go through the floor."""
REAL = [
    "dataset=folder",
    f"dataset.path={SHARED / 'data'}",
    f"dataset.scenes=[{','.join(PHOTOGRAPHS)}]",
    "protocol.most=12",
    "intake.size=320",
    "deliver.video_frames=2",
    "fit.steps=800",
    "fit.coarse.sizes=[0.5]",
    "fit.coarse.until=[0.25]",
]
"""Photographs, lifted from the one nearest to the middle, seen from where others were taken."""

ERROR = "the standard error of the mean of its pairs (over scenes and over seeds, both added: few of either tell little)"
UNITS = "`rotation` (degrees) and `position` (share of the typical depth): errors of the cameras of generated frames, where they were really taken is known; `s`: seconds of a run, all stages."


def main(
    file: str,
    settings: Mapping[str, Any],
    data: Mapping[str, Sequence[str]],
    remains: str,
    seeds: Sequence[int] = (0, 1, 2),
    to: Mapping[str, str] | None = None,
) -> None:
    """file: the experiment's `__file__`, whose docstring is the table's beginning. settings: of `lift run`, by the name in the table, the same for all data or by data. to: which
    of them each is compared with (the first). data: of `lift eval`, by name. remains: what this could not be measured with, and by which command it is."""
    by_data = {name: settings.get(name, settings) for name in data}
    every = list(dict.fromkeys(label for own in by_data.values() for label in own))
    name, doc = Path(file).stem, inspect.cleandoc(sys.modules["__main__"].__doc__ or "")
    parser = argparse.ArgumentParser(description=doc.splitlines()[0], epilog="; ".join(every))
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
        help="the folder of the table (experiments/tables; with --only, --seeds or settings, tables beside the runs)",
    )
    parser.add_argument("settings", nargs="*", metavar="setting=value", help="for all of them")
    asked = parser.parse_intermixed_args()
    if wrong := [label for label in asked.only or () if label not in every]:
        parser.error(f"--only has {wrong[0]!r}; choose of {'; '.join(every)}")
    told = [
        setting for setting in asked.settings if not setting.startswith("protocol.weights")
    ]  # where they lie is nobody's business
    own_seeds = [f"--seeds {','.join(map(str, asked.seeds))}"] if asked.seeds != list(seeds) else []
    folder = asked.to or (asked.output / "tables" if asked.only or told or own_seeds else TABLES)
    command, runs = (
        [
            "eval",
            *DEVICE,
            *WEIGHTS,
            f"protocol.seeds={asked.seeds}".replace(" ", ""),
            f"output={asked.output}",
        ],
        {},
    )
    for data_name, how in data.items():
        for label, own in by_data[data_name].items():
            if not asked.only or label in asked.only:
                runs[data_name, label] = "-".join(map(_slug, [name, data_name, label, *told]))
                command += ["--", *how, *own, *asked.settings, f"name={runs[data_name, label]}"]
    if status := cli.main(
        [*command, *(["--processes", str(asked.processes)] if asked.processes is not None else [])]
    ):
        sys.exit(status)
    sections, kept = [], {}
    for data_name in data:
        tables = {
            label: json.loads((asked.output / "eval" / run / "table.json").read_text())
            for (whose, label), run in runs.items()
            if whose == data_name
        }
        if tables:
            sections.append(f"## {data_name}\n\n{section(tables, to)}")
            kept[data_name] = {label: condensed(table) for label, table in tables.items()}
    folder.mkdir(parents=True, exist_ok=True)
    command_told = " ".join([f"python experiments/{name}.py", *own_seeds, *told])
    seeds_told = f"Seeds {', '.join(map(str, asked.seeds))}; ± is the spread over seeds, of the last column {ERROR}. {UNITS} Made by `{command_told}`."
    text = "\n\n".join(
        [f"# {doc}", seeds_told, *sections, f"## What remains\n\n{inspect.cleandoc(remains)}"]
    )
    (folder / f"{name}.md").write_text(text + "\n", encoding="utf-8")
    (folder / f"{name}.json").write_text(
        json.dumps(
            {"experiment": name, "data": kept, "machine": machine("cuda" if DEVICE else "cpu")},
            indent=1,
        )
        + "\n"
    )
    print(text)


def section(tables: Mapping[str, Mapping[str, Any]], to: Mapping[str, str] | None = None) -> str:
    """A line a setting: figures over all targets, PSNR by distance, and how far from the setting that `to` says or the first, pair by pair of scene and seed (with its standard error)."""
    first = next(iter(tables.values()))
    distances = spans(first["protocol"]["bins"])
    near = [f"PSNR {name}" for name in distances]
    means = [table["mean"] for table in tables.values()]
    every = measured(means) | {
        key: name
        for key, name in measured(means, OF_A_RUN).items()
        if key in ("rotation", "position", "seconds")
    }
    heads = ["settings", *every.values(), *near, "difference in PSNR"]
    lines = [_told(tables), "", "| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for label, table in tables.items():
        rows, whose = table["rows"], (to or {}).get(label, next(iter(tables)))
        far_off = (
            f"{difference(rows, tables[whose]['rows'])} to {whose}"
            if whose in tables and whose != label
            else ""
        )
        by_distance = [mean_of(rows, within)["psnr"] for within in distances.values()]
        far = [f"{value:.2f}" if value is not None else "-" for value in by_distance]
        lines.append(
            "| " + " | ".join([label, *figures(table["mean"], every), *far, far_off]) + " |"
        )
    return "\n".join(lines)


def difference(rows: Sequence[Mapping[str, Any]], others: Sequence[Mapping[str, Any]]) -> str:
    """Of mean PSNR, over scenes and seeds that both have, with its standard error (`ERROR`)."""

    def by_task(some: Sequence[Mapping[str, Any]]) -> dict[tuple[str, int], float]:
        return {(row["scene"], row["seed"]): mean_of([row])["psnr"] for row in some}

    mine, theirs = by_task(rows), by_task(others)
    off = {
        task: mine[task] - theirs[task]
        for task in mine.keys() & theirs.keys()
        if mine[task] is not None and theirs[task] is not None
    }
    if not off:
        return "-"
    means = [
        [
            float(np.mean([value for task, value in off.items() if task[which] == one]))
            for one in {task[which] for task in off}
        ]
        for which in (0, 1)
    ]
    error = math.hypot(
        *(np.std(values, ddof=1) / math.sqrt(len(values)) for values in means if len(values) > 1)
    )
    return f"{np.mean(means[0]):+.2f}" + (f" ± {error:.2f}" if len(off) > 1 else "")


def condensed(table: Mapping[str, Any]) -> dict[str, Any]:
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


def _told(tables: Mapping[str, Mapping[str, Any]]) -> str:
    table = next(iter(tables.values()))
    protocol, dataset = table["protocol"], table["dataset"]
    priors = dict.fromkeys(one["settings"]["prior"]["name"] for one in tables.values())
    scenes = list(dict.fromkeys(row["scene"] for row in table["rows"]))
    made_on = (
        table["machine"]["device"]
        if table["machine"]["device"] != "cpu"
        else f"{table['machine']['cores']} cores ({table['machine']['processor']})"
    )
    return (
        f"Dataset `{dataset['name']}`: {', '.join(scenes)}; {table['mean']['views'] // max(1, len(protocol['seeds']))} targets in all; input `{protocol['input']}`; alignment `{protocol['align']}`; "
        f"{table['settings']['intake']['size']} pixels; prior {' or '.join(f'`{name}`' for name in priors)}; {table['settings']['fit']['steps']} steps. Measured on {made_on}; seconds of a run that had its share of it. Distances in units of the typical depth."
    )


def _slug(label: str) -> str:
    return re.sub(r"\W+", "_", label).strip("_")
