"""The model of a disk that loses what was not synced."""

import importlib
import os
import random
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def power_cut(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield importlib.import_module("power_cut")
    sys.modules.pop("power_cut", None)


@pytest.fixture
def log(power_cut, tmp_path, monkeypatch) -> Path:
    """Log of what this test syncs."""
    monkeypatch.setattr(os, "fsync", os.fsync)
    monkeypatch.setattr(os, "fdatasync", os.fdatasync)
    power_cut.record(tmp_path / "log.jsonl")
    return tmp_path / "log.jsonl"


def sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def write_file(folder: Path) -> Path:
    folder.mkdir()
    file = folder / "file"
    file.write_bytes(b"content" * 100)
    return file


def cut_until(power_cut, root: Path, log: Path, ends) -> bool:
    """Whether one of many power cuts, each of the same state, ends in a condition."""
    return any(
        power_cut.cut(root, power_cut.SyncLog.read(log), random.Random(seed)) and ends()
        for seed in range(200)
    )


def test_what_was_synced_stays(power_cut, log, tmp_path):
    file = write_file(tmp_path / "root")
    for path in (file, file.parent):
        sync(path)
    assert not cut_until(
        power_cut, file.parent, log, lambda: not file.exists() or file.stat().st_size != 700
    )


def test_content_that_was_not_synced_is_damaged(power_cut, log, tmp_path):
    file = write_file(tmp_path / "root")
    sync(file.parent)
    assert cut_until(power_cut, file.parent, log, lambda: file.read_bytes() != b"content" * 100)


def test_a_name_that_was_not_synced_is_lost(power_cut, log, tmp_path):
    file = write_file(tmp_path / "root")
    sync(file)
    assert cut_until(power_cut, file.parent, log, lambda: not file.exists())


def test_a_rename_that_was_not_synced_is_undone(power_cut, log, tmp_path):
    file = write_file(tmp_path / "root")
    for path in (file, file.parent):
        sync(path)
    final = file.with_name("final")
    file.rename(final)
    assert cut_until(power_cut, file.parent, log, lambda: file.exists() and not final.exists())


def test_a_folder_renamed_after_its_sync_keeps_its_entries(power_cut, log, tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    file = write_file(root / "draft")
    for path in (file, file.parent):
        sync(path)
    file.parent.rename(root / "final")
    sync(root)
    kept = root / "final" / "file"
    assert not cut_until(power_cut, root, log, lambda: kept.read_bytes() != b"content" * 100)
