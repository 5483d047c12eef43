"""Round trips of Gaussians: exact in PLY, within stated tolerances in lossy formats.

Each format has the axes that it documents.
"""

import gzip
import math
import struct

import numpy as np
import pytest
import torch
from plyfile import PlyData

from lift.geometry import quat_to_rotation
from lift.io.splats import SPLAT_FORMATS, TOLERANCES, export, read_ply, rotate_half_turn, write_ply
from lift.spherical_harmonics import evaluate
from tests.helpers.splats import random_gaussians


@pytest.mark.parametrize("degree", range(4))
def test_ply_gives_back_what_was_written(tmp_path, degree):
    before = random_gaussians(degree=degree)
    write_ply(tmp_path / "a.ply", before)
    after = read_ply(tmp_path / "a.ply")
    assert after.sh_degree == degree
    assert torch.equal(after.means, before.means) and torch.equal(after.sh_coeffs, before.sh_coeffs)
    for key in ("quats", "scales", "opacities"):
        torch.testing.assert_close(getattr(after, key), getattr(before, key), rtol=1e-5, atol=1e-6)


def test_ply_layout_is_the_one_of_the_viewers(tmp_path):
    """Names, order and meaning of the properties as 3D Gaussian splatting's own files have them."""
    before = random_gaussians(3, degree=1)
    write_ply(tmp_path / "a.ply", before)
    ply = PlyData.read(tmp_path / "a.ply")
    vertices = ply["vertex"].data
    rest = [f"f_rest_{i}" for i in range(9)]
    assert not ply.text and ply.byte_order == "<"
    assert list(vertices.dtype.names) == [
        *"xyz",
        "nx",
        "ny",
        "nz",
        "f_dc_0",
        "f_dc_1",
        "f_dc_2",
        *rest,
        "opacity",
        "scale_0",
        "scale_1",
        "scale_2",
        "rot_0",
        "rot_1",
        "rot_2",
        "rot_3",
    ]
    assert all(vertices.dtype[name] == np.float32 for name in vertices.dtype.names)
    # channel-major: f_rest_0..2 are the three harmonics of red, 3..5 of green
    assert (
        vertices["f_rest_1"][2] == before.sh_coeffs[2, 2, 0]
        and vertices["f_rest_3"][2] == before.sh_coeffs[2, 1, 1]
    )
    assert vertices["opacity"][0] == pytest.approx(
        float(torch.logit(before.opacities[0])), rel=1e-4
    )
    assert vertices["scale_2"][1] == pytest.approx(float(before.scales[1, 2].log()), rel=1e-5)
    assert vertices["rot_0"][0] == pytest.approx(float(before.quats[0, 0]), rel=1e-5)


def test_extreme_opacities_and_scales_stay_finite(tmp_path):
    before = random_gaussians(3)
    before.opacities[:] = torch.tensor([0.0, 1.0, 0.5])
    before.scales[0] = 0
    write_ply(tmp_path / "a.ply", before)
    after = read_ply(tmp_path / "a.ply")
    torch.testing.assert_close(after.opacities, before.opacities, atol=1e-6, rtol=0)
    assert after.scales[0].max() < 1e-20


@pytest.mark.parametrize("format", SPLAT_FORMATS)
@pytest.mark.parametrize("degree", [0, 1, 3])
def test_export_reads_back_within_tolerance(tmp_path, capfd, format, degree):
    deviations = export(random_gaussians(degree=degree), tmp_path / f"a.{format}")
    assert (tmp_path / f"a.{format}").stat().st_size > 0
    assert all(value <= TOLERANCES[format].get(key, math.inf) for key, value in deviations.items())
    assert ("sh_rest" in deviations) == (degree > 0 and format != "splat")
    assert capfd.readouterr().out == ""


def test_lossy_formats_lose_something(tmp_path):
    """The comparison looks at the file, not at what went into it."""
    assert export(random_gaussians(), tmp_path / "a.spz")["scales"] > 1e-3
    assert export(random_gaussians(), tmp_path / "a.splat")["colors"] > 1e-4


