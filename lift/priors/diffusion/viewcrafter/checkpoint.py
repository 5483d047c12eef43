"""Read ViewCrafter's published checkpoint."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from lift.priors.diffusion.viewcrafter.openclip import (
    ClipImageEncoder,
    ClipTextEncoder,
    prompt_tokens,
)
from lift.priors.diffusion.viewcrafter.resampler import TokenResampler
from lift.priors.diffusion.viewcrafter.unet import UNetConfig, VideoUNet

LATENT_SCALE = 0.18215
"""Factor on the autoencoder's latents that gives them about unit variance, for the UNet."""
PREFIXES = {
    "unet": "model.diffusion_model.",
    "vae": "first_stage_model.",
    "text": "cond_stage_model.model.",
    "image_encoder": "embedder.model.visual.",
    "resampler": "image_proj_model.",
}
"""Part -> prefix of its names in the checkpoint."""

Network = TypeVar("Network", bound=nn.Module)


@dataclass
class ViewCrafterModel:
    """Networks and constants that sampling needs."""

    unet: VideoUNet
    """The denoiser."""
    vae: Any
    """Stable Diffusion's autoencoder, of diffusers."""
    image_encoder: ClipImageEncoder
    """CLIP's image transformer."""
    resampler: TokenResampler
    """Turns CLIP's image tokens into those of the UNet."""
    text: Tensor
    """Embeddings of both prompts, [prompt token context]."""
    scale: float
    """Scale of clean latents at high noise levels, of the network's training."""

    @property
    def parts(self) -> dict[str, nn.Module]:
        """Name -> network."""
        return {
            "unet": self.unet,
            "vae": self.vae,
            "image_encoder": self.image_encoder,
            "resampler": self.resampler,
        }


def checkpoint_state(checkpoint: Mapping) -> dict[str, Tensor]:
    """Return the weights of a checkpoint by their published names.

    Args:
        checkpoint: What torch.load returns, in Lightning's layout or in that of DeepSpeed, which
            has a prefix on each name.

    Returns:
        Name -> weights.
    """
    if "module" in checkpoint:
        return {
            key.removeprefix("_forward_module."): value
            for key, value in checkpoint["module"].items()
        }
    return dict(checkpoint.get("state_dict", checkpoint))


def split_state(state: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Split the weights by part, without those that are not used.

    Args:
        state: All weights by their published names.

    Returns:
        Part -> name within the part -> weights.

    Raises:
        ValueError: If a part has no weights.
    """
    parts = {
        part: {
            key.removeprefix(prefix): value
            for key, value in state.items()
            if key.startswith(prefix)
        }
        for part, prefix in PREFIXES.items()
    }
    if missing := [PREFIXES[part] for part, inner in parts.items() if not inner]:
        raise ValueError(f"no weights named {missing[0]}*")
    # These two are published as convolutions over a single frame.
    for key in parts["unet"].keys() & {"init_attn.0.proj_in.weight", "init_attn.0.proj_out.weight"}:
        parts["unet"][key] = parts["unet"][key].flatten(1)
    last = max(
        int(key.split(".")[2]) for key in parts["text"] if key.startswith("transformer.resblocks.")
    )
    unused = {
        "image_encoder": ClipImageEncoder.unused,
        "text": (*ClipTextEncoder.unused, f"transformer.resblocks.{last}."),
    }
    return {
        part: {
            key: value for key, value in inner.items() if not key.startswith(unused.get(part, ()))
        }
        for part, inner in parts.items()
    }


def build_autoencoder(state: Mapping[str, Tensor]) -> nn.Module:
    """Build Stable Diffusion's autoencoder of diffusers.

    Args:
        state: Weights with the names of latent-diffusion.

    Returns:
        The autoencoder with these weights.
    """
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    levels = 1 + max(int(key.split(".")[2]) for key in state if key.startswith("encoder.down."))
    blocks = 1 + max(
        int(key.split(".")[4]) for key in state if key.startswith("encoder.down.0.block.")
    )
    widths: Any = tuple(
        state[f"encoder.down.{level}.block.0.conv2.weight"].shape[0] for level in range(levels)
    )
    block_types: dict[str, Any] = {
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
    }
    with torch.device("meta"):
        vae = AutoencoderKL(
            block_out_channels=widths,
            layers_per_block=blocks,
            latent_channels=4,
            scaling_factor=LATENT_SCALE,
            **block_types,
        )
    vae.load_state_dict(
        convert_ldm_vae_checkpoint(
            {PREFIXES["vae"] + key: value for key, value in state.items()}, block_types
        ),
        assign=True,
    )
    return vae


def build_model(checkpoint: Mapping, device: torch.device, dtype: torch.dtype) -> ViewCrafterModel:
    """Build all networks of a checkpoint, and encode the prompts.

    Args:
        checkpoint: What torch.load returns.
        device: Device that encodes the prompts. The networks stay on the CPU.
        dtype: Type of the weights.

    Returns:
        The networks.

    Raises:
        ValueError: If a part has no weights.
        KeyError: If the checkpoint has another layout.
        RuntimeError: If weights are missing or unexpected.
    """
    state = checkpoint_state(checkpoint)
    parts = {
        part: {key: value.to(dtype) for key, value in inner.items()}
        for part, inner in split_state(state).items()
    }

    def load(make: Callable[[], Network], part: str) -> Network:
        with torch.device("meta"):  # no random values that are overwritten at once
            network = make()
        network.load_state_dict(parts.pop(part), assign=True)
        return network.eval().requires_grad_(False)

    text_encoder = load(lambda: ClipTextEncoder(parts["text"]), "text").to(device)
    text = text_encoder(prompt_tokens().to(device))
    return ViewCrafterModel(
        unet=load(lambda: VideoUNet(UNetConfig.of_state(parts["unet"])), "unet"),
        image_encoder=load(lambda: ClipImageEncoder(parts["image_encoder"]), "image_encoder"),
        resampler=load(lambda: TokenResampler(parts["resampler"]), "resampler"),
        vae=build_autoencoder(parts.pop("vae")).eval().requires_grad_(False),
        text=text,
        scale=float(state["scale_arr"][-1]),
    )
