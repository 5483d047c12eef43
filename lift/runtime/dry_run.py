"""Describe a run without running it: stages, components, models, licences, memory and time."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import psutil
import torch
from omegaconf import DictConfig

from lift.config import read_image_setting, resolve_fit
from lift.io.capture import CaptureSettings, load_capture
from lift.io.image import Picture, load_picture
from lift.io.sources import ImageSource, is_capture
from lift.planners import planners
from lift.priors import VideoPrior, priors
from lift.registry import Entry, catalogue
from lift.runtime.cached_stages import Work, earlier_seconds, find_stages
from lift.runtime.memory import required_memory
from lift.runtime.session import plain_settings
from lift.stages.plan import constant_depth
from lift.stages.unused import (
    check_capture,
    planner_is_used,
    unused_planner_message,
    unused_slots_message,
)
from lift.types import Cameras, Depth

SECONDS_PER_STEP = {"cpu": (18.8 / 800, "two cores"), "cuda": (16.4 / 1200, "an H200")}
"""Seconds of a step of the fit, and the machine on which they were measured.

Sources: benchmarks/results/stages-cpu.json and fitting-liftimage3d-cuda.json.
"""

_FOUND = "found in the cache"

_ALL_SLOTS = ("depth", "planner", "prior", "pose", "distortion", "renderer")
_WITHOUT_PLANNER = ("depth", "prior", "pose", "distortion", "renderer")
_CAPTURE_SLOTS = ("depth", "pose", "distortion", "renderer")


def dry_run(config: DictConfig) -> str:
    """Describe what a run would do.

    Args:
        config: Configuration of the run.

    Returns:
        One line for the picture and one for each stage. Times are those of earlier runs under the
        same `output`, with the same components, size and number of frames. Others were measured on
        another machine, which is named.
    """
    image = read_image_setting(config)
    if is_capture(image):
        return _dry_run_capture(config, image)
    assert isinstance(image, str)  # several pictures are a capture
    picture = load_picture(image, config.preprocess.size, config.preprocess.field_of_view)
    slots = _ALL_SLOTS if planner_is_used(config) else _WITHOUT_PLANNER
    entries, settings = _components(config, slots)
    device, memory = _device_memory(config)
    depth = constant_depth(picture.cameras)
    prior = None
    if not entries["prior"].missing:  # building the prior checks its settings
        prior = priors.build(
            settings["prior"],
            depth=depth,
            camera=picture.cameras,
            estimator=None,
            image=image,
            device=torch.device("cpu"),
        )
    batch_size = prior.batch_size if prior else settings["prior"].get("batch_size", 1)
    plan_row, lengths = _plan_row(config, picture.cameras, depth, entries, settings, prior)
    size = (picture.cameras.height, picture.cameras.width)
    works: dict[str, Work] = {
        "depth": (1, *size),
        "clip": (lengths[0], *size),
        "reconstruct": (1 + sum(lengths), *size),
    }
    earlier = earlier_seconds(config, works)
    found = find_stages(config, picture, prior) if prior else {}
    rows = [
        _depth_row(entries, settings, earlier, found),
        _mark_found(plan_row, found),
        (
            "clip",
            _describe(entries["prior"], settings["prior"]),
            _memory_note(entries["prior"], settings["prior"], batch_size, memory, device),
            _time_note(earlier, found, "clip", len(lengths), entries["prior"]),
        ),
        (
            "reconstruct",
            _describe(entries["pose"], settings["pose"]),
            _time_note(earlier, found, "reconstruct", 1),
        ),
        _fit_row(config, entries, not entries["prior"].exact_depth, device, found),
    ]
    return _format(_headline(image, picture, device, memory), rows, entries)


def _dry_run_capture(config: DictConfig, image: ImageSource) -> str:
    """Describe a run on recorded frames, where nothing is planned or generated."""
    check_capture(config)
    capture = load_capture(
        image, CaptureSettings.from_config(config), lambda images: torch.zeros(len(images))
    )
    entries, settings = _components(config, _CAPTURE_SLOTS)
    device, _ = _device_memory(config)
    camera = capture.picture.cameras
    size = (camera.height, camera.width)
    works: dict[str, Work] = {"depth": (1, *size), "reconstruct": (len(capture.frames), *size)}
    earlier = earlier_seconds(config, works, ("planner", "prior"))
    rows = [
        _depth_row(entries, settings, earlier, {}),
        (
            "reconstruct",
            _describe(entries["pose"], settings["pose"]),
            "with the cameras given" if capture.trajectory.hint == "known" else "",
            _time_note(earlier, {}, "reconstruct", 1),
        ),
        _fit_row(config, entries, True, device, {}),
    ]
    order = "in time" if capture.ordered else "in no order"
    headline = (
        f"{capture.picture.name}: {len(capture.frames)} frames of "
        f"{camera.width}x{camera.height} pixels, {order}; "
        f"{unused_slots_message(config)}"
    )
    return _format(headline, rows, entries)


def _components(
    config: DictConfig, slots: Sequence[str]
) -> tuple[dict[str, Entry], dict[str, dict[str, Any]]]:
    """Return the registry's entries and the settings of the components by slot."""
    entries = {slot: catalogue()(slot, config[slot].name) for slot in slots}
    return entries, {slot: plain_settings(config[slot]) for slot in slots}


def _device_memory(config: DictConfig) -> tuple[str, float]:
    """Return the kind of device, cpu or cuda, and its memory in GiB."""
    if torch.cuda.is_available() and config.device != "cpu":
        return "cuda", torch.cuda.get_device_properties(0).total_memory / 2**30
    return "cpu", psutil.virtual_memory().total / 2**30


