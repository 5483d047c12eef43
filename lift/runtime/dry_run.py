"""Describe a run without running it: stages, components, models, licences, memory and time."""

from collections.abc import Mapping, Sequence
from typing import Any

import psutil
import torch
from omegaconf import DictConfig

from lift.config import resolve_fit
from lift.io.capture import CaptureSettings, load_capture
from lift.io.image import Picture, load_picture
from lift.io.sizing import PICTURE_SIZE
from lift.io.sources import ImageSource, is_capture
from lift.planners import planners
from lift.priors import VideoPrior, priors
from lift.priors.diffusion.diffusion_prior import DiffusionPrior
from lift.registry import Entry, catalogue
from lift.remote.pictures import local_image
from lift.remote.urls import local_output
from lift.runtime.cached_stages import earlier_seconds, find_stages
from lift.runtime.delivery_size import describe_sizes, estimate_sizes
from lift.runtime.expected_times import ExpectedTimes, format_seconds
from lift.runtime.memory import (
    OFFLOADS,
    list_fitting,
    required_memory,
    scale_working_memory,
    trained_shape,
)
from lift.runtime.session import plain_settings
from lift.runtime.stage_times import Work, run_devices
from lift.stages.inputs import check_export_formats
from lift.stages.plan import constant_depth
from lift.stages.prior import shape_choice
from lift.stages.unused import (
    check_capture,
    planner_is_used,
    unused_planner_message,
    unused_slots_message,
)
from lift.types import Cameras, Depth

_ALL_SLOTS = ("depth", "planner", "prior", "pose", "distortion", "renderer")
_WITHOUT_PLANNER = ("depth", "prior", "pose", "distortion", "renderer")
_CAPTURE_SLOTS = ("depth", "pose", "distortion", "renderer")


def dry_run(config: DictConfig, gpu_memory: float | None = None) -> str:
    """Describe what a run would do.

    Args:
        config: Configuration of the run.
        gpu_memory: Memory in GiB of the GPU to plan for. None: that of this machine.

    Returns:
        One line for the picture, its notes, one line for each stage, one for the total time, and
        one for what is delivered, with its size. Clips have the size that the prior generates.
        Times are those of
        earlier runs on this machine under the same `output`, with the same settings, size and
        number of frames. Others are unknown. With `gpu_memory`, a table says which generators fit.
    """
    check_export_formats(config.export.formats)
    image = local_image(config)
    if is_capture(image):
        report = _dry_run_capture(config, image)
    else:
        assert isinstance(image, str)  # several pictures are a capture
        report = _dry_run_picture(config, image, gpu_memory)
    if gpu_memory is None:
        return report
    table = list_fitting(catalogue().entries["prior"].values(), gpu_memory)
    return f"{report}\nGPU memory of depth, reconstruct and fit is unknown\n{table}"


def _dry_run_picture(config: DictConfig, image: str, gpu_memory: float | None) -> str:
    """Describe a run on one picture."""
    preprocess = config.preprocess
    choose_shape = shape_choice(plain_settings(config.prior))
    size = preprocess.size or PICTURE_SIZE
    picture = load_picture(image, size, preprocess.field_of_view, choose_shape)
    slots = _ALL_SLOTS if planner_is_used(config) else _WITHOUT_PLANNER
    entries, settings = _components(config, slots)
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
    plan_row, lengths = _plan_row(config, picture.cameras, depth, entries, settings, prior)
    size = (picture.cameras.height, picture.cameras.width)
    generated = _generated_size(prior, picture.cameras)
    frames = (1 + sum(lengths), *size)
    works = {
        "depth": (1, *size),
        "clip": (lengths[0], *size),
        "reconstruct": frames,
        "fit": frames,
    }
    found = find_stages(config, picture, prior) if prior else {}
    unused = () if "planner" in slots else ("planner",)
    times = _expected_times(config, works, found, unused)
    devices = run_devices(config)
    processes = devices[1] if devices and prior and prior.context == "ancestors" else 1
    rows = [
        _depth_row(entries, settings, times),
        (*plan_row, times.describe("plan") if "planner" in slots else ""),
        (
            "clip",
            _describe(entries["prior"], settings["prior"]),
            f"generates {generated[0]}x{generated[1]} pixels" if generated else "",
            _memory_note(entries["prior"], settings["prior"], prior, generated, config, gpu_memory),
            times.describe("clip", len(lengths), processes),
            _elsewhere_note(entries["prior"], settings["prior"], found, len(lengths)),
        ),
        (
            "reconstruct",
            _describe(entries["pose"], settings["pose"]),
            times.describe("reconstruct"),
        ),
        _fit_row(config, entries, not entries["prior"].exact_depth, times),
        ("total", times.total()),
        _deliver_row(config, frames, not entries["prior"].exact_depth),
    ]
    return _format(_headline(config, image, picture), picture.notes, rows, entries)


