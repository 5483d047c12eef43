"""Read files with weights. On file systems without memory mapping they are read as a whole."""

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

_MMAP_TEXTS = r"mmap|memory.?map|\bos error (?:13|19|22|38|95)\b"
"""What libraries say if a file system cannot map files into memory, in lower case.

The numbers are EACCES, ENODEV, EINVAL, ENOSYS and EOPNOTSUPP.
"""

_LOGGER = logging.getLogger(__name__)

T = TypeVar("T")


def find_mapping_error(error: BaseException | None) -> BaseException | None:
    """Return the error that says that a file cannot be mapped into memory, or None.

    Args:
        error: An exception. What caused it counts, too.
    """
    while error is not None and not re.search(_MMAP_TEXTS, str(error).lower()):
        error = error.__cause__ or error.__context__
    return error


def with_mapping(load: Callable[[bool], T], name: str) -> T:
    """Load files by memory mapping, or without it where the file system has none.

    Args:
        load: Loads the files. Its argument says whether to map them.
        name: Name of the files, for a warning.

    Returns:
        What `load` returns.
    """
    try:
        return load(True)
    except Exception as error:  # libraries raise many classes
        if not (cause := find_mapping_error(error)):
            raise
        _LOGGER.warning(
            "%s cannot be mapped into memory (%s); it is read as a whole, which takes more memory",
            name,
            " ".join(str(cause).split())[:200],
        )
        return load(False)


def load_safetensors(path: Path) -> dict[str, Tensor]:
    """Load a file in the format of safetensors to the CPU.

    Args:
        path: The file.

    Returns:
        Name -> weights.
    """
    from safetensors.torch import load, load_file

    return with_mapping(
        lambda mapped: load_file(path) if mapped else load(path.read_bytes()), str(path)
    )


def load_pickle(path: Path) -> Any:
    """Load a file of `torch.save` to the CPU, without running its code.

    Args:
        path: The file. Files of torch before version 1.6 cannot be mapped and are read as a whole.

    Returns:
        Its content.
    """
    return with_mapping(
        lambda mapped: torch.load(path, map_location="cpu", weights_only=True, mmap=mapped),
        str(path),
    )
