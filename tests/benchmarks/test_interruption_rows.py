"""Rows of interrupted runs are counted once, over several starts of the program."""

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def rows(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield importlib.import_module("interruption_rows")
    sys.modules.pop("interruption_rows", None)


def trial(seed: int = 0, problem: str | None = None) -> dict[str, Any]:
    stop = {"signal": "SIGTERM", "status": 143, "finished": False, "damaged": 2}
    return {
        "cause": "kill",
        "kind": "run",
        "seed": seed,
        "cores": 2,
        "stops": [stop],
        "problem": problem,
    }


def test_trials_are_counted_by_seed(rows):
    table = rows.summarize([trial(0), trial(0, "files differ"), trial(1)], "abc")
    assert [(row["seed"], row["trials"], row["resumed_identically"]) for row in table] == [
        (0, 2, 1),
        (1, 1, 1),
    ]
    assert table[0]["statuses"] == {"SIGTERM": [143]}
    assert table[0]["problems"] == ["files differ"] and table[0]["damaged_files"] == 4


def test_a_longer_table_of_the_same_trials_replaces(rows):
    early = rows.summarize([trial()], "abc")
    late = rows.summarize([trial(), trial()], "abc")
    assert rows.merge_rows(early, late) == rows.merge_rows(late, early) == late


def test_rows_of_other_seeds_and_commits_stay(rows):
    tables = [rows.summarize([trial(seed)], name) for seed in (0, 1) for name in ("abc", "def")]
    assert len(rows.merge_rows(*tables)) == 4


def test_old_rows_get_seed_and_commit_from_the_file(rows, tmp_path):
    file = tmp_path / "results.json"
    machine = {"cores": 32, "commit": "abc"}
    old = {"cause": "kill", "kind": "run", "cores": 2, "trials": 1}
    file.write_text(json.dumps({"seed": 7, "machine": machine, "rows": [old]}))
    assert rows.read_rows(file) == [{**old, "seed": 7, "commit": "abc"}]
