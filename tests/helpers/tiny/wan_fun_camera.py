"""Published folders of Wan-Fun-Camera with small networks."""

import json
import math
from pathlib import Path

import torch

from tests.helpers.tiny.text import BYTES, byte_tokenizer

WIDTH = 24
HEADS = 2
TEXT_WIDTH = 32
IMAGE_WIDTH = 80


class Layout(dict):
    """Names and shapes of the weights of a part. They follow the published code, not `lift`."""

    def layer(self, name: str, outputs: int, *inputs: int, bias: bool = True) -> None:
        """A linear layer or a convolution."""
        self[f"{name}.weight"] = (outputs, *inputs)
        if bias:
            self[f"{name}.bias"] = (outputs,)

    def norm(self, name: str, channels: int) -> None:
        self[f"{name}.weight"] = self[f"{name}.bias"] = (channels,)


def transformer_layout(latents: int, masked: bool, image: bool, downscale: int) -> Layout:
    """Wan's transformer of two blocks with the camera adapter."""
    layout = Layout()
    extra = latents + 4 if masked else latents
    layout.layer("patch_embedding", WIDTH, latents + extra, 1, 2, 2)
    layout.layer("text_embedding.0", WIDTH, TEXT_WIDTH)
    layout.layer("text_embedding.2", WIDTH, WIDTH)
    layout.layer("time_embedding.0", WIDTH, 32)
    layout.layer("time_embedding.2", WIDTH, WIDTH)
    layout.layer("time_projection.1", 6 * WIDTH, WIDTH)
    for k in range(2):
        block = f"blocks.{k}"
        layout[f"{block}.modulation"] = (1, 6, WIDTH)
        layout.norm(f"{block}.norm3", WIDTH)
        layout.layer(f"{block}.ffn.0", 40, WIDTH)
        layout.layer(f"{block}.ffn.2", WIDTH, 40)
        for attention in ("self_attn", "cross_attn"):
            pictured = image and attention == "cross_attn"
            for part in ("q", "k", "v", "o", *(("k_img", "v_img") if pictured else ())):
                layout.layer(f"{block}.{attention}.{part}", WIDTH, WIDTH)
            for part in ("q", "k", *(("k_img",) if pictured else ())):
                layout[f"{block}.{attention}.norm_{part}.weight"] = (WIDTH,)
    layout["head.modulation"] = (1, 2, WIDTH)
    layout.layer("head.head", 4 * latents, WIDTH)
    if image:
        layout.norm("img_emb.proj.0", IMAGE_WIDTH)
        layout.layer("img_emb.proj.1", IMAGE_WIDTH, IMAGE_WIDTH)
        layout.layer("img_emb.proj.3", WIDTH, IMAGE_WIDTH)
        layout.norm("img_emb.proj.4", WIDTH)
    layout.layer("control_adapter.conv", WIDTH, 24 * downscale**2, 2, 2)
    for k in (1, 2):
        layout.layer(f"control_adapter.residual_blocks.0.conv{k}", WIDTH, WIDTH, 3, 3)
    return layout


def text_layout() -> Layout:
    """UMT5 of two blocks."""
    layout = Layout({"token_embedding.weight": (BYTES, TEXT_WIDTH), "norm.weight": (TEXT_WIDTH,)})
    for k in range(2):
        block = f"blocks.{k}"
        for part in ("q", "k", "v", "o"):
            layout.layer(f"{block}.attn.{part}", TEXT_WIDTH, TEXT_WIDTH, bias=False)
        for part in ("norm1", "norm2"):
            layout[f"{block}.{part}.weight"] = (TEXT_WIDTH,)
        layout.layer(f"{block}.ffn.gate.0", 37, TEXT_WIDTH, bias=False)
        layout.layer(f"{block}.ffn.fc1", 37, TEXT_WIDTH, bias=False)
        layout.layer(f"{block}.ffn.fc2", TEXT_WIDTH, 37, bias=False)
        layout[f"{block}.pos_embedding.embedding.weight"] = (32, 4)
    return layout


def image_layout() -> Layout:
    """CLIP's image encoder of three layers, and a weight of the text encoder beside it."""
    layout = Layout({"textual.token_embedding.weight": (4, 4), "log_scale": ()})
    layout["visual.cls_embedding"] = (1, 1, IMAGE_WIDTH)
    layout["visual.pos_embedding"] = (1, 257, IMAGE_WIDTH)
    layout["visual.head"] = (IMAGE_WIDTH, 16)
    layout.layer("visual.patch_embedding", IMAGE_WIDTH, 3, 14, 14, bias=False)
    for part in ("pre_norm", "post_norm"):
        layout.norm(f"visual.{part}", IMAGE_WIDTH)
    for k in range(3):
        block = f"visual.transformer.{k}"
        for part in ("norm1", "norm2"):
            layout.norm(f"{block}.{part}", IMAGE_WIDTH)
        layout.layer(f"{block}.attn.to_qkv", 3 * IMAGE_WIDTH, IMAGE_WIDTH)
        layout.layer(f"{block}.attn.proj", IMAGE_WIDTH, IMAGE_WIDTH)
        layout.layer(f"{block}.mlp.0", 4 * IMAGE_WIDTH, IMAGE_WIDTH)
        layout.layer(f"{block}.mlp.2", IMAGE_WIDTH, 4 * IMAGE_WIDTH)
    return layout


