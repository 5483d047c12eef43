"""glTF binary with the extension KHR_gaussian_splatting, without loss.

The axes are those of glTF: x right, y up, z back. Viewers without the extension show the Gaussians
as coloured points.
"""

import json
import struct
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lift.io.json_files import parse_json
from lift.io.parsing import shorten
from lift.spherical_harmonics import C0
from lift.types import Gaussians

EXTENSION = "KHR_gaussian_splatting"
"""Name of the extension of glTF."""

_MAGIC = 0x46546C67
_JSON = 0x4E4F534A
_BIN = 0x004E4942
_HEADER = struct.Struct("<III")
_CHUNK = struct.Struct("<II")
_TYPES = {5120: "i1", 5121: "u1", 5122: "<i2", 5123: "<u2", 5126: "<f4"}
"""NumPy's type for each component type of glTF."""
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}
_TYPE_NAMES = {1: "SCALAR", 3: "VEC3", 4: "VEC4"}
_UNIT_TOLERANCE = 1e-6
"""Largest deviation of the length of a quaternion that counts as 1."""
_FLOAT = 5126
_UNSIGNED_BYTE = 5121
_IDENTITY = {
    "matrix": np.eye(4).T.ravel().tolist(),
    "translation": [0, 0, 0],
    "rotation": [0, 0, 0, 1],
    "scale": [1, 1, 1],
}
"""Value of each property of a node that transforms nothing."""


def encode_glb(gaussians: Gaussians) -> bytes:
    """Encode Gaussians as the content of a glb file.

    Args:
        gaussians: Gaussians without a view axis, with the axes of glTF.

    Returns:
        The content of the file.
    """
    attributes = _attributes(gaussians)
    accessors: list[dict[str, Any]] = []
    views = []
    content = b""
    for values in attributes.values():
        values = np.ascontiguousarray(values)
        is_float = values.dtype == np.float32
        accessor = {
            "bufferView": len(accessors),
            "componentType": _FLOAT if is_float else _UNSIGNED_BYTE,
            "count": len(values),
            "type": _TYPE_NAMES[values.shape[1] if values.ndim > 1 else 1],
        }
        if not is_float:
            accessor["normalized"] = True
        if not accessors:  # glTF requires the bounds of positions
            accessor |= {"min": values.min(0).tolist(), "max": values.max(0).tolist()}
        views.append({"buffer": 0, "byteOffset": len(content), "byteLength": values.nbytes})
        accessors.append(accessor)
        content += values.tobytes()
    primitive = {
        "attributes": {name: index for index, name in enumerate(attributes)},
        "mode": 0,
        "extensions": {
            EXTENSION: {
                "kernel": "ellipse",
                "colorSpace": "srgb_rec709_display",
                "sortingMethod": "cameraDistance",
                "projection": "perspective",
            }
        },
    }
    document = {
        "asset": {"version": "2.0", "generator": "lift"},
        "extensionsUsed": [EXTENSION],
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "name": "gaussians"}],
        "meshes": [{"primitives": [primitive]}],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": len(content)}],
    }
    text = json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    chunks = _CHUNK.pack(len(text), _JSON) + text + _CHUNK.pack(len(content), _BIN) + content
    return _HEADER.pack(_MAGIC, 2, _HEADER.size + len(chunks)) + chunks


def decode_glb(data: bytes) -> Gaussians:
    """Decode the Gaussians of a glb file.

    Args:
        data: Content of the file.

    Returns:
        The Gaussians, with the axes of glTF. Their values may be infinite or NaN.

    Raises:
        ValueError: The content is no such file, or it has properties that are not supported.
    """
    document, content = _split(data)
    try:
        primitives = [
            primitive
            for mesh in document.get("meshes", [])
            for primitive in mesh["primitives"]
            if EXTENSION in primitive.get("extensions", {})
        ]
        for node in document.get("nodes", []):
            if moved := [
                key for key in _IDENTITY if node.get(key, _IDENTITY[key]) != _IDENTITY[key]
            ]:
                raise ValueError(f"a node has a {moved[0]}, which cannot be read; apply it first")
        if len(primitives) != 1:
            raise ValueError(
                f"it has {len(primitives)} primitives with {EXTENSION}; exactly one can be read"
            )
        return _decode_primitive(primitives[0], document, content)
    except (KeyError, TypeError, IndexError, AttributeError, OverflowError) as error:
        raise ValueError(f"its glTF is incomplete: {type(error).__name__} {error}"[:300]) from None


def _attributes(gaussians: Gaussians) -> dict[str, np.ndarray]:
    """Return the values of each attribute [n] or [n c], positions first."""
    g = gaussians.map(lambda value: value.detach().cpu().float())
    sh_coeffs = g.sh_coeffs.numpy()
    colors = np.column_stack([sh_coeffs[:, 0] * C0 + 0.5, g.opacities.numpy()])
    attributes = {
        "POSITION": g.means.numpy(),
        "COLOR_0": np.rint(colors.clip(0, 1) * 255).astype(np.uint8),
        f"{EXTENSION}:ROTATION": _unit_quats(g.quats)[:, [1, 2, 3, 0]].numpy(),
        f"{EXTENSION}:SCALE": g.scales.numpy(),
        f"{EXTENSION}:OPACITY": g.opacities.numpy(),
    }
    for index, name in enumerate(_harmonic_names(gaussians.sh_degree)):
        attributes[name] = sh_coeffs[:, index]
    return attributes


