"""Stable Video Diffusion and its guidance, on tiny networks of the real classes."""

import pytest
import torch

from lift.priors import ClipRequest
from lift.warping.scaffold import Scaffold
from tests.helpers.clips import build, scene, sideways

pytest.importorskip("diffusers")


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
        ({"guidance_scale": (float("nan"), 3.0)}, r"prior.guidance_scale\[0\] is nan"),
        ({"fps": -5}, "prior.fps is -5"),
    ):
        with pytest.raises(ValueError, match=match):
            build(folders, **settings)


def test_generated_size_is_the_trained_one_unless_kept(folders):
    prior = build(folders, size=None)
    assert prior.generated_size(1024, 576) == prior.generated_size(512, 512) == (1024, 576)
    kept = build(folders, size=None, resize_mode="keep")
    assert kept.generated_size(576, 1024) == (576, 1024)
    assert kept.generated_size(512, 512) == (768, 768)


def test_a_float32_autoencoder_stays_beside_a_half_network(folders):
    prior = build(folders, precision="bfloat16", vae_precision="float32")
    assert prior.pipe.vae.dtype == torch.float32 and prior.pipe.unet.dtype == torch.bfloat16
    frames, camera, _ = scene(64, 64)
    latents = torch.zeros(5, 4, 32, 32)
    seen = []
    prior.pipe.vae.decoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].dtype))
    with torch.inference_mode():
        prior.decode_latents(latents)
    assert set(seen) == {torch.float32}


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
    target = drawn.make_guidance([warp])
    clean = torch.zeros(1, *latents["warp"].shape)
    wanted = target(clean, torch.tensor(1e9))[0]  # of nothing but the warp
    known = wanted.abs().sum(1, keepdim=True).expand_as(wanted) > 0
    off = {steer: float((some - wanted)[known].abs().mean()) for steer, some in latents.items()}
    assert off["warp"] < 0.02 * off["none"]
