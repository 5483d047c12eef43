"""Videos and folders give back the frames, in order, in size and in colour."""

import shutil
import subprocess

import imageio_ffmpeg
import pytest
import torch

from lift.io.image import save_image
from lift.io.video import _passthrough, decode_video, picture_files, read_frames, video_size
from lift.io.video_writer import VideoToolError, write_video


def moving(number: int, height: int, width: int) -> torch.Tensor:
    """A smooth picture with a bright bar that moves right by 4 pixels a frame."""
    y, x = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    frames = torch.stack([60 + 80 * x, 60 + 80 * y, 100 + 0 * x], -1)[None].repeat(number, 1, 1, 1)
    for i in range(number):
        frames[i, :, 4 * i : 4 * i + 4] = 220
    return frames.to(torch.uint8)


@pytest.mark.parametrize("size", [(48, 64), (47, 65), (33, 50)])
def test_video_gives_back_its_frames(tmp_path, size):
    frames = moving(9, *size)
    write_video(tmp_path / "a.mp4", frames, 12.0)
    back = read_frames(tmp_path / "a.mp4").images
    height, width = (side + side % 2 for side in size)
    assert tuple(back.shape) == (9, height, width, 3)
    assert (back[:, : size[0], : size[1]].float() - frames.float()).abs().mean() < 3
    bars = back[:, size[0] // 2, :, 2].float().argmax(-1)
    assert ((bars - (4 * torch.arange(9) + 1.5)).abs() <= 2.5).all()
    if size[1] % 2:  # the repeated column
        assert (back[:, :, -1].float() - back[:, :, -2].float()).abs().mean() < 8


def test_colours_survive(tmp_path):
    colours = torch.tensor(
        [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [0, 0, 0], [128, 128, 128]],
        dtype=torch.uint8,
    )
    frames = colours[:, None, None].expand(-1, 32, 32, -1).contiguous()
    write_video(tmp_path / "a.mp4", frames, 5)
    back = read_frames(tmp_path / "a.mp4").images
    assert (back[:, 16, 16].int() - colours.int()).abs().max() <= 6


def test_every_browser_plays_it(tmp_path):
    write_video(tmp_path / "a.mp4", moving(5, 32, 32), 10)
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-i", str(tmp_path / "a.mp4")]
    facts = subprocess.run(command, capture_output=True, text=True).stderr
    assert "h264" in facts and "yuv420p" in facts and "bt709" in facts and "10 fps" in facts
    data = (tmp_path / "a.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")  # starts to play before it has come as a whole


def test_folder_in_natural_order(tmp_path):
    frames = torch.randint(0, 256, (12, 20, 24, 3), dtype=torch.uint8)
    for i, frame in enumerate(frames):
        save_image(tmp_path / f"frame_{i}.{'png' if i else 'PNG'}", frame)
    (tmp_path / "notes.txt").write_text("not a picture")
    assert torch.equal(read_frames(tmp_path).images, frames)
    save_image(tmp_path / "frame_99.png", frames[0, :10])
    with pytest.raises(
        ValueError, match="differ in size: frame_0.PNG is 24 x 20, frame_99.png is 24 x 10"
    ):
        read_frames(tmp_path)


def test_refusals(tmp_path):
    with pytest.raises(FileNotFoundError, match="no video file or folder"):
        read_frames(tmp_path / "missing.mp4")
    with pytest.raises(ValueError, match="holds no pictures"):
        read_frames(tmp_path)
    (tmp_path / "a.mp4").write_bytes(b"no video" * 100)
    with pytest.raises(ValueError, match="not a video"):
        read_frames(tmp_path / "a.mp4")
    with pytest.raises(ValueError, match="needs frames"):
        write_video(tmp_path / "b.mp4", moving(1, 8, 8)[:0], 10.0)


def encoded(path, *options: str, source: str = "testsrc=size=64x48:rate=10:duration=1") -> None:
    command = [
        imageio_ffmpeg.get_ffmpeg_exe(),
        "-v",
        "error",
        "-f",
        "lavfi",
        "-i",
        source,
        *options,
        str(path),
    ]
    subprocess.run(command, check=True)


def test_pixels_become_square(tmp_path):
    encoded(tmp_path / "a.mp4", "-vf", "setsar=2", "-pix_fmt", "yuv420p")
    assert video_size(tmp_path / "a.mp4") == (128, 48)
    assert tuple(read_frames(tmp_path / "a.mp4").images.shape) == (10, 48, 128, 3)


def test_frames_are_rotated_by_file_metadata(tmp_path):
    encoded(tmp_path / "a.mp4", "-pix_fmt", "yuv420p")
    command = [
        imageio_ffmpeg.get_ffmpeg_exe(),
        "-v",
        "error",
        "-display_rotation",
        "90",
        "-i",
        str(tmp_path / "a.mp4"),
        "-c",
        "copy",
    ]
    if subprocess.run([*command, str(tmp_path / "b.mp4")], capture_output=True).returncode:
        pytest.skip("this ffmpeg cannot write a rotation")
    straight, turned = (read_frames(tmp_path / f"{name}.mp4").images.float() for name in "ab")
    assert turned.shape[1:3] == (64, 48)
    assert (straight.rot90(1, (1, 2)) - turned).abs().mean() < 2


def test_every_frame_of_an_uneven_rate_comes_once(tmp_path):
    encoded(
        tmp_path / "a.mp4",
        "-vf",
        "setpts='if(lt(N,5),N,4*N)/10/TB'",
        "-fps_mode",
        "passthrough",
        "-pix_fmt",
        "yuv420p",
    )
    assert len(read_frames(tmp_path / "a.mp4")) == 10


def test_chosen_frames_are_those_of_the_whole_video(tmp_path):
    write_video(tmp_path / "a.mp4", moving(9, 48, 64), 10)
    whole = read_frames(tmp_path / "a.mp4").images.numpy()
    chosen = list(decode_video(tmp_path / "a.mp4", [1, 4, 8]))
    assert len(chosen) == 3 and all(
        (one == whole[index]).all() for one, index in zip(chosen, (1, 4, 8), strict=True)
    )
    small = list(decode_video(tmp_path / "a.mp4", grey_side=32))
    assert len(small) == 9 and small[0].shape == (24, 32)


def test_variable_frame_rate_of_a_real_file(shared):
    assert len(read_frames(shared / "data" / "failing_inputs" / "vfr.mp4")) == 20


def test_a_damaged_video_is_noted(tmp_path):
    frames = torch.randint(0, 255, (10, 48, 64, 3), dtype=torch.uint8)
    write_video(tmp_path / "a.mp4", frames, 10)
    data = bytearray((tmp_path / "a.mp4").read_bytes())
    middle = len(data) // 2
    data[middle : middle + len(data) // 6] = bytes([97] * (len(data) // 6))
    (tmp_path / "b.mp4").write_bytes(data)
    noted = {}
    for name in ("a.mp4", "b.mp4"):
        noted[name] = []
        list(decode_video(tmp_path / name, notes=noted[name]))
    assert noted["a.mp4"] == []
    assert len(noted["b.mp4"]) == 1
    assert noted["b.mp4"][0].startswith("b.mp4 is damaged, and frames may be broken: ")


@pytest.mark.parametrize(
    "playlist",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile {}\n",
        "[playlist]\nFile1={}\n",
    ],
    ids=["hls", "concat", "pls"],
)
@pytest.mark.parametrize("suffix", [".mp4", ".ts"])
def test_playlists_do_not_open_other_files(tmp_path, playlist, suffix):
    encoded(tmp_path / "secret.ts", "-pix_fmt", "yuv420p")
    path = tmp_path / f"clip{suffix}"
    path.write_text(playlist.format("secret.ts"))
    with pytest.raises(ValueError, match=f"clip{suffix}' is not a video that ffmpeg can read"):
        read_frames(path)


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "webm", "avi", "gif", "wmv", "flv", "ts"])
def test_containers_of_videos_are_read(tmp_path, suffix):
    encoded(tmp_path / f"a.{suffix}", source="testsrc=size=64x48:rate=25:duration=0.2")
    assert tuple(read_frames(tmp_path / f"a.{suffix}").images.shape[1:]) == (48, 64, 3)


