"""Experiments on photographs and generated clips, on small made-up data."""

import json
import math
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "experiments"))
import clips  # noqa: E402
import generated  # noqa: E402
import generator_errors  # noqa: E402
import generator_measures  # noqa: E402
import measuring  # noqa: E402
import photographs  # noqa: E402
import registering  # noqa: E402
import tracking  # noqa: E402

from lift.geometry import look_at, pinhole, rotation_angle  # noqa: E402
from lift.io.video_writer import write_video  # noqa: E402
from lift.poses.sfm.state import Observations, SfmState  # noqa: E402
from lift.runtime.machine import machine_info  # noqa: E402
from lift.synthetic import corruptions  # noqa: E402
from lift.synthetic.corruptions import blur_picture  # noqa: E402
from lift.synthetic.scenes import render  # noqa: E402
from lift.types import Cameras, Frames  # noqa: E402

HEAD = (
    "folder,generator,source_repository,commit,path,licence_file,video,frame_list,crop,width,"
    "height,frames,input_included,cameras_known,real_frame_list,real_crop,static\n"
)


def path_of_cameras(count: int, width: int, height: int, length: float = 0.8) -> Cameras:
    """Cameras along a line that look at one point."""
    eyes = torch.zeros(count, 3)
    eyes[:, 0] = torch.linspace(0, length, count)
    target = torch.tensor([0.0, 0, 4]).expand(count, 3)
    poses = look_at(eyes, target, torch.tensor([0.0, 1, 0]).expand(count, 3))
    lens = pinhole(width, height, 0.9 * width).intrinsics.expand(count, 3, 3).clone()
    return Cameras(poses, lens, width, height)


def test_a_frame_list_includes_its_last_number():
    assert list(clips.frame_numbers("0:8:4")) == [0, 4, 8]
    assert list(clips.frame_numbers("47:49:1")) == [47, 48, 49]


@pytest.mark.parametrize("text", ["", "0:8", "0:8:0", "a:8:1"])
def test_a_wrong_frame_list_is_named(text):
    with pytest.raises(ValueError, match="first:last:step"):
        clips.frame_numbers(text)


def test_a_clip_has_the_listed_frames_and_crop(tmp_path):
    ramp = torch.arange(12).mul(20).to(torch.uint8)
    frames = ramp[:, None, None, None].expand(12, 32, 48, 3).clone()
    write_video(tmp_path / "clip.mp4", frames, 24)
    row = "a,Maker,,,,,clip.mp4,0:8:4,16 0 32 32,32,32,3,yes,no,1:9:4,0 0 16 32,yes\n"
    (tmp_path / "index.csv").write_text(HEAD + row)
    (clip,) = clips.read_index(tmp_path)
    shown = clips.generated_frames(clip)
    assert shown.shape == (3, 32, 32, 3)
    assert (shown.float().mean((1, 2, 3)) - torch.tensor([0.0, 80, 160])).abs().max() < 4
    real = clips.real_frames(clip)
    assert real is not None and real.shape == (3, 32, 16, 3)
    with pytest.raises(ValueError, match="no frame 12"):
        clips.decode(tmp_path / "clip.mp4", [12], None)


def test_requested_cameras_are_those_of_the_listed_frames(tmp_path):
    lines = [f"{t} 0.5 0.9 0.5 0.5 0 0 1 0 0 {t} 0 1 0 0 0 0 1 0" for t in range(4)]
    (tmp_path / "cameras.txt").write_text("\n".join(["http://source", *lines]))
    clip = clips.GeneratedClip(
        "a", "Maker", tmp_path, tmp_path / "v.mp4", range(0, 4, 2), None, None, None, "yes"
    )
    cameras = clips.requested_cameras(clip, 100, 60)
    assert cameras is not None
    assert cameras.world_to_camera[:, 0, 3].tolist() == [0.0, 2.0]
    assert cameras.intrinsics[0, :2].tolist() == [[50.0, 0, 50], [0, pytest.approx(54.0), 30]]


def test_medians_separate_frames_from_tracks():
    generator = torch.Generator().manual_seed(0)
    frame = torch.arange(6).repeat_interleave(40)
    point = torch.arange(40).repeat(6)
    effect = torch.tensor([0.0, 0.1, 0.2, -0.1, 0.3, 0.5])
    values = effect[frame] + torch.randn(40, generator=generator)[point]
    values[::17] += 5.0
    values[3] = math.nan
    weight = torch.ones(240, dtype=torch.float64)
    observations = Observations(frame, point, torch.zeros(240, 2, dtype=torch.float64), weight)
    found = tracking.frame_effects(values.double(), observations, 6)
    torch.testing.assert_close(found.float(), effect, atol=1e-3, rtol=0)


