"""Stable Virtual Camera's checkpoint, with the parts beside it."""

import math
from pathlib import Path

import torch

WIDTH = 64
CONTEXT = 32


def unet_layout() -> dict[str, tuple[int, ...]]:
    """Names and shapes of the weights. They follow the published code, not `lift`.

    Four levels of one block each, all of the same width. The last has no attention.
    """
    layout: dict[str, tuple[int, ...]] = {}

    def layer(name: str, outputs: int, *inputs: int, bias: bool = True) -> None:
        layout[f"{name}.weight"] = (outputs, *inputs)
        if bias:
            layout[f"{name}.bias"] = (outputs,)

    def norm(name: str, channels: int) -> None:
        layout[f"{name}.weight"] = layout[f"{name}.bias"] = (channels,)

    def residual(name: str, inputs: int) -> None:
        norm(f"{name}.in_layers.0", inputs)
        layer(f"{name}.in_layers.2", WIDTH, inputs, 3, 3)
        layer(f"{name}.emb_layers.1", WIDTH, 4 * WIDTH)
        layer(f"{name}.dense_emb_layers.0", 2 * inputs, 6, 1, 1)
        norm(f"{name}.out_layers.0", WIDTH)
        layer(f"{name}.out_layers.3", WIDTH, WIDTH, 3, 3)
        if inputs != WIDTH:
            layer(f"{name}.skip_connection", WIDTH, inputs, 1, 1)

    def transformer(name: str) -> None:
        norm(f"{name}.norm", WIDTH)
        for part in ("proj_in", "proj_out"):
            layer(f"{name}.{part}", WIDTH, WIDTH)
        for kind in ("transformer_blocks", "time_mix_blocks"):
            block = f"{name}.{kind}.0"
            mixes = kind == "time_mix_blocks"
            for part in ("norm1", "norm2", "norm3", *(("norm_in",) if mixes else ())):
                norm(f"{block}.{part}", WIDTH)
            for part in ("ff", *(("ff_in",) if mixes else ())):
                layer(f"{block}.{part}.net.0.proj", 8 * WIDTH, WIDTH)
                layer(f"{block}.{part}.net.2", WIDTH, 4 * WIDTH)
            for attention, source in (("attn1", WIDTH), ("attn2", CONTEXT)):
                layer(f"{block}.{attention}.to_q", WIDTH, WIDTH, bias=False)
                for part in ("to_k", "to_v"):
                    layer(f"{block}.{attention}.{part}", WIDTH, source, bias=False)
                layer(f"{block}.{attention}.to_out.0", WIDTH, WIDTH)

    for k, inputs in ((0, WIDTH), (2, 4 * WIDTH)):
        layer(f"time_embed.{k}", 4 * WIDTH, inputs)
    layer("input_blocks.0.0", WIDTH, 11, 3, 3)
    for level in range(4):
        entry = 1 + 2 * level
        residual(f"input_blocks.{entry}.0", WIDTH)
        if level < 3:
            transformer(f"input_blocks.{entry}.1")
            layer(f"input_blocks.{entry + 1}.0.op", WIDTH, WIDTH, 3, 3)
    residual("middle_block.0", WIDTH)
    transformer("middle_block.1")
    residual("middle_block.2", WIDTH)
    for entry in range(8):
        residual(f"output_blocks.{entry}.0", 2 * WIDTH)
        if entry > 1:
            transformer(f"output_blocks.{entry}.1")
        if entry % 2 and entry < 7:
            layer(f"output_blocks.{entry}.{2 if entry > 1 else 1}.conv", WIDTH, WIDTH, 3, 3)
    norm("out.0", WIDTH)
    layer("out.2", 4, WIDTH, 3, 3)
    return layout


def stable_virtual_camera(folder: Path) -> Path:
    from diffusers import AutoencoderKL
    from safetensors.torch import save_file
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    rng = torch.Generator().manual_seed(0)
    state = {}
    for name, shape in unet_layout().items():
        spread = math.prod(shape[1:]) ** -0.5 if len(shape) > 1 else 0.1
        scale = len(shape) == 1 and name.endswith(".weight")
        state[name] = spread * torch.randn(shape, generator=rng) + float(scale)
    folder.mkdir(parents=True)
    save_file(state, folder / "modelv1.1.safetensors")
    torch.manual_seed(0)
    levels = 4
    AutoencoderKL(
        block_out_channels=(8,) * levels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        layers_per_block=1,
        norm_num_groups=4,
    ).save_pretrained(folder / "vae")
    vision = CLIPVisionConfig(
        hidden_size=32,
        projection_dim=CONTEXT,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=37,
        patch_size=32,
        hidden_act="gelu",
    )
    CLIPVisionModelWithProjection(vision).save_pretrained(folder / "image_encoder")
    return folder
