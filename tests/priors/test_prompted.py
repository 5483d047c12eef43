"""Priors that make one prompted video a call through diffusers pipelines.

Tiny networks of the real classes record their inputs.
"""

import dataclasses
import inspect
from unittest import mock

import numpy as np
import pytest
import torch

from lift.geometry import rigid, rotation_from_vector
from lift.io.image import resize_images
from lift.priors import ClipRequest, priors
from lift.priors.cosmos import CANVASES, Cosmos
from lift.priors.diffusion.clips import clip_path
from lift.priors.diffusion.controls import pose_actions, scaled_poses
from lift.types import Cameras, Clip, Depth, Frames
from lift.warping.scaffold import Scaffold
from tests.helpers import tiny
from tests.helpers.clips import CPU, scene

pytest.importorskip("diffusers")
NAMES = ("vace", "sana_wm", "cosmos")


def turning(camera: Cameras, count: int, source: int = 0) -> Clip:
    """To the right and down while it turns, from a camera that itself has turned."""
    share = torch.linspace(1 / count, 1, count)[:, None]
    moved = rigid(
        rotation_from_vector(share * torch.tensor([0.02, -0.12, 0.03])),
        share * torch.tensor([-0.3, -0.1, 0.15]),
    )
    return Clip(
        "turn",
        source,
        Cameras(
            moved @ camera.world_to_camera,
            camera.intrinsics.repeat(count, 1, 1),
            camera.width,
            camera.height,
        ),
    )


def request(count: int, width: int = 96, height: int = 64, seed: int = 3) -> ClipRequest:
    """A clip that continues the second of two frames, whose camera is not at the origin."""
    frames, camera, _ = scene(width, height)
    second = turning(camera, 1).cameras
    both = Frames(torch.cat([frames.images, frames.images.flip(2)]))
    return ClipRequest(both, Cameras.cat([camera, second]), turning(second, count, 1), seed)


def build(folders, name: str, **settings):
    depth = settings.pop("depth", scene()[2])
    return priors.build(
        {"name": name, "model": folders(name), **tiny.SETTINGS[name], **settings},
        depth=depth,
        device=CPU,
        estimator=None,
    )


class CallRecordedError(Exception):
    pass


def handed(prior, one: ClipRequest) -> dict:
    """The arguments by name that the pipeline is called with."""
    kind = type(prior.pipe)
    signature = inspect.signature(kind.__call__)

    def take(*args, **settings):
        raise CallRecordedError(signature.bind(*args, **settings).arguments)

    with mock.patch.object(kind, "__call__", take), pytest.raises(CallRecordedError) as caught:
        prior(one.frames, one.cameras, one.clip, one.seed)
    return caught.value.args[0]


def sampled(prior, one: ClipRequest) -> torch.Tensor:
    return prior(one.frames, one.cameras, one.clip, one.seed).images


def composed(actions: torch.Tensor, unit: float) -> torch.Tensor:
    """Camera-to-world poses that actions lead to from the origin."""
    poses = [torch.eye(4, dtype=torch.float64)]
    for action in actions.double():
        first, second = action[3:6], action[6:]
        step = torch.eye(4, dtype=torch.float64)
        step[:3, :3], step[:3, 3] = (
            torch.stack([first, second, torch.linalg.cross(first, second)], 1),
            action[:3] * unit,
        )
        poses.append(poses[-1] @ step)
    return torch.stack(poses).float()


def test_signals_lead_back_to_the_path():
    cameras = clip_path(request(6))
    assert float(cameras.centers.norm(dim=1).max()) > 0.2
    actions = pose_actions(cameras, 0.3)
    assert actions.shape == (6, 9)
    torch.testing.assert_close(composed(actions, 0.3), cameras.camera_to_world, atol=1e-5, rtol=0)
    poses = scaled_poses(cameras, 0.3)
    torch.testing.assert_close(poses[:, :3, 3] * 0.3, cameras.centers, atol=1e-6, rtol=0)
    torch.testing.assert_close(
        torch.linalg.inv(poses)[:, :3, :3], cameras.world_to_camera[:, :3, :3], atol=1e-5, rtol=0
    )


