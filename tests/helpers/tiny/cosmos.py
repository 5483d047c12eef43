"""Cosmos 3."""

from pathlib import Path

from tests.helpers.tiny.saving import save_pipeline
from tests.helpers.tiny.text import CHARACTERS, character_tokenizer
from tests.helpers.tiny.wan import wan_vae


def cosmos(folder: Path) -> Path:
    from diffusers import Cosmos3OmniPipeline, Cosmos3OmniTransformer, UniPCMultistepScheduler

    transformer = Cosmos3OmniTransformer(
        head_dim=16,
        hidden_size=32,
        intermediate_size=48,
        latent_channel=16,
        latent_patch_size=2,
        num_attention_heads=2,
        num_hidden_layers=2,
        num_key_value_heads=1,
        patch_latent_dim=64,
        rope_axes_dim=[4, 2, 2],
        vocab_size=CHARACTERS,
        action_gen=True,
        action_dim=16,
    )
    scheduler = UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, use_karras_sigmas=True
    )
    return save_pipeline(
        Cosmos3OmniPipeline(
            transformer, character_tokenizer(), wan_vae(), scheduler, enable_safety_checker=False
        ),
        folder,
    )
