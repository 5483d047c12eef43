"""`lift eval`: scenes of a dataset, lifted from one view and measured by the others."""

import re
import sys
from functools import cache
from typing import TYPE_CHECKING, Any

from lift.cli.processes import add_command, launch_workers, raise_failures, take_process_count
from lift.registry import ComponentError
from lift.runtime import distributed

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from lift.evaluation.evaluate import Evaluation


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
        "[setting=value ...] [-- SETTINGS -- SETTINGS ...] [--processes N]"
    )
    parser.epilog = (
        "dataset=NAME: `lift list dataset`. protocol.input, targets, max_targets, align (none, "
        "median_depth, similarity, sweep), bins, seeds, reference, weights: see docs/evaluation. "
        "All settings of `lift run`, image aside. Writes OUTPUT/eval/NAME: table.md, table.json, "
        "and of each scene its figures and a sheet of pictures. Run again, it goes on where it "
        "ended. After `--` come settings of one of several evaluations, which are made beside one "
        "another (what they share once), each with a table of its own: lift eval dataset=ray_cast "
        "-- distortion=identity name=without -- distortion=field name=field."
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
    from lift.runtime.batch import run_distributed

    remaining = list(arguments)
    count = take_process_count(remaining)
    configs = [compose_evaluation(settings) for settings in split_evaluations(remaining)]

    @cache
    def evaluations() -> list["Evaluation"]:
        # The import loads numba, which must know its number of threads before.
        from lift.evaluation.evaluate import Evaluation

        built = [Evaluation(*config) for config in configs]
        _check_folders(built)
        return built

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
    names = [
        f"{evaluation.folder.name}: {task.name}" if len(configs) > 1 else task.name
        for evaluation, task in tasks
    ]
    outcomes = run_distributed(names, lambda index: str(tasks[index][0].make(tasks[index][1])))
    for evaluation in evaluations() if is_main else ():
        own_outcomes = [
            outcome
            for outcome, (owner, _) in zip(outcomes, tasks, strict=True)
            if owner is evaluation
        ]
        if any(outcome.result for outcome in own_outcomes):
            path = evaluation.write(own_outcomes)
            print(path.read_text(encoding="utf-8"), file=sys.stderr)
            print(path, flush=True)
    raise_failures(outcomes, "scenes")
    return 0


def _check_folders(evaluations: list["Evaluation"]) -> None:
    """Raise ComponentError if two evaluations have the same folder."""
    folders = [evaluation.folder for evaluation in evaluations]
    if repeated := [folder for k, folder in enumerate(folders) if folder in folders[:k]]:
        raise ComponentError(
            f"two of the evaluations are {repeated[0]}; give each a name=NAME of its own"
        )


def split_evaluations(arguments: list[str]) -> list[list[str]]:
    """Split the arguments at each `--`.

    Args:
        arguments: Arguments of `lift eval`.

    Returns:
        Settings of each evaluation. What stands before the first `--` belongs to all. Without a
        `--` there is one evaluation.
    """
    parts: list[list[str]] = [[]]
    for argument in arguments:
        if argument == "--":
            parts.append(list(parts[0]))
        else:
            parts[-1].append(argument)
    return parts[1:] or parts


def compose_evaluation(arguments: list[str]) -> tuple["DictConfig", "DictConfig"]:
    """Compose the configuration of the runs, and that of their evaluation.

    Args:
        arguments: Settings of one evaluation.

    Returns:
        Configuration of `lift run` without an image, and an `EvalConfig`.

    Raises:
        ComponentError: An argument is not a setting that `lift eval` takes.
    """
    from lift.config import compose_eval, compose_run

    for argument in arguments:
        _check_argument(argument)
    own = [argument for argument in arguments if re.match(r"(dataset|protocol)[.=]", argument)]
    run_config = compose_run([*(a for a in arguments if a not in own), "image=none"])
    return run_config, compose_eval(own)


def _check_argument(argument: str) -> None:
    """Raise ComponentError if an argument is not a setting that `lift eval` takes."""
    key, equals, _ = argument.partition("=")
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
        raise ComponentError(f"{argument!r}: choose protocol.seeds=[...]")
