"""MotionCtrl on a tiny network of the real classes.

The tests cover camera conditions, the network and the conversion of weights.
"""

import argparse
import dataclasses
import functools
import math

import pytest
import torch
from torch.nn.functional import linear

from lift.camera_paths import orbit_cameras
from lift.geometry import rigid, rotation_from_vector
from lift.priors import ClipRequest, priors
from lift.priors.diffusion.clips import clip_path
from lift.types import Cameras
from tests.helpers import tiny
from tests.helpers.clips import scene as rendered
from tests.helpers.clips import sideways

pytest.importorskip("diffusers")
CPU = torch.device("cpu")
scene = functools.cache(rendered)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(0)
    return tiny.motionctrl(tmp_path_factory.mktemp("motionctrl"))


def build(folder, **settings):
    _, _, depth = scene()
    settings = {
        "name": "motionctrl",
        "model": str(folder),
        **tiny.SETTINGS["motionctrl"],
        "frames": 3,
        **settings,
    }
    return priors.build(settings, depth=depth, device=CPU, estimator=None)


def tumbling(count: int) -> Cameras:
    """A path that turns and moves about all axes."""
    _, camera, _ = scene()
    share = torch.linspace(1 / count, 1, count)[:, None]
    world = rigid(
        rotation_from_vector(share * torch.tensor([0.2, -0.5, 0.1])),
        share * torch.tensor([0.3, -0.2, 0.7]),
    )
    return Cameras(world, camera.intrinsics.repeat(count, 1, 1), camera.width, camera.height)


def network(folder):
    return build(folder)._load_options()["unet"]


def inputs(clips: int, frames: int = 3):
    rng = torch.Generator().manual_seed(0)
    noisy, seen = (
        torch.randn(clips, frames, 8, 4, 6, generator=rng),
        torch.randn(clips, 1, 32, generator=rng),
    )
    conditions = torch.tensor([[10.0, 100.0, 0.1]]).repeat(clips, 1)
    return (noisy, torch.tensor(0.3), seen, conditions), 2 * torch.randn(
        clips, frames, 12, generator=rng
    )


def request(cameras: Cameras) -> ClipRequest:
    frames, camera, _ = scene()
    return ClipRequest(
        frames, camera, dataclasses.replace(sideways(camera, len(cameras)), cameras=cameras), 3
    )


# Conditions


@pytest.mark.parametrize("speed", [1.6, 0.5])
def test_pose_condition_is_the_path(folder, speed):
    _, _, depth = scene()
    wanted = [clip_path(request(tumbling(4))), clip_path(request(sideways(scene()[1], 4).cameras))]
    conditions = build(folder, speed=speed, frames=5).path_condition(wanted, 2)["cameras"]
    assert conditions.shape == (4, 5, 12) and torch.equal(conditions[:2], conditions[2:]), (
        "the same with the picture and without it"
    )
    for rows, cameras in zip(conditions[:2].unflatten(-1, (3, 4)), wanted, strict=True):
        torch.testing.assert_close(rows[0], torch.eye(3, 4), atol=1e-6, rtol=0)
        back = rigid(rows[..., :3], rows[..., 3] * depth.typical / (3.83 * speed))
        torch.testing.assert_close(back, cameras.world_to_camera, atol=1e-5, rtol=0)


def test_an_orbit_to_the_right_is_the_authors_example_of_one(folder):
    """Round-RI_90 at LiftImage3D's speed ends with this rotation and translation.

    Its multiplied axes make the translation slightly oval.
    """
    _, camera, depth = scene()
    turns = torch.arange(1, 16)[:, None] * torch.tensor([5.625, 0.0, 0.0])
    prior = build(folder, frames=16)
    last = prior.path_condition(
        [clip_path(request(orbit_cameras(camera, turns, depth.typical)))], 1
    )["cameras"][0, -1].unflatten(0, (3, 4))
    torch.testing.assert_close(
        last[:, :3],
        torch.tensor([[0.0980, 0.0, 0.9952], [0.0, 1.0, 0.0], [-0.9952, 0.0, 0.0980]]),
        atol=1e-3,
        rtol=0,
    )
    authors = torch.tensor([-6.5284, 0.0, 4.6182])
    assert float((last[:, 3] - authors).norm() / authors.norm()) < 0.2


