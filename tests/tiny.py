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


def vace(folder: Path) -> Path:
    from diffusers import UniPCMultistepScheduler, WanVACEPipeline, WanVACETransformer3DModel
    from transformers import UMT5Config, UMT5EncoderModel

    transformer = WanVACETransformer3DModel(
        patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=12, in_channels=16, out_channels=16, text_dim=32, freq_dim=256, ffn_dim=32,
        num_layers=2, cross_attn_norm=True, qk_norm="rms_norm_across_heads", rope_max_seq_len=32, vace_layers=[0, 1], vace_in_channels=96,
    )  # fmt: skip
    scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=7.0)
    words = UMT5EncoderModel(UMT5Config(vocab_size=100, d_model=32, d_kv=8, d_ff=37, num_layers=2, num_heads=4))
    return _saved(WanVACEPipeline(characters(), words, wan_vae(), scheduler, transformer), folder)


def sana_wm(folder: Path) -> Path:
    from diffusers import AutoencoderKLLTX2Video, FlowMatchEulerDiscreteScheduler, SanaWMPipeline, SanaWMTransformer3DModel
    from transformers import Gemma2Config, Gemma2Model

    vae = AutoencoderKLLTX2Video(
        latent_channels=4, block_out_channels=(8,), decoder_block_out_channels=(8,), layers_per_block=(1,), decoder_layers_per_block=(1, 1),
        spatio_temporal_scaling=(True,), decoder_spatio_temporal_scaling=(True,), decoder_inject_noise=(False, False), downsample_type=("spatial",),
        upsample_residual=(False,), upsample_factor=(1,), patch_size=4, decoder_causal=False,
    )  # fmt: skip
    transformer = SanaWMTransformer3DModel(
        in_channels=4, num_layers=2, hidden_size=32, num_attention_heads=2, softmax_every_n=2, linear_head_dim=16, caption_channels=32, mlp_ratio=2.0,
        chunk_plucker_channels=6 * vae.temporal_compression_ratio, chunk_plucker_post_attn_blocks=2,
    )  # fmt: skip
    words = Gemma2Model(
        Gemma2Config(vocab_size=100, hidden_size=32, intermediate_size=37, num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=2, head_dim=8)
    )
    return _saved(SanaWMPipeline(characters(), words, vae, transformer, FlowMatchEulerDiscreteScheduler()), folder)


def cosmos(folder: Path) -> Path:
    from diffusers import Cosmos3OmniPipeline, Cosmos3OmniTransformer, UniPCMultistepScheduler

    transformer = Cosmos3OmniTransformer(
        head_dim=16, hidden_size=32, intermediate_size=48, latent_channel=16, latent_patch_size=2, num_attention_heads=2, num_hidden_layers=2,
        num_key_value_heads=1, patch_latent_dim=64, rope_axes_dim=[4, 2, 2], vocab_size=100, action_gen=True, action_dim=16,
    )  # fmt: skip
    scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, use_karras_sigmas=True)
    return _saved(Cosmos3OmniPipeline(transformer, characters(), wan_vae(), scheduler, enable_safety_checker=False), folder)


def wan_vae():
    from diffusers import AutoencoderKLWan

    return AutoencoderKLWan(base_dim=3, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True])


def characters():
    """A tokenizer of 100 tokens, which are characters."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["<pad>", "<unk>", "<s>", "</s>", "<|vision_start|>"]
    tokenizer = Tokenizer(models.WordLevel({token: number for number, token in enumerate([*special, *map(chr, range(32, 127))])}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 2), ("</s>", 3)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", bos_token="<s>", eos_token="</s>", additional_special_tokens=special[4:],
        chat_template="{% for message in messages %}{{ message.content }}{% endfor %}",
    )  # fmt: skip


def _saved(pipe, folder: Path) -> Path:
    rng = torch.Generator().manual_seed(0)
    for part in pipe.components.values():
        if isinstance(part, torch.nn.Module):
            for parameter in part.parameters():  # all of them, what starts at zero too: else parts of the network have no say
                parameter.data += 0.02 * torch.randn(parameter.shape, generator=rng)
    pipe.save_pretrained(folder)
    return folder


MADE: dict[str, Callable[[Path], Path]] = {"svd": svd, "vace": vace, "sana_wm": sana_wm, "cosmos": cosmos}
"""Prior -> what makes its model in a folder."""
SETTINGS: dict[str, dict] = {
    "svd": {"steps": 2, "size": 64, "frames": 5},
    "vace": {"steps": 2, "size": 64, "frames": 5},
    "sana_wm": {"steps": 2, "size": 64, "frames": 9},
    "cosmos": {"steps": 2, "size": 64, "frames": 5, "tier": 256},
}
"""What makes it quick."""
