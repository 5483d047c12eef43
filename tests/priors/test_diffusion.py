"""Priors that sample video diffusion models, on tiny networks of the real classes.

The tests cover shared machinery and the guidance of Stable Video Diffusion.
"""

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from lift.depths import DepthEstimator
from lift.geometry import rotation_from_vector
from lift.priors import ClipRequest
from lift.priors.diffusion.clips import clip_path
from lift.priors.diffusion.euler import sample_euler, warp_guidance
from lift.runtime.memory import required_memory
from lift.types import Cameras, Depth, Frames
from lift.warping.scaffold import Scaffold
from tests.helpers import tiny, walls
from tests.helpers.clips import build, scene, sideways
from tests.helpers.commands import lift

pytest.importorskip("diffusers")


@pytest.mark.parametrize(
    "name",
    [
        name if name == "svd" else pytest.param(name, marks=pytest.mark.slow)
        for name in sorted(tiny.MADE)
    ],
)
def test_clip_has_run_size_and_does_not_depend_on_the_batch(name, folders):
    frames, camera, _ = scene()
    prior = build(folders, name, batch_size=2)
    count = prior.clip_length
    assert count == prior.frames - 1
    one, other = (
        ClipRequest(frames, camera, sideways(camera, count), 3),
        ClipRequest(frames, camera, sideways(camera, count, -0.3), 4),
    )
    alone = prior(one.frames, one.cameras, one.clip, one.seed)
    assert (
        alone.images.shape == (count, 64, 96, 3)
        and alone.depth is None
        and alone.images.float().std() > 1
    )
    together = prior.generate_batch([one, other])
    assert (together[0].images.int() - alone.images.int()).abs().max() <= 2, "but for rounding"
    anew = build(folders, name)(one.frames, one.cameras, one.clip, one.seed).images
    assert (anew.int() - alone.images.int()).abs().max() <= 1, (
        "loaded anew; torch may share its sums out differently"
    )
    assert not torch.equal(prior(one.frames, one.cameras, one.clip, 5).images, alone.images), "seed"
    with pytest.raises(
        ValueError, match=f"has {count + 1} new frames; prior.frames={count + 1} makes {count}"
    ):
        prior(frames, camera, sideways(camera, count + 1), 0)


@pytest.mark.parametrize("name", sorted(tiny.MADE))
def test_what_cannot_be_loaded_is_one_clear_line(name, folders, tmp_path, monkeypatch):
    frames, camera, _ = scene()
    monkeypatch.setattr(
        "huggingface_hub.constants.HF_HUB_OFFLINE", True
    )  # the variable was read long ago

    def first(model: str) -> None:
        prior = build(folders, name, model=model)
        prior(frames, camera, sideways(camera, prior.clip_length), 0)

    index = build(folders, name).index_file
    with pytest.raises(
        FileNotFoundError, match=f"prior.model is .*a folder without {index}; hf download"
    ):
        first(str(tmp_path))
    with pytest.raises(
        FileNotFoundError,
        match=(
            "prior.model is 'nobody/nothing', which is no model's folder and could not "
            "be loaded from the hub.*set prior.model=FOLDER"
        ),
    ):
        first("nobody/nothing")
    (tmp_path / index).write_text('{"_class_name": "Other"}')
    with pytest.raises(ValueError, match="which could not be loaded as a"):
        first(str(tmp_path))


def test_settings_out_of_range_name_the_value(folders):
    for settings, match in (
        ({"num_inference_steps": 0}, "prior.num_inference_steps is 0; choose 1"),
        ({"frames": 1}, "prior.frames is 1; choose 2"),
        ({"batch_size": 0}, "prior.batch_size is 0"),
        ({"decode_chunk_size": 0}, "prior.decode_chunk_size is 0"),
        ({"size": 3}, "prior.size is 3; choose at least 64"),
        ({"warp_error": -1.0}, "prior.warp_error is -1.0; choose 0"),
        ({"noise_aug_strength": -1.0}, "prior.noise_aug_strength is -1.0; choose 0"),
        ({"repeats": -1}, "prior.repeats is -1; choose 0"),
        ({"noise_aug_strength": float("inf")}, "prior.noise_aug_strength is inf"),
        ({"guidance_scale": (float("nan"), 3.0)}, "prior.guidance_scale is nan"),
        ({"fps": -5}, "prior.fps is -5"),
    ):
        with pytest.raises(ValueError, match=match):
            build(folders, **settings)


