"""Differences between two evaluations, paired by scene and seed, with their standard errors."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lift.evaluation.tables import MEASURES, RUN_MEASURES, mean_of

Pair = tuple[str, int]
"""A scene and a seed."""

COMPARED = tuple(
    key
    for key in (*MEASURES, *RUN_MEASURES)
    if key not in ("visible", "psnr_input", "seconds", "peak_gib")
)
"""Measures with a difference. The others depend on the data or on the load of the machine."""


@dataclass(frozen=True)
class Difference:
    """Mean of the differences between two evaluations."""

    mean: float
    """Mean over seeds, then over scenes."""
    error: float | None
    """Standard error of the mean. None for a single pair."""
    pairs: int
    """Number of pairs: scenes and seeds that both evaluations have."""
    scenes: int
    """Number of scenes among the pairs."""
    seeds: int
    """Number of seeds among the pairs."""


def measures_by_pair(rows: Sequence[Mapping[str, Any]]) -> dict[Pair, dict[str, Any]]:
    """Average over the views of each scene and seed.

    Args:
        rows: Results of tasks.

    Returns:
        Means of MEASURES and RUN_MEASURES.
    """
    return {(row["scene"], row["seed"]): mean_of([row]) for row in rows}


def paired_difference(
    values: Mapping[Pair, float | None], reference: Mapping[Pair, float | None]
) -> Difference | None:
    """Compute the mean difference over scenes and seeds that both have.

    The variance of the mean is that of the scenes' means, divided by their number, plus the same of
    the seeds' means. Pairs of one scene or of one seed are not independent, so the number of pairs
    does not count. Variation from pair to pair counts in both summands, so the error is rather too
    large than too small. A single scene, or a single seed, adds nothing.

    Args:
        values: Values of an evaluation.
        reference: Values of the evaluation that it is compared with.

    Returns:
        The difference, or None without a common pair.
    """
    differences = {
        pair: value - other
        for pair, value in values.items()
        if value is not None and (other := reference.get(pair)) is not None
    }
    if not differences:
        return None
    scene_means, seed_means = (_means(differences, axis) for axis in (0, 1))
    error = None
    if len(differences) > 1:
        error = math.hypot(
            *(
                float(np.std(means, ddof=1)) / math.sqrt(len(means))
                for means in (scene_means, seed_means)
                if len(means) > 1
            )
        )
    return Difference(
        float(np.mean(scene_means)), error, len(differences), len(scene_means), len(seed_means)
    )


def _means(differences: Mapping[Pair, float], axis: int) -> list[float]:
    """Average the differences of each scene (axis 0) or of each seed (axis 1)."""
    groups: dict[Any, list[float]] = {}
    for pair, difference in differences.items():
        groups.setdefault(pair[axis], []).append(difference)
    return [float(np.mean(group)) for group in groups.values()]
