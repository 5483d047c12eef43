"""Load parts of a generator that have a setting of their own."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lift.errors import model_not_loaded_error, summarize_error
from lift.priors.diffusion.loading import no_progress_bars
from lift.weights.files import with_mapping


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
