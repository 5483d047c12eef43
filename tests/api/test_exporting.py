"""An export replaces neither its source nor results of a run."""

import json
from types import SimpleNamespace

import pytest

from lift.api.exporting import export_file, export_scene
from lift.api.films import save_film
from lift.io.splats import export
from lift.outputs.films import FilmSource
from tests.helpers.splats import random_gaussians


@pytest.fixture
def run(tmp_path):
    """A folder with the files of a run that these checks look at."""
    folder = tmp_path / "run"
    (folder / "frames").mkdir(parents=True)
    (folder / "provenance.json").write_text(json.dumps({"stages": [{"key": "one"}]}))
    for name in ("video.mp4", "report.html", "gaussians.ply", "frames/000000.png"):
        (folder / name).write_text("result")
    return folder


def test_a_file_is_not_converted_to_itself(tmp_path):
    path = tmp_path / "a.ply"
    export(random_gaussians(10, 0), path)
    (tmp_path / "b.ply").symlink_to(path)
    before = path.stat().st_mtime_ns
    for target in (path, tmp_path / "b.ply"):
        with pytest.raises(ValueError, match="is the file to convert; choose another name"):
            export_file(path, target)
    assert path.stat().st_mtime_ns == before


@pytest.mark.parametrize("name", ["gaussians.ply", "report.html"])
def test_an_export_does_not_replace_a_result(run, name):
    with pytest.raises(ValueError, match=f"{name}' is a result of the run"):
        export_scene(SimpleNamespace(), run / name)
    assert (run / name).read_text() == "result"


@pytest.mark.parametrize("name", ["video.mp4", "frames"])
def test_a_film_does_not_replace_a_result(run, name):
    with pytest.raises(ValueError, match=f"{name}' is a result of the run"):
        save_film(object.__new__(FilmSource), run / name, "orbit", None, {})
