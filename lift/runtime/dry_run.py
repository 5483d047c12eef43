"""What a run is going to do, before anything is done: stages, components, models, licences, memory, time."""

import json
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import torch
from omegaconf import DictConfig, OmegaConf

from lift.config import image_setting, resolve_fit
from lift.io.capture import CaptureSettings, load_capture
from lift.io.image import load_picture
from lift.io.sources import ImageSource, is_capture
from lift.planners import planners
from lift.priors import priors
from lift.registry import Entry, catalogue
from lift.runtime.memory import needed
from lift.runtime.session import made_by
from lift.types import Cameras, Depth

A_STEP = {"cpu": (18.8 / 800, "two cores"), "cuda": (16.4 / 1200, "an H200")}
"""Seconds of a step of the fit, and where they were measured: benchmarks/results/stages-cpu.json and fitting-liftimage3d-cuda.json."""


def forecast(config: DictConfig) -> str:
    """A table as text. Times are those of earlier runs under the same `output`, else what was measured elsewhere, which is said."""
    image = image_setting(config)
    if is_capture(image):
        return _forecast_capture(config, image)
    picture = load_picture(image, config.intake.size, config.intake.field_of_view)
    entries = {
        slot: catalogue()(slot, config[slot].name)
        for slot in ("depth", "planner", "prior", "pose", "distortion", "renderer")
    }
    settings: dict[str, dict[str, Any]] = {
        slot: OmegaConf.to_container(config[slot], resolve=True) for slot in entries
    }
    device = "cuda" if torch.cuda.is_available() and config.device != "cpu" else "cpu"
    there = (
        torch.cuda.get_device_properties(0).total_memory / 2**30
        if device == "cuda"
        else psutil.virtual_memory().total / 2**30
    )
    before = _before(config)
    ones = torch.ones(picture.cameras.height, picture.cameras.width)
    flat = Depth(ones, ones > 0, "scale")
    together = settings["prior"].get("at_once", 1)  # clips
    if not entries["prior"].missing:  # what is wrong with its settings is said
        together = priors.build(
            settings["prior"],
            depth=flat,
            camera=picture.cameras,
            estimator=None,
            image=image,
            device=torch.device("cpu"),
        ).at_once
    clips, frames = _planned(picture.cameras, flat, entries["prior"], settings)
    fit = resolve_fit(config.fit, real=not entries["prior"].exact_depth)
    rows = [
        ("depth", _named(entries["depth"], settings["depth"]), "", _time(before, "depth", 1)),
        (
            "plan",
            _named(entries["planner"], settings["planner"]),
            f"{clips} clips" + (f", {frames} frames with the input" if frames else ""),
            "",
        ),
        (
            "clip",
            _named(entries["prior"], settings["prior"]),
            _memory(entries["prior"], settings["prior"], together, there, device),
            _time(before, "clip", clips, entries["prior"]),
        ),
        (
            "reconstruct",
            _named(entries["pose"], settings["pose"]),
            "",
            _time(before, "reconstruct", 1),
        ),
        (
            "fit",
            f"{_named(entries['distortion'], {})}; {_named(entries['renderer'], {})}",
            f"{fit.steps} steps of {fit.views_per_step} views, at most {fit.max_gaussians} Gaussians",
            _elsewhere(fit.steps, device)
            if (device == "cuda") == (entries["renderer"].name == "gsplat")
            else "",
        ),
    ]
    where = (
        f"{torch.cuda.get_device_name()}, {there:.0f} GiB"
        if device == "cuda"
        else f"no GPU, {there:.0f} GiB of memory"
    )
    lines = [f"{image}: {picture.cameras.width}x{picture.cameras.height} pixels, on {where}"]
    lines += [
        "".join([f"{stage:<12} {component}", *(f"; {note}" for note in notes if note)])
        for stage, component, *notes in rows
    ]
    if missing := [
        f"{slot} {entry.name}: {entry.how}" for slot, entry in entries.items() if entry.missing
    ]:
        lines += ["not installed: " + "; ".join(missing)]
    return "\n".join(lines)


