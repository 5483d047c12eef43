"""Diffusers pipelines with tiny networks of the real classes and random weights.

They are saved in a folder as a user has them.
"""

import math
from collections.abc import Callable
from pathlib import Path

import torch


def svd(folder: Path) -> Path:
    from diffusers import (
        AutoencoderKLTemporalDecoder,
        EulerDiscreteScheduler,
        StableVideoDiffusionPipeline,
        UNetSpatioTemporalConditionModel,
    )
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

    unet = UNetSpatioTemporalConditionModel(
        block_out_channels=(32, 64),
        layers_per_block=1,
        sample_size=32,
        in_channels=8,
        out_channels=4,
        cross_attention_dim=32,
        num_attention_heads=(2, 4),
        down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        projection_class_embeddings_input_dim=96,
        addition_time_embed_dim=32,
    )
    scheduler = EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        interpolation_type="linear",
        num_train_timesteps=1000,
        prediction_type="v_prediction",
        sigma_max=700.0,
        sigma_min=0.002,
        steps_offset=1,
        timestep_spacing="leading",
        timestep_type="continuous",
        use_karras_sigmas=True,
    )
    vae = AutoencoderKLTemporalDecoder(
        block_out_channels=[32, 64],
        in_channels=3,
        out_channels=3,
        down_block_types=["DownEncoderBlock2D"] * 2,
        latent_channels=4,
        layers_per_block=1,
    )
    vision = CLIPVisionConfig(
        hidden_size=32,
        projection_dim=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=224,
        intermediate_size=37,
        patch_size=32,
    )
    parts = {
        "unet": unet,
        "scheduler": scheduler,
        "vae": vae,
        "image_encoder": CLIPVisionModelWithProjection(vision),
        "feature_extractor": CLIPImageProcessor(),
    }
    return _saved(StableVideoDiffusionPipeline(**parts), folder)


def vace(folder: Path) -> Path:
    from diffusers import UniPCMultistepScheduler, WanVACEPipeline, WanVACETransformer3DModel
    from transformers import UMT5Config, UMT5EncoderModel

    transformer = WanVACETransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=16,
        out_channels=16,
        text_dim=32,
        freq_dim=256,
        ffn_dim=32,
        num_layers=2,
        cross_attn_norm=True,
        qk_norm="rms_norm_across_heads",
        rope_max_seq_len=32,
        vace_layers=[0, 1],
        vace_in_channels=96,
    )
    scheduler = UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=7.0
    )
    words = UMT5EncoderModel(
        UMT5Config(vocab_size=100, d_model=32, d_kv=8, d_ff=37, num_layers=2, num_heads=4)
    )
    return _saved(WanVACEPipeline(characters(), words, wan_vae(), scheduler, transformer), folder)


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
    words = Gemma2Model(
        Gemma2Config(
            vocab_size=100,
            hidden_size=32,
            intermediate_size=37,
            num_hidden_layers=1,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=8,
        )
    )
    return _saved(
        SanaWMPipeline(characters(), words, vae, transformer, FlowMatchEulerDiscreteScheduler()),
        folder,
    )


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
        vocab_size=100,
        action_gen=True,
        action_dim=16,
    )
    scheduler = UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, use_karras_sigmas=True
    )
    return _saved(
        Cosmos3OmniPipeline(
            transformer, characters(), wan_vae(), scheduler, enable_safety_checker=False
        ),
        folder,
    )


def wan_vae():
    from diffusers import AutoencoderKLWan

    return AutoencoderKLWan(
        base_dim=3,
        z_dim=16,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
    )


def characters():
    """A tokenizer of 100 tokens, which are characters."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["<pad>", "<unk>", "<s>", "</s>", "<|vision_start|>"]
    tokenizer = Tokenizer(
        models.WordLevel(
            {token: number for number, token in enumerate([*special, *map(chr, range(32, 127))])},
            unk_token="<unk>",
        )
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 2), ("</s>", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        additional_special_tokens=special[4:],
        chat_template="{% for message in messages %}{{ message.content }}{% endfor %}",
    )


def motionctrl(folder: Path) -> Path:
    """A pipeline of SVD, and beside it the network's weights as they are published."""
    from lift.priors.diffusion.motionctrl_network import CameraUNet, checkpoint_names

    svd(folder)
    unet = CameraUNet.from_config(CameraUNet.load_config(folder, subfolder="unet"))
    stirred(unet, torch.Generator().manual_seed(1))
    names = checkpoint_names(unet)
    torch.save(
        {"state_dict": {names[name]: value for name, value in unet.state_dict().items()}},
        folder / "motionctrl_svd.ckpt",
    )
    return folder


