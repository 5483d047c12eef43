"""The folder of a run is replaced as a whole, and the user's own files stay."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from lift.outputs import publication
from lift.outputs.publication import (
    check_no_result,
    check_run_folder,
    publish_run,
    read_scene_key,
)
from lift.runtime import atomic_io
from lift.runtime.integrity import MANIFEST, read_manifest, verify_files

FRAMES = {"one": "000001.png", "two": "000002.png", "three": "000003.png"}
posix = pytest.mark.skipif(os.name != "posix", reason="links are POSIX")


def write_results(folder: Path, key: str) -> None:
    provenance = {"stages": [{"key": "earlier"}, {"key": key}]}
    (folder / "provenance.json").write_text(json.dumps(provenance))
    (folder / "gaussians.ply").write_text(key)
    (folder / "frames").mkdir()
    (folder / "frames" / FRAMES[key]).write_text(key)


def deliver(folder: Path, key: str, say=lambda line: None) -> None:
    with publish_run(folder, key, say) as draft:
        write_results(draft, key)


def names(folder: Path) -> list[str]:
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()
    )


def visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


def test_a_result_appears_as_a_whole(tmp_path):
    folder = tmp_path / "coffee" / "run"
    with publish_run(folder, "one", lambda line: None) as draft:
        write_results(draft, "one")
        assert not folder.exists() and draft.parent == folder.parent
    assert names(folder) == ["frames/000001.png", "gaussians.ply", MANIFEST, "provenance.json"]
    verify_files(folder, read_manifest(folder))
    assert read_scene_key(folder) == "one" and visible(folder.parent) == ["run"]


def test_the_old_result_stays_until_the_new_one_is_complete(tmp_path):
    folder, lines = tmp_path / "run", []
    deliver(folder, "one")
    with publish_run(folder, "two", lines.append) as draft:
        write_results(draft, "two")
        assert read_scene_key(folder) == "one"
        verify_files(folder, read_manifest(folder))
    assert read_scene_key(folder) == "two" and not (folder / "frames/000001.png").exists()
    assert len(lines) == 1 and "another scene; it is replaced" in lines[0]


def test_a_failed_delivery_leaves_the_old_result(tmp_path):
    deliver(tmp_path / "run", "one")
    with (
        pytest.raises(OSError, match="disk full"),
        publish_run(tmp_path / "run", "two", lambda line: None) as draft,
    ):
        write_results(draft, "two")
        raise OSError("disk full")
    assert read_scene_key(tmp_path / "run") == "one" and visible(tmp_path) == ["run"]


KILLED = """
import os, signal, sys
from pathlib import Path
from lift.outputs.publication import publish_run
with publish_run(Path(sys.argv[1]), "two", print) as draft:
    (draft / "gaussians.ply").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="kill -9 is POSIX")
def test_a_killed_delivery_leaves_the_old_result(tmp_path):
    folder = tmp_path / "run"
    deliver(folder, "one")
    subprocess.run([sys.executable, "-c", KILLED, str(folder)])
    assert (folder / "gaussians.ply").read_text() == "one"
    assert (tmp_path / ".run.draft" / "gaussians.ply").read_text() == "half"
    deliver(folder, "three")
    assert read_scene_key(folder) == "three" and visible(tmp_path) == ["run"]


@pytest.mark.parametrize("has_manifest", [True, False])
def test_files_of_the_user_are_kept(tmp_path, has_manifest):
    folder = tmp_path / "run"
    deliver(folder, "one")
    (folder / "csv").mkdir()
    if not has_manifest:
        (folder / MANIFEST).unlink()
    (folder / "notes.txt").write_text("mine")
    (folder / "crops" / "left").mkdir(parents=True)
    (folder / "crops" / "left" / "a.png").write_text("mine")
    (folder / "frames" / "holiday.jpg").write_text("mine")
    (folder / "gaussians.blend").write_text("mine")
    (folder / "link").symlink_to("notes.txt")
    (folder / "video.mp4").write_text("of an older run") if not has_manifest else None
    deliver(folder, "two")
    mine = ["crops/left/a.png", "frames/holiday.jpg", "gaussians.blend", "link", "notes.txt"]
    results = ["frames/000002.png", "gaussians.ply", MANIFEST, "provenance.json"]
    assert names(folder) == sorted(mine + results)
    assert (folder / "notes.txt").read_text() == "mine" and (folder / "link").is_symlink()
    assert set(read_manifest(folder)["files"]) == set(results) - {MANIFEST}


def start_second(folder: Path, key: str) -> tuple[threading.Thread, list[str], list[Exception]]:
    lines, errors = [], []

    def work() -> None:
        try:
            deliver(folder, key, lines.append)
        except ValueError as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    return thread, lines, errors


@pytest.mark.parametrize("same", [True, False])
def test_a_second_run_waits_and_does_not_replace_another_scene(tmp_path, same):
    folder = tmp_path / "run"
    started = threading.Event()
    with publish_run(folder, "one", lambda line: None) as draft:
        write_results(draft, "one")
        thread, lines, errors = start_second(folder, "one" if same else "two")
        for _ in range(200):
            if lines:
                break
            started.wait(0.02)
        assert lines and "waiting for another run" in lines[0]
    thread.join(20)
    assert read_scene_key(folder) == "one"
    if same:
        assert not errors
    else:
        (error,) = errors
        assert "choose another name=NAME" in str(error) and str(folder) in str(error)


