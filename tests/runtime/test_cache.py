import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from lift.geometry import pinhole
from lift.runtime.cache import Store, hash_key
from lift.runtime.integrity import DamagedFileError
from lift.runtime.serialization import load, save
from lift.types import Clip, Depth, Frames, PointCloud, Reconstruction, Trajectory
from tests.helpers.damage import KINDS, damage


def values():
    camera = pinhole(8, 6, 5.0)
    images = torch.randint(0, 256, (3, 6, 8, 3), dtype=torch.uint8)
    depth = torch.rand(3, 6, 8)
    yield Frames(images)
    yield Frames(images, depth)
    yield Depth(depth[0], depth[0] > 0.5, "scale")
    yield Trajectory(camera, (Clip("right/up", 0, camera), Clip("x", 1, camera)))
    yield Reconstruction(
        camera, PointCloud(torch.rand(5, 3), torch.rand(5, 3)), depth[:1], depth[1:2]
    )
    yield {"a": torch.arange(3), "notes": ["one"], "none": None, "number": 1.5}


def equal(a, b) -> bool:
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.equal(b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(equal, a, b))
    if hasattr(a, "__dict__"):
        return type(a) is type(b) and equal(vars(a), vars(b))
    return a == b


@pytest.mark.parametrize("value", list(values()), ids=lambda value: type(value).__name__)
def test_values_come_back_bit_for_bit(tmp_path, value):
    save(value, tmp_path)
    assert equal(value, load(tmp_path))


def test_a_key_follows_what_it_is_made_of(tmp_path):
    file = tmp_path / "model.bin"
    file.write_bytes(b"one")
    first = hash_key("stage", {"a": 1, "b": file})
    assert hash_key("stage", {"b": file, "a": 1}) == first
    assert hash_key("stage", {"a": 2, "b": file}) != first
    file.write_bytes(b"two")
    assert hash_key("stage", {"a": 1, "b": file}) != first
    with pytest.raises(TypeError, match="object"):
        hash_key(object())


def test_a_key_follows_every_byte_of_what_is_read_in_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr("lift.runtime.cache._BLOCK_BYTES", 4)
    file, found = tmp_path / "model.bin", set()
    for content in (
        b"12345678ab",
        b"12345678aB",
        b"56781234ab",
        b"x2345678ab",
        b"12345678",
        b"1234567",
        b"",
    ):
        file.write_bytes(content)
        os.utime(file, ns=(0, len(found) + 1))
        found.add(hash_key(file))
    assert len(found) == 7


def test_a_stage_is_made_once(tmp_path):
    store, calls = Store(tmp_path), []
    for expected in (False, True):
        value, stage = store.value("plan", "k", lambda: calls.append(1) or {"x": torch.ones(2)})
        assert stage.cached is expected and value["x"].equal(torch.ones(2))
    assert len(calls) == 1
    manifest = json.loads((tmp_path / "plan-k" / "manifest.json").read_text())
    assert manifest["stage"] == "plan" and manifest["seconds"] >= 0 and manifest["peak_bytes"] > 0


def test_a_failed_maker_leaves_nothing_that_looks_finished(tmp_path):
    store = Store(tmp_path)

    def fail(draft: Path) -> None:
        (draft / "half").write_text("")
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        store.folder("plan", "k", fail)
    assert not (tmp_path / "plan-k").exists()
    seen = []
    store.folder("plan", "k", lambda draft: seen.extend(draft.iterdir()))
    assert seen == []


def test_a_resumable_stage_finds_what_was_left(tmp_path):
    store = Store(tmp_path)

    def fail(draft: Path) -> None:
        (draft / "half").write_text("")
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        store.folder("fit", "k", fail, resumable=True)
    done = store.folder(
        "fit",
        "k",
        lambda draft: (draft / "whole").write_text(str((draft / "half").exists())),
        resumable=True,
    )
    assert (done.folder / "whole").read_text() == "True"


def picture_value() -> dict:
    images = torch.arange(2 * 6 * 8 * 3).reshape(2, 6, 8, 3).to(torch.uint8)
    return {"frames": Frames(images), "x": torch.arange(100.0)}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "name", ["manifest.json", "value.json", "tensors.safetensors", "value.frames.images/000001.png"]
)
def test_a_damaged_stage_is_set_aside_and_made_again(tmp_path, name, kind):
    lines: list[str] = []
    Store(tmp_path).value("clip", "k", picture_value)
    damage(tmp_path / "clip-k" / name, kind)
    store = Store(tmp_path, lines.append)
    assert store.find("clip", "k") is None
    value, stage = store.value("clip", "k", picture_value)
    assert not stage.cached and equal(value, picture_value())
    (line,) = lines
    assert name in line and "is damaged (" in line and "clip-k.damaged-1" in line
    assert (tmp_path / "clip-k.damaged-1").is_dir()
    assert Store(tmp_path).value("clip", "k", picture_value)[1].cached


