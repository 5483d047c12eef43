"""Networks that a worker keeps from one picture to the next."""

import os

import pytest
import torch
from torch import nn

from lift.batch.tasks import BatchTask, run_task
from lift.runtime import kept_networks
from lift.runtime.kept_networks import files_stamp, keep_networks, load_once, park_networks


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
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "model" / "vae").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "weights.bin").write_bytes(b"abc")
    stamps.add(files_stamp(tmp_path / "model"))
    assert len(stamps) == 4
    network = tmp_path / "depth.onnx"
    network.write_bytes(b"abc")
    (tmp_path / "depth.onnx.data").write_bytes(b"abc")
    before = files_stamp(network)
    (tmp_path / "depth.onnx.data").write_bytes(b"abcd")
    assert files_stamp(network) != before
    assert files_stamp("owner/name") == files_stamp("owner/name") != files_stamp("owner/other")
    assert files_stamp("a text " * 1000, None, "") == files_stamp("a text " * 1000, None, "")


@pytest.mark.parametrize("version", [1, 2])
def test_limits_of_containers_count(version, tmp_path, monkeypatch):
    root = tmp_path / "cgroup"
    inner = root / ("memory/job/step" if version == 1 else "job/step")
    inner.mkdir(parents=True)
    names = {
        1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_cache", "4:memory"),
        2: ("memory.max", "memory.current", "file", "0:"),
    }
    limit, used, cached, controller = names[version]
    (inner.parent / limit).write_text(f"{3 * 2**30}\n")
    (inner.parent / used).write_text(f"{2 * 2**30}\n")
    (inner.parent / "memory.stat").write_text(f"anon 1\n{cached} {2**30}\n")
    (inner / limit).write_text("max\n")  # the limit is that of the group around it
    (tmp_path / "own").write_text(f"7:cpu:/elsewhere\n{controller}:/job/step\n")
    groups = list(kept_networks._memory_groups(tmp_path / "own", root))
    assert groups[:2] == [inner, inner.parent] and all(root in (g, *g.parents) for g in groups)
    monkeypatch.setattr(kept_networks, "_memory_groups", lambda *_: groups)
    assert kept_networks.free_memory() == pytest.approx(2, abs=0.01)


def test_workers_share_the_memory(monkeypatch):
    monkeypatch.setattr(kept_networks, "free_memory", lambda: 1.5 * kept_networks.RESERVE)
    for workers in (1, 2):
        keep_networks(workers=workers)
        first = load_once("pose", 1, lambda: nn.Linear(1, 1))
        park_networks()
        assert (load_once("pose", 1, lambda: nn.Linear(1, 1)) is first) == (workers == 1)
        keep_networks(False)


def test_only_a_bad_picture_leaves_the_networks(kept, tmp_path):
    task = BatchTask("a.png", "a", (), folder=str(tmp_path))

    def fail(error: BaseException):
        raise error

    class TimeIsUpError(BaseException):
        """As Ray's engine raises it."""

    first = load_once("pose", 1, lambda: nn.Linear(1, 1))
    assert run_task(task, lambda: fail(ValueError("no picture"))).cause == "permanent"
    assert load_once("pose", 1, lambda: nn.Linear(1, 1)) is first
    run_task(task, lambda: fail(KeyError("a bug")))
    second = load_once("pose", 1, lambda: nn.Linear(1, 1))
    assert second is not first
    with pytest.raises(TimeIsUpError):
        run_task(task, lambda: fail(TimeIsUpError()))
    assert load_once("pose", 1, lambda: nn.Linear(1, 1)) is not second
