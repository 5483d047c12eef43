"""The built-in network: its weights, its range and its order of depths."""

import hashlib

import pytest
import torch
from safetensors.torch import load_file, save_file

from lift.depths.lite import CHECKSUM, WEIGHTS, LiteNetwork
from tests.helpers.depth_pictures import build_depth, coffee, gradient, motorcycle, rank_correlation


def test_lite_has_the_weights_that_its_card_speaks_of():
    held = WEIGHTS.read_bytes()
    assert hashlib.sha256(held).hexdigest() == CHECKSUM and len(held) <= 4_000_000
    assert CHECKSUM in WEIGHTS.with_suffix(".md").read_text()


@pytest.mark.parametrize("height, width", [(192, 256), (256, 96), (8, 8), (33, 401)])
def test_lite_takes_any_picture_and_keeps_its_range(height, width):
    image = gradient(height, width)
    first, second = build_depth("lite", far=7.0)(image), build_depth("lite", far=7.0)(image)
    assert (
        first.depth.shape == (height, width)
        and first.valid.all()
        and first.kind == "affine-invariant"
    )
    assert first.depth.min() == pytest.approx(1, rel=1e-3) and first.depth.max() == pytest.approx(
        7, rel=1e-3
    )
    assert torch.equal(first.depth, second.depth)


def test_lite_is_equivariant_to_mirroring():
    image, estimate = coffee(), build_depth("lite")
    torch.testing.assert_close(
        estimate(image.flip(1)).depth.flip(1), estimate(image).depth, rtol=1e-3, atol=1e-3
    )


def test_lite_is_right_about_a_photograph_where_the_ramp_is_not():
    image, truth = motorcycle()
    found = {
        name: rank_correlation(build_depth(name)(image).depth, truth.depth, truth.valid)
        for name in ("lite", "ramp")
    }
    assert found["lite"] > max(0.7, found["ramp"]), found
    inverse = 1 / build_depth("lite")(coffee()).depth
    height, width = inverse.shape
    cup, table = (
        inverse[height // 4 : height // 2, width // 3 : width // 2].mean(),
        inverse[: height // 2, : width // 8].mean(),
    )
    assert cup > 1.5 * table, "the cup stands before the table behind it"


def test_lite_does_not_take_another_networks_weights(tmp_path):
    save_file({"enter.weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="enter.weight"):
        LiteNetwork.load(tmp_path / "other.safetensors")
    save_file({"else": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="else is unknown"):
        LiteNetwork.load(tmp_path / "other.safetensors")
    weights = {name: value for name, value in load_file(WEIGHTS).items() if name != "leave.bias"}
    save_file(weights, tmp_path / "part.safetensors")
    with pytest.raises(ValueError, match="leave.bias is missing"):
        LiteNetwork.load(tmp_path / "part.safetensors")


@pytest.mark.parametrize("setting", [{"size": 16}, {"far": 1.0}, {"far": float("inf")}])
def test_lite_names_a_setting_out_of_range(setting):
    with pytest.raises(ValueError, match=f"depth.{next(iter(setting))} is"):
        build_depth("lite", **setting)
