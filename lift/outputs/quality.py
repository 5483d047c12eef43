"""What a run made, and what is measured of it once the fit is done."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from lift.distortions import Distortion
from lift.distortions.neighbours import infer_held_out
from lift.evaluation.diagnosis import diagnose
from lift.evaluation.metrics import depth_errors, psnr, ssim
from lift.evaluation.truth import Truth
from lift.geometry import rotation_angle, transform_cameras
from lift.io.capture import Capture
from lift.io.image import Picture
from lift.outputs.fly_through import FlyThrough
from lift.outputs.verdict import SceneNumbers, judge_scene
from lift.renderers import Renderer
from lift.types import Cameras, Depth, Frames, Gaussians, Reconstruction, Render, Trajectory


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
    """The same with the frame's learned distortion applied. Of a held-out frame the distortion is
    inferred from its neighbours (`lift.distortions.neighbours`)."""
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
    """Of the squared difference to the canonical scene: camera, geometry, appearance, unexplained
    (`lift.evaluation.diagnosis`)."""
    registered: bool = True
    """Whether the frame's camera was found. The other values mean nothing if it was not."""


@torch.no_grad()
def render_canonical(renderer: Renderer, gaussians: Gaussians, cameras: Cameras) -> Render:
    """Render the undistorted scene over black.

    Args:
        renderer: Works on its own device.
        gaussians: The canonical scene.
        cameras: Views to render.

    Returns:
        The views, on the CPU.
    """
    device = renderer.device
    render = renderer(gaussians.to(device), cameras.to(device))
    return Render(render.rgb.cpu(), render.alpha.cpu(), render.depth.cpu())


@torch.no_grad()
def corrected_cameras(scene: Scene) -> Cameras:
    """Return the frames' cameras, the learned corrections applied, the input first."""
    return scene.distortion.cameras(scene.reconstruction.cameras, torch.arange(len(scene.frames)))


def registered_frames(scene: Scene) -> list[int]:
    """Return the indices of the frames whose camera was found, the input, 0, always among them."""
    confident = scene.reconstruction.confidence.flatten(1).any(1)
    return [index for index in range(len(scene.frames)) if index == 0 or confident[index]]


def held_out_frames(scene: Scene) -> set[int]:
    """Return the indices of the frames that the fit did not see."""
    return set(OmegaConf.load(scene.fitted / "split.json").held_out)


def largest_parallax(scene: Scene, cameras: Cameras) -> float | None:
    """Compute how far the camera moved, as seen from the middle of the scene.

    Args:
        scene: Its depth gives the distance of the middle.
        cameras: The frames' cameras, the input first.

    Returns:
        Degrees between the input's and the most distant registered camera's direction; None if
        there is only the input.
    """
    others = registered_frames(scene)[1:]
    if not others:
        return None
    centers = cameras.centers
    distance = (centers[others] - centers[0]).norm(dim=-1).max()
    return math.degrees(math.atan2(float(distance), scene.depth.typical))


@torch.no_grad()
def evaluate_frames(renderer: Renderer, scene: Scene) -> list[FrameFinding]:
    """Compare every frame with the canonical and the distorted scene from its camera.

    Args:
        renderer: Works on its own device.
        scene: What the run made.

    Returns:
        One finding a frame, the input first.
    """
    clips = ["input"]
    for clip in scene.trajectory.clips:
        clips += [clip.name] * len(clip.cameras)
    held_out = held_out_frames(scene)
    inferred = infer_held_out(scene.distortion, scene.trajectory, held_out)
    distortion = inferred.to(renderer.device)
    registered = set(registered_frames(scene))
    gaussians = scene.gaussians.to(renderer.device)
    cameras = scene.reconstruction.cameras.to(renderer.device)
    findings = []
    for index, clip in enumerate(clips):
        measured = _evaluate_frame(renderer, scene, distortion, gaussians, cameras[index], index)
        findings.append(
            FrameFinding(
                view=index,
                clip=clip,
                held_out=index in held_out,
                registered=index in registered,
                **measured,
            )
        )
    return findings


