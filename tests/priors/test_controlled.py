"""Priors that get the path as text, a LoRA or rays, through diffusers with tiny networks."""

import json
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from lift.geometry import rotation_from_vector
from lift.planners import planners
from lift.priors import ClipRequest
from lift.priors.diffusion.clips import clip_path
from lift.priors.diffusion.controls import (
    DIRECTION_PROMPTS,
    main_direction,
    near_depth,
    pluecker_rays,
)
from lift.priors.text import video_tensor
from lift.types import Cameras, Clip, Depth, Frames
from tests.helpers import tiny
from tests.helpers.clips import build, scene, sideways

pytest.importorskip("diffusers")


def request(name: str = "right", count: int = 4, far: float = 0.3, seed: int = 7) -> ClipRequest:
    frames, camera, _ = scene()
    return ClipRequest(frames, camera, Clip(name, 0, sideways(camera, count, far).cameras), seed)


def turning(count: int = 5) -> Cameras:
    """A path that begins at the origin, with an off-centre pinhole that is not square."""
    rng = torch.Generator().manual_seed(0)
    world = torch.eye(4).repeat(count, 1, 1)
    world[1:, :3, :3] = rotation_from_vector(0.4 * torch.randn(count - 1, 3, generator=rng))
    world[1:, :3, 3] = torch.randn(count - 1, 3, generator=rng)
    intrinsics = torch.tensor([[20.0, 0, 13], [0, 30, 9], [0, 0, 1]]).repeat(count, 1, 1)
    return Cameras(world, intrinsics, 24, 20)


def cameras_of(rays: torch.Tensor, like: Cameras) -> torch.Tensor:
    """Camera-to-world poses of Plücker rays [view 6 y x].

    The rotation aligns the pinhole directions. The centre is where all rays meet.
    """
    y, x = torch.meshgrid(
        torch.arange(rays.shape[2]) + 0.5, torch.arange(rays.shape[3]) + 0.5, indexing="ij"
    )
    out = torch.eye(4, dtype=torch.float64).repeat(len(rays), 1, 1)
    for view, (moments, directions) in enumerate(
        zip(rays[:, :3].double(), rays[:, 3:].double(), strict=True)
    ):
        (fx, _, cx), (_, fy, cy), _ = like.intrinsics[view].double()
        local = torch.nn.functional.normalize(
            torch.stack([(x - cx) / fx, (y - cy) / fy, torch.ones_like(x)]).double(), dim=0
        )
        u, _, vt = torch.linalg.svd(directions.flatten(1) @ local.flatten(1).T)
        out[view, :3, :3] = u @ vt
        zero = torch.zeros_like(x).double()
        dx, dy, dz = directions
        cross = torch.stack(
            [torch.stack(row) for row in ((zero, dz, -dy), (-dz, zero, dx), (dy, -dx, zero))]
        )  # o x d = cross @ o
        system = cross.permute(2, 3, 0, 1).reshape(-1, 3)
        out[view, :3, 3] = torch.linalg.lstsq(
            system, moments.permute(1, 2, 0).reshape(-1, 1)
        ).solution[:, 0]
    return out


def test_rays_are_moment_and_direction_and_invert_to_path():
    cameras = turning()
    rays = pluecker_rays(cameras)
    assert rays.shape == (5, 6, 20, 24)
    torch.testing.assert_close(rays[:, 3:].norm(dim=1), torch.ones(5, 20, 24))
    torch.testing.assert_close(
        cameras_of(rays, cameras), cameras.camera_to_world.double(), atol=1e-5, rtol=0
    )
    camera = turning(1)
    camera.world_to_camera[0, 0, 3] = -2.0  # two to the right
    aside = pluecker_rays(camera)[
        0, :, 8, 12
    ]  # of the pixel half a pixel up and left of the principal point
    torch.testing.assert_close(
        aside[3:], torch.nn.functional.normalize(torch.tensor([-0.5 / 20, -0.5 / 30, 1]), dim=0)
    )
    torch.testing.assert_close(aside[:3], torch.linalg.cross(torch.tensor([2.0, 0, 0]), aside[3:]))