def test_network_conditions_match_the_method(folder):
    frames, camera, depth = scene()
    prior = build(folder, batch_size=2)
    seen = []
    prior.pipe.unet.register_forward_pre_hook(
        lambda part, positional, named: seen.append(named), with_kwargs=True
    )
    one, other = request(tumbling(2)), ClipRequest(frames, camera, sideways(camera, 2), 3)
    prior.generate_batch([one, other])
    assert torch.equal(
        seen[0]["added_time_ids"], torch.tensor([[10.0, 100.0, 0.1]]).repeat(4, 1)
    ), "10 frames a second"
    assert torch.equal(
        seen[0]["cameras"], prior.path_condition([clip_path(one), clip_path(other)], 2)["cameras"]
    )
    as_published = priors.build({"name": "motionctrl"}, depth=depth, device=CPU, estimator=None)
    assert (
        as_published.frames,
        as_published.num_inference_steps,
        as_published.guidance_scale,
        as_published.warp_guidance,
    ) == (
        16,
        50,
        (1.0, 2.5),
        "none",
    )


@pytest.mark.slow
def test_faster_and_drawn_videos_are_others(folder):
    one, pipe = request(tumbling(2)), build(folder).pipe
    made = []
    for settings in ({}, {"speed": 8.0}, {"warp_guidance": "warp", "warp_error": 0.0}):
        prior = build(folder, **settings)
        prior.__dict__["pipe"] = pipe
        made.append(prior(one.frames, one.cameras, one.clip, one.seed).images)
    assert not torch.equal(made[0], made[1]) and not torch.equal(made[0], made[2])


# The network


def test_a_projection_maps_features_and_pose_laid_end_to_end():
    from lift.priors.diffusion.motionctrl_network import CameraProjection

    rng = torch.Generator().manual_seed(0)
    projection, features, cameras = (
        CameraProjection(6),
        torch.randn(2, 7, 5, 6, generator=rng),
        torch.randn(2, 5, 12, generator=rng),
    )
    assert torch.equal(projection(features, cameras), features), "as it is made"
    for parameter in projection.parameters():
        parameter.data = torch.randn(parameter.shape, generator=rng)
    both = torch.cat([features, cameras[:, None].expand(-1, 7, -1, -1)], -1)
    torch.testing.assert_close(
        projection(features, cameras), linear(both, projection.weight, projection.bias)
    )


def test_with_projections_as_they_are_made_the_network_is_svds(folder):
    from diffusers import UNetSpatioTemporalConditionModel

    from lift.priors.diffusion.motionctrl_network import CameraUNet

    plain = UNetSpatioTemporalConditionModel.from_pretrained(folder, subfolder="unet").eval()
    unet = CameraUNet.from_config(plain.config).eval()
    found = unet.load_state_dict(plain.state_dict(), strict=False)
    assert (
        not found.unexpected_keys
        and all(".camera." in name for name in found.missing_keys)
        and len(found.missing_keys) == 2 * 4
    )
    given, cameras = inputs(2)
    with torch.inference_mode():
        svds = plain(*given).sample
        for conditions in (None, cameras, torch.eye(3, 4).flatten().expand(2, 3, 12)):
            torch.testing.assert_close(
                unet(*given, cameras=conditions).sample, svds, atol=1e-5, rtol=1e-5
            )


