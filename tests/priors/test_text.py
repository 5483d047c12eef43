"""Priors that get the path as text alone, through any pipeline of diffusers."""

import json

import numpy as np
import pytest
import torch

from lift.priors import ClipRequest
from lift.priors.diffusion.clips import clip_path
from lift.priors.diffusion.controls import DIRECTION_PROMPTS
from lift.priors.text import video_tensor
from tests.helpers.clips import build, clip_request, request_arguments
from tests.helpers.rays import turning_path

pytest.importorskip("diffusers")


def test_pictures_and_arrays_come_out_as_they_went_in(folders):
    from PIL import Image

    exact = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16, 1).repeat(5, 1, 1, 3)
    exact[:, :, :, 1] = 255 - exact[:, :, :, 1]
    prior = build(folders, "diffusers")
    for frames in ((exact / 255).numpy(), [Image.fromarray(frame.numpy()) for frame in exact]):
        assert video_tensor(frames).shape == (5, 3, 16, 16)
        prior.sample_clip = lambda *_, frames=frames: video_tensor(frames)
        assert torch.equal(prior.sample(exact[:1], [turning_path()], [clip_request()])[0], exact)


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
        inputs = call(clip_request(name))
        assert inputs["prompt"] == f"A room. {DIRECTION_PROMPTS[word].capitalize()}."
        seen.append(inputs["prompt"])
    assert call(clip_request("spiral", far=-0.3))["prompt"].endswith(
        "to the left, around the scene."
    )
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
    right, left = (
        prior(*request_arguments(clip_request("right"))),
        prior(*request_arguments(clip_request("left"))),
    )
    assert not torch.equal(right.images, left.images), "of the same cameras"


def test_a_pipeline_without_a_prompt_is_called_as_it_wants_to_be(folders):
    from diffusers import StableVideoDiffusionPipeline
    from PIL import Image

    one = clip_request()
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
            build(folders, "diffusers", model=str(tmp_path))(*request_arguments(clip_request()))


def test_wrong_frame_count_of_a_model_is_an_error(folders):
    with pytest.raises(
        ValueError,
        match="^prior.model .* made 5 frames, not prior.frames=6; choose prior.frames=5$",
    ):
        build(folders, "diffusers", frames=6, frame_multiple=1)(
            *request_arguments(clip_request(count=5))
        )
