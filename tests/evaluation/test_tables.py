"""Tables of an evaluation and its contact sheets."""

import math

import pytest
import torch

from lift.evaluation.tables import contact_rows, format_table, mean_of, stage_costs


def result_row(scene: str, seed: int, psnr: list[float], far: list[float]) -> dict:
    views = [
        {
            "view": str(k),
            "distance": away,
            "angle": 0.0,
            "psnr": value,
            "ssim": 0.5,
            "lpips": None,
            "dists": 0.1,
            "visible": 0.5,
            "psnr_visible": value,
            "ssim_visible": 0.5,
            "lpips_visible": None,
            "psnr_input": 9.0,
        }
        for k, (value, away) in enumerate(zip(psnr, far, strict=True))
    ]
    stages = {"fit": {"seconds": 10.0, "peak_gib": 1.0}}
    return {
        "scene": scene,
        "seed": seed,
        "views": views,
        "depth": None,
        "cameras": None,
        "alignment": {"scale": 2.0, "factor": 0.5},
        "stages": stages,
        "missing": ["LPIPS: no network"],
        "notes": {"source": "made up"},
    }


def test_measures_of_runs_have_a_deviation_over_seeds():
    rows = [result_row("a", seed, [20.0], [0.1]) for seed in (0, 1)]
    for row, error in zip(rows, (0.1, 0.3), strict=True):
        row["depth"] = {"abs_rel": error, "delta1": 0.9, "rank_correlation": 0.5}
    mean = mean_of(rows)
    assert mean["abs_rel"] == pytest.approx(0.2)
    assert mean["abs_rel_std"] == pytest.approx(0.2 / math.sqrt(2))
    assert "abs_rel_std" not in mean_of(rows[:1])


def test_table_averages_views_then_scenes_then_seeds():
    rows = [
        result_row("a", 0, [20.0, 10.0], [0.05, 0.3]),
        result_row("b", 0, [30.0], [0.05]),
        result_row("a", 1, [22.0, 12.0], [0.05, 0.3]),
        result_row("b", 1, [32.0], [0.2]),
    ]
    mean = mean_of(rows)
    assert (
        mean["psnr"] == pytest.approx((22.5 + 24.5) / 2)
        and mean["psnr_std"] == pytest.approx(math.sqrt(2))
        and mean["views"] == 6
        and mean["lpips"] is None
    )
    text = format_table(rows, "how", [0.1, 0.25], {"c-0": "no picture"})
    assert "Failed, and in no mean: c-0 (no picture)" in text and "| a | 0 | 2 | 0.5 |" in text
    assert mean_of(rows[:3])["psnr"] == pytest.approx(16) and mean_of(rows[:3])[
        "psnr_std"
    ] == pytest.approx(math.sqrt(2)), "of the scene that both seeds have"
    lines = text.splitlines()
    assert (
        "| a | 0 | 2 | 15.00 | 0.500 | 0.100 | 50 % | 15.00 |" in text
        and "| mean | all | 6 | 23.50 ± 1.41 |" in text
    )
    assert any(line.startswith("| 0 to 0.1 | 3 | 21.00 ± 1.41") for line in lines), (
        "of the scene that both seeds have there"
    )
    assert any(line.startswith("| 0.1 to 0.25 | 1 | 32.00 |") for line in lines) and any(
        line.startswith("| from 0.25 | 2 | 11.00 ± 1.41 |") for line in lines
    )
    assert "LPIPS |" not in text, "of which there are no figures"
    assert (
        "Not measured: LPIPS: no network" in text
        and "- source: made up (a, b)" in text
        and "| fit | 10.0 | 1.00 |" in text
    )


def test_stages_are_summed_by_name():
    stages = [
        {"stage": "clip", "seconds": 1.0, "peak_bytes": 2**30},
        {"stage": "clip", "seconds": 2.5, "peak_bytes": 2**29},
        {"stage": "fit", "seconds": 4, "peak_bytes": 0},
    ]
    assert stage_costs(stages) == {
        "clip": {"seconds": 3.5, "peak_gib": 1.0},
        "fit": {"seconds": 4.0, "peak_gib": 0.0},
    }


def test_a_sheet_shows_input_truth_render_error_and_what_is_seen():
    image, seen = torch.full((40, 80, 3), 0.2), torch.ones(40, 80, dtype=torch.bool)
    seen[:, :40] = False
    made = contact_rows(
        image,
        [(torch.full_like(image, 0.6), torch.full_like(image, 0.5), seen)] * 2,
        ["input", "one", "two"],
    )
    assert made.shape == (3 * 60, 4 * 84, 3)
    step = 1 / 255
    assert (
        made[17, 0, 0] == pytest.approx(0.2, abs=step)
        and made[77, 0, 0] == pytest.approx(0.6, abs=step)
        and made[77, 85, 0] == pytest.approx(0.5, abs=step)
    )
    assert (
        made[77, 169, 0] == pytest.approx(0.2, abs=step)
        and made[77, 253, 0] == pytest.approx(0.51, abs=step)
        and made[77, 253 + 60, 0] == pytest.approx(0.6, abs=step)
    )
    assert all(bool((made[60 * k : 60 * k + 16] < 0.5).any()) for k in range(3)), "titles"
