"""Maps of camera paths keep both axes to one scale, and their names readable."""

import re

import pytest
import torch

from lift.outputs.camera_map import map_view


def points_of(view: str) -> list[tuple[float, ...]]:
    path = re.search(r'<path d="M([^"]*)"', view)
    assert path
    return [tuple(map(float, point.split(","))) for point in path[1].split("L")]


def test_both_axes_have_one_scale():
    square = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]])
    a, b, c = points_of(map_view("t", [square], ["a"], square[0], 1.0, "units"))
    assert b[0] - a[0] == pytest.approx(c[1] - b[1], abs=0.15)


def test_names_are_text():
    path = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    assert "<i>" not in map_view("t", [path], ["<i>"], path[0], 1.0, "units")


def test_a_map_without_motion_has_finite_numbers():
    view = map_view("t", [], [], torch.zeros(2), 1.0, "units")
    assert "nan" not in view and "inf" not in view


def test_a_flat_path_has_a_low_map():
    flat = torch.tensor([[0.0, 0.0], [1.0, 0.01]])
    steep = torch.tensor([[0.0, 0.0], [0.01, 1.0]])
    heights = []
    for path in (flat, steep):
        view = map_view("t", [path], ["a"], path[0], 1.0, "u")
        size = re.search(r'viewBox="0 0 \d+ (\d+)"', view)
        assert size
        heights.append(int(size[1]))
    assert heights[0] < heights[1] == 300


def test_names_do_not_overlap():
    ends = [torch.tensor([[0.0, 0.0], [1.0, 0.001 * n]]) for n in range(5)]
    names = [f"clip {n}" for n in range(5)]
    view = map_view("t", ends, names, torch.zeros(2), 1.0, "units")
    assert len(re.findall(r">clip \d</text>", view)) == 1


def test_a_long_name_is_cut():
    path = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    view = map_view("t", [path], ["right/" * 20], path[0], 1.0, "units")
    assert "…</text>" in view
