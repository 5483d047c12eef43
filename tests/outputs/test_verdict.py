"""A verdict grades at its thresholds and gives reasons in words."""

import math
from dataclasses import replace

import pytest

from lift.outputs.verdict import SceneNumbers, Verdict, assess_scene

GOOD = SceneNumbers(
    frames=25,
    registered_frames=25,
    gaussians=40_000,
    max_gaussians=60_000,
    input_psnr=30.0,
    held_out_psnr=26.0,
    frames_psnr=27.0,
    frames_psnr_distorted=28.0,
    true_psnr=25.0,
    min_coverage=0.95,
    parallax=8.0,
    fly_through_scale=1.0,
)


def test_a_good_scene_needs_no_reasons():
    verdict = assess_scene(GOOD)
    assert (verdict.level, verdict.reasons, verdict.lines) == ("good", (), ("Good scene.",))


@pytest.mark.parametrize(
    ("name", "good", "poor"),
    [
        ("input_psnr", 28.0, 24.0),
        ("held_out_psnr", 24.0, 20.0),
        ("true_psnr", 22.0, 17.0),
        ("min_coverage", 0.9, 0.7),
        ("parallax", 1.5, 0.5),
    ],
)
def test_levels_change_at_the_thresholds(name, good, poor):
    def level(value: float) -> str:
        return assess_scene(replace(GOOD, **{name: value})).level

    assert [level(good), level(good - 0.01), level(poor), level(poor - 0.01)] == [
        "good",
        "fair",
        "fair",
        "poor",
    ]
    assert level(math.nan) == "poor"
    (reason,) = assess_scene(replace(GOOD, **{name: math.nan})).reasons
    assert "NaN" in reason or "nan" in reason


@pytest.mark.parametrize(
    ("registered", "level"), [(101, "good"), (91, "good"), (90, "fair"), (61, "fair"), (60, "poor")]
)
def test_frames_without_a_camera_count(registered, level):
    verdict = assess_scene(replace(GOOD, frames=101, registered_frames=registered))
    assert verdict.level == level
    if level != "good":
        assert verdict.reasons[0].startswith(
            f"{101 - registered} of 100 frames were not registered"
        )


def test_a_distortion_that_carries_the_frames_is_named():
    carried = replace(GOOD, frames_psnr=8.9, frames_psnr_distorted=26.0)
    verdict = assess_scene(carried)
    assert verdict.level == "poor"
    assert verdict.reasons == (
        "The learned distortion carries more of the frames than the scene does "
        "(canonical 8.9 dB, with distortion 26.0 dB).",
    )
    assert assess_scene(replace(carried, frames_psnr=20.0)).level == "fair"
    assert assess_scene(replace(carried, frames_psnr=21.5)).level == "good"
    explained = replace(carried, frames_psnr=25.0, frames_psnr_distorted=40.0)
    assert assess_scene(explained).level == "good", "the scene alone explains the frames"


def test_fitted_frames_stand_in_for_held_out_ones():
    verdict = assess_scene(
        replace(GOOD, held_out_psnr=None, frames_psnr=16.7, frames_psnr_distorted=17.0)
    )
    assert verdict.level == "poor"
    assert verdict.reasons[0].startswith(
        "No frames were held out. The fitted frames are met at 16.7 dB only"
    )
    assert assess_scene(replace(GOOD, frames_psnr=16.7, frames_psnr_distorted=17.0)).level == "good"


@pytest.mark.parametrize(("count", "level"), [(6000, "good"), (5999, "fair"), (0, "poor")])
def test_few_gaussians_are_reported(count, level):
    assert assess_scene(replace(GOOD, gaussians=count)).level == level


def test_a_shrunk_fly_through_is_fair_at_best():
    verdict = assess_scene(replace(GOOD, fly_through_scale=0.4))
    assert verdict.level == "fair" and "shrunk to 40 %" in verdict.reasons[0]
    assert assess_scene(replace(GOOD, fly_through_scale=0.5)).level == "good"


def test_what_was_not_measured_is_not_held_against_a_scene():
    alone = SceneNumbers(frames=1, registered_frames=1, gaussians=5000, max_gaussians=5000)
    assert assess_scene(alone).level == "good"


def test_the_worst_reason_comes_first():
    verdict = assess_scene(replace(GOOD, input_psnr=26.0, held_out_psnr=16.7))
    assert verdict.level == "poor" and len(verdict.reasons) == 2
    assert verdict.lines[0].startswith(
        "POOR SCENE: Held-out frames are met at 16.7 dB only (24 dB is good; input: 26.0 dB)"
    )
    assert verdict.lines[1].startswith(
        "  - The canonical scene explains the input view only roughly (26.0 dB"
    )


METRICS = {
    "verdict": "good",
    "reasons": [],
    "evidence": "frames",
    "findings": [],
    "truth": None,
    "held_out_psnr": 40.0,
}


def test_a_high_agreement_is_not_called_a_good_scene_alone():
    (line,) = Verdict.from_metrics(METRICS).lines
    assert line.startswith("Good scene by its own frames: No true photograph was there")


def test_a_good_scene_names_its_true_views():
    truth = METRICS | {"evidence": "truth", "truth": {"views": 1, "psnr": 25.04}}
    assert Verdict.from_metrics(truth).lines == ("Good scene: Compared with 1 true view: 25.0 dB.",)


def test_held_out_pictures_of_a_capture_are_named():
    capture = Verdict.from_metrics(METRICS | {"evidence": "pictures"})
    assert capture.lines == ("Good scene: Compared with pictures that the fit never saw: 40.0 dB.",)


def test_the_evidence_is_told_below_other_reasons():
    fair = METRICS | {"verdict": "fair", "reasons": ["Few Gaussians."]}
    assert Verdict.from_metrics(fair).lines == (
        "Fair scene: Few Gaussians.",
        "  - No true photograph was there to compare with. "
        "The figures show agreement with the scene's own frames.",
    )


def test_a_comparison_that_is_a_reason_is_told_once():
    finding = {"level": "poor", "measure": "true_psnr", "text": "True views are met at 9 dB."}
    poor = METRICS | {
        "verdict": "poor",
        "reasons": [finding["text"]],
        "evidence": "truth",
        "truth": {"views": 1, "psnr": 9.0},
        "findings": [finding],
    }
    assert Verdict.from_metrics(poor).lines == ("POOR SCENE: True views are met at 9 dB.",)


def test_metrics_of_older_runs_have_a_verdict_too():
    old = {"verdict": "fair", "reasons": ["Few Gaussians."]}
    assert Verdict.from_metrics(old).lines == ("Fair scene: Few Gaussians.",)


def test_findings_name_what_they_are_about():
    verdict = assess_scene(replace(GOOD, input_psnr=26.0, parallax=0.1))
    assert [(f.measure, f.level) for f in verdict.findings] == [
        ("parallax", "poor"),
        ("input_psnr", "fair"),
    ]
