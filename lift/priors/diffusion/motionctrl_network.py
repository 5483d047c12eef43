"""The network of MotionCtrl on Stable Video Diffusion, and a reader for its published weights.

Its temporal blocks get the camera of each frame: the first three rows of the relative
world_to_camera, row by row, 12 numbers.

Reference:
    Wang et al., "MotionCtrl: A Unified and Flexible Motion Controller for Video Generation",
    SIGGRAPH 2024. The layout is that of `sgm/motionctrl` in its repository (branch `svd`).
"""

from collections.abc import Mapping, Sized
from functools import wraps
from pathlib import Path
from typing import Any, cast

import torch
from diffusers.models.attention import TemporalBasicTransformerBlock
from diffusers.models.transformers.transformer_temporal import TransformerSpatioTemporalModel
from diffusers.models.unets.unet_spatio_temporal_condition import UNetSpatioTemporalConditionModel
from torch import Tensor
from torch.nn.functional import linear

from lift.errors import summarize_error
from lift.weights.files import load_pickle, load_safetensors

POSE_CHANNELS = 12
"""Numbers of a camera."""
PREFIX = "model.diffusion_model."
"""Prefix of the network's tensors in the checkpoint."""


class CameraProjection(torch.nn.Linear):
    """Linear layer from features and camera, concatenated, to features.

    It starts as the identity on the features, without an effect of the camera.

    Args:
        channels: Channels of the features.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels + POSE_CHANNELS, channels)
        torch.nn.init.eye_(self.weight)
        torch.nn.init.zeros_(self.bias)

    def forward(self, features: Tensor, cameras: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Project features and cameras.

        Args:
            features: [clip position frame channel].
            cameras: [clip frame 12], shared by all positions.

        Returns:
            Features of the same shape.
        """
        feature_weight, camera_weight = self.weight.split([self.out_features, POSE_CHANNELS], dim=1)
        return (
            linear(features, feature_weight)
            + linear(cameras.to(features.dtype), camera_weight, self.bias)[:, None]
        )


class CameraBlock(TemporalBasicTransformerBlock):
    """Attention over the frames of a position, with the cameras as an input.

    The cameras enter between self-attention and attention to the picture.

    Args:
        channels: Channels of the features.
        heads: Attention heads.
        head_channels: Channels of a head.
        picture_channels: Channels of the picture's embedding.
    """

    cameras: Tensor | None = None
    """[clip frame 12]. The network sets it, since the layers between pass no extra arguments."""

    def __init__(
        self, channels: int, heads: int, head_channels: int, picture_channels: int
    ) -> None:
        super().__init__(channels, channels, heads, head_channels, picture_channels)
        self.camera = CameraProjection(channels)

    def forward(
        self, hidden_states: Tensor, num_frames: int, encoder_hidden_states: Tensor | None = None
    ) -> Tensor:
        """Run the block.

        Args:
            hidden_states: [clip*frame position channel].
            num_frames: Frames of a clip.
            encoder_hidden_states: Embedding of the picture, [clip*position token channel].

        Returns:
            Features of the shape of `hidden_states`.
        """
        x = hidden_states.unflatten(0, (-1, num_frames)).transpose(1, 2)
        clips, positions = x.shape[:2]
        x = x.flatten(0, 1)
        x = x + self.ff_in(self.norm_in(x))
        x = x + self.attn1(self.norm1(x))
        if self.cameras is not None:
            x = self.camera(x.unflatten(0, (clips, positions)), self.cameras).flatten(0, 1)
        assert self.norm2 is not None
        assert self.attn2 is not None
        x = x + self.attn2(self.norm2(x), encoder_hidden_states=encoder_hidden_states)
        x = x + self.ff(self.norm3(x))
        return x.unflatten(0, (clips, positions)).transpose(1, 2).flatten(0, 1)


class CameraUNet(UNetSpatioTemporalConditionModel):
    """The UNet of diffusers with a `CameraBlock` for every temporal block.

    Without cameras, or with initial projections and the weights of plain SVD, it equals SVD's UNet.
    """

    # The diagonals of the projections lie near 1, where 8-bit values have steps of 1/8.
    _skip_layerwise_casting_patterns = ("camera",)

    @wraps(UNetSpatioTemporalConditionModel.__init__)
    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        for part in self.modules():
            if isinstance(part, TransformerSpatioTemporalModel):
                sizes = part.inner_dim, part.num_attention_heads, part.attention_head_dim
                part.temporal_transformer_blocks = torch.nn.ModuleList(
                    CameraBlock(*sizes, cast(Any, block).attn2.to_k.in_features)
                    for block in part.temporal_transformer_blocks
                )

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        added_time_ids: Tensor,
        return_dict: bool = True,
        cameras: Tensor | None = None,
    ) -> Any:
        """Run the UNet as the base class does, with cameras.

        Args:
            sample: See the base class.
            timestep: See the base class.
            encoder_hidden_states: See the base class.
            added_time_ids: See the base class.
            return_dict: See the base class.
            cameras: [clip frame 12].

        Returns:
            See the base class.
        """
        for part in self.modules():
            if isinstance(part, CameraBlock):
                part.cameras = cameras
        return super().forward(sample, timestep, encoder_hidden_states, added_time_ids, return_dict)


# The published weights