def _saved(pipe, folder: Path) -> Path:
    rng = torch.Generator().manual_seed(0)
    for part in pipe.components.values():
        if isinstance(part, torch.nn.Module):
            stirred(part, rng)
    pipe.save_pretrained(folder)
    return folder


def stirred(part: torch.nn.Module, rng: torch.Generator) -> None:
    for parameter in (
        part.parameters()
    ):  # all of them, what starts at zero too: else parts of the network have no say
        parameter.data += 0.02 * torch.randn(parameter.shape, generator=rng)


class Layout(dict):
    """Names and shapes of the weights in a small checkpoint of ViewCrafter.

    They follow the published code, not `lift`.
    """

    def linear(
        self, name: str, inputs: int, outputs: int, bias: bool = True, kernel: tuple[int, ...] = ()
    ) -> None:
        self[f"{name}.weight"] = (outputs, inputs, *kernel)
        if bias:
            self[f"{name}.bias"] = (outputs,)

    def norm(self, name: str, channels: int) -> None:
        self[f"{name}.weight"] = self[f"{name}.bias"] = (channels,)

    def residual(self, name: str, inputs: int, outputs: int, embedded: int) -> None:
        self.norm(f"{name}.in_layers.0", inputs)
        self.linear(f"{name}.in_layers.2", inputs, outputs, kernel=(3, 3))
        self.linear(f"{name}.emb_layers.1", embedded, outputs)
        self.norm(f"{name}.out_layers.0", outputs)
        self.linear(f"{name}.out_layers.3", outputs, outputs, kernel=(3, 3))
        if inputs != outputs:
            self.linear(f"{name}.skip_connection", inputs, outputs, kernel=(1, 1))
        for k in range(1, 5):
            self.norm(f"{name}.temopral_conv.conv{k}.0", outputs)
            self.linear(
                f"{name}.temopral_conv.conv{k}.{2 if k == 1 else 3}",
                outputs,
                outputs,
                kernel=(3, 1, 1),
            )

    def transformer(
        self,
        name: str,
        channels: int,
        inner: int,
        context: int | None,
        kernel: tuple[int, ...] = (),
    ) -> None:
        self.norm(f"{name}.norm", channels)
        self.linear(f"{name}.proj_in", channels, inner, kernel=kernel)
        self.linear(f"{name}.proj_out", inner, channels, kernel=kernel)
        block = f"{name}.transformer_blocks.0"
        for k, told in ((1, inner), (2, context or inner)):
            self.norm(f"{block}.norm{k}", inner)
            self.linear(f"{block}.attn{k}.to_q", inner, inner, bias=False)
            for part in ("to_k", "to_v", *(("to_k_ip", "to_v_ip") if context and k == 2 else ())):
                self.linear(f"{block}.attn{k}.{part}", told, inner, bias=False)
            self.linear(f"{block}.attn{k}.to_out.0", inner, inner)
        self.norm(f"{block}.norm3", inner)
        self.linear(f"{block}.ff.net.0.proj", inner, 8 * inner)
        self.linear(f"{block}.ff.net.2", 4 * inner, inner)

    def unet(self, name: str, width: int, context: int) -> None:
        """Two levels, 1 and 2 times `width`, the upper alone with attention, one block each."""
        embedded = 4 * width
        for part in ("time_embed", "fps_embedding"):
            self.linear(f"{name}.{part}.0", width, embedded)
            self.linear(f"{name}.{part}.2", embedded, embedded)

        def block(where: str, inputs: int, outputs: int, attention: bool) -> None:
            self.residual(f"{name}.{where}.0", inputs, outputs, embedded)
            if attention:
                self.transformer(f"{name}.{where}.1", outputs, outputs, context)
                self.transformer(f"{name}.{where}.2", outputs, outputs, None)

        self.linear(f"{name}.input_blocks.0.0", 8, width, kernel=(3, 3))
        self.transformer(f"{name}.init_attn.0", width, 512, None, kernel=(1,))
        block("input_blocks.1", width, width, True)
        self.linear(f"{name}.input_blocks.2.0.op", width, width, kernel=(3, 3))
        block("input_blocks.3", width, 2 * width, False)
        block("middle_block", 2 * width, 2 * width, True)
        self.residual(f"{name}.middle_block.3", 2 * width, 2 * width, embedded)
        block("output_blocks.0", 4 * width, 2 * width, False)
        block("output_blocks.1", 3 * width, 2 * width, False)
        self.linear(f"{name}.output_blocks.1.1.conv", 2 * width, 2 * width, kernel=(3, 3))
        block("output_blocks.2", 3 * width, width, True)
        block("output_blocks.3", 2 * width, width, True)
        self.norm(f"{name}.out.0", width)
        self.linear(f"{name}.out.2", width, 4, kernel=(3, 3))

    def vae(self, name: str, widths: tuple[int, ...]) -> None:
        def residual(where: str, inputs: int, outputs: int) -> None:
            self.norm(f"{where}.norm1", inputs)
            self.linear(f"{where}.conv1", inputs, outputs, kernel=(3, 3))
            self.norm(f"{where}.norm2", outputs)
            self.linear(f"{where}.conv2", outputs, outputs, kernel=(3, 3))
            if inputs != outputs:
                self.linear(f"{where}.nin_shortcut", inputs, outputs, kernel=(1, 1))

        for half, inputs, outputs in (("encoder", 3, 8), ("decoder", 4, 3)):
            order = list(enumerate(widths)) if half == "encoder" else list(enumerate(widths))[::-1]
            ladder, scale, blocks = (
                ("down", "downsample", 1) if half == "encoder" else ("up", "upsample", 2)
            )
            channels = order[0][1]
            self.linear(f"{name}.{half}.conv_in", inputs, channels, kernel=(3, 3))
            for level, width in order:
                for k in range(blocks):
                    residual(f"{name}.{half}.{ladder}.{level}.block.{k}", channels, width)
                    channels = width
                if level != order[-1][0]:
                    self.linear(
                        f"{name}.{half}.{ladder}.{level}.{scale}.conv", width, width, kernel=(3, 3)
                    )
            for k in (1, 2):
                residual(f"{name}.{half}.mid.block_{k}", widths[-1], widths[-1])
            self.norm(f"{name}.{half}.mid.attn_1.norm", widths[-1])
            for part in ("q", "k", "v", "proj_out"):
                self.linear(
                    f"{name}.{half}.mid.attn_1.{part}", widths[-1], widths[-1], kernel=(1, 1)
                )
            self.norm(f"{name}.{half}.norm_out", order[-1][1])
            self.linear(f"{name}.{half}.conv_out", order[-1][1], outputs, kernel=(3, 3))
        self.linear(f"{name}.quant_conv", 8, 8, kernel=(1, 1))
        self.linear(f"{name}.post_quant_conv", 4, 4, kernel=(1, 1))

    def resampler(self, name: str, width: int, inner: int, inputs: int, outputs: int) -> None:
        self[f"{name}.latents"] = (1, 6, width)
        self.linear(f"{name}.proj_in", inputs, width)
        self.linear(f"{name}.proj_out", width, outputs)
        self.norm(f"{name}.norm_out", outputs)
        for k in range(2):
            self.norm(f"{name}.layers.{k}.0.norm1", width)
            self.norm(f"{name}.layers.{k}.0.norm2", width)
            self.linear(f"{name}.layers.{k}.0.to_q", width, inner, bias=False)
            self.linear(f"{name}.layers.{k}.0.to_kv", width, 2 * inner, bias=False)
            self.linear(f"{name}.layers.{k}.0.to_out", inner, width, bias=False)
            self.norm(f"{name}.layers.{k}.1.0", width)
            self.linear(f"{name}.layers.{k}.1.1", width, 4 * width, bias=False)
            self.linear(f"{name}.layers.{k}.1.3", 4 * width, width, bias=False)

    def layers(self, name: str, width: int, depth: int) -> None:
        for k in range(depth):
            block = f"{name}.transformer.resblocks.{k}"
            self.norm(f"{block}.ln_1", width)
            self[f"{block}.attn.in_proj_weight"], self[f"{block}.attn.in_proj_bias"] = (
                (3 * width, width),
                (3 * width,),
            )
            self.linear(f"{block}.attn.out_proj", width, width)
            self.norm(f"{block}.ln_2", width)
            self.linear(f"{block}.mlp.c_fc", width, 4 * width)
            self.linear(f"{block}.mlp.c_proj", 4 * width, width)

    def text(self, name: str, width: int, depth: int) -> None:
        """depth: 0 for what is left of it beside the image transformer."""
        self[f"{name}.token_embedding.weight"], self[f"{name}.positional_embedding"] = (
            (49408, width),
            (77, width),
        )
        self[f"{name}.text_projection"], self[f"{name}.logit_scale"] = (width, width), ()
        self.layers(name, width, depth)
        self.norm(f"{name}.ln_final", width)

    def image(self, name: str, width: int, patch: int, outputs: int) -> None:
        self[f"{name}.class_embedding"], self[f"{name}.positional_embedding"] = (
            (width,),
            ((224 // patch) ** 2 + 1, width),
        )
        self[f"{name}.proj"] = (width, outputs)
        self.linear(f"{name}.conv1", 3, width, bias=False, kernel=(patch, patch))
        self.norm(f"{name}.ln_pre", width)
        self.layers(name, width, 2)
        self.norm(f"{name}.ln_post", width)


def viewcrafter_layout() -> Layout:
    layout = Layout()
    for name in (
        "betas",
        "alphas_cumprod",
        "alphas_cumprod_prev",
        "sqrt_alphas_cumprod",
        "sqrt_one_minus_alphas_cumprod",
        "log_one_minus_alphas_cumprod",
        "sqrt_recip_alphas_cumprod",
        "sqrt_recipm1_alphas_cumprod",
        "posterior_variance",
        "posterior_log_variance_clipped",
        "posterior_mean_coef1",
        "posterior_mean_coef2",
    ):
        layout[name] = (1000,)
    layout["scale_arr"] = (1400,)
    layout.unet("model.diffusion_model", 64, 64)
    layout.vae("first_stage_model", (32, 32, 32, 32, 64))
    layout.text("cond_stage_model.model", 64, 3)
    layout.text("embedder.model", 64, 0)
    layout.image("embedder.model.visual", 80, 56, 64)
    layout.resampler("image_proj_model", 32, 64, 80, 64)
    return layout


def viewcrafter(folder: Path) -> Path:
    rng = torch.Generator().manual_seed(0)

    def drawn(name: str, shape: tuple[int, ...]) -> torch.Tensor:
        fans = (
            shape[1:]
            if len(shape) > 1 and "embedding" not in name and "latents" not in name
            else (1,)
        )
        spread = 0.1 if len(shape) < 2 else math.prod(fans) ** -0.5
        return spread * torch.randn(shape, generator=rng) + float(
            len(shape) == 1 and name.endswith(".weight")
        )

    state = {name: drawn(name, shape) for name, shape in viewcrafter_layout().items()}
    state["scale_arr"] = torch.cat([torch.linspace(1, 0.3, 400), torch.full((1000,), 0.3)])
    folder.mkdir()
    torch.save({"state_dict": state, "epoch": 1}, folder / "model.ckpt")
    return folder


def wan(folder: Path) -> Path:
    from diffusers import (
        AutoencoderKLWan,
        FlowMatchEulerDiscreteScheduler,
        WanImageToVideoPipeline,
        WanTransformer3DModel,
    )
    from transformers import UMT5Config, UMT5EncoderModel

    transformer = WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=36,
        out_channels=16,
        text_dim=32,
        freq_dim=32,
        ffn_dim=32,
        num_layers=2,
        cross_attn_norm=True,
        qk_norm="rms_norm_across_heads",
        rope_max_seq_len=32,
    )
    vae = AutoencoderKLWan(
        base_dim=3,
        z_dim=16,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
    )
    text = UMT5Config(
        vocab_size=BYTES,
        d_model=32,
        d_ff=37,
        d_kv=8,
        num_layers=2,
        num_heads=4,
        relative_attention_num_buckets=8,
    )
    parts = {
        "transformer": transformer,
        "scheduler": FlowMatchEulerDiscreteScheduler(shift=3.0),
        "vae": vae,
        "text_encoder": UMT5EncoderModel(text),
    }
    return _saved(WanImageToVideoPipeline(**parts, tokenizer=_tokenizer()), folder)


def ltx(folder: Path) -> Path:
    from diffusers import (
        AutoencoderKLLTX2Audio,
        AutoencoderKLLTX2Video,
        FlowMatchEulerDiscreteScheduler,
        LTX2ImageToVideoPipeline,
        LTX2VideoTransformer3DModel,
    )
    from diffusers.pipelines.ltx2 import LTX2TextConnectors
    from diffusers.pipelines.ltx2.vocoder import LTX2Vocoder
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    text = {
        "vocab_size": BYTES,
        "hidden_size": 32,
        "intermediate_size": 37,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 16,
    }
    vision = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 16,
        "patch_size": 8,
    }
    transformer = LTX2VideoTransformer3DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=8,
        cross_attention_dim=16,
        audio_in_channels=4,
        audio_out_channels=4,
        audio_num_attention_heads=2,
        audio_attention_head_dim=4,
        audio_cross_attention_dim=8,
        num_layers=2,
        caption_channels=32,
        rope_double_precision=False,
        rope_type="split",
    )
    connectors = LTX2TextConnectors(
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
    encoder = Gemma3ForConditionalGeneration(Gemma3Config(text_config=text, vision_config=vision))
    parts = {
        "transformer": transformer,
        "connectors": connectors,
        "text_encoder": encoder,
        "vae": vae,
        "audio_vae": audio,
        "vocoder": vocoder,
    }
    return _saved(
        LTX2ImageToVideoPipeline(
            **parts, tokenizer=_tokenizer(1024), scheduler=FlowMatchEulerDiscreteScheduler()
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


def easyanimate(folder: Path) -> Path:
    from diffusers import (
        AutoencoderKLMagvit,
        EasyAnimateControlPipeline,
        EasyAnimateTransformer3DModel,
        FlowMatchEulerDiscreteScheduler,
    )
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

    text = {
        "vocab_size": BYTES,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10000.0,
            "mrope_section": [2, 1, 1],
        },
        "bos_token_id": 1,
        "eos_token_id": 1,
    }
    vision = {"depth": 1, "embed_dim": 16, "hidden_size": 16, "num_heads": 2, "mlp_ratio": 1}
    transformer = EasyAnimateTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=14,
        out_channels=4,
        time_embed_dim=2,
        text_embed_dim=16,
        num_layers=2,
        sample_width=16,
        sample_height=16,
        patch_size=2,
    )
    vae = AutoencoderKLMagvit(
        latent_channels=4,
        block_out_channels=(8, 8, 8, 8),
        layers_per_block=1,
        norm_num_groups=2,
        spatial_group_norm=False,
        down_block_types=("SpatialDownBlock3D", *["SpatialTemporalDownBlock3D"] * 3),
        up_block_types=("SpatialUpBlock3D", *["SpatialTemporalUpBlock3D"] * 3),
    )
    tokenizer = _tokenizer()
    tokenizer.chat_template = (
        "{% for message in messages %}{% for part in message['content'] %}"
        "{{ part['text'] }}{% endfor %}{% endfor %}"
    )
    encoder = Qwen2VLForConditionalGeneration(Qwen2VLConfig(text_config=text, vision_config=vision))
    parts = {
        "transformer": transformer,
        "vae": vae,
        "text_encoder": encoder,
        "tokenizer": tokenizer,
        "scheduler": FlowMatchEulerDiscreteScheduler(),
    }
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
    return PreTrainedTokenizerFast(
        tokenizer_object=tokens, pad_token="<pad>", eos_token="</s>", model_max_length=longest
    )


MADE: dict[str, Callable[[Path], Path]] = {
    "svd": svd,
    "motionctrl": motionctrl,
    "viewcrafter": viewcrafter,
    "vace": vace,
    "sana_wm": sana_wm,
    "cosmos": cosmos,
    "diffusers": wan,
    "ltx": ltx,
    "easyanimate": easyanimate,
}
"""Prior -> what makes its model in a folder."""
SETTINGS: dict[str, dict] = {
    "svd": {"num_inference_steps": 2, "size": 64, "frames": 5},
    "motionctrl": {"num_inference_steps": 2, "size": 64, "frames": 5},
    "viewcrafter": {"num_inference_steps": 2, "size": 64, "frames": 3},
    "vace": {"num_inference_steps": 2, "size": 64, "frames": 5},
    "sana_wm": {"num_inference_steps": 2, "size": 64, "frames": 9},
    "cosmos": {"num_inference_steps": 2, "size": 64, "frames": 5, "resolution_tier": 256},
    "diffusers": {"num_inference_steps": 2, "size": 64, "frames": 5, "frame_multiple": 4},
    "ltx": {"num_inference_steps": 2, "size": 96, "frames": 9, "loras": "none"},
    "easyanimate": {"num_inference_steps": 2, "size": 64, "frames": 5},
}
"""What makes it quick."""
