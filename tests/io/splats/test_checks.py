"""Gaussians that are not finite are left out, and scenes that a format cannot hold are refused."""

import logging
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import normalize

from lift.io.splats import SPLAT_FORMATS, decode, encode, export, read_ply, write_ply
from lift.io.splats.checks import scene_extent
from lift.types import Gaussians


def some(count: int = 50) -> Gaussians:
    g = torch.Generator().manual_seed(0)
    return Gaussians(
        torch.randn(count, 3, generator=g) + torch.tensor([0.0, 0, 4]),
        normalize(torch.randn(count, 4, generator=g), dim=-1),
        torch.full((count, 3), 0.1),
        torch.full((count,), 0.5),
        torch.randn(count, 4, 3, generator=g) / 4,
    )


def damaged(path, value: float, rows: list[int]) -> None:
    """Write Gaussians as PLY, some of them with a bad z."""
    write_ply(path, some())
    data = bytearray(path.read_bytes())
    start = data.index(b"end_header\n") + 11
    size = (len(data) - start) // 50
    for row in rows:
        place = start + row * size + 8
        data[place : place + 4] = torch.tensor([value]).numpy().tobytes()
    path.write_bytes(data)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_gaussian_that_is_not_finite_is_left_out(tmp_path, caplog, value):
    damaged(tmp_path / "a.ply", value, [7])
    with caplog.at_level(logging.WARNING):
        read = read_ply(tmp_path / "a.ply")
    keep = [row for row in range(50) if row != 7]
    torch.testing.assert_close(read.means, some().means[keep])
    assert "1 of 50 Gaussians are left out" in caplog.text and "a.ply" in caplog.text
    export(tmp_path / "a.ply", tmp_path / "b.spz")
    assert len(decode((tmp_path / "b.spz").read_bytes(), "spz")) == 49


def test_a_gaussian_without_a_rotation_is_left_out(tmp_path):
    gaussians = some()
    write_ply(tmp_path / "a.ply", gaussians)
    data = bytearray((tmp_path / "a.ply").read_bytes())
    data[-16:] = bytes(16)  # the quaternion is last
    (tmp_path / "a.ply").write_bytes(data)
    torch.testing.assert_close(read_ply(tmp_path / "a.ply").means, gaussians.means[:-1])


def test_a_file_without_finite_gaussians_is_refused(tmp_path):
    damaged(tmp_path / "a.ply", float("nan"), list(range(50)))
    with pytest.raises(ValueError, match="a.ply: means of 50 of 50 Gaussians are not finite"):
        read_ply(tmp_path / "a.ply")


@pytest.mark.parametrize("scale", [1e-3, 1e-6])
def test_spz_refuses_scenes_smaller_than_its_scales(tmp_path, scale):
    small = replace(some(), means=some().means * scale, scales=some().scales * scale)
    with pytest.raises(ValueError, match="spz holds .* choose another format, or scale the scene"):
        export(small, tmp_path / "a.spz")
    assert not list(tmp_path.iterdir())


def test_spz_refuses_gaussians_larger_than_its_scales(tmp_path):
    large = replace(some(), means=some().means * 1e4, scales=some().scales * 1e4)
    with pytest.raises(ValueError, match=r"spz holds scales of at most 379, and one is 1e\+03"):
        export(large, tmp_path / "a.spz")


@pytest.mark.parametrize("scale", [0.01, 0.1, 1, 50, 1000])
def test_positions_in_spz_are_exact_relative_to_the_scene(scale):
    scene = replace(some(), means=some().means * scale, scales=some().scales * scale)
    error = (decode(encode(scene, "spz"), "spz").means - scene.means).abs().max()
    assert float(error) < 2e-4 * scene_extent(scene)


def test_a_single_gaussian_has_no_extent_and_is_exported(tmp_path):
    for name in SPLAT_FORMATS:
        export(some(1), tmp_path / f"a.{name}")
    assert scene_extent(some(1)) == 0
