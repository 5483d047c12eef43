"""LTX-2 and LoRAs for it."""

from pathlib import Path

import torch

from tests.helpers.tiny.saving import save_pipeline
from tests.helpers.tiny.text import BYTES, byte_tokenizer, decoder_settings

TRANSFORMER = {
    "in_channels": 4,
    "out_channels": 4,
    "num_attention_heads": 2,
    "attention_head_dim": 8,
    "cross_attention_dim": 16,
    "audio_in_channels": 4,
    "audio_out_channels": 4,
    "audio_num_attention_heads": 2,
    "audio_attention_head_dim": 4,
    "audio_cross_attention_dim": 8,
    "num_layers": 2,
    "caption_channels": 32,
    "rope_double_precision": False,
    "rope_type": "split",
}


def connectors():
    """The layers between text encoder and transformer."""
    from diffusers.pipelines.ltx2 import LTX2TextConnectors

    return LTX2TextConnectors(
        caption_channels=32,
        text_proj_in_factor=3,
        video_connector_num_attention_heads=4,
        video_connector_attention_head_dim=8,
        video_connector_num_layers=1,
        video_connector_num_learnable_registers=None,
        audio_connector_num_attention_heads=4,
        audio_connector_attention_head_dim=8,
        audio_connector_num_layers=1,
        audio_connector_num_learnable_registers=None,
        connector_rope_base_seq_len=32,
        rope_theta=10000.0,
        rope_double_precision=False,
        causal_temporal_positioning=False,
        rope_type="split",
    )


def text_encoder():
    """Gemma 3."""
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    text = decoder_settings(BYTES, 32, 37, 2, 2, 1, head_dim=16)
    vision = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 16,
        "patch_size": 8,
    }
    return Gemma3ForConditionalGeneration(Gemma3Config(text_config=text, vision_config=vision))


def ltx(folder: Path) -> Path:
    from diffusers import (
        AutoencoderKLLTX2Audio,
        AutoencoderKLLTX2Video,
        FlowMatchEulerDiscreteScheduler,
        LTX2ImageToVideoPipeline,
        LTX2VideoTransformer3DModel,
    )
    from diffusers.pipelines.ltx2.vocoder import LTX2Vocoder

    transformer = LTX2VideoTransformer3DModel(**TRANSFORMER)
    vae = AutoencoderKLLTX2Video(
        latent_channels=4,
        block_out_channels=(8, 16, 32, 64),
        decoder_block_out_channels=(8, 16, 32),
        layers_per_block=(1, 1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1),
        spatial_compression_ratio=32,
        temporal_compression_ratio=8,
    )
    audio = AutoencoderKLLTX2Audio(
        base_channels=4,
        output_channels=2,
        ch_mult=(1,),
        num_res_blocks=1,
        in_channels=2,
        resolution=32,
        latent_channels=2,
        norm_type="pixel",
        causality_axis="height",
        mid_block_add_attention=False,
        sample_rate=16000,
        mel_hop_length=160,
        is_causal=True,
        mel_bins=8,
    )
    vocoder = LTX2Vocoder(
        in_channels=16,
        hidden_channels=32,
        upsample_kernel_sizes=[4, 4],
        upsample_factors=[2, 2],
        resnet_kernel_sizes=[3],
        resnet_dilations=[[1, 3, 5]],
    )
    parts = {
        "transformer": transformer,
        "connectors": connectors(),
        "text_encoder": text_encoder(),
        "vae": vae,
        "audio_vae": audio,
        "vocoder": vocoder,
    }
    return save_pipeline(
        LTX2ImageToVideoPipeline(
            **parts, tokenizer=byte_tokenizer(1024), scheduler=FlowMatchEulerDiscreteScheduler()
        ),
        folder,
    )


def camera_loras(folder: Path) -> Path:
    """Files of LoRAs for the tiny LTX-2, named and laid out like the published ones."""
    from safetensors.torch import save_file

    folder.mkdir()
    for seed, name in enumerate(
        ("dolly-in", "dolly-out", "dolly-left", "dolly-right", "jib-up", "jib-down", "static")
    ):
        rng = torch.Generator().manual_seed(seed)
        weights = {}
        for block in range(2):
            for layer in ("to_q", "to_k", "to_v", "to_out.0"):
                for part, shape in (("A", (2, 16)), ("B", (16, 2))):
                    weights[
                        f"diffusion_model.transformer_blocks.{block}.attn1.{layer}.lora_{part}.weight"
                    ] = torch.randn(shape, generator=rng)
        save_file(weights, folder / f"ltx-2-19b-lora-camera-control-{name}.safetensors")
    return folder
