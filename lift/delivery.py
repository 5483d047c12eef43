"""What a finished run leaves: the canonical scene as files, its cameras, a fly-through, measurements, a report."""

import math
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from rich.console import Console
from rich.progress import track
from safetensors.torch import save_file
from torch import Tensor

from lift.distortions import Distortion
from lift.distortions.neighbours import infer_held_out
from lift.evaluation.diagnosis import diagnose
from lift.evaluation.metrics import camera_errors, depth_errors, psnr, ssim
from lift.evaluation.truth import Truth, truth_of
from lift.geometry import look_at, rotation_angle, transform_cameras
from lift.io.cameras import read_cameras, write_colmap, write_transforms
from lift.io.capture import Capture
from lift.io.image import Picture, save_image
from lift.io.splats import export, read_ply, write_ply
from lift.io.video import write_video
from lift.parallel import each
from lift.renderers import Renderer, renderers
from lift.report import write_report
from lift.session import Session, write_json
from lift.training import CHECKPOINT
from lift.types import Cameras, Depth, Frames, Gaussians, Reconstruction, Render, Trajectory

FLY_THROUGH = "fly_through.json"
FLY_REACH = 0.3
"""How far the fly-through of a capture goes from the input view, at most, in typical depths."""
FROM_FIT = (CHECKPOINT, "tensorboard", "split.json")


@dataclass(frozen=True)
class Scene:
    """Everything that a run made."""

    picture: Picture
    depth: Depth
    trajectory: Trajectory
    frames: Frames
    reconstruction: Reconstruction
    gaussians: Gaussians
    distortion: Distortion
    fitted: Path
    """Folder of the fit stage: checkpoint and TensorBoard logs."""
    taken: Cameras | None = None
    """Where the frames were really taken, if that is known."""
    capture: Capture | None = None
    """What the frames are, if they were taken and not generated."""


@dataclass(frozen=True)
class FrameFinding:
    """What is known of one frame after the fit."""

    view: int
    clip: str
    psnr: float
    """dB between the frame and the canonical scene seen from the frame's camera."""
    psnr_distorted: float
    """The same with the frame's learned distortion applied. Of a held-out frame the distortion is inferred from its neighbours
    (`lift.distortions.neighbours`)."""
    held_out: bool
    rotation: float
    """Degrees by which the distortion turned the frame's camera."""
    translation: float
    """How far it moved the camera, in units of the scene's typical depth."""
    motion: float
    """Mean displacement of the Gaussians, likewise."""
    color: float
    """Mean absolute change of the rendered picture by the image hook, in [0, 1]."""
    shares: dict[str, float]
    """Of the squared difference to the canonical scene: camera, geometry, appearance, unexplained (`lift.evaluation.diagnosis`)."""


