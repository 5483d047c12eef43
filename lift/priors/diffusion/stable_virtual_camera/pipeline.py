"""The parts of Stable Virtual Camera, loaded."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from torch import Tensor

from lift.priors.diffusion.stable_virtual_camera.unet import MultiviewUNet, unet_sizes


class MultiviewPipeline(DiffusionPipeline):
    """Holds the parts, and moves them between devices. The prior samples.

    Args:
        unet: The denoiser.
        vae: Stable Diffusion 2.1's autoencoder.
        image_encoder: CLIP's image encoder with its projection.
    """

    model_cpu_offload_seq = "image_encoder->unet->vae"

    def __init__(self, unet: MultiviewUNet, vae: Any, image_encoder: Any) -> None:
        super().__init__()
        self.register_modules(unet=unet, vae=vae, image_encoder=image_encoder)


def build_unet(state: Mapping[str, Tensor], dtype: torch.dtype) -> MultiviewUNet:
    """Build the denoiser around its weights.

    Args:
        state: Weights by their published names.
        dtype: Type of the weights.

    Returns:
        The denoiser, for inference.

    Raises:
        KeyError: If the weights are those of something else.
        RuntimeError: If weights are missing or unexpected.
    """
    with torch.device("meta"):  # no random values that are overwritten at once
        unet = MultiviewUNet(**unet_sizes(state))
    unet.load_state_dict({name: value.to(dtype) for name, value in state.items()}, assign=True)
    return unet.eval().requires_grad_(False)


def load_autoencoder(place: str, dtype: torch.dtype, options: Mapping[str, bool]) -> Any:
    """Load the autoencoder.

    Args:
        place: A folder, or a name on the hub, with a folder `vae`.
        dtype: Type of the weights.
        options: More arguments of `from_pretrained`.

    Returns:
        An `AutoencoderKL`.
    """
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    return AutoencoderKL.from_pretrained(place, subfolder="vae", dtype=dtype, **options)


def load_image_encoder(place: str, dtype: torch.dtype) -> Any:
    """Load CLIP's image encoder.

    Args:
        place: A folder with its files or with a folder `image_encoder`, or a name on the hub.
        dtype: Type of the weights.

    Returns:
        A `CLIPVisionModelWithProjection`.
    """
    from transformers import CLIPVisionModelWithProjection

    inner = Path(place) / "image_encoder"
    return CLIPVisionModelWithProjection.from_pretrained(
        inner if inner.is_dir() else place, dtype=dtype
    )
