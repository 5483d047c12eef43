"""`lift export` writes every format, tells its size and fidelity, and converts files."""

import json

import pytest

from lift.io.cameras import read_cameras
from lift.io.splats import SPLAT_FORMATS, read_ply, read_splats
from tests.helpers.commands import here


def test_all_formats_are_written_and_described(finished_run, tmp_path):
    done = here("export", str(finished_run), "all", "--folder", str(tmp_path / "out"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    names = [f"scene.{format}" for format in (*SPLAT_FORMATS, "html")]
    assert done.stdout.split() == [str(tmp_path / "out" / name) for name in names]
    found = {file.name for file in (tmp_path / "out").iterdir()}
    assert found == {*names, "scene.cameras.json"}
    lines = done.stderr.splitlines()
    assert sum("dB to the scene at the input view" in line for line in lines) == 7
    assert "scene.glb: glTF 2.0 with KHR_gaussian_splatting" in done.stderr
    assert "release candidate" in done.stderr


def test_cameras_lie_beside_a_file(finished_run, tmp_path):
    done = here("export", str(finished_run), "a.v4.spz", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    cameras = read_cameras(tmp_path / "a.cameras.json")
    inputs = read_cameras(finished_run / "transforms.json")
    path = read_cameras(finished_run / "fly_through.json")
    frames = json.loads((tmp_path / "a.cameras.json").read_text())["frames"]
    assert len(frames) == 1 + len(path)
    assert cameras.world_to_camera[:1].allclose(inputs.world_to_camera[:1], atol=1e-5)
    assert cameras.world_to_camera[1:].allclose(path.world_to_camera, atol=1e-5)


def test_a_file_is_converted_to_another_format(finished_run, tmp_path):
    ply = finished_run / "gaussians.ply"
    for source, target in ((ply, "a.sog"), ("a.sog", "b.glb"), ("b.glb", "c.ply")):
        done = here("export", str(source), target, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert len(read_ply(tmp_path / "c.ply")) == len(read_ply(ply))
    assert read_splats(tmp_path / "b.glb").means.equal(read_ply(tmp_path / "c.ply").means)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("RUN", "a.obj"), "'a.obj' ends with none of .ply, .compressed.ply, .splat, .ksplat"),
        (("RUN", "a"), "'a' ends with none of .ply"),
        (("RUN", "a.sog", "--folder", "x"), "--folder is for `all`; OUT is 'a.sog'"),
        (("PLY", "all"), "`all` needs a run's folder"),
        (("RUN", "PLY"), "gaussians.ply' is a result of the run"),
        (("RUN", "a.v5.spz"), "'a.v5.spz' names version 5 of spz; choose a name that ends with"),
        (("RUN", ".html"), "'.html' is only an ending"),
        (("RUN", ".ply"), "'.ply' is only an ending; choose a name before it"),
        (("RUN", "a.sog/b.ply"), "a.sog' is a file, not a folder; choose another folder"),
        (("RUN", "a.ply", "--title", "x"), "a title and a caption are for a page"),
        (("PLY", "a.ply", "--caption", "x"), "--title and --caption are for a page of a run"),
        (("PLY", "a.html"), "a share page is made of a run's folder"),
        (("a.ksplat", "a.ply"), "ksplat is only written; files of ply, compressed.ply"),
        (("a.sog", "a.ply"), "'a.sog' is no readable sog file: it is damaged"),
    ],
)
def test_mistakes_are_one_line(finished_run, tmp_path, arguments, message):
    (tmp_path / "a.ksplat").write_bytes(b"x")
    (tmp_path / "a.sog").write_bytes(b"x")
    names = {"RUN": str(finished_run), "PLY": str(finished_run / "gaussians.ply")}
    done = here("export", *(names.get(name, name) for name in arguments), cwd=tmp_path)
    assert done.returncode == 2 and message in done.stderr, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "a.ply").exists()