def _evaluate_frame(
    renderer: Renderer,
    scene: Scene,
    distortion: Distortion,
    gaussians: Gaussians,
    camera: Cameras,
    index: int,
) -> dict[str, Any]:
    """Measure one frame; everything lies on the renderer's device."""
    extent = scene.depth.typical
    view = torch.tensor([index], device=renderer.device)
    target = scene.frames[index].rgb[0].to(renderer.device)
    moved = distortion.cameras(camera, view)
    shifted = distortion.gaussians(gaussians, view)
    plain = renderer(gaussians, camera)
    raw = plain if moved is camera and shifted is gaussians else renderer(shifted, moved)
    rendered = {(False, False): plain, (moved is not camera, shifted is not gaussians): raw}
    final = distortion.image(raw, view)
    turned = rotation_angle(camera.world_to_camera[:, :3, :3], moved.world_to_camera[:, :3, :3])
    return {
        "psnr": psnr(plain.rgb[0], target),
        "psnr_distorted": psnr(final.rgb[0], target),
        "rotation": float(turned[0]),
        "translation": float((moved.centers - camera.centers).norm()) / extent,
        "motion": float((shifted.means - gaussians.means).norm(dim=-1).mean()) / extent,
        "color": float((final.rgb - raw.rgb).abs().mean()),
        "shares": diagnose(renderer, distortion, gaussians, camera, target, index, rendered),
    }


def compare(renderer: Renderer, scene: Scene, truth: Truth) -> dict[str, Any]:
    """Compare the canonical scene with true views.

    The scales are aligned by the median ratio of the input view's estimated and true depth.
    """
    valid = scene.depth.valid & truth.depth.valid
    depth = depth_errors(scene.depth.depth, truth.depth.depth, valid)
    aligned = transform_cameras(truth.cameras, depth["scale"], torch.eye(3), torch.zeros(3))
    renders = [
        render_canonical(renderer, scene.gaussians, aligned[view]).rgb[0]
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
    scene: Scene,
    findings: list[FrameFinding],
    flight: FlyThrough,
    gaussians_limit: int,
    compared: dict[str, Any] | None = None,
) -> SceneNumbers:
    """Collect the numbers that the verdict is drawn from; arguments as in `summarize`."""
    camera = scene.picture.cameras
    fitted = [f for f in findings[1:] if f.registered and not f.held_out]
    return SceneNumbers(
        frames=len(findings),
        placed_frames=1 + sum(f.registered for f in findings[1:]),
        gaussians=len(scene.gaussians),
        gaussians_limit=min(gaussians_limit, camera.width * camera.height),
        input_psnr=findings[0].psnr,
        held_out_psnr=_mean([f.psnr for f in findings[1:] if f.held_out]),
        frames_psnr=_mean([f.psnr for f in fitted]),
        frames_psnr_distorted=_mean([f.psnr_distorted for f in fitted]),
        true_psnr=compared["psnr"] if compared else None,
        smallest_coverage=float(flight.coverage.min()),
        parallax=largest_parallax(scene, corrected_cameras(scene)),
        fly_through_scale=flight.scale,
    )


def summarize(
    scene: Scene,
    findings: list[FrameFinding],
    flight: FlyThrough,
    gaussians_limit: int,
    compared: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Draw the verdict and collect what `metrics.json` holds, the most important first.

    Args:
        scene: What the run made.
        findings: One a frame, the input first.
        flight: The fly-through and its coverage.
        gaussians_limit: Number of Gaussians that the settings allow.
        compared: What `compare` says; None if no truth is known.

    Returns:
        Numbers and texts under their names. PSNR is in dB. None stands for what was not measured or
        is NaN.
    """
    numbers = collect_numbers(scene, findings, flight, gaussians_limit, compared)
    verdict = judge_scene(numbers)
    inferred = [f.psnr_distorted for f in findings[1:] if f.held_out]
    return {
        "verdict": verdict.level,
        "reasons": list(verdict.reasons),
        "input_psnr": _finite(numbers.input_psnr),
        "held_out_psnr": _finite(numbers.held_out_psnr),
        "held_out_psnr_distorted": _finite(_mean(inferred)),
        "coverage": {
            "mean": float(flight.coverage.mean()),
            "smallest": float(flight.coverage.min()),
        },
        "gaussians": numbers.gaussians,
        "placed_frames": numbers.placed_frames,
        "frames": numbers.frames,
        "fly_through_scale": flight.scale,
        "parallax": _finite(numbers.parallax),
        "clips": len(scene.trajectory.clips),
        "frames_psnr": _finite(numbers.frames_psnr),
        "frames_psnr_distorted": _finite(numbers.frames_psnr_distorted),
        "truth": compared,
        "distortion": scene.distortion.account(),
        "diagnosis": [
            {
                "frame": f.view,
                "clip": f.clip,
                "held_out": f.held_out,
                "psnr": _finite(f.psnr),
                **f.shares,
            }
            for f in findings[1:]
        ],
    }


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _finite(value: float | None) -> float | None:
    """JSON has no NaN."""
    return value if value is not None and math.isfinite(value) else None