def test_smooth_field_is_separated_from_noise_and_outliers():
    generator = torch.Generator().manual_seed(0)
    pixel = torch.rand(400, 2, generator=generator).double() * torch.tensor([192.0, 144.0])
    true = torch.stack([(pixel[:, 0] / 60).cos(), (pixel[:, 1] / 70).sin()], -1)
    noisy = true + 0.2 * torch.randn(400, 2, generator=generator)
    noisy[::20] += 10
    field = tracking.smooth_part(pixel, noisy, (192, 144))
    assert float((field - true).square().mean().sqrt()) < 0.15


@pytest.mark.slow
def test_tracks_of_a_right_clip_have_small_residuals():
    true = path_of_cameras(9, 240, 180)
    images = render("room", true).images
    observations = tracking.restrict_frames(tracking.track_points(images), list(range(9)))
    found = tracking.estimate_poses(observations, 9, 0.9 * 240, (120, 90), 2.0, "fixed")
    assert found is not None and bool(found.scene.registered.all())
    assert float(found.residual.norm(dim=-1).median()) < 0.3
    errors = generator_measures.camera_errors(found.scene, true)
    assert float(errors["rotation_error_deg"].max()) < 0.3
    assert float(errors["position_error"].max()) < 0.05


def test_colour_and_blur_of_a_moving_picture_are_measured():
    """A picture that moves sideways, gets brighter and softer."""
    texture = render("room", pinhole(384, 288, 350.0)).rgb[0]
    views = []
    for step in range(6):
        shown = blur_picture(texture[20:260, 20 + 4 * step : 320 + 4 * step], 0.3 * step)
        views.append((255 * (shown * (1 - 0.04 * step)).clamp(0, 1)).round().to(torch.uint8))
    images = torch.stack(views)
    observations = tracking.restrict_frames(tracking.track_points(images), list(range(6)))
    found = generator_measures.photometric(images, observations, None)
    expected = -4.0 * torch.arange(6)
    torch.testing.assert_close(found["brightness"].float(), expected, atol=0.5, rtol=0)
    assert float(found["white_balance"].max()) < 1.0
    sigma = found["blur_px"] * 300 / 384
    torch.testing.assert_close(sigma.float(), 0.3 * torch.arange(6), atol=0.15, rtol=0)


def test_camera_errors_do_not_depend_on_scale_or_place():
    true = path_of_cameras(5, 96, 72)
    scene = SfmState(
        true.world_to_camera[:, :3, :3].double(),
        3 * true.world_to_camera[:, :3, 3].double(),
        torch.zeros(5).double(),
        torch.zeros(5, 2).double(),
        torch.zeros(5).double(),
        torch.zeros(0, 3).double(),
        torch.tensor([True, True, True, True, False]),
    )
    errors = generator_measures.camera_errors(scene, true)
    assert float(errors["position_error"][:4].max()) < 1e-5
    assert float(errors["rotation_error_deg"][:4].max()) < 1e-2
    assert bool(errors["rotation_error_deg"][4].isnan())


@pytest.mark.slow
def test_pictures_are_registered_by_points_of_the_lifted_scene():
    cameras = path_of_cameras(6, 240, 180)
    frames = render("room", cameras)
    beside = path_of_cameras(6, 240, 180, 0.9)
    pictures = render("room", beside)
    assert frames.depth is not None
    found = registering.register(
        Frames(pictures.images), frames, cameras, frames.depth, "sift", (0.9, 1.0, 1.1)
    )
    assert found.focal_factor == 1.0 and bool(found.registered.all())
    turns = [view.world_to_camera[:, :3, :3] for view in (found.cameras, beside)]
    turned = rotation_angle(*turns)
    assert float(turned.max()) < 0.3
    assert float((found.cameras.centers - beside.centers).norm(dim=-1).max()) < 0.03


def test_a_picture_of_nothing_common_is_not_registered():
    cameras = path_of_cameras(2, 160, 120)
    frames = render("room", cameras)
    noise = torch.randint(0, 255, (2, 120, 160, 3), dtype=torch.uint8)
    assert frames.depth is not None
    found = registering.register(Frames(noise), frames, cameras, frames.depth, "sift", (1.0,))
    assert not bool(found.registered.any())


