"""Whole runs with odd names, in odd locales, on full disks, and without ffmpeg."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from skimage import data

from lift.io.splats import export
from tests.helpers.commands import lift
from tests.helpers.scenes import write_small_scene
from tests.helpers.settings import MINIMAL

C_LOCALE = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}

LIMITED = (
    "import resource, sys; kind, limit = sys.argv[1], int(sys.argv[2]); del sys.argv[1:3]; "
    "resource.setrlimit(getattr(resource, kind), (limit, limit)); "
    "from lift.cli import main; raise SystemExit(main())"
)
"""A run of `lift` under a limit of the system: its name and value come first."""


def save_picture(folder: Path, name: bytes) -> str:
    path = os.fsdecode(os.path.join(os.fsencode(folder), name))
    with open(path, "wb") as stream:
        Image.fromarray(data.coffee()[:96, :128]).save(stream, "png")
    return path


def run(image: str, output: Path, *start: str, **variables: str) -> subprocess.CompletedProcess:
    arguments = ["run", f"image={image}", *MINIMAL, f"output={output}"]
    variables = {"OMP_NUM_THREADS": "1", **variables}
    if not start:
        return lift(*arguments, **variables)
    command = [sys.executable, *start, *arguments]
    environment = {**os.environ, **variables}
    return subprocess.run(
        command, capture_output=True, text=True, errors="surrogateescape", env=environment
    )


def message(done: subprocess.CompletedProcess) -> str:
    """Return the last line of a run that failed, which must be the only sign of the error."""
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return done.stderr.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.parametrize("name", [b"...png", b"a\nb.png", b"nul.png"])
def test_a_run_stays_in_its_output_whatever_the_name(tmp_path, name):
    image = save_picture(tmp_path, name)
    output = tmp_path / "parent" / "out"
    output.mkdir(parents=True)
    others = [output.parent / "metrics.json", output / "cache" / "metrics.json"]
    for other in others:
        other.parent.mkdir(exist_ok=True)
        other.write_text("mine")
    done = run(image, output)
    assert done.returncode == 0, done.stderr
    folder = Path(done.stdout.strip())
    assert folder.resolve().parent.parent == output.resolve() and folder.parent.name != "cache"
    assert (folder / "report.html").is_file()
    assert [other.read_text() for other in others] == ["mine", "mine"]
    assert [path.name for path in output.parent.iterdir() if path != output] == ["metrics.json"]


@pytest.mark.slow
@pytest.mark.parametrize("variables", [{}, C_LOCALE], ids=["utf-8", "C"])
@pytest.mark.parametrize("name", [b"caf\xe9.png", "写真é.png".encode()], ids=["latin-1", "utf-8"])
def test_a_name_in_any_encoding_ends_in_a_scene(tmp_path, name, variables):
    done = run(save_picture(tmp_path, name), tmp_path / "out", **variables)
    assert done.returncode == 0, done.stderr
    folder = Path(done.stdout.strip())
    assert (folder / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    for file in ("metrics.json", "provenance.json"):
        json.loads((folder / file).read_text(encoding="utf-8"))
    assert lift("export", str(folder), str(tmp_path / "a.splat"), **variables).returncode == 0


def test_an_output_that_cannot_be_written_is_refused_first(tmp_path):
    output = Path(os.fsdecode(os.fsencode(tmp_path) + b"/o\xe9"))
    assert "which is no text in this system's encoding" in message(run("coffee", output))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_without_ffmpeg_only_the_video_is_missing(tmp_path):
    tool = tmp_path / "ffmpeg"
    tool.write_text("#!/bin/sh\necho broken tool >&2\nexit 1\n")
    tool.chmod(0o755)
    done = run("coffee", tmp_path / "out", IMAGEIO_FFMPEG_EXE=str(tool))
    assert done.returncode == 0, done.stderr
    folder = Path(done.stdout.strip())
    assert not (folder / "video.mp4").exists()
    assert (folder / "gaussians.ply").is_file() and (folder / "fly_through.jpg").is_file()
    assert "note: the scene has no video.mp4: ffmpeg fails" in done.stderr
    notes = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))["notes"]
    assert any("no video.mp4" in note and "broken tool" in note for note in notes)
    report = (folder / "report.html").read_text(encoding="utf-8")
    assert "no video.mp4" in report and "<video" not in report


@pytest.mark.slow
def test_a_limit_on_files_is_one_line_and_the_run_goes_on(tmp_path):
    output = tmp_path / "out"
    done = run("coffee", output, "-c", LIMITED, "RLIMIT_FSIZE", "60000")
    assert message(done).startswith("lift: the limit on the size of a file is reached")
    assert str(tmp_path) in message(done)
    done = run("coffee", output)
    assert done.returncode == 0 and "found" in done.stderr, "stages before the limit are kept"


@pytest.mark.slow
@pytest.mark.parametrize("size", ["100k", "400k"])
def test_a_full_disk_is_one_line_and_the_run_goes_on(tmp_path, size):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root can make a small disk")
    try:
        assert message(run("coffee", disk / "out")).startswith(f"lift: the disk is full: {disk}")
        subprocess.run(["mount", "-o", "remount,size=50m", str(disk)], check=True)
        assert run("coffee", disk / "out").returncode == 0
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("gigabytes", [1.7])
def test_a_run_that_met_a_memory_limit_goes_on(tmp_path, gigabytes):
    limit = str(int(gigabytes * 2**30))
    done = run("coffee", tmp_path / "out", "-c", LIMITED, "RLIMIT_AS", limit)
    if done.returncode > 0:  # below 0 a library, such as numba's compiler, ended the process
        assert message(done).startswith(("lift: the memory is used up", "lift: no further thread"))
    assert run("coffee", tmp_path / "out").returncode == 0


def test_a_failed_export_leaves_no_file(tmp_path):
    resource = pytest.importorskip("resource")
    scene = write_small_scene(tmp_path)
    export(scene, tmp_path / "old.splat")
    old = (tmp_path / "old.splat").read_bytes()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        for name in ("new.splat", "old.splat", "new.ply"):
            with pytest.raises(OSError, match="File too large"):
                export(scene, tmp_path / name)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (tmp_path / "old.splat").read_bytes() == old
    assert not list(tmp_path.glob("*new*")) and not list(tmp_path.glob(".*"))
