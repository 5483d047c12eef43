"""Charts of the report."""

import re

import pytest
import torch
from torch.utils.tensorboard import SummaryWriter

from lift.outputs.charts import Band, Series, downsample, format_number, line_chart, map_view
from lift.outputs.curves import read_curves
from lift.outputs.report import training_curves


def test_a_step_logged_twice_is_drawn_once(tmp_path):
    for value in (1.0, 2.0):
        folder = str(tmp_path / "tensorboard")
        with SummaryWriter(folder, filename_suffix=str(value)) as writer:
            writer.add_scalar("psnr", value, 1)
    source, curves = read_curves(tmp_path)
    assert source == "tensorboard" and curves["psnr"] == {1: 2.0}
    (chart,) = training_curves(curves)
    assert (
        len(re.findall(r"L", re.search(r'class="line s0" d="([^"]*)"', chart)[1])) == 1
    )  # a lone point: a line to itself


def test_charts_place_values_where_the_axes_say():
    chart = line_chart(
        "t", [Series("a", [0, 10], [0.0, 100.0])], width=520, height=190, from_zero=True
    )
    ticks = {
        label: float(y) - 3.5
        for y, label in re.findall(r'y="([\d.]+)" text-anchor="end">([^<]+)<', chart)
    }
    (x0, y0), (x1, y1) = [
        tuple(map(float, p.split(","))) for p in re.search(r'd="M([^"]*)"', chart)[1].split("L")
    ]
    assert (y0, y1) == (pytest.approx(ticks["0"]), pytest.approx(ticks["100"])) and (x0, x1) == (
        46,
        508,
    )
    assert y0 > y1, "up is more"
    gaps = line_chart(
        "t", [Series("a", [0, 1, 2, 3], [1.0, 2.0, float("nan"), 3.0])], bands=[Band(0, 3, "<b>")]
    )
    assert re.search(r'd="([^"]*)"', gaps)[1].count("M") == 2 and "<b>" not in gaps
    assert line_chart("t", [Series("a", [0], [0.0])], log=True) == "", (
        "nothing positive, nothing to draw"
    )
    log = line_chart("t", [Series("a", [0, 1, 2], [1.0, 10.0, 100.0])], log=True)
    ys = [float(p.split(",")[1]) for p in re.search(r'd="M([^"]*)"', log)[1].split("L")]
    assert ys[0] - ys[1] == pytest.approx(ys[1] - ys[2], abs=0.2)


def test_maps_keep_both_axes_to_one_scale():
    square = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]])
    view = map_view("t", [square], ["<i>"], square[0], 1.0, "units")
    a, b, c = [
        tuple(map(float, p.split(","))) for p in re.search(r'd="M([^"]*)"', view)[1].split("L")
    ]
    assert b[0] - a[0] == pytest.approx(c[1] - b[1], abs=0.15) and "<i>" not in view
    still = map_view("t", [], [], torch.zeros(2), 1.0, "units")
    assert "nan" not in still and "inf" not in still


def test_numbers_are_short_and_long_curves_thin():
    assert [format_number(v) for v in (0, 0.12345, 999, 1234, 40_000, 1_500_000)] == [
        "0",
        "0.123",
        "999",
        "1234",
        "40k",
        "1.5M",
    ]
    x, y = downsample(range(1000), [1.0] * 1000)
    assert len(x) <= 240 and set(y) == {1.0}
