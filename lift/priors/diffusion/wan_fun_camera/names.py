"""Names of Wan's published tensors in the networks of diffusers and transformers."""

import re
from collections.abc import Mapping

from torch import Tensor

NUM_RESIDUAL_BLOCKS = 2
"""Residual blocks of each level of the autoencoder's encoder. Its decoder has one more."""

AUTOENCODER_NAMES = {
    ".residual.0.": ".norm1.",
    ".residual.2.": ".conv1.",
    ".residual.3.": ".norm2.",
    ".residual.6.": ".conv2.",
    ".shortcut.": ".conv_shortcut.",
    "coder.conv1.": "coder.conv_in.",
    ".head.0.": ".norm_out.",
    ".head.2.": ".conv_out.",
    ".middle.0.": ".mid_block.resnets.0.",
    ".middle.1.": ".mid_block.attentions.0.",
    ".middle.2.": ".mid_block.resnets.1.",
}
"""Published part of a name in the autoencoder -> that of diffusers."""

TEXT_NAMES = {
    "token_embedding.": "encoder.embed_tokens.",
    "norm.": "encoder.final_layer_norm.",
    "norm1.": "layer.0.layer_norm.",
    "norm2.": "layer.1.layer_norm.",
    "attn.": "layer.0.SelfAttention.",
    "pos_embedding.embedding.": "layer.0.SelfAttention.relative_attention_bias.",
    "ffn.gate.0.": "layer.1.DenseReluDense.wi_0.",
    "ffn.fc1.": "layer.1.DenseReluDense.wi_1.",
    "ffn.fc2.": "layer.1.DenseReluDense.wo.",
}
"""Published start of a name in the text encoder, or in a block -> that of transformers."""

IMAGE_NAMES = {
    "cls_embedding": "embeddings.class_embedding",
    "pos_embedding": "embeddings.position_embedding.weight",
    "patch_embedding.": "embeddings.patch_embedding.",
    "pre_norm.": "pre_layrnorm.",
    "post_norm.": "post_layernorm.",
    "norm1.": "layer_norm1.",
    "norm2.": "layer_norm2.",
    "attn.proj.": "self_attn.out_proj.",
    "mlp.0.": "mlp.fc1.",
    "mlp.2.": "mlp.fc2.",
}
"""Published start of a name in the image encoder, or in a layer -> that of transformers."""


def autoencoder_name(name: str) -> str:
    """Return a published name of the autoencoder in diffusers.

    Args:
        name: Name in Wan2.1_VAE.pth or Wan2.2_VAE.pth.

    Returns:
        Name in `AutoencoderKLWan`.
    """
    if name.startswith(("conv1.", "conv2.")):
        return name.replace("conv1.", "quant_conv.").replace("conv2.", "post_quant_conv.")
    for published, ours in AUTOENCODER_NAMES.items():
        name = name.replace(published, ours)
    # Wan 2.2 nests the layers of a level.
    nested = re.sub(
        r"\.(down|up)samples\.(\d+)\.\1samples\.\d+\.(resample|time_conv)\.",
        r".\1_blocks.\2.\1sampler.\3.",
        name,
    )
    nested = re.sub(r"\.(down|up)samples\.(\d+)\.\1samples\.", r".\1_blocks.\2.resnets.", nested)
    if nested != name:
        return nested
    # Wan 2.1 has one list of all layers. That of the encoder is the same in diffusers.
    name = name.replace(".downsamples.", ".down_blocks.")
    match = re.match(r"decoder\.upsamples\.(\d+)\.(.*)", name)
    if match is None:
        return name
    level, layer = divmod(int(match[1]), NUM_RESIDUAL_BLOCKS + 2)
    part = f"resnets.{layer}" if layer <= NUM_RESIDUAL_BLOCKS else "upsamplers.0"
    return f"decoder.up_blocks.{level}.{part}.{match[2]}"


def replace_prefix(name: str, names: Mapping[str, str]) -> str:
    """Replace the start of a name.

    Args:
        name: Any name.
        names: Start -> its replacement.

    Returns:
        The new name, or the old one if no start matches.
    """
    for start, replacement in names.items():
        if name.startswith(start):
            return replacement + name.removeprefix(start)
    return name


def text_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of the text encoder.

    Args:
        state: Tensors of models_t5_umt5-xxl-enc-bf16.pth.

    Returns:
        Tensors with the names of `UMT5EncoderModel`.
    """
    tensors = {}
    for name, value in state.items():
        match = re.match(r"blocks\.(\d+)\.(.*)", name)
        prefix, rest = (f"encoder.block.{match[1]}.", match[2]) if match else ("", name)
        tensors[prefix + replace_prefix(rest, TEXT_NAMES)] = value
    return {**tensors, "shared.weight": tensors["encoder.embed_tokens.weight"]}


def image_state(state: Mapping[str, Tensor], num_layers: int) -> dict[str, Tensor]:
    """Rename the tensors of the image encoder, without those of later layers.

    Args:
        state: Tensors of models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth. Those of its text
            encoder are not used.
        num_layers: Number of layers to keep.

    Returns:
        Tensors with the names of `CLIPVisionModel`, without a prefix.
    """
    tensors: dict[str, Tensor] = {}
    for published, value in state.items():
        if not published.startswith("visual.") or published == "visual.head":
            continue
        name = published.removeprefix("visual.")
        match = re.match(r"transformer\.(\d+)\.(.*)", name)
        if match is None:
            squeezed = name in ("cls_embedding", "pos_embedding")
            tensors[replace_prefix(name, IMAGE_NAMES)] = value.squeeze() if squeezed else value
            continue
        if int(match[1]) >= num_layers:
            continue
        layer = f"encoder.layers.{match[1]}."
        if match[2].startswith("attn.to_qkv."):
            kind = match[2].removeprefix("attn.to_qkv.")
            for part, chunk in zip("qkv", value.chunk(3), strict=True):
                tensors[f"{layer}self_attn.{part}_proj.{kind}"] = chunk
        else:
            tensors[layer + replace_prefix(match[2], IMAGE_NAMES)] = value
    return tensors
