"""Pictures in memory as inputs of a run: they are written to files named by their content."""

import hashlib
import os
import re
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image

from lift.io.names import safe_name
from lift.runtime.atomic_io import publish

Picture: TypeAlias = str | os.PathLike[str] | Image.Image | np.ndarray | torch.Tensor
"""A picture: its file or built-in name, or its pixels."""

ImageLike: TypeAlias = Picture | Sequence[Picture]
"""The input of a run: a picture, a video, a folder, or a list of pictures."""

_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I", "I;16")
"""Modes of PIL that PNG holds."""


def store_image(image: Picture, output: Path) -> str:
    """Return the file of a picture, and write it if it is in memory only.

    Args:
        image: A file or a built-in name, an image of PIL, or uint8 [height width 3].
        output: Folder of all runs. The file is `cache/images/NAME-DIGEST.png` in it.

    Returns:
        The name as the setting `image` takes it.

    Raises:
        ValueError: It is an array of another type or shape.
        TypeError: It is neither of these.
    """
    if isinstance(image, (str, os.PathLike)):
        return os.fspath(image)
    name = "image"
    if isinstance(image, Image.Image):
        content = _encode(image)
        name = Path(str(getattr(image, "filename", "") or name)).stem
    elif isinstance(image, (np.ndarray, torch.Tensor)):
        content = _encode(Image.fromarray(_to_array(image)))
    else:
        raise TypeError(
            f"image is {type(image).__name__}; give a file, an image of PIL, an array of uint8 "
            "[height, width, 3], or a list of these"
        )
    digest = hashlib.sha256(content).hexdigest()[:12]
    stem = safe_name(re.sub(r"[^\w-]", "_", name))
    path = output / "cache" / "images" / f"{stem}-{digest}.png"
    if not path.is_file() or path.read_bytes() != content:
        path.parent.mkdir(parents=True, exist_ok=True)
        publish(path, lambda draft: draft.write_bytes(content))
    return str(path)


def _to_array(image: np.ndarray | torch.Tensor) -> np.ndarray:
    """Return pixels as an array of numpy."""
    dtype = str(image.dtype).removeprefix("torch.")
    shape = list(image.shape)
    if dtype != "uint8" or len(shape) != 3 or shape[2] != 3 or 0 in shape:
        raise ValueError(
            f"image is an array of {dtype} {shape}; give uint8 [height, width, 3], colours from 0 "
            "to 255"
        )
    return image.detach().cpu().numpy() if isinstance(image, torch.Tensor) else image


def _encode(image: Image.Image) -> bytes:
    """Encode a picture as PNG, with its focal length and orientation if EXIF has them."""
    options: dict[str, Any] = {"compress_level": 1}
    if exif := image.getexif():
        options["exif"] = exif
    stream = BytesIO()
    converted = image if image.mode in _MODES else image.convert("RGB")
    converted.save(stream, format="PNG", **options)
    return stream.getvalue()
