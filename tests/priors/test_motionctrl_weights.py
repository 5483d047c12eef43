"""The published weights of MotionCtrl, and files that are something else."""

import argparse

import pytest
import torch

from tests.helpers.clips import build_motionctrl, motionctrl_network

pytest.importorskip("diffusers")


def published_names() -> list[str]:
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
    motionctrl_folder,
):
    from lift.priors.diffusion.motionctrl_network import (
        CameraUNet,
        checkpoint_names,
        load_published,
    )

    with torch.device("meta"):
        unet = CameraUNet.from_config(CameraUNet.load_config(motionctrl_folder, subfolder="unet"))
    names = checkpoint_names(unet)
    assert sorted(names.values()) == sorted(published_names())
    numbers = {name: float(number) for number, name in enumerate(published_names())}
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


def test_upsampling_after_attention_is_the_entrys_third_layer(motionctrl_folder):
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


def test_weights_are_read_from_where_they_are(motionctrl_folder, tmp_path, monkeypatch):
    from safetensors.torch import save_file

    kept = torch.load(motionctrl_folder / "motionctrl_svd.ckpt", weights_only=True)["state_dict"]
    save_file(
        {name: value.contiguous() for name, value in kept.items()}, tmp_path / "same.safetensors"
    )
    for weights in (
        None,
        str(motionctrl_folder / "motionctrl_svd.ckpt"),
        str(tmp_path / "same.safetensors"),
    ):
        unet = build_motionctrl(motionctrl_folder, weights=weights)._load_options()["unet"]
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
            "TencentARC/MotionCtrl/other.ckpt with; check"
        ),
    ):
        motionctrl_network(motionctrl_folder)


def test_weights_that_are_something_else_are_one_line(motionctrl_folder, tmp_path):
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
            build_motionctrl(motionctrl_folder, weights=str(tmp_path / name))._load_options()
        assert "\n" not in str(caught.value)
    with pytest.raises(
        FileNotFoundError,
        match=(
            "prior.weights is .*none.ckpt, which is no file; hf download "
            "TencentARC/MotionCtrl motionctrl_svd.ckpt"
        ),
    ):
        build_motionctrl(motionctrl_folder, weights=str(tmp_path / "none.ckpt"))._load_options()


def test_weights_of_another_network_name_the_mismatch(motionctrl_folder):
    from lift.priors.diffusion.motionctrl_network import load_published, read_checkpoint

    unet, kept = (
        motionctrl_network(motionctrl_folder),
        read_checkpoint(motionctrl_folder / "motionctrl_svd.ckpt"),
    )
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