def test_memory_error_names_a_setting_that_fits(folders):
    parts = {"unet": 3.0, "vae": 1.0}
    assert (
        required_memory(parts, 2.0, "none", "auto", "unet") == 6
        and required_memory(parts, 2.0, "none", "float32", "unet") == 12
    )
    assert (
        required_memory(parts, 2.0, "model", "auto", "unet") == 5
        and required_memory(parts, 2.0, "model", "float8", "unet") == 3.5
    )
    prior = build(
        folders, model="stabilityai/stable-video-diffusion-img2vid-xt", size=None, frames=25
    )
    with pytest.raises(
        ValueError,
        match=(
            "takes about 15 GiB with prior.offload=none, and the GPU has 14; choose "
            r"prior.offload=model \(about 14 GiB\) or"
        ),
    ):
        prior._check_memory(14.0)
    prior._check_memory(17.0)
    small = build(
        folders, model="stabilityai/stable-video-diffusion-img2vid-xt", size=512, frames=25
    )
    small._check_memory(14.0)
    with pytest.raises(ValueError, match="and the GPU has 14"):
        build(
            folders, model="stabilityai/stable-video-diffusion-img2vid-xt", size=512, frames=200
        )._check_memory(14.0)


def test_generated_size_keeps_aspect_and_model_pixels(folders):
    prior = build(folders, size=None)
    assert (
        prior.generated_size(1024, 576) == (1024, 576)
        and prior.generated_size(576, 1024) == (576, 1024)
        and prior.generated_size(512, 512) == (768, 768)
    )
    assert build(folders, size=512).generated_size(1024, 576) == (512, 256 + 64 * round(32 / 64))


def test_path_starts_at_origin_and_keeps_relative_poses():
    _, camera, _ = scene()
    world = camera.world_to_camera.clone()
    world[0, :3, :3], world[0, :3, 3] = (
        rotation_from_vector(torch.tensor([0.1, 0.4, -0.2])),
        torch.tensor([1.0, 2.0, 3.0]),
    )
    moved = dataclasses.replace(camera, world_to_camera=world)
    clip = sideways(moved, 4)
    found = clip_path(
        ClipRequest(Frames(torch.zeros(1, 64, 96, 3, dtype=torch.uint8)), moved, clip, 0)
    )
    torch.testing.assert_close(found.world_to_camera[0], torch.eye(4), atol=1e-6, rtol=0)
    between = clip.cameras.world_to_camera[2] @ torch.linalg.inv(clip.cameras.world_to_camera[0])
    torch.testing.assert_close(
        found.world_to_camera[3] @ torch.linalg.inv(found.world_to_camera[1]),
        between,
        atol=1e-5,
        rtol=0,
    )


def test_plain_svd_is_the_pipeline_of_diffusers(folders):
    from diffusers import StableVideoDiffusionPipeline
    from PIL import Image

    frames, camera, _ = scene(64, 64)
    prior = build(folders, warp_guidance="none", num_inference_steps=3)
    ours = prior(frames, camera, sideways(camera, 4), 7).images
    pipe = StableVideoDiffusionPipeline.from_pretrained(folders("svd"))
    pipe.set_progress_bar_config(disable=True)
    theirs = pipe(
        Image.fromarray(frames.images[0].numpy()),
        64,
        64,
        5,
        num_inference_steps=3,
        decode_chunk_size=4,
        generator=torch.Generator().manual_seed(7),
        output_type="np",
    ).frames[0]
    difference = (ours.float() - torch.from_numpy(theirs[1:] * 255)).abs()
    assert float(difference.max()) <= 1.5 and float(ours.float().std()) > 1


def test_guided_perfect_denoiser_returns_the_valid_warp():
    rng = torch.Generator().manual_seed(0)
    target, belief = (
        torch.randn(1, 3, 4, 6, 8, generator=rng),
        (torch.rand(1, 3, 1, 6, 8, generator=rng) > 0.4).float(),
    )
    sigmas = torch.cat([torch.linspace(700 ** (1 / 7), 0.002 ** (1 / 7), 60) ** 7, torch.zeros(1)])
    noise = torch.randn(target.shape, generator=rng)

    def sampled(denoise, error: float):
        return sample_euler(
            denoise, noise, sigmas, sigmas[:-1], sigmas[0], warp_guidance(target, belief, error)
        )

    def perfect(
        latents, sigma, timestep
    ):  # for numbers that spread by 1 and have nothing to do with one another
        return latents / (sigma**2 + 1)

    exact = sampled(perfect, 0.0)
    known = belief.expand_as(target) > 0
    torch.testing.assert_close(exact[known], target[known], atol=1e-5, rtol=0)
    free = sample_euler(perfect, noise, sigmas, sigmas[:-1], sigmas[0])
    torch.testing.assert_close(exact[~known], free[~known])

    truth = target + 0.3 * torch.randn(target.shape, generator=rng)

    def knows(latents, sigma, timestep):  # the only video there is
        return truth

    torch.testing.assert_close(sampled(knows, 0.3), truth, atol=1e-3, rtol=0)