_RESIDUAL = {
    "spatial_res_block.": "",
    "temporal_res_block.": "time_stack.",
    "norm1.": "in_layers.0.",
    "conv1.": "in_layers.2.",
    "time_emb_proj.": "emb_layers.1.",
    "norm2.": "out_layers.0.",
    "conv2.": "out_layers.3.",
    "conv_shortcut.": "skip_connection.",
}
"""Part of a name in diffusers -> in the checkpoint, of residual blocks."""

_ATTENTION = {
    "temporal_transformer_blocks.": "time_stack.",
    "time_pos_embed.linear_1.": "time_pos_embed.0.",
    "time_pos_embed.linear_2.": "time_pos_embed.2.",
    ".camera.": ".cc_projection.",
}
"""The same of attention blocks."""

_ENDS = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
}
"""Layers in diffusers -> in the checkpoint, of those outside the blocks."""


def checkpoint_names(unet: CameraUNet) -> dict[str, str]:
    """Map the network's parameter names to those of the checkpoint.

    The checkpoint counts its layers through all resolutions: one block of diffusers is several
    entries there.

    Args:
        unet: The network.

    Returns:
        Name in `unet` -> name in the checkpoint.
    """
    prefixes = {**_ENDS, **_down_prefixes(unet), **_up_prefixes(unet)}
    names = {}
    for name in unet.state_dict():
        prefix = next(prefix for prefix in prefixes if name.startswith(f"{prefix}."))
        suffix = name[len(prefix) :]
        replacements = {}
        if ".resnets." in prefix:
            replacements = _RESIDUAL
        elif ".attentions." in prefix:
            replacements = _ATTENTION
        for diffusers_part, published_part in replacements.items():
            suffix = suffix.replace(diffusers_part, published_part)
        names[name] = PREFIX + prefixes[prefix] + suffix
    return names


def _down_prefixes(unet: CameraUNet) -> dict[str, str]:
    prefixes = {}
    entry = 1
    for level, block in enumerate(unet.down_blocks):
        for layer in range(len(cast(Sized, block.resnets))):
            prefixes[f"down_blocks.{level}.resnets.{layer}"] = f"input_blocks.{entry}.0"
            prefixes[f"down_blocks.{level}.attentions.{layer}"] = f"input_blocks.{entry}.1"
            entry += 1
        if block.downsamplers:
            prefixes[f"down_blocks.{level}.downsamplers.0.conv"] = f"input_blocks.{entry}.0.op"
            entry += 1
    return prefixes


def _up_prefixes(unet: CameraUNet) -> dict[str, str]:
    prefixes = {}
    entry = 0
    for level, block in enumerate(unet.up_blocks):
        for layer in range(len(cast(Sized, block.resnets))):
            prefixes[f"up_blocks.{level}.resnets.{layer}"] = f"output_blocks.{entry}.0"
            prefixes[f"up_blocks.{level}.attentions.{layer}"] = f"output_blocks.{entry}.1"
            entry += 1
        # The upsampler is the last layer of the level's last entry.
        index = 2 if hasattr(block, "attentions") else 1
        prefixes[f"up_blocks.{level}.upsamplers.0.conv"] = f"output_blocks.{entry - 1}.{index}.conv"
    return prefixes


def read_checkpoint(file: Path) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint. Nothing but tensors is unpickled.

    Args:
        file: A safetensors file, or a pickle with tensors or a `state_dict` of them.

    Returns:
        Name -> tensor.

    Raises:
        ValueError: If the file is something else. The message names `prior.weights`.
    """
    try:
        if file.suffix == ".safetensors":
            return load_safetensors(file)
        content = load_pickle(file)
    except Exception as error:  # both libraries raise many classes
        raise ValueError(
            f"prior.weights is {file}, which is no checkpoint that holds tensors alone "
            f"({summarize_error(error, 200, with_type=True)})"
        ) from None
    state = content.get("state_dict", content) if isinstance(content, Mapping) else content
    if not isinstance(state, Mapping) or not all(
        isinstance(value, Tensor) for value in state.values()
    ):
        raise ValueError(f"prior.weights is {file}, which holds no state_dict of tensors")
    return dict(state)


def load_published(
    unet: CameraUNet, state: Mapping[str, Tensor], source: str, dtype: torch.dtype
) -> None:
    """Load the published weights into the network.

    Args:
        unet: The network. Its parameters may be on the meta device.
        state: The checkpoint's tensors by name.
        source: The setting `prior.weights`, for messages.
        dtype: Type of the weights in the network.

    Raises:
        ValueError: If tensors are missing, unexpected or of another shape. The message names
            `prior.weights`.
    """
    names = checkpoint_names(unet)
    expected = unet.state_dict()
    missing = [published for published in names.values() if published not in state]
    if missing:
        raise ValueError(
            f"prior.weights is {source}, which lacks {len(missing)} of the {len(names)} tensors "
            f"of MotionCtrl's network: {_abbreviate(missing)}"
        )
    published_names = set(names.values())
    unexpected = [name for name in state if name.startswith(PREFIX) and name not in published_names]
    if unexpected:
        raise ValueError(
            f"prior.weights is {source}, whose network has {len(unexpected)} tensors more "
            f"than prior.model's: {_abbreviate(unexpected)}"
        )
    for name, published in names.items():
        if state[published].shape != expected[name].shape:
            raise ValueError(
                f"prior.weights is {source}, whose {published} is {list(state[published].shape)}, "
                f"and {list(expected[name].shape)} in prior.model's network; "
                "choose the model that it was trained on"
            )
    unet.load_state_dict(
        {name: state[published].to(dtype) for name, published in names.items()}, assign=True
    )


def _abbreviate(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