def test_moves_depend_on_camera_motion_not_clip_name():
    frames, camera, depth = scene()
    plan = planners.build(
        {
            "name": "articulated",
            "depth": 2,
            "directions": ["right", "left", "up", "down", "in", "out"],
        }
    )(camera, depth, 6)
    assert len(plan.clips) == 36
    for clip in plan.clips:
        assert (
            main_direction(clip_path(ClipRequest(frames, plan.cameras, clip, 0)), depth.typical)
            == clip.name.split("/")[-1]
        ), clip.name
    still = sideways(camera, 3, 0.001 * depth.typical)
    assert (
        main_direction(clip_path(ClipRequest(frames, camera, still, 0)), depth.typical) == "still"
    )
    spiral = planners.build({"name": "spiral"})(camera, depth, 40).clips[
        0
    ]  # comes back to where it began
    assert (
        main_direction(clip_path(ClipRequest(frames, camera, spiral, 0)), depth.typical) != "still"
    )


def test_scene_starts_at_the_fifth_percentile_of_depth():
    depth = torch.arange(1, 201).reshape(10, 20).float()
    valid = depth > 100
    assert (
        near_depth(Depth(depth, torch.ones_like(valid), "scale")) == 10
        and near_depth(Depth(depth, valid, "scale")) == 105
    )


def test_pictures_and_arrays_come_out_as_they_went_in(folders):
    from PIL import Image

    exact = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16, 1).repeat(5, 1, 1, 3)
    exact[:, :, :, 1] = 255 - exact[:, :, :, 1]
    prior = build(folders, "diffusers")
    for frames in ((exact / 255).numpy(), [Image.fromarray(frame.numpy()) for frame in exact]):
        assert video_tensor(frames).shape == (5, 3, 16, 16)
        prior.sample_clip = lambda *_, frames=frames: video_tensor(frames)
        assert torch.equal(prior.sample(exact[:1], [turning()], [request()])[0], exact)


@pytest.mark.parametrize("name", ("diffusers", "ltx", "easyanimate"))
def test_clip_shows_sampling_steps_and_follows_the_prompt(name, folders):
    prior = build(folders, name, num_inference_steps=2)
    bars = []

    @contextmanager
    def shown(clips):
        bars.append([[one.clip.name for one in clips], 0])

        def step():
            bars[-1][1] += 1

        yield step

    prior.progress = shown
    count = prior.clip_length
    plain = prior.generate_batch([request("a", count), request("b", count, seed=8)])
    assert bars == [[["a"], 2], [["b"], 2]]
    for settings in (
        {"prompt": "a tree"},
        {"negative_prompt": "a tree"},
        {"guidance_scale": 9.0},
        {"guidance_scale": 1.0},
    ):
        other = build(folders, name, **settings)
        other.__dict__["pipe"] = prior.pipe  # loaded once
        assert not torch.equal(
            other.generate_batch([request("a", count)])[0].images, plain[0].images
        ), settings


def test_settings_out_of_range_name_the_value(folders, tmp_path):
    for name, settings, match in (
        ("diffusers", {"frame_multiple": 0}, "prior.frame_multiple is 0; choose 1"),
        ("diffusers", {"size_multiple": 0}, "prior.size_multiple is 0; choose 1"),
        ("ltx", {"fps": 0}, "prior.fps is 0; choose 1"),
        ("ltx", {"frames": 12}, "choose 9 or 17"),
        (
            "diffusers",
            {"frames": 6, "frame_multiple": 4},
            r"prior.frames is 6; this model makes 4k\+1: choose 5 or 9",
        ),
        ("easyanimate", {"near": 0.0}, "prior.near is 0.0; choose more than 0"),
        ("easyanimate", {"guidance_scale": 0.5}, "prior.guidance_scale is 0.5; choose 1"),
    ):
        with pytest.raises(ValueError, match=match):
            build(folders, name, **settings)


# Words alone


