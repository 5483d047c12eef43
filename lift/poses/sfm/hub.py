"""Checkpoints on the Hugging Face Hub, in a folder or in a file."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from lift.errors import model_not_loaded_error, summarize_error
from lift.io.names import user_path
from lift.weights.files import load_pickle, load_safetensors

FILES = ("config.json", "model.safetensors")
"""Files of a checkpoint."""


def load_checkpoint(
    model: str, files: Sequence[str] = FILES
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Load the configuration and the weights of a network.

    Args:
        model: Name on the Hugging Face Hub, a folder, or a file with weights.
        files: Names of the files: a configuration (`.json`), if there is one, and weights
            (`.safetensors`, `.pt` or `.pth`).

    Returns:
        The configuration, empty if there is none, and the weights by name.

    Raises:
        FileNotFoundError: If the folder lacks a file, or the hub cannot give the files.
        ValueError: If the checkpoint cannot be loaded. The message names `pose.model`.
    """
    settings: dict[str, Any] = {}
    weights: dict[str, Tensor] = {}
    paths = _checkpoint_files(model, files)
    try:
        for path in paths:
            if path.suffix == ".json":
                settings = json.loads(path.read_text(encoding="utf-8"))
            elif path.suffix == ".safetensors":
                weights = load_safetensors(path)
            else:
                weights = _load_state(path)
    except Exception as error:  # Files of another kind can raise anything.
        raise _checkpoint_error(model, "whose files are not a network's", error) from None
    return settings, weights


def _load_state(path: Path) -> dict[str, Tensor]:
    """Load a pickle of weights by name."""
    content = load_pickle(path)
    content = content.get("model", content) if isinstance(content, dict) else content
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise ValueError(f"{path.name} does not hold weights by name")
    return content


def _checkpoint_error(model: str, complaint: str, error: Exception) -> ValueError:
    """Make an error that names `pose.model`."""
    return ValueError(f"pose.model is {model!r}, {complaint}: {summarize_error(error, 200)}")


def _checkpoint_files(model: str, files: Sequence[str]) -> list[Path]:
    """Return the paths of a checkpoint's files, downloaded if necessary."""
    folder = user_path(model)
    if folder.is_file() and len(files) == 1:
        return [folder]
    if not model or folder.is_file():
        raise ValueError(
            f"pose.model is {model!r}; choose a folder with {' and '.join(files)}, "
            "or a name on the Hugging Face hub"
        )
    if folder.is_dir():
        for name in files:
            if not (folder / name).is_file():
                raise FileNotFoundError(
                    f"pose.model is {model}, a folder without {name}; choose a folder with "
                    f"{' and '.join(files)}, as lift download --to FOLDER writes it"
                )
        return [folder / name for name in files]
    from huggingface_hub import hf_hub_download

    try:
        return [Path(hf_hub_download(model, name)) for name in files]
    except Exception as error:  # The hub's libraries raise many kinds of errors.
        raise model_not_loaded_error("pose.model", model, error) from None


def build_network(
    model: str,
    kind: str,
    create: Callable[[], nn.Module],
    weights: dict[str, Tensor],
    optional: tuple[str, ...] = (),
) -> nn.Module:
    """Create a network and load its weights.

    Args:
        model: The setting `pose.model`, for the message.
        kind: What the network should be, for the message.
        create: Creates the network.
        weights: Weights by name; others than the network's are ignored.
        optional: Beginnings of the names of weights that may be missing.

    Returns:
        The network.

    Raises:
        ValueError: If the checkpoint is of another kind. The message names `pose.model`.
    """
    try:
        network = create()
        _load_weights(network, weights, optional)
    except Exception as error:  # A checkpoint of another kind can raise anything.
        raise _checkpoint_error(model, f"which is not {kind}", error) from None
    return network


def _load_weights(
    network: nn.Module, weights: dict[str, Tensor], optional: tuple[str, ...]
) -> None:
    """Load weights into a network. Raise ValueError if some are missing."""
    missing, _ = network.load_state_dict(weights, strict=False)
    state = network.state_dict()
    # A weight may have two names, one of which is in the file.
    loaded = {state[name].data_ptr() for name in state.keys() & weights.keys()}
    absent = [
        name
        for name in missing
        if not (optional and name.startswith(optional)) and state[name].data_ptr() not in loaded
    ]
    if absent:
        raise ValueError(f"{len(absent)} of its weights are not there, {absent[0]} among them")
