"""`lift render` makes films of a finished run."""

import numpy as np
import pytest
from PIL import Image

from lift.io.video import read_frames
from tests.helpers.commands import here

pytestmark = pytest.mark.slow


def test_a_portrait_film_as_video_gif_and_pictures(finished_run, tmp_path):
    options = ("--preset", "swing", "--aspect", "9:16", "--seconds", "0.5", "--fps", "8")
    for name in ("film.mp4", "film.gif", "pictures"):
        done = here(
            "render", str(finished_run), *options, "--size", "36", "--to", name, cwd=tmp_path
        )
        assert done.returncode == 0 and done.stdout == f"{name}\n", done.stderr
    pictures = [
        np.asarray(Image.open(path)) for path in sorted((tmp_path / "pictures").glob("*.png"))
    ]
    assert len(pictures) == 4 and pictures[0].shape == (64, 36, 3)
    for name in ("film.mp4", "film.gif"):
        frames = read_frames(tmp_path / name).images
        assert frames.shape == (4, 64, 36, 3)
        difference = np.abs(frames[1].numpy().astype(float) - pictures[1])
        assert difference.mean() < 12, name


def test_depth_and_normals_are_films_of_their_own(finished_run, tmp_path):
    shown = {}
    for kind in ("color", "depth", "normal"):
        done = here(
            *("render", str(finished_run), "--kind", kind, "--seconds", "0.1", "--fps", "20"),
            *("--to", kind),
            cwd=tmp_path,
        )
        assert done.returncode == 0, done.stderr
        shown[kind] = np.asarray(Image.open(tmp_path / kind / "000000.png")).astype(float)
    assert all(picture.shape == (64, 96, 3) for picture in shown.values())
    assert np.abs(shown["color"] - shown["depth"]).mean() > 20
    assert shown["normal"][..., 2].mean() > 140, "surfaces face the camera"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--to", "a.avi"), "lift: the output is 'a.avi'; choose a name that ends with .mp4"),
        (("--to", "a.mp4", "--aspect", "wide"), "lift: aspect is 'wide'; choose input, 16:9"),
        (("--to", "a.mp4", "--size", "9000"), "lift: size is 9000; choose from 16 to 4320"),
        (("--to", "a.gif", "--fps", "60"), "lift: fps is 60; choose at most 50 for a GIF"),
    ],
)
def test_a_wrong_option_is_one_line(finished_run, tmp_path, options, message):
    done = here("render", str(finished_run), *options, cwd=tmp_path)
    assert done.returncode != 0 and done.stderr.startswith(message), done.stderr
    assert done.stderr.count("\n") == 1 and list(tmp_path.iterdir()) == []
