"""Programs that share no code with `lift` read the values that it wrote."""

import json
import logging
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from lift.io.splats import FORMATS, SPLAT_FORMATS, encode, read_ply, rotate_half_turn, write_ply
from lift.io.splats.export import TOLERANCES, compare
from lift.types import Gaussians
from tests.helpers.node import splat_transform
from tests.helpers.splats import random_gaussians

LIMITS = {"quats": 2.0, "opacities": 0.01, "colors": 0.01, "sh_rest": 0.75}
"""Least tolerance of each field: other programs round in another way, and palettes may be short."""


def check(read: Gaussians, written: Gaussians, format: str) -> None:
    for name, value in compare(written, read).items():
        limit = max(TOLERANCES[format].get(name, 0), LIMITS.get(name, 0), 1e-6)
        assert value <= limit, f"{name} of {format} deviates by {value}"


@pytest.mark.slow
@pytest.mark.parametrize("format", [name for name in SPLAT_FORMATS if name != "glb"])
def test_splat_transform_reads_the_values(format, tmp_path):
    before = random_gaussians(500, degree=1)
    (tmp_path / f"a.{format}").write_bytes(encode(before, format))
    splat_transform(tmp_path / f"a.{format}", tmp_path / "b.ply")
    read = read_ply(tmp_path / "b.ply")
    if "spz" in format:  # it takes the axes of the specification for those of PLY
        read = rotate_half_turn(read)
    check(read, FORMATS[format].prepare(before), format)


def glb_attributes(data: bytes) -> dict[str, np.ndarray]:
    """Read the accessors of a glb file that has no gaps in them."""
    size = struct.unpack_from("<I", data, 12)[0]
    document = json.loads(data[20 : 20 + size])
    content = data[28 + size :]
    out = {}
    for name, index in document["meshes"][0]["primitives"][0]["attributes"].items():
        accessor = document["accessors"][index]
        view = document["bufferViews"][accessor["bufferView"]]
        kind = {5126: np.float32, 5121: np.uint8}[accessor["componentType"]]
        out[name] = np.frombuffer(
            content[view["byteOffset"] :][: view["byteLength"]], kind
        ).reshape(accessor["count"], -1)
    return out


@pytest.mark.slow
def test_splat_transform_writes_the_same_glb(tmp_path):
    """Attributes, their names and activations are equal; its world is turned by 180 degrees."""
    before = random_gaussians(100, degree=0)
    write_ply(tmp_path / "a.ply", before)
    splat_transform(tmp_path / "a.ply", tmp_path / "b.glb")
    theirs = glb_attributes((tmp_path / "b.glb").read_bytes())
    ours = glb_attributes(encode(before, "glb"))
    assert list(ours) == list(theirs)
    prefix = "KHR_gaussian_splatting:"
    for name in ("SCALE", "OPACITY", "SH_DEGREE_0_COEF_0"):
        np.testing.assert_allclose(ours[prefix + name], theirs[prefix + name], rtol=1e-4, atol=1e-6)
    assert np.abs(ours["COLOR_0"].astype(int) - theirs["COLOR_0"]).max() <= 1
    np.testing.assert_allclose(ours["POSITION"] * [-1, 1, -1], theirs["POSITION"], atol=1e-6)
    # A turn of the world about y, and one of each ellipsoid about its own x, which changes nothing.
    x, y, z, w = ours[prefix + "ROTATION"].T
    turned = np.column_stack([y, x, w, z])
    dots = np.abs((turned * theirs[prefix + "ROTATION"]).sum(axis=1))
    np.testing.assert_allclose(dots, 1, atol=1e-5)


def test_trimesh_reads_the_points_of_a_glb(tmp_path):
    trimesh = pytest.importorskip("trimesh", reason="trimesh is not installed")
    before = random_gaussians(20, degree=0)
    (tmp_path / "a.glb").write_bytes(encode(before, "glb"))
    scene = trimesh.load(tmp_path / "a.glb")
    (points,) = scene.geometry.values()
    np.testing.assert_allclose(points.vertices * [1, -1, -1], before.means.numpy(), atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("format", ["ply", "compressed.ply", "spz", "v4.spz"])
def test_gsply_reads_the_values(format, tmp_path):
    gsply = pytest.importorskip("gsply", reason="gsply is not installed")
    before = random_gaussians(500, degree=1)
    path = tmp_path / f"a.{format}"
    path.write_bytes(encode(before, format))
    data = gsply.read_spz(path) if "spz" in format else gsply.plyread(path)
    read = to_gaussians(data.denormalize())
    if "spz" in format:
        read = rotate_half_turn(read)
    check(read, FORMATS[format].prepare(before), format)


def to_gaussians(data) -> Gaussians:
    def tensor(values) -> torch.Tensor:
        return torch.from_numpy(np.array(values, np.float32))

    dc = tensor(data.sh0).reshape(-1, 1, 3)
    rest = tensor(data.shN).reshape(len(dc), -1, 3)
    quats = torch.nn.functional.normalize(tensor(data.quats), dim=1)
    return Gaussians(
        tensor(data.means),
        quats,
        tensor(data.scales),
        tensor(data.opacities).flatten(),
        torch.cat([dc, rest], dim=1),
    )


@pytest.mark.parametrize("comment", ["SplatRenderMode: mip", "antialiased 1"])
def test_a_scene_of_mip_splatting_is_warned_of(comment, tmp_path, caplog):
    write_ply(tmp_path / "a.ply", random_gaussians(5))
    data = (tmp_path / "a.ply").read_bytes()
    assert data.count(b"comment SplatRenderMode: default\n") == 1
    (tmp_path / "b.ply").write_bytes(data.replace(b"SplatRenderMode: default", comment.encode(), 1))
    with caplog.at_level(logging.WARNING):
        read_ply(tmp_path / "a.ply")
        assert not caplog.text
        read_ply(tmp_path / "b.ply")
    assert "trained for the mode 'mip'" in caplog.text


def test_the_flag_of_antialiasing_is_off_everywhere(tmp_path: Path):
    before = random_gaussians(5)
    assert encode(before, "v4.spz")[14] == 0
    assert b'"antialias":false' in encode(before, "sog")
    assert b"comment SplatRenderMode: default" in encode(before, "compressed.ply")
