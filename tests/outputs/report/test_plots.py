"""Charts of the report show what was measured, and leave out what was not."""

from dataclasses import replace

import torch
from torch.utils.tensorboard import SummaryWriter

from lift.outputs.curves import read_curves
from lift.outputs.report.plots import camera_maps, distortion_charts, psnr_chart, training_curves
from tests.helpers.reports import build_result, frame_metrics


def test_a_step_logged_twice_counts_once(tmp_path):
    for value in (1.0, 2.0):
        folder = str(tmp_path / "tensorboard")
        with SummaryWriter(folder, filename_suffix=str(value)) as writer:
            writer.add_scalar("psnr", value, 1)
    source, curves = read_curves(tmp_path)
    assert source == "tensorboard" and curves["psnr"] == {1: 2.0}


def test_one_value_is_no_line():
    curves = {"loss": {1: 0.5}, "psnr": {1: 20.0}, "val/input_psnr": {1: 20.0, 9: 21.0}}
    (chart,) = training_curves(curves)["charts"]
    assert "PSNR" in chart and "training frames" not in chart
    assert training_curves({"gaussians": {1: 40.0}}) == {"charts": [], "gaussians": 40}


def test_a_changing_number_of_gaussians_is_drawn():
    made = training_curves({"gaussians": {1: 10.0, 2: 20.0}})
    assert made["gaussians"] is None and len(made["charts"]) == 1


def test_an_effect_that_was_not_learned_is_not_drawn(tmp_path):
    made = distortion_charts(frame_metrics(), build_result(tmp_path).trajectory)
    text = "".join(made["charts"])
    assert "camera turned" in text and "picture changed" not in text
    assert made["unused"] == ["Gaussian motion", "image change"]


def test_without_distortion_there_is_one_curve_of_psnr(tmp_path):
    trajectory = build_result(tmp_path).trajectory
    assert "distortion applied" in psnr_chart(frame_metrics(), trajectory)
    assert "distortion applied" not in psnr_chart(frame_metrics(0.0), trajectory)


def test_cameras_that_did_not_move_are_not_drawn(tmp_path):
    result = build_result(tmp_path)
    still = replace(
        result,
        trajectory=replace(result.trajectory, hint="sequence"),
        reconstruction=replace(
            result.reconstruction,
            cameras=result.reconstruction.cameras[torch.zeros(7, dtype=torch.long)],
        ),
    )
    assert len(camera_maps(result)["charts"]) == 2
    assert camera_maps(still)["charts"] == []
