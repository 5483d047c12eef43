"""Films are written while they are rendered, whole or not at all."""

import json
import os

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from lift.io.film_writer import check_film_path, check_film_size, write_film_file
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
    assert names == ["000000.png", "000001.png", "film.json"], "nothing is left of a longer film"
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


def test_a_webp_that_needs_too_much_memory_is_refused(tmp_path):
    choices = "need 3.5 GiB .*choose .mp4, a folder, fewer seconds or a smaller size"
    with pytest.raises(ValueError, match=choices):
        check_film_size(tmp_path / "a.webp", (1920, 1080), 600)
    check_film_size(tmp_path / "a.webp", (1920, 1080), 300)
    check_film_size(tmp_path / "a.mp4", (1920, 1080), 10**6)
    check_film_size(tmp_path / "a", (1920, 1080), 10**6)


def test_a_webp_with_a_long_side_is_refused(tmp_path):
    with pytest.raises(ValueError, match="16384 x 10 pixels; choose at most 16383 pixels a side"):
        check_film_size(tmp_path / "a.webp", (16384, 10), 2)
    check_film_size(tmp_path / "a.webp", (16383, 10), 2)


def test_pictures_without_a_film_record_are_kept(tmp_path):
    (tmp_path / "000000.png").touch()
    with pytest.raises(ValueError, match="such as '000000.png'; choose a new folder"):
        check_film_path(tmp_path, 10)


def test_a_picture_beside_an_earlier_film_is_kept(tmp_path):
    film = tmp_path / "film"
    write_film_file(film, moving(2), SIZE, 10, {"kind": "color"})
    assert json.loads((film / "film.json").read_text())["kind"] == "color"
    check_film_path(film, 10)
    (film / "000002.png").touch()
    with pytest.raises(ValueError, match="such as '000002.png'"):
        check_film_path(film, 10)


@pytest.mark.parametrize(
    "text", ["[]", '{"frames": 1}', '{"lift": "1", "frames": "x"}', "[" * 9999]
)
def test_another_record_is_no_proof_of_a_film(tmp_path, text):
    (tmp_path / "film.json").write_text(text)
    (tmp_path / "000000.png").touch()
    with pytest.raises(ValueError, match="no earlier film"):
        check_film_path(tmp_path, 10)


def test_a_folder_without_write_access_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(ValueError, match=r"a\.gif', but the folder '.*' cannot be written"):
        check_film_path(tmp_path / "a.gif", 10)


def test_other_outputs_are_refused_by_name(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "holiday.jpg").touch()
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "dirlink").symlink_to("photos")
    for name, fps, message in (
        ("a.avi", 10, r"'.*a\.avi'; choose a name that ends with \.mp4, \.webm, \.gif, \.webp, or"),
        ("photos", 10, "no earlier film of lift, such as 'holiday.jpg'; choose a new folder"),
        ("dirlink", 10, "a link to '.*photos'; choose that folder"),
        ("file/a/b.gif", 10, "'.*/file' is a file, not a folder; choose another folder"),
        ("x" * 300 + ".gif", 10, "a name of 304 bytes; choose a name of at most 255 bytes"),
        ("file", 10, "a file; choose a name that ends with"),
        ("link", 10, "a file; choose a name that ends with"),
        ("pipe", 10, "a device; choose a name that ends with"),
        ("a.gif", 60, "fps is 60; choose at most 50 for a GIF"),
    ):
        with pytest.raises(ValueError, match=message):
            check_film_path(tmp_path / name, fps)
