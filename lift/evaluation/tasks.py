"""Scenes of evaluations as tasks of an engine."""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from lift.batch.records import Record
from lift.batch.tasks import LOCKS, BatchTask, run_task
from lift.evaluation.plan import EvaluationPlan
from lift.evaluation.settings import compose_evaluation, split_settings
from lift.io.names import safe_name
from lift.runtime.quick_import import quick_import

if TYPE_CHECKING:
    from lift.evaluation.evaluate import Evaluation
    from lift.evaluation.resources import SharedResources


@dataclass(frozen=True, slots=True)
class EvaluationTask(BatchTask):
    """A scene and a seed of one evaluation. `image` and `title` are its name in messages."""

    evaluation: tuple[str, ...] = ()
    """The settings `dataset` and `protocol`. `settings` has those of the runs."""
    results: str = ""
    """Folder of the evaluation."""
    label: str | None = None
    """Title of the evaluation's row in a joint table."""
    scene: str = ""
    """Name of the scene."""
    seed: int = 0
    """Seed of the run."""
    unavailable: tuple[tuple[str, str], ...] = ()
    """Measures whose weights are missing, each with the reason."""
    command: str = ""
    """Name of the command's run. A worker keeps datasets and networks for one command."""


def make_tasks(
    plan: EvaluationPlan, evaluations: Sequence["Evaluation"], say: Callable[[str], None]
) -> list[EvaluationTask]:
    """Make the tasks of a command, and download the weights of measures, once for all workers.

    Args:
        plan: The evaluations of a command.
        evaluations: The same, made.
        say: Receives notes for the user.
    """
    from lift.evaluation.results import record_settings

    unavailable = _download_measures(evaluations, say)
    command = uuid4().hex
    tasks = []
    for evaluation, settings in zip(evaluations, plan.settings, strict=True):
        run_settings, own = split_settings(settings)
        for task in evaluation.tasks:
            title = evaluation.title(task)
            tasks.append(
                EvaluationTask(
                    title,
                    title,
                    tuple(run_settings),
                    tuple(record_settings(evaluation)),
                    folder=os.getcwd(),
                    evaluation=tuple(own),
                    results=str(evaluation.folder),
                    label=evaluation.label,
                    scene=task.scene,
                    seed=task.seed,
                    unavailable=unavailable,
                    command=command,
                )
            )
    return tasks


def log_file(task: EvaluationTask) -> str:
    """Return the file for a worker's messages, if they are not for the terminal.

    Args:
        task: The task.
    """
    return str(Path(task.results).absolute() / LOCKS / f"{safe_name(task.title)}.log")


def _download_measures(
    evaluations: Sequence["Evaluation"], say: Callable[[str], None]
) -> tuple[tuple[str, str], ...]:
    """Download weights that are missing. A failure costs time, and is told, once."""
    from lift.evaluation.measures import Measures, say_unavailable

    if all(evaluation.protocol.weights for evaluation in evaluations):
        return ()
    missing = Measures.load(None).unavailable
    if missing:
        say(say_unavailable(missing))
    return tuple(missing.items())


@lru_cache(maxsize=1)
def _resources(command: str, unavailable: tuple[tuple[str, str], ...]) -> "SharedResources":
    """Return what the evaluations of a command share in this process."""
    from lift.evaluation.resources import SharedResources

    shared = SharedResources()
    shared.unavailable.update(unavailable)
    return shared


@lru_cache(maxsize=64)
def _evaluation(
    command: str,
    unavailable: tuple[tuple[str, str], ...],
    settings: tuple[str, ...],
    results: str,
    label: str | None,
) -> "Evaluation":
    """Make an evaluation, once a process."""
    with quick_import():
        from lift.evaluation.evaluate import Evaluation

    config, eval_config = compose_evaluation(settings)
    shared = _resources(command, unavailable)
    return Evaluation(config, eval_config, shared, Path(results), label)


def find_nothing(task: BatchTask) -> Record | None:
    """Leave it to a worker to find out whether a scene was measured before.

    Args:
        task: The task.
    """
    return None


def measure_scene(task: BatchTask) -> Record:
    """Lift and measure a scene, in a worker, unless that was done before.

    Args:
        task: An `EvaluationTask`.

    Returns:
        What became of it, with the scene's JSON file as its result. Errors are in the record.

    Raises:
        KeyboardInterrupt: The worker shall end.
    """
    assert isinstance(task, EvaluationTask)
    return run_task(task, lambda: _measure_scene(task))


def _measure_scene(task: EvaluationTask) -> Record:
    with quick_import():
        from lift.evaluation.evaluate import Task
        from lift.runtime.release import released_memory

    settings = (*task.settings, *task.evaluation)
    evaluation = _evaluation(task.command, task.unavailable, settings, task.results, task.label)
    with released_memory():
        file, is_new = evaluation.make(Task(task.scene, task.seed))
    record = task.record("finished" if is_new else "passed over", result=str(file))
    row = json.loads(file.read_text(encoding="utf-8"))
    values = [view["psnr"] for view in row["views"] if view["psnr"] is not None]
    record.psnr = sum(values) / len(values) if values else None
    if is_new:
        record.stages = {name: costs["seconds"] for name, costs in row["stages"].items()}
        record.peak_gib = max((costs["peak_gib"] for costs in row["stages"].values()), default=None)
    return record