def test_frames_with_too_many_pixels_are_refused(tmp_path, monkeypatch):
    encoded(tmp_path / "a.mp4", "-pix_fmt", "yuv420p")
    monkeypatch.setattr("lift.io.video.MAX_FRAME_PIXELS", 1000)
    with pytest.raises(ValueError, match="a.mp4' is not a video that ffmpeg can read"):
        read_frames(tmp_path / "a.mp4")


def test_videos_with_too_many_frames_are_refused(tmp_path, monkeypatch):
    write_video(tmp_path / "a.mp4", moving(9, 48, 64), 10)
    monkeypatch.setattr("lift.io.video.MAX_FRAMES", 5)
    with pytest.raises(ValueError, match="a.mp4' has more than 5 frames"):
        read_frames(tmp_path / "a.mp4")


@pytest.mark.parametrize("form", ["video", "folder"])
def test_frames_beyond_half_of_the_memory_are_refused(tmp_path, monkeypatch, form):
    frames = moving(9, 48, 64)
    write_video(tmp_path / "a.mp4", frames, 10)
    (tmp_path / "b").mkdir()
    for index, frame in enumerate(frames):
        save_image(tmp_path / "b" / f"{index}.png", frame)
    monkeypatch.setattr("lift.io.video._memory_limit", lambda: 5 * 48 * 64 * 3)
    with pytest.raises(ValueError, match="take more than .* GiB, half of the free memory"):
        read_frames(tmp_path / ("a.mp4" if form == "video" else "b"))


