"""Runs that were asked for before are passed over, and those that were not are made."""

import json
import os
import shutil
from pathlib import Path

import pytest
from PIL import Image
from skimage import data

from lift import pipeline
from lift.config import compose_run
from lift.runtime import finished
from lift.runtime.finished import Request, find_finished, request_key
from lift.runtime.integrity import MANIFEST, read_manifest, seal
from tests.helpers.commands import here
from tests.helpers.engines import InlineEngine
from tests.helpers.settings import MINIMAL

PASSED = "finished before; --redeliver writes the results again"


@pytest.fixture
def picture(tmp_path) -> Path:
    path = tmp_path / "photo.png"
    Image.fromarray(data.coffee()[:96, :128]).save(path)
    return path


def settings(picture: Path, *more: str) -> list[str]:
    return [f"image={picture}", *MINIMAL, f"output={picture.parent / 'out'}", *more]


def key(picture: Path, *more: str) -> str | None:
    return request_key(compose_run(settings(picture, *more)))


def files_of(folder: Path) -> dict[str, tuple[int, int]]:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path): (path.stat().st_ino, path.stat().st_mtime_ns) for path in paths}


def test_a_request_is_what_a_result_depends_on(picture, monkeypatch):
    before = key(picture)
    assert before is not None and len(before) == 24
    for same in ("redeliver=true", "preview=true", "cache.keep=false"):
        assert key(picture, same) == before
    changed = {
        key(picture, other)
        for other in ("seed=1", "fit.steps=5", "export.formats=[]", "deliver.keep=scene")
    }
    assert len(changed | {before}) == 5
    with monkeypatch.context() as patch:
        patch.setattr(finished, "_code_state", lambda: "edited")
        assert key(picture) != before
    os.utime(picture, ns=(1, 1))
    assert key(picture) != before, "the picture was written again"


def test_files_and_folders_that_settings_name_count(picture, tmp_path):
    (tmp_path / "made").mkdir()
    frames = ("prior=frames", f"prior.path={tmp_path / 'made'}")
    empty = key(picture, *frames)
    (tmp_path / "made" / "0.png").write_bytes(b"1")
    one = key(picture, *frames)
    (tmp_path / "made" / "0.png").write_bytes(b"12")
    assert len({empty, one, key(picture, *frames)}) == 3


def test_what_is_not_known_in_little_time_is_never_passed_over(picture, tmp_path, monkeypatch):
    assert key(picture, "callbacks=[mine.Mine]") is None
    monkeypatch.setattr(finished, "_MAX_FILES", 1)
    (tmp_path / "made").mkdir()
    for name in ("0.png", "1.png"):
        (tmp_path / "made" / name).write_bytes(b"1")
    assert key(picture, "prior=frames", f"prior.path={tmp_path / 'made'}") is None
    assert Request(compose_run(settings(picture))).key(str(tmp_path / "made")) is None


def test_links_to_folders_are_followed(picture, tmp_path):
    for name in ("made", "elsewhere"):
        (tmp_path / name).mkdir()
    (tmp_path / "made" / "inner").symlink_to("../elsewhere")
    frames = ("prior=frames", f"prior.path={tmp_path / 'made'}")
    before = key(picture, *frames)
    (tmp_path / "elsewhere" / "0.png").write_bytes(b"1")
    assert before is not None and key(picture, *frames) not in (None, before)
    (tmp_path / "elsewhere" / "circle").symlink_to("../made")
    assert key(picture, *frames) is not None, "a circle ends"


def test_any_name_of_a_picture_counts(picture):
    request = Request(compose_run(settings(picture)))
    odd = picture.with_name("a\nb.png")
    odd.write_bytes(b"1")
    before = request.key(str(odd))
    odd.write_bytes(b"12")
    assert request.key(str(odd)) != before


def test_results_beside_pictures_are_no_input(picture, monkeypatch):
    monkeypatch.chdir(picture.parent)
    for image in (".", "coffee"):
        request = Request(compose_run([*MINIMAL, f"image={image}", "output=."]))
        before = request.key(image)
        (picture.parent / "coffee" / "scene").mkdir(parents=True, exist_ok=True)
        (picture.parent / "coffee" / "scene" / "metrics.json").write_text("{}")
        assert request.key(image) == before is not None


def test_a_plugin_that_was_edited_counts(picture, tmp_path, monkeypatch):
    code = (
        "from lift.planners.single import Single\nfrom lift.planners import planners\n\n\n"
        "@planners.register('own_single')\nclass Own(Single):\n    'A copy.'\n"
    )
    file = tmp_path / "own_single_planner.py"
    file.write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    __import__("own_single_planner")
    first = key(picture, "planner=single")
    own = settings(picture, "planner.name=own_single")
    before = request_key(compose_run(own))
    file.write_text(code + "\n# edited\n")
    assert request_key(compose_run(own)) != before
    assert key(picture, "planner=single") == first


