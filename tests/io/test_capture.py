"""A video, a folder and a list of pictures become frames of one scene."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from lift.config import compose_run
from lift.geometry import pinhole
from lift.io.capture import Capture, CaptureSettings, load_capture
from lift.io.image import save_image
from lift.io.nerfstudio import write_transforms
from lift.io.selection import FrameScores, choose_frames, score_frames
from lift.io.sources import is_capture
from lift.io.video_writer import write_video
from lift.types import Cameras

SIZE = (64, 48)


def load(image: str | tuple[str, ...], **settings) -> Capture:
    """Picture 4, or the last one, is the most central of a set."""

    def centrality(images: torch.Tensor) -> torch.Tensor:
        return -(torch.arange(len(images)) - 4.0).abs()

    return load_capture(
        image, CaptureSettings(**{"size": 64, "field_of_view": 55.0, **settings}), centrality
    )


def grey(index: int, size: tuple[int, int] = SIZE) -> torch.Tensor:
    return torch.full((size[1], size[0], 3), 10 * index, dtype=torch.uint8)


def folder(path: Path, count: int, **exif: float) -> str:
    """Picture k is grey 10 k; view_9 comes before view_10."""
    for index in range(count):
        tags = Image.Exif()
        tags[ExifTags.IFD.Exif] = {ExifTags.Base[name].value: value for name, value in exif.items()}
        Image.fromarray(grey(index).numpy()).save(path / f"view_{index}.png", exif=tags)
    return str(path)


def greys(capture: Capture) -> list[int]:
    return [round(float(image.float().mean()) / 10) for image in capture.frames.images]


def moved_cameras(count: int) -> Cameras:
    """Cameras in a row, 0.5 apart, in a world whose origin is none of them."""
    cameras = pinhole(*SIZE, 60.0).map(lambda value: value.repeat(count, 1, 1))
    matrices = cameras.world_to_camera.clone()
    matrices[:, 0, 3] = 3 - 0.5 * torch.arange(count)
    return replace(cameras, world_to_camera=matrices)


def given(path: Path, count: int) -> str:
    names = [f"images/view_{index}.png" for index in range(count)]
    write_transforms(path / "transforms.json", moved_cameras(count), names)
    return str(path / "transforms.json")


def test_a_folder_is_an_unordered_set_with_the_input_first(tmp_path):
    capture = load(folder(tmp_path, 11))
    assert capture.trajectory.hint == "unordered" and len(capture.trajectory.clips) == 1
    assert greys(capture) == list(capture.source_index) == [4, 0, 1, 2, 3, 5, 6, 7, 8, 9, 10]
    assert capture.names[:2] == ("view_4.png", "view_0.png") and not capture.picture.focal_known
    matrices = capture.trajectory.cameras.world_to_camera
    assert torch.equal(matrices, torch.eye(4).repeat(11, 1, 1))


def test_a_list_keeps_its_order_and_names_what_is_missing(tmp_path):
    folder(tmp_path, 3)
    files = tuple(str(tmp_path / f"view_{index}.png") for index in (2, 0, 1))
    assert greys(load(files, input="0")) == [2, 0, 1]
    with pytest.raises(
        FileNotFoundError, match="view_7.png', which is no file; missing are 1 of 3"
    ):
        load((*files[:2], str(tmp_path / "view_7.png")))


def test_an_ordered_folder_has_a_clip_for_each_direction_in_time(tmp_path):
    capture = load(folder(tmp_path, 6), ordered=True, input="view_2.png")
    assert capture.trajectory.hint == "sequence" and greys(capture) == [2, 3, 4, 5, 1, 0]
    assert [clip.name for clip in capture.trajectory.clips] == ["forward", "backward"]
    assert [clip.source for clip in capture.trajectory.clips] == [0, 0]


def test_every_nth_picture_is_held_out_but_not_the_input(tmp_path):
    path = folder(tmp_path, 9)
    capture = load(path, test_every=4)
    held_out = capture.held_out(4)
    assert capture.source_index[0] == 3, "picture 4 is held out, so that it is no default input"
    assert [capture.source_index[frame] for frame in held_out] == [0, 4, 8]
    assert 0 not in load(path, test_every=4, input="4").held_out(4)
    assert load(path).held_out(0) == load(path).held_out(10) == ()
    assert load(path, ordered=True).held_out(4) is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"input": "view_9.png"},
            (
                "input is 'view_9.png'; choose a frame's name, such as 'view_0.png', or "
                "its index from 0 to 3"
            ),
        ),
        (
            {"input": "1", "stride": 2},
            "input is '1', frame 1, which frames.start=0 and frames.stride=2 leave out",
        ),
        ({"start": 3}, "frames.start=3 and frames.stride=1 leave 1 of 4 frames"),
    ],
)
def test_wrong_settings_are_named(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        load(folder(tmp_path, 4), **settings)


def test_pictures_of_two_sizes_are_refused_by_both_names(tmp_path):
    path = folder(tmp_path, 3)
    save_image(tmp_path / "view_3.png", grey(0, (48, 64)))
    with pytest.raises(
        ValueError, match="view_0.png is 64 x 48 pixels and .*view_3.png is 48 x 64"
    ):
        load(path)


def test_too_few_frames_are_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no pictures"):
        load(str(tmp_path))
    with pytest.raises(ValueError, match="holds one frame only"):
        load(folder(tmp_path, 1))
    (tmp_path / "scene" / "images").mkdir(parents=True)
    with pytest.raises(ValueError, match="subfolder .*images' may be meant"):
        load(str(tmp_path / "scene"))


def test_known_cameras_are_seen_from_the_input_in_their_own_unit(tmp_path):
    cameras = given(tmp_path, 7)
    (tmp_path / "images").mkdir()
    capture = load(folder(tmp_path / "images", 7), cameras=cameras, test_every=3)
    assert capture.trajectory.hint == "known" and capture.picture.focal_known
    assert greys(capture) == list(capture.source_index) == [2, 0, 1, 3, 4, 5, 6]
    assert torch.equal(capture.picture.cameras.world_to_camera[0], torch.eye(4))
    offsets = 0.5 * (torch.tensor(capture.source_index) - 2.0)
    torch.testing.assert_close(capture.trajectory.cameras.centers[:, 0], offsets)
    torch.testing.assert_close(capture.trajectory.cameras.intrinsics[3, 0, 0], torch.tensor(60.0))


def test_pictures_without_cameras_are_named_and_counted(tmp_path):
    cameras = given(tmp_path, 4)
    (tmp_path / "images").mkdir()
    expected = (
        "no camera of 'view_4.png'; missing are those of 2 of 6 pictures.*first camera is called"
    )
    with pytest.raises(ValueError, match=expected):
        load(folder(tmp_path / "images", 6), cameras=cameras)


@pytest.mark.parametrize("orientation", [1, 3])
def test_given_cameras_describe_the_pixels_as_stored(tmp_path, orientation):
    cameras = given(tmp_path, 2)
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = orientation
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[:24] = 200
    for index in range(2):
        Image.fromarray(pixels).save(tmp_path / f"view_{index}.png", exif=tags)
    bright = {"known": load(str(tmp_path), cameras=cameras), "free": load(str(tmp_path))}
    upper = {
        name: float(capture.frames.images[0, :20].float().mean())
        for name, capture in bright.items()
    }
    assert upper["known"] > 190
    assert upper["free"] > 190 if orientation == 1 else upper["free"] < 10


def test_a_video_is_a_sequence_from_its_first_frame(tmp_path):
    write_video(tmp_path / "clip.mp4", torch.stack([grey(index) for index in range(12)]), 10)
    capture = load(str(tmp_path / "clip.mp4"), stride=2)
    assert capture.trajectory.hint == "sequence" and capture.held_out(8) is None
    assert capture.source_index == (0, 2, 4, 6, 8, 10) and greys(capture) == [0, 2, 4, 6, 8, 10]
    assert capture.names[1] == "clip.mp4#2" and capture.frames.images.shape[1:] == (48, 64, 3)
    few = load(str(tmp_path / "clip.mp4"), max_count=4, input="5")
    assert len(few.frames) <= 4 and few.source_index[0] == 5 and greys(few)[0] == 5
    assert few.digest != capture.digest


def test_a_videos_cameras_are_matched_by_index(tmp_path):
    write_video(tmp_path / "clip.mp4", torch.stack([grey(index) for index in range(5)]), 10)
    capture = load(str(tmp_path / "clip.mp4"), cameras=given(tmp_path, 5), start=1)
    torch.testing.assert_close(
        capture.trajectory.cameras.centers[:, 0], torch.tensor([0, 0.5, 1, 1.5])
    )
    with pytest.raises(ValueError, match="holds 4 cameras .* there are 5 frames"):
        load(str(tmp_path / "clip.mp4"), cameras=given(tmp_path, 4))


def test_the_focal_length_is_known_if_all_files_state_the_same(tmp_path):
    same = load(folder(tmp_path, 3, FocalLengthIn35mmFilm=30))
    assert same.picture.focal_known
    first = float(same.picture.cameras.intrinsics[0, 0, 0])
    save_image(tmp_path / "view_2.png", grey(2))
    mixed = load(str(tmp_path))
    assert not mixed.picture.focal_known and "2 of 3 files" in " ".join(mixed.picture.notes)
    assert float(mixed.picture.cameras.intrinsics[0, 0, 0]) == pytest.approx(first, rel=0.01)


def test_a_folder_does_not_hide_a_built_in_picture(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "coffee").mkdir()
    assert not is_capture("coffee") and is_capture("coffee/")


def test_one_picture_is_no_capture(tmp_path):
    gif = tmp_path / "a.gif"
    Image.fromarray(grey(1).numpy()).save(gif)
    assert not is_capture("coffee") and not is_capture(str(gif)) and not is_capture((str(gif),))
    later = [Image.fromarray(grey(index).numpy()) for index in (5, 9)]
    Image.fromarray(grey(1).numpy()).save(gif, save_all=True, append_images=later)
    assert is_capture(str(gif)) and greys(load(str(gif))) == [1, 5, 9]


def test_sharpest_frame_of_each_bin_is_selected():
    sharpness = [1.0] * 40
    sharpness[3] = sharpness[14] = sharpness[26] = sharpness[37] = 2.0
    scores = FrameScores(tuple(sharpness), (0.0,) * 40)
    assert choose_frames(scores, 4) == [3, 14, 26, 37]
    assert choose_frames(scores, 4, required=[0]) == [0, 14, 26, 37]


def test_more_frames_are_chosen_where_more_moves():
    still_then_moving = FrameScores((1.0,) * 40, (0.0,) * 20 + (0.05,) * 20)
    chosen = choose_frames(still_then_moving, 10)
    assert sum(index >= 20 for index in chosen) > 2 * sum(index < 20 for index in chosen)


def test_blur_and_motion_are_measured():
    rng = np.random.default_rng(0)
    sharp = rng.integers(0, 255, (96, 128), dtype=np.uint8)

    def smooth(image, side):
        return np.array(Image.fromarray(image).resize((side, side)).resize((128, 96)))

    blurred = smooth(sharp, 16)
    scores = score_frames([smooth(sharp, 48), blurred, np.roll(blurred, 4, 1)])
    assert scores.sharpness[0] > 1.5 * scores.sharpness[1] and scores.motion[0] == 0
    assert scores.motion[2] == pytest.approx(4 / 128, rel=0.3)


def test_photographs_with_a_lens_and_cameras(shared):
    scene = shared / "data" / "llff_fern"
    capture = load(
        str(scene / "images"),
        size=128,
        cameras=str(scene / "cameras.npz"),
        test_every=8,
        max_count=4,
    )
    assert capture.trajectory.hint == "known" and "lens distortion undone" in capture.picture.notes
    assert capture.frames.images.shape == (4, 96, 128, 3)


@pytest.mark.parametrize(("settings", "size"), [([], 384), (["preprocess.size=200"], 200)])
def test_several_pictures_are_smaller_than_a_single_one(settings: list[str], size: int) -> None:
    config = compose_run(["image=folder", *settings])
    assert CaptureSettings.from_config(config).size == size
