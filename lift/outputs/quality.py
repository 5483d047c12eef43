"""Measure the result of a run after the fit."""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lift.distortions import Distortion
from lift.distortions.parameters.neighbours import infer_held_out
from lift.evaluation.diagnosis import diagnose
from lift.evaluation.metrics import depth_errors, psnr, ssim
from lift.evaluation.truth import Truth
from lift.geometry import rotation_angle, transform_cameras
from lift.io.capture import Capture
from lift.io.image import Picture
from lift.outputs.fly_through import FlyThrough
from lift.outputs.verdict import Evidence, SceneNumbers, assess_scene
from lift.renderers import Renderer
from lift.types import Cameras, Depth, Frames, Gaussians, Reconstruction, Render, Trajectory


@dataclass(frozen=True)
class RunResult:
    """Everything that a run computed."""

    picture: Picture
    """The input picture with its camera."""
    depth: Depth
    """Depth of the input."""
    trajectory: Trajectory
    """The planned clips."""
    frames: Frames
    """All frames, the input first."""
    reconstruction: Reconstruction
    """Cameras, points and depths of the frames."""
    gaussians: Gaussians
    """The canonical scene."""
    distortion: Distortion
    """The learned distortion of each frame."""
    fit_folder: Path
    """Folder of the fit stage with checkpoint and TensorBoard logs."""
    true_cameras: Cameras | None = None
    """True cameras of the frames, if they are known."""
    capture: Capture | None = None
    """The source of the frames, if they are recorded and not generated."""
    multiview_consistent: bool = False
    """Whether all frames show one scene from exactly the cameras of the reconstruction."""

    @property
    def is_generated(self) -> bool:
        """Whether a prior made the frames, along a planned path."""
        return self.capture is None and self.trajectory.hint in ("planned", "known")


@dataclass(frozen=True)
class FrameMetrics:
    """Measurements of one frame after the fit."""

    view: int
    """Index of the frame."""
    clip: str
    """Name of the frame's clip, or "input"."""
    psnr: float
    """dB between the frame and the canonical scene rendered from the frame's camera."""
    psnr_distorted: float
    """dB with the frame's learned distortion applied.

    The distortion of a held-out frame is inferred from its neighbours
    (`lift.distortions.parameters.neighbours`).
    """
    held_out: bool
    """Whether the frame was excluded from the fit."""
    rotation: float
    """Rotation of the frame's camera by the distortion, in degrees."""
    translation: float
    """Translation of the frame's camera by the distortion, divided by the scene's typical depth."""
    motion: float
    """Mean displacement of the Gaussians, divided by the scene's typical depth."""
    color: float
    """Mean absolute change of the rendered picture by the image hook, in [0, 1]."""
    error_fractions: dict[str, float]
    """Fractions of the squared difference to the canonical scene: camera, geometry, appearance and
    unexplained (`lift.evaluation.diagnosis`).
    """
    registered: bool = True
    """Whether the frame's camera was registered. If not, the other values are meaningless."""


@torch.no_grad()
def render_canonical(renderer: Renderer, gaussians: Gaussians, cameras: Cameras) -> Render:
    """Render the scene without distortion over black.

    Args:
        renderer: Renders on its own device.
        gaussians: The canonical scene.
        cameras: Views to render.

    Returns:
        The views, on the CPU.
    """
    device = renderer.device
    render = renderer(gaussians.to(device), cameras.to(device))
    return Render(render.rgb.cpu(), render.alpha.cpu(), render.depth.cpu())


@torch.no_grad()
def corrected_cameras(result: RunResult) -> Cameras:
    """Apply the learned corrections to the frames' cameras.

    Args:
        result: The result of a run.

    Returns:
        The cameras, the input first.
    """
    return result.distortion.cameras(
        result.reconstruction.cameras, torch.arange(len(result.frames))
    )


def registered_frames(result: RunResult) -> list[int]:
    """List the frames whose camera was registered.

    Args:
        result: The result of a run.

    Returns:
        Indices of the frames. The input, 0, is always among them.
    """
    confident = result.reconstruction.registered
    return [index for index in range(len(result.frames)) if index == 0 or confident[index]]


def held_out_frames(result: RunResult) -> set[int]:
    """List the frames that were excluded from the fit.

    Args:
        result: The result of a run.

    Returns:
        Indices of the frames.
    """
    return set(
        json.loads((result.fit_folder / "split.json").read_text(encoding="utf-8"))["held_out"]
    )


