"""Clips of tiny diffusion priors."""

from functools import cache
from pathlib import Path

import pytest
import torch

from lift.geometry import pinhole
from lift.priors import ClipRequest, priors
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
            made[name] = tiny.BUILDERS[name](tmp_path_factory.mktemp(name) / "model")
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


def build_motionctrl(folder: Path, **settings):
    return build(lambda _: str(folder), "motionctrl", **{"frames": 3, **settings})


def motionctrl_network(folder: Path) -> torch.nn.Module:
    return build_motionctrl(folder)._load_options()["unet"]


def clip_request(
    name: str = "right", count: int = 4, far: float = 0.3, seed: int = 7
) -> ClipRequest:
    frames, camera, _ = scene()
    return ClipRequest(frames, camera, Clip(name, 0, sideways(camera, count, far).cameras), seed)


def request_arguments(request: ClipRequest) -> tuple:
    """The arguments of a prior that is called with one clip."""
    return request.frames, request.cameras, request.clip, request.seed
