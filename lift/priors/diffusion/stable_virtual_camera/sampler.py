"""Sample the new frames of a clip, in one window or in two passes of several."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lift.priors.diffusion.clip_colours import CLIP_MEAN, CLIP_STD
from lift.priors.diffusion.clips import require_finite
from lift.priors.diffusion.euler import sample_euler
from lift.priors.diffusion.stable_virtual_camera import sampling, windows
from lift.priors.diffusion.stable_virtual_camera.windows import Window, WindowView
from lift.types import Cameras

LATENT_SCALE = 0.18215
"""Factor on the autoencoder's latents that gives them about unit variance."""


@dataclass
class ViewSet:
    """Cameras of all views of a clip by kind, and the pictures that are there."""

    cameras: dict[str, Cameras]
    """Kind of view -> cameras."""
    images: dict[str, Float[Tensor, "view 3 y x"]]
    """Kind of view -> pictures, -1 to 1. Kinds without pictures are sampled."""
    center: Float[Tensor, "3"]
    """Mean position of the reference views and the new frames."""


@dataclass
class ClipSampler:
    """Samples one clip."""

    pipe: Any
    """A `MultiviewPipeline`."""
    device: torch.device
    """Device to compute on."""
    dtype: torch.dtype
    """Type that the networks compute in."""
    window: int
    """Views that are sampled together."""
    camera_scale: float
    """Distance of a window's first camera from the middle of the path, normalised."""
    guidance_scale: tuple[float, float]
    """Scale of classifier-free guidance in the first and in the second pass."""
    min_guidance_scale: float
    """Scale for views that a picture shows already."""
    num_steps: int
    """Denoising steps of each window."""
    chunk_size: int
    """Frames that are encoded or decoded together."""
    generator: torch.Generator
    """Source of the noise."""
    advance: Callable[[], None]
    """Called `num_steps` times in a clip."""

    def sample(
        self, references: Float[Tensor, "view 3 y x"], cameras: Cameras, path: Cameras
    ) -> Float[Tensor, "frame 3 y x"]:
        """Sample the new frames of the clip.

        Args:
            references: Pictures of the reference views, -1 to 1.
            cameras: Cameras of the reference views.
            path: Cameras of the new frames.

        Returns:
            The new frames, about -1 to 1.
        """
        count = len(path)
        num_references = len(references)
        center = Cameras.cat([cameras, path]).centers.mean(0)
        views = ViewSet({"reference": cameras, "frame": path}, {"reference": references}, center)
        on_step_end = self._step_counter(windows.count_windows(count, num_references, self.window))
        single = windows.single_window(count, num_references, self.window)
        if single is not None:
            frames = self.sample_window(single, views, False, on_step_end)
            return torch.stack([frames[WindowView("frame", k)] for k in range(count)])
        positions = windows.anchor_positions(count, num_references, self.window)
        views.cameras["anchor"] = path[[round(position) - 1 for position in positions]]
        first = windows.anchor_window(len(positions), num_references)
        anchors = self.sample_window(first, views, False, on_step_end)
        views.images["anchor"] = torch.stack(
            [anchors[WindowView("anchor", k)] for k in range(len(positions))]
        )
        frames = {}
        for window in windows.windows_between(positions, count, num_references, self.window):
            frames.update(self.sample_window(window, views, True, on_step_end))
        return torch.stack([frames[WindowView("frame", k)] for k in range(count)])

    def _step_counter(self, num_windows: int) -> Callable[[], None]:
        """Return a function that advances once in `num_windows` calls."""
        calls = iter(range(num_windows * self.num_steps))

        def on_step_end() -> None:
            if next(calls) % num_windows == num_windows - 1:
                self.advance()

        return on_step_end

    def sample_window(
        self, window: Window, views: ViewSet, is_second: bool, on_step_end: Callable[[], None]
    ) -> dict[WindowView, Float[Tensor, "3 y x"]]:
        """Sample the views of a window that have no picture.

        Args:
            window: The views.
            views: Cameras and pictures.
            is_second: Whether it is a window of the second pass.
            on_step_end: Called after each step.

        Returns:
            View -> picture, about -1 to 1. Of a repeated view it is the first.
        """
        cameras = Cameras.cat(
            [views.cameras[view.kind][view.index : view.index + 1] for view in window]
        )
        normalized = sampling.normalized_cameras(cameras, views.center, self.camera_scale)
        has_picture = torch.tensor([view.kind in views.images for view in window])
        images = torch.stack(
            [views.images[view.kind][view.index] for view in window if view.kind in views.images]
        )
        scales = sampling.guidance_scales(
            normalized,
            has_picture,
            self.guidance_scale[int(is_second)],
            self.min_guidance_scale,
            is_second,
        )
        latents = self.denoise_window(normalized, has_picture, images, scales, on_step_end)
        sampled = self.decode(latents[~has_picture.to(self.device)])
        unknown = [view for view in window if view.kind not in views.images]
        return dict(reversed(list(zip(unknown, sampled, strict=True))))

    def denoise_window(
        self,
        normalized: Cameras,
        has_picture: Bool[Tensor, "view"],
        images: Float[Tensor, "picture 3 y x"],
        scales: Float[Tensor, "view"],
        on_step_end: Callable[[], None],
    ) -> Float[Tensor, "view 4 h w"]:
        """Sample the latents of all views of a window.

        Args:
            normalized: Normalised cameras.
            has_picture: Whether each view has a picture.
            images: Pictures of these views, -1 to 1.
            scales: Guidance scale of each view.
            on_step_end: Called after each step.

        Returns:
            Scaled latents.
        """
        mask = has_picture.to(self.device)
        encoded = self.encode(images)
        latents = encoded.new_zeros(len(mask), *encoded.shape[1:])
        latents[mask] = encoded
        denoise = sampling.build_denoiser(
            self.pipe.unet,
            mask,
            latents,
            sampling.latent_rays(normalized).to(self.device),
            self.embed(images),
            scales.to(self.device),
            self.dtype,
        )
        levels = sampling.sampling_levels(self.num_steps)
        sigmas = torch.cat([sampling.noise_levels()[levels], torch.zeros(1)]).to(self.device)
        noise = torch.randn(latents.shape, generator=self.generator).to(self.device)
        return require_finite(
            sample_euler(
                denoise,
                noise,
                sigmas,
                levels.to(self.device).float(),
                (sigmas[0] ** 2 + 1).sqrt(),
                on_step_end=on_step_end,
            )
        )

    def encode(self, images: Float[Tensor, "view 3 y x"]) -> Float[Tensor, "view 4 h w"]:
        """Encode pictures in chunks.

        Args:
            images: Colours, -1 to 1.

        Returns:
            Scaled latents.
        """
        vae = self.pipe.vae
        chunks = images.to(self.device, vae.dtype).split(self.chunk_size)
        latents = torch.cat([vae.encode(chunk).latent_dist.mean for chunk in chunks])
        return LATENT_SCALE * latents.float()

    def decode(self, latents: Float[Tensor, "view 4 h w"]) -> Float[Tensor, "view 3 y x"]:
        """Decode latents in chunks.

        Args:
            latents: Scaled latents.

        Returns:
            Colours, about -1 to 1.
        """
        vae = self.pipe.vae
        chunks = (latents / LATENT_SCALE).to(vae.dtype).split(self.chunk_size)
        return torch.cat([vae.decode(chunk).sample.float() for chunk in chunks])

    @cached_property
    def _image_statistics(self) -> tuple[Tensor, Tensor]:
        mean, std = (
            torch.tensor(value, device=self.device)[:, None, None]
            for value in (CLIP_MEAN, CLIP_STD)
        )
        return mean, std

    def embed(self, images: Float[Tensor, "view 3 y x"]) -> Float[Tensor, "1 1 c"]:
        """Embed pictures by CLIP.

        Args:
            images: Colours, -1 to 1.

        Returns:
            The mean of their embeddings.
        """
        from diffusers.pipelines.stable_video_diffusion.pipeline_stable_video_diffusion import (
            _resize_with_antialiasing,
        )

        encoder = self.pipe.image_encoder
        side = encoder.config.image_size
        small = _resize_with_antialiasing(images.to(self.device), (side, side)) / 2 + 0.5
        mean, std = self._image_statistics
        embeddings = encoder(((small - mean) / std).to(self.dtype)).image_embeds
        return embeddings.float().mean(0)[None, None]