def _dry_run_capture(config: DictConfig, image: ImageSource) -> str:
    """Describe a run on recorded frames, where nothing is planned or generated."""
    check_capture(config)
    capture = load_capture(
        image, CaptureSettings.from_config(config), lambda images: torch.zeros(len(images))
    )
    entries, settings = _components(config, _CAPTURE_SLOTS)
    camera = capture.picture.cameras
    size = (camera.height, camera.width)
    frames = (len(capture.frames), *size)
    works = {"depth": (1, *size), "reconstruct": frames, "fit": frames}
    times = _expected_times(config, works, {}, ("planner", "prior"))
    rows = [
        _depth_row(entries, settings, times),
        (
            "reconstruct",
            _describe(entries["pose"], settings["pose"]),
            "with the cameras given" if capture.trajectory.hint == "known" else "",
            times.describe("reconstruct"),
        ),
        _fit_row(config, entries, True, times),
        ("total", times.total()),
        _deliver_row(config, frames, True),
    ]
    order = "in time" if capture.ordered else "in no order"
    headline = (
        f"{capture.picture.name}: {len(capture.frames)} frames of "
        f"{camera.width}x{camera.height} pixels, {order}; "
        f"{unused_slots_message(config)}"
    )
    return _format(headline, capture.picture.notes, rows, entries)


def _expected_times(
    config: DictConfig, works: Mapping[str, Work], found: Mapping[str, int], unused: Sequence[str]
) -> ExpectedTimes:
    """Look for the times of earlier runs."""
    earlier = earlier_seconds(config, works, unused)
    return ExpectedTimes(earlier, found, local_output(config) / "cache")


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


def _headline(config: DictConfig, image: str, picture: Picture) -> str:
    """Name the picture and the machine."""
    device, memory = _device_memory(config)
    if device == "cuda":
        machine = f"{torch.cuda.get_device_name()}, {memory:.0f} GiB"
    else:
        machine = f"no GPU, {memory:.0f} GiB of memory"
    size = f"{picture.cameras.width}x{picture.cameras.height}"
    return f"{image}: {size} pixels, on {machine}"


def _format(
    headline: str,
    picture_notes: Sequence[str],
    rows: Sequence[tuple[str, ...]],
    entries: Mapping[str, Entry],
) -> str:
    """Format a headline, the picture's notes, the stages with theirs, and what is not installed."""
    lines = [headline, *(f"note: {note}" for note in picture_notes)]
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
    times: ExpectedTimes,
) -> tuple[str, str, str]:
    return "depth", _describe(entries["depth"], settings["depth"]), times.describe("depth")


def _fit_row(
    config: DictConfig, entries: Mapping[str, Entry], real: bool, times: ExpectedTimes
) -> tuple[str, str, str, str]:
    fit = resolve_fit(config.fit, real=real)
    return (
        "fit",
        f"{_describe(entries['distortion'], {})}; {_describe(entries['renderer'], {})}",
        f"{fit.steps} steps of {fit.batch_size} views, at most {fit.max_gaussians} Gaussians",
        times.describe("fit"),
    )


