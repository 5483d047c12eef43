"""ViewCrafter's checkpoint."""

import math
from pathlib import Path

import torch


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
        for k, inputs in ((1, inner), (2, context or inner)):
            self.norm(f"{block}.norm{k}", inner)
            self.linear(f"{block}.attn{k}.to_q", inner, inner, bias=False)
            for part in ("to_k", "to_v", *(("to_k_ip", "to_v_ip") if context and k == 2 else ())):
                self.linear(f"{block}.attn{k}.{part}", inputs, inner, bias=False)
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
