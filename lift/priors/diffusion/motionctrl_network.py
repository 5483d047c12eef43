"""The network of MotionCtrl on Stable Video Diffusion: its temporal blocks are told where each frame's camera is. Reads the published weights.

Told are the first three rows of a frame's relative world_to_camera, row by row, 12 numbers. Wang et al., "MotionCtrl: A Unified and Flexible Motion Controller
for Video Generation", SIGGRAPH 2024; laid out as in `sgm/motionctrl` of its repository (branch `svd`).
"""

from collections.abc import Mapping
from functools import wraps
from pathlib import Path

import torch
from diffusers import UNetSpatioTemporalConditionModel
from diffusers.models.attention import TemporalBasicTransformerBlock
from diffusers.models.transformers.transformer_temporal import TransformerSpatioTemporalModel
from torch import Tensor
from torch.nn.functional import linear

POSE = 12
PREFIX = "model.diffusion_model."
"""Of the network's part of the checkpoint."""


class CameraProjection(torch.nn.Linear):
    """Of features and poses, laid end to end, the features that a temporal block goes on with. As it is made, the features alone."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels + POSE, channels)
        torch.nn.init.eye_(self.weight)
        torch.nn.init.zeros_(self.bias)

    def forward(self, features: Tensor, cameras: Tensor) -> Tensor:
        """features: [clip place frame channel]. cameras: [clip frame 12], which all places share."""
        of_features, of_cameras = self.weight.split([self.out_features, POSE], dim=1)
        return (
            linear(features, of_features)
            + linear(cameras.to(features.dtype), of_cameras, self.bias)[:, None]
        )


class CameraBlock(TemporalBasicTransformerBlock):
    """Attention over the frames of a place, which is told of the cameras between what it sees of them and what it sees of the picture."""

    cameras: Tensor | None = None
    """[clip frame 12]; set by the network, since the layers between hand on no more than their own arguments."""

    def __init__(self, channels: int, heads: int, of_head: int, of_picture: int) -> None:
        super().__init__(channels, channels, heads, of_head, of_picture)
        self.camera = CameraProjection(channels)

    def forward(
        self, hidden_states: Tensor, num_frames: int, encoder_hidden_states: Tensor | None = None
    ) -> Tensor:
        """hidden_states: [clip*frame place channel]. encoder_hidden_states: [clip*place token channel]."""
        x = hidden_states.unflatten(0, (-1, num_frames)).transpose(1, 2)
        clips, places = x.shape[:2]
        x = x.flatten(0, 1)
        x = x + self.ff_in(self.norm_in(x))
        x = x + self.attn1(self.norm1(x))
        if self.cameras is not None:
            x = self.camera(x.unflatten(0, (clips, places)), self.cameras).flatten(0, 1)
        x = x + self.attn2(self.norm2(x), encoder_hidden_states=encoder_hidden_states)
        x = x + self.ff(self.norm3(x))
        return x.unflatten(0, (clips, places)).transpose(1, 2).flatten(0, 1)


class CameraUNet(UNetSpatioTemporalConditionModel):
    """That of diffusers, with a `CameraBlock` for every temporal one. Without cameras, or as it is made with the weights of plain SVD, it is SVD's."""

    # Their diagonals lie near 1, where 8 bits step by an eighth.
    _skip_layerwise_casting_patterns = ("camera",)

    @wraps(UNetSpatioTemporalConditionModel.__init__)
    def __init__(self, *args, **settings) -> None:
        super().__init__(*args, **settings)
        for part in self.modules():
            if isinstance(part, TransformerSpatioTemporalModel):
                sizes = part.inner_dim, part.num_attention_heads, part.attention_head_dim
                part.temporal_transformer_blocks = torch.nn.ModuleList(
                    CameraBlock(*sizes, block.attn2.to_k.in_features)
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
    ):
        """As the base class; cameras: [clip frame 12]."""
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
_ATTENTION = {
    "temporal_transformer_blocks.": "time_stack.",
    "time_pos_embed.linear_1.": "time_pos_embed.0.",
    "time_pos_embed.linear_2.": "time_pos_embed.2.",
    ".camera.": ".cc_projection.",
}
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