def _headline(image: str, picture: Picture, device: str, memory: float) -> str:
    """Name the picture and the machine."""
    if device == "cuda":
        machine = f"{torch.cuda.get_device_name()}, {memory:.0f} GiB"
    else:
        machine = f"no GPU, {memory:.0f} GiB of memory"
    size = f"{picture.cameras.width}x{picture.cameras.height}"
    return f"{image}: {size} pixels, on {machine}"


def _format(headline: str, rows: Sequence[tuple[str, ...]], entries: Mapping[str, Entry]) -> str:
    """Format a headline, the stages with their notes, and what is not installed."""
    lines = [headline]
    for stage, component, *notes in rows:
        lines.append("; ".join([f"{stage:<12} {component}", *(note for note in notes if note)]))
    missing = [
        f"{slot} {entry.name}: {entry.install_hint}"
        for slot, entry in entries.items()
        if entry.missing
    ]
    if missing:
        lines.append("not installed: " + "; ".join(missing))
    return "\n".join(lines)


def _depth_row(
    entries: Mapping[str, Entry],
    settings: Mapping[str, Mapping[str, Any]],
    earlier: Mapping[str, list[float]],
    found: Mapping[str, int],
) -> tuple[str, str, str]:
    note = _time_note(earlier, found, "depth", 1)
    return "depth", _describe(entries["depth"], settings["depth"]), note


def _fit_row(
    config: DictConfig,
    entries: Mapping[str, Entry],
    real: bool,
    device: str,
    found: Mapping[str, int],
) -> tuple[str, str, str, str]:
    fit = resolve_fit(config.fit, real=real)
    renderer = entries["renderer"]
    time = ""
    if "fit" in found:
        time = _FOUND
    elif (device == "cuda") == (renderer.name == "gsplat"):
        seconds, machine = SECONDS_PER_STEP[device]
        time = f"about {_format_seconds(fit.steps * seconds)} on {machine}"
    return (
        "fit",
        f"{_describe(entries['distortion'], {})}; {_describe(renderer, {})}",
        f"{fit.steps} steps of {fit.batch_size} views, at most {fit.max_gaussians} Gaussians",
        time,
    )


def _describe(entry: Entry, settings: Mapping[str, Any]) -> str:
    """Return the name, model and licence of a component."""
    model = f", {settings['model']}" if settings.get("model") else ""
    return f"{entry.name}{model} ({entry.licence})"


def _plan_row(
    config: DictConfig,
    camera: Cameras,
    depth: Depth,
    entries: Mapping[str, Entry],
    settings: Mapping[str, Mapping[str, Any]],
    prior: VideoPrior | None,
) -> tuple[tuple[str, str, str], list[int]]:
    """Describe the plan, and count the frames of its clips; they do not depend on the depth.

    Args:
        config: Configuration of the run.
        camera: The input camera.
        depth: Any depth.
        entries: The registry's entries by slot. Without a planner the frames exist already.
        settings: Settings of the components by slot.
        prior: The prior. None: its packages are not installed.
    """
    if "planner" not in entries:
        count = f"1 clip, {prior.num_recorded + 1} frames with the input" if prior else "1 clip"
        lengths = [prior.num_recorded if prior else 0]
        return ("plan", unused_planner_message(config), count), lengths
    if prior:
        clip_length = prior.clip_length
    else:
        frames = settings["prior"].get("frames") or entries["prior"].trained_frames or 1
        clip_length = frames - 1 if frames > 1 else None
    trajectory = planners.build(settings["planner"])(camera, depth, clip_length)
    number = len(trajectory.clips)
    clips = "1 clip" if number == 1 else f"{number} clips"
    count = f"{clips}, {len(trajectory.cameras)} frames with the input"
    lengths = [len(clip.cameras) for clip in trajectory.clips]
    return ("plan", _describe(entries["planner"], settings["planner"]), count), lengths


def _mark_found(row: tuple[str, ...], found: Mapping[str, int]) -> tuple[str, ...]:
    """Add to the row of a stage without a time that the cache has it."""
    return (*row, _FOUND) if row[0] in found else row


def _memory_note(
    entry: Entry, settings: Mapping[str, Any], batch_size: int, memory: float, device: str
) -> str:
    """Return the GPU memory that a prior needs, and how much there is."""
    if not entry.weight_memory:
        return ""
    required = required_memory(
        entry.weight_memory,
        entry.working_memory * batch_size,
        settings.get("offload", "none"),
        settings.get("precision", "auto"),
        entry.denoiser or "",
    )
    available = f"of which there are {memory:.0f}" if device == "cuda" else "and there is no GPU"
    return f"about {required:.0f} GiB of GPU memory, {available}"


def _time_note(
    earlier: Mapping[str, list[float]],
    found: Mapping[str, int],
    stage: str,
    count: int,
    entry: Entry | None = None,
) -> str:
    """Return the expected time of a stage, or that the cache has it.

    Earlier times do not serve for a generator: its time depends on its settings, too.
    """
    cached = found.get(stage, 0)
    if cached >= count:
        return _FOUND
    time = _expected_time(earlier, stage, count - cached, entry)
    return f"{cached} of {count} {_FOUND}; {time} for the others" if cached else time


def _expected_time(
    earlier: Mapping[str, list[float]], stage: str, count: int, entry: Entry | None
) -> str:
    """Return the expected time of stages that have to be computed."""
    if stage in earlier and not (entry and entry.trained_frames):
        single = median(earlier[stage])
        suffix = " each" if count > 1 else ""
        return (
            f"about {_format_seconds(single * count)}, "
            f"as it took {_format_seconds(single)}{suffix} before"
        )
    if entry and entry.clip_seconds:
        seconds, machine = entry.clip_seconds
        return f"about {_format_seconds(seconds * count)} on {machine}"
    return "time unknown"


def _format_seconds(seconds: float) -> str:
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} minutes"
