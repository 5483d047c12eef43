"""Base classes of all priors that sample a video diffusion model.

They load the model once, check its memory, choose picture sizes, seed the noise and batch clips.
"""

import gc
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import torch
from annotated_types import Interval
from jaxtyping import UInt8
from torch import Tensor
from tqdm import tqdm

from lift.io.names import user_path
from lift.priors import ClipRequest
from lift.priors.diffusion.canvas import ResizeMode
from lift.priors.diffusion.clips import clip_path
from lift.priors.diffusion.loading import (
    folder_memory,
    load_or_keep,
    load_pipeline,
    no_progress_bars,
)
from lift.priors.diffusion.parts import require_index_file
from lift.priors.diffusion.sized_prior import SizedPrior
from lift.registry.ranges import FrameCount, InferenceSteps
from lift.runtime.kept_networks import park_networks
from lift.runtime.memory import OFFLOADS, required_memory, scale_working_memory, trained_shape
from lift.types import Cameras, Clip, Frames
from lift.weights import HubPipeline, Weights, is_local


class DiffusionPrior(SizedPrior):
    """Settings of every video diffusion model.

    Args:
        model: Name on the Hugging Face hub, or a folder in the layout of `save_pretrained`.
        size: Pixels of the longer side that the model generates, rounded to a size it accepts.
            Default: as many pixels as it was trained with. The clip is resized to the run's size. A
            model that was not trained with this side generates the picture's own shape.
        resize_mode: What happens to a picture of another shape than the model's. `crop` uses its
            middle. `pad` adds borders, and cuts them off the clip. `keep` generates the picture's
            own shape. `auto` crops if two thirds of the picture are left, else it pads. Models of
            many shapes keep that of the picture.
        frames: Frames of a clip, with the frame that it continues.
        num_inference_steps: Denoising steps.
        offload: Where idle parts of the model are: on the GPU (`none`), or in main memory, moved
            part by part (`model`) or layer by layer (`group`, slowest).
        precision: Type of weights and computation. `float8` stores the denoiser's weights in
            8 bits and computes in half precision. `auto` is half precision on a GPU.
        compile: Use torch.compile. It takes minutes once.
        batch_size: Clips that are sampled together.
        decode_chunk_size: Frames that are decoded together. Fewer take less memory. Some decoders
            use neighbouring frames, and then see fewer of them.
        device: Device to compute on.
    """

    requires = ("diffusers", "transformers", "accelerate")
    extra = "diffusion"
    cost_settings = ("offload", "compile", "batch_size")
    context = "ancestors"
    example_settings = None
    """A test needs weights."""

    licence = "see the model's page"
    """Licence of the weights."""
    pipeline_class = ""
    """Name of the diffusers class that loads the model."""
    index_file = "model_index.json"
    """File that every folder with this model contains."""
    denoiser = "unet"
    """Part of the pipeline that runs at every step."""
    more_denoisers: tuple[str, ...] = ()
    """Further parts that denoise, in pipelines that have them."""
    half_dtype: Literal["float16", "bfloat16"] = "float16"
    """Half-precision type that the model was trained for."""
    variant: str | None = None
    """Infix of the weight files in half precision, where they have names of their own."""
    trained_frames: int = 0
    """Frames of a clip that the model was trained with, with the frame that it continues."""
    frame_multiple: int = 1
    """The number of frames less one is a multiple of this."""
    float32_parts: tuple[str, ...] = ()
    """Parts that stay in single precision."""
    skipped_parts: tuple[str, ...] = ()
    """Parts of the published model whose weights are not used, or come from another file."""
    weight_memory: dict[str, float] = {}
    """Part -> GiB of its weights in half precision (of `float32_parts` in single precision)."""
    clip_seconds: tuple[float, str] | None = None
    """Seconds a clip with the default settings, and where they were measured."""
    working_memory: float = 0.0
    """GiB that sampling and decoding one clip of the trained size takes beside the weights."""
    measured_memory: dict[str, float] = {}
    """Choice of `offload` -> peak GPU memory in GiB, measured with the default settings."""
    memory_note: str = ""
    """What else was measured of the memory, for the user."""
    run_settings: Mapping[str, Any] | None = None
    """All settings that it was built from, set by a run. Without them no network is kept."""

    def __init__(
        self,
        model: str,
        size: Annotated[int, Interval(ge=1, le=8192)] | None = None,
        resize_mode: Literal["auto", "crop", "pad", "keep"] = "auto",
        frames: Annotated[int, Interval(ge=2, le=10_000)] | None = None,
        num_inference_steps: InferenceSteps = 25,
        offload: Literal["none", "model", "group"] = "none",
        precision: Literal["auto", "float16", "bfloat16", "float32", "float8"] = "auto",
        compile: bool = False,
        batch_size: Annotated[int, Interval(ge=1, le=1024)] = 1,
        decode_chunk_size: FrameCount = 4,
        *,
        device: torch.device,
    ) -> None:
        self.longer_side = size
        self.resize_mode: ResizeMode = resize_mode
        self.frames = self.trained_frames if frames is None else frames
        self.num_inference_steps = num_inference_steps
        self.offload = offload
        self.precision = precision
        self.compile = compile
        self.batch_size = batch_size
        self.decode_chunk_size = decode_chunk_size
        self.device = device
        self.clip_length = self.frames - 1
        self._check_settings()
        self.model = self._checked_model(model)
        if device.type == "cuda":
            self._check_memory(torch.cuda.get_device_properties(device).total_memory / 2**30)

    @classmethod
    def required_weights(cls, settings: Mapping[str, Any], half: bool) -> tuple[Weights, ...]:
        """List the files that are downloaded. See `VideoPrior.required_weights`."""
        model = settings["model"]
        if is_local(model):
            return ()
        precision = settings.get("precision", "auto")
        is_full = precision == "float32" or (precision == "auto" and not half)
        variant = None if is_full else cls.variant
        return (HubPipeline("prior.model", model, cls.licence, variant, cls.skipped_parts),)

    def _check_settings(self) -> None:
        if (self.frames - 1) % self.frame_multiple:
            below = self.frames - 1 - (self.frames - 1) % self.frame_multiple
            raise ValueError(
                f"prior.frames is {self.frames}; this model makes {self.frame_multiple}k+1: "
                f"choose {below + 1} or {below + self.frame_multiple + 1}"
            )
        if self.longer_side is not None and self.longer_side < self.size_multiple:
            raise ValueError(
                f"prior.size is {self.longer_side}; choose at least {self.size_multiple}"
            )

    def _checked_model(self, model: str) -> str:
        model = str(user_path(model)) if model.startswith("~") else model
        if model.startswith(("/", ".")) and not Path(model).exists():
            raise FileNotFoundError(
                f"prior.model is {model}, which does not exist; "
                "choose a folder, or a name on the Hugging Face hub"
            )
        require_index_file(model, type(self))
        return model

    @property
    def dtype(self) -> torch.dtype:
        """Type that the model computes in."""
        if self.precision == "auto":
            return getattr(torch, self.half_dtype) if self.device.type == "cuda" else torch.float32
        return getattr(torch, self.half_dtype if self.precision == "float8" else self.precision)

    @property
    def denoisers(self) -> tuple[str, ...]:
        """Names of all parts that denoise."""
        return (self.denoiser, *self.more_denoisers)

    def part_memory(self) -> dict[str, float]:
        """Return the weights of each part in GiB: those of the model's folder, else as published.

        Parts that the folder lacks come from other files.
        """
        measured = folder_memory(self.model, self.variant)
        used = {part: size for part, size in measured.items() if part not in self.skipped_parts}
        return {**self.weight_memory, **used}

    def estimate_memory(self, size: tuple[int, int] | None = None) -> dict[str, float]:
        """Estimate the GPU memory that the model needs with these settings.

        Args:
            size: Width and height in pixels of the generated pictures. None: the trained shape,
                with `prior.size` as its longer side.

        Returns:
            Choice of `prior.offload` -> memory in GiB. Empty if the weights are not known.
        """
        weights = self.part_memory()
        if not weights:
            return {}
        working = scale_working_memory(
            self.working_memory,
            self.trained_size,
            self.trained_frames,
            size or trained_shape(self.trained_size, self.longer_side),
            self.frames,
            self.batch_size,
        )
        return {
            offload: required_memory(weights, working, offload, self.precision, self.denoisers)
            for offload in OFFLOADS
        }

    def _check_memory(self, available: float) -> None:
        """Raise ValueError with a setting that fits if `available` GiB are too little.

        The shape of the picture is not known yet.
        """
        required = self.estimate_memory()
        if required and required[self.offload] > available:
            advice = [
                f"prior.offload={name} (about {memory:.0f} GiB)"
                for name, memory in required.items()
                if memory <= available
            ]
            advice += ["prior.batch_size=1"] if self.batch_size > 1 else []
            advice += ["a smaller prior.size"]
            raise ValueError(
                f"prior.model {self.model} takes about {required[self.offload]:.0f} GiB with "
                f"prior.offload={self.offload}, and the GPU has {available:.0f}; "
                f"choose {' or '.join(advice)}"
            )

    @cached_property
    def pipe(self) -> Any:
        """The networks, loaded for the first clip, or kept by a worker from the last picture."""
        return load_or_keep(self, "prior", self.load_pipe)

    def load_pipe(self) -> Any:
        """Load the pipeline of diffusers, and set precision, offloading and compilation."""
        import diffusers

        pipeline_class = getattr(diffusers, self.pipeline_class)
        with no_progress_bars():
            options = self._load_options()
            folder = Path(self.model)
            if (
                self.variant
                and self.dtype != torch.float32
                and (not folder.is_dir() or any(folder.glob(f"*/*.{self.variant}.*")))
            ):
                options["variant"] = self.variant
            pipe = load_pipeline(pipeline_class, self.model, options)
        return self._configure(pipe)

    def _load_options(self) -> dict[str, Any]:
        """Return the keyword arguments of `from_pretrained`."""
        if not self.float32_parts:
            return {"dtype": self.dtype}
        return {
            "dtype": {"default": self.dtype, **dict.fromkeys(self.float32_parts, torch.float32)}
        }

    def _configure(self, pipe: Any) -> Any:
        """Set precision, offloading and compilation of a loaded pipeline."""
        more = (getattr(pipe, name) for name in self.more_denoisers)
        denoisers = [getattr(pipe, self.denoiser), *(part for part in more if part is not None)]
        if self.precision == "float8":
            for denoiser in denoisers:
                denoiser.enable_layerwise_casting(
                    storage_dtype=torch.float8_e4m3fn, compute_dtype=self.dtype
                )
        if self.offload == "none" or self.device.type == "cpu":
            pipe.to(self.device)
        elif self.offload == "model":
            pipe.enable_model_cpu_offload(device=self.device)
        else:
            # The autoencoder is left out: it is small, and its precision may change between
            # encoding and decoding.
            pipe.enable_group_offload(
                onload_device=self.device,
                offload_type="leaf_level",
                use_stream=True,
                exclude_modules=["vae"],
            )
            pipe.vae.to(self.device)
        if self.compile:
            for denoiser in denoisers:
                denoiser.compile()
        pipe.set_progress_bar_config(disable=True)  # `progress` shows one instead
        return pipe

    def release(self) -> None:
        """Free the memory of the model."""
        vars(self).pop("pipe", None)
        park_networks("prior", "refiner")
        gc.collect()  # some pipelines refer to themselves
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    # Clips

    @abstractmethod
    def sample(
        self,
        pictures: UInt8[Tensor, "clip y x 3"],
        paths: Sequence[Cameras],
        requests: Sequence[ClipRequest],
    ) -> UInt8[Tensor, "clip frame y x 3"]:
        """Sample videos that begin with the given pictures.

        Args:
            pictures: First frame of each video, at the size that the model generates, 0 to 255.
            paths: Cameras of each video, `frames` of them, at that size. The first is the origin.
            requests: The requests that the videos answer.

        Returns:
            The videos with their first frames, 0 to 255.
        """

    def __call__(self, frames: Frames, cameras: Cameras, clip: Clip, seed: int) -> Frames:
        """Generate one clip, as `VideoPrior` says."""
        return self.generate_batch([ClipRequest(frames, cameras, clip, seed)])[0]

    def generate_batch(self, requests: Sequence[ClipRequest]) -> list[Frames]:
        """Generate clips that do not depend on one another, `batch_size` at a time.

        Args:
            requests: The clips to generate.

        Returns:
            The new frames of each clip, in the order of the requests.
        """
        clips = []
        for start in range(0, len(requests), self.batch_size):
            clips += self._generate_together(requests[start : start + self.batch_size])
        return clips

    def _generate_together(self, requests: Sequence[ClipRequest]) -> list[Frames]:
        for request in requests:
            if len(request.clip.cameras) != self.clip_length:
                raise ValueError(
                    f"clip {request.clip.name!r} has {len(request.clip.cameras)} new frames; "
                    f"prior.frames={self.frames} makes {self.clip_length}"
                )
        height, width = requests[0].frames.images.shape[1:3]
        canvas = self.canvas(width, height)
        pictures = torch.cat(
            [
                canvas.place(request.frames.images[request.clip.source : request.clip.source + 1])
                for request in requests
            ]
        )
        paths = [canvas.cameras(clip_path(request)) for request in requests]
        videos = self.sample(pictures, paths, requests)
        return [
            Frames(canvas.cut(video[1:], width, height).to(request.frames.images.device))
            for video, request in zip(videos, requests, strict=True)
        ]

    def noise_generators(self, requests: Sequence[ClipRequest]) -> list[torch.Generator]:
        """Seed one random generator a clip, on the CPU.

        So a clip is the same on every device and in every batch.

        Args:
            requests: The clips to generate.

        Returns:
            One generator a request.
        """
        return [torch.Generator().manual_seed(request.seed) for request in requests]

    @contextmanager
    def progress(self, requests: Sequence[ClipRequest]) -> Iterator[Callable[[], None]]:
        """Show a progress bar of the denoising steps.

        Args:
            requests: The clips that are sampled.

        Yields:
            A function to call after each step.
        """
        with tqdm(
            total=self.num_inference_steps,
            desc=f"sampling {', '.join(request.clip.name for request in requests)}",
            leave=False,
            disable=None,
        ) as bar:
            yield lambda: cast(None, bar.update())