def _residual(layout: Layout, name: str, inputs: int, outputs: int) -> None:
    layout[f"{name}.residual.0.gamma"] = (inputs, 1, 1, 1)
    layout.layer(f"{name}.residual.2", outputs, inputs, 3, 3, 3)
    layout[f"{name}.residual.3.gamma"] = (outputs, 1, 1, 1)
    layout.layer(f"{name}.residual.6", outputs, outputs, 3, 3, 3)
    if inputs != outputs:
        layout.layer(f"{name}.shortcut", outputs, inputs, 1, 1, 1)


def _middle(layout: Layout, name: str, width: int) -> None:
    _residual(layout, f"{name}.0", width, width)
    layout[f"{name}.1.norm.gamma"] = (width, 1, 1)
    layout.layer(f"{name}.1.to_qkv", 3 * width, width, 1, 1)
    layout.layer(f"{name}.1.proj", width, width, 1, 1)
    _residual(layout, f"{name}.2", width, width)


def autoencoder_layout(base: int, latents: int, nested: bool) -> Layout:
    """The autoencoder of Wan 2.1, or with `nested` that of Wan 2.2."""
    layout = Layout()
    widths = [base, base, 2 * base, 4 * base, 4 * base]
    colours = 12 if nested else 3
    layout.layer("encoder.conv1", base, colours, 3, 3, 3)
    entry = 0
    for level in range(4):
        for k in range(3 if level < 3 else 2):
            name = f"encoder.downsamples.{entry}"
            entry += 1
            if nested:
                name = f"encoder.downsamples.{level}.downsamples.{k}"
            width = widths[level + 1]
            if k < 2:
                _residual(layout, name, widths[level] if k == 0 else width, width)
                continue
            layout.layer(f"{name}.resample.1", width, width, 3, 3)
            if level > 0:
                layout.layer(f"{name}.time_conv", width, width, 3, 1, 1)
    _middle(layout, "encoder.middle", widths[-1])
    layout["encoder.head.0.gamma"] = (widths[-1], 1, 1, 1)
    layout.layer("encoder.head.2", 2 * latents, widths[-1], 3, 3, 3)
    layout.layer("conv1", 2 * latents, 2 * latents, 1, 1, 1)
    layout.layer("conv2", latents, latents, 1, 1, 1)
    top = 2 * base if nested else base
    ladder = [4 * top, 4 * top, 4 * top, 2 * top, top]
    layout.layer("decoder.conv1", ladder[0], latents, 3, 3, 3)
    _middle(layout, "decoder.middle", ladder[0])
    entry = 0
    for level in range(4):
        inputs, width = ladder[level], ladder[level + 1]
        if not nested and level > 0:
            inputs //= 2  # the layer that doubles the resolution halves the channels
        for k in range(4 if level < 3 else 3):
            name = f"decoder.upsamples.{entry}"
            entry += 1
            if nested:
                name = f"decoder.upsamples.{level}.upsamples.{k}"
            if k < 3:
                _residual(layout, name, inputs if k == 0 else width, width)
                continue
            layout.layer(f"{name}.resample.1", width if nested else width // 2, width, 3, 3)
            if level < 2:
                layout.layer(f"{name}.time_conv", 2 * width, width, 3, 1, 1)
    layout["decoder.head.0.gamma"] = (top, 1, 1, 1)
    layout.layer("decoder.head.2", colours, top, 3, 3, 3)
    return layout


def random_state(layout: Layout, seed: int) -> dict[str, torch.Tensor]:
    """Weights that keep the size of features about the same from layer to layer."""
    rng = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in layout.items():
        scale = name.endswith((".weight", "gamma")) and math.prod(shape) == max((1, *shape))
        spread = 0.1 if scale or len(shape) < 2 else math.prod(shape[1:]) ** -0.5
        state[name] = spread * torch.randn(shape, generator=rng) + float(scale)
    return state


def wan_fun_camera(folder: Path, generation: str = "2.1") -> Path:
    """A published folder of Wan 2.1, of Wan 2.2 A14B ("2.2") or of Wan 2.2 5B ("5B")."""
    from safetensors.torch import save_file

    image, nested = generation == "2.1", generation == "5B"
    latents = 48 if nested else 16
    config = {"num_heads": HEADS, "eps": 1e-6, "add_control_adapter": True}
    experts = ("high_noise_model", "low_noise_model") if generation == "2.2" else (".",)
    for seed, expert in enumerate(experts):
        layout = transformer_layout(latents, not image, image, 16 if nested else 8)
        (folder / expert).mkdir(parents=True, exist_ok=True)
        save_file(
            random_state(layout, seed), folder / expert / "diffusion_pytorch_model.safetensors"
        )
        (folder / expert / "config.json").write_text(json.dumps(config))
    torch.save(random_state(text_layout(), 3), folder / "models_t5_umt5-xxl-enc-bf16.pth")
    if image:
        torch.save(
            random_state(image_layout(), 4),
            folder / "models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth",
        )
    vae = random_state(autoencoder_layout(4, latents, nested), 5)
    torch.save(vae, folder / ("Wan2.2_VAE.pth" if nested else "Wan2.1_VAE.pth"))
    byte_tokenizer().save_pretrained(folder / "google" / "umt5-xxl")
    return folder