def test_guidance_reaches_holes_through_the_network():
    """This network makes neighbours equal, so guidance at one pixel reaches its neighbour."""
    alike = 0.95
    covariance = torch.tensor([[1.0, alike], [alike, 1.0]], dtype=torch.float64)
    sigmas = torch.cat(
        [torch.linspace(80 ** (1 / 7), 0.002 ** (1 / 7), 30) ** 7, torch.zeros(1)]
    ).double()
    rng = torch.Generator().manual_seed(0)
    noise = torch.randn(2000, 1, 1, 1, 2, generator=rng).double()

    def perfect(latents, sigma, timestep):
        return latents @ (covariance @ torch.linalg.inv(covariance + sigma**2 * torch.eye(2)))

    target, belief = (
        torch.full((2000, 1, 1, 1, 2), 1.5, dtype=torch.float64),
        torch.tensor([1.0, 0.0]).expand(2000, 1, 1, 1, 2),
    )
    there = []
    for repeats in (0, 3, 10):
        again = torch.Generator().manual_seed(1)
        found = sample_euler(
            perfect,
            noise,
            sigmas,
            sigmas[:-1],
            sigmas[0],
            warp_guidance(target, belief, 0.02),
            repeats=repeats,
            fresh_noise=lambda: torch.randn(noise.shape, generator=again).double(),  # noqa: B023
        )
        assert abs(float(found[..., 0].mean()) - 1.5) < 0.01
        there.append(float(found[..., 1].mean()))
    assert 0.6 < there[0] < there[1] < there[2] and abs(there[2] - alike * 1.5) < 0.15, (
        "its mean, given the other"
    )


def test_renders_are_what_the_walls_look_like_from_there():
    frames, camera, depth = scene()
    clip = sideways(camera, 3)
    found = Scaffold(depth, None).render(ClipRequest(frames, camera, clip, 0))
    assert torch.equal(found.images[0], frames.images[0]) and bool((found.confidence[0] == 1).all())
    true = walls.render(clip.cameras)
    for view in range(3):
        sure = found.confidence[view + 1] > 0
        assert 0.5 < float(sure.float().mean()) < 1
        off = (found.images[view + 1].float() - true.images[view].float()).abs().mean(-1)[sure]
        assert float(off.median()) < 6
        assert float(((found.depth[view + 1] / true.depth[view]).log().abs()[sure]).median()) < 0.01


def test_a_frame_that_was_made_adds_what_only_it_shows():
    frames, camera, depth = scene()
    clip = sideways(camera, 2, 0.6)
    true = walls.render(clip.cameras)
    more = Frames(torch.cat([frames.images, true.images]))
    cameras, further = (
        Cameras.cat([camera, clip.cameras]),
        dataclasses.replace(sideways(camera, 2, 0.9), source=2),
    )

    class Exact(DepthEstimator):
        def __call__(self, image):
            return Depth(true.depth[1], true.depth[1] > 0, "scale")

    without = Scaffold(depth, None).render(
        ClipRequest(frames, camera, dataclasses.replace(further, source=0), 0)
    )
    found = Scaffold(depth, Exact()).render(ClipRequest(more, cameras, further, 0))
    assert (
        float((found.confidence[-1] > 0).float().mean())
        > float((without.confidence[-1] > 0).float().mean()) + 0.02
    )
    seen = walls.render(further.cameras)
    sure = found.confidence[-1] > 0.5
    assert (
        float((found.images[-1].float() - seen.images[-1].float()).abs().mean(-1)[sure].median())
        < 8
    )


