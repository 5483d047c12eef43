"""A first look at a scene: Gaussians straight from the depth of the input, before the fit."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from omegaconf import DictConfig
from torch import Tensor

from lift import spherical_harmonics
from lift.camera_paths import orbit_cameras
from lift.errors import format_error
from lift.io.image import Picture, save_image
from lift.io.splats import write_ply
from lift.registry import catalogue
from lift.renderers import Renderer, renderers
from lift.runtime.atomic_io import publish
from lift.runtime.compile_ahead import fit_loops_cached
from lift.runtime.live_job import PREVIEW, PREVIEW_SHEET, open_live_job
from lift.runtime.session import Session
from lift.stages.depth import build_depth_estimator, estimate_capture_depth, estimate_depth
from lift.stages.inputs import read_input
from lift.types import Cameras, Depth, Gaussians
from lift.warping import two_layers
from lift.warping.backend import warping_backend

CPU_RENDERER = "numba"
"""Renderer that corrects the colours on the CPU."""

SHARPENING_ROUNDS = 2
"""Number of corrections of the picture layer's colours. More make views from beside noisy."""

SHEET_OFFSETS = ((-8.0, 0.0), (0.0, 0.0), (8.0, 0.0))
"""Azimuth and elevation in degrees of the views on the sheet of the preview."""


def make_preview(
    image: UInt8[Tensor, "height width 3"],
    depth: Depth,
    camera: Cameras,
    renderer: Renderer | None = None,
    device: torch.device | None = None,
) -> Gaussians:
    """Turn a picture and its depth into Gaussians, without frames and without a fit.

    The picture has one Gaussian a pixel, on the surface that the depth describes. Behind depth
    edges and beyond the border, a second layer continues the background.

    Args:
        image: The picture, 0 to 255.
        depth: Its depth, at the picture's size.
        camera: Its camera, one view.
        renderer: Renders the input view, to correct the blur of neighbouring Gaussians. None: the
            colours are those of the pixels.
        device: Device of the computation. None: the CPU.

    Returns:
        Gaussians of degree 0 on the CPU. Those of the pixels come first, row by row.
    """
    depth = Depth(depth.depth.cpu(), depth.valid.cpu(), depth.kind)
    camera = camera.to("cpu")
    device = device or torch.device("cpu")
    layers = two_layers.two_layers(image.cpu().numpy(), depth, camera, warping_backend(device))
    gaussians = Gaussians.cat(
        [two_layers.layer_gaussians(layer, camera, depth.typical, device) for layer in layers]
    )
    if renderer is not None:
        gaussians = gaussians.to(renderer.device)
        for _ in range(SHARPENING_ROUNDS):
            gaussians = _sharpen(gaussians, image, camera, renderer)
    return gaussians.to("cpu")


@torch.no_grad()
def _sharpen(
    gaussians: Gaussians,
    image: UInt8[Tensor, "height width 3"],
    camera: Cameras,
    renderer: Renderer,
) -> Gaussians:
    """Add to the colour of each pixel's Gaussian what the render of the input view lacks there."""
    render = renderer(gaussians, camera.to(renderer.device)).rgb[0]
    count = image.shape[0] * image.shape[1]
    missing = (image.to(render.device).float() / 255 - render).reshape(count, 3)
    colors = gaussians.sh_coeffs[:count, 0] * spherical_harmonics.C0 + 0.5
    sh_coeffs = gaussians.sh_coeffs.clone()
    sh_coeffs[:count, 0] = spherical_harmonics.from_rgb((colors + missing).clamp(0, 1))
    return replace(gaussians, sh_coeffs=sh_coeffs)


@contextmanager
def show_live(session: Session, picture: Picture) -> Iterator[None]:
    """Let `lift view` follow the run during the block. The main process writes.

    Args:
        session: The run.
        picture: The input.
    """
    if not session.is_main:
        yield
        return
    with open_live_job(session.config, picture.name, picture.cameras) as session.live_job:
        yield


