"""Networks of others as the Hugging Face hub keeps them: config.json and model.safetensors, from there or from a folder."""

import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor, nn

from lift.errors import not_loaded


def held(model: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Settings and weights. Raises FileNotFoundError or ValueError that names `pose.model`."""
    folder, names = Path(model).expanduser(), ("config.json", "model.safetensors")
    if not model or folder.is_file():
        raise ValueError(
            f"pose.model is {model!r}; choose a folder with {' and '.join(names)}, or a name on the Hugging Face hub"
        )
    if folder.is_dir():
        for name in names:
            if not (folder / name).is_file():
                raise FileNotFoundError(
                    f"pose.model is {model}, a folder without {name}; hf download REPOSITORY --local-dir {model} brings it"
                )
        files = [folder / name for name in names]
    else:
        from huggingface_hub import hf_hub_download

        try:
            files = [Path(hf_hub_download(model, name)) for name in names]
        except Exception as error:  # of the hub's libraries, which have many
            raise not_loaded("pose.model", model, error) from None
    try:
        return json.loads(files[0].read_text()), load_file(files[1])
    except Exception as error:  # a file of another kind can raise whatever it likes
        raise ValueError(
            f"pose.model is {model!r}, whose files are not a network's: {' '.join(str(error).split())[:200]}"
        ) from None


def fill(network: nn.Module, weights: dict[str, Tensor], spared: tuple[str, ...] = ()) -> None:
    """Gives a network its weights. Raises ValueError if some are missing, those that begin as one of `spared` apart."""
    missing, _ = network.load_state_dict(weights, strict=False)
    own = network.state_dict()
    there = {
        own[name].data_ptr() for name in own.keys() & weights.keys()
    }  # a weight may have two names, of which a file has one
    if gone := [
        name
        for name in missing
        if not (spared and name.startswith(spared)) and own[name].data_ptr() not in there
    ]:
        raise ValueError(f"{len(gone)} of its weights are not there, {gone[0]} among them")
