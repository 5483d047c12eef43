"""Networks that a worker keeps from one picture to the next."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from lift.batch.tasks import BatchTask, run_task
from lift.runtime import kept_networks
from lift.runtime.kept_networks import files_stamp, keep_networks, load_once, park_networks


@pytest.fixture
def kept() -> Iterator[None]:
    keep_networks()
    yield
    keep_networks(False)


def test_without_a_worker_each_run_loads_its_own_network():
    assert load_once("pose", 1, lambda: nn.Linear(1, 1)) is not load_once(
        "pose", 1, lambda: nn.Linear(1, 1)
    )


def test_a_network_is_loaded_again_only_for_another_key(kept):
    def load(key: int, kind: str = "pose") -> nn.Module:
        return load_once(kind, key, lambda: nn.Linear(1, 1))

    first = load(1)
    assert load(1) is first and load(1, "depth") is not first
    assert load(2) is not first and load(1) is not first, "one of each kind is kept"


def test_networks_are_freed_where_memory_is_short(kept, monkeypatch):
    first = load_once("pose", 1, lambda: nn.Linear(1, 1))
    park_networks()
    assert load_once("pose", 1, lambda: nn.Linear(1, 1)) is first
    monkeypatch.setattr(kept_networks, "free_memory", lambda: kept_networks.RESERVE - 0.1)
    park_networks("depth")
    assert load_once("pose", 1, lambda: nn.Linear(1, 1)) is first
    park_networks()
    assert load_once("pose", 1, lambda: nn.Linear(1, 1)) is not first


def test_a_failure_frees_the_networks(kept, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    task = BatchTask("a.png", "a", (), folder=str(tmp_path))
    first = load_once("pose", 1, lambda: nn.Linear(1, 1))
    run_task(task, lambda: task.record("finished"))
    assert load_once("pose", 1, lambda: nn.Linear(1, 1)) is first

    def fail():
        raise torch.OutOfMemoryError("CUDA out of memory")

    assert run_task(task, fail).cause == "transient"
    assert load_once("pose", 1, lambda: nn.Linear(1, 1)) is not first


def test_files_of_another_time_or_size_are_others(tmp_path):
    file = tmp_path / "model" / "unet" / "weights.bin"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"abc")
    stamps = {files_stamp(tmp_path / "model")}
    file.write_bytes(b"abcd")
    os.utime(file, (1, 1))
    stamps.add(files_stamp(tmp_path / "model"))
    os.utime(file, (2, 2))
    stamps.add(files_stamp(tmp_path / "model"))
    assert len(stamps) == 3
    assert files_stamp("owner/name") == files_stamp("owner/name") != files_stamp("owner/other")
    assert files_stamp("a text " * 1000, None, "") == files_stamp("a text " * 1000, None, "")


def test_limits_of_containers_count(monkeypatch):
    files = {
        "memory.max": f"{3 * 2**30}\n",
        "memory.current": f"{2 * 2**30}\n",
        "memory.stat": f"anon 1\nfile {2**30}\n",
    }
    read = Path.read_text

    def read_text(path: Path, *arguments: object, **options: object) -> str:
        is_group = str(path).startswith("/sys/fs/cgroup/")
        return files[path.name] if is_group else read(path, *arguments, **options)

    monkeypatch.setattr(Path, "read_text", read_text)
    assert kept_networks.free_memory() == pytest.approx(2, abs=0.01)