def _unit_quats(quats: Float[Tensor, "gaussian 4"]) -> Float[Tensor, "gaussian 4"]:
    """Normalize quaternions, as glTF requires. Those of unit length keep their bits."""
    norms = quats.double().norm(dim=-1, keepdim=True)
    is_unit = (norms - 1).abs() <= _UNIT_TOLERANCE
    return torch.where(is_unit, quats, (quats / norms.clamp(min=1e-30)).float())


def _harmonic_names(degree: int) -> list[str]:
    """List the attributes of the harmonics up to a degree."""
    return [
        f"{EXTENSION}:SH_DEGREE_{band}_COEF_{k}"
        for band in range(degree + 1)
        for k in range(2 * band + 1)
    ]


def _decode_primitive(primitive: Any, document: dict[str, Any], content: bytes) -> Gaussians:
    """Decode the attributes of a primitive."""
    kernel = primitive["extensions"][EXTENSION].get("kernel", "ellipse")
    if kernel != "ellipse":
        raise ValueError(f"its kernel is {shorten(kernel)}; only 'ellipse' can be read")
    indices = primitive["attributes"]

    def read(name: str, width: int) -> torch.Tensor:
        if name not in indices:
            raise ValueError(f"it lacks the attribute {name}")
        values = _read_accessor(document, content, indices[name])
        if values.shape[1] != width:
            raise ValueError(f"{name} has {values.shape[1]} components; expected {width}")
        return torch.from_numpy(values)

    degrees = [d for d in range(4) if all(name in indices for name in _harmonic_names(d))]
    harmonics = [read(name, 3) for name in _harmonic_names(max(degrees, default=0))]
    means = read("POSITION", 3)
    quats = read(f"{EXTENSION}:ROTATION", 4)[:, [3, 0, 1, 2]]
    scales = read(f"{EXTENSION}:SCALE", 3)
    opacities = read(f"{EXTENSION}:OPACITY", 1)[:, 0]
    if len({len(value) for value in (means, quats, scales, opacities, *harmonics)}) > 1:
        raise ValueError("its attributes have different numbers of Gaussians")
    return Gaussians(means, quats, scales, opacities, torch.stack(harmonics, dim=1))


def _read_accessor(document: dict[str, Any], content: bytes, index: Any) -> np.ndarray:
    """Read an accessor as float32 [count width], within the bounds of its buffer."""
    accessor = document["accessors"][_integer(index)]
    view = document["bufferViews"][_integer(accessor["bufferView"])]
    kind = _TYPES.get(accessor["componentType"])
    width = _WIDTHS.get(accessor["type"])
    if kind is None or width is None or "sparse" in accessor:
        raise ValueError("an accessor is sparse or has a type that cannot be read")
    dtype = np.dtype(kind)
    if dtype.kind != "f" and not accessor.get("normalized"):
        raise ValueError("an accessor has integers that are not normalized")
    count = _integer(accessor["count"])
    row = dtype.itemsize * width
    stride = _integer(view.get("byteStride", row))
    start = _integer(view.get("byteOffset", 0)) + _integer(accessor.get("byteOffset", 0))
    if _integer(view.get("buffer", 0)) != 0:
        raise ValueError("a buffer is outside of the file")
    if count < 1 or stride < row or start + stride * (count - 1) + row > len(content):
        raise ValueError(
            f"an accessor of {count} rows of {stride} bytes lies outside of its buffer"
        )
    values = np.ndarray((count, width), dtype, content, start, (stride, dtype.itemsize))
    if dtype.kind == "f":
        return values.astype(np.float32)
    return np.maximum(values.astype(np.float32) / np.iinfo(dtype).max, -1)


def _integer(value: Any) -> int:
    """Check an index or a size. Raise ValueError if it is none."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**40:
        raise ValueError(f"it has {shorten(value)} in place of an index or a size")
    return value


def _split(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Return the JSON and the binary chunk of a glb file."""
    if len(data) < _HEADER.size or _HEADER.unpack_from(data)[:2] != (_MAGIC, 2):
        raise ValueError("it is no binary glTF of version 2")
    chunks: dict[int, bytes] = {}
    offset = _HEADER.size
    while offset + _CHUNK.size <= len(data):
        size, kind = _CHUNK.unpack_from(data, offset)
        offset += _CHUNK.size
        if size > len(data) - offset:
            raise ValueError(f"a chunk states {size} bytes, but {len(data) - offset} follow")
        chunks.setdefault(kind, data[offset : offset + size])
        offset += size
    if _JSON not in chunks or _BIN not in chunks:
        raise ValueError("it lacks the chunk of JSON or of binary data")
    try:
        document = parse_json(chunks[_JSON].decode("utf-8"))
    except ValueError as error:
        raise ValueError(f"its JSON is invalid: {' '.join(str(error).split())[:200]}") from None
    if not isinstance(document, dict):
        raise ValueError("its JSON is no object")
    return document, chunks[_BIN]
