"""`lift eval`: scenes of a dataset, lifted from one view and measured by the others."""

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from lift.cli.processes import (
    add_command,
    launch_workers,
    raise_failures,
    take_number,
    take_options,
    take_process_count,
)
from lift.errors import format_error, is_user_error
from lift.evaluation.ablation.grid import (
    Factor,
    Variant,
    check_labels,
    choose_references,
    make_factor,
    multiply,
    parse_grid,
)
from lift.io.names import name_problem
from lift.registry import ComponentError
from lift.runtime import distributed
from lift.runtime.quick_import import quick_import

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from lift.evaluation.evaluate import Evaluation
    from lift.runtime.batch import WorkQueue

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
    "--processes": ("N", "processes of this machine (its number of GPUs, else 1)"),
}
"""Options with the name of their value and a description, for the help."""

Composed = tuple["DictConfig", "DictConfig"]
"""Configuration of the runs, and an `EvalConfig`."""


@dataclass(frozen=True)
class EvaluationPlan:
    """The evaluations of a command."""

    variants: list[Variant]
    """What distinguishes the rows of the joint table. A single evaluation has no factors."""
    settings: list[list[str]]
    """All settings of each evaluation."""
    name: str | None
    """Name of the joint table."""
    baseline: str | None
    """The row that the others are compared with."""

    @property
    def is_joint(self) -> bool:
        """Whether there is a joint table."""
        return bool(self.variants[0].factors)

    def compose(self) -> list[Composed]:
        """Compose the configuration of each evaluation.

        Raises:
            ComponentError: A setting is wrong. The message names the row.
        """
        composed = []
        for variant, settings in zip(self.variants, self.settings, strict=True):
            try:
                composed.append(compose_evaluation(settings))
            except Exception as error:
                if not self.is_joint or not is_user_error(error):
                    raise
                message = f"in the row {variant.label!r}: {format_error(error)}"
                raise ComponentError(message) from None
        return composed


def add_parser(commands: Any) -> None:
    """Add the command to the command line.

    Args:
        commands: What `add_subparsers` returned.
    """
    parser = add_command(
        commands,
        "eval",
        evaluate,
        "scenes of a dataset, each lifted from one view and measured by the others, spread over "
        "processes",
    )
    parser.usage = (
        "lift eval [dataset=NAME dataset.path=FOLDER] [protocol.KEY=VALUE ...] "
        "[setting=value ...] [options] [-- SETTINGS -- SETTINGS ...]"
    )
    for option, (value, text) in _OPTIONS.items():
        parser.add_argument(option, metavar=value, help=text)
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
    from lift.runtime.batch import WorkQueue, released_memory, run_distributed

    remaining = list(arguments)
    count = take_process_count(remaining)
    plan = plan_evaluations(remaining)
    configs = plan.compose()

    @cache
    def evaluations() -> list["Evaluation"]:
        return _build_evaluations(plan, configs)

    if launch_workers(
        "eval",
        arguments,
        count,
        lambda: sum(len(evaluation.tasks) for evaluation in evaluations()),
        [run_config for run_config, _ in configs],
    ):
        return 0
    tasks = [(evaluation, task) for evaluation in evaluations() for task in evaluation.tasks]
    # `run_distributed` clears the ranks, so that each process makes its scenes alone.
    is_main = distributed.process_info().rank == 0
    queue = WorkQueue()
    _load_measures_once(evaluations(), queue)
    make = released_memory()(lambda index: str(tasks[index][0].make(tasks[index][1])))
    titles = [evaluation.title(task) for evaluation, task in tasks]
    outcomes = run_distributed(titles, make, queue)
    tables = []
    for evaluation in evaluations() if is_main else ():
        own_outcomes = [
            outcome
            for outcome, (owner, _) in zip(outcomes, tasks, strict=True)
            if owner is evaluation
        ]
        if plan.is_joint or any(outcome.result for outcome in own_outcomes):
            tables.append(evaluation.write(own_outcomes))
    if is_main and plan.is_joint:
        from lift.runtime.provenance import shell_command

        command = shell_command(["lift", "eval", *arguments])
        tables = [_write_joint_table(plan, evaluations(), command)]
    for path in tables:
        print(path.read_text(encoding="utf-8"), file=sys.stderr)
        print(path, flush=True)
    raise_failures(outcomes, "scenes")
    return 0


