"""A small scene as files, for tests of what reads a finished scene."""

import json
from pathlib import Path

import torch

from lift.io.splats import write_ply
from lift.types import Gaussians


def write_small_scene(folder: Path) -> Path:
    """Write Gaussians and two cameras to a folder, and return the PLY file."""
    count = 20
    means = torch.randn(count, 3) + torch.tensor([0.0, 0.0, 4.0])
    quats = torch.tensor([1.0, 0, 0, 0]).expand(count, 4).clone()
    gaussians = Gaussians(
        means,
        quats,
        torch.full((count, 3), 0.1),
        torch.full((count,), 0.5),
        torch.zeros(count, 1, 3),
    )
    write_ply(folder / "gaussians.ply", gaussians)
    pose = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0])).tolist()
    frames = [{"file_path": f"frames/{k:06d}.png", "transform_matrix": pose} for k in range(2)]
    cameras = {
        "fl_x": 80.0,
        "fl_y": 80.0,
        "cx": 50.0,
        "cy": 40.0,
        "w": 100,
        "h": 80,
        "frames": frames,
    }
    (folder / "transforms.json").write_text(json.dumps(cameras))
    return folder / "gaussians.ply"
