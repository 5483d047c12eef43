"""Load model weights with clear errors, and measure them on disk."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from lift.errors import model_not_loaded_error, summarize_error
from lift.runtime.kept_networks import files_stamp, load_once, networks_of
from lift.weights.files import with_mapping

T = TypeVar("T")

FILE_SETTINGS = ("model", "weights", "autoencoder", "image_encoder", "loras", "refiner")
"""Settings of priors that name files with weights."""

SAMPLING_SETTINGS = (
    "prompt",
    "negative_prompt",
    "guidance_scale",
    "num_inference_steps",
    "batch_size",
    "decode_chunk_size",
)
"""Settings of priors that loaded networks do not depend on."""


def load_model(load: Callable[[], Any], model: str, kind: str) -> Any:
    """Call `load` and turn its errors into one line that names `prior.model`.

    Args:
        load: Loads the model.
        model: The setting `prior.model`, a folder, a file or a name on the Hugging Face hub.
        kind: What the model should be, for the message.

    Returns:
        What `load` returns.

    Raises:
        FileNotFoundError: If the model is neither on this machine nor on the hub.
        ValueError: If the files are there, but hold something else.
    """
    try:
        return load()
    except Exception as error:  # the hub's libraries raise many classes
        if Path(model).exists():
            raise ValueError(
                f"prior.model is {model}, which could not be loaded as a {kind} "
                f"({summarize_error(error, 300, with_type=True)})"
            ) from None
        raise model_not_loaded_error("prior.model", model, error) from None


def load_pipeline(pipeline_class: Any, model: str, options: Mapping[str, Any]) -> Any:
    """Load a pipeline of diffusers, without memory mapping where the file system has none.

    Args:
        pipeline_class: Class of the pipeline.
        model: The setting `prior.model`, a folder or a name on the Hugging Face hub.
        options: Further arguments of its `from_pretrained`.

    Returns:
        The pipeline.

    Raises:
        FileNotFoundError: If the model is neither on this machine nor on the hub.
        ValueError: If the files are there, but hold something else.
    """

    def load(mapped: bool) -> Any:
        mapping = {} if mapped else {"disable_mmap": True}
        return pipeline_class.from_pretrained(model, **options, **mapping)

    name = pipeline_class.__name__
    return load_model(lambda: with_mapping(load, f"prior.model {model}"), model, name)


def folder_memory(model: str, variant: str | None) -> dict[str, float]:
    """Measure the weights of each part of a model folder.

    Args:
        model: A folder in the layout of `save_pretrained`, or anything else.
        variant: Infix of the weight files in half precision, such as `fp16`.

    Returns:
        Part -> GiB of its files, of the variant if it exists. Empty if `model` is no folder.
    """
    folder = Path(model)
    sizes: dict[str, float] = {}
    files = sorted(folder.glob("*/*.safetensors")) if folder.is_dir() else []
    for file in [file for file in files if f".{variant}." in file.name] or files:
        part = file.parent.name
        sizes[part] = sizes.get(part, 0.0) + file.stat().st_size / 2**30
    return sizes


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Hide the progress bars that diffusers and transformers show for each file."""
    import diffusers.utils.logging as diffusers_logging
    import transformers.utils.logging as transformers_logging

    for logger in (diffusers_logging, transformers_logging):
        logger.disable_progress_bar()
    try:
        yield
    finally:
        for logger in (diffusers_logging, transformers_logging):
            logger.enable_progress_bar()


def load_or_keep(prior: Any, kind: str, load: Callable[[], T]) -> T:
    """Load networks, unless a worker has kept them from a picture with the same settings.

    Args:
        prior: A `DiffusionPrior`.
        kind: What they are for, such as `prior`. One of each kind is kept.
        load: Loads them, and moves them to the GPU if `prior.offload` asks for it.
    """
    # Networks that are moved layer by layer cannot be moved as a whole.
    if prior.run_settings is None or prior.offload == "group":
        return load()
    settings = {
        key: value for key, value in prior.run_settings.items() if key not in SAMPLING_SETTINGS
    }
    stamp = files_stamp(*(settings.get(key) for key in FILE_SETTINGS))
    text = json.dumps(settings, sort_keys=True, default=str)
    pipe = load_once(kind, (type(prior), str(prior.device), text, stamp), load)
    if prior.offload == "none":
        for network in networks_of(pipe):
            network.to(prior.device)
    return pipe