def test_prompt_names_the_camera_direction(folders):
    prior = build(folders, "diffusers", prompt="A room.")
    seen = []

    def call(one: ClipRequest):
        return prior.pipeline_arguments("picture", clip_path(one), one, torch.Generator(), dict)

    for name, word in (
        ("right", "right"),
        ("right/up", "up"),
        ("up/left", "left"),
        ("path/3", "right"),
        ("in", "in"),
        ("left/out", "out"),
    ):
        inputs = call(request(name))
        assert inputs["prompt"] == f"A room. {DIRECTION_PROMPTS[word].capitalize()}."
        seen.append(inputs["prompt"])
    assert call(request("spiral", far=-0.3))["prompt"].endswith("to the left, around the scene.")
    assert (
        "guidance_scale" not in inputs
        and "decode_chunk_size" not in inputs
        and inputs["num_frames"] == 5
        and inputs["num_inference_steps"] == 2
    )
    assert (
        "camera moves to the right" in seen[0]
        and "rises" in seen[1]
        and "forward" in seen[4]
        and "backward" in seen[5]
    )
    right, left = prior(*_of(request("right"))), prior(*_of(request("left")))
    assert not torch.equal(right.images, left.images), "of the same cameras"


def _of(one: ClipRequest) -> tuple:
    return one.frames, one.cameras, one.clip, one.seed


def test_a_pipeline_without_a_prompt_is_called_as_it_wants_to_be(folders):
    from diffusers import StableVideoDiffusionPipeline
    from PIL import Image

    one = request()
    prior = build(folders, "diffusers", model=folders("svd"), size_multiple=64, decode_chunk_size=2)
    assert prior.denoiser == "unet"
    height, width = 64, 64
    picture = (
        torch.zeros(1, height, width, 3, dtype=torch.uint8)
        + torch.arange(64, dtype=torch.uint8)[:, None]
    )
    ours = prior.sample(picture, [clip_path(one).resized(width, height)], [one])[0]
    pipe = StableVideoDiffusionPipeline.from_pretrained(folders("svd"))
    pipe.set_progress_bar_config(disable=True)
    picture = Image.fromarray(picture[0].numpy())
    noise = torch.Generator().manual_seed(7)
    theirs = pipe(
        picture,
        height,
        width,
        5,
        num_inference_steps=2,
        decode_chunk_size=2,
        generator=noise,
        output_type="pil",
    ).frames[0]
    assert torch.equal(ours, torch.from_numpy(np.stack(theirs))) and float(ours.float().std()) > 1


def test_non_image_to_video_model_is_rejected_before_loading(folders, tmp_path):
    for kind in ("WanPipeline", "StableDiffusionImg2ImgPipeline"):
        (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": kind}))
        with pytest.raises(
            ValueError,
            match=(
                f"^prior.model .* is a {kind}, which does not make a video of an image; "
                "choose an image-to-video model$"
            ),
        ):
            build(folders, "diffusers", model=str(tmp_path))(*_of(request()))


def test_wrong_frame_count_of_a_model_is_an_error(folders):
    with pytest.raises(
        ValueError,
        match="^prior.model .* made 5 frames, not prior.frames=6; choose prior.frames=5$",
    ):
        build(folders, "diffusers", frames=6, frame_multiple=1)(*_of(request(count=5)))


# LoRAs


@pytest.mark.parametrize("how", [{"precision": "float8"}, pytest.param({}, marks=pytest.mark.slow)])
def test_each_move_has_its_lora_loaded_once_and_alone_at_work(how, folders, tmp_path):
    loras = tiny.camera_loras(tmp_path / "loras")
    prior = build(folders, "ltx", loras=str(loras), **how)
    left, right = request("any name", 8, -0.3), request("any name", 8, 0.3)
    first = prior.generate_batch([left])[0].images
    assert (
        prior.pipe.get_active_adapters() == ["Dolly-Left"]
        and len(prior.pipe.get_list_adapters()["transformer"]) == 7
    )
    kept = prior.pipe
    other = prior.generate_batch([right])[0].images
    assert prior.pipe.get_active_adapters() == ["Dolly-Right"]
    again = prior.generate_batch([left])[0].images
    assert prior.pipe is kept and torch.equal(first, again) and not torch.equal(first, other)
    if how:
        return
    without = build(folders, "ltx").generate_batch([left])[0].images
    assert not torch.equal(first, without)
    assert torch.equal(
        build(folders, "ltx", loras=str(loras), lora_scale=0.0).generate_batch([left])[0].images,
        without,
    )


def test_prompt_follows_the_path_and_frame_rate_is_passed(folders):
    prior = build(folders, "ltx", prompt="A room")
    pipe, calls = prior.pipe, []

    class Spy:
        def __getattr__(self, name):
            return getattr(pipe, name)

        def __call__(self, **call):
            calls.append(call)
            return pipe(**call)

    prior.__dict__["pipe"] = Spy()
    right = prior(*_of(request("left", 8))).images
    assert (
        calls[0]["prompt"] == "A room. The camera moves to the right, around the scene."
        and calls[0]["frame_rate"] == 24.0
    )
    assert calls[0]["image"].size == (96, 64) and calls[0]["use_cross_timestep"] is False
    assert not torch.equal(
        right, build(folders, "ltx", prompt="A room", fps=6)(*_of(request("left", 8))).images
    )


def test_missing_or_mismatched_lora_is_a_one_line_error(folders, tmp_path, monkeypatch):
    from safetensors.torch import save_file

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        FileNotFoundError,
        match=(
            r"^prior.loras is .*, a folder without a file \*dolly-right.safetensors, "
            "which clip 'right' needs$"
        ),
    ):
        build(folders, "ltx", loras=str(tmp_path))(*_of(request(count=8)))
    with pytest.raises(
        ValueError,
        match=(
            "^prior.loras is nobody/nothing, whose LoRA Dolly-Right could not be loaded "
            "into .*; choose a folder.*loras=none$"
        ),
    ):
        build(folders, "ltx", loras="nobody/nothing")(*_of(request(count=8)))
    block = "diffusion_model.transformer_blocks.0.attn1.to_q.lora"
    save_file(
        {f"{block}_A.weight": torch.zeros(2, 99), f"{block}_B.weight": torch.zeros(99, 2)},
        tmp_path / "dolly-right.safetensors",
    )
    with pytest.raises(ValueError, match="whose LoRA Dolly-Right could not be loaded into"):
        build(folders, "ltx", loras=str(tmp_path))(*_of(request(count=8)))


