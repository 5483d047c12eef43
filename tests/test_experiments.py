"""Experiments on what ships with the package, on made-up cases: the photographs that they are for are not here."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lift.evaluation.lpips import LPIPS
from lift.evaluation.worlds import ray_cast
from lift.io.splats import write_ply
from lift.poses.agreement import merged
from lift.renderers import renderers
from lift.training.splats import initialise
from lift.types import Reconstruction

sys.path.insert(0, str(Path(__file__).parents[1] / "experiments"))
import fill  # noqa: E402
import single  # noqa: E402


class Nearness(LPIPS):
    """Stands for the features, which do not come with the package."""

    def __init__(self) -> None:
        torch.nn.Module.__init__(self)

    def distances(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (a - b).abs().flatten(1).mean(1)

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> float:
        return float((a - b).abs().mean())


def card(shift: float) -> tuple[np.ndarray, np.ndarray]:
    """A red card at depth 2 before a wall at 4 that gets greener to the right, from a camera `shift` further right; 100 pixels are a focal length."""
    x = np.broadcast_to((np.arange(120) + 0.5 - 60) / 100, (80, 120))
    y = np.broadcast_to(((np.arange(80) + 0.5 - 40) / 100)[:, None], (80, 120))
    near = (np.abs(2 * x + shift) < 0.4) & (np.abs(2 * y) < 0.4)
    wall = np.stack([np.zeros_like(x), 120 + 40 * (4 * x + shift), np.full_like(x, 90)], -1)
    return np.where(near[..., None], np.array([220, 20, 20]), wall).clip(0, 255).astype(np.uint8), np.where(near, 2.0, 4.0).astype(np.float32)


def test_what_is_asked_of_fillings_is_what_the_other_photograph_alone_shows(monkeypatch):
    (first, depth), (second, there_depth) = card(0.0), card(0.2)
    intrinsics, there = np.array([[100.0, 0, 60], [0, 100, 40], [0, 0, 1]]), np.eye(4)
    there[0, 3] = -0.2
    case = fill.moved(first, depth, np.eye(4), there, [intrinsics, intrinsics], second)
    shown = (there_depth == 4) & (np.arange(120) > 60)
    assert 100 < case.hole.sum() < 300 and (case.hole & ~shown).sum() < 20, "right of the card, and not at the border"
    np.testing.assert_allclose(case.inverse[case.hole], 0.25, rtol=0.02)
    assert fill.moved(first, depth, np.eye(4), np.eye(4), [intrinsics, intrinsics], first) is None
    monkeypatch.setattr(fill, "cases", lambda name: iter([case, case]))
    fillings = {name: fill.of_warp(name) for name in ("smooth", "network", "patches")} | {"a": fill.of_opencv(0), "white": lambda case: 255 + 0 * case.photo}
    rows = {row["fill"]: row for row in fill.row("card", fillings, Nearness(), None)}
    assert all(rows[name]["psnr"] > 25 and rows[name]["cases"] == 2 for name in ("smooth", "network", "patches")), rows
    assert rows["white"]["psnr"] < 10 and rows["white"]["lpips"] > 100 * rows["smooth"]["lpips"]
    assert len(fill.table(list(rows.values())).splitlines()) == 2 + len(fillings)


def test_a_scene_is_scored_whatever_its_unit_of_length(tmp_path):
    world = ray_cast("room", (96, 72), 3)
    cameras = world.trajectory.cameras
    depth = world.frames.depth
    start = replace(cameras, world_to_camera=cameras.world_to_camera @ torch.linalg.inv(cameras.world_to_camera[0]))
    cloud = merged(world.frames, start, depth, (depth > 0).float(), 100_000)
    gaussians = initialise(Reconstruction(start, cloud, depth, (depth > 0).float()), 30_000, 0, opacity=0.95)
    renderer = renderers.build({"name": "numba"}, device=torch.device("cpu"), image="")
    found = []
    for number, unit in enumerate((1.0, 0.25)):
        (tmp_path / str(number)).mkdir()
        write_ply(tmp_path / str(number) / "gaussians.ply", replace(gaussians, means=unit * gaussians.means, scales=unit * gaussians.scales))
        found.append(single.scores(world, tmp_path / str(number), renderer, Nearness()))
    assert found[0]["scale"] == pytest.approx(1, rel=0.03) and found[1]["scale"] == pytest.approx(4, rel=0.03)
    assert found[0]["psnr"] > 20 and found[0]["psnr"] == pytest.approx(found[1]["psnr"], abs=0.1)
    assert found[0]["seen"] > 0.5 and found[0]["psnr_seen"] >= found[0]["psnr"] - 0.5 and found[0]["views"] == len(cameras) - 1
    moved = replace(gaussians, means=gaussians.means + torch.tensor([0.3, 0.0, 0.0]))
    write_ply(tmp_path / "0" / "gaussians.ply", moved)
    assert single.scores(world, tmp_path / "0", renderer, Nearness())["psnr"] < found[0]["psnr"] - 1
    assert "| `x` | mean |" in single.table([{"settings": "x", "scene": "room", **found[0]}])
