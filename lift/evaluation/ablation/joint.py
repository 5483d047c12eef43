"""Join evaluations to one table: a row for each, with differences and their errors."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lift.evaluation.ablation.differences import (
    COMPARED,
    Difference,
    Pair,
    measures_by_pair,
    paired_difference,
)
from lift.evaluation.ablation.grid import choose_references
from lift.evaluation.ablation.results import EvaluationResult, measurement_differences
from lift.evaluation.tables import mean_of


@dataclass(frozen=True)
class JointRow:
    """A row of a joint table."""

    result: EvaluationResult
    """The evaluation."""
    reference: str | None
    """Label of the row that it is compared with. None for that row itself."""
    mean: Mapping[str, Any]
    """Means over targets, scenes and seeds: `lift.evaluation.tables.mean_of`."""
    differences: Mapping[str, Difference | None]
    """Difference to the reference of each measure, by key."""

    @property
    def label(self) -> str:
        """Title of the row."""
        return self.result.label

    @property
    def settings(self) -> dict[str, str]:
        """Values of the settings that distinguish the row, by name."""
        return self.result.variant.settings

    @property
    def measured(self) -> int:
        """Number of scenes and seeds with a result."""
        return len(self.result.rows)

    @property
    def pairs(self) -> int | None:
        """Number of scenes and seeds that the row and its reference have. None for a reference."""
        if self.reference is None:
            return None
        return max((d.pairs for d in self.differences.values() if d), default=0)

    def to_json(self, folder: Path) -> dict[str, Any]:
        """Convert to JSON-like values.

        Args:
            folder: Folder of the file, to which the row's folder is relative.
        """
        return {
            "label": self.label,
            "factors": self.result.variant.to_json(),
            "folder": os.path.relpath(self.result.folder, folder),
            "n": self.measured,
            "failed": self.result.failed,
            "unmeasured": self.result.unmeasured,
            "mean": dict(self.mean),
            "reference": self.reference,
            "differences": {key: d and asdict(d) for key, d in self.differences.items()},
        }


class JointTable:
    """Rows of several evaluations.

    Args:
        results: The evaluations, at least one.
        baseline: The row that the others are compared with: see
            `lift.evaluation.ablation.grid.choose_references`.
        command: The command that made the table.

    Raises:
        ComponentError: No row has the settings of the baseline.
    """

    def __init__(
        self,
        results: Sequence[EvaluationResult],
        baseline: str | None = None,
        command: str | None = None,
    ) -> None:
        self.command = command
        references = choose_references([result.variant for result in results], baseline)
        values = [measures_by_pair(result.rows) for result in results]
        self.rows = [
            _make_row(results, values, k, reference) for k, reference in enumerate(references)
        ]
        self.notes = measurement_differences(results)
        """Differences between the measurements of the rows."""

    @property
    def setting_names(self) -> list[str]:
        """Names of the settings that distinguish the rows, grid by grid."""
        variants = [row.result.variant for row in self.rows]
        count = max(len(variant.factors) for variant in variants)
        factors = [v.factors[k] for k in range(count) for v in variants if k < len(v.factors)]
        settings = [setting for factor in factors for setting in factor.settings]
        return list(dict.fromkeys(setting.partition("=")[0] for setting in settings))

    def available(self, key: str) -> bool:
        """Whether at least one row has a measure.

        Args:
            key: Key of the measure.
        """
        return any(row.mean[key] is not None for row in self.rows)

    def to_json(self, folder: Path) -> dict[str, Any]:
        """Convert to JSON-like values.

        Args:
            folder: Folder of the file.
        """
        content = self.rows[0].result.content
        return {
            "command": self.command,
            "dataset": content["dataset"],
            "protocol": content["protocol"],
            "notes": self.notes,
            "variants": [row.to_json(folder) for row in self.rows],
            "machine": content.get("machine"),
        }


def _make_row(
    results: Sequence[EvaluationResult],
    values: Sequence[Mapping[Pair, Mapping[str, Any]]],
    k: int,
    reference: int | None,
) -> JointRow:
    """Compare evaluation k with its reference."""
    differences: dict[str, Difference | None] = {}
    if reference is not None and reference != k:
        for key in COMPARED:
            own, other = (
                {pair: measures[key] for pair, measures in values[index].items()}
                for index in (k, reference)
            )
            differences[key] = paired_difference(own, other)
    label = results[reference].label if reference not in (None, k) else None
    return JointRow(results[k], label, mean_of(results[k].rows), differences)