def max_parallax(result: RunResult, cameras: Cameras) -> float | None:
    """Compute the largest angle by which the camera moved, as seen from the centre of the scene.

    Args:
        result: The result of a run. Its typical depth is the distance of the centre.
        cameras: The frames' cameras, the input first.

    Returns:
        Degrees between the directions of the input and of the most distant registered camera. None
        if only the input is registered.
    """
    registered = registered_frames(result)[1:]
    if not registered:
        return None
    centers = cameras.centers
    max_distance = (centers[registered] - centers[0]).norm(dim=-1).max()
    return math.degrees(math.atan2(float(max_distance), result.depth.typical))


@torch.no_grad()
def evaluate_frames(renderer: Renderer, result: RunResult) -> list[FrameMetrics]:
    """Compare every frame with the canonical and with the distorted scene from its camera.

    Args:
        renderer: Renders on its own device.
        result: The result of a run.

    Returns:
        Measurements of each frame, the input first.
    """
    clips = ["input"]
    for clip in result.trajectory.clips:
        clips += [clip.name] * len(clip.cameras)
    held_out = held_out_frames(result)
    inferred = infer_held_out(result.distortion, result.trajectory, held_out)
    distortion = inferred.to(renderer.device)
    registered = set(registered_frames(result))
    gaussians = result.gaussians.to(renderer.device)
    cameras = result.reconstruction.cameras.to(renderer.device)
    unit = result.depth.typical  # a median over a picture, which takes as long as a render
    full = torch.tensor(255.0, device=renderer.device)  # a GPU divides less exactly by a number
    frame_metrics = []
    for view, clip in enumerate(clips):
        target = result.frames.images[view].to(renderer.device).float() / full
        values = _evaluate_frame(renderer, distortion, gaussians, cameras[view], target, view, unit)
        frame_metrics.append(
            FrameMetrics(
                view=view,
                clip=clip,
                held_out=view in held_out,
                registered=view in registered,
                **values,
            )
        )
    return frame_metrics


def _evaluate_frame(
    renderer: Renderer,
    distortion: Distortion,
    gaussians: Gaussians,
    camera: Cameras,
    target: Tensor,
    index: int,
    unit: float,
) -> dict[str, Any]:
    """Measure one frame. All are on the renderer's device. `unit` is the typical depth."""
    view = torch.tensor([index], device=renderer.device)
    corrected_camera = distortion.cameras(camera, view)
    corrected_gaussians = distortion.gaussians(gaussians, view)
    canonical = renderer(gaussians, camera)
    corrected = (corrected_camera is not camera, corrected_gaussians is not gaussians)
    distorted = renderer(corrected_gaussians, corrected_camera) if any(corrected) else canonical
    renders = {(False, False): canonical, corrected: distorted}
    final = distortion.image(distorted, view)
    camera_shift = (corrected_camera.centers - camera.centers).norm()
    gaussian_shifts = (corrected_gaussians.means - gaussians.means).norm(dim=-1)
    angle = rotation_angle(
        camera.world_to_camera[:, :3, :3], corrected_camera.world_to_camera[:, :3, :3]
    )
    return {
        "psnr": psnr(canonical.rgb[0], target),
        "psnr_distorted": psnr(final.rgb[0], target),
        "rotation": float(angle[0]),
        "translation": float(camera_shift) / unit,
        "motion": float(gaussian_shifts.mean()) / unit,
        "color": float((final.rgb - distorted.rgb).abs().mean()),
        "error_fractions": diagnose(
            renderer, distortion, gaussians, camera, target, index, renders
        ),
    }


def compare_with_truth(renderer: Renderer, result: RunResult, truth: Truth) -> dict[str, Any]:
    """Compare the canonical scene with true views.

    The scales are aligned by the median ratio of the input view's estimated and true depth.

    Args:
        renderer: Renders on its own device.
        result: The result of a run.
        truth: True views and the true depth of the input.

    Returns:
        The entry `truth` of `metrics.json`: the source and the number of views, mean `psnr` in dB
        and mean `ssim`, and the errors of the depth.
    """
    valid = result.depth.valid & truth.depth.valid
    depth = depth_errors(result.depth.depth, truth.depth.depth, valid)
    aligned = transform_cameras(truth.cameras, depth["scale"], torch.eye(3), torch.zeros(3))
    renders = [
        render_canonical(renderer, result.gaussians, aligned[view]).rgb[0]
        for view in range(len(aligned))
    ]
    scores = [
        (psnr(render, true), ssim(render, true))
        for render, true in zip(renders, truth.frames.rgb, strict=True)
    ]
    return {
        "source": truth.source,
        "alignment": "scale: median of estimated / true depth of the input view",
        "views": len(scores),
        "psnr": sum(s[0] for s in scores) / len(scores),
        "ssim": sum(s[1] for s in scores) / len(scores),
        "depth": depth,
    }


