"""Clips of tiny diffusion priors."""

from functools import cache

import pytest
import torch

from lift.geometry import pinhole
from lift.priors import priors
from lift.registry import catalogue
from lift.types import Cameras, Clip, Depth, Frames
from tests.helpers import tiny, walls

CPU = torch.device("cpu")


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    made = {}

    def folder(name: str):
        if name not in made:
            torch.manual_seed(0)
            made[name] = tiny.MADE[name](tmp_path_factory.mktemp(name) / "model")
        return str(made[name])

    return folder


@cache
def scene(width: int = 96, height: int = 64) -> tuple[Frames, Cameras, Depth]:
    camera = pinhole(width, height, 90.0)
    seen = walls.render(camera)
    return Frames(seen.images), camera, Depth(seen.depth[0], seen.depth[0] > 0, "scale")


def sideways(camera: Cameras, count: int, far: float = 0.3) -> Clip:
    world = camera.world_to_camera.repeat(count, 1, 1)
    world[:, 0, 3] -= torch.linspace(far / count, far, count)
    return Clip(
        "right",
        0,
        Cameras(world, camera.intrinsics.repeat(count, 1, 1), camera.width, camera.height),
    )


def build(folders, name: str = "svd", device: torch.device = CPU, **settings):
    _, _, depth = scene()
    missing = catalogue()("prior", name).missing
    if missing:
        pytest.skip(f"prior {name} needs {', '.join(missing)}")
    return priors.build(
        {"name": name, "model": folders(name), **tiny.SETTINGS[name], **settings},
        depth=depth,
        device=device,
        estimator=None,
    )