def test_sana_wm_is_handed_poses_and_intrinsics_of_its_pictures(folders):
    prior, one = build(folders, "sana_wm"), request(8)
    inputs, cameras = handed(prior, one), clip_path(one)
    torch.testing.assert_close(
        torch.from_numpy(inputs["c2w"][:, :3, 3]) * prior.metre, cameras.centers, atol=1e-6, rtol=0
    )
    torch.testing.assert_close(
        torch.from_numpy(inputs["c2w"][:, :3, :3]),
        cameras.world_to_camera[:, :3, :3].mT,
        atol=1e-6,
        rtol=0,
    )
    width, height = prior.generated_size(96, 64)
    assert (inputs["width"], inputs["height"], inputs["num_frames"], inputs["image"].size) == (
        width,
        height,
        9,
        (width, height),
    )
    fx, fy, cx, cy = 90 * width / 96, 90 * height / 64, width / 2, height / 2
    torch.testing.assert_close(
        torch.from_numpy(inputs["intrinsics"]),
        torch.tensor([[fx, 0, cx], [0, fy, cy], [0, 0, 1]]).expand(9, 3, 3),
    )
    assert np.array_equal(
        np.asarray(inputs["image"]), resize_images(one.frames.images[1:], width, height)[0].numpy()
    )
    poses, four = prior.pipe.prepare_camera_trajectory(inputs["c2w"], None, inputs["intrinsics"], 9)
    planes, cropped = prior.pipe.image_processor.preprocess_with_intrinsics(
        inputs["image"], four, height, width
    )
    assert (
        np.array_equal(poses, inputs["c2w"])
        and np.array_equal(cropped, four)
        and planes.shape == (1, 3, height, width)
    ), "no frame and no pixel is lost"


def test_metre_is_one_for_metric_depth_else_a_setting(folders):
    depth = scene()[2]
    assert build(folders, "sana_wm").metre == pytest.approx(0.25 * depth.typical)
    assert build(folders, "sana_wm", unit=2.0).metre == pytest.approx(2 * depth.typical)
    assert build(folders, "sana_wm", depth=Depth(depth.depth, depth.valid, "metric")).metre == 1
    one = request(8)
    near, far = (
        handed(build(folders, "sana_wm", unit=unit), one)["c2w"][:, :3, 3] for unit in (0.5, 0.25)
    )
    np.testing.assert_allclose(2 * near, far, rtol=1e-5)


def test_sana_wm_decodes_in_the_pieces_it_was_trained_with(folders):
    vae = build(folders, "sana_wm").pipe.vae
    assert (
        vae.use_tiling
        and vae.use_framewise_decoding
        and (vae.tile_sample_min_num_frames, vae.tile_sample_stride_num_frames) == (96, 64)
    )


def test_cosmos_is_handed_actions_that_lead_along_the_path(folders):
    prior, one = build(folders, "cosmos", unit=0.1), request(4)
    inputs = handed(prior, one)
    action = inputs["action"]
    torch.testing.assert_close(
        composed(action.raw_actions, prior.unit), clip_path(one).camera_to_world, atol=1e-5, rtol=0
    )
    assert prior.unit == pytest.approx(0.1 * scene()[2].typical)
    assert (action.mode, action.domain_name, action.chunk_size, action.resolution_tier) == (
        "forward_dynamics",
        "camera_pose",
        4,
        256,
    )
    assert action.image.size == prior.generated_size(96, 64) and inputs["fps"] == 30
    assert np.array_equal(
        np.asarray(action.image),
        resize_images(one.frames.images[1:], *action.image.size)[0].numpy(),
    )


