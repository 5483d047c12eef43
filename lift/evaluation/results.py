"""Collect the results of evaluations, also those of other processes, and write their tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from lift.batch.records import Record, read_summary
from lift.evaluation import storage
from lift.evaluation.ablation.files import save_all
from lift.evaluation.ablation.joint import JointTable
from lift.evaluation.ablation.results import TABLE, load_result
from lift.evaluation.description import describe_evaluation
from lift.evaluation.evaluate import Evaluation
from lift.evaluation.plan import EvaluationPlan, joint_folder
from lift.evaluation.tables import format_table, mean_of
from lift.io.names import printable
from lift.runtime.atomic_io import make_folder, publish
from lift.runtime.machine import machine_info


@dataclass
class Results:
    """What there is of one evaluation."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    """Results of tasks."""
    failed: dict[str, str] = field(default_factory=dict)
    """Error of each failed task by name."""
    unmeasured: list[str] = field(default_factory=list)
    """Names of tasks that nobody has done yet."""


@dataclass
class Tables:
    """The tables of a command."""

    files: list[Path]
    """The Markdown files that the user is shown."""
    is_complete: bool
    """Whether each task was measured or has failed."""


def write_tables(
    plan: EvaluationPlan, evaluations: Sequence[Evaluation], records: Sequence[Record], command: str
) -> Tables:
    """Write the table of each evaluation, and the joint table.

    A lock is held, so that the last of several processes sees the results of all others.

    Args:
        plan: The evaluations of a command.
        evaluations: The same, made.
        records: What became of the tasks of this command.
        command: The command, which the joint table quotes.

    Returns:
        The tables. A single evaluation without any result has none.
    """
    folder = joint_folder(plan, evaluations)
    with storage.task_lock(folder / ".table.lock"):
        others = [
            record
            for file in sorted(folder.glob("summary*.jsonl"))
            for record in read_summary(file)
        ]
        collected = [collect_results(one, records, others) for one in evaluations]
        is_complete = not any(results.unmeasured for results in collected)
        if not plan.is_joint and not collected[0].rows and not (folder / TABLE).exists():
            return Tables([], is_complete)
        files = [
            write_table(evaluation, results)
            for evaluation, results in zip(evaluations, collected, strict=True)
        ]
        if plan.is_joint:
            pairs = zip(evaluations, plan.variants, strict=True)
            rows = [load_result(evaluation.folder, variant) for evaluation, variant in pairs]
            files = [save_all(JointTable(rows, plan.baseline, command), folder)]
    return Tables(files, is_complete)


def collect_results(
    evaluation: Evaluation, records: Sequence[Record], others: Sequence[Record]
) -> Results:
    """Collect what there is of an evaluation.

    Args:
        evaluation: The evaluation.
        records: What became of the tasks of this command.
        others: What the last commands say of their tasks, perhaps with other settings.
    """
    own = {record.title: record for record in records}
    errors = {
        record.title: record.error
        for record in others
        if record.error and record.settings == record_settings(evaluation)
    }
    results = Results()
    for task in evaluation.tasks:
        title = evaluation.title(task)
        record = own.get(title)
        if row := _find_row(evaluation, task.name, record):
            results.rows.append(row)
        elif error := (record.error if record else errors.get(title)):
            results.failed[task.name] = error
        else:
            results.unmeasured.append(task.name)
    return results


def record_settings(evaluation: Evaluation) -> list[str]:
    """Return the entry `settings` of an evaluation's records. It tells evaluations apart.

    Args:
        evaluation: The evaluation.
    """
    return [f"evaluation={evaluation.key}"]


def _find_row(evaluation: Evaluation, name: str, record: Record | None) -> dict[str, Any] | None:
    """Return the result of a task: that of this command, else an earlier one that still holds."""
    if record is not None and record.result:
        return storage.load_row(Path(record.result))
    if record is not None and not record.is_transient:
        return None
    row = storage.read_row(evaluation.folder / f"{name}.json")
    return row if row and row.get("evaluation") == evaluation.key else None


def write_table(evaluation: Evaluation, results: Results) -> Path:
    """Write `table.md` and `table.json` of an evaluation.

    Args:
        evaluation: The evaluation.
        results: What there is of it.

    Returns:
        The path of `table.md`.
    """
    make_folder(evaluation.folder)
    text = format_table(
        results.rows,
        describe_evaluation(evaluation.config, evaluation.eval_config),
        list(evaluation.protocol.bins),
        results.failed,
        results.unmeasured,
    )
    content: Mapping[str, Any] = storage.to_json(evaluation.eval_config) | {
        "settings": storage.to_json(evaluation.config),
        "code": evaluation.code,
        "mean": mean_of(results.rows),
        "failed": results.failed,
        "unmeasured": results.unmeasured,
        "rows": results.rows,
        "machine": machine_info("cuda" if torch.cuda.is_available() else "cpu"),
    }
    storage.write_sealed(evaluation.folder / TABLE, content)
    path = evaluation.folder / "table.md"
    publish(path, lambda draft: draft.write_text(printable(text) + "\n", encoding="utf-8"))
    return path