def publish_preview(session: Session, picture: Picture, depth: Depth, key: str) -> None:
    """Make the preview of a run, or find it in the cache, and show it to viewers and as a file.

    Nothing happens unless the setting `preview` asks for it.

    Args:
        session: The run.
        picture: The input.
        depth: Its depth.
        key: Key of the depth's stage.
    """
    if not session.config.preview or not session.is_main:
        return
    gaussians = preview_stage(session, picture, depth, key)
    job = session.live_job
    if job is None or not job.show("preview", PREVIEW, lambda path: write_ply(path, gaussians)):
        session.say("preview       it cannot be written, or another process runs the same job")
        return
    if job.stage == "preview":
        session.say(f"preview: lift view {job.folder.parent} shows it now, and then the fit")
    else:
        session.say(f"preview: lift view {job.folder.parent} shows the fit, which continues")
    session.say(f"preview: {job.folder / PREVIEW} is its file, until the scene is finished")
    if renderer := _ready_renderer(session):
        path = job.folder / PREVIEW_SHEET
        try:
            _write_sheet(path, gaussians, picture.cameras, depth, renderer)
        except OSError as error:
            session.say(f"preview: its pictures cannot be written: {format_error(error)}")


def compute_preview(config: DictConfig) -> Gaussians:
    """Compute the preview of a run, and nothing else of it.

    Args:
        config: Configuration of the run.

    Returns:
        The preview, on the CPU.

    Raises:
        ValueError: A setting cannot be used, or something is wrong with the files.
    """
    session = Session(config)
    with session.deferred_writes():
        picture, capture = read_input(session)
        estimator = build_depth_estimator(session, picture)
        if capture:
            depth, key = estimate_capture_depth(session, picture, capture, estimator)
        else:
            depth, key = estimate_depth(session, picture, estimator)
        return preview_stage(session, picture, depth, key)


def preview_stage(session: Session, picture: Picture, depth: Depth, key: str) -> Gaussians:
    """Return the preview of a run. It is computed, or it is in the cache.

    Args:
        session: The run.
        picture: The input.
        depth: Its depth.
        key: Key of the depth's stage.
    """
    renderer = _ready_renderer(session)
    part, slots = _renderer_key(session, renderer)
    code = (make_preview, two_layers.two_layers)
    key = session.key("preview", key, part, slots=slots, code=code)
    image = picture.frames.images[0]
    # It is no stage of the scene, which does not depend on it. The main process alone makes it.
    device = session.device
    gaussians, stage = session.store.value(
        "preview", key, lambda: make_preview(image, depth, picture.cameras, renderer, device)
    )
    cost = "found" if stage.cached else f"{stage.seconds:.1f} s"
    session.say(f"{'preview':<12} {'before the fit':<16} {cost}")
    return gaussians


def _ready_renderer(session: Session) -> Renderer | None:
    """Return a fast renderer that needs no compilation now. None: there is none."""
    if session.device.type == "cpu":
        return renderers.build({"name": CPU_RENDERER}) if fit_loops_cached() else None
    renderer = session.build(renderers)
    return renderer if renderer.device.type != "cpu" else None


def _renderer_key(session: Session, renderer: Renderer | None) -> tuple[Any, tuple[str, ...]]:
    """Return what the cache's key has of the renderer: a part of it, and slots of the session."""
    if renderer is None:
        return session.device.type, ()
    if session.device.type == "cpu":  # the setting `renderer` is not used
        return [CPU_RENDERER, catalogue()("renderer", CPU_RENDERER).fingerprint()], ()
    return "the run's renderer", ("renderer",)


@torch.no_grad()
def _write_sheet(
    path: Path, gaussians: Gaussians, camera: Cameras, depth: Depth, renderer: Renderer
) -> None:
    """Write a picture of three views of the preview."""
    from lift.outputs.contact_sheet import contact_sheet

    offsets = torch.tensor([(*offset, 0.0) for offset in SHEET_OFFSETS])
    cameras = orbit_cameras(camera, offsets, depth.typical).to(renderer.device)
    gaussians = gaussians.to(renderer.device)
    views = [renderer(gaussians, cameras[view]).rgb[0].cpu() for view in range(len(cameras))]
    pictures = [(view.clamp(0, 1) * 255).round().to(torch.uint8) for view in views]
    sheet = contact_sheet(pictures, columns=len(pictures))
    publish(path, lambda draft: save_image(draft, sheet))
