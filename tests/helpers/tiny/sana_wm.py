"""SANA-WM, with a small VAE of LTX-2."""

from pathlib import Path

from tests.helpers.tiny.ltx import TRANSFORMER, connectors, text_encoder
from tests.helpers.tiny.saving import save_pipeline
from tests.helpers.tiny.text import (
    CHARACTERS,
    byte_tokenizer,
    character_tokenizer,
    decoder_settings,
)


def sana_wm(folder: Path) -> Path:
    from diffusers import (
        AutoencoderKLLTX2Video,
        FlowMatchEulerDiscreteScheduler,
        SanaWMPipeline,
        SanaWMTransformer3DModel,
    )
    from transformers import Gemma2Config, Gemma2Model

    vae = AutoencoderKLLTX2Video(
        latent_channels=4,
        block_out_channels=(8,),
        decoder_block_out_channels=(8,),
        layers_per_block=(1,),
        decoder_layers_per_block=(1, 1),
        spatio_temporal_scaling=(True,),
        decoder_spatio_temporal_scaling=(True,),
        decoder_inject_noise=(False, False),
        downsample_type=("spatial",),
        upsample_residual=(False,),
        upsample_factor=(1,),
        patch_size=4,
        decoder_causal=False,
    )
    transformer = SanaWMTransformer3DModel(
        in_channels=4,
        num_layers=2,
        hidden_size=32,
        num_attention_heads=2,
        softmax_every_n=2,
        linear_head_dim=16,
        caption_channels=32,
        mlp_ratio=2.0,
        chunk_plucker_channels=6 * vae.temporal_compression_ratio,
        chunk_plucker_post_attn_blocks=2,
    )
    words = Gemma2Model(Gemma2Config(**decoder_settings(CHARACTERS, 32, 37, 1, 4, 2, head_dim=8)))
    return save_pipeline(
        SanaWMPipeline(
            character_tokenizer(), words, vae, transformer, FlowMatchEulerDiscreteScheduler()
        ),
        folder,
    )


def sana_wm_refiner(folder: Path) -> Path:
    """The second model of SANA-WM, which is LTX-2."""
    from diffusers import FlowMatchEulerDiscreteScheduler, SanaWMLTX2RefinerTransformer3DModel
    from diffusers.pipelines.sana_wm.refiner import SanaWMLTX2Refiner

    parts = {
        "transformer": SanaWMLTX2RefinerTransformer3DModel(**TRANSFORMER),
        "connectors": connectors(),
        "text_encoder": text_encoder(),
        "tokenizer": byte_tokenizer(1024),
        "scheduler": FlowMatchEulerDiscreteScheduler(shift=1.0),
    }
    return save_pipeline(SanaWMLTX2Refiner(**parts), folder)
