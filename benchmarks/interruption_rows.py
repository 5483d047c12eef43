"""Rows of the result file of `interruptions.py`: counts of trials, merged over several starts."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

IDENTITY = ("cause", "kind", "seed", "cores", "commit")
"""Keys by which a row differs from all others."""


def summarize(trials: Sequence[dict[str, Any]], commit: str | None) -> list[dict[str, Any]]:
    """Count trials and problems for each cause, kind, seed and machine.

    Args:
        trials: Rows of trials, as `interruptions.run_trial` returns them.
        commit: Name of the commit that was tried.
    """
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for trial in trials:
        identity = (*(trial[key] for key in IDENTITY[:-1]), commit)
        groups.setdefault(identity, []).append(trial)
    return [
        {**dict(zip(IDENTITY, identity, strict=True)), **_count(members)}
        for identity, members in groups.items()
    ]


def _count(trials: Sequence[dict[str, Any]]) -> dict[str, Any]:
    stops = [stop for trial in trials for stop in trial["stops"]]
    signals = sorted({stop["signal"] for stop in stops})
    return {
        "trials": len(trials),
        "stops": len(stops),
        "signals": {name: sum(stop["signal"] == name for stop in stops) for name in signals},
        "statuses": {
            name: sorted({stop["status"] for stop in stops if stop["signal"] == name})
            for name in signals
        },
        "other_ends": [stop["end"] for stop in stops if "end" in stop],
        "after_the_end": sum(stop["finished"] for stop in stops),
        "damaged_files": sum(stop.get("damaged", 0) for stop in stops),
        "lost_entries": sum(stop.get("lost", 0) for stop in stops),
        "renamed_back": sum(stop.get("renamed_back", 0) for stop in stops),
        "stages_set_aside": sum(trial.get("set_aside", 0) for trial in trials),
        "resumed_identically": sum(trial["problem"] is None for trial in trials),
        "problems": [trial["problem"] for trial in trials if trial["problem"]],
    }


def read_rows(file: Path) -> list[dict[str, Any]]:
    """Read the rows of a result file.

    Args:
        file: The file. It may be missing.

    Returns:
        The rows. What a row leaves out of its identity comes from the head of the file.
    """
    if not file.exists():
        return []
    record = json.loads(file.read_text(encoding="utf-8"))
    head = {
        "seed": record["seed"],
        "cores": record["machine"]["cores"],
        "commit": record["machine"]["commit"],
    }
    return [{**head, **row} for row in record["rows"]]


def merge_rows(*tables: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Merge rows. Of two rows of the same trials, the one with more trials stays.

    Args:
        tables: Rows of several result files.

    Returns:
        One row for each identity, in order.
    """
    merged: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in (row for table in tables for row in table):
        identity = tuple(row[key] for key in IDENTITY)
        if identity not in merged or row["trials"] >= merged[identity]["trials"]:
            merged[identity] = row
    return sorted(merged.values(), key=lambda row: [str(row[key]) for key in IDENTITY])
