"""ViewCrafter's networks and sampler in plain torch: DynamiCrafter's video UNet, the resampler of image tokens, OpenCLIP's two transformers, DDIM.

Modules have the names of the published checkpoint (github.com/Drexubery/ViewCrafter, Apache-2.0), a misspelt one included, so that its weights load as they
are; all sizes are read from the weights' shapes.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import gelu, interpolate

from lift.priors.diffusion.base import attend

HEAD = 64
"""Channels of an attention head of the UNet, of the resampler and of the text transformer."""
IMAGE_HEAD = 80
"""Of the image transformer, OpenCLIP's ViT-H/14."""
INITIAL_HEADS = 8
"""Of the attention over time that comes right after the first convolution."""
LATENT = 0.18215
"""The autoencoder's latents times this spread by about 1, as the UNet has them."""
EACH = 16
"""Tokens of the image for each frame of a video of 16, the resampler's 256 dealt out; with any other number of frames each is told all of them."""
TIMES = 1000
"""Levels of noise that it was trained with."""
TURN = 400
"""The level of noise up to which the clean latents' scale falls; from there on it is constant."""
PREFIXES = {
    "unet": "model.diffusion_model.",
    "vae": "first_stage_model.",
    "text": "cond_stage_model.model.",
    "image_encoder": "embedder.model.visual.",
    "resampler": "image_proj_model.",
}
"""Of the names in the checkpoint, by part."""
PROMPTS = ("", "Rotating view of a scene")
"""Of what is to be left, and of what is wanted: the one text that it was trained with."""
TOKENS = ((), (32265, 1093, 539, 320, 3562))
"""The prompts in CLIP's vocabulary."""
BEGIN, END, LENGTH = 49406, 49407, 77
"""Tokens around a prompt, and how many of them there are with the zeros behind."""


def attended(
    query: Float[Tensor, "item q c"],
    key: Float[Tensor, "item k c"],
    value: Float[Tensor, "item k c"],
    heads: int,
    causal: bool = False,
) -> Float[Tensor, "item q c"]:
    parts = [some.unflatten(-1, (heads, -1)).transpose(1, 2) for some in (query, key, value)]
    return attend(*parts, causal).transpose(1, 2).flatten(2)


