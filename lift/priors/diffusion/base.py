"""What all priors that sample a video diffusion model share: loading it once, what it takes in memory, sizes, noise, batches of clips."""

import gc
import math
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from tqdm import tqdm

from lift.errors import not_loaded
from lift.geometry import transform_cameras
from lift.io.image import resized
from lift.priors import Asked, VideoPrior
from lift.runtime.memory import OFFLOADS, needed
from lift.types import Cameras, Clip, Frames

MOST_ITEMS = 65_535
"""That attention takes at once: CUDA's grids have no room for more, and a few clips have more places than that."""


class DiffusionPrior(VideoPrior):
    """Settings that all video diffusion models have.

    model: an id on the Hugging Face hub, or a folder as `save_pretrained` of diffusers leaves it.
    size: pixels of the longer side of what the model makes, rounded to what it takes; by default as many pixels as it was trained with. Its pictures are
        stretched to the run's.
    frames: of a clip, the one that it continues included. steps: of denoising.
    offload: where parts of the model are while they do not work: on the GPU (`none`), in the computer's memory a part at a time (`model`) or layer by layer
        (`group`, slowest).
    precision: of weights and computation; `float8` holds the denoiser's weights in 8 bits and computes in half precision. auto is half precision on a GPU.
    compile: have torch.compile look for faster kernels, minutes once.
    at_once: clips that are sampled together. decode: frames that are decoded together; fewer take less memory, and see less of their neighbours where a
        decoder looks at them.
    """

    requires = ("diffusers", "transformers", "accelerate")
    extra = "diffusion"
    costs_only = ("offload", "compile", "at_once")
    sees = "ancestors"

    pipeline = ""
    """The class of diffusers that loads it."""
    index = "model_index.json"
    """The file that a folder with the model has."""
    denoiser = "unet"
    """The pipeline's part that every step asks."""
    half: Literal["float16", "bfloat16"] = "float16"
    variant: str | None = None
    """Of the weights' files on the hub, where those in half precision have names of their own."""
    size: tuple[int, int] = (1024, 576)
    """Pixels across and down that it was trained with."""
    step: int = 64
    """Sides are multiples of it."""
    clip: int = 0
    """Frames that it was trained with, the first included."""
    every: int = 1
    """Frames of a clip, less one, are a multiple of it."""
    single: tuple[str, ...] = ()
    """Parts that are in single precision whatever the others are in."""
    parts: dict[str, float] = {}
    """GiB of its parts' weights in half precision (those of `single` in single)."""
    pace: tuple[float, str] | None = None
    """Seconds a clip as it is set by default, and where they were measured."""
    working: float = 0.0
    """GiB that sampling and decoding one clip takes beside them, at its own size."""

    def __init__(
        self,
        model: str,
        size: int | None = None,
        frames: int | None = None,
        steps: int = 25,
        offload: Literal["none", "model", "group"] = "none",
        precision: Literal["auto", "float16", "bfloat16", "float32", "float8"] = "auto",
        compile: bool = False,
        at_once: int = 1,
        decode: int = 4,
        *,
        device: torch.device,
    ) -> None:
        count = self.clip if frames is None else frames
        for key, value, least in (
            ("steps", steps, 1),
            ("frames", count, 2),
            ("at_once", at_once, 1),
            ("decode", decode, 1),
        ):
            if value < least:
                raise ValueError(f"prior.{key} is {value}; choose {least} or more")
        if (count - 1) % self.every:
            below = count - 1 - (count - 1) % self.every
            raise ValueError(
                f"prior.frames is {count}; this model makes {self.every}k+1: choose {below + 1} or {below + self.every + 1}"
            )
        if size is not None and size < self.step:
            raise ValueError(f"prior.size is {size}; choose at least {self.step}")
        model = str(Path(model).expanduser()) if model.startswith("~") else model
        if model.startswith(("/", ".")) and not Path(model).exists():
            raise FileNotFoundError(
                f"prior.model is {model}, which does not exist; choose a folder, or a name on the Hugging Face hub"
            )
        if Path(model).is_dir() and not (Path(model) / self.index).is_file():
            raise FileNotFoundError(
                f"prior.model is {model}, a folder without {self.index}; hf download REPOSITORY --local-dir {model} brings a {self.pipeline}"
            )
        self.model, self.longer, self.frames, self.steps, self.device = (
            model,
            size,
            count,
            steps,
            device,
        )
        self.offload, self.precision, self.compiled, self.at_once, self.decode = (
            offload,
            precision,
            compile,
            at_once,
            decode,
        )
        self.clip_length = count - 1
        if device.type == "cuda":
            self._fit(torch.cuda.get_device_properties(device).total_memory / 2**30)

    @property
    def dtype(self) -> torch.dtype:
        if self.precision == "auto":
            return getattr(torch, self.half) if self.device.type == "cuda" else torch.float32
        return getattr(torch, self.half if self.precision == "float8" else self.precision)

    def _fit(self, there: float) -> None:
        """Raises ValueError that names the setting under which it fits, if it does not as it is."""
        pixels = (
            self.size[0] * self.size[1]
            if self.longer is None
            else self.longer**2 * min(self.size) / max(self.size)
        )
        working = (
            self.at_once
            * self.working
            * pixels
            / (self.size[0] * self.size[1])
            * (self.frames / self.clip if self.clip else 1)
        )
        parts = _of_folder(self.model, self.variant) or self.parts
        needs = {
            offload: needed(parts, working, offload, self.precision, self.denoiser)
            for offload in OFFLOADS
        }
        if needs[self.offload] > there:
            fits = [
                f"prior.offload={name} (about {much:.0f} GiB)"
                for name, much in needs.items()
                if much <= there
            ]
            advice = [
                *fits,
                *(["prior.at_once=1"] if self.at_once > 1 else []),
                "a smaller prior.size",
            ]
            raise ValueError(
                f"prior.model {self.model} takes about {needs[self.offload]:.0f} GiB with prior.offload={self.offload}, and the GPU has {there:.0f}; "
                f"choose {' or '.join(advice)}"
            )

    @cached_property
    def pipe(self) -> Any:
        """The model, loaded when a first clip is wanted."""
        import diffusers

        kind = getattr(diffusers, self.pipeline)
        with quiet():
            how, folder = self._told(), Path(self.model)
            if (
                self.variant
                and self.dtype != torch.float32
                and (not folder.is_dir() or any(folder.glob(f"*/*.{self.variant}.*")))
            ):
                how["variant"] = self.variant
            pipe = loaded(
                lambda: kind.from_pretrained(self.model, **how), self.model, self.pipeline
            )
        return self._placed(pipe)

    def _told(self) -> dict[str, Any]:
        """What `from_pretrained` is told besides the model."""
        return {
            "dtype": {"default": self.dtype, **dict.fromkeys(self.single, torch.float32)}
            if self.single
            else self.dtype
        }

    def _placed(self, pipe: Any) -> Any:
        part = getattr(pipe, self.denoiser)
        if self.precision == "float8":
            part.enable_layerwise_casting(
                storage_dtype=torch.float8_e4m3fn, compute_dtype=self.dtype
            )
        if self.offload == "none" or self.device.type == "cpu":
            pipe.to(self.device)
        elif self.offload == "model":
            pipe.enable_model_cpu_offload(device=self.device)
        else:
            # Not the autoencoder: it is small, and its precision may change between encoding and decoding.
            pipe.enable_group_offload(
                onload_device=self.device,
                offload_type="leaf_level",
                use_stream=True,
                exclude_modules=["vae"],
            )
            pipe.vae.to(self.device)
        if self.compiled:
            part.compile()
        pipe.set_progress_bar_config(disable=True)  # of its own; there is one of ours
        return pipe

    def release(self) -> None:
        self.__dict__.pop("pipe", None)
        gc.collect()  # some pipelines hold on to themselves
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    # Clips

    @abstractmethod
    def sampled(
        self,
        pictures: UInt8[Tensor, "clip y x 3"],
        paths: Sequence[Cameras],
        asked: Sequence[Asked],
    ) -> UInt8[Tensor, "clip frame y x 3"]:
        """Videos that begin with the pictures. paths: their cameras, `frames` of them, at that size; the first is at the origin."""

    def __call__(self, frames: Frames, cameras: Cameras, clip: Clip, seed: int) -> Frames:
        return self.many([Asked(frames, cameras, clip, seed)])[0]

    def many(self, asked: Sequence[Asked]) -> list[Frames]:
        out = []
        for start in range(0, len(asked), self.at_once):
            out += self._together(asked[start : start + self.at_once])
        return out

    def _together(self, asked: Sequence[Asked]) -> list[Frames]:
        for one in asked:
            if len(one.clip.cameras) != self.clip_length:
                raise ValueError(
                    f"clip {one.clip.name!r} has {len(one.clip.cameras)} new frames; prior.frames={self.frames} makes {self.clip_length}"
                )
        height, width = asked[0].frames.images.shape[1:3]
        across, down = self.made(width, height)
        pictures = torch.cat(
            [
                resized(one.frames.images[one.clip.source : one.clip.source + 1], across, down)
                for one in asked
            ]
        )
        paths = [path(one).resized(across, down) for one in asked]
        videos = self.sampled(pictures, paths, asked)
        return [
            Frames(resized(video[1:], width, height).to(one.frames.images.device))
            for video, one in zip(videos, asked, strict=True)
        ]

    def made(self, width: int, height: int) -> tuple[int, int]:
        """Pixels across and down that the model makes for a picture: of its shape, as nearly as `step` allows."""
        if self.longer is None:
            scale = math.sqrt(self.size[0] * self.size[1] / (width * height))
        else:
            scale = self.longer / max(width, height)
        return tuple(
            max(self.step, round(side * scale / self.step) * self.step) for side in (width, height)
        )

    def noise(self, asked: Sequence[Asked]) -> list[torch.Generator]:
        """One a clip, the same wherever and with whatever others it is made."""
        return [torch.Generator().manual_seed(one.seed) for one in asked]

    @contextmanager
    def steps_shown(self, asked: Sequence[Asked]) -> Iterator[Callable[[], None]]:
        """A bar of the steps of these clips; to be called after each."""
        with tqdm(
            total=self.steps,
            desc=f"sampling {', '.join(one.clip.name for one in asked)}",
            leave=False,
            disable=None,
        ) as bar:
            yield lambda: bar.update()