@torch.inference_mode()
def test_cameras_change_their_own_clip_alone_in_any_precision(folder):
    unet = network(folder)
    given, cameras = inputs(2)
    both = unet(*given, cameras=cameras).sample
    moved = unet(*given, cameras=torch.cat([cameras[:1], cameras[1:] + 1])).sample
    torch.testing.assert_close(moved[0], both[0])
    assert float((moved[1] - both[1]).abs().max()) > 1e-3
    for clip in range(2):
        part = [some[clip : clip + 1] if some.dim() else some for some in given]
        torch.testing.assert_close(
            unet(*part, cameras=cameras[clip : clip + 1]).sample[0],
            both[clip],
            atol=1e-5,
            rtol=1e-4,
        )
    unet.half()
    part = [
        some[:1].half() if some.dim() > 2 else some[:1] if some.dim() else some for some in given
    ]
    rough = unet(*part, cameras=cameras[:1]).sample
    assert rough.dtype == torch.float16 and float(
        (rough[0].float() - both[0]).abs().mean()
    ) < 0.02 * float(both.std())


@torch.inference_mode()
def test_eight_bits_leave_the_projections_alone(folder):
    unet = network(folder)
    given, cameras = inputs(1)
    exact = unet(*given, cameras=cameras).sample
    unet.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)
    held = {name: parameter.dtype for name, parameter in unet.named_parameters()}
    assert (
        all(dtype == torch.float32 for name, dtype in held.items() if ".camera." in name)
        and torch.float8_e4m3fn in held.values()
    )
    assert (
        0
        < float((unet(*given, cameras=cameras).sample - exact).abs().mean())
        < 0.2 * float(exact.std())
    )


@torch.inference_mode()
@pytest.mark.slow
def test_it_is_one_graph_to_the_compiler():
    from lift.priors.diffusion.motionctrl_network import CameraUNet

    unet = CameraUNet(
        block_out_channels=(32,),
        layers_per_block=1,
        cross_attention_dim=32,
        num_attention_heads=(2,),
        down_block_types=("CrossAttnDownBlockSpatioTemporal",),
        up_block_types=("CrossAttnUpBlockSpatioTemporal",),
        projection_class_embeddings_input_dim=96,
        addition_time_embed_dim=32,
    ).eval()
    tiny.stirred(unet, torch.Generator().manual_seed(0))
    given, cameras = inputs(2)
    graphs = []

    def kept(graph, _):
        graphs.append(graph)
        return graph

    compiled = torch.compile(unet, backend=kept, fullgraph=True)
    torch.testing.assert_close(
        compiled(*given, cameras=cameras).sample, unet(*given, cameras=cameras).sample
    )
    torch.testing.assert_close(
        compiled(*given, cameras=cameras + 1).sample, unet(*given, cameras=cameras + 1).sample
    )
    assert len(graphs) == 1, "other cameras are no reason to compile anew"


# Its weights


def layout() -> list[str]:
    """The tensors of a tiny network, named as in the authors' repository.

    It has one layer of 32 channels with attention and one of 64 without.
    """

    def both(*layers: str) -> list[str]:
        return [f"{layer}.{what}" for layer in layers for what in ("weight", "bias")]

    def block(at: str, temporal: bool) -> list[str]:
        attention = [
            f"{at}.{name}.to_{what}.weight" for name in ("attn1", "attn2") for what in "qkv"
        ]
        layers = [
            "attn1.to_out.0",
            "attn2.to_out.0",
            "ff.net.0.proj",
            "ff.net.2",
            "norm1",
            "norm2",
            "norm3",
        ]
        layers += (
            ["norm_in", "ff_in.net.0.proj", "ff_in.net.2", "cc_projection"] if temporal else []
        )
        return attention + both(*(f"{at}.{layer}" for layer in layers))

    def residual(at: str, widens: bool) -> list[str]:
        layers = ["in_layers.0", "in_layers.2", "emb_layers.1", "out_layers.0", "out_layers.3"]
        spatial = both(
            *(f"{at}.{layer}" for layer in [*layers, *(["skip_connection"] if widens else [])])
        )
        return (
            spatial
            + both(*(f"{at}.time_stack.{layer}" for layer in layers))
            + [f"{at}.time_mixer.mix_factor"]
        )

    def attention(at: str) -> list[str]:
        ends = both(
            *(
                f"{at}.{layer}"
                for layer in ("norm", "proj_in", "proj_out", "time_pos_embed.0", "time_pos_embed.2")
            )
        )
        return (
            ends
            + block(f"{at}.transformer_blocks.0", False)
            + block(f"{at}.time_stack.0", True)
            + [f"{at}.time_mixer.mix_factor"]
        )

    names = both(
        "time_embed.0",
        "time_embed.2",
        "label_emb.0.0",
        "label_emb.0.2",
        "input_blocks.0.0",
        "out.0",
        "out.2",
    )
    names += (
        residual("input_blocks.1.0", False)
        + attention("input_blocks.1.1")
        + both("input_blocks.2.0.op")
        + residual("input_blocks.3.0", True)
    )
    names += (
        residual("middle_block.0", False)
        + attention("middle_block.1")
        + residual("middle_block.2", False)
    )
    names += (
        residual("output_blocks.0.0", True)
        + residual("output_blocks.1.0", True)
        + both("output_blocks.1.1.conv")
    )
    for entry in (2, 3):
        names += residual(f"output_blocks.{entry}.0", True) + attention(f"output_blocks.{entry}.1")
    return [f"model.diffusion_model.{name}" for name in names]


