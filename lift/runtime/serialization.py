"""Write values of `lift.types` to folders as PNG, safetensors and JSON, and read them back."""

import json
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from lift import types
from lift.runtime.integrity import DamagedFileError, damage_of
from lift.runtime.parallel import parallel_map

TENSORS = "tensors.safetensors"
"""Name of the file with the tensors of a value."""

TREE = "value.json"
"""Name of the file with the rest of a value."""


def save(value: Any, folder: Path) -> None:
    """Write a value to a folder.

    Args:
        value: A value of `lift.types`, or a tuple, list or dictionary of such values.
        folder: An existing folder.
    """
    tensors: dict[str, torch.Tensor] = {}
    tree = _pack(value, "value", tensors, folder)
    save_file(tensors, folder / TENSORS)
    (folder / TREE).write_text(json.dumps(tree), encoding="utf-8")


def load(folder: Path) -> Any:
    """Read what `save` wrote to a folder. Tensors are equal bit for bit; lists become tuples.

    Args:
        folder: Folder that `save` wrote to.

    Raises:
        DamagedFileError: A file is missing or damaged.
    """
    with damage_of(folder / TREE):
        tree = json.loads((folder / TREE).read_text(encoding="utf-8"))
    with damage_of(folder / TENSORS):
        tensors = load_file(folder / TENSORS)
    with damage_of(folder / TREE):
        return _unpack(tree, tensors, folder)


def as_loaded(value: Any) -> Any:
    """Return what `load` would return for a value that `save` wrote, without the files.

    Tensors are copies.

    Args:
        value: A value that `save` takes.
    """
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True).contiguous()
    if is_dataclass(value) and not isinstance(value, type):
        return type(value)(**{f.name: as_loaded(getattr(value, f.name)) for f in fields(value)})
    if isinstance(value, (tuple, list)):
        return tuple(as_loaded(item) for item in value)
    if isinstance(value, dict):
        return {str(key): as_loaded(item) for key, item in value.items()}
    return value


def _pack(value: Any, name: str, tensors: dict[str, torch.Tensor], folder: Path) -> Any:
    if isinstance(value, torch.Tensor):
        if value.dtype == torch.uint8 and value.ndim == 4:
            return {"pictures": _write_images(value, folder / name), "count": len(value)}
        tensors[name] = value.detach().cpu().contiguous().clone()
        return {"tensor": name}
    if is_dataclass(value):
        content = {
            f.name: _pack(getattr(value, f.name), f"{name}.{f.name}", tensors, folder)
            for f in fields(value)
        }
        return {"type": type(value).__name__, "fields": content}
    if isinstance(value, (tuple, list)):
        items = [_pack(item, f"{name}.{i}", tensors, folder) for i, item in enumerate(value)]
        return {"tuple": items}
    if isinstance(value, dict):
        content = {
            key: _pack(item, f"{name}.{key}", tensors, folder) for key, item in value.items()
        }
        return {"dict": content}
    return {"is": value}


def _unpack(tree: Any, tensors: dict[str, torch.Tensor], folder: Path) -> Any:
    (kind, content), *rest = tree.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "pictures":
        return _read_images(folder / Path(content).name, rest[0][1] if rest else None)
    if kind == "type":
        arguments = {key: _unpack(item, tensors, folder) for key, item in rest[0][1].items()}
        return _dataclass(content)(**arguments)
    if kind == "tuple":
        return tuple(_unpack(item, tensors, folder) for item in content)
    if kind == "dict":
        return {key: _unpack(item, tensors, folder) for key, item in content.items()}
    return content


def _dataclass(name: str) -> Any:
    """Return the dataclass of `lift.types` with a name. A file can name nothing else."""
    found = getattr(types, name, None)
    if not (isinstance(found, type) and is_dataclass(found)):
        raise ValueError(f"{name!r} is no type of lift")
    return found


def _write_images(images: torch.Tensor, folder: Path) -> str:
    """Write uint8 images [image height width 3] as PNG, and return the name of their folder."""
    folder.mkdir(exist_ok=True)
    arrays = images.cpu().numpy()

    def write(number: int) -> None:
        Image.fromarray(arrays[number]).save(folder / _image_name(number), compress_level=1)

    parallel_map(write, range(len(arrays)))
    return folder.name


def _image_name(number: int) -> str:
    return f"{number:06d}.png"


def _read_images(folder: Path, count: int | None) -> torch.Tensor:
    """Read the images of `_write_images`. Folders of older versions do not tell their number."""
    if count is None:
        paths = sorted(folder.glob("*.png"))
    else:
        paths = [folder / _image_name(number) for number in range(count)]
    if not paths:
        raise DamagedFileError(folder, "it has no images")

    def read(path: Path) -> numpy.ndarray:
        with damage_of(path), Image.open(path, formats=["PNG"]) as image:
            return numpy.array(image)

    arrays = parallel_map(read, paths)
    with damage_of(folder):
        return torch.from_numpy(numpy.stack(arrays))
