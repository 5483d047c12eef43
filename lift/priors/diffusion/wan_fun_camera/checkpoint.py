"""Read a published folder of Wan-Fun-Camera into a pipeline of diffusers."""

import json
import math
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from lift.priors.diffusion.wan_fun_camera import names
from lift.priors.diffusion.wan_fun_camera.files import (
    AUTOENCODER_FILES,
    EXPERT_FOLDERS,
    IMAGE_FILE,
    TEXT_FILE,
    TOKENIZER_FOLDER,
)
from lift.priors.diffusion.wan_fun_camera.transformer import CameraTransformer
from lift.weights.files import load_pickle, load_safetensors

IMAGE_HEAD_CHANNELS = 80
"""Channels of an attention head of the image encoder, ViT-H/14."""

LATENT_MEAN_2_2 = (
    -0.2289, -0.0052, -0.1323, -0.2339, -0.2799, 0.0174, 0.1838, 0.1557, -0.1382, 0.0542, 0.2813,
    0.0891, 0.1570, -0.0098, 0.0375, -0.1825, -0.2246, -0.1207, -0.0698, 0.5109, 0.2665, -0.2108,
    -0.2158, 0.2502, -0.2055, -0.0322, 0.1109, 0.1567, -0.0729, 0.0899, -0.2799, -0.1230, -0.0313,
    -0.1649, 0.0117, 0.0723, -0.2839, -0.2083, -0.0520, 0.3748, 0.0152, 0.1957, 0.1433, -0.2944,
    0.3573, -0.0548, -0.1681, -0.0667,
)  # fmt: skip
"""Mean of each latent channel of Wan 2.2's autoencoder."""
LATENT_STD_2_2 = (
    0.4765, 1.0364, 0.4514, 1.1677, 0.5313, 0.4990, 0.4818, 0.5013, 0.8158, 1.0344, 0.5894, 1.0901,
    0.6885, 0.6165, 0.8454, 0.4978, 0.5759, 0.3523, 0.7135, 0.6804, 0.5833, 1.4146, 0.8986, 0.5659,
    0.7069, 0.5338, 0.4889, 0.4917, 0.4069, 0.4999, 0.6866, 0.4093, 0.5709, 0.6065, 0.6415, 0.4944,
    0.5726, 1.2042, 0.5458, 1.6887, 0.3971, 1.0600, 0.3943, 0.5537, 0.5444, 0.4089, 0.7468, 0.7744,
)  # fmt: skip
"""Its standard deviation."""

Network = TypeVar("Network", bound=nn.Module)