def sinusoid(values: Float[Tensor, "item"], width: int) -> Float[Tensor, "item width"]:
    """Cosines, then sines, of `width` / 2 frequencies from 1 down to almost 1 / 10000."""
    rates = torch.exp(
        -math.log(10000) * torch.arange(width // 2, device=values.device) / (width // 2)
    )
    angles = values[:, None].float() * rates
    return torch.cat([angles.cos(), angles.sin()], -1)


# The UNet


class Told(NamedTuple):
    """What every layer is told besides its input; text and image for each clip, or for each of its frames."""

    embedding: Float[Tensor, "frames_of_clips embedded"]
    text: Float[Tensor, "told token context"]
    image: Float[Tensor, "told more context"]
    frames: int


@dataclass(frozen=True)
class Sizes:
    """inputs: channels of noisy and of known latents together. multipliers: of `channels`, by level. attention: whether a level has it."""

    inputs: int = 8
    outputs: int = 4
    channels: int = 320
    multipliers: tuple[int, ...] = (1, 2, 4, 4)
    attention: tuple[bool, ...] = (True, True, True, False)
    blocks: int = 2
    context: int = 1024

    @classmethod
    def of(cls, state: Mapping[str, Tensor]) -> "Sizes":
        """Of a UNet with these weights."""
        first, last, told = (
            state["input_blocks.0.0.weight"],
            state["out.2.weight"],
            state["middle_block.1.transformer_blocks.0.attn2.to_k.weight"],
        )
        count = 1 + max(int(key.split(".")[1]) for key in state if key.startswith("input_blocks."))
        levels = 1 + sum(f"input_blocks.{i}.0.op.weight" in state for i in range(count))
        blocks = (
            count // levels - 1
        )  # each level has as many and a downsampling, but for the last; the first convolution makes up for it
        begins = [1 + level * (blocks + 1) for level in range(levels)]
        multipliers = [
            state[f"input_blocks.{i}.0.out_layers.3.weight"].shape[0] // first.shape[0]
            for i in begins
        ]
        attention = [f"input_blocks.{i}.1.proj_in.weight" in state for i in begins]
        return cls(
            first.shape[1],
            last.shape[0],
            first.shape[0],
            tuple(multipliers),
            tuple(attention),
            blocks,
            told.shape[1],
        )


class Stage(nn.Sequential):
    """Layers one after the other; those of ours are told, a bare convolution is not."""

    def forward(
        self, x: Float[Tensor, "frames_of_clips c y x"], told: Told
    ) -> Float[Tensor, "frames_of_clips d v u"]:
        for layer in self:
            x = layer(x) if isinstance(layer, nn.Conv2d) else layer(x, told)
        return x


class Down(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor, told: Told) -> Tensor:
        return self.op(x)


class Up(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, told: Told) -> Tensor:
        return self.conv(interpolate(x, scale_factor=2.0, mode="nearest"))


class TimeConvolutions(nn.Module):
    """Four convolutions over three frames each, beside the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        for k in range(1, 5):
            rest = [] if k == 1 else [nn.Identity()]  # a dropout in training
            convolution = nn.Conv3d(channels, channels, (3, 1, 1), padding=(1, 0, 0))
            setattr(
                self,
                f"conv{k}",
                nn.Sequential(nn.GroupNorm(32, channels), nn.SiLU(), *rest, convolution),
            )

    def forward(
        self, x: Float[Tensor, "frames_of_clips c y x"], frames: int
    ) -> Float[Tensor, "frames_of_clips c y x"]:
        video = x.unflatten(0, (-1, frames)).transpose(1, 2)
        more = self.conv4(self.conv3(self.conv2(self.conv1(video))))
        return x + more.transpose(1, 2).flatten(0, 1)


class Residual(nn.Module):
    """Two convolutions within a frame, with the time and the frames a second between them, then those over time."""

    def __init__(self, inputs: int, outputs: int, embedded: int) -> None:
        super().__init__()
        self.in_layers = nn.Sequential(
            nn.GroupNorm(32, inputs), nn.SiLU(), nn.Conv2d(inputs, outputs, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedded, outputs))
        self.out_layers = nn.Sequential(
            nn.GroupNorm(32, outputs),
            nn.SiLU(),
            nn.Identity(),
            nn.Conv2d(outputs, outputs, 3, padding=1),
        )
        self.skip_connection = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)
        self.temopral_conv = TimeConvolutions(outputs)

    def forward(
        self, x: Float[Tensor, "frames_of_clips c y x"], told: Told
    ) -> Float[Tensor, "frames_of_clips d y x"]:
        inner = self.in_layers(x) + self.emb_layers(told.embedding)[..., None, None]
        return self.temopral_conv(self.skip_connection(x) + self.out_layers(inner), told.frames)


class Attention(nn.Module):
    """To itself, or to text and, with keys of its own, to the image."""

    def __init__(self, width: int, heads: int, context: int | None = None) -> None:
        super().__init__()
        self.heads = heads
        inner = heads * HEAD
        self.to_q = nn.Linear(width, inner, bias=False)
        self.to_k, self.to_v = (nn.Linear(context or width, inner, bias=False) for _ in range(2))
        if context:
            self.to_k_ip, self.to_v_ip = (nn.Linear(context, inner, bias=False) for _ in range(2))
        self.to_out = nn.Sequential(nn.Linear(inner, width))

    def forward(
        self, x: Float[Tensor, "item token c"], told: Told | None = None
    ) -> Float[Tensor, "item token c"]:
        query, source = self.to_q(x), x if told is None else told.text
        out = attended(query, self.to_k(source), self.to_v(source), self.heads)
        if told is not None:
            out = out + attended(
                query, self.to_k_ip(told.image), self.to_v_ip(told.image), self.heads
            )
        return self.to_out(out)


class Gated(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, 2 * inner)

    def forward(self, x: Tensor) -> Tensor:
        x, gate = self.proj(x).chunk(2, -1)
        return x * gelu(gate)


class FeedForward(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            Gated(width, 4 * width), nn.Identity(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class Block(nn.Module):
    """Of a transformer: attention to itself, to what it is told or again to itself, and two layers for each token."""

    def __init__(self, width: int, heads: int, context: int | None) -> None:
        super().__init__()
        self.attn1, self.attn2, self.ff = (
            Attention(width, heads),
            Attention(width, heads, context),
            FeedForward(width),
        )
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))

    def forward(
        self, x: Float[Tensor, "item token c"], told: Told | None = None
    ) -> Float[Tensor, "item token c"]:
        x = x + self.attn1(self.norm1(x))
        if told is None:
            x = x + self.attn2(self.norm2(x))
        else:  # frames that are told the same ask at once
            asking = self.norm2(x).reshape(len(told.text), -1, x.shape[-1])
            x = x + self.attn2(asking, told).reshape(x.shape)
        return x + self.ff(self.norm3(x))


class Transformer(nn.Module):
    """context: channels of what it is told; without them its attention is within itself."""

    def __init__(self, channels: int, heads: int, context: int | None = None) -> None:
        super().__init__()
        inner = heads * HEAD
        self.norm = nn.GroupNorm(32, channels, eps=1e-6)
        self.proj_in, self.proj_out = nn.Linear(channels, inner), nn.Linear(inner, channels)
        self.transformer_blocks = nn.ModuleList([Block(inner, heads, context)])


class WithinFrames(Transformer):
    def forward(
        self, x: Float[Tensor, "frames_of_clips c y x"], told: Told
    ) -> Float[Tensor, "frames_of_clips c y x"]:
        tokens = self.proj_in(self.norm(x).flatten(2).transpose(1, 2))
        for block in self.transformer_blocks:
            tokens = block(tokens, told)
        return x + self.proj_out(tokens).transpose(1, 2).unflatten(2, x.shape[2:])


class OverTime(Transformer):
    """Of each place by itself, over its frames, which have no positions."""

    def forward(
        self, x: Float[Tensor, "frames_of_clips c y x"], told: Told
    ) -> Float[Tensor, "frames_of_clips c y x"]:
        videos = self.norm(x.unflatten(0, (-1, told.frames)).transpose(1, 2))
        tokens = self.proj_in(videos.permute(0, 3, 4, 2, 1).flatten(0, 2))
        for block in self.transformer_blocks:
            tokens = block(tokens)
        places = self.proj_out(tokens).unflatten(0, (len(videos), *x.shape[2:]))
        return x + places.permute(0, 3, 4, 1, 2).flatten(0, 1)


class UNet(nn.Module):
    """The denoiser: of noisy latents beside those of the render, the velocity."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.sizes = sizes
        width, embedded = sizes.channels, 4 * sizes.channels
        self.time_embed, self.fps_embedding = (
            nn.Sequential(nn.Linear(width, embedded), nn.SiLU(), nn.Linear(embedded, embedded))
            for _ in range(2)
        )

        def block(inputs: int, outputs: int, level: int) -> list[nn.Module]:
            attention = (
                [
                    WithinFrames(outputs, outputs // HEAD, sizes.context),
                    OverTime(outputs, outputs // HEAD),
                ]
                if sizes.attention[level]
                else []
            )
            return [Residual(inputs, outputs, embedded), *attention]

        self.input_blocks = nn.ModuleList([Stage(nn.Conv2d(sizes.inputs, width, 3, padding=1))])
        self.init_attn = Stage(OverTime(width, INITIAL_HEADS))
        kept, channels, deepest = [width], width, len(sizes.multipliers) - 1
        for level, times in enumerate(sizes.multipliers):
            for _ in range(sizes.blocks):
                self.input_blocks.append(Stage(*block(channels, times * width, level)))
                channels = times * width
                kept.append(channels)
            if level < deepest:
                self.input_blocks.append(Stage(Down(channels)))
                kept.append(channels)
        middle = [
            WithinFrames(channels, channels // HEAD, sizes.context),
            OverTime(channels, channels // HEAD),
        ]
        self.middle_block = Stage(
            Residual(channels, channels, embedded), *middle, Residual(channels, channels, embedded)
        )
        self.output_blocks = nn.ModuleList()
        for level in range(deepest, -1, -1):
            for k in range(sizes.blocks + 1):
                outputs = sizes.multipliers[level] * width
                up = [Up(outputs)] if level and k == sizes.blocks else []
                self.output_blocks.append(Stage(*block(channels + kept.pop(), outputs, level), *up))
                channels = outputs
        self.out = nn.Sequential(
            nn.GroupNorm(32, width), nn.SiLU(), nn.Conv2d(width, sizes.outputs, 3, padding=1)
        )

    def forward(
        self,
        latents: Float[Tensor, "clip frame inputs y x"],
        times: Float[Tensor, "clip"],
        fps: Float[Tensor, "clip"],
        text: Float[Tensor, "clip token context"],
        image: Float[Tensor, "clip more context"],
    ) -> Float[Tensor, "clip frame outputs y x"]:
        frames, width, dtype = latents.shape[1], self.sizes.channels, latents.dtype
        embedding = self.time_embed(sinusoid(times, width).to(dtype)) + self.fps_embedding(
            sinusoid(fps, width).to(dtype)
        )
        if image.shape[1] == EACH * frames:
            text, image = text.repeat_interleave(frames, 0), image.reshape(-1, EACH, image.shape[2])
        told = Told(embedding.repeat_interleave(frames, 0), text, image, frames)
        x = self.init_attn(self.input_blocks[0](latents.flatten(0, 1), told), told)
        kept = [x]
        for stage in self.input_blocks[1:]:
            x = stage(x, told)
            kept.append(x)
        x = self.middle_block(x, told)
        for stage in self.output_blocks:
            x = stage(torch.cat([x, kept.pop()], 1), told)
        return self.out(x).unflatten(0, (-1, frames))


# The resampler


class Perceiver(nn.Module):
    """Queries that look at the tokens and at one another."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, inner = heads, heads * HEAD
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.to_q, self.to_kv = (
            nn.Linear(width, inner, bias=False),
            nn.Linear(width, 2 * inner, bias=False),
        )
        self.to_out = nn.Linear(inner, width, bias=False)

    def forward(
        self, tokens: Float[Tensor, "item token c"], queries: Float[Tensor, "item query c"]
    ) -> Float[Tensor, "item query c"]:
        queries = self.norm2(queries)
        key, value = self.to_kv(torch.cat([self.norm1(tokens), queries], 1)).chunk(2, -1)
        return self.to_out(attended(self.to_q(queries), key, value, self.heads))


class Resampler(nn.Module):
    """As many tokens as the UNet is told of an image, from those of the image transformer."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        """state: its weights, of which only the shapes are used."""
        super().__init__()
        _, count, width = state["latents"].shape
        outputs, heads = (
            state["proj_out.weight"].shape[0],
            state["layers.0.0.to_q.weight"].shape[0] // HEAD,
        )
        inner, depth = (
            state["layers.0.1.1.weight"].shape[0],
            1 + max(int(key.split(".")[1]) for key in state if key.startswith("layers.")),
        )
        self.latents = nn.Parameter(torch.empty(1, count, width))
        self.proj_in, self.proj_out = (
            nn.Linear(state["proj_in.weight"].shape[1], width),
            nn.Linear(width, outputs),
        )
        self.norm_out = nn.LayerNorm(outputs)

        def each_alone() -> nn.Module:
            return nn.Sequential(
                nn.LayerNorm(width),
                nn.Linear(width, inner, bias=False),
                nn.GELU(),
                nn.Linear(inner, width, bias=False),
            )

        self.layers = nn.ModuleList(
            [nn.ModuleList([Perceiver(width, heads), each_alone()]) for _ in range(depth)]
        )

    def forward(self, tokens: Float[Tensor, "item token c"]) -> Float[Tensor, "item query d"]:
        queries, tokens = self.latents.expand(len(tokens), -1, -1), self.proj_in(tokens)
        for attention, alone in self.layers:
            queries = queries + attention(tokens, queries)
            queries = queries + alone(queries)
        return self.norm_out(self.proj_out(queries))


# OpenCLIP


class Packed(nn.Module):
    """Attention with the projections to queries, keys and values in one matrix."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight, self.in_proj_bias = (
            nn.Parameter(torch.empty(3 * width, width)),
            nn.Parameter(torch.empty(3 * width)),
        )
        self.out_proj = nn.Linear(width, width)

    def forward(
        self, x: Float[Tensor, "item token c"], causal: bool
    ) -> Float[Tensor, "item token c"]:
        query, key, value = nn.functional.linear(x, self.in_proj_weight, self.in_proj_bias).chunk(
            3, -1
        )
        return self.out_proj(attended(query, key, value, self.heads, causal))


class Layer(nn.Module):
    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.ln_1, self.ln_2, self.attn = (
            nn.LayerNorm(width),
            nn.LayerNorm(width),
            Packed(width, heads),
        )
        self.mlp = nn.ModuleDict(
            {"c_fc": nn.Linear(width, inner), "c_proj": nn.Linear(inner, width)}
        )

    def forward(
        self, x: Float[Tensor, "item token c"], causal: bool
    ) -> Float[Tensor, "item token c"]:
        x = x + self.attn(self.ln_1(x), causal)
        return x + self.mlp["c_proj"](gelu(self.mlp["c_fc"](self.ln_2(x))))


class Tower(nn.Module):
    """Layers of a transformer under the names that OpenCLIP gives them."""

    def __init__(self, state: Mapping[str, Tensor], head: int) -> None:
        super().__init__()
        inner, width = state["transformer.resblocks.0.mlp.c_fc.weight"].shape
        depth = 1 + max(
            int(key.split(".")[2]) for key in state if key.startswith("transformer.resblocks.")
        )
        self.positional_embedding = nn.Parameter(torch.empty(state["positional_embedding"].shape))
        self.transformer = nn.ModuleDict(
            {"resblocks": nn.ModuleList([Layer(width, width // head, inner) for _ in range(depth)])}
        )

    def through(
        self, x: Float[Tensor, "item token c"], causal: bool
    ) -> Float[Tensor, "item token c"]:
        for layer in self.transformer["resblocks"]:
            x = layer(x, causal)
        return x


class ImageTower(Tower):
    """What the last layer makes of an image's patches, neither normalised nor projected."""

    unused = ("ln_post.", "proj")

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        """state: its weights, of which only the shapes are used."""
        super().__init__(state, IMAGE_HEAD)
        width, _, patch, _ = state["conv1.weight"].shape
        self.size = patch * math.isqrt(len(state["positional_embedding"]) - 1)
        """Pixels of a side of the image."""
        self.class_embedding = nn.Parameter(torch.empty(width))
        self.conv1, self.ln_pre = (
            nn.Conv2d(3, width, patch, stride=patch, bias=False),
            nn.LayerNorm(width),
        )

    def forward(self, images: Float[Tensor, "item 3 y x"]) -> Float[Tensor, "item token c"]:
        patches = self.conv1(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.class_embedding.expand(len(images), 1, -1), patches], 1)
        return self.through(self.ln_pre(tokens + self.positional_embedding), causal=False)


class TextTower(Tower):
    """What the last layer but one makes of a text, normalised."""

    unused = ("text_projection", "logit_scale", "attn_mask")

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        """state: its weights, of which only the shapes are used."""
        super().__init__(state, HEAD)
        self.token_embedding = nn.Embedding(*state["token_embedding.weight"].shape)
        self.ln_final = nn.LayerNorm(self.token_embedding.embedding_dim)

    def forward(self, tokens: Int[Tensor, "item token"]) -> Float[Tensor, "item token c"]:
        return self.ln_final(
            self.through(self.token_embedding(tokens) + self.positional_embedding, causal=True)
        )


def prompts() -> Int[Tensor, "prompt token"]:
    """Both prompts as the text transformer takes them."""
    whole = [[BEGIN, *tokens, END] for tokens in TOKENS]
    return torch.tensor([tokens + [0] * (LENGTH - len(tokens)) for tokens in whole])


# The checkpoint


@dataclass
class Networks:
    """What sampling takes. text: of both prompts, [prompt token context]. scale: of clean latents where there is much noise."""

    unet: UNet
    vae: nn.Module
    image_encoder: ImageTower
    resampler: Resampler
    text: Tensor
    scale: float

    @property
    def modules(self) -> dict[str, nn.Module]:
        return {
            "unet": self.unet,
            "vae": self.vae,
            "image_encoder": self.image_encoder,
            "resampler": self.resampler,
        }


def weights(checkpoint: Mapping) -> dict[str, Tensor]:
    """Names as published -> weights, of what torch.load gives: Lightning's layout, or that of DeepSpeed, which puts a word before each name."""
    if "module" in checkpoint:
        return {
            key.removeprefix("_forward_module."): value
            for key, value in checkpoint["module"].items()
        }
    return dict(checkpoint.get("state_dict", checkpoint))


def split(state: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Each part's weights by the names within the part, but those that nothing here uses. Raises ValueError if a part has none."""
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
    for key in parts["unet"].keys() & {"init_attn.0.proj_in.weight", "init_attn.0.proj_out.weight"}:
        parts["unet"][key] = parts["unet"][key].flatten(
            1
        )  # these two are published as convolutions over a single frame
    last = max(
        int(key.split(".")[2]) for key in parts["text"] if key.startswith("transformer.resblocks.")
    )
    unused = {
        "image_encoder": ImageTower.unused,
        "text": (*TextTower.unused, f"transformer.resblocks.{last}."),
    }
    return {
        part: {
            key: value for key, value in inner.items() if not key.startswith(unused.get(part, ()))
        }
        for part, inner in parts.items()
    }


def autoencoder(state: Mapping[str, Tensor]) -> nn.Module:
    """The autoencoder of Stable Diffusion as diffusers has it, from weights with the names of latent-diffusion."""
    from diffusers import AutoencoderKL
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    levels = 1 + max(int(key.split(".")[2]) for key in state if key.startswith("encoder.down."))
    blocks = 1 + max(
        int(key.split(".")[4]) for key in state if key.startswith("encoder.down.0.block.")
    )
    widths = tuple(
        state[f"encoder.down.{level}.block.0.conv2.weight"].shape[0] for level in range(levels)
    )
    kinds = {
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
    }
    with torch.device("meta"):
        vae = AutoencoderKL(
            block_out_channels=widths,
            layers_per_block=blocks,
            latent_channels=4,
            scaling_factor=LATENT,
            **kinds,
        )
    vae.load_state_dict(
        convert_ldm_vae_checkpoint(
            {PREFIXES["vae"] + key: value for key, value in state.items()}, kinds
        ),
        assign=True,
    )
    return vae


def networks(checkpoint: Mapping, device: torch.device, dtype: torch.dtype) -> Networks:
    """Of a loaded checkpoint, on the CPU; the prompts are read on `device`, once and for all. Raises ValueError, KeyError or RuntimeError in another layout."""
    state = weights(checkpoint)
    parts = {
        part: {key: value.to(dtype) for key, value in inner.items()}
        for part, inner in split(state).items()
    }

    def filled(make: Callable[[], nn.Module], part: str) -> nn.Module:
        with torch.device("meta"):  # nothing is drawn at random that is overwritten at once
            module = make()
        module.load_state_dict(parts.pop(part), assign=True)
        return module.eval().requires_grad_(False)

    tower = filled(lambda: TextTower(parts["text"]), "text").to(device)
    text = tower(prompts().to(device))
    unet, image, resampler = (
        filled(lambda: UNet(Sizes.of(parts["unet"])), "unet"),
        filled(lambda: ImageTower(parts["image_encoder"]), "image_encoder"),
        filled(lambda: Resampler(parts["resampler"]), "resampler"),
    )
    vae = autoencoder(parts.pop("vae")).eval().requires_grad_(False)
    return Networks(unet, vae, image, resampler, text, float(state["scale_arr"][-1]))


# Sampling


def levels() -> Float[Tensor, "time"]:
    """The clean latents' share of the variance at each level of noise, 0 at the last: betas whose roots grow evenly from those of 0.00085 to 0.012, moved and
    stretched to end without signal (Lin et al., Common diffusion noise schedules and sample steps are flawed, 2024, algorithm 1).
    """
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, TIMES, dtype=torch.float64) ** 2
    roots = (1 - betas).cumprod(0).sqrt()
    return ((roots - roots[-1]) * roots[0] / (roots[0] - roots[-1])) ** 2


def visited(steps: int) -> list[int]:
    """The levels of noise of so many steps, from the last one down, evenly."""
    return [round(TIMES - k * TIMES / steps) - 1 for k in range(steps)]


def ddim(
    velocity: Callable[[Tensor, int], Tensor],
    latents: Float[Tensor, "clip frame channel y x"],
    steps: int,
    eta: float,
    scale: float,
    fresh: Callable[[], Tensor],
    after: Callable[[], None] = lambda: None,
) -> Float[Tensor, "clip frame channel y x"]:
    """Latents that DDIM (Song et al., 2021) makes of unit noise. velocity: of noisy latents and their level of noise. eta: share of fresh noise at every step,
    1 for as much as DDPM takes. scale: of clean latents from level TURN on, that of the network's training; towards level 0 it grows to 1.
    """
    shares = levels()
    scales = 1 + (scale - 1) * (torch.arange(TIMES, dtype=torch.float64) / (TURN - 1)).clamp(max=1)
    times = visited(steps)
    for time, following in zip(times, [*times[1:], 0], strict=True):
        now, then = float(shares[time]), float(shares[following])
        found = velocity(latents, time)
        clean = (now**0.5 * latents - (1 - now) ** 0.5 * found) * float(
            scales[following] / scales[time]
        )
        noise = now**0.5 * found + (1 - now) ** 0.5 * latents
        spread = eta * ((1 - then) / (1 - now) * (1 - now / then)) ** 0.5
        latents = (
            then**0.5 * clean + max(1 - then - spread**2, 0.0) ** 0.5 * noise + spread * fresh()
        )
        after()
    return latents


def guided(without: Tensor, given: Tensor, guidance: float, rescale: float) -> Tensor:
    """Classifier-free guidance; what it adds to the spread of each clip is taken away by the share `rescale` (Lin et al., 2024, section 3.4)."""
    pushed = without + guidance * (given - without)
    dims = tuple(range(1, given.ndim))
    return pushed * (
        1 - rescale + rescale * given.std(dims, keepdim=True) / pushed.std(dims, keepdim=True)
    )
