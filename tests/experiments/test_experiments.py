"""Experiments on synthetic cases. The photographs of the real experiments are not here."""

import itertools
import json
import re
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_module

from lift.config import store_schemas, validate_config, validate_eval_config
from lift.evaluation.lpips import LPIPS
from lift.evaluation.tables import MEASURES, mean_of

sys.path.insert(0, str(Path(__file__).parents[2] / "experiments"))
import ablation  # noqa: E402
import fill  # noqa: E402


class PixelDistance(LPIPS):
    """Replaces LPIPS, whose weights do not come with the package."""

    def __init__(self) -> None:
        torch.nn.Module.__init__(self)

    def distances(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (a - b).abs().flatten(1).mean(1)

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> float:
        return float((a - b).abs().mean())


def card(shift: float) -> tuple[np.ndarray, np.ndarray]:
    """A red card at depth 2 in front of a wall at depth 4, from a camera `shift` to the right.

    The wall gets greener to the right. The focal length is 100 pixels.
    """
    x = np.broadcast_to((np.arange(120) + 0.5 - 60) / 100, (80, 120))
    y = np.broadcast_to(((np.arange(80) + 0.5 - 40) / 100)[:, None], (80, 120))
    near = (np.abs(2 * x + shift) < 0.4) & (np.abs(2 * y) < 0.4)
    wall = np.stack([np.zeros_like(x), 120 + 40 * (4 * x + shift), np.full_like(x, 90)], -1)
    return np.where(near[..., None], np.array([220, 20, 20]), wall).clip(0, 255).astype(
        np.uint8
    ), np.where(near, 2.0, 4.0).astype(np.float32)


def test_fill_targets_are_visible_only_in_the_other_photograph(monkeypatch):
    first, depth = card(0.0)
    second, second_depth = card(0.2)
    intrinsics = np.array([[100.0, 0, 60], [0, 100, 40], [0, 0, 1]])
    target = np.eye(4)
    target[0, 3] = -0.2
    case = fill.warp(first, depth, np.eye(4), target, [intrinsics, intrinsics], second)
    wall = (second_depth == 4) & (np.arange(120) > 60)
    assert 100 < case.hole.sum() < 300 and (case.hole & ~wall).sum() < 20, (
        "the hole is right of the card, not at the border"
    )
    np.testing.assert_allclose(case.inverse[case.hole], 0.25, rtol=0.02)
    assert fill.warp(first, depth, np.eye(4), np.eye(4), [intrinsics, intrinsics], first) is None
    monkeypatch.setattr(fill, "cases", lambda name: iter([case, case]))
    fillings = {name: fill.warp_filling(name) for name in ("smooth", "network", "patches")} | {
        "a": fill.opencv_filling(0),
        "white": lambda case: 255 + 0 * case.photo,
    }
    rows = {row["fill"]: row for row in fill.evaluate("card", fillings, PixelDistance(), None)}
    assert all(
        rows[name]["psnr"] > 25 and rows[name]["cases"] == 2
        for name in ("smooth", "network", "patches")
    ), rows
    assert rows["white"]["psnr"] < 10 and rows["white"]["lpips"] > 100 * rows["smooth"]["lpips"]
    assert len(fill.table(list(rows.values())).splitlines()) == 2 + len(fillings)


ABLATIONS = ("method", "trajectory", "prior", "single", "losses")


def arguments_of(name: str, monkeypatch) -> tuple:
    """The arguments with which an experiment calls `ablation.main`."""
    calls = []
    monkeypatch.setattr(
        ablation, "main", lambda *given, baselines=None: calls.append((*given, baselines or {}))
    )
    runpy.run_path(str(Path(ablation.__file__).parent / f"{name}.py"), run_name="__main__")
    return calls[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", ABLATIONS)
def test_every_setting_of_an_ablation_composes(name, monkeypatch):
    _, settings, data, not_measured, baselines = arguments_of(name, monkeypatch)
    assert {*baselines, *baselines.values()} <= settings.keys()
    assert "python experiments/" in not_measured, (
        "it has the command that measures the missing rows"
    )
    store_schemas()
    commands = re.findall(
        r"`python experiments/\w+\.py(?: --only \"[^\"]*\")? ([^`]*)`", not_measured
    )
    additions = [[], *(line.split() for line in commands)]
    for data_name, data_settings in data.items():
        eval_settings = [word for word in data_settings if re.match(r"dataset|protocol", word)]
        with initialize_config_module("lift.configs", version_base="1.3"):
            validate_eval_config(compose("eval", eval_settings))
            for setting in settings.get(data_name, settings).values():
                for addition in additions:
                    # Settings of a prior do not apply to another prior.
                    kept = [
                        word for word in setting if not (addition and word.startswith("prior."))
                    ]
                    run_settings = [word for word in data_settings if word not in eval_settings]
                    config = [*run_settings, *kept, *addition, "image=none"]
                    validate_config(compose("lift", config))


def fake_eval(scores: dict[str, float]) -> Callable[[list[str]], int]:
    """Replace `lift eval`: two scenes per seed, whose PSNR depends on the setting."""

    def main(command: list[str]) -> int:
        if any("fail" in argument for argument in command):
            return 2
        groups = itertools.groupby(command, lambda word: word == "--")
        shared, *parts = [list(group) for is_separator, group in groups if not is_separator]
        for words in ([*shared, *part] for part in parts):
            output, name = (
                next(argument.split("=", 1)[1] for argument in words if argument.startswith(key))
                for key in ("output=", "name=")
            )
            score = next(value for key, value in scores.items() if key in words)
            rows = []
            for scene, seed in itertools.product("ab", (0, 1)):
                views = [
                    dict.fromkeys(MEASURES, None)
                    | {
                        "psnr": score + seed + (scene == "b") * 10 - 4 * distance,
                        "visible": 0.5,
                        "distance": distance,
                    }
                    for distance in (0.05, 0.5)
                ]
                rows.append(
                    {
                        "scene": scene,
                        "seed": seed,
                        "views": views,
                        "depth": None,
                        "alignment": {"scale": 1.0},
                        "cameras": {"rotation": 0.25, "position": 0.01},
                        "stages": {"fit": {"seconds": 3.0, "peak_gib": 1.0}},
                    }
                )
            table = {
                "mean": mean_of(rows),
                "rows": rows,
                "protocol": {"bins": [0.1], "seeds": [0, 1], "input": "first", "align": "none"},
                "dataset": {"name": "made_up"},
                "machine": {"device": "an abacus"},
                "settings": {
                    "preprocess": {"size": 64},
                    "prior": {"name": "warp"},
                    "fit": {"steps": 5},
                },
            }
            folder = Path(output) / "eval" / name
            folder.mkdir(parents=True)
            (folder / "table.json").write_text(json.dumps(table))
        return 0

    return main


def test_paired_difference_has_error_over_scenes_and_seeds():
    def rows(values: dict[tuple[str, int], float]) -> list[dict]:
        views = {
            scene: [{key: None for key in MEASURES} | {"psnr": value, "distance": 0.1}]
            for scene, value in values.items()
        }
        return [
            {
                "scene": scene,
                "seed": seed,
                "views": views[scene, seed],
                "depth": None,
                "cameras": None,
                "stages": {},
            }
            for scene, seed in values
        ]

    base = rows({(scene, seed): 20.0 for scene in "ab" for seed in (0, 1, 2)})
    # Seeds are 3 dB apart and both scenes alike: an error over scenes alone would be none.
    other = rows({(scene, seed): 20.0 + 3 * seed for scene in "ab" for seed in (0, 1, 2)})
    assert ablation.difference(other, base) == f"+3.00 ± {3 / 3**0.5:.2f}"
    assert ablation.difference(rows({("a", 0): 21.0}), base) == "+1.00"
    assert ablation.difference(rows({("c", 0): 21.0}), base) == "-"


def test_ablation_table_compares_settings_with_the_first(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(ablation.cli, "main", fake_eval({"fit.steps=1": 20.0, "fit.steps=2": 21.5}))
    monkeypatch.setattr(
        sys,
        "argv",
        [
            "method.py",
            "--output",
            str(tmp_path / "out"),
            "--results",
            str(tmp_path / "tables"),
            "--seeds",
            "0,1",
            "seed_free=1",
        ],
    )
    monkeypatch.setattr(sys.modules["__main__"], "__doc__", "What is what?", raising=False)
    settings = {"one": ["fit.steps=1"], "two": ["fit.steps=2"]}
    ablation.main("experiments/method.py", settings, {"made up": ["dataset=made_up"]}, "Much.")
    text = (tmp_path / "tables/method.md").read_text()
    assert (
        text.startswith("# What is what?")
        and "## Not measured\n\nMuch." in text
        and "by `python experiments/method.py --seeds 0,1 seed_free=1`" in text
    )
    assert (
        "| settings | PSNR | visible | rotation | position | s "
        "| PSNR 0 to 0.1 | PSNR from 0.1 | difference in PSNR |" in text
    )
    assert "; 5 steps. Measured on an abacus." in text
    # Two scenes 10 dB apart, seeds 1 dB apart, views 1.8 dB apart.
    assert "| one | 24.40 ± 0.71 | 50 % | 0.25 ± 0.00 | 1.00 % | 3 | 25.30 | 23.50 |  |" in text
    assert (
        "| two | 25.90 ± 0.71 | 50 % | 0.25 ± 0.00 | 1.00 % | 3 | 26.80 | 25.00 "
        "| +1.50 ± 0.00 to one |" in text
    )
    summary = json.loads((tmp_path / "tables/method.json").read_text())
    assert [task["psnr"] for task in summary["data"]["made up"]["two"]["tasks"]] == pytest.approx(
        [20.4, 21.4, 30.4, 31.4]
    )
    assert "| two |" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["method.py", "--only", "three"])
    with pytest.raises(SystemExit):
        ablation.main("experiments/method.py", settings, {"made up": []}, "")
    assert "--only has 'three'; choose among one; two" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["method.py", "fail=1"])
    with pytest.raises(SystemExit, match="2"):
        ablation.main("experiments/method.py", settings, {"made up": []}, "")
