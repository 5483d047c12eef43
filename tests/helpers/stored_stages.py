"""Stages of a tiny run, as the cache of an earlier run has them."""

import json
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from lift.geometry import pinhole
from lift.runtime.serialization import save
from lift.runtime.stage_times import stage_method
from lift.types import Depth, Frames, PointCloud, Reconstruction

TINY_PICTURE = ("image=coffee", "preprocess.size=64", "planner=single", "planner.num_frames=4")
"""Settings of a run of five frames."""
HEIGHT = 40
WIDTH = 64


def store_stage(
    output: Path,
    config: DictConfig,
    stage: str,
    seconds: float,
    value: Any,
    frames: int = 5,
) -> None:
    """Write a stage of a run, with the time that it took."""
    cache = output / "cache"
    folder = cache / f"{stage}-{len(list(cache.glob('*')))}"
    folder.mkdir(parents=True)
    save(value, folder)
    work = (frames, HEIGHT, WIDTH) if stage == "fit" else None
    manifest = {
        "stage": stage,
        "key": folder.name.partition("-")[2],
        "seconds": seconds,
        "peak_bytes": 1,
        "method": stage_method(config, stage, torch.device("cpu"), 1, frames=work),
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))


def depth(height: int = HEIGHT) -> Depth:
    pixels = torch.ones(height, WIDTH)
    return Depth(pixels, pixels > 0, "scale")


def clip(count: int = 4, height: int = HEIGHT) -> Frames:
    return Frames(torch.zeros(count, height, WIDTH, 3, dtype=torch.uint8))


def reconstruction(count: int = 5) -> dict[str, Any]:
    """What the stage keeps."""
    maps = torch.ones(count, HEIGHT, WIDTH)
    camera = pinhole(WIDTH, HEIGHT, 50.0)
    cameras = camera.map(lambda value: value.expand(count, *value.shape[1:]))
    points = PointCloud(torch.zeros(1, 3), torch.zeros(1, 3))
    return {"reconstruction": Reconstruction(cameras, points, maps, maps), "notes": []}
