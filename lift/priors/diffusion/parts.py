"""Check folders of models, and load parts of a generator that have a setting of their own."""

import inspect
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lift.errors import model_not_loaded_error, summarize_error
from lift.io.names import user_path
from lift.priors.diffusion.loading import no_progress_bars
from lift.weights.files import with_mapping


def require_index_file(model: str, prior: Any) -> None:
    """Check that a folder with a model has the index file of its generator.

    Args:
        model: The setting `prior.model`. Names on the hub and single files are not checked.
        prior: Class of the generator. The message names its default of `model`, if it has one.

    Raises:
        FileNotFoundError: If the folder is there, but lacks the file.
    """
    folder = user_path(model)
    if folder.is_dir() and not (folder / prior.index_file).is_file():
        parameter = inspect.signature(prior).parameters.get("model")
        default = parameter.default if parameter else None
        repository = default if isinstance(default, str) else "REPOSITORY"
        raise FileNotFoundError(
            f"prior.model is {model}, a folder without {prior.index_file}; hf download "
            f"{repository} --local-dir {shlex.quote(str(folder))} brings a {prior.pipeline_class}"
        )


def load_part(load: Callable[[dict[str, bool]], Any], setting: str, place: str) -> Any:
    """Load a part, and turn errors into one line that names its setting.

    Args:
        load: Loads the part. Its argument are more keyword arguments of diffusers'
            `from_pretrained`, for file systems without memory mapping.
        setting: Name of the setting, such as `prior.autoencoder`.
        place: Folder, or name on the Hugging Face hub.

    Returns:
        What `load` returns.

    Raises:
        FileNotFoundError: If the part is neither on this machine nor on the hub.
        ValueError: If the files are there, but hold something else.
    """
    try:
        with no_progress_bars():
            return with_mapping(
                lambda mapped: load({} if mapped else {"disable_mmap": True}), f"{setting} {place}"
            )
    except Exception as error:  # the hub's libraries raise many classes
        if Path(place).exists():
            raise ValueError(
                f"{setting} is {place}, which could not be loaded "
                f"({summarize_error(error, 300, with_type=True)})"
            ) from None
        raise model_not_loaded_error(setting, place, error) from None