def _forecast_capture(config: DictConfig, image: ImageSource) -> str:
    """Say what a run on frames that were taken does: nothing is planned or generated."""
    capture = load_capture(
        image, CaptureSettings.of(config), lambda images: torch.zeros(len(images))
    )
    slots = ("depth", "pose", "distortion", "renderer")
    entries = {slot: catalogue()(slot, config[slot].name) for slot in slots}
    settings: dict[str, dict[str, Any]] = {
        slot: OmegaConf.to_container(config[slot], resolve=True) for slot in slots
    }
    before, fit, hint = _before(config), resolve_fit(config.fit, real=True), capture.trajectory.hint
    cuda = torch.cuda.is_available() and config.device != "cpu"
    device = "cuda" if cuda else "cpu"
    own_device = cuda == (entries["renderer"].name == "gsplat")
    rows = [
        ("depth", _named(entries["depth"], settings["depth"]), _time(before, "depth", 1)),
        (
            "reconstruct",
            _named(entries["pose"], settings["pose"]),
            "with the cameras given" if hint == "known" else "",
            _time(before, "reconstruct", 1),
        ),
        (
            "fit",
            f"{_named(entries['distortion'], {})}; {_named(entries['renderer'], {})}",
            f"{fit.steps} steps of {fit.views_per_step} views, at most {fit.max_gaussians} Gaussians",
            _elsewhere(fit.steps, device) if own_device else "",
        ),
    ]
    camera, count = capture.picture.cameras, len(capture.frames)
    order = "in time" if capture.ordered else "in no order"
    lines = [
        f"{capture.picture.name}: {count} frames of {camera.width}x{camera.height} pixels, {order}; planner and prior are not used"
    ]
    lines += [
        "".join([f"{stage:<12} {component}", *(f"; {note}" for note in notes if note)])
        for stage, component, *notes in rows
    ]
    if missing := [
        f"{slot} {entry.name}: {entry.how}" for slot, entry in entries.items() if entry.missing
    ]:
        lines += ["not installed: " + "; ".join(missing)]
    return "\n".join(lines)


def _named(entry: Entry, settings: Mapping[str, Any]) -> str:
    model = f", {settings['model']}" if settings.get("model") else ""
    return f"{entry.name}{model} ({entry.licence})"


def _planned(
    camera: Cameras, flat: Depth, prior: Entry, settings: Mapping[str, Mapping[str, Any]]
) -> tuple[int, int]:
    """Clips and frames, as many as there are whatever the depth."""
    own = settings["prior"]
    frames = own.get("frames") or prior.clip or (own.get("length") or 0) + 1
    trajectory = planners.build(settings["planner"])(
        camera, flat, frames - 1 if frames > 1 else None
    )
    return len(trajectory.clips), len(trajectory.cameras)


def _memory(
    entry: Entry, settings: Mapping[str, Any], together: int, there: float, device: str
) -> str:
    if not entry.parts:
        return ""
    much = needed(
        entry.parts,
        entry.working * together,
        settings.get("offload", "none"),
        settings.get("precision", "auto"),
        entry.denoiser or "",
    )
    return (
        f"about {much:.0f} GiB of GPU memory, of which there are {there:.0f}"
        if device == "cuda"
        else f"about {much:.0f} GiB of GPU memory, and there is no GPU"
    )


def _before(config: DictConfig) -> dict[str, list[float]]:
    """Seconds of earlier stages that the same components made, by name."""
    found: dict[str, list[float]] = {}
    for file in (Path(config.output) / "cache").glob("*/manifest.json"):
        about = json.loads(file.read_text())
        if about.get("by") == made_by(config, about["stage"]):
            found.setdefault(about["stage"], []).append(about["seconds"])
    return found


def _time(
    before: Mapping[str, list[float]], stage: str, count: int, entry: Entry | None = None
) -> str:
    if stage in before and not (
        entry and entry.clip
    ):  # a generator's takes what its steps, frames and pixels ask for
        each = median(before[stage])
        return f"about {_said(each * count)}, as it took {_said(each)}{' each' if count > 1 else ''} before"
    return (
        f"about {_said(entry.pace[0] * count)} on {entry.pace[1]}" if entry and entry.pace else ""
    )


def _elsewhere(steps: int, device: str) -> str:
    seconds, where = A_STEP[device]
    return f"about {_said(steps * seconds)} on {where}"


def _said(seconds: float) -> str:
    return (
        f"{seconds:.1f} s"
        if seconds < 10
        else f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} minutes"
    )