def test_spz_file_stores_y_up_z_back(tmp_path):
    """Decode the file by the specification: 24-bit fixed-point positions, 16 bytes of header."""
    before = random_gaussians(7, degree=0)
    export(before, tmp_path / "a.spz")
    raw = gzip.decompress((tmp_path / "a.spz").read_bytes())
    magic, _, number, degree, bits, _, _ = struct.unpack("<4sIIBBBB", raw[:16])
    assert (magic, number, degree) == (b"NGSP", 7, 0)
    parts = np.frombuffer(raw, np.uint8, 9 * number, 16).reshape(number, 3, 3).astype(np.int64)
    fixed = parts @ np.array([1, 1 << 8, 1 << 16])
    stored = np.where(fixed >= 1 << 23, fixed - (1 << 24), fixed) / 2**bits
    np.testing.assert_allclose(stored * [1, -1, -1], before.means.numpy(), atol=3e-4)


def test_splat_file_keeps_our_axes(tmp_path):
    before = random_gaussians(7, degree=0)
    export(before, tmp_path / "a.splat")
    rows = np.frombuffer((tmp_path / "a.splat").read_bytes(), np.uint8).reshape(7, 32)
    np.testing.assert_array_equal(rows[:, :12].copy().view("<f4"), before.means.numpy())


def test_turned_scene_looks_the_same_from_turned_directions():
    before = random_gaussians(50).to(torch.float64)
    after = rotate_half_turn(before)
    half = torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64))
    torch.testing.assert_close(after.means, before.means @ half.T)
    torch.testing.assert_close(
        quat_to_rotation(after.quats), half @ quat_to_rotation(before.quats) @ half.T
    )
    directions = torch.nn.functional.normalize(torch.randn(50, 3, dtype=torch.float64), dim=-1)
    torch.testing.assert_close(
        evaluate(after.sh_coeffs, directions @ half.T), evaluate(before.sh_coeffs, directions)
    )
    assert torch.equal(rotate_half_turn(after).sh_coeffs, before.sh_coeffs)


def test_export_from_a_file_and_by_name(tmp_path):
    write_ply(tmp_path / "a.ply", random_gaussians())
    deviations = export(tmp_path / "a.ply", tmp_path / "b", "ply")
    assert deviations["means"] == 0 and len(read_ply(tmp_path / "b")) == 200


def test_refusals(tmp_path):
    with pytest.raises(ValueError, match="'a.obj' ends with none of .ply, .compressed.ply, .splat"):
        export(random_gaussians(), tmp_path / "a.obj")
    with pytest.raises(ValueError, match="there are no Gaussians"):
        write_ply(tmp_path / "a.ply", random_gaussians()[:0])
    bad = random_gaussians()
    bad.means[3, 1] = float("nan")
    with pytest.raises(ValueError, match="means of 1 of 200 Gaussians are not finite"):
        export(bad, tmp_path / "a.spz")
    far = random_gaussians()
    far.means[0, 0] = 5e6
    with pytest.raises(ValueError, match="spz holds positions of 24 bits, in steps of 1 for this"):
        export(far, tmp_path / "a.spz")
    assert not list(tmp_path.iterdir())


def test_files_that_are_no_gaussians(tmp_path):
    with pytest.raises(FileNotFoundError, match="no file"):
        read_ply(tmp_path / "missing.ply")
    (tmp_path / "junk.ply").write_bytes(b"\x89PNG junk")
    with pytest.raises(ValueError, match="not a readable PLY"):
        read_ply(tmp_path / "junk.ply")
    (tmp_path / "points.ply").write_text(
        "ply\nformat ascii 1.0\nelement vertex 1\n"
        "property float x\nproperty float y\nproperty float z\nend_header\n1 2 3\n"
    )
    with pytest.raises(ValueError, match="holds no Gaussians: it lacks f_dc_0"):
        read_ply(tmp_path / "points.ply")


def test_rotations_that_are_all_zero_are_refused(tmp_path):
    write_ply(tmp_path / "a.ply", random_gaussians(2))
    data = PlyData.read(tmp_path / "a.ply")
    for number in range(4):
        data["vertex"].data[f"rot_{number}"] = 0
    data.write(tmp_path / "b.ply")
    with pytest.raises(ValueError, match=r"b\.ply: rot_0 to rot_3 of all 2 Gaussians are zero"):
        read_ply(tmp_path / "b.ply")
