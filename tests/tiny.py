"""Pipelines of diffusers with tiny networks of the real classes and random weights, saved as a user would have them in a folder."""

from collections.abc import Callable
from pathlib import Path

import torch


def svd(folder: Path) -> Path:
    from diffusers import AutoencoderKLTemporalDecoder, EulerDiscreteScheduler, StableVideoDiffusionPipeline, UNetSpatioTemporalConditionModel
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

    unet = UNetSpatioTemporalConditionModel(
        block_out_channels=(32, 64), layers_per_block=1, sample_size=32, in_channels=8, out_channels=4, cross_attention_dim=32, num_attention_heads=(2, 4),
        down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"), up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        projection_class_embeddings_input_dim=96, addition_time_embed_dim=32,
    )  # fmt: skip
    scheduler = EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", interpolation_type="linear", num_train_timesteps=1000, prediction_type="v_prediction",
        sigma_max=700.0, sigma_min=0.002, steps_offset=1, timestep_spacing="leading", timestep_type="continuous", use_karras_sigmas=True,
    )  # fmt: skip
    vae = AutoencoderKLTemporalDecoder(
        block_out_channels=[32, 64], in_channels=3, out_channels=3, down_block_types=["DownEncoderBlock2D"] * 2, latent_channels=4, layers_per_block=1
    )
    vision = CLIPVisionConfig(
        hidden_size=32, projection_dim=32, num_hidden_layers=2, num_attention_heads=4, image_size=224, intermediate_size=37, patch_size=32
    )
    parts = {"unet": unet, "scheduler": scheduler, "vae": vae, "image_encoder": CLIPVisionModelWithProjection(vision), "feature_extractor": CLIPImageProcessor()}
    return _saved(StableVideoDiffusionPipeline(**parts), folder)


def _saved(pipe, folder: Path) -> Path:
    rng = torch.Generator().manual_seed(0)
    for part in pipe.components.values():
        if isinstance(part, torch.nn.Module):
            for parameter in part.parameters():  # all of them, what starts at zero too: else parts of the network have no say
                parameter.data += 0.02 * torch.randn(parameter.shape, generator=rng)
    pipe.save_pretrained(folder)
    return folder


MADE: dict[str, Callable[[Path], Path]] = {"svd": svd}
"""Prior -> what makes its model in a folder."""
SETTINGS: dict[str, dict] = {"svd": {"steps": 2, "size": 64, "frames": 5}}
"""What makes it quick."""


def wan(folder: Path) -> Path:
    from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler, WanImageToVideoPipeline, WanTransformer3DModel
    from transformers import UMT5Config, UMT5EncoderModel

    transformer = WanTransformer3DModel(
        patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=12, in_channels=36, out_channels=16, text_dim=32, freq_dim=32, ffn_dim=32, num_layers=2,
        cross_attn_norm=True, qk_norm="rms_norm_across_heads", rope_max_seq_len=32,
    )  # fmt: skip
    vae = AutoencoderKLWan(base_dim=3, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True])
    text = UMT5Config(vocab_size=BYTES, d_model=32, d_ff=37, d_kv=8, num_layers=2, num_heads=4, relative_attention_num_buckets=8)
    parts = {"transformer": transformer, "scheduler": FlowMatchEulerDiscreteScheduler(shift=3.0), "vae": vae, "text_encoder": UMT5EncoderModel(text)}
    return _saved(WanImageToVideoPipeline(**parts, tokenizer=_tokenizer()), folder)