def collect_numbers(
    result: RunResult,
    frame_metrics: list[FrameMetrics],
    fly_through: FlyThrough,
    max_gaussians: int,
    truth_metrics: dict[str, Any] | None = None,
) -> SceneNumbers:
    """Collect the measurements that the verdict uses.

    Args:
        result: The result of a run.
        frame_metrics: Measurements of each frame, the input first.
        fly_through: The fly-through and its coverage.
        max_gaussians: Number of Gaussians that the settings allow.
        truth_metrics: Result of `compare_with_truth`. None if no truth is known.

    Returns:
        The measurements.
    """
    camera = result.picture.cameras
    train_frames = [f for f in frame_metrics[1:] if f.registered and not f.held_out]
    return SceneNumbers(
        frames=len(frame_metrics),
        registered_frames=1 + sum(f.registered for f in frame_metrics[1:]),
        gaussians=len(result.gaussians),
        max_gaussians=min(max_gaussians, camera.width * camera.height),
        input_psnr=frame_metrics[0].psnr,
        held_out_psnr=_mean([f.psnr for f in frame_metrics[1:] if f.held_out]),
        frames_psnr=_mean([f.psnr for f in train_frames]),
        frames_psnr_distorted=_mean([f.psnr_distorted for f in train_frames]),
        true_psnr=truth_metrics["psnr"] if truth_metrics else None,
        min_coverage=float(fly_through.coverage.min()),
        parallax=max_parallax(result, corrected_cameras(result)),
        fly_through_scale=fly_through.scale,
    )


def summarize(
    result: RunResult,
    frame_metrics: list[FrameMetrics],
    fly_through: FlyThrough,
    max_gaussians: int,
    truth_metrics: dict[str, Any] | None = None,
    input_coverage: Tensor | None = None,
) -> dict[str, Any]:
    """Assess the scene, and collect the content of `metrics.json`, most important entries first.

    Args:
        result: The result of a run.
        frame_metrics: Measurements of each frame, the input first.
        fly_through: The fly-through and its coverage.
        max_gaussians: Number of Gaussians that the settings allow.
        truth_metrics: Result of `compare_with_truth`. None if no truth is known.
        input_coverage: Coverage by the input alone, of the same views as that of the fly-through.
            None if no frames were generated.

    Returns:
        Numbers and texts by name. PSNR is in dB. None stands for a value that was not measured
        or is NaN.
    """
    numbers = collect_numbers(result, frame_metrics, fly_through, max_gaussians, truth_metrics)
    verdict = assess_scene(numbers)
    evidence: Evidence = "frames"
    if truth_metrics:
        evidence = "truth"
    elif result.capture is not None and numbers.held_out_psnr is not None:
        evidence = "pictures"
    held_out_psnrs = [f.psnr_distorted for f in frame_metrics[1:] if f.held_out]
    return {
        "verdict": verdict.level,
        "reasons": list(verdict.reasons),
        "evidence": evidence,
        "findings": [asdict(finding) for finding in verdict.findings],
        "input_psnr": _finite(numbers.input_psnr),
        "held_out_psnr": _finite(numbers.held_out_psnr),
        "held_out_psnr_distorted": _finite(_mean(held_out_psnrs)),
        "coverage": _coverage_entry(fly_through, input_coverage),
        "gaussians": numbers.gaussians,
        "registered_frames": numbers.registered_frames,
        "frames": numbers.frames,
        "fly_through_scale": fly_through.scale,
        "parallax": _finite(numbers.parallax),
        "clips": len(result.trajectory.clips),
        "frames_psnr": _finite(numbers.frames_psnr),
        "frames_psnr_distorted": _finite(numbers.frames_psnr_distorted),
        "truth": truth_metrics,
        "distortion": result.distortion.summary(),
        "diagnosis": [_diagnosis_entry(frame) for frame in frame_metrics[1:]],
    }


def _coverage_entry(fly_through: FlyThrough, input_coverage: Tensor | None) -> dict[str, float]:
    """Return the entry `coverage` of `metrics.json`: by all frames, and by the input alone."""
    entry = {
        "mean": float(fly_through.coverage.mean()),
        "min": float(fly_through.coverage.min()),
    }
    if input_coverage is not None:
        entry["input_mean"] = float(input_coverage.mean())
        entry["input_min"] = float(input_coverage.min())
    return entry


def _diagnosis_entry(frame: FrameMetrics) -> dict[str, Any]:
    """Return the entry of one frame in `diagnosis` of `metrics.json`."""
    return {
        "frame": frame.view,
        "clip": frame.clip,
        "held_out": frame.held_out,
        "psnr": _finite(frame.psnr),
        **frame.error_fractions,
    }


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _finite(value: float | None) -> float | None:
    """Replace NaN and infinity by None, because JSON cannot hold them."""
    return value if value is not None and math.isfinite(value) else None
