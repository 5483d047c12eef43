"""Pipelines of Wan 2.1: an image with text, and VACE. Cosmos has the same VAE."""

from pathlib import Path

from tests.helpers.tiny.saving import save_pipeline
from tests.helpers.tiny.text import BYTES, CHARACTERS, byte_tokenizer, character_tokenizer, umt5

TRANSFORMER = {
    "patch_size": (1, 2, 2),
    "num_attention_heads": 2,
    "attention_head_dim": 12,
    "out_channels": 16,
    "text_dim": 32,
    "ffn_dim": 32,
    "num_layers": 2,
    "cross_attn_norm": True,
    "qk_norm": "rms_norm_across_heads",
    "rope_max_seq_len": 32,
}


def wan_vae():
    from diffusers import AutoencoderKLWan

    return AutoencoderKLWan(
        base_dim=3,
        z_dim=16,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
    )


def wan(folder: Path) -> Path:
    from diffusers import (
        FlowMatchEulerDiscreteScheduler,
        WanImageToVideoPipeline,
        WanTransformer3DModel,
    )

    parts = {
        "transformer": WanTransformer3DModel(in_channels=36, freq_dim=32, **TRANSFORMER),
        "scheduler": FlowMatchEulerDiscreteScheduler(shift=3.0),
        "vae": wan_vae(),
        "text_encoder": umt5(BYTES, relative_attention_num_buckets=8),
        "tokenizer": byte_tokenizer(),
    }
    return save_pipeline(WanImageToVideoPipeline(**parts), folder)


def vace(folder: Path) -> Path:
    from diffusers import UniPCMultistepScheduler, WanVACEPipeline, WanVACETransformer3DModel

    parts = {
        "transformer": WanVACETransformer3DModel(
            in_channels=16, freq_dim=256, vace_layers=[0, 1], vace_in_channels=96, **TRANSFORMER
        ),
        "scheduler": UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=7.0
        ),
        "text_encoder": umt5(CHARACTERS),
        "vae": wan_vae(),
        "tokenizer": character_tokenizer(),
    }
    return save_pipeline(WanVACEPipeline(**parts), folder)
