"""The measures of an evaluation."""

import pytest
import torch

from lift.evaluation import metrics
from lift.evaluation.measures import Measures, say_unavailable


def test_missing_weights_raise_only_for_an_explicit_folder(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="LPIPS's weights"):
        Measures.load(str(tmp_path))

    def offline(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr("lift.evaluation.perceptual.ensure_file", offline)
    measures = Measures.load(None)
    assert [line.split(":")[0] for line in measures.missing] == ["LPIPS", "DISTS"]
    a, b = torch.rand(40, 40, 3), torch.rand(40, 40, 3)
    values = measures(a, b, torch.zeros(40, 40, dtype=torch.bool))
    assert (
        values["psnr"] == metrics.psnr(a, b)
        and values["lpips"]
        is values["dists"]
        is values["psnr_visible"]
        is values["ssim_visible"]
        is None
        and values["visible"] == 0
    )


def test_unavailable_measures_are_not_downloaded_again(monkeypatch):
    calls = []

    def offline(source):
        calls.append(source)
        raise OSError("no network")

    monkeypatch.setattr("lift.evaluation.perceptual.ensure_file", offline)
    first = Measures.load(None)
    assert len(calls) == 2 and first.unavailable.keys() == {"LPIPS", "DISTS"}
    again = Measures.load(None, unavailable=first.unavailable)
    assert len(calls) == 2 and again.missing == first.missing


def test_one_reason_is_told_once_for_all_measures():
    assert say_unavailable({"LPIPS": "no network", "DISTS": "no network"}) == (
        "LPIPS and DISTS are not measured: no network"
    )
    assert say_unavailable({"LPIPS": "a", "DISTS": "b"}) == (
        "LPIPS is not measured: a\nDISTS is not measured: b"
    )