def published(unet: CameraUNet) -> dict[str, str]:
    """Each parameter's name -> that in the checkpoint, where layers are counted through all sizes: a block of ours is several entries of theirs."""
    places, entry = dict(_ENDS), 1
    for level, block in enumerate(unet.down_blocks):
        for layer in range(len(block.resnets)):
            places[f"down_blocks.{level}.resnets.{layer}"] = f"input_blocks.{entry}.0"
            places[f"down_blocks.{level}.attentions.{layer}"] = f"input_blocks.{entry}.1"
            entry += 1
        if block.downsamplers:
            places[f"down_blocks.{level}.downsamplers.0.conv"] = f"input_blocks.{entry}.0.op"
            entry += 1
    entry = 0
    for level, block in enumerate(unet.up_blocks):
        for layer in range(len(block.resnets)):
            places[f"up_blocks.{level}.resnets.{layer}"] = f"output_blocks.{entry}.0"
            places[f"up_blocks.{level}.attentions.{layer}"] = f"output_blocks.{entry}.1"
            entry += 1
        last = 2 if hasattr(block, "attentions") else 1  # of the entry's layers
        places[f"up_blocks.{level}.upsamplers.0.conv"] = f"output_blocks.{entry - 1}.{last}.conv"
    names = {}
    for name in unet.state_dict():
        place = next(place for place in places if name.startswith(f"{place}."))
        rest = name[len(place) :]
        for ours, theirs in (
            _RESIDUAL if ".resnets." in place else _ATTENTION if ".attentions." in place else {}
        ).items():
            rest = rest.replace(ours, theirs)
        names[name] = PREFIX + places[place] + rest
    return names


def read(file: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint, those of a pickle's `state_dict`. Nothing but tensors is unpickled. Raises ValueError that names `prior.weights`."""
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(file)
        held = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # of two libraries, which have many
        first = " ".join(str(error).split())[:200]
        raise ValueError(
            f"prior.weights is {file}, which is no checkpoint that holds tensors alone ({type(error).__name__}: {first})"
        ) from None
    held = held.get("state_dict", held) if isinstance(held, Mapping) else held
    if not isinstance(held, Mapping) or not all(
        isinstance(value, Tensor) for value in held.values()
    ):
        raise ValueError(f"prior.weights is {file}, which holds no state_dict of tensors")
    return dict(held)


def fill(unet: CameraUNet, state: Mapping[str, Tensor], source: str, dtype: torch.dtype) -> None:
    """Gives the network, which may be without storage, the published weights. Raises ValueError that names `prior.weights`, which is `source`."""
    names, wanted = published(unet), unet.state_dict()
    absent = [theirs for theirs in names.values() if theirs not in state]
    if absent:
        raise ValueError(
            f"prior.weights is {source}, which lacks {len(absent)} of the {len(names)} tensors of MotionCtrl's network: {_few(absent)}"
        )
    known = set(names.values())
    surplus = [theirs for theirs in state if theirs.startswith(PREFIX) and theirs not in known]
    if surplus:
        raise ValueError(
            f"prior.weights is {source}, whose network has {len(surplus)} tensors more than prior.model's: {_few(surplus)}"
        )
    for ours, theirs in names.items():
        if state[theirs].shape != wanted[ours].shape:
            raise ValueError(
                f"prior.weights is {source}, whose {theirs} is {list(state[theirs].shape)}, and {list(wanted[ours].shape)} in prior.model's network; "
                "choose the model that it was trained on"
            )
    unet.load_state_dict(
        {ours: state[theirs].to(dtype) for ours, theirs in names.items()}, assign=True
    )


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
