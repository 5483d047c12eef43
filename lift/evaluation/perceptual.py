"""What the perceptual distances LPIPS and DISTS share: published weights, and pictures as input."""

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

TIMEOUT = 20.0
"""Seconds that a server may be silent during a download."""


def load_published_weights(
    metric: str,
    folder: Path | None,
    files: Sequence[str],
    urls: Sequence[str],
    cache_names: Sequence[str | None],
) -> list[dict[str, Tensor]]:
    """Load weights from a folder, or download them to torch.hub's cache.

    Args:
        metric: Name of the distance, for the message.
        folder: Folder with `files`. None downloads `urls`.
        files: Names of the files in the folder.
        urls: Addresses of the same files.
        cache_names: Names of the files in the cache; None for the end of the address.

    Returns:
        The weights of each file, on the CPU.

    Raises:
        FileNotFoundError: A file is missing. The message names it.
    """
    if folder is None:
        with _connection_timeout():
            return [
                torch.hub.load_state_dict_from_url(
                    url, map_location="cpu", progress=True, file_name=name, weights_only=True
                )
                for url, name in zip(urls, cache_names, strict=True)
            ]
    for name in files:
        if not (folder / name).exists():
            raise FileNotFoundError(
                f"there is no {name} in {folder}, which is to hold {metric}'s weights: "
                f"{', '.join(files)}"
            )
    return [torch.load(folder / name, map_location="cpu", weights_only=True) for name in files]


@contextmanager
def _connection_timeout() -> Iterator[None]:
    """Limit how long a server may be silent. torch.hub would wait for ever."""
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)
    try:
        yield
    finally:
        socket.setdefaulttimeout(timeout)


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
