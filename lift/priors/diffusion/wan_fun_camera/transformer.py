"""Wan's transformer with a camera adapter beside its patch embedding."""

from typing import cast

import torch
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import pixel_unshuffle

TEMPORAL_STRIDE = 4
"""Frames that one frame of latents stands for. The first stands for one."""


class AdapterBlock(nn.Module):
    """Two convolutions beside a skip connection.

    Args:
        channels: Channels of the features.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, features: Float[Tensor, "frame c y x"]) -> Float[Tensor, "frame c y x"]:
        """Add the block's output to its input.

        Args:
            features: Features of frames.

        Returns:
            Features of the same shape.
        """
        return features + self.conv2(self.conv1(features).relu())


class CameraAdapter(nn.Module):
    """Embed packed rays, at the resolution of latents, into the transformer's patches.

    Args:
        channels: Channels of the packed rays.
        inner_dim: Channels of the transformer.
        patch: Height and width of a patch of latents.
        num_blocks: Number of residual blocks.
    """

    def __init__(
        self, channels: int, inner_dim: int, patch: tuple[int, int], num_blocks: int = 1
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, inner_dim, patch, patch)
        self.residual_blocks = nn.Sequential(*(AdapterBlock(inner_dim) for _ in range(num_blocks)))

    def forward(self, rays: Float[Tensor, "clip c frame h w"]) -> Float[Tensor, "clip d frame y x"]:
        """Embed the rays of each frame of latents.

        Args:
            rays: Packed rays of `pack_rays`.

        Returns:
            One feature a patch.
        """
        frames = rays.transpose(1, 2)
        features = self.residual_blocks(self.conv(frames.flatten(0, 1)))
        return features.unflatten(0, frames.shape[:2]).transpose(1, 2)


class CameraPatchEmbedding(nn.Module):
    """Embed patches of latents, and add the embedding of their rays.

    Args:
        in_channels: Channels of the latents, with those of the condition.
        ray_channels: Channels of the packed rays.
        inner_dim: Channels of the transformer.
        patch_size: Frames, height and width of a patch.
    """

    def __init__(
        self, in_channels: int, ray_channels: int, inner_dim: int, patch_size: tuple[int, int, int]
    ) -> None:
        super().__init__()
        self.latents = nn.Conv3d(in_channels, inner_dim, patch_size, patch_size)
        self.camera = CameraAdapter(ray_channels, inner_dim, patch_size[1:])

    def forward(
        self, latents: Float[Tensor, "clip c frame h w"]
    ) -> Float[Tensor, "clip d frame y x"]:
        """Embed latents that are followed by packed rays in their channels.

        Args:
            latents: Latents, their condition and the packed rays.

        Returns:
            One feature a patch.
        """
        content, rays = latents.tensor_split([self.latents.in_channels], 1)
        return self.latents(content) + self.camera(rays)


class CameraTransformer(WanTransformer3DModel):
    """Wan's transformer, whose latents are followed by packed rays in their channels.

    Args:
        ray_channels: Channels of the packed rays.
        in_channels: Channels of the latents, with those of the condition.
        patch_size: Frames, height and width of a patch of latents.
    """

    def __init__(
        self,
        ray_channels: int,
        in_channels: int,
        patch_size: tuple[int, int, int] = (1, 2, 2),
        **sizes,
    ) -> None:
        super().__init__(in_channels=in_channels, patch_size=patch_size, **sizes)
        inner_dim = self.proj_out.in_features
        # The base class registers a convolution of this name.
        self.patch_embedding = cast(
            nn.Conv3d, CameraPatchEmbedding(in_channels, ray_channels, inner_dim, patch_size)
        )


def pack_rays(
    rays: Float[Tensor, "frame 6 y x"], downscale: int
) -> Float[Tensor, "c latent_frame h w"]:
    """Pack rays to the resolution of the latents.

    Four frames go into the channels of one frame of latents, the first frame four times. Then
    squares of pixels go into channels.

    Args:
        rays: Plücker rays of 4k+1 frames.
        downscale: Pixels that one latent covers in each direction.

    Returns:
        Packed rays, 24 times `downscale` squared channels of k+1 frames.
    """
    padded = torch.cat([rays[:1].expand(TEMPORAL_STRIDE - 1, -1, -1, -1), rays])
    grouped = padded.unflatten(0, (-1, TEMPORAL_STRIDE)).transpose(1, 2).flatten(1, 2)
    return pixel_unshuffle(grouped, downscale).transpose(0, 1)