def test_square_pixels_and_rotation_go_together(tmp_path):
    encoded(tmp_path / "a.mp4", "-vf", "setsar=2", "-pix_fmt", "yuv420p")
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-display_rotation", "90"]
    command += ["-i", str(tmp_path / "a.mp4"), "-c", "copy", str(tmp_path / "b.mp4")]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("this ffmpeg cannot write a rotation")
    straight, turned = (read_frames(tmp_path / f"{name}.mp4").images.float() for name in "ab")
    # Frames are 64 x 48 pixels of 2:1, which is 128 x 48. Turned they are 48 wide and 128 high.
    width, height = turned.shape[2], turned.shape[1]
    assert width / height == pytest.approx(48 / 128, rel=0.03)


def test_a_folder_of_phone_pictures_counts_only_without_others(tmp_path):
    for name in ("a.avif", "b.avif"):
        (tmp_path / name).write_bytes(b"")
    assert [file.name for file in picture_files(tmp_path)] == ["a.avif", "b.avif"]
    (tmp_path / "a.jpg").write_bytes(b"")
    assert [file.name for file in picture_files(tmp_path)] == ["a.jpg"]


@pytest.mark.parametrize("program", ["/nonexistent", "FALSE"])
def test_an_ffmpeg_that_does_not_start_is_named(tmp_path, monkeypatch, program):
    write_video(tmp_path / "a.mp4", moving(3, 48, 64), 10)
    path = shutil.which("false") if program == "FALSE" else program
    assert path
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", path)
    _passthrough.cache_clear()
    with pytest.raises(VideoToolError, match=rf"^ffmpeg does not start \(.*\): {path}$"):
        read_frames(tmp_path / "a.mp4")
    monkeypatch.setattr("lift.io.video._passthrough", lambda: ("-vsync", "0"))
    if program == "/nonexistent":
        with pytest.raises(VideoToolError, match=rf"^ffmpeg does not start \(.*\): {path}$"):
            read_frames(tmp_path / "a.mp4")