@pytest.mark.slow
def test_guided_video_is_closer_to_the_warp(folders):
    frames, camera, depth = scene()
    clip = sideways(camera, 4)
    request = ClipRequest(frames, camera, clip, 0)
    warp = Scaffold(depth, None).render(request)
    drawn = build(folders, num_inference_steps=6, warp_error=0.0)
    passed = drawn.decode_latents(
        drawn._encode_frames(2 * warp.images.permute(0, 3, 1, 2).float()[:, :, :64, :64] / 255 - 1)
        * drawn.pipe.vae.config.scaling_factor
    )
    assert passed.shape == (5, 64, 64, 3)
    latents = {}
    for steer in ("warp", "none"):
        prior = build(folders, num_inference_steps=6, warp_error=0.0, warp_guidance=steer)
        kept = []
        prior.decode_latents = lambda video, kept=kept: (
            kept.append(video.clone()) or torch.zeros(5, 64, 64, 3, dtype=torch.uint8)
        )
        prior(frames, camera, clip, 0)
        latents[steer] = kept[0]
    target = drawn.make_guidance([warp], (64, 64))
    clean = torch.zeros(1, *latents["warp"].shape)
    wanted = target(clean, torch.tensor(1e9))[0]  # of nothing but the warp
    known = wanted.abs().sum(1, keepdim=True).expand_as(wanted) > 0
    off = {steer: float((some - wanted)[known].abs().mean()) for steer, some in latents.items()}
    assert off["warp"] < 0.02 * off["none"]


@pytest.mark.slow
def test_run_batches_siblings_and_resumes_after_each_clip(folders, tmp_path):
    settings = (
        "run",
        "image=coffee",
        "preprocess.size=96",
        "planner.depth=1",
        "fit.steps=20",
        "fit.checkpoint_every=10",
        "fit.initial_gaussians=1500",
        "export.video_frames=4",
        "prior=svd",
        f"prior.model={folders('svd')}",
        "prior.num_inference_steps=2",
        "prior.size=64",
        "prior.frames=5",
        f"output={tmp_path}",
    )
    done = lift(*settings, "prior.batch_size=3", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    clips = {path.name for path in (tmp_path / "cache").glob("clip-*")}
    assert len(clips) == 4
    again = lift(*settings, "prior.batch_size=1", cwd=tmp_path)
    assert (
        again.returncode == 0
        and {path.name for path in (tmp_path / "cache").glob("clip-*")} == clips
    ), "what only costs is not part of a clip's key"
    assert again.stderr.count("found") >= 7
    run = Path(done.stdout.strip().split("\n")[-1])
    assert (
        json.loads((run / "provenance.json").read_text())["licences"]["prior svd"]
        == "Stability AI Community Licence"
    )


def test_numbers_that_ran_out_of_range_are_no_clip(folders):
    frames, camera, _ = scene()
    prior = build(folders)
    for parameter in prior.pipe.unet.conv_out.parameters():
        parameter.data.fill_(float("inf"))
    with pytest.raises(ValueError, match="are NaN or infinite; choose prior.precision"):
        prior(frames, camera, sideways(camera, 4), 0)


def test_home_folder_expands_and_missing_folder_fails_early(folders, monkeypatch):
    monkeypatch.setenv("HOME", str(Path(folders("svd")).parent))
    frames, camera, _ = scene()
    assert len(build(folders, model="~/model")(frames, camera, sideways(camera, 4), 0)) == 4
    with pytest.raises(
        FileNotFoundError, match="prior.model is .*nosuch, which does not exist; choose a folder"
    ):
        build(folders, model="~/nosuch")


def test_a_model_that_is_given_back_is_gone(folders):
    import gc
    import weakref

    for name in ("svd", "easyanimate"):
        prior = build(folders, name)
        gone = weakref.ref(getattr(prior.pipe, prior.denoiser))
        gc.disable()
        try:
            prior.release()
        finally:
            gc.enable()
        assert gone() is None, name


@pytest.mark.gpu
@pytest.mark.parametrize("name", sorted(tiny.MADE))
def test_gpu_memory_options_change_clips_within_precision(name, folders, cuda):
    frames, camera, _ = scene()

    def made(**settings) -> torch.Tensor:
        prior = build(folders, name, cuda, **settings)
        clip = prior(frames, camera, sideways(camera, prior.clip_length), 3).images.float()
        prior.release()
        return clip

    exact = made(precision="float32")
    assert exact.std() > 1
    for offload in ("model", "group"):
        assert (made(precision="float32", offload=offload) - exact).abs().max() <= 2, offload
    if name in ("svd", "vace"):  # a minute each
        assert (made(precision="float32", compile=True) - exact).abs().mean() < 2, "compiled"
    for precision in (
        "auto",
        "float8",
    ):  # random weights amplify rounding as learned ones do not: alike among themselves only
        first = made(precision=precision)
        assert first.std() > 1
        for offload in ("model", "group"):
            assert (made(precision=precision, offload=offload) - first).abs().max() <= 2, (
                f"{precision}, {offload}"
            )