def test_cosmos_canvases_match_the_pipeline(folders):
    from diffusers.pipelines.cosmos.pipeline_cosmos3_omni import _ACTION_RESOLUTION_BINS
    from diffusers.video_processor import VideoProcessor

    assert {
        str(tier): {(down, across) for across, down in canvases}
        for tier, canvases in CANVASES.items()
    } == {tier: set(bins.values()) for tier, bins in _ACTION_RESOLUTION_BINS.items()}
    for tier, bins in _ACTION_RESOLUTION_BINS.items():
        prior = build(folders, "cosmos", resolution_tier=int(tier), size=None)
        for shape in np.geomspace(0.3, 3.5, 999):
            across, down = prior.generated_size(round(1000 * shape), 1000)
            canvas = VideoProcessor.classify_height_width_bin(down, across, bins)
            assert down <= canvas[0] and across <= canvas[1] and across % 16 == down % 16 == 0
            assert (
                abs(np.log(across / down / shape)) < (0.1 if tier == "256" else 0.04)
                and max(across / canvas[1], down / canvas[0]) > 0.9
            )
    prior, one = build(folders, "cosmos"), request(4)
    across, down = prior.generated_size(96, 64)
    pictures = resize_images(one.frames.images[1:], across, down)
    assert prior.sample(pictures, [clip_path(one).resized(across, down)], [one]).shape == (
        1,
        5,
        down,
        across,
        3,
    ), "nothing was shrunk or cropped"


def test_vace_completes_the_render_where_nothing_is_known(folders):
    prior, one = build(folders, "vace", depth=scene(64, 48)[2]), request(4, 64, 48)
    assert prior.generated_size(64, 48) == (64, 48)
    inputs, rendered = handed(prior, one), Scaffold(prior.scaffold.depth, None).render(one)
    video, mask = inputs["video"][0], inputs["mask"][0, :, 0]
    assert video.shape == (5, 3, 48, 64)
    holes = rendered.confidence == 0
    assert torch.equal(mask > 0, holes) and 0.02 < float(holes.float().mean()) < 0.6
    assert torch.equal(
        video.permute(0, 2, 3, 1)[~holes], rendered.images[~holes].float() / 255
    ) and bool((video.permute(0, 2, 3, 1)[holes] == 0.5).all())
    assert (
        torch.equal(video[0].permute(1, 2, 0), one.frames.images[1] / 255) and not mask[0].any()
    ), "the frame that it continues"
    assert np.array_equal(np.asarray(inputs["reference_images"]), one.frames.images[0].numpy()), (
        "the input"
    )
    planes, white, _ = prior.pipe.preprocess_conditions(
        inputs["video"], inputs["mask"], None, 1, 48, 64, 5, torch.float32, CPU
    )
    torch.testing.assert_close(planes[0], (2 * video - 1).transpose(0, 1)), "nothing is resized"
    assert torch.equal(white[0, 0], mask)


def test_vace_mask_keeps_only_fully_valid_pixels(folders):
    one = request(4)
    confidence = Scaffold(scene()[2], None).render(one).confidence
    video, mask = build(folders, "vace").condition(one, 48, 32)
    covered = confidence.unflatten(1, (32, 2)).unflatten(3, (48, 2)).amin((2, 4))
    assert torch.equal(mask[0, :, 0] == 0, covered > 0) and video.shape == (1, 5, 3, 32, 48)
    doubted = build(folders, "vace", min_confidence=0.6).condition(one, 48, 32)[1]
    assert bool((doubted >= mask).all()) and doubted.sum() > mask.sum(), (
        "what only the guessed depth of the second frame shows"
    )


