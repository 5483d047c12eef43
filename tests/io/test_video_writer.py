"""ffmpeg that is missing, broken or without space."""

import errno
import stat
import sys

import imageio_ffmpeg
import pytest
import torch

from lift.io.video_writer import VideoToolError, write_video

FRAMES = torch.zeros(3, 17, 33, 3, dtype=torch.uint8)


@pytest.fixture
def use_tool(tmp_path, monkeypatch):
    """Let a shell script take the place of ffmpeg."""

    def use(script: str) -> None:
        tool = tmp_path / "tool"
        tool.write_text(script)
        tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", lambda: str(tool))

    return use


def left_files(folder):
    return [path.name for path in folder.iterdir() if path.name != "tool"]


def test_a_missing_package_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(VideoToolError, match="ffmpeg is not found .*pip install"):
        write_video(tmp_path / "a.mp4", FRAMES, 10)
    assert left_files(tmp_path) == []


def test_a_missing_program_is_one_line(tmp_path, monkeypatch):
    def missing() -> str:
        raise RuntimeError("No ffmpeg exe could be found.\nInstall ffmpeg")

    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", missing)
    with pytest.raises(VideoToolError, match=r"not found \(No ffmpeg exe could be found. Install"):
        write_video(tmp_path / "a.mp4", FRAMES, 10)


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("no program", "ffmpeg does not start"),
        ("#!/bin/sh\ncat > /dev/null\necho Unknown encoder >&2; exit 8\n", "Unknown encoder"),
        ("#!/bin/sh\nexit 3\n", "status 3"),
        ("#!/bin/sh\nkill -SEGV $$\n", "status -11"),
        ("#!/bin/sh\ncat > /dev/null\n", "wrote no video"),
    ],
)
def test_a_failing_program_leaves_no_file(tmp_path, use_tool, script, reason):
    use_tool(script)
    with pytest.raises(VideoToolError, match=reason):
        write_video(tmp_path / "a.mp4", FRAMES.repeat(2000, 1, 1, 1), 10)
    assert left_files(tmp_path) == []


def test_a_full_disk_is_no_fault_of_the_program(tmp_path, use_tool):
    use_tool("#!/bin/sh\ncat >/dev/null\necho 'av_write: No space left on device' >&2; exit 1\n")
    with pytest.raises(OSError, match="No space left on device") as caught:
        write_video(tmp_path / "a.mp4", FRAMES, 10)
    assert caught.value.errno == errno.ENOSPC
    assert not isinstance(caught.value, VideoToolError)
    assert caught.value.filename == str(tmp_path / "a.mp4")


def test_an_old_video_stays_if_the_new_one_fails(tmp_path, use_tool):
    write_video(tmp_path / "a.mp4", FRAMES, 10)
    before = (tmp_path / "a.mp4").read_bytes()
    use_tool("#!/bin/sh\nexit 3\n")
    with pytest.raises(VideoToolError):
        write_video(tmp_path / "a.mp4", FRAMES, 10)
    assert (tmp_path / "a.mp4").read_bytes() == before


@pytest.mark.parametrize("name", ["caf\udce9.mp4", "-y.mp4", "a%03d.mp4", "http:x.mp4", "a b.mp4"])
def test_any_name_of_a_file_can_be_written(tmp_path, name):
    write_video(tmp_path / name, FRAMES, 10)
    assert (tmp_path / name).stat().st_size > 100 and left_files(tmp_path) == [name]