def deliver(session: Session, scene: Scene) -> Path:
    """Writes everything, the report last, and returns the folder."""
    config = session.config
    fit_key = session.stages[-1].key
    maker = scene.capture.kind if scene.capture else config.prior.name
    name = config.name or f"{maker}-{config.distortion.name}-{fit_key}"
    folder = Path(config.output) / scene.picture.name / name
    folder.mkdir(parents=True, exist_ok=True)
    _clear(folder)  # a named folder may hold another run's
    session.say("delivering")
    renderer = session.build(renderers)
    cameras = corrected(scene)

    for item in FROM_FIT:
        _copy(scene.fitted / item, folder / item)
    write_ply(folder / "gaussians.ply", scene.gaussians)
    for suffix in config.deliver.formats:
        if suffix != "ply":
            export(folder / "gaussians.ply", folder / f"gaussians.{suffix}")
    names = [f"frames/{view:06d}.png" for view in range(len(scene.frames))]
    (folder / "frames").mkdir(exist_ok=True)
    each(lambda view: save_image(folder / names[view], scene.frames.images[view]), range(len(names)))
    write_transforms(folder / "transforms.json", cameras, names)
    write_colmap(folder / "colmap", cameras, names, scene.reconstruction.points)
    save_file({key: value.contiguous() for key, value in scene.distortion.state_dict().items()}, folder / "distortion.safetensors")
    (folder / "distortion.safetensors").chmod(0o644)  # its writer leaves it to the owner alone

    path = fly_through(scene, config.deliver.video_frames)
    video = [bytes_of(canonical(renderer, scene.gaussians, path[view]).rgb[0]) for view in range(len(path))]
    write_video(folder / "video.mp4", torch.stack(video), config.deliver.fps)
    write_transforms(folder / FLY_THROUGH, path, [""] * len(path))

    findings = look(renderer, scene, session.say)
    truth = truth_of(session.image, scene.picture, path[:: max(1, len(path) // 8)])
    compared = compare(renderer, scene, truth) if truth else None
    metrics = summary(scene, findings, compared)
    if scene.taken is not None:
        with suppress(ValueError):  # of positions on one line, which no similarity aligns
            metrics["cameras"] = camera_errors(cameras, scene.taken, scene.depth.typical)
    write_json(folder / "metrics.json", metrics)
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(config, resolve=True))
    provenance = session.provenance()
    if scene.capture:
        source = {"kind": scene.capture.kind, "hint": scene.trajectory.hint, "frames": list(scene.capture.names)}
        provenance["source"] = source
    write_json(folder / "provenance.json", provenance)
    write_report(folder, scene, renderer, findings, metrics, provenance, video)
    return folder


@torch.no_grad()
def canonical(renderer: Renderer, gaussians: Gaussians, cameras: Cameras) -> Render:
    """The undistorted scene over black, on the CPU, wherever the renderer works."""
    device = renderer.device
    render = renderer(gaussians.to(device), cameras.to(device))
    return Render(render.rgb.cpu(), render.alpha.cpu(), render.depth.cpu())


def bytes_of(rgb: Tensor) -> Tensor:
    return (rgb.clamp(0, 1) * 255).round().to(torch.uint8)


@torch.no_grad()
def corrected(scene: Scene) -> Cameras:
    """Where the frames were taken, as far as reconstruction and distortion know."""
    return scene.distortion.cameras(scene.reconstruction.cameras, torch.arange(len(scene.frames)))


def fly_through(scene: Scene, count: int) -> Cameras:
    """A closed loop about the input view, within what the frames covered, looking at the middle of the scene.

    Frames that were taken may lie all around the scene; then the loop stays near the input view."""
    planned = scene.trajectory.hint == "planned"
    cameras = scene.trajectory.cameras if planned else scene.reconstruction.cameras
    start = cameras.world_to_camera[0]
    centers = cameras.centers @ start[:3, :3].T + start[:3, 3]  # in the input camera's frame
    reach_x, reach_y = (0.8 * centers[:, axis].abs().max() for axis in (0, 1))
    near, far = centers[:, 2].max().clamp(min=0), centers[:, 2].min().clamp(max=0)
    if not planned:
        reach = FLY_REACH * scene.depth.typical
        reach_x, reach_y = reach_x.clamp(max=reach), reach_y.clamp(max=reach)
        near, far = near.clamp(max=reach), far.clamp(min=-reach)
    turn = torch.linspace(0, 2 * math.pi, count + 1)[:-1]
    eye = torch.stack(
        [reach_x * turn.sin(), 0.5 * reach_y * (2 * turn).sin(), torch.where(turn < math.pi, near, far) * 0.8 * turn.sin() ** 2], dim=-1
    )
    middle = torch.tensor([0.0, 0.0, scene.depth.typical]).expand(count, 3)
    local = look_at(eye, middle, torch.tensor([0.0, 1.0, 0.0]).expand(count, 3))
    return Cameras(local @ start, cameras.intrinsics[:1].expand(count, 3, 3).clone(), cameras.width, cameras.height)


@torch.no_grad()
def look(renderer: Renderer, scene: Scene, say: Callable[[str], None]) -> list[FrameFinding]:
    """Renders every frame's view, canonical and distorted, and says how they differ from the frame."""
    extent, device = scene.depth.typical, renderer.device
    clips = ["input"] + [clip.name for clip in scene.trajectory.clips for _ in range(len(clip.cameras))]
    held_out = set(OmegaConf.load(scene.fitted / "split.json").held_out)
    distortion = infer_held_out(scene.distortion, scene.trajectory, held_out).to(device)
    gaussians, cameras = scene.gaussians.to(device), scene.reconstruction.cameras.to(device)
    findings = []
    for index, clip in enumerate(clips):
        view = torch.tensor([index], device=device)
        target = scene.frames[index].rgb[0].to(device)
        camera = cameras[index]
        moved, shifted = distortion.cameras(camera, view), distortion.gaussians(gaussians, view)
        plain = renderer(gaussians, camera)
        raw = plain if moved is camera and shifted is gaussians else renderer(shifted, moved)
        rendered = {(False, False): plain, (moved is not camera, shifted is not gaussians): raw}
        final = distortion.image(raw, view)
        findings.append(
            FrameFinding(
                index, clip, psnr(plain.rgb[0], target), psnr(final.rgb[0], target), index in held_out,
                float(rotation_angle(camera.world_to_camera[:, :3, :3], moved.world_to_camera[:, :3, :3])[0]),
                float((moved.centers - camera.centers).norm()) / extent,
                float((shifted.means - gaussians.means).norm(dim=-1).mean()) / extent,
                float((final.rgb - raw.rgb).abs().mean()), diagnose(renderer, distortion, gaussians, camera, target, index, rendered),
            )  # fmt: skip
        )
    return findings


def compare(renderer: Renderer, scene: Scene, truth: Truth) -> dict[str, Any]:
    """The canonical scene beside true views. Scale alignment: the median ratio of the input view's estimated and true depth."""
    valid = scene.depth.valid & truth.depth.valid
    depth = depth_errors(scene.depth.depth, truth.depth.depth, valid)
    aligned = transform_cameras(truth.cameras, depth["scale"], torch.eye(3), torch.zeros(3))
    renders = [canonical(renderer, scene.gaussians, aligned[view]).rgb[0] for view in range(len(aligned))]
    scores = [(psnr(render, true), ssim(render, true)) for render, true in zip(renders, truth.frames.rgb, strict=True)]
    return {
        "source": truth.source,
        "alignment": "scale: median of estimated / true depth of the input view",
        "views": len(scores),
        "psnr": sum(s[0] for s in scores) / len(scores),
        "ssim": sum(s[1] for s in scores) / len(scores),
        "depth": depth,
    }


def summary(scene: Scene, findings: list[FrameFinding], compared: dict[str, Any] | None) -> dict[str, Any]:
    """What `metrics.json` holds; PSNR in dB."""

    def mean(values: list[float]) -> float | None:
        return sum(values) / len(values) if values else None

    generated = findings[1:]
    return {
        "gaussians": len(scene.gaussians),
        "frames": len(findings),
        "clips": len(scene.trajectory.clips),
        "input_psnr": findings[0].psnr,
        "frames_psnr": mean([f.psnr for f in generated if not f.held_out]),
        "frames_psnr_distorted": mean([f.psnr_distorted for f in generated if not f.held_out]),
        "held_out_psnr": mean([f.psnr for f in generated if f.held_out]),
        "held_out_psnr_distorted": mean([f.psnr_distorted for f in generated if f.held_out]),
        "truth": compared,
        "distortion": scene.distortion.account(),
        "diagnosis": [{"frame": f.view, "clip": f.clip, "held_out": f.held_out, "psnr": f.psnr, **f.shares} for f in generated],
    }


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


def render_run(run: Path, to: Path, path: Path | None, size: int | None, fps: int, renderer: str | None) -> Path:
    """Renders cameras, the run's fly-through unless `path` names others (in the run's world), to a video or a folder of PNG files.

    Raises FileNotFoundError if `run` is not a finished run, ValueError for a suffix of `to` that is not a video's.
    """
    if not (run / "gaussians.ply").is_file():
        raise FileNotFoundError(f"there is no finished run at {run}: it has no gaussians.ply")
    if to.suffix not in ("", ".mp4"):
        raise ValueError(f"--to is {str(to)!r}; choose a name that ends with .mp4, or a folder without a suffix")
    cameras = read_cameras(path or run / FLY_THROUGH)
    if size is not None and size < 16:
        raise ValueError(f"--size is {size}; choose at least 16 pixels")
    if to.is_file() and not to.suffix:
        raise ValueError(f"--to is {str(to)!r}, a file; choose a folder, or a name that ends with .mp4")
    if size:
        factor = size / max(cameras.width, cameras.height)
        cameras = cameras.resized(round(cameras.width * factor), round(cameras.height * factor))
    named = {"name": renderer} if renderer else OmegaConf.to_container(OmegaConf.load(run / "config.yaml").renderer)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    made, gaussians = renderers.build(named, device=device), read_ply(run / "gaussians.ply")
    views = track(range(len(cameras)), description="rendering", console=Console(stderr=True), transient=True)
    pictures = torch.stack([bytes_of(canonical(made, gaussians, cameras[view]).rgb[0]) for view in views])
    to.parent.mkdir(parents=True, exist_ok=True)
    if to.suffix:
        write_video(to, pictures, fps)
    else:
        to.mkdir(exist_ok=True)
        for view, picture in enumerate(pictures):
            save_image(to / f"{view:06d}.png", picture)
    return to