def _deliver_row(
    config: DictConfig, frames: tuple[int, int, int], real: bool
) -> tuple[str, str, str]:
    """Say what the run keeps in its folder, with at most so many Gaussians."""
    fit = resolve_fit(config.fit, real=real)
    keep = config.deliver.keep
    sizes = estimate_sizes(frames, fit.max_gaussians, fit.sh_degree)
    return "deliver", f"deliver.keep={keep}", describe_sizes(keep, sizes)


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


def _generated_size(prior: VideoPrior | None, camera: Cameras) -> tuple[int, int] | None:
    """Return width and height that a video model generates; None if there is none."""
    is_model = isinstance(prior, DiffusionPrior)
    return prior.generated_size(camera.width, camera.height) if is_model else None


def _estimate_memory(
    entry: Entry,
    settings: Mapping[str, Any],
    prior: VideoPrior | None,
    generated: tuple[int, int] | None,
) -> dict[str, float]:
    """Estimate the GPU memory in GiB for each choice of `prior.offload`; empty if unknown."""
    if isinstance(prior, DiffusionPrior):
        return prior.estimate_memory(generated)
    if not entry.weight_memory:
        return {}
    batch_size = prior.batch_size if prior else settings.get("batch_size", 1)
    working = entry.working_memory * batch_size
    if entry.trained_size:
        working = scale_working_memory(
            entry.working_memory,
            entry.trained_size,
            entry.trained_frames or 0,
            trained_shape(entry.trained_size, settings.get("size")),
            settings.get("frames"),
            batch_size,
        )
    precision = settings.get("precision", "auto")
    denoisers = (entry.denoiser,) if entry.denoiser else ()
    return {
        offload: required_memory(entry.weight_memory, working, offload, precision, denoisers)
        for offload in OFFLOADS
    }


def _memory_note(
    entry: Entry,
    settings: Mapping[str, Any],
    prior: VideoPrior | None,
    generated: tuple[int, int] | None,
    config: DictConfig,
    gpu_memory: float | None,
) -> str:
    """Return the GPU memory that a prior needs, how much there is, and what fits."""
    required = _estimate_memory(entry, settings, prior, generated)
    if not required:
        is_network = bool(entry.trained_size)
        unknown = "GPU memory unknown: it depends on prior.model" if is_network else "no GPU needed"
        return "" if gpu_memory is None else unknown
    basis = "estimated"
    offload = settings.get("offload", "none")
    if offload in entry.measured_memory and _is_default(entry, settings, ("offload",)):
        required |= entry.measured_memory
        basis = "measured"
    about = "about" if entry.working_memory else "at least"  # the weights alone are known
    note = f"{about} {required[offload]:.0f} GiB of GPU memory ({basis})"
    device, available = _device_memory(config)
    if gpu_memory is None and device != "cuda":
        return f"{note}, and there is no GPU"
    available = available if gpu_memory is None else gpu_memory
    note = f"{note}, of which there are {available:g}"
    if required[offload] <= available:
        return note
    fitting = [
        f"prior.offload={name} takes about {memory:.0f}"
        for name, memory in required.items()
        if memory <= available
    ]
    return f"{note}: too little; {' or '.join(fitting) or 'no prior.offload is enough'}"


def _elsewhere_note(
    entry: Entry, settings: Mapping[str, Any], found: Mapping[str, int], count: int
) -> str:
    """Return the time of a clip on another machine, if the settings are those measured there."""
    if not entry.clip_seconds or found.get("clip", 0) >= count:
        return ""
    seconds, machine = entry.clip_seconds
    is_default = _is_default(entry, settings)
    return f"a clip takes about {format_seconds(seconds)} on {machine}" if is_default else ""


def _is_default(entry: Entry, settings: Mapping[str, Any], but: Sequence[str] = ()) -> bool:
    """Whether all settings of a component but some have their defaults."""
    checked = entry.check({key: value for key, value in settings.items() if key != "name"})
    return all(
        checked.get(key) == parameter.default
        for key, parameter in entry.settings.items()
        if key not in but
    )
