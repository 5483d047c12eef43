"""Curves that the report reads from the logs of a fit."""

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