class PromptedPrior(DiffusionPrior):
    """Settings that models have which are told in words what to show.

    prompt: what the video shows. negative_prompt: what it does not show. guidance: how much the prompt decides; 1: as it does by
        itself, without classifier-free guidance.
    """

    def __init__(
        self,
        model: str,
        prompt: str = "a still scene, filmed by a moving camera",
        negative_prompt: str = "",
        guidance: float = 5.0,
        *,
        device: torch.device,
        **shared,
    ) -> None:
        super().__init__(model, device=device, **shared)
        if not guidance >= 1:
            raise ValueError(f"prior.guidance is {guidance}; choose 1 (none) or more")
        self.prompt, self.negative_prompt, self.guidance = prompt, negative_prompt, guidance


class OneByOne(PromptedPrior):
    """What priors share whose pipeline makes one video a call."""

    denoiser = "transformer"
    half = "bfloat16"

    def __init__(self, model: str, *, device: torch.device, **shared) -> None:
        super().__init__(
            model, device=device, **{**shared, "at_once": 1}
        )  # what is made one by one is kept one by one

    def sampled(
        self,
        pictures: UInt8[Tensor, "clip y x 3"],
        paths: Sequence[Cameras],
        asked: Sequence[Asked],
    ) -> UInt8[Tensor, "clip frame y x 3"]:
        videos = []
        for picture, cameras, one, generator in zip(
            pictures, paths, asked, self.noise(asked), strict=True
        ):
            with self.steps_shown([one]) as shown:

                def after(*_: Any, shown: Callable[[], None] = shown) -> dict:
                    shown()
                    return {}  # of tensors to be replaced, none

                planes = finite(self.video(picture, cameras, one, generator, after))
            videos.append(
                (planes.float() * 255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
            )
        return torch.stack(videos)

    @abstractmethod
    def video(
        self,
        picture: UInt8[Tensor, "y x 3"],
        cameras: Cameras,
        asked: Asked,
        generator: torch.Generator,
        after: Callable[..., dict],
    ) -> Float[Tensor, "frame 3 y x"]:
        """One of `sampled`, from 0 to 1. after: the pipeline's `callback_on_step_end`."""


def path(asked: Asked) -> Cameras:
    """The cameras of a clip, that of the frame it continues before them, which is moved to the origin."""
    source = asked.cameras[asked.clip.source]
    cameras = Cameras.cat([source, asked.clip.cameras])
    first = source.world_to_camera[0]
    return transform_cameras(cameras, 1.0, first[:3, :3], first[:3, 3])


def finite(values: Tensor) -> Tensor:
    """The values, if all of them are numbers. Raises ValueError that says what to change."""
    if not bool(values.isfinite().all()):
        raise ValueError(
            "the generator's numbers ran out of range; choose prior.precision=bfloat16 or float32, or less prior.guidance"
        )
    return values


def attend(query: Tensor, key: Tensor, value: Tensor, causal: bool = False) -> Tensor:
    """Scaled dot products of [item head q c] and [item head k c], in as many pieces as it takes."""
    pieces = zip(*(part.split(MOST_ITEMS) for part in (query, key, value)), strict=True)
    found = [scaled_dot_product_attention(*piece, is_causal=causal) for piece in pieces]
    return found[0] if len(found) == 1 else torch.cat(found)


def loaded(load: Callable[[], Any], model: str, kind: str) -> Any:
    """What `load` gives. Raises FileNotFoundError or ValueError that names `prior.model` and says what to do."""
    try:
        return load()
    except Exception as error:  # of the hub's libraries, which have many
        first = " ".join(str(error).split())[:300]
        if Path(model).exists():
            raise ValueError(
                f"prior.model is {model}, which could not be loaded as a {kind} ({type(error).__name__}: {first})"
            ) from None
        raise not_loaded("prior.model", model, error) from None


def _of_folder(model: str, variant: str | None) -> dict[str, float]:
    """GiB of the weights in each part of a folder, of the variant if there is one."""
    folder = Path(model)
    found: dict[str, float] = {}
    files = sorted(folder.glob("*/*.safetensors")) if folder.is_dir() else []
    for file in [file for file in files if f".{variant}." in file.name] or files:
        found[file.parent.name] = found.get(file.parent.name, 0.0) + file.stat().st_size / 2**30
    return found


@contextmanager
def quiet() -> Iterator[None]:
    """Without the bars of diffusers and transformers for each file that is read."""
    import diffusers.utils.logging as ours
    import transformers.utils.logging as theirs

    for logger in (ours, theirs):
        logger.disable_progress_bar()
    try:
        yield
    finally:
        for logger in (ours, theirs):
            logger.enable_progress_bar()