def plan_evaluations(arguments: Sequence[str]) -> EvaluationPlan:
    """Read the settings, the grids and the options of a command.

    Args:
        arguments: Arguments of `lift eval` without `--processes`.

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


def compose_evaluation(arguments: Sequence[str]) -> Composed:
    """Compose the configuration of the runs, and that of their evaluation.

    Args:
        arguments: Settings of one evaluation, and `--config-dir=FOLDER` for folders of your own.

    Returns:
        Configuration of `lift run` without an image, and an `EvalConfig`.

    Raises:
        ComponentError: An argument is not a setting that `lift eval` takes.
    """
    from lift.config import compose_eval, compose_run

    folders = [argument for argument in arguments if argument.startswith("--config-dir=")]
    settings = [argument for argument in arguments if argument not in folders]
    for argument in settings:
        _check_argument(argument)
    own = [argument for argument in settings if re.match(r"(dataset|protocol)[.=]", argument)]
    run_settings = [argument for argument in settings if argument not in own]
    try:
        run_config = compose_run([*folders, *run_settings, "image=none"])
        return run_config, compose_eval([*folders, *own])
    except Exception as error:
        # What Hydra says of a comma outside of a list advises -m, which is of `lift run`.
        if match := re.match(r"Ambiguous value for argument '(.*?)'$", str(error), re.M):
            raise ComponentError(
                f"{match[1]!r} has several values; --grid {match[1]!r} evaluates each"
            ) from None
        raise


def _check_argument(argument: str) -> None:
    """Raise ComponentError if an argument is not a setting that `lift eval` takes."""
    key, equals, _ = argument.partition("=")
    if key in ("-m", "--multirun"):
        raise ComponentError(f"{argument!r}: lift eval takes --grid KEY=VALUE,VALUE,... instead")
    if key.startswith("-"):
        from lift.config.overrides import check_dashes

        check_dashes([argument])
        raise ComponentError(f"{argument!r} is not an option of lift eval; see lift eval --help")
    if not key or not equals:
        raise ComponentError(
            f"{argument!r} is no setting; lift eval takes dataset=NAME, dataset.path=FOLDER, "
            "protocol.KEY=VALUE and the settings of lift run"
        )
    if key[0] in "+~":  # Hydra's prefixes for additions and deletions
        prefix = argument[: -len(argument.lstrip("+~"))]
        raise ComponentError(f"{argument!r}: lift eval takes KEY=VALUE; leave out {prefix!r}")
    if key == "image":
        raise ComponentError(f"{argument!r}: the dataset has the pictures")
    if key == "seed":
        raise ComponentError(f"{argument!r}: choose --seeds N or protocol.seeds=[...]")


def _build_evaluations(plan: EvaluationPlan, configs: Sequence[Composed]) -> list["Evaluation"]:
    """Make the evaluations, which share what they can."""
    # The import loads numba, which must know its number of threads before.
    with quick_import():
        from lift.evaluation.evaluate import Evaluation
    from lift.evaluation.resources import SharedResources
    from lift.evaluation.storage import evaluation_folder, folder_name

    shared = SharedResources()
    if not plan.is_joint:
        return [Evaluation(*config, shared) for config in configs]
    built = []
    for variant, (run_config, eval_config) in zip(plan.variants, configs, strict=True):
        folder = None
        if plan.name or (variant.is_named and len(variant.factors) == 1):
            name = folder_name(variant.label)
            folder = evaluation_folder(run_config.output, plan.name or "") / name
        built.append(Evaluation(run_config, eval_config, shared, folder, variant.label))
    for k, evaluation in enumerate(built):
        for other in built[:k]:
            if other.folder == evaluation.folder:
                raise ComponentError(
                    f"the rows {other.label!r} and {evaluation.label!r} have the same settings; "
                    "leave one out, or give each a name=NAME of its own"
                )
    return built


def _load_measures_once(evaluations: Sequence["Evaluation"], queue: "WorkQueue") -> None:
    """Let the main process download weights, so that a failure costs time and is said once."""
    from lift.evaluation.measures import say_unavailable

    downloading = [evaluation for evaluation in evaluations if not evaluation.protocol.weights]
    if not downloading:
        return
    shared = downloading[0].shared

    def load() -> str:
        missing = downloading[0].measures.unavailable
        if missing:
            print(f"note: {say_unavailable(missing)}", file=sys.stderr, flush=True)
        return json.dumps(missing)

    shared.unavailable |= json.loads(queue.once("measures", load))


def _write_joint_table(
    plan: EvaluationPlan, evaluations: Sequence["Evaluation"], command: str
) -> Any:
    """Write the joint table of finished evaluations, and return the path of its Markdown."""
    from lift.evaluation.ablation.files import save_all
    from lift.evaluation.ablation.joint import JointTable
    from lift.evaluation.ablation.results import load_result
    from lift.evaluation.storage import evaluation_folder
    from lift.runtime.cache import hash_key

    first = evaluations[0]
    keys = [[evaluation.label, evaluation.key] for evaluation in evaluations]
    name = plan.name or f"{first.eval_config.dataset.name}-{hash_key(keys)}"
    results = [
        load_result(evaluation.folder, variant)
        for evaluation, variant in zip(evaluations, plan.variants, strict=True)
    ]
    table = JointTable(results, plan.baseline, command)
    return save_all(table, evaluation_folder(first.config.output, name))