def test_damaged_stages_of_a_batch_are_made_again(tmp_path):
    calls: list[list[int]] = []

    def make(indices: list[int]) -> list[dict]:
        calls.append(indices)
        return [picture_value() for _ in indices]

    Store(tmp_path).batch("clip", ["a", "b"], make, 2)
    damage(tmp_path / "clip-b" / "tensors.safetensors", "flipped bit")
    results = Store(tmp_path).batch("clip", ["a", "b"], make, 2)
    assert calls == [[0, 1], [1]]
    assert [results[index][1].cached for index in (0, 1)] == [True, False]


def test_a_file_in_place_of_a_stage_is_set_aside(tmp_path):
    (tmp_path / "plan-k").write_text("")
    assert not Store(tmp_path).value("plan", "k", picture_value)[1].cached
    assert (tmp_path / "plan-k.damaged-1").read_text() == ""


def test_a_stage_of_another_key_is_not_used(tmp_path):
    Store(tmp_path).value("plan", "a", picture_value)
    (tmp_path / "plan-a").rename(tmp_path / "plan-b")
    assert not Store(tmp_path).value("plan", "b", picture_value)[1].cached


def test_verification_can_be_switched_off(tmp_path):
    Store(tmp_path).value("plan", "k", picture_value)
    damage(tmp_path / "plan-k" / "tensors.safetensors", "half")
    assert Store(tmp_path, verify="none").find("plan", "k")
    assert Store(tmp_path, verify="size").find("plan", "k") is None


def write_old_manifest(stage: Path) -> None:
    """Replace the manifest by one without checksums, as lift 0.2 wrote it."""
    old = {"stage": "plan", "by": "", "key": "k", "seconds": 1.0, "peak_bytes": 1}
    (stage / "manifest.json").write_text(json.dumps(old))


def test_old_stages_are_used_if_they_can_be_read(tmp_path):
    Store(tmp_path).value("plan", "k", picture_value)
    write_old_manifest(tmp_path / "plan-k")
    value, stage = Store(tmp_path).value("plan", "k", picture_value)
    assert stage.cached and equal(value, picture_value())
    damage(tmp_path / "plan-k" / "tensors.safetensors", "half")
    write_old_manifest(tmp_path / "plan-k")
    assert not Store(tmp_path).value("plan", "k", picture_value)[1].cached


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("longer", "flipped bit")])
@pytest.mark.parametrize(
    "name", ["value.json", "tensors.safetensors", "value.frames.images/000001.png"]
)
def test_reading_a_damaged_value_names_the_file(tmp_path, name, kind):
    save(picture_value(), tmp_path)
    damage(tmp_path / name, kind)
    with pytest.raises(DamagedFileError, match="is damaged") as caught:
        load(tmp_path)
    assert Path(name).name in str(caught.value)


@pytest.mark.parametrize("name", ["Tensor", "dataclass", "torch", "Path"])
def test_a_value_names_no_other_type_than_those_of_lift(tmp_path, name):
    save(Frames(torch.zeros(1, 2, 2, 3, dtype=torch.uint8)), tmp_path)
    tree = json.loads((tmp_path / "value.json").read_text())
    (tmp_path / "value.json").write_text(json.dumps({**tree, "type": name}))
    with pytest.raises(DamagedFileError, match="no type of lift"):
        load(tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX")
def test_all_files_of_a_stage_have_ordinary_permissions(tmp_path):
    before = os.umask(0)
    try:
        Store(tmp_path / "cache").value("plan", "k", picture_value)
    finally:
        os.umask(before)
    modes = {oct(path.stat().st_mode & 0o777) for path in tmp_path.rglob("*") if path.is_file()}
    folders = {oct(path.stat().st_mode & 0o777) for path in tmp_path.rglob("*") if path.is_dir()}
    assert modes == {"0o664"} and folders == {"0o775"}


MAKER = """
import os, sys, time
from pathlib import Path
from lift.runtime.cache import Store
def make(draft):
    Path(sys.argv[2]).open("a").write(f"{os.getpid()}\\n")
    time.sleep(float(sys.argv[3]))
    (draft / "result").write_text(str(os.getpid()))
done = Store(Path(sys.argv[1])).folder("slow", "k", make)
print((done.folder / "result").read_text())
"""


def start(root: Path, seconds: float) -> subprocess.Popen:
    command = [sys.executable, "-c", MAKER, str(root / "cache"), str(root / "log"), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def wait_for_line(path: Path) -> None:
    for _ in range(600):
        if path.exists() and path.read_text():
            return
        time.sleep(0.05)
    raise AssertionError(f"nothing was written to {path}")


@pytest.mark.slow
def test_two_processes_make_a_stage_once(tmp_path):
    both = [start(tmp_path, 1.0) for _ in range(2)]
    answers = {process.communicate(timeout=60)[0].strip() for process in both}
    makers = (tmp_path / "log").read_text().split()
    assert len(makers) == 1 and answers == set(makers)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="kill -9 is POSIX")
def test_a_killed_maker_is_replaced_by_the_one_that_waits(tmp_path):
    first = start(tmp_path, 60)
    wait_for_line(tmp_path / "log")
    second = start(tmp_path, 0.1)
    time.sleep(0.5)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert second.communicate(timeout=60)[0].strip() == str(second.pid)
    assert not (tmp_path / "cache" / ".slow-k.draft").exists()
