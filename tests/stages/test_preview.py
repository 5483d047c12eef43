"""The first look at a scene, before its fit."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from lift.camera_paths import orbit_cameras
from lift.depths import DepthEstimator
from lift.geometry import pinhole
from lift.io.capture import Capture
from lift.io.image import Picture
from lift.renderers import Renderer, renderers
from lift.runtime.live_job import open_live_job
from lift.runtime.session import Session
from lift.stages import depth as depth_stage
from lift.stages import preview as preview_module
from lift.stages.preview import make_preview, publish_preview
from lift.types import Clip, Depth, Frames, Gaussians, Trajectory
from tests.helpers.fits import ball

WIDTH = 96
HEIGHT = 64
CAMERA = pinhole(WIDTH, HEIGHT, 90.0)


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return renderers.build({"name": "numba"})


@pytest.fixture(scope="module")
def picture() -> tuple[torch.Tensor, Depth]:
    """A textured disc in front of a textured wall, with a gap in its depth."""
    row, column = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    waves = torch.stack([torch.sin(column / 5), torch.cos(row / 4), torch.sin((row + column) / 6)])
    image = (127 + 90 * waves.permute(1, 2, 0)).round().to(torch.uint8)
    disc = (row - 32) ** 2 + (column - 48) ** 2 < 18**2
    image[disc] = 255 - image[disc]
    depth = torch.where(disc, 1.5, 3.0)
    valid = torch.ones_like(disc)
    valid[:6, :10] = False
    return image, Depth(depth, valid, "scale")


@pytest.fixture(scope="module")
def preview(picture, renderer) -> Gaussians:
    return make_preview(*picture, CAMERA, renderer)


def psnr(image: torch.Tensor, rgb: torch.Tensor) -> float:
    return float(-10 * torch.log10((image.float() / 255 - rgb.clamp(0, 1)).square().mean()))


def test_the_input_view_is_the_picture(picture, preview, renderer):
    assert psnr(picture[0], renderer(preview, CAMERA).rgb[0]) > 30


def test_colours_are_corrected_for_the_blur(picture, preview, renderer):
    plain = make_preview(*picture, CAMERA)
    before = psnr(picture[0], renderer(plain, CAMERA).rgb[0])
    assert psnr(picture[0], renderer(preview, CAMERA).rgb[0]) > before + 1


@pytest.mark.parametrize("offset", [(20.0, 0.0), (-20.0, 0.0), (0.0, 20.0), (0.0, -20.0)])
def test_views_from_beside_have_no_holes(preview, renderer, offset):
    cameras = orbit_cameras(CAMERA, torch.tensor([(*offset, 0.0)]), 3.0)
    assert float(renderer(preview, cameras).alpha.min()) > 0.9


def test_a_magnified_view_has_no_gaps_within_surfaces(preview, renderer):
    render = renderer(preview, CAMERA.resized(4 * WIDTH, 4 * HEIGHT))
    assert float(render.alpha.min()) > 0.9


def test_values_can_be_written_to_any_file(preview):
    for value in preview.tensors().values():
        assert value.isfinite().all()
    assert preview.sh_degree == 0
    assert (preview.scales > 0).all()
    torch.testing.assert_close(preview.quats.norm(dim=1), torch.ones(len(preview)))


DEPTH = Depth(torch.ones(4, 4), torch.ones(4, 4, dtype=torch.bool), "scale")


IMAGE = torch.zeros(4, 4, 3, dtype=torch.uint8)
PICTURE = Picture("coffee", Frames(IMAGE[None]), pinhole(4, 4, 4.0), "0" * 64, ())


class FakeSession(Session):
    """A session of the main process that keeps its messages."""

    is_main = True  # type: ignore[assignment]

    def __init__(self, job: Any = None) -> None:
        self.config = OmegaConf.create({"preview": True})
        self.live_job = job
        self.messages: list[str] = []

    def deferred_writes(self) -> AbstractContextManager[None]:
        return nullcontext()

    def say(self, line: str) -> None:
        self.messages.append(line)


class FakeEstimator(DepthEstimator):
    """Knows one depth."""

    def __call__(self, image: torch.Tensor) -> Depth:
        return DEPTH


@pytest.fixture
def job(tmp_path, monkeypatch):
    """A running job. Its preview is a ball."""
    monkeypatch.setattr(preview_module, "preview_stage", lambda *arguments: ball(5))
    monkeypatch.setattr(preview_module, "_ready_renderer", lambda session: None)
    config = OmegaConf.create({"output": str(tmp_path), "name": "mine"})
    with open_live_job(config, "coffee", CAMERA) as job:
        yield job


def publish(job: Any) -> list[str]:
    session = FakeSession(job)
    publish_preview(session, PICTURE, DEPTH, "key")
    return session.messages


def test_the_command_that_shows_the_preview_is_printed(job):
    assert publish(job)[0].endswith("coffee shows it now, and then the fit")


def test_a_resumed_job_shows_its_fit_and_says_so(job):
    job.show("fit", "snapshot.ply", lambda path: path.touch(), 10, 30)
    messages = publish(job)
    assert messages[0].endswith("coffee shows the fit, which continues")
    assert "preview.ply is its file" in messages[1]


def test_a_sheet_that_cannot_be_written_does_not_end_the_run(job, monkeypatch):
    def fail(*arguments: Any) -> None:
        raise FileNotFoundError(2, "No such file or directory", "preview.jpg")

    monkeypatch.setattr(preview_module, "_ready_renderer", lambda session: "a renderer")
    monkeypatch.setattr(preview_module, "_write_sheet", fail)
    assert "its pictures cannot be written: " in publish(job)[-1]


def preview_key(device: str, name: str, renderer: Renderer | None) -> str:
    session = FakeSession()
    session.config = OmegaConf.create({"renderer": {"name": name}})
    session.device = torch.device(device)
    part, slots = preview_module._renderer_key(session, renderer)
    return session.key("preview", "depth", part, slots=slots)


def test_the_renderer_is_part_of_the_cache_key(renderer, monkeypatch):
    keys = [
        preview_key("cpu", "numba", None),
        preview_key("cpu", "numba", renderer),
        preview_key("cuda", "numba", renderer),
        preview_key("cuda", "reference", renderer),
    ]
    assert len(set(keys)) == 4
    assert preview_key("cpu", "reference", renderer) == keys[1], "numba is used"
    entry = type(preview_module.catalogue()("renderer", "numba"))
    monkeypatch.setattr(entry, "fingerprint", lambda self: "edited")
    assert preview_key("cpu", "numba", renderer) != keys[1]


@pytest.mark.parametrize("hint", ["known", "sequence"])
def test_the_preview_has_the_unit_of_known_cameras(hint, monkeypatch):
    clip = Clip("clip", 0, PICTURE.cameras)
    trajectory = Trajectory(PICTURE.cameras, (clip,), hint)
    frames = Frames(torch.stack([IMAGE, IMAGE]))
    capture = Capture(PICTURE, frames, trajectory, ("a", "b"), (0, 1), True, "video", "0" * 64)
    aligned = Depth(2 * DEPTH.depth, DEPTH.valid, "scale")
    counts = {("plain", id(DEPTH)): 1, ("aligned", id(aligned)): 2}
    fakes = {
        "Session": lambda config: FakeSession(),
        "read_input": lambda session: (PICTURE, capture),
        "build_depth_estimator": lambda *arguments: FakeEstimator(),
        "preview_stage": lambda session, picture, depth, key: ball(counts[key, id(depth)]),
    }
    for name, fake in fakes.items():
        monkeypatch.setattr(preview_module, name, fake)
    monkeypatch.setattr(depth_stage, "estimate_depth", lambda *arguments: (DEPTH, "plain"))
    monkeypatch.setattr(depth_stage, "align_depth", lambda *arguments: (aligned, "aligned"))
    gaussians = preview_module.compute_preview(OmegaConf.create({}))
    assert len(gaussians) == (2 if hint == "known" else 1)
