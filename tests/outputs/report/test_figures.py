"""Figures of the report are grouped by what they prove, and explained."""

from dataclasses import replace

import pytest

from lift.outputs.quality import summarize
from lift.outputs.report.figures import Figure, FigureGroup, arrange_columns, figure_groups
from tests.helpers.reports import TRUTH, build_result, fly_through, frame_metrics


@pytest.fixture
def metrics(tmp_path) -> dict:
    result = build_result(tmp_path)
    return summarize(result, frame_metrics(), fly_through(result), 60_000, None)


def groups_of(metrics: dict, generated: bool = True) -> dict[str, FigureGroup]:
    return {group.key: group for group in figure_groups(metrics, generated, 12.0)}


def names_of(group: FigureGroup) -> list[str]:
    return [figure.name for figure in group.figures]


def test_frames_of_a_generator_are_only_agreement(metrics):
    groups = groups_of(metrics)
    assert groups["truth"].figures == () and "not measured" in groups["truth"].title
    assert "PSNR of held-out frames" in names_of(groups["agreement"])
    assert "40 dB does not prove" in groups["agreement"].about


def test_held_out_pictures_of_a_capture_are_evidence(metrics):
    groups = groups_of(metrics | {"evidence": "pictures"}, generated=False)
    assert names_of(groups["truth"]) == ["PSNR of held-out frames"]
    assert "PSNR of held-out frames" not in names_of(groups["agreement"])


def test_truth_comes_first_with_its_level(metrics):
    finding = {"level": "poor", "measure": "true_psnr", "text": "wrong geometry"}
    poor = metrics | {"truth": TRUTH, "evidence": "truth", "findings": [finding]}
    first = figure_groups(poor, True, 1.0)[0]
    assert first.title == "Against true views" and first.figures[0].level == "poor"


def test_every_finding_stands_beside_a_figure(metrics):
    measures = (
        "input_psnr",
        "held_out_psnr",
        "registered_frames",
        "parallax",
        "frames_psnr_distorted",
        "min_coverage",
        "gaussians",
        "fly_through_scale",
        "true_psnr",
    )
    findings = [{"level": "fair", "measure": name, "text": name} for name in measures]
    full = metrics | {"truth": TRUTH, "evidence": "truth", "findings": findings}
    groups = figure_groups(full, True, 1.0)
    shown = [f.measure for group in groups for figure in group.figures for f in figure.findings]
    assert sorted(shown) == sorted(measures)


def test_a_meter_is_cut_at_its_ends(metrics):
    groups = groups_of(metrics | {"input_psnr": 99.0})
    meter = groups["agreement"].figures[0].meter
    assert meter is not None and 0 < meter.poor < meter.good < meter.value == 100


def test_a_value_that_was_not_measured_has_no_meter(metrics):
    figure = groups_of(metrics | {"input_psnr": None})["agreement"].figures[0]
    assert (figure.value, figure.meter) == ("not measured", None)


def test_a_shrunk_motion_is_told(metrics):
    (coverage, *_) = groups_of(metrics | {"fly_through_scale": 0.4})["range"].figures
    assert "Its motion was shrunk to 40 %." in coverage.about


def test_what_the_photograph_shows_stands_with_agreement(metrics):
    coverage = metrics["coverage"] | {"input_mean": 0.7, "input_min": 0.4}
    agreement = groups_of(metrics | {"coverage": coverage})["agreement"]
    (figure,) = [figure for figure in agreement.figures if "your photograph" in figure.name]
    assert (figure.value, figure.level) == ("40 %", "fair") and "70 %" in figure.about
    enough = metrics | {"coverage": coverage | {"input_min": 0.5}}
    assert groups_of(enough)["agreement"].figures[-1].level is None
    assert not any("photograph" in name for name in names_of(groups_of(metrics)["agreement"]))


def test_generated_frames_are_no_true_coverage(metrics):
    assert "or a generated one" in groups_of(metrics)["range"].figures[0].about
    recorded = groups_of(metrics, generated=False)["range"]
    assert "generated" not in recorded.about + recorded.figures[0].about


def test_columns_have_similar_heights():
    figure = Figure("1", "a", "b")
    groups = [FigureGroup(str(n), "t", "", (figure,) * n) for n in (2, 3, 3, 2, 0)]
    left, right = arrange_columns(groups)
    assert [group.key for group in left] == ["2", "3"]
    assert [group.key for group in right] == ["3", "2"]


def test_levels_of_several_findings_are_the_worst(metrics):
    finding = {"level": "fair", "measure": "min_coverage", "text": "a"}
    worse = {"level": "poor", "measure": "fly_through_scale", "text": "b"}
    (coverage, *_) = groups_of(metrics | {"findings": [finding, worse]})["range"].figures
    assert coverage.level == "poor"
    assert replace(coverage, findings=()).level is None
