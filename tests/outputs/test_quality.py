"""Metrics of a run."""

import json
from dataclasses import replace

import pytest
import torch

from lift.io.capture import Capture
from lift.outputs.quality import summarize
from tests.helpers.reports import TRUTH, build_result, fly_through, frame_metrics


def test_metrics_begin_with_the_verdict(tmp_path):
    result = build_result(tmp_path)
    lost = [*frame_metrics()[:-1], replace(frame_metrics()[-1], registered=False, psnr=3.0)]
    metrics = summarize(result, lost, fly_through(result), max_gaussians=60_000)
    first = [
        "verdict",
        "reasons",
        "evidence",
        "findings",
        "input_psnr",
        "held_out_psnr",
        "held_out_psnr_distorted",
        "coverage",
    ]
    assert list(metrics)[:8] == first and metrics["verdict"] == "poor"
    assert (
        metrics["registered_frames"] == 6
        and metrics["frames"] == 7
        and metrics["held_out_psnr"] == 25.0
    )
    assert metrics["frames_psnr"] == pytest.approx((21 + 22 + 23 + 24) / 4), (
        "frames without a camera tell nothing"
    )
    assert metrics["coverage"] == {"mean": pytest.approx(0.975), "min": pytest.approx(0.95)}


def test_coverage_by_the_input_is_kept_apart(tmp_path):
    result = build_result(tmp_path)
    metrics = summarize(
        result, frame_metrics(), fly_through(result), 60_000, None, torch.tensor([1.0, 0.5])
    )
    assert metrics["coverage"]["input_min"] == 0.5 and metrics["coverage"]["input_mean"] == 0.75
    assert not any(finding["measure"] == "input_coverage" for finding in metrics["findings"])


def test_nan_is_poor_and_valid_json(tmp_path):
    result = build_result(tmp_path)
    failed = [replace(frame_metrics()[0], psnr=float("nan")), *frame_metrics()[1:]]
    metrics = summarize(result, failed, fly_through(result), max_gaussians=60_000)
    assert metrics["input_psnr"] is None and metrics["reasons"][0].startswith(
        "The canonical scene does not explain the input view (NaN"
    )
    json.dumps(metrics, allow_nan=False)


def test_the_evidence_of_generated_frames_is_frames_or_truth(tmp_path):
    result = build_result(tmp_path)
    measured = (result, frame_metrics(), fly_through(result), 60_000)
    assert summarize(*measured)["evidence"] == "frames"
    assert summarize(*measured, TRUTH)["evidence"] == "truth"


def test_the_evidence_of_a_capture_is_its_held_out_pictures(tmp_path):
    result = build_result(tmp_path)
    capture = Capture(
        picture=result.picture,
        frames=result.frames,
        trajectory=result.trajectory,
        names=tuple(f"{view}.png" for view in range(7)),
        source_index=tuple(range(7)),
        ordered=True,
        kind="video",
        digest="0" * 64,
    )
    recorded = replace(result, capture=capture)
    fitted = [replace(frame, held_out=False) for frame in frame_metrics()]
    shown = fly_through(result)
    assert summarize(recorded, frame_metrics(), shown, 60_000)["evidence"] == "pictures"
    assert summarize(recorded, fitted, shown, 60_000)["evidence"] == "frames"


def test_each_reason_has_its_finding(tmp_path):
    result = build_result(tmp_path)
    metrics = summarize(result, frame_metrics(), fly_through(result), max_gaussians=60_000)
    assert [finding["text"] for finding in metrics["findings"]] == metrics["reasons"] != []