CUDA = torch.cuda.is_available()


def test_a_refusal_is_kept_and_found_again(tmp_path):
    def refuse() -> dict:
        raise ValueError("the frames have too little in common")

    file = tmp_path / "step.json"
    first = measuring.load_or_compute(file, refuse)
    assert first["refused"] == "the frames have too little in common"
    assert measuring.load_or_compute(file, lambda: {"other": 1}) == first


def test_an_error_that_is_a_bug_is_not_kept(tmp_path):
    def fail() -> dict:
        raise AssertionError("a bug")

    with pytest.raises(AssertionError):
        measuring.load_or_compute(tmp_path / "step.json", fail)
    assert not (tmp_path / "step.json").exists()


def test_results_record_their_machine(tmp_path):
    table = measuring.markdown(["a", "b"], [[1.234, None], ["x", math.nan]])
    assert table.splitlines()[2:] == ["| 1.23 | - |", "| x | - |"]
    row = measuring.load_or_compute(tmp_path / "step.json", lambda: {"a": 1})
    file = measuring.write_results("photographs", "cpu", table, [row], tmp_path)
    record = json.loads(file.read_text())
    assert record["rows"] == [{"a": 1}]
    assert record["machine"]["device"] == machine_info("cpu" if not CUDA else "cuda")["device"]
    assert (tmp_path / "photographs-cpu.md").read_text().startswith("| a | b |")


def test_tables_show_refusals_beside_scores():
    row = {"input_psnr": 30.0, "held_out_psnr": 25.0, "held_out_psnr_distorted": 26.0}
    row |= {"registered": 9, "frames": 9, "gaussians": 10, "verdict": "good", "total_seconds": 3.0}
    real = {"registered": 4, "frames": 9, "full_frame": {"psnr": 20.0}, "covered": {}}
    text = generated.tables(
        [
            {"clip": "a", "distortion": "identity", "real": real} | row,
            {"clip": "b", "distortion": "identity", "refused": "too few matches"},
        ]
    )
    assert "| a | identity | 30.00 | 25.00 | 26.00 | 9 of 9 | 10 | good | 3 |" in text
    assert "refused: too few matches" in text and "4 of 9" in text
    scores = {"psnr": 25.0, "ssim": 0.8}
    text = photographs.table(
        [
            {
                "scene": "a",
                "method": "lift",
                "held_out": scores,
                "gaussians": 5,
                "total_seconds": 2.0,
            },
            {"scene": "b", "method": "lift", "refused": "no motion"},
        ]
    )
    assert "| a | lift | 25.00 | 0.80 | - |" in text and "refused: no motion" in text


def test_a_clip_without_cameras_stands_in_the_table_of_errors():
    values = dict.fromkeys(generator_errors.MEASURES, 1.0)
    thirds = {third: values for third in generator_errors.THIRDS}
    common = {"kind": "generated", "generator": "Maker", "thirds": thirds}
    text = generator_errors.report(
        [
            common | {"name": "a", "registered": 1.0},
            common | {"name": "b", "registered": None},
        ]
    )
    assert "| a | Maker | 100 |" in text and "No cameras were found for: b." in text


def test_the_index_of_clips_can_be_read(shared):
    index = clips.read_index(shared / "data" / "generated_clips")
    assert len(index) == 25 and sum(clip.real_numbers is not None for clip in index) == 4
    clip = next(clip for clip in index if clip.name == "camctrl3d_shelter")
    frames = clips.generated_frames(clip)
    real = clips.real_frames(clip)
    assert frames.shape == (25, 320, 512, 3) and real is not None and real.shape == frames.shape


@pytest.mark.parametrize("name", photographs.SCENES)
def test_scenes_of_photographs_have_cameras_and_points(shared, name):
    scene = photographs.read_scene(shared / "data" / name)
    assert scene.held_out == scene.files[::8] and set(scene.names) <= set(scene.files)
    points = photographs.sparse_points(scene, (96, 72))
    assert len(points) > 500 and 0 <= float(points.colors.min()) <= float(points.colors.max()) <= 1


def test_corruption_sizes_are_the_measured_ones():
    file = Path(__file__).parents[2] / "benchmarks" / "results" / "generator-errors.json"
    records = json.loads(file.read_text())["rows"]
    for name, size in generator_errors.corruption_sizes(records).items():
        assert getattr(corruptions, name) == pytest.approx(size, rel=0.06), name