def test_published_tensors_fill_all_parameters(
    folder,
):
    from lift.priors.diffusion.motionctrl_network import (
        CameraUNet,
        checkpoint_names,
        load_published,
    )

    with torch.device("meta"):
        unet = CameraUNet.from_config(CameraUNet.load_config(folder, subfolder="unet"))
    names = checkpoint_names(unet)
    assert sorted(names.values()) == sorted(layout())
    numbers = {name: float(number) for number, name in enumerate(layout())}
    state = {
        names[ours]: torch.full(value.shape, numbers[names[ours]])
        for ours, value in unet.state_dict().items()
    }
    load_published(unet, {**state, "first_stage_model.x": torch.zeros(1)}, "made", torch.float32)
    filled = {name: value.detach() for name, value in unet.named_parameters()}
    assert not any(value.is_meta for value in filled.values()) and len(
        {float(value.flatten()[0]) for value in filled.values()}
    ) == len(filled)
    temporal = "temporal_transformer_blocks.0"
    for ours, theirs in {
        "down_blocks.0.downsamplers.0.conv.weight": "input_blocks.2.0.op.weight",
        "down_blocks.1.resnets.0.spatial_res_block.conv_shortcut.bias": (
            "input_blocks.3.0.skip_connection.bias"
        ),
        "up_blocks.0.upsamplers.0.conv.bias": "output_blocks.1.1.conv.bias",
        f"up_blocks.1.attentions.1.{temporal}.camera.weight": (
            "output_blocks.3.1.time_stack.0.cc_projection.weight"
        ),
        "mid_block.resnets.1.temporal_res_block.conv2.weight": (
            "middle_block.2.time_stack.out_layers.3.weight"
        ),
        "mid_block.attentions.0.transformer_blocks.0.norm2.weight": (
            "middle_block.1.transformer_blocks.0.norm2.weight"
        ),
        "add_embedding.linear_2.bias": "label_emb.0.2.bias",
    }.items():
        assert float(filled[ours].flatten()[0]) == numbers[f"model.diffusion_model.{theirs}"], ours


def test_upsampling_after_attention_is_the_entrys_third_layer(folder):
    from lift.priors.diffusion.motionctrl_network import CameraUNet, checkpoint_names

    with torch.device("meta"):
        names = checkpoint_names(CameraUNet())  # the published sizes
    for ours, theirs in {
        "up_blocks.0.upsamplers.0.conv.weight": "output_blocks.2.1.conv.weight",
        "up_blocks.1.upsamplers.0.conv.weight": "output_blocks.5.2.conv.weight",
        "up_blocks.3.attentions.2.temporal_transformer_blocks.0.camera.weight": (
            "output_blocks.11.1.time_stack.0.cc_projection.weight"
        ),
        "down_blocks.3.resnets.1.time_mixer.mix_factor": "input_blocks.11.0.time_mixer.mix_factor",
    }.items():
        assert names[ours] == f"model.diffusion_model.{theirs}"
    assert (
        len(set(names.values())) == len(names)
        and sum("cc_projection.weight" in name for name in names.values()) == 16
    )