def test_jobs_of_a_multirun_do_not_share_a_folder(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    monkeypatch.setenv("LIFT_MULTIRUN", "m")
    monkeypatch.setenv("LIFT_MULTIRUN_JOB", "0")
    deliver(folder, "one")
    deliver(folder, "one")
    monkeypatch.setenv("LIFT_MULTIRUN_JOB", "1")
    with pytest.raises(ValueError, match="has the result of job 0 of this multirun"):
        deliver(folder, "two")
    assert read_scene_key(folder) == "one"
    monkeypatch.setenv("LIFT_MULTIRUN", "n")
    deliver(folder, "two")
    assert read_scene_key(folder) == "two" and len(list(folder.glob(".multirun-*"))) == 1


def test_a_file_in_place_of_the_folder_is_kept(tmp_path):
    (tmp_path / "run").write_text("precious")
    with pytest.raises(FileExistsError, match="is a file"):
        deliver(tmp_path / "run", "one")
    assert (tmp_path / "run").read_text() == "precious" and visible(tmp_path) == ["run"]


@posix
def test_a_linked_folder_is_replaced_where_it_is(tmp_path):
    (tmp_path / "disk").mkdir()
    deliver(tmp_path / "disk" / "run", "one")
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "run")
    deliver(tmp_path / "link", "two")
    assert (tmp_path / "link").is_symlink()
    assert read_scene_key(tmp_path / "disk" / "run") == "two"


MINE = ("config.yaml", "frames/holiday.jpg", "gaussians.blend", "manifest.json", "notes.txt")


def write_files(folder: Path, *files: str) -> Path:
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}")
    return folder


@pytest.mark.parametrize("count", [1, 5])
def test_a_folder_that_no_run_has_written_is_refused(tmp_path, count):
    folder = write_files(tmp_path / "run", *MINE[:count])
    with pytest.raises(ValueError, match="no run has written, such as config.yaml; choose another"):
        check_run_folder(folder)
    with pytest.raises(ValueError, match="no run has written"):
        deliver(folder, "one")
    assert names(folder) == list(MINE[:count]) and visible(tmp_path) == ["run"]


def test_an_empty_folder_is_used(tmp_path):
    (tmp_path / "run" / "frames").mkdir(parents=True)
    deliver(tmp_path / "run", "one")
    assert read_scene_key(tmp_path / "run") == "one"


@pytest.mark.parametrize("has_manifest", [True, False])
@posix
def test_results_are_no_outputs_of_other_commands(tmp_path, has_manifest):
    run = tmp_path / "run"
    deliver(run, "one")
    write_files(run, "frames.mp4", "exports/scene.spz")
    if not has_manifest:
        (run / MANIFEST).unlink()
    (tmp_path / "link").symlink_to("run")
    for name in ("run/gaussians.ply", "run/frames", "link/gaussians.ply", f"run/{MANIFEST}"):
        with pytest.raises(ValueError, match=f"{name}' is a result of the run '.*/(run|link)'"):
            check_no_result(tmp_path / name)
    for name in ("run/frames.mp4", "run/exports", "run/exports/scene.spz", "run/a.ply", "frames"):
        check_no_result(tmp_path / name)


@pytest.fixture
def other_user(monkeypatch) -> set[Path]:
    """Paths that belong to another user."""
    theirs: set[Path] = set()
    for module in (publication, atomic_io):
        monkeypatch.setattr(module, "is_own", lambda path: path not in theirs)
    return theirs


@posix
@pytest.mark.parametrize("theirs", ["link", "victim"])
def test_links_of_others_do_not_lead_a_delivery(tmp_path, other_user, theirs):
    victim = tmp_path / "victim"
    deliver(victim, "one")
    (tmp_path / "link").symlink_to(victim)
    other_user.add(tmp_path / theirs)
    with pytest.raises(ValueError, match=r"link .*of another user, which is not"):
        deliver(tmp_path / "link", "two")
    assert read_scene_key(victim) == "one"


@posix
def test_a_linked_folder_of_scenes_needs_a_trusted_owner(tmp_path, other_user):
    deliver(tmp_path / "victim" / "run", "one")
    (tmp_path / "coffee").symlink_to(tmp_path / "victim")
    deliver(tmp_path / "coffee" / "run", "two")
    other_user.add(tmp_path / "coffee")
    if os.geteuid() == 0:  # links of the administrator are followed
        os.lchown(tmp_path / "coffee", 65534, -1)
    with pytest.raises(ValueError, match="is a link of another user"):
        deliver(tmp_path / "coffee" / "run", "three")
    assert read_scene_key(tmp_path / "victim" / "run") == "two"


@posix
def test_a_link_in_place_of_the_old_result_is_not_taken(tmp_path):
    victim = write_files(tmp_path / "victim", "secret")
    (tmp_path / ".run.old").symlink_to(victim)
    deliver(tmp_path / "run", "one")
    assert names(victim) == ["secret"] and "secret" not in names(tmp_path / "run")
    assert not (tmp_path / "run").is_symlink() and visible(tmp_path) == ["run", "victim"]


@posix
def test_files_of_others_are_copied_and_their_links_left_out(tmp_path, other_user):
    folder = tmp_path / "run"
    deliver(folder, "one")
    write_files(folder, "mine.txt", "theirs.txt")
    (folder / "theirs").symlink_to("mine.txt")
    other_user.update((folder / "theirs.txt", folder / "theirs"))
    inodes = {name: (folder / name).stat().st_ino for name in ("mine.txt", "theirs.txt")}
    deliver(folder, "two")
    assert (folder / "mine.txt").stat().st_ino == inodes["mine.txt"]
    assert (folder / "theirs.txt").stat().st_ino != inodes["theirs.txt"]
    assert not os.path.lexists(folder / "theirs")
