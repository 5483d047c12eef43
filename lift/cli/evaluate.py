"""`lift eval`: scenes of a dataset, lifted from one view and measured by the others."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from lift.cli.engine_options import add_engine_options, take_engine_options
from lift.cli.processes import add_command, take_number, take_options
from lift.evaluation.ablation.grid import (
    Factor,
    Variant,
    check_labels,
    choose_references,
    make_factor,
    multiply,
    parse_grid,
)
from lift.evaluation.plan import EvaluationPlan, build_evaluations, joint_folder
from lift.io.names import name_problem
from lift.registry import ComponentError
from lift.runtime.devices import check_one_device
from lift.runtime.distributed import process_info

SEPARATOR = "--"
"""Argument between the settings of several evaluations."""

_OPTIONS = {
    "--grid": (
        "GRID",
        "evaluate each value of a setting: 'KEY=VALUE,VALUE,...'. `|` between alternatives of "
        "several settings: 'A=1 | A=2 B=3'. Several grids are multiplied",
    ),
    "--seeds": ("N", "run each scene with the seeds 0 to N-1"),
    "--baseline": (
        "ROW",
        "row of the joint table that the others are compared with, as 'KEY=VALUE,...' (the first)",
    ),
    "--config-dir": ("FOLDER", "folder with experiments of your own"),
}
"""Options with the name of their value and a description, for the help."""


def add_parser(commands: Any) -> None:
    """Add the command to the command line.

    Args:
        commands: What `add_subparsers` returned.
    """
    parser = add_command(
        commands,
        "eval",
        evaluate,
        "scenes of a dataset, each lifted from one view and measured by the others, on an engine",
    )
    parser.usage = (
        "lift eval [dataset=NAME dataset.path=FOLDER] [protocol.KEY=VALUE ...] "
        "[setting=value ...] [options] [-- SETTINGS -- SETTINGS ...]"
    )
    for option, (value, text) in _OPTIONS.items():
        parser.add_argument(option, metavar=value, help=text)
    add_engine_options(parser)
    parser.epilog = (
        "dataset=NAME: `lift list dataset`. protocol.input, targets, max_targets, align (none, "
        "median_depth, similarity, sweep), bins, seeds, reference, weights: see docs/evaluation. "
        "All settings of `lift run`, image aside. Writes OUTPUT/eval/NAME: table.md, table.json, "
        "and of each scene its figures and a sheet of pictures. Run again, it goes on where it "
        "ended. After `--` come settings of one of several evaluations. They and grids give one "
        "joint table (table.md, .csv, .json, sheet.png) with a row for each evaluation: lift eval "
        "dataset=ray_cast name=mine --grid 'distortion=identity,rigid' --grid "
        "'prior=warp,synthetic' --seeds 3."
    )


def evaluate(arguments: list[str]) -> int:
    """Run `lift eval`: lift and measure the scenes of a dataset.

    Args:
        arguments: Arguments after the command's name.

    Returns:
        The exit status.

    Raises:
        ComponentError: A setting is wrong, or two evaluations have the same folder.
        WorkerError: At least one scene failed.
    """
    remaining = list(arguments)
    options = replace(take_engine_options(remaining), noun="scenes")
    plan = plan_evaluations(remaining)
    configs = plan.compose()
    for config, _ in configs:
        check_one_device("eval", config.trainer)
    evaluations = build_evaluations(plan, configs)
    from lift.batch.jobs import count_own, finish, run_tasks, select_shard
    from lift.batch.progress import Progress
    from lift.batch.records import Summary
    from lift.evaluation.results import write_tables
    from lift.evaluation.tasks import find_nothing, log_file, make_tasks, measure_scene
    from lift.runtime.provenance import shell_command

    def say(line: str) -> None:
        Progress(0, options.as_json).note("note", f"note: {line}", text=line)

    name, tasks = select_shard(make_tasks(plan, evaluations, say), options)
    if options.has_logs:
        tasks = [replace(task, log=log_file(task)) for task in tasks]
    summary = Summary(joint_folder(plan, evaluations) / name)
    is_alone, count = process_info().world_size == 1, count_own(tasks)
    records = run_tasks(tasks, options, summary, measure_scene, find_nothing)
    summary.close()
    command = shell_command(["lift", "eval", *arguments])
    tables = write_tables(plan, evaluations, records, command)
    # Of several processes that were started together, the last one prints the table.
    for path in tables.files if is_alone or tables.is_complete else ():
        if not options.as_json:
            print(path.read_text(encoding="utf-8"), file=sys.stderr)
        print(path, flush=True)
    return finish(records, count, options, summary.path)


def plan_evaluations(arguments: Sequence[str]) -> EvaluationPlan:
    """Read the settings, the grids and the options of a command.

    Args:
        arguments: Arguments of `lift eval` without options of the engine.

    Returns:
        The evaluations, not composed.

    Raises:
        ComponentError: A grid or an option is wrong.
    """
    from lift.config.folders import split_config_folders

    folders, remaining = split_config_folders(arguments)
    seeds = take_number(remaining, "--seeds")
    baselines = take_options(remaining, "--baseline")
    shared, *parts = _split_parts(remaining)
    grids = [parse_grid(text) for text in take_options(shared, "--grid")]
    if seeds is not None:
        if any(argument.startswith("protocol.seeds=") for argument in remaining):
            raise ComponentError(f"--seeds is {seeds}; give it or protocol.seeds, not both")
        shared.append(f"protocol.seeds=[{','.join(map(str, range(seeds)))}]")
    if not parts and not grids:
        if baselines:
            raise ComponentError(
                f"--baseline is {baselines[-1]!r}, but there is one evaluation; give rows by "
                "--grid or after --"
            )
        return EvaluationPlan([Variant(())], [[*folders, *shared]], None, None)
    variants = [variant for part in parts or [[]] for variant in _expand(part, grids, bool(parts))]
    check_labels(variants)
    baseline = baselines[-1] if baselines else None
    choose_references(variants, baseline)
    names = [argument[5:] for argument in shared if argument.startswith("name=")]
    for name in [*names, *(f.name for v in variants for f in v.factors if f.name)]:
        _check_name(name)
    base = [argument for argument in shared if not argument.startswith("name=")]
    settings = [[*folders, *_replace_settings(base, variant)] for variant in variants]
    return EvaluationPlan(variants, settings, names[-1] if names else None, baseline)


def _split_parts(arguments: Sequence[str]) -> list[list[str]]:
    """Split arguments at each `--`. The first part is what all evaluations share."""
    parts: list[list[str]] = [[]]
    for argument in arguments:
        if argument == SEPARATOR:
            parts.append([])
        else:
            parts[-1].append(argument)
    return parts


def _expand(part: list[str], grids: Sequence[list[Factor]], separated: bool) -> list[Variant]:
    """Combine the settings of a part after `--` with its own grids and those of all parts."""
    own_grids = [parse_grid(text) for text in take_options(part, "--grid")]
    own = [[make_factor(part, "the part after --")]] if separated else []
    return multiply([*own, *grids, *own_grids])


def _check_name(name: str) -> None:
    """Check that a name is the name of one folder."""
    if problem := name_problem(name):
        raise ComponentError(
            f"name is {name!r}; choose the name of one folder (this one {problem}); "
            "output=FOLDER is its parent"
        )
    if name == "inputs":
        raise ComponentError(
            "name is 'inputs', the folder of the photographs that were lifted; choose another"
        )


def _replace_settings(shared: Sequence[str], variant: Variant) -> list[str]:
    """Return all settings of a row. Its own ones replace those that all rows share."""
    own = variant.settings
    return [
        *(argument for argument in shared if argument.partition("=")[0] not in own),
        *variant.arguments,
    ]