def read_shards(folder: Path) -> dict[str, Tensor]:
    """Read all safetensors files of a folder.

    Args:
        folder: A folder with one file or several shards.

    Returns:
        Name -> tensor.

    Raises:
        FileNotFoundError: If there is no such file.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise FileNotFoundError(f"{folder} has no file *.safetensors")
    return {name: value for file in files for name, value in load_safetensors(file).items()}


def count_blocks(state: Mapping[str, Tensor], prefix: str) -> int:
    """Count the numbered blocks of a network.

    Args:
        state: Its tensors.
        prefix: What stands before the number.

    Returns:
        One more than the highest number.
    """
    numbers = [name.removeprefix(prefix).split(".")[0] for name in state if name.startswith(prefix)]
    return 1 + max(map(int, numbers))


def build(
    make: Callable[[], Network],
    state: Mapping[str, Tensor],
    dtype: torch.dtype,
    float32_parts: Collection[str] = (),
) -> Network:
    """Build a network around its weights, without a copy of random ones.

    Args:
        make: Makes the network.
        state: All its weights.
        dtype: Type of the weights.
        float32_parts: Parts of names whose weights stay in single precision.

    Returns:
        The network, for inference.

    Raises:
        RuntimeError: If weights are missing or unexpected, or have another shape.
    """
    from accelerate import init_empty_weights

    with init_empty_weights():  # buffers are real: they are not in the checkpoint
        network = make()
    single = {name for name in state if set(name.split(".")) & set(float32_parts)}
    network.load_state_dict(
        {
            name: value.to(torch.float32 if name in single else dtype)
            for name, value in state.items()
        },
        assign=True,
    )
    return network.eval().requires_grad_(False)


def build_transformer(folder: Path, dtype: torch.dtype) -> CameraTransformer:
    """Build the transformer. Its sizes are those of the weights.

    Args:
        folder: A folder with config.json and safetensors files.
        dtype: Type of the weights.

    Returns:
        The transformer.

    Raises:
        ValueError: If the weights have no camera adapter.
    """
    from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers

    config = json.loads((folder / "config.json").read_text())
    published = read_shards(folder)
    if "control_adapter.conv.weight" not in published or "ref_conv.weight" in published:
        raise ValueError("it is no model for camera control; choose one named Control-Camera")
    state = convert_wan_transformer_to_diffusers(published)
    prefixes = {
        "patch_embedding.": "patch_embedding.latents.",
        "control_adapter.": "patch_embedding.camera.",
    }
    state = {names.replace_prefix(name, prefixes): value for name, value in state.items()}
    inner_dim, in_channels, *patch_size = state["patch_embedding.latents.weight"].shape
    image = state.get("condition_embedder.image_embedder.norm1.weight")
    cross = "blocks.0.attn2.add_k_proj.weight" in state
    sizes: dict[str, Any] = {
        "ray_channels": state["patch_embedding.camera.conv.weight"].shape[1],
        "in_channels": in_channels,
        "out_channels": state["proj_out.weight"].shape[0] // math.prod(patch_size),
        "patch_size": tuple(patch_size),
        "num_attention_heads": config["num_heads"],
        "attention_head_dim": inner_dim // config["num_heads"],
        "text_dim": state["condition_embedder.text_embedder.linear_1.weight"].shape[1],
        "freq_dim": state["condition_embedder.time_embedder.linear_1.weight"].shape[1],
        "ffn_dim": state["blocks.0.ffn.net.0.proj.weight"].shape[0],
        "num_layers": count_blocks(state, "blocks."),
        "eps": config.get("eps", 1e-6),
        "image_dim": None if image is None else len(image),
        "added_kv_proj_dim": inner_dim if cross else None,
    }
    keep = CameraTransformer._keep_in_fp32_modules
    return build(lambda: CameraTransformer(**sizes), state, dtype, keep)


def build_text_encoder(state: Mapping[str, Tensor], dtype: torch.dtype) -> Any:
    """Build the text encoder, UMT5.

    Args:
        state: Tensors of `TEXT_FILE`.
        dtype: Type of the weights.

    Returns:
        The encoder.
    """
    from transformers import UMT5Config, UMT5EncoderModel

    inner, width = state["blocks.0.ffn.fc1.weight"].shape
    buckets, heads = state["blocks.0.pos_embedding.embedding.weight"].shape
    config = UMT5Config(
        vocab_size=len(state["token_embedding.weight"]),
        d_model=width,
        d_kv=len(state["blocks.0.attn.q.weight"]) // heads,
        d_ff=inner,
        num_layers=count_blocks(state, "blocks."),
        num_heads=heads,
        relative_attention_num_buckets=buckets,
    )
    # This layer exceeds the range of half precision.
    keep = ("wo",) if dtype == torch.float16 else ()
    encoder = build(lambda: UMT5EncoderModel(config), names.text_state(state), dtype, keep)
    encoder.tie_weights()
    return encoder


def build_image_encoder(state: Mapping[str, Tensor], dtype: torch.dtype) -> Any:
    """Build CLIP's image encoder, without its last layer, which Wan does not use.

    Args:
        state: Tensors of `IMAGE_FILE`.
        dtype: Type of the weights.

    Returns:
        The encoder. Its `last_hidden_state` is what Wan was trained with.
    """
    from transformers import CLIPVisionConfig, CLIPVisionModel

    width, _, patch, _ = state["visual.patch_embedding.weight"].shape
    tokens = state["visual.pos_embedding"].shape[1]
    num_layers = count_blocks(state, "visual.transformer.") - 1
    config = CLIPVisionConfig(
        hidden_size=width,
        intermediate_size=len(state["visual.transformer.0.mlp.0.weight"]),
        num_hidden_layers=num_layers,
        num_attention_heads=width // IMAGE_HEAD_CHANNELS,
        image_size=patch * math.isqrt(tokens - 1),
        patch_size=patch,
        hidden_act="gelu",
    )
    with torch.device("meta"):
        keys = CLIPVisionModel(config).state_dict()
    # Some versions of transformers have a prefix.
    prefix = "" if "pre_layrnorm.weight" in keys else "vision_model."
    published = names.image_state(state, num_layers)
    tensors = {prefix + name: value for name, value in published.items()}
    return build(lambda: CLIPVisionModel(config), tensors, dtype)


def build_autoencoder(state: Mapping[str, Tensor]) -> Any:
    """Build the autoencoder of Wan 2.1 or of Wan 2.2, in single precision.

    Args:
        state: Tensors of one of `AUTOENCODER_FILES`.

    Returns:
        The autoencoder.
    """
    from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan

    options: dict[str, Any] = {
        "base_dim": len(state["encoder.conv1.weight"]),
        "z_dim": len(state["conv2.weight"]),
    }
    if any(".downsamples.0.downsamples." in name for name in state):  # Wan 2.2
        in_channels = state["encoder.conv1.weight"].shape[1]
        patch = math.isqrt(in_channels // 3)
        options.update(
            decoder_base_dim=len(state["decoder.head.0.gamma"]),
            is_residual=True,
            in_channels=in_channels,
            out_channels=in_channels,
            patch_size=patch,
            scale_factor_spatial=8 * patch,
            latents_mean=LATENT_MEAN_2_2,
            latents_std=LATENT_STD_2_2,
        )
    tensors = {names.autoencoder_name(name): value for name, value in state.items()}
    return build(lambda: AutoencoderKLWan(**options), tensors, torch.float32)


def build_pipeline(folder: Path, flow_shift: float, dtype: torch.dtype) -> Any:
    """Build all parts of a published folder.

    Args:
        folder: A folder with the published files.
        flow_shift: Shift of the noise levels.
        dtype: Type of the weights. The autoencoder stays in single precision.

    Returns:
        A `WanImageToVideoPipeline` that holds the parts. Its `transformer` is for high noise
        levels, its `transformer_2`, if any, for low ones.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If the model has no camera control.
    """
    from diffusers.pipelines.wan.pipeline_wan_i2v import WanImageToVideoPipeline
    from diffusers.schedulers.scheduling_flow_match_euler_discrete import (
        FlowMatchEulerDiscreteScheduler,
    )
    from transformers import AutoTokenizer

    experts = [folder / name for name in EXPERT_FOLDERS if (folder / name).is_dir()]
    transformers = [build_transformer(path, dtype) for path in experts or [folder]]
    image_file = folder / IMAGE_FILE
    autoencoder_file = next(
        (folder / name for name in AUTOENCODER_FILES if (folder / name).exists()),
        folder / AUTOENCODER_FILES[0],
    )
    parts: dict[str, Any] = dict(
        tokenizer=AutoTokenizer.from_pretrained(folder / TOKENIZER_FOLDER),
        text_encoder=build_text_encoder(load_pickle(folder / TEXT_FILE), dtype),
        image_encoder=build_image_encoder(load_pickle(image_file), dtype)
        if transformers[0].config["image_dim"] is not None
        else None,
        vae=build_autoencoder(load_pickle(autoencoder_file)),
        transformer=transformers[0],
        transformer_2=transformers[1] if len(transformers) > 1 else None,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=flow_shift),
    )
    return WanImageToVideoPipeline(**parts)