def ltx(folder: Path) -> Path:
    from diffusers import AutoencoderKLLTX2Audio, AutoencoderKLLTX2Video, FlowMatchEulerDiscreteScheduler, LTX2ImageToVideoPipeline, LTX2VideoTransformer3DModel
    from diffusers.pipelines.ltx2 import LTX2TextConnectors
    from diffusers.pipelines.ltx2.vocoder import LTX2Vocoder
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    text = {
        "vocab_size": BYTES, "hidden_size": 32, "intermediate_size": 37, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
        "head_dim": 16,
    }  # fmt: skip
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 16, "patch_size": 8}
    transformer = LTX2VideoTransformer3DModel(
        in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=8, cross_attention_dim=16, audio_in_channels=4, audio_out_channels=4,
        audio_num_attention_heads=2, audio_attention_head_dim=4, audio_cross_attention_dim=8, num_layers=2, caption_channels=32, rope_double_precision=False,
        rope_type="split",
    )  # fmt: skip
    connectors = LTX2TextConnectors(
        caption_channels=32, text_proj_in_factor=3, video_connector_num_attention_heads=4, video_connector_attention_head_dim=8, video_connector_num_layers=1,
        video_connector_num_learnable_registers=None, audio_connector_num_attention_heads=4, audio_connector_attention_head_dim=8, audio_connector_num_layers=1,
        audio_connector_num_learnable_registers=None, connector_rope_base_seq_len=32, rope_theta=10000.0, rope_double_precision=False,
        causal_temporal_positioning=False, rope_type="split",
    )  # fmt: skip
    vae = AutoencoderKLLTX2Video(
        latent_channels=4, block_out_channels=(8, 16, 32, 64), decoder_block_out_channels=(8, 16, 32), layers_per_block=(1, 1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1), spatial_compression_ratio=32, temporal_compression_ratio=8,
    )  # fmt: skip
    audio = AutoencoderKLLTX2Audio(
        base_channels=4, output_channels=2, ch_mult=(1,), num_res_blocks=1, in_channels=2, resolution=32, latent_channels=2, norm_type="pixel",
        causality_axis="height", mid_block_add_attention=False, sample_rate=16000, mel_hop_length=160, is_causal=True, mel_bins=8,
    )  # fmt: skip
    vocoder = LTX2Vocoder(
        in_channels=16, hidden_channels=32, upsample_kernel_sizes=[4, 4], upsample_factors=[2, 2], resnet_kernel_sizes=[3], resnet_dilations=[[1, 3, 5]]
    )
    encoder = Gemma3ForConditionalGeneration(Gemma3Config(text_config=text, vision_config=vision))
    parts = {"transformer": transformer, "connectors": connectors, "text_encoder": encoder, "vae": vae, "audio_vae": audio, "vocoder": vocoder}
    return _saved(LTX2ImageToVideoPipeline(**parts, tokenizer=_tokenizer(1024), scheduler=FlowMatchEulerDiscreteScheduler()), folder)


def camera_loras(folder: Path) -> Path:
    """Files of LoRAs for the tiny LTX-2, named and laid out like the published ones."""
    from safetensors.torch import save_file

    folder.mkdir()
    for seed, name in enumerate(("dolly-in", "dolly-out", "dolly-left", "dolly-right", "jib-up", "jib-down", "static")):
        rng = torch.Generator().manual_seed(seed)
        weights = {}
        for block in range(2):
            for layer in ("to_q", "to_k", "to_v", "to_out.0"):
                for part, shape in (("A", (2, 16)), ("B", (16, 2))):
                    weights[f"diffusion_model.transformer_blocks.{block}.attn1.{layer}.lora_{part}.weight"] = torch.randn(shape, generator=rng)
        save_file(weights, folder / f"ltx-2-19b-lora-camera-control-{name}.safetensors")
    return folder


def easyanimate(folder: Path) -> Path:
    from diffusers import AutoencoderKLMagvit, EasyAnimateControlPipeline, EasyAnimateTransformer3DModel, FlowMatchEulerDiscreteScheduler
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

    text = {
        "vocab_size": BYTES, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1]}, "bos_token_id": 1, "eos_token_id": 1,
    }  # fmt: skip
    vision = {"depth": 1, "embed_dim": 16, "hidden_size": 16, "num_heads": 2, "mlp_ratio": 1}
    transformer = EasyAnimateTransformer3DModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=14, out_channels=4, time_embed_dim=2, text_embed_dim=16, num_layers=2, sample_width=16,
        sample_height=16, patch_size=2,
    )  # fmt: skip
    vae = AutoencoderKLMagvit(
        latent_channels=4, block_out_channels=(8, 8, 8, 8), layers_per_block=1, norm_num_groups=2, spatial_group_norm=False,
        down_block_types=("SpatialDownBlock3D", *["SpatialTemporalDownBlock3D"] * 3), up_block_types=("SpatialUpBlock3D", *["SpatialTemporalUpBlock3D"] * 3),
    )  # fmt: skip
    tokenizer = _tokenizer()
    tokenizer.chat_template = "{% for message in messages %}{% for part in message['content'] %}{{ part['text'] }}{% endfor %}{% endfor %}"
    encoder = Qwen2VLForConditionalGeneration(Qwen2VLConfig(text_config=text, vision_config=vision))
    parts = {"transformer": transformer, "vae": vae, "text_encoder": encoder, "tokenizer": tokenizer, "scheduler": FlowMatchEulerDiscreteScheduler()}
    return _saved(EasyAnimateControlPipeline(**parts), folder)


BYTES = 258
"""Tokens of `_tokenizer`."""


def _tokenizer(longest: int = 512):
    """Each byte is a token."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    names = ["<pad>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokens = Tokenizer(models.BPE({name: number for number, name in enumerate(names)}, []))
    tokens.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return PreTrainedTokenizerFast(tokenizer_object=tokens, pad_token="<pad>", eos_token="</s>", model_max_length=longest)


MADE |= {"diffusers": wan, "ltx": ltx, "easyanimate": easyanimate}
SETTINGS |= {
    "diffusers": {"steps": 2, "size": 64, "frames": 5, "every": 4},
    "ltx": {"steps": 2, "size": 96, "frames": 9, "loras": "none"},
    "easyanimate": {"steps": 2, "size": 64, "frames": 5},
}
