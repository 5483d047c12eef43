"""Which distortion module gives back most of what a generator's mistakes take from the canonical scene?

    python experiments/distortion.py --quick                        one scene, small, on a CPU: minutes
    python experiments/distortion.py distortion=mine                your module's rows beside those that are there
    python experiments/distortion.py --size 512 --device cuda       everything, as the committed table was made

Frames of scenes whose truth is known are spoiled in known ways (`lift.evaluation.worlds`); each module is fitted to them, and the
canonical scene compared with true views from cameras that no fit was given. No alignment: the input view, which is right, and its depth or
the scene's points fix the world. Rows that are in the results already are not made again; several processes share the work.
"""

import argparse
import json
import math
import os
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf
from torch import Tensor

from lift.config import store_schemas
from lift.distortions import Distortion, distortions
from lift.evaluation.metrics import psnr, ssim
from lift.evaluation.worlds import KINDS, Spoiled, World, photographs, ray_cast, spoil
from lift.geometry import project, rotation_angle
from lift.renderers import Renderer, renderers
from lift.training.fit import fit
from lift.training.module import SceneModule
from lift.training.splats import initialise
from lift.types import Cameras, Gaussians

SHARED = Path(os.environ.get("LIFT_SHARED", Path(__file__).parents[2] / "shared"))


@torch.no_grad()
def score(renderer: Renderer, gaussians: Gaussians, world: World) -> dict[str, float]:
    """Of the canonical scene on true views that were never given: means of PSNR (dB), SSIM, and relative depth error where depth is known."""
    device, rows = renderer.device, []
    gaussians = gaussians.to(device)
    for view in range(len(world.unseen)):
        shown, truth = renderer(gaussians, world.unseen_cameras[view].to(device)), world.unseen[view]
        row = {"psnr": psnr(shown.rgb[0].cpu(), truth.rgb[0]), "ssim": ssim(shown.rgb[0].cpu(), truth.rgb[0])}
        if truth.depth is not None:
            known = (truth.depth[0] > 0) & (shown.alpha[0].cpu() > 0.5)
            row["depth"] = float((shown.depth[0].cpu()[known] / truth.depth[0][known]).log().abs().median())
        rows.append(row)
    return {key: sum(row[key] for row in rows) / len(rows) for key in rows[0]}


@torch.no_grad()
def recovered(distortion: Distortion, gaussians: Gaussians, world: World, spoiled: Spoiled) -> dict[str, float]:
    """How far what was learned is from what was done, over generated frames that are not gone bad: medians.

    place: pixels between where a Gaussian is seen in a frame according to the distortion, and where the truth would put it; `place_told`,
    where no distortion was learned. turn: degrees, shift: share of the typical depth, zoom: logarithm, each of the cameras.
    """
    true, told = world.trajectory.cameras, spoiled.reconstruction.cameras
    some = gaussians[torch.randperm(len(gaussians), generator=torch.Generator().manual_seed(0))[:2000]]
    found: dict[str, list[float]] = {}
    for index in range(1, len(told)):
        if spoiled.bad[index]:
            continue
        view = torch.tensor([index])
        camera = distortion.cameras(told[index], view)
        seen = distortion.gaussians(some, view).means.reshape(-1, 3)
        straight, depth = (value[0] for value in project(seen, camera))
        where, ahead = (value[0] for value in project(some.means, true[index]))
        plain, _ = (value[0] for value in project(some.means, told[index]))
        flow = getattr(distortion, "flow", None)
        learned = flow(view, told.width, told.height)[0][0] if flow else torch.zeros_like(spoiled.flow[0])
        margin = 0.05 * told.width
        sound = (depth > 0) & (ahead > 0) & (where > margin).all(-1) & (where < where.new_tensor([told.width, told.height]) - margin).all(-1)
        if not bool(sound.any()):
            continue
        truth = _unbent(where, spoiled.flow[index])
        row = {
            "place": float((_unbent(straight, learned) - truth).norm(dim=-1)[sound].median()),
            "place_told": float((plain - truth).norm(dim=-1)[sound].median()),
            "turn": float(rotation_angle(camera.world_to_camera[:, :3, :3], true[index].world_to_camera[:, :3, :3])[0]),
            "shift": float((camera.centers - true[index].centers).norm()) / world.typical,
            "zoom": float((camera.intrinsics[0, 0, 0] / true[index].intrinsics[0, 0, 0]).log().abs()),
        }
        for key, value in row.items():
            found.setdefault(key, []).append(value)
    return {key: float(torch.tensor(values).median()) for key, values in found.items()}


def _unbent(pixels: Tensor, flow: Tensor) -> Tensor:
    """Where in a bent picture is what the straight one shows at `pixels`: y + flow(y) = x, by iteration."""
    height, width = flow.shape[1:]
    at = pixels
    for _ in range(4):
        x, y = at[:, 0].long().clamp(0, width - 1), at[:, 1].long().clamp(0, height - 1)
        at = pixels - flow[:, y, x].T
    return at


def trial(world: World, spoiled: Spoiled, config: Any, renderer: Renderer, seed: int) -> tuple[dict[str, Any], Gaussians, Distortion]:
    """One fit and what is measured of it."""
    cameras = spoiled.reconstruction.cameras
    torch.manual_seed(seed)
    distortion = distortions.build(
        config.distortion, num_views=len(cameras), extent=world.typical, size=(cameras.width, cameras.height), trajectory=world.trajectory,
        points=spoiled.reconstruction.points,
    )  # fmt: skip
    start = initialise(spoiled.reconstruction, config.fit.initial_gaussians, config.fit.sh_degree, renderer.device)
    module = SceneModule(start, distortion, renderer, spoiled.frames, spoiled.reconstruction, config.fit, world.typical, seed)
    if renderer.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        fit(module, list(range(1, len(cameras))), Path(folder), config.fit, OmegaConf.to_container(config.trainer), seed)
    seconds = time.perf_counter() - began
    gaussians, distortion = module.splats.gaussians().map(lambda value: value.detach()), module.distortion.eval()
    row = {**score(renderer, gaussians, world), **recovered(distortion, gaussians, world, spoiled), "seconds": seconds, "gaussians": len(gaussians)}
    if renderer.device.type == "cuda":
        row["peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
    return row, gaussians, distortion