def test_vace_words_are_what_the_pipeline_encodes(folders, monkeypatch):
    from diffusers.pipelines.wan import pipeline_wan_vace

    monkeypatch.setattr(
        pipeline_wan_vace, "prompt_clean", str.strip
    )  # its own needs one more package
    prior = build(folders, "vace", prompt="a red house", negative_prompt="blur")
    for found, text in zip(prior.prompt_embeddings, ("a red house", "blur"), strict=True):
        torch.testing.assert_close(
            found, prior.pipe._get_t5_prompt_embeds(text, max_sequence_length=512)
        )
    assert build(folders, "vace", guidance_scale=1.0).prompt_embeddings[1] is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        (
            "vace",
            (
                {"prompt": "red"},
                {"negative_prompt": "blur"},
                {"guidance_scale": 1.0},
                {"conditioning_scale": 0.0},
                {"reference": "none"},
                {"min_confidence": 0.6},
                {"flow_shift": 9.0},
            ),
        ),
        (
            "sana_wm",
            (
                {"prompt": "a red house"},
                {"negative_prompt": "blur"},
                {"guidance_scale": 1.0},
                {"unit": 0.1},
            ),
        ),
        (
            "cosmos",
            (
                {"prompt": "a red house"},
                {"guidance_scale": 6.0},
                {"unit": 0.003},
                {"fps": 5},
                {"flow_shift": 1.0},
            ),
        ),
    ],
)
def test_every_setting_has_an_effect(name, settings, folders):
    one = request(build(folders, name).clip_length)
    made = [sampled(build(folders, name, **more), one) for more in ({}, *settings)]
    for more, images in zip(settings, made[1:], strict=True):
        assert not torch.equal(images, made[0]), more


@pytest.mark.parametrize("name", NAMES)
def test_path_steps_and_half_precision_have_an_effect(name, folders):
    half = build(folders, name, precision="bfloat16")
    assert half.pipe.transformer.dtype == torch.bfloat16 and half.pipe.vae.dtype == (
        torch.bfloat16 if name == "cosmos" else torch.float32
    )
    prior = (
        build(folders, name) if name == "sana_wm" else half
    )  # its cameras are not for half precision on a CPU
    one = request(prior.clip_length)
    still = dataclasses.replace(one, clip=Clip("still", 1, one.cameras[[1] * prior.clip_length]))
    with mock.patch("lift.priors.diffusion.diffusion_prior.tqdm") as bar:
        moved = sampled(prior, one)
    assert bar.return_value.__enter__.return_value.update.call_count == prior.num_inference_steps
    assert not torch.equal(moved, sampled(prior, still))


def test_settings_out_of_range_name_the_value(folders):
    for name, settings, match in (
        ("vace", {"min_confidence": 1.0}, "prior.min_confidence is 1.0; choose 0"),
        ("vace", {"flow_shift": 0.0}, "prior.flow_shift is 0.0; choose 1e-06 to"),
        (
            "vace",
            {"guidance_scale": 0.5},
            r"prior.guidance_scale is 0.5; choose 1 to 100",
        ),
        ("vace", {"frames": 6}, r"this model makes 4k\+1: choose 5 or 9"),
        ("sana_wm", {"unit": 0.0}, "prior.unit is 0.0; choose 1e-06 to"),
        ("sana_wm", {"frames": 10}, r"this model makes 8k\+1: choose 9 or 17"),
        ("cosmos", {"unit": -1.0}, "prior.unit is -1.0"),
        ("cosmos", {"fps": 0}, "prior.fps is 0"),
        ("cosmos", {"flow_shift": 0.0}, "prior.flow_shift is 0.0"),
        (
            "cosmos",
            {"resolution_tier": 500},
            "prior.resolution_tier is 500; choose one of 256, 480, 704, 720",
        ),
        ("cosmos", {"size": 8}, "prior.size is 8; choose at least 16"),
    ):
        with pytest.raises(ValueError, match=match):
            build(folders, name, **settings)
    with (
        mock.patch("importlib.util.find_spec", return_value=None),
        pytest.raises(ImportError, match="prior.guardrail is true and needs cosmos_guardrail"),
    ):
        Cosmos(guardrail=True, depth=scene()[2], device=CPU)
