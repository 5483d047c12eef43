"""Write the results of a finished run: scene, cameras, fly-through, measurements and report."""

import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import UInt8
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import track
from safetensors.torch import save_file
from torch import Tensor

from lift.evaluation.metrics import camera_errors
from lift.evaluation.truth import planned_loop, truth_of
from lift.io.cameras import read_cameras
from lift.io.colmap import write_colmap
from lift.io.image import save_image
from lift.io.nerfstudio import write_transforms
from lift.io.splats import export, read_ply, write_ply
from lift.io.video import write_video
from lift.outputs.contact_sheet import contact_sheet
from lift.outputs.coverage import Coverage
from lift.outputs.fly_through import FlyThrough, frame_times, make_fly_through
from lift.outputs.quality import (
    FrameMetrics,
    SceneQuality,
    compare_with_truth,
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
from lift.runtime.parallel import parallel_map
from lift.runtime.session import Session, write_json
from lift.training import CHECKPOINT
from lift.types import Cameras

FLY_THROUGH = "fly_through.json"
"""File of the fly-through's cameras."""
CONTACT_SHEET = "fly_through.jpg"
"""File of the fly-through's contact sheet."""
FIT_OUTPUTS = (CHECKPOINT, "tensorboard", "split.json")
"""Files and folders that are copied from the fit stage."""

SHEET_VIEWS = 8
"""Number of views of the fly-through on its contact sheet."""

MAX_TRUE_VIEWS = 8
"""Approximate number of true views for comparison, if every view is known."""


def deliver(session: Session, scene: SceneQuality) -> Path:
    """Write all results of a run, the report last, and print the verdict.

    Args:
        session: The run, on its main process.
        scene: The results of the stages.

    Returns:
        The run's folder.
    """
    config = session.config
    fit_key = session.stages[-1].key
    source_name = scene.capture.kind if scene.capture else config.prior.name
    name = config.name or f"{source_name}-{config.distortion.name}-{fit_key}"
    folder = Path(config.output) / scene.picture.name / name
    folder.mkdir(parents=True, exist_ok=True)
    _clear(folder)  # a named folder may hold another run's
    session.say("delivering")
    renderer = session.build(renderers)
    cameras = corrected_cameras(scene)
    for item in FIT_OUTPUTS:
        _copy(scene.fit_folder / item, folder / item)
    _write_scene(folder, scene, cameras, config.export.formats)

    fly_through = plan_fly_through(renderer, scene, cameras, config.export.video_frames)
    video = _write_fly_through(folder, renderer, scene, fly_through, config.export.fps)
    frame_metrics = evaluate_frames(renderer, scene)
    metrics = _measure(session, renderer, scene, frame_metrics, fly_through, cameras)
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
    write_report(folder, scene, renderer, frame_metrics, metrics, provenance, video)
    for line in Verdict(metrics["verdict"], tuple(metrics["reasons"])).lines:
        session.say(line)
    return folder


def plan_fly_through(
    renderer: Renderer, scene: SceneQuality, cameras: Cameras, count: int
) -> FlyThrough:
    """Plan the path of the video among the registered frames.

    Args:
        renderer: Renders the scene to measure its coverage.
        scene: The results of the stages.
        cameras: The frames' corrected cameras, the input first.
        count: Number of views.

    Returns:
        The path, its coverage and the factor on its motion.
    """
    registered = registered_frames(scene)
    held_out = held_out_frames(scene)
    train_frames = [index for index in registered if index not in held_out]
    times = frame_times(scene.trajectory)
    if times is not None:
        times = [times[index] for index in registered]
    coverage = Coverage(renderer, scene.gaussians, cameras[train_frames])
    return make_fly_through(cameras[registered], times, scene.depth.typical, count, coverage)


def to_bytes(rgb: Tensor) -> Tensor:
    """Convert colours in [0, 1] to 8 bits.

    Args:
        rgb: Colours of any shape. They are clamped.

    Returns:
        The colours as uint8.
    """
    return (rgb.clamp(0, 1) * 255).round().to(torch.uint8)


def _write_scene(
    folder: Path, scene: SceneQuality, cameras: Cameras, formats: Sequence[str]
) -> None:
    """Write Gaussians, frames, cameras and distortion."""
    write_ply(folder / "gaussians.ply", scene.gaussians)
    for suffix in formats:
        if suffix != "ply":
            export(folder / "gaussians.ply", folder / f"gaussians.{suffix}")
    names = [f"frames/{view:06d}.png" for view in range(len(scene.frames))]
    (folder / "frames").mkdir(exist_ok=True)
    parallel_map(
        lambda view: save_image(folder / names[view], scene.frames.images[view]), range(len(names))
    )
    write_transforms(folder / "transforms.json", cameras, names)
    write_colmap(folder / "colmap", cameras, names, scene.reconstruction.points)
    state = {key: value.contiguous() for key, value in scene.distortion.state_dict().items()}
    save_file(state, folder / "distortion.safetensors")
    (folder / "distortion.safetensors").chmod(0o644)  # its writer leaves it to the owner alone


def _write_fly_through(
    folder: Path, renderer: Renderer, scene: SceneQuality, fly_through: FlyThrough, fps: int
) -> list[UInt8[Tensor, "height width 3"]]:
    """Write video, cameras and contact sheet, and return the pictures of the video."""
    path = fly_through.cameras
    video = [
        to_bytes(render_canonical(renderer, scene.gaussians, path[view]).rgb[0])
        for view in range(len(path))
    ]
    write_video(folder / "video.mp4", torch.stack(video), fps)
    write_transforms(folder / FLY_THROUGH, path, [""] * len(path))
    count = min(SHEET_VIEWS, len(video))
    stills = [video[len(video) * number // count] for number in range(count)]
    save_image(folder / CONTACT_SHEET, contact_sheet(stills, columns=4))
    return video


def _measure(
    session: Session,
    renderer: Renderer,
    scene: SceneQuality,
    frame_metrics: list[FrameMetrics],
    fly_through: FlyThrough,
    cameras: Cameras,
) -> dict[str, Any]:
    """Compute the content of `metrics.json`."""
    config = session.config
    if scene.trajectory.hint in ("planned", "known"):
        path = planned_loop(scene.trajectory, scene.depth.typical, config.export.video_frames)
    else:
        path = fly_through.cameras
    truth = truth_of(session.image, scene.picture, path[:: max(1, len(path) // MAX_TRUE_VIEWS)])
    truth_metrics = compare_with_truth(renderer, scene, truth) if truth else None
    metrics = summarize(scene, frame_metrics, fly_through, config.fit.max_gaussians, truth_metrics)
    if scene.true_cameras is not None:
        with suppress(ValueError):  # no similarity aligns positions on one line
            metrics["cameras"] = camera_errors(cameras, scene.true_cameras, scene.depth.typical)
    return metrics


def _clear(folder: Path) -> None:
    """Remove results of an earlier run."""
    for old in [folder / "frames", folder / "colmap", *folder.glob("gaussians.*")]:
        shutil.rmtree(old) if old.is_dir() else old.unlink(missing_ok=True)


def _copy(source: Path, target: Path) -> None:
    """Replace the file or folder `to` by a copy."""
    if source.is_dir():
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target)
    else:
        temporary = target.with_name(target.name + ".draft")
        shutil.copyfile(source, temporary)
        os.replace(temporary, target)


def render_run(
    run: Path,
    output: Path,
    camera_path: Path | None,
    size: int | None,
    fps: int,
    renderer: str | None,
) -> Path:
    """Render cameras to a video or to a folder of PNG files.

    Args:
        run: Folder of a finished run.
        output: A file name that ends with .mp4, or a folder.
        camera_path: File or folder of cameras in the run's world. None renders the fly-through.
        size: Longer side of the pictures in pixels. None uses the cameras' size.
        fps: Frames per second of a video.
        renderer: Name of a renderer. None uses the run's.

    Returns:
        `output`.

    Raises:
        FileNotFoundError: `run` is not a finished run.
        ValueError: `output` has another suffix or is a file, or `size` is below 16.
    """
    if not (run / "gaussians.ply").is_file():
        raise FileNotFoundError(f"there is no finished run at {run}: it has no gaussians.ply")
    if output.suffix not in ("", ".mp4"):
        raise ValueError(
            f"--to is {str(output)!r}; choose a name that ends with .mp4, or a folder without a "
            "suffix"
        )
    cameras = read_cameras(camera_path or run / FLY_THROUGH)
    if size is not None and size < 16:
        raise ValueError(f"--size is {size}; choose at least 16 pixels")
    if output.is_file() and not output.suffix:
        raise ValueError(
            f"--to is {str(output)!r}, a file; choose a folder, or a name that ends with .mp4"
        )
    if size:
        factor = size / max(cameras.width, cameras.height)
        cameras = cameras.resized(round(cameras.width * factor), round(cameras.height * factor))
    chosen_renderer = _build_renderer(run, renderer)
    gaussians = read_ply(run / "gaussians.ply")
    views = track(
        range(len(cameras)), description="rendering", console=Console(stderr=True), transient=True
    )
    pictures = torch.stack(
        [
            to_bytes(render_canonical(chosen_renderer, gaussians, cameras[view]).rgb[0])
            for view in views
        ]
    )
    _write_pictures(output, pictures, fps)
    return output


def _write_pictures(
    output: Path, pictures: UInt8[Tensor, "frame height width 3"], fps: int
) -> None:
    """Write pictures to a video, or to a folder of PNG files."""
    output.parent.mkdir(parents=True, exist_ok=True)
    if output.suffix:
        write_video(output, pictures, fps)
    else:
        output.mkdir(exist_ok=True)
        for view, picture in enumerate(pictures):
            save_image(output / f"{view:06d}.png", picture)


def _build_renderer(run: Path, name: str | None) -> Renderer:
    """Build a renderer by name, or that of a run."""
    if name:
        config: dict[str, Any] = {"name": name}
    else:
        run_config = cast(DictConfig, OmegaConf.load(run / "config.yaml"))
        config = cast(dict[str, Any], OmegaConf.to_container(run_config.renderer))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return renderers.build(config, device=device)