# Rays


def test_network_condition_inverts_to_the_path(folders):
    _, _, depth = scene()
    prior, one = build(folders, "easyanimate"), request()
    there = turning(5)
    rays = prior.camera_video(there)
    assert rays.shape == (1, 6, 5, 20, 24)
    found = cameras_of(rays[0].transpose(0, 1), there)
    torch.testing.assert_close(
        found[:, :3, :3], there.camera_to_world[:, :3, :3].double(), atol=1e-5, rtol=0
    )
    torch.testing.assert_close(
        found[:, :3, 3], there.centers.double() * 1.25 / near_depth(depth), atol=1e-5, rtol=0
    )
    twice = build(folders, "easyanimate", near=2.5).camera_video(there)
    torch.testing.assert_close(twice[:, :3], 2 * rays[:, :3])

    seen = []
    transformer = prior.pipe.transformer
    hook = transformer.register_forward_pre_hook(
        lambda module, args, inputs: seen.append(inputs["control_latents"]), with_kwargs=True
    )
    prior(*_of(one))
    hook.remove()
    control = seen[0]
    across, down = prior.generated_size(96, 64)
    assert control.shape == (2, 6 + 4, 2, down // 8, across // 8) and torch.equal(
        control[0], control[1]
    ), "with and without the words"
    wanted = prior.camera_video(clip_path(one).resized(across, down))
    # The first latent frame is the first frame alone; the other stands for the four after it.
    first = torch.nn.functional.interpolate(
        wanted[:, :, 0], control.shape[-2:], mode="bilinear", align_corners=False
    )
    torch.testing.assert_close(control[:1, :6, 0] / 6, first, atol=1e-5, rtol=1e-5)
    rest = torch.nn.functional.interpolate(
        wanted[:, :, 1:], (1, *control.shape[-2:]), mode="trilinear", align_corners=False
    )[:, :, 0]
    torch.testing.assert_close(control[:1, :6, 1] / 6, rest, atol=1e-5, rtol=1e-5)
    assert float(control[0, :3, 0].abs().max()) < 1e-5 < float(control[0, :3, 1].abs().max())
    assert bool(control[0, 6:, 0].any()) and not bool(control[0, 6:, 1:].any()), (
        "the picture stands first"
    )


def test_the_picture_and_the_path_decide_the_video(folders):
    prior, one = build(folders, "easyanimate"), request()
    right = prior(*_of(one)).images
    assert not torch.equal(right, prior(*_of(request(far=-0.3))).images)
    assert not torch.equal(
        right, prior(Frames(255 - one.frames.images), one.cameras, one.clip, one.seed).images
    )
