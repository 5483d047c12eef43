"""EasyAnimate, which gets the path as rays, on tiny networks."""

import pytest
import torch

from lift.priors.diffusion.clips import clip_path
from lift.priors.diffusion.controls import near_depth
from lift.types import Frames
from tests.helpers.clips import build, clip_request, request_arguments, scene
from tests.helpers.rays import poses_of_rays, turning_path

pytest.importorskip("diffusers")


def test_network_condition_inverts_to_the_path(folders):
    _, _, depth = scene()
    prior, one = build(folders, "easyanimate"), clip_request()
    there = turning_path(5)
    rays = prior.camera_video(there)
    assert rays.shape == (1, 6, 5, 20, 24)
    found = poses_of_rays(rays[0].transpose(0, 1), there)
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
    prior(*request_arguments(one))
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
    prior, one = build(folders, "easyanimate"), clip_request()
    right = prior(*request_arguments(one)).images
    assert not torch.equal(right, prior(*request_arguments(clip_request(far=-0.3))).images)
    assert not torch.equal(
        right, prior(Frames(255 - one.frames.images), one.cameras, one.clip, one.seed).images
    )


def test_default_negative_prompt_is_that_of_the_authors(folders):
    prior = build(folders, "easyanimate")
    assert prior.negative_prompt == (
        "Twisted body, limb deformities, text captions, comic, static, ugly, error, messy code."
    )
