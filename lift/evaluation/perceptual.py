"""What the perceptual distances LPIPS and DISTS share: published weights, and pictures as input."""

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from lift.weights import CachedUrl
from lift.weights.files import load_pickle
from lift.weights.urls import ensure_file


def load_published_weights(
    metric: str, folder: Path | None, files: Sequence[str], sources: Sequence[CachedUrl]
) -> list[dict[str, Tensor]]:
    """Load weights from a folder, or download them to torch.hub's cache.

    Args:
        metric: Name of the distance, for the message.
        folder: Folder with `files`. None downloads `sources`.
        files: Names of the files in the folder.
        sources: The same files on the web.

    Returns:
        The weights of each file, on the CPU.

    Raises:
        FileNotFoundError: A file is missing. The message names it.
        OSError: A file cannot be downloaded.
    """
    if folder is None:
        return [_load_cached(source) for source in sources]
    for name in files:
        if not (folder / name).exists():
            raise FileNotFoundError(
                f"there is no {name} in {folder}, which is to hold {metric}'s weights: "
                f"{', '.join(files)}"
            )
    return [load_pickle(folder / name) for name in files]


def _load_cached(source: CachedUrl) -> dict[str, Tensor]:
    """Load a file of torch.hub's cache, downloaded if necessary. It may be older than zip files."""
    return torch.load(ensure_file(source), map_location="cpu", weights_only=True)


def to_planes(
    picture: Float[Tensor, "height width 3"], like: Tensor
) -> Float[Tensor, "1 3 height width"]:
    """Clamp a picture to [0, 1] and put its channels first, as convolutions need them.

    Args:
        picture: A picture.
        like: Tensor with the device and the type of the result.

    Returns:
        A batch of one picture.
    """
    return picture.to(like).clamp(0, 1).permute(2, 0, 1)[None]
