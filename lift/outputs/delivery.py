"""What a finished run leaves: scene, cameras, fly-through, measurements and report."""

import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from omegaconf import OmegaConf
from rich.console import Console
from rich.progress import track
from safetensors.torch import save_file
from torch import Tensor

from lift.evaluation.metrics import camera_errors
from lift.evaluation.truth import planned_loop, truth_of
from lift.io.cameras import read_cameras, write_colmap, write_transforms
from lift.io.image import save_image
from lift.io.splats import export, read_ply, write_ply
from lift.io.video import write_video
from lift.outputs.contact_sheet import contact_sheet
from lift.outputs.coverage import Coverage
from lift.outputs.fly_through import FlyThrough, frame_times, make_fly_through
from lift.outputs.quality import (
    FrameFinding,
    Scene,
    compare,
    corrected_cameras,
    evaluate_frames,
    held_out_frames,
    registered_frames,
    render_canonical,
    summarize,
)
from lift.outputs.report import write_report
from lift.outputs.verdict import Verdict
from lift.renderers import Renderer, renderers
from lift.runtime.parallel import each
from lift.runtime.session import Session, write_json
from lift.training import CHECKPOINT
from lift.types import Cameras

FLY_THROUGH = "fly_through.json"
CONTACT_SHEET = "fly_through.jpg"
FROM_FIT = (CHECKPOINT, "tensorboard", "split.json")

SHEET_VIEWS = 8
"""Views of the fly-through on its contact sheet."""

TRUE_VIEWS = 8
"""True views that a scene is compared with, where truth is known everywhere."""

__all__ = ["FrameFinding", "Scene", "deliver", "render_run"]


def deliver(session: Session, scene: Scene) -> Path:
    """Write everything that a run leaves, the report last, and say how good the scene is.

    Args:
        session: The run, on its leading process.
        scene: What the stages made.

    Returns:
        The run's folder.
    """
    config = session.config
    fit_key = session.stages[-1].key
    maker = scene.capture.kind if scene.capture else config.prior.name
    name = config.name or f"{maker}-{config.distortion.name}-{fit_key}"
    folder = Path(config.output) / scene.picture.name / name
    folder.mkdir(parents=True, exist_ok=True)
    _clear(folder)  # a named folder may hold another run's
    session.say("delivering")
    renderer = session.build(renderers)
    cameras = corrected_cameras(scene)
    for item in FROM_FIT:
        _copy(scene.fitted / item, folder / item)
    _write_scene(folder, scene, cameras, config.deliver.formats)

    flight = plan_fly_through(renderer, scene, cameras, config.deliver.video_frames)
    video = _write_fly_through(folder, renderer, scene, flight, config.deliver.fps)
    findings = evaluate_frames(renderer, scene)
    metrics = _measure(session, renderer, scene, findings, flight, cameras)
    write_json(folder / "metrics.json", metrics)
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(config, resolve=True))
    provenance = session.provenance()
    if scene.capture:
        source = {
            "kind": scene.capture.kind,
            "hint": scene.trajectory.hint,
            "frames": list(scene.capture.names),
        }
        provenance["source"] = source
    write_json(folder / "provenance.json", provenance)
    write_report(folder, scene, renderer, findings, metrics, provenance, video)
    for line in Verdict(metrics["verdict"], tuple(metrics["reasons"])).lines:
        session.say(line)
    return folder


def plan_fly_through(renderer: Renderer, scene: Scene, cameras: Cameras, count: int) -> FlyThrough:
    """Plan the path of the video among the frames whose camera was found.

    Args:
        renderer: Renders the scene to measure what frames saw of it.
        scene: What the run made.
        cameras: The frames' corrected cameras, the input first.
        count: Number of views.

    Returns:
        The path, its coverage and how far it was shrunk.
    """
    registered = registered_frames(scene)
    held_out = held_out_frames(scene)
    training = [index for index in registered if index not in held_out]
    times = frame_times(scene.trajectory)
    if times is not None:
        times = [times[index] for index in registered]
    coverage = Coverage(renderer, scene.gaussians, cameras[training])
    return make_fly_through(cameras[registered], times, scene.depth.typical, count, coverage)


def to_bytes(rgb: Tensor) -> Tensor:
    """Convert colours in [0, 1] to 8 bit."""
    return (rgb.clamp(0, 1) * 255).round().to(torch.uint8)


def _write_scene(folder: Path, scene: Scene, cameras: Cameras, formats: Sequence[str]) -> None:
    """Write Gaussians, frames, cameras and distortion."""
    write_ply(folder / "gaussians.ply", scene.gaussians)
    for suffix in formats:
        if suffix != "ply":
            export(folder / "gaussians.ply", folder / f"gaussians.{suffix}")
    names = [f"frames/{view:06d}.png" for view in range(len(scene.frames))]
    (folder / "frames").mkdir(exist_ok=True)
    each(
        lambda view: save_image(folder / names[view], scene.frames.images[view]), range(len(names))
    )
    write_transforms(folder / "transforms.json", cameras, names)
    write_colmap(folder / "colmap", cameras, names, scene.reconstruction.points)
    state = {key: value.contiguous() for key, value in scene.distortion.state_dict().items()}
    save_file(state, folder / "distortion.safetensors")
    (folder / "distortion.safetensors").chmod(0o644)  # its writer leaves it to the owner alone


