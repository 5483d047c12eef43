"""Animated pictures give back every frame, upright, square and within limits."""

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from lift.io.animations import is_animation
from lift.io.sources import open_source
from lift.io.video import decode_video, read_frames, video_size


def write(path: Path, count: int = 6, options: dict | None = None) -> np.ndarray:
    """Write grey noise whose brightness grows, and return the frames as Pillow reads them."""
    noise = np.random.default_rng(0).integers(0, 60, (count, 32, 48), dtype=np.uint8)
    values = noise + 30 * np.arange(count, dtype=np.uint8)[:, None, None]
    first, *others = [Image.fromarray(np.repeat(v[..., None], 3, 2)) for v in values]
    first.save(path, save_all=True, append_images=others, **(options or {}))
    return np.repeat(values[..., None], 3, 3)


@pytest.mark.parametrize(
    "options", [{}, {"duration": 0}, {"duration": 10}, {"duration": [100, 0, 0, 50, 0, 10]}]
)
def test_each_frame_of_a_gif_counts_once(tmp_path, options):
    frames = write(tmp_path / "a.gif", options=options)
    assert (np.abs(read_frames(tmp_path / "a.gif").images.numpy() - frames.astype(int)) < 8).all()
    assert len(open_source(str(tmp_path / "a.gif")).names) == 6
    (later,) = decode_video(tmp_path / "a.gif", [4])
    assert (np.abs(later - frames[4].astype(int)) < 8).all()


@pytest.mark.parametrize("suffix", ["png", "webp"])
def test_other_animations_are_read_as_frames(tmp_path, suffix):
    frames = write(tmp_path / f"a.{suffix}", options={"lossless": True})
    assert np.array_equal(read_frames(tmp_path / f"a.{suffix}").images.numpy(), frames)
    assert not is_animation(tmp_path / "none.gif")


def test_a_single_picture_is_no_animation(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    assert not is_animation(tmp_path / "a.png")


def test_pixels_of_a_gif_are_made_square(tmp_path):
    write(tmp_path / "a.gif")
    data = bytearray((tmp_path / "a.gif").read_bytes())
    data[12] = 113  # (113 + 15) / 64 = 2
    (tmp_path / "a.gif").write_bytes(data)
    assert video_size(tmp_path / "a.gif") == (96, 32)
    grey = next(decode_video(tmp_path / "a.gif", grey_side=24))
    assert grey.shape == (8, 24) and abs(float(grey.mean()) - 29.5) < 4


def test_animations_are_turned_upright(tmp_path):
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = 6
    frames = write(tmp_path / "a.webp", options={"lossless": True, "exif": tags.tobytes()})
    upright = read_frames(tmp_path / "a.webp").images.numpy()
    assert np.array_equal(upright, np.rot90(frames, -1, (1, 2)))


def test_transparent_parts_are_laid_over_white(tmp_path):
    pictures = [Image.new("RGBA", (8, 8), (200 - k, 0, 0, 255)) for k in range(3)]
    for picture in pictures:
        picture.paste((0, 0, 0, 0), (0, 0, 4, 8))
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:], disposal=2)
    images = read_frames(tmp_path / "a.gif").images
    assert len(images) == 3 and (images[:, :, :4] == 255).all()
    assert (images[:, :, 4:, 1] == 0).all()


def test_limits_hold_for_animations(tmp_path, monkeypatch):
    write(tmp_path / "a.gif")
    with monkeypatch.context() as patch:
        patch.setattr("lift.io.video.MAX_FRAMES", 5)
        with pytest.raises(ValueError, match="a.gif' has more than 5 frames"):
            read_frames(tmp_path / "a.gif")
    with monkeypatch.context() as patch:
        patch.setattr("lift.io.video.MAX_FRAME_PIXELS", 1000)
        with pytest.raises(ValueError, match="a.gif' has frames of 48 x 32 pixels"):
            read_frames(tmp_path / "a.gif")
    monkeypatch.setattr("lift.io.video._memory_limit", lambda: 5 * 48 * 32 * 3)
    with pytest.raises(ValueError, match="take more than .* GiB, half of the free memory"):
        read_frames(tmp_path / "a.gif")


def test_damaged_frames_are_named(tmp_path):
    write(tmp_path / "a.gif")
    data = (tmp_path / "a.gif").read_bytes()
    (tmp_path / "a.gif").write_bytes(data[: len(data) * 2 // 3])
    with pytest.raises(ValueError, match=r"^frame \d of '.*a.gif' is damaged"):
        read_frames(tmp_path / "a.gif")


def test_frames_beyond_the_first_one_are_bounded(tmp_path):
    write(tmp_path / "a.gif", 3)
    data = (tmp_path / "a.gif").read_bytes()
    start = data.rindex(b"," + struct.pack("<HH", 0, 0))
    huge = data[: start + 5] + struct.pack("<HH", 65535, 65535) + data[start + 9 :]
    (tmp_path / "a.gif").write_bytes(huge)
    with pytest.raises(ValueError, match=r"'.*a.gif' (has frames of|is damaged)"):
        read_frames(tmp_path / "a.gif")
