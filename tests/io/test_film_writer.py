"""Films are written while they are rendered, whole or not at all."""

import os

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from lift.io.film_writer import check_film_path, write_film_file
from lift.io.video_writer import VideoToolError

SIZE = (33, 17)


def moving(count: int):
    """Yield frames with a bar that moves."""
    for number in range(count):
        frame = np.full((SIZE[1], SIZE[0], 3), 40, np.uint8)
        frame[:, 3 * number : 3 * number + 3] = (200, 120, 30)
        yield frame


def broken(count: int):
    """Fail in the middle, as an interrupted render does."""
    yield from moving(count)
    raise KeyboardInterrupt


def durations(path) -> list[int]:
    with Image.open(path) as image:
        found = []
        for number in range(image.n_frames):
            image.seek(number)
            image.load()
            found.append(image.info["duration"])
        assert image.info.get("loop") == 0, "it repeats forever"
        return found


@pytest.mark.parametrize("suffix", ["mp4", "webm"])
def test_videos_hold_every_frame(tmp_path, suffix):
    path = tmp_path / "new" / f"film.{suffix}"
    write_film_file(path, moving(8), SIZE, 10)
    reader = imageio_ffmpeg.read_frames(str(path))
    meta = next(reader)
    frames = [np.frombuffer(data, np.uint8).reshape(18, 34, 3) for data in reader]
    assert meta["codec"] == {"mp4": "h264", "webm": "vp9"}[suffix] and meta["fps"] == 10
    assert len(frames) == 8
    truth = list(moving(8))[5].astype(float)
    assert np.abs(frames[5][:17, :33] - truth).mean() < 12


def test_a_gif_keeps_colours_and_time(tmp_path):
    path = tmp_path / "film.gif"
    write_film_file(path, moving(8), SIZE, 25)
    assert durations(path) == [40] * 8
    with Image.open(path) as image:
        image.seek(3)
        picture = np.asarray(image.convert("RGB")).astype(float)
    assert picture.shape == (17, 33, 3), "odd sizes stay"
    assert np.abs(picture - list(moving(8))[3]).mean() < 6


def test_a_webp_keeps_colours_and_time(tmp_path):
    path = tmp_path / "film.webp"
    write_film_file(path, moving(9), SIZE, 30)
    assert sum(durations(path)) == 300 and len(durations(path)) == 9
    with Image.open(path) as image:
        image.seek(3)
        picture = np.asarray(image.convert("RGB")).astype(float)
    assert np.abs(picture - list(moving(9))[3]).mean() < 6


def test_a_folder_holds_exact_pictures(tmp_path):
    write_film_file(tmp_path / "film", moving(3), SIZE, 30)
    write_film_file(tmp_path / "film", moving(2), SIZE, 30)
    names = sorted(path.name for path in (tmp_path / "film").iterdir())
    assert names == ["000000.png", "000001.png"], "nothing is left of a longer film"
    with Image.open(tmp_path / "film" / "000001.png") as image:
        assert (np.asarray(image) == list(moving(2))[1]).all()


@pytest.mark.parametrize("name", ["a.mp4", "a.webm", "a.gif", "a.webp", "a"])
def test_an_interrupted_film_leaves_nothing(tmp_path, name):
    with pytest.raises(KeyboardInterrupt):
        write_film_file(tmp_path / name, broken(3), SIZE, 10)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a.webp", "a"])
def test_pictures_need_no_ffmpeg(tmp_path, monkeypatch, name):
    def missing() -> str:
        raise RuntimeError("No ffmpeg exe could be found.")

    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", missing)
    write_film_file(tmp_path / name, moving(2), SIZE, 10)
    assert (tmp_path / name).exists()
    choices = "ffmpeg is not found .*webp and a folder of PNG files need no ffmpeg"
    with pytest.raises(VideoToolError, match=choices):
        write_film_file(tmp_path / "a.gif", moving(2), SIZE, 10)


def test_other_outputs_are_refused_by_name(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "holiday.jpg").touch()
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("nowhere")
    for name, fps, message in (
        ("a.avi", 10, r"'.*a\.avi'; choose a name that ends with \.mp4, \.webm, \.gif, \.webp, or"),
        ("photos", 10, "has other files, such as 'holiday.jpg'; choose a new folder"),
        ("file", 10, "a file; choose a name that ends with"),
        ("link", 10, "a file; choose a name that ends with"),
        ("pipe", 10, "a device; choose a name that ends with"),
        ("a.gif", 60, "fps is 60; choose at most 50 for a GIF"),
    ):
        with pytest.raises(ValueError, match=message):
            check_film_path(tmp_path / name, fps)