def _write_fly_through(
    folder: Path, renderer: Renderer, scene: Scene, flight: FlyThrough, fps: int
) -> list[UInt8[Tensor, "height width 3"]]:
    """Write the video, its cameras and its contact sheet, and return the video's pictures."""
    path = flight.cameras
    video = [
        to_bytes(render_canonical(renderer, scene.gaussians, path[view]).rgb[0])
        for view in range(len(path))
    ]
    write_video(folder / "video.mp4", torch.stack(video), fps)
    write_transforms(folder / FLY_THROUGH, path, [""] * len(path))
    count = min(SHEET_VIEWS, len(video))
    chosen = [video[len(video) * number // count] for number in range(count)]
    save_image(folder / CONTACT_SHEET, contact_sheet(chosen, columns=4))
    return video


def _measure(
    session: Session,
    renderer: Renderer,
    scene: Scene,
    findings: list[FrameFinding],
    flight: FlyThrough,
    cameras: Cameras,
) -> dict[str, Any]:
    """Collect the numbers of `metrics.json`."""
    config = session.config
    if scene.trajectory.hint in ("planned", "known"):
        path = planned_loop(scene.trajectory, scene.depth.typical, config.deliver.video_frames)
    else:
        path = flight.cameras
    truth = truth_of(session.image, scene.picture, path[:: max(1, len(path) // TRUE_VIEWS)])
    compared = compare(renderer, scene, truth) if truth else None
    metrics = summarize(scene, findings, flight, config.fit.max_gaussians, compared)
    if scene.taken is not None:
        with suppress(ValueError):  # of positions on one line, which no similarity aligns
            metrics["cameras"] = camera_errors(cameras, scene.taken, scene.depth.typical)
    return metrics


def _clear(folder: Path) -> None:
    for old in [folder / "frames", folder / "colmap", *folder.glob("gaussians.*")]:
        shutil.rmtree(old) if old.is_dir() else old.unlink(missing_ok=True)


def _copy(source: Path, to: Path) -> None:
    """Replaces `to`, a file or a folder, by a copy."""
    if source.is_dir():
        shutil.rmtree(to, ignore_errors=True)
        shutil.copytree(source, to)
    else:
        draft = to.with_name(to.name + ".draft")
        shutil.copyfile(source, draft)
        os.replace(draft, to)


def render_run(
    run: Path, to: Path, path: Path | None, size: int | None, fps: int, renderer: str | None
) -> Path:
    """Render cameras to a video or to a folder of PNG files.

    Args:
        run: Folder of a finished run.
        to: A name that ends with .mp4, or a folder.
        path: File or folder of cameras in the run's world; None renders the run's fly-through.
        size: Longer side of the pictures in pixels; None keeps the cameras' own.
        fps: Pictures a second of a video.
        renderer: Name of a renderer; None takes the run's.

    Returns:
        `to`.

    Raises:
        FileNotFoundError: `run` is not a finished run.
        ValueError: `to` has another suffix or is a file, or `size` is below 16.
    """
    if not (run / "gaussians.ply").is_file():
        raise FileNotFoundError(f"there is no finished run at {run}: it has no gaussians.ply")
    if to.suffix not in ("", ".mp4"):
        raise ValueError(
            f"--to is {str(to)!r}; choose a name that ends with .mp4, or a folder without a suffix"
        )
    cameras = read_cameras(path or run / FLY_THROUGH)
    if size is not None and size < 16:
        raise ValueError(f"--size is {size}; choose at least 16 pixels")
    if to.is_file() and not to.suffix:
        raise ValueError(
            f"--to is {str(to)!r}, a file; choose a folder, or a name that ends with .mp4"
        )
    if size:
        factor = size / max(cameras.width, cameras.height)
        cameras = cameras.resized(round(cameras.width * factor), round(cameras.height * factor))
    named = (
        {"name": renderer}
        if renderer
        else OmegaConf.to_container(OmegaConf.load(run / "config.yaml").renderer)
    )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    made, gaussians = renderers.build(named, device=device), read_ply(run / "gaussians.ply")
    views = track(
        range(len(cameras)), description="rendering", console=Console(stderr=True), transient=True
    )
    pictures = torch.stack(
        [to_bytes(render_canonical(made, gaussians, cameras[view]).rgb[0]) for view in views]
    )
    to.parent.mkdir(parents=True, exist_ok=True)
    if to.suffix:
        write_video(to, pictures, fps)
    else:
        to.mkdir(exist_ok=True)
        for view, picture in enumerate(pictures):
            save_image(to / f"{view:06d}.png", picture)
    return to
