"""Charts place values where their axes say, and their axes fit."""

import re

import pytest

from lift.outputs.charts import (
    NARROW,
    Band,
    Series,
    axis_ticks,
    downsample,
    format_number,
    line_chart,
)


def points_of(chart: str) -> list[tuple[float, ...]]:
    path = re.search(r'class="line s0" d="M([^"]*)"', chart)
    assert path
    return [tuple(map(float, point.split(","))) for point in path[1].split("L")]


def labels_of(chart: str, anchor: str) -> list[tuple[float, float, str]]:
    """Positions and texts of labels."""
    pattern = rf'class="tick" x="([\d.]+)" y="([\d.]+)" text-anchor="{anchor}">([^<]+)<'
    return [(float(x), float(y), text) for x, y, text in re.findall(pattern, chart)]


def test_charts_place_values_where_the_axes_say():
    chart = line_chart("t", [Series("a", [0, 10], [0.0, 100.0])], width=500, from_zero=True)
    y_ticks = {text: y - 3.5 for _, y, text in labels_of(chart, "end")}
    x_ticks = {text: x for x, _, text in labels_of(chart, "middle")}
    (x0, y0), (x1, y1) = points_of(chart)
    assert (y0, y1) == (pytest.approx(y_ticks["0"]), pytest.approx(y_ticks["100"]))
    assert (x0, x1) == (pytest.approx(x_ticks["0"]), pytest.approx(x_ticks["10"]))
    assert y0 > y1, "up is more"


def test_values_that_are_not_finite_leave_a_gap():
    nan = float("nan")
    chart = line_chart("t", [Series("a", [0, 1, 2, 3], [1.0, 2.0, nan, 3.0])])
    path = re.search(r'class="line s0" d="([^"]*)"', chart)
    assert path and path[1].count("M") == 2


def test_names_of_bands_are_text():
    chart = line_chart("t", [Series("a", [0, 3], [1.0, 2.0])], bands=[Band(0, 3, "<b>")])
    assert "<b>" not in chart and "&lt;b&gt;" in chart


def test_a_band_is_named_where_the_name_fits():
    bands = [Band(0, 9, "wide"), Band(9, 10, "narrow band")]
    chart = line_chart("t", [Series("a", [0, 10], [1.0, 2.0])], width=500, bands=bands)
    assert re.findall(r">([^<]+)</text></g>", chart) == ["wide"]


def test_logarithmic_axes_have_equal_decades():
    chart = line_chart("t", [Series("a", [0, 1, 2], [1.0, 10.0, 100.0])], log=True)
    (_, y0), (_, y1), (_, y2) = points_of(chart)
    assert y0 - y1 == pytest.approx(y1 - y2, abs=0.2)


def test_a_logarithmic_axis_within_a_decade_is_linear():
    chart = line_chart("t", [Series("a", [0, 1, 2], [0.11, 0.12, 0.13])], log=True)
    assert len(labels_of(chart, "end")) >= 3


def test_without_a_value_nothing_is_drawn():
    assert line_chart("t", [Series("a", [0], [0.0])], log=True) == ""
    assert line_chart("t", [Series("a", [0], [float("nan")])]) == ""


@pytest.mark.parametrize("value", [0.00012, 3.3, 12345.0, 1.5e6])
def test_labels_of_the_y_axis_fit_beside_the_plot(value):
    chart = line_chart("t", [Series("a", [0, 1], [value, 2 * value])])
    for x, _, text in labels_of(chart, "end"):
        assert x - 6 * len(text) >= 0


@pytest.mark.parametrize("last", [1, 7, 128, 3000, 14_000])
def test_labels_of_the_x_axis_do_not_overlap(last):
    chart = line_chart("t", [Series("a", [0, last], [1.0, 2.0])], width=NARROW)
    labels = [(x, text) for x, _, text in labels_of(chart, "middle")]
    assert len(labels) >= 2
    for (x0, text0), (x1, text1) in zip(labels, labels[1:], strict=False):
        assert x1 - x0 > 3.5 * (len(text0) + len(text1))


def test_frames_and_steps_are_whole_numbers():
    assert axis_ticks(0, 3, 8, whole=True) == [0, 1, 2, 3]


def test_a_wide_chart_is_drawn_for_phones_too():
    series = [Series("a", [0, 1], [1.0, 2.0])]
    wide = line_chart("t", series, width=1080)
    assert f'viewBox="0 0 {NARROW} ' in wide and 'viewBox="0 0 1080 ' in wide
    assert line_chart("t", series, width=350).count("<svg") == 1


def test_numbers_are_short():
    assert [format_number(v) for v in (0, 0.12345, 999, 1234, 40_000, 1_500_000)] == [
        "0",
        "0.123",
        "999",
        "1234",
        "40k",
        "1.5M",
    ]


def test_long_curves_are_thinned():
    x, y = downsample(range(1000), [1.0] * 1000)
    assert len(x) <= 240 and set(y) == {1.0}
