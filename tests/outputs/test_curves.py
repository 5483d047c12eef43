"""Curves that the report reads from the logs of a fit."""

import time

import torch
from torch.utils.tensorboard.writer import SummaryWriter

from lift.outputs.curves import read_curves

TABLE = """loss,psnr,step,val/input_psnr
0.5,10.0,5,
,,5,20.5
0.25,11.0,10,
"""


def test_curves_are_read_from_the_table(tmp_path):
    (tmp_path / "csv").mkdir()
    (tmp_path / "csv" / "metrics.csv").write_text(TABLE)
    source, curves = read_curves(tmp_path)
    assert source == "csv"
    assert curves == {
        "loss": {5: 0.5, 10: 0.25},
        "psnr": {5: 10.0, 10: 11.0},
        "val/input_psnr": {5: 20.5},
    }


def test_a_fit_without_logs_has_no_curves(tmp_path):
    assert read_curves(tmp_path) == ("", {})
    (tmp_path / "tensorboard").mkdir()
    (tmp_path / "csv").mkdir()
    assert read_curves(tmp_path) == ("", {})


def write_events(folder, pictures):
    """Log ten steps, each with a picture of 200 kB if asked to."""
    with SummaryWriter(str(folder / "tensorboard")) as writer:
        for step in range(10):
            writer.add_scalar("loss", step / 8, step)
            if pictures:
                writer.add_image("render", torch.rand(3, 256, 256), step)


def test_pictures_in_event_files_take_no_time(tmp_path):
    write_events(tmp_path, pictures=True)
    (file,) = (tmp_path / "tensorboard").iterdir()
    assert file.stat().st_size > 1e6
    start = time.process_time()
    source, curves = read_curves(tmp_path)
    assert time.process_time() - start < 0.1, "their checksums are not computed"
    assert source == "tensorboard"
    assert curves["loss"] == {step: step / 8 for step in range(10)}


def test_an_event_file_that_ends_early_is_read_up_to_there(tmp_path):
    write_events(tmp_path, pictures=False)
    (file,) = (tmp_path / "tensorboard").iterdir()
    file.write_bytes(file.read_bytes()[:-3])
    assert read_curves(tmp_path)[1] == {"loss": {step: step / 8 for step in range(9)}}
