"""Metrics of a run."""

import json
from dataclasses import replace

import pytest

from lift.outputs.quality import summarize
from tests.helpers.reports import build_result, fly_through, frame_metrics


def test_metrics_begin_with_the_verdict(tmp_path):
    result = build_result(tmp_path)
    lost = [*frame_metrics()[:-1], replace(frame_metrics()[-1], registered=False, psnr=3.0)]
    metrics = summarize(result, lost, fly_through(result), max_gaussians=60_000)
    first = [
        "verdict",
        "reasons",
        "input_psnr",
        "held_out_psnr",
        "held_out_psnr_distorted",
        "coverage",
    ]
    assert list(metrics)[:6] == first and metrics["verdict"] == "poor"
    assert (
        metrics["registered_frames"] == 6
        and metrics["frames"] == 7
        and metrics["held_out_psnr"] == 25.0
    )
    assert metrics["frames_psnr"] == pytest.approx((21 + 22 + 23 + 24) / 4), (
        "frames without a camera tell nothing"
    )
    assert metrics["coverage"] == {"mean": pytest.approx(0.975), "min": pytest.approx(0.95)}


def test_nan_is_poor_and_valid_json(tmp_path):
    result = build_result(tmp_path)
    failed = [replace(frame_metrics()[0], psnr=float("nan")), *frame_metrics()[1:]]
    metrics = summarize(result, failed, fly_through(result), max_gaussians=60_000)
    assert metrics["input_psnr"] is None and metrics["reasons"][0].startswith(
        "The canonical scene does not explain the input view (NaN"
    )
    json.dumps(metrics, allow_nan=False)