@pytest.mark.slow
def test_a_finished_run_is_passed_over_until_something_changes(picture, monkeypatch):
    command = ("run", *settings(picture))
    first = here(*command, cwd=picture.parent)
    assert first.returncode == 0 and PASSED not in first.stderr, first.stderr
    folder = Path(first.stdout.split()[-1])
    before = files_of(folder)

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "run", None)
        second = here(*command, cwd=picture.parent)
    assert second.returncode == 0 and second.stdout == first.stdout
    told = second.stderr.splitlines()
    notes = [line for line in told if line.startswith("note: ")]
    verdict = "\n".join(told[1 + len(notes) :])
    assert told[: 1 + len(notes)] == [PASSED, *notes] and notes
    assert all(note in first.stderr for note in notes)
    assert "scene" in verdict.lower() and first.stderr.endswith(f"{verdict}\n")
    assert files_of(folder) == before

    again = here(*command, "--redeliver", cwd=picture.parent)
    assert again.returncode == 0 and PASSED not in again.stderr
    assert files_of(folder) != before
    assert PASSED in here(*command, cwd=picture.parent).stderr

    (folder / "report.html").unlink()
    repaired = here(*command, cwd=picture.parent)
    assert PASSED not in repaired.stderr and (folder / "report.html").is_file()

    content = (folder / "gaussians.ply").read_bytes()
    (folder / "gaussians.ply").write_bytes(content[:-1] + b"\0")  # of the same size
    repaired = here(*command, cwd=picture.parent)
    assert PASSED not in repaired.stderr and (folder / "gaussians.ply").read_bytes() == content

    (folder / "notes.txt").write_text("mine")
    assert PASSED in here(*command, cwd=picture.parent).stderr, "no run has written it"

    Image.fromarray(data.chelsea()[:96, :128]).save(picture)
    other = here(*command, cwd=picture.parent)
    assert other.returncode == 0 and other.stdout != first.stdout and PASSED not in other.stderr


@pytest.mark.slow
def test_a_batch_passes_over_finished_pictures(picture, monkeypatch):
    other = picture.with_name("other.png")
    Image.fromarray(data.chelsea()[:96, :128]).save(other)
    monkeypatch.setattr("lift.batch.jobs.LocalEngine", InlineEngine)
    command = ["batch", str(picture), str(other), *settings(picture)[1:]]
    first = here(*command, cwd=picture.parent)
    assert first.returncode == 0, first.stderr
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "run", None)
        second = here(*command, cwd=picture.parent)
    assert second.returncode == 0 and second.stdout == first.stdout, second.stderr
    os.utime(other, ns=(1, 1))
    made = []
    run = pipeline.run
    monkeypatch.setattr(
        pipeline, "run", lambda config, title: made.append(title) or run(config, title)
    )
    assert here(*command, cwd=picture.parent).returncode == 0
    assert made == ["other"]
    assert here(*command, "--redeliver", cwd=picture.parent).returncode == 0
    assert made == ["other", "photo", "other"]


@pytest.mark.slow
def test_a_named_run_with_other_settings_is_not_the_finished_one(picture):
    named = settings(picture, "name=scene")
    assert here("run", *named, cwd=picture.parent).returncode == 0
    config = compose_run(named)
    folder = find_finished(config)
    assert folder is not None and folder.name == "scene"
    assert read_manifest(folder)["request"] == request_key(config)
    assert find_finished(compose_run([*named, "redeliver=true"])) is None
    assert find_finished(compose_run([*named, "seed=1"])) is None
    draft = folder.with_name(".scene.draft")
    shutil.copytree(folder, draft)
    unnamed = compose_run(settings(picture))
    manifest = read_manifest(draft) | {"request": request_key(unnamed)}
    (draft / MANIFEST).write_text(json.dumps(seal(manifest)))
    assert find_finished(unnamed) is None, "a draft is no result"
    times = (folder / "metrics.json").stat()
    content = (folder / "metrics.json").read_text()
    (folder / "metrics.json").write_text(content.replace("{", "[", 1))
    os.utime(folder / "metrics.json", ns=(times.st_atime_ns, times.st_mtime_ns))
    assert find_finished(config) is None, "its verdict cannot be printed"
    (folder / MANIFEST).write_text("{")
    assert find_finished(config) is None


@pytest.mark.slow
def test_stages_go_when_a_scene_is_delivered(picture):
    command = ("run", *settings(picture, "cache.keep=false"))
    done = here(*command, cwd=picture.parent)
    assert done.returncode == 0, done.stderr
    assert not [path for path in (picture.parent / "out/cache").iterdir() if path.is_dir()]
    assert PASSED in here(*command, cwd=picture.parent).stderr


def test_code_is_the_same_wherever_it_is_installed(tmp_path, monkeypatch):
    states = []
    for folder in ("one", "two", "other"):
        root = tmp_path / folder
        root.mkdir()
        (root / "module.py").write_text(f"x = {folder == 'other'}")
        os.utime(root / "module.py", (len(states), len(states)))
        monkeypatch.setattr(finished, "ROOT", root)
        states.append(finished._code_state.__wrapped__())
    assert states[0] == states[1] != states[2]