def test_weights_are_read_from_where_they_are(folder, tmp_path, monkeypatch):
    from safetensors.torch import save_file

    kept = torch.load(folder / "motionctrl_svd.ckpt", weights_only=True)["state_dict"]
    save_file(
        {name: value.contiguous() for name, value in kept.items()}, tmp_path / "same.safetensors"
    )
    for weights in (None, str(folder / "motionctrl_svd.ckpt"), str(tmp_path / "same.safetensors")):
        unet = build(folder, weights=weights)._load_options()["unet"]
        assert (
            torch.equal(unet.conv_in.weight, kept["model.diffusion_model.input_blocks.0.0.weight"])
            and not unet.training
        )

    def unreachable(repository: str, file: str) -> str:
        raise OSError(f"no network to bring {repository}/{file}\nwith")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", unreachable)
    monkeypatch.setattr("lift.priors.motionctrl.WEIGHTS_FILE", "other.ckpt")
    with pytest.raises(
        FileNotFoundError,
        match=(
            "other.ckpt of TencentARC/MotionCtrl could .* bring "
            "TencentARC/MotionCtrl/other.ckpt with.; check"
        ),
    ):
        network(folder)


def test_weights_that_are_something_else_are_one_line(folder, tmp_path):
    (tmp_path / "text.ckpt").write_text("a page that says that there is no such file")
    (tmp_path / "text.safetensors").write_text("the same")
    held = {
        "code": {"state_dict": {}, "options": argparse.Namespace(a=1)},
        "list": [1, 2],
        "numbers": {"state_dict": {"a": 1}},
        "other": {"a": torch.zeros(1)},
    }
    for name, value in held.items():
        torch.save(value, tmp_path / f"{name}.ckpt")
    for name, match in {
        "text.ckpt": "is no checkpoint that holds tensors alone",
        "text.safetensors": "is no checkpoint that holds tensors alone",
        "code.ckpt": "is no checkpoint that holds tensors alone",
        "list.ckpt": "holds no state_dict of tensors",
        "numbers.ckpt": "holds no state_dict of tensors",
        "other.ckpt": (
            r"lacks (\d+) of the \1 tensors of MotionCtrl's network: "
            r"model.diffusion_model.input_blocks.0.0.weight, .*, \.\.\."
        ),
    }.items():
        with pytest.raises(ValueError, match=f"prior.weights is .*{name}, which {match}") as caught:
            build(folder, weights=str(tmp_path / name))._load_options()
        assert "\n" not in str(caught.value)
    with pytest.raises(
        FileNotFoundError,
        match=(
            "prior.weights is .*none.ckpt, which is no file; hf download "
            "TencentARC/MotionCtrl motionctrl_svd.ckpt"
        ),
    ):
        build(folder, weights=str(tmp_path / "none.ckpt"))._load_options()


def test_weights_of_another_network_name_the_mismatch(folder):
    from lift.priors.diffusion.motionctrl_network import load_published, read_checkpoint

    unet, kept = network(folder), read_checkpoint(folder / "motionctrl_svd.ckpt")
    some = "model.diffusion_model.middle_block.1.time_stack.0.cc_projection.bias"
    for state, match in (
        (
            {name: value for name, value in kept.items() if name != some},
            f"FILE, which lacks 1 of the {len(kept)} tensors of MotionCtrl's network: {some}$",
        ),
        (
            {**kept, "model.diffusion_model.more": torch.zeros(1)},
            (
                "FILE, whose network has 1 tensors more than prior.model's: "
                "model.diffusion_model.more$"
            ),
        ),
        (
            {**kept, some: torch.zeros(3)},
            rf"FILE, whose {some} is \[3\], and \[64\] in prior.model's",
        ),
    ):
        with pytest.raises(ValueError, match=f"prior.weights is {match}"):
            load_published(unet, state, "FILE", torch.float32)


def test_a_speed_that_is_none_is_refused(folder):
    for speed in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match=f"prior.speed is {speed}; choose more than 0"):
            build(folder, speed=speed)
