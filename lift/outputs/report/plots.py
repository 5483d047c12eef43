"""Draw the charts of the report: camera maps, the distortion of frames and training curves."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from markupsafe import Markup
from torch import Tensor

from lift.evaluation.diagnosis import CAUSES
from lift.outputs.camera_map import map_view
from lift.outputs.charts import Band, Series, line_chart
from lift.outputs.curves import Curves
from lift.outputs.quality import FrameMetrics, RunResult, registered_frames
from lift.types import Trajectory

_WIDE = 1080
"""Width of a chart over all frames, in about the pixels that the page gives it."""
_NARROW = 350
"""Width of a training chart, in about the pixels that the page gives it."""

_MIN_CAMERA_SHIFT = 0.005
"""Distance from the planned position, divided by the typical depth, from which it is drawn."""

_MIN_GAIN = 0.05
"""Decibels from which the PSNR with distortion is drawn."""

_PERCENT_RANGE = (-50.0, 150.0)
"""Range of the error fractions in the chart, so that one frame does not set the scale."""

_MIN_LEARNED = 1e-5
"""Value in the unit of its chart up to which an effect counts as not learned."""

_MEASURES = (
    ("camera turned by (°)", "rotation", "rotation", 1.0),
    ("camera moved by (% of the typical depth)", "translation", "translation", 100.0),
    ("Gaussians moved by, mean (% of the typical depth)", "motion", "Gaussian motion", 100.0),
    ("picture changed by, mean (% of full range)", "color", "image change", 100.0),
)
"""Title of the chart, attribute of FrameMetrics, its name in a sentence, and a factor."""


def camera_maps(result: RunResult) -> dict[str, Any]:
    """Draw the cameras from the front and from above, in the input camera's axes.

    Args:
        result: The result of a run. Frames whose camera was not registered are left out.

    Returns:
        `charts`: the maps, none if no camera moved. `planned`: whether the trajectory has
        meaningful cameras. `moved`: whether some cameras are elsewhere; then the planned paths are
        drawn, too.
    """
    trajectory = result.trajectory
    start = trajectory.start.world_to_camera[0]

    def to_input_frame(centers: Tensor) -> Tensor:
        return centers @ start[:3, :3].T + start[:3, 3]

    planned = to_input_frame(trajectory.cameras.centers)
    reconstructed = to_input_frame(result.reconstruction.cameras.centers)
    meaningful = trajectory.hint in ("planned", "known")
    distance = (planned - reconstructed).norm(dim=-1)
    threshold = _MIN_CAMERA_SHIFT * result.depth.typical
    moved = meaningful and bool((distance > threshold).any())
    registered = set(registered_frames(result))
    clips = zip(trajectory.clips, trajectory.spans, strict=True)
    paths = [[clip.source, *span] for clip, span in clips]
    if not meaningful:
        paths = [[view for view in path if view in registered] or [0] for path in paths]
    names = [clip.name for clip in trajectory.clips]
    front = ("cameras as the input sees them", (0, 1), torch.tensor([1.0, 1.0]))
    above = ("cameras from above; forward is up", (0, 2), torch.tensor([1.0, -1.0]))
    charts = []
    still = (reconstructed - reconstructed[0]).norm(dim=-1).max() <= threshold
    for title, axes, signs in () if still and not moved else (front, above):
        positions = reconstructed[:, axes] * signs
        planned_positions = planned[:, axes] * signs
        curves = [positions[path] for path in paths]
        background = [planned_positions[path] for path in paths] if moved else []
        unit = result.depth.typical
        name = "of the typical depth"
        charts.append(map_view(title, curves, names, positions[0], unit, name, background))
    return {"moved": moved, "planned": meaningful, "charts": charts}


def distortion_charts(frame_metrics: list[FrameMetrics], trajectory: Trajectory) -> dict[str, Any]:
    """Draw what was learned as the distortion of each frame.

    Args:
        frame_metrics: Measurements of each frame, the input first.
        trajectory: The clips, which are shaded alternately.

    Returns:
        `charts`: one for each effect that was learned, and none if nothing was. `unused`: names of
        the effects that were not learned. `gain`: mean gain of the distortion in dB, and
        `max_gain`, both None without fitted frames. `held_out`: number of held-out frames.
    """
    bands = _clip_bands(trajectory)
    views = [frame.view for frame in frame_metrics]
    charts = []
    unused = []
    for title, attribute, name, factor in _MEASURES:
        values = _fitted_values(frame_metrics, attribute, factor)
        if _is_learned(values):
            series = [Series(attribute, views, values)]
            charts.append(
                line_chart(
                    title,
                    series,
                    width=_WIDE,
                    height=130,
                    from_zero=True,
                    bands=bands,
                    x_label="frame",
                )
            )
        else:
            unused.append(name)
    if charts:
        charts.insert(0, _error_chart(frame_metrics, bands))
    gains = [
        frame.psnr_distorted - frame.psnr
        for frame in frame_metrics[1:]
        if frame.registered and not frame.held_out
    ]
    return {
        "charts": [chart for chart in charts if chart],
        "unused": unused,
        "gain": sum(gains) / len(gains) if gains else None,
        "max_gain": max(gains, default=None),
        "held_out": sum(frame.held_out for frame in frame_metrics),
    }


def _clip_bands(trajectory: Trajectory) -> list[Band]:
    """Return the interval of each clip. A single clip is not shaded."""
    if len(trajectory.clips) < 2:
        return []
    clips = zip(trajectory.clips, trajectory.spans, strict=False)
    return [Band(span[0] - 0.5, span[-1] + 0.5, clip.name) for clip, span in clips if len(span)]


def _is_learned(values: list[float]) -> bool:
    return max((value for value in values if value == value), default=0.0) > _MIN_LEARNED


def _fitted_values(
    frame_metrics: list[FrameMetrics], attribute: str, factor: float = 1.0
) -> list[float]:
    """Return an attribute of the fitted frames, and NaN for the other frames."""
    return [
        factor * getattr(frame, attribute) if frame.registered and not frame.held_out else math.nan
        for frame in frame_metrics
    ]


def _error_chart(frame_metrics: list[FrameMetrics], bands: Sequence[Band]) -> Markup:
    """Draw the fractions of each frame's error by cause."""
    low, high = _PERCENT_RANGE

    def percent(frame: FrameMetrics, cause: str) -> float:
        if not frame.registered:
            return math.nan
        return min(max(100 * frame.error_fractions[cause], low), high)

    frames = frame_metrics[1:]
    views = [frame.view for frame in frames]
    series = [
        Series(cause, views, [percent(frame, cause) for frame in frames])
        for cause in (*CAUSES, "unexplained")
    ]
    title = "causes of a frame's squared difference to the canonical scene (%)"
    return line_chart(
        title, series, width=_WIDE, height=170, from_zero=True, bands=bands, x_label="frame"
    )


def psnr_chart(frame_metrics: list[FrameMetrics], trajectory: Trajectory) -> Markup:
    """Draw the PSNR of each frame without and with distortion.

    Args:
        frame_metrics: Measurements of each frame, the input first.
        trajectory: The clips, which are shaded alternately.

    Returns:
        The chart. Empty without frames beside the input.
    """
    if len(frame_metrics) < 2:
        return Markup("")
    views = [frame.view for frame in frame_metrics]
    psnr = [frame.psnr if frame.registered else math.nan for frame in frame_metrics]
    series = [Series("canonical scene", views, psnr)]
    gains = [
        abs(frame.psnr_distorted - frame.psnr)
        for frame in frame_metrics
        if frame.registered and not frame.held_out
    ]
    if max(gains, default=0.0) > _MIN_GAIN:
        psnr = _fitted_values(frame_metrics, "psnr_distorted")
        series.append(Series("with the frame's distortion applied", views, psnr))
    held_out = [frame for frame in frame_metrics if frame.held_out]
    if held_out:
        views = [frame.view for frame in held_out]
        psnr = [frame.psnr for frame in held_out]
        series.append(Series("held out of the fit", views, psnr, dots=True))
    title = "PSNR of the scene against each frame (dB)"
    return line_chart(
        title,
        series,
        width=_WIDE,
        height=210,
        bands=_clip_bands(trajectory),
        x_label="frame",
    )


def training_curves(curves: Curves) -> dict[str, Any]:
    """Draw the curves of a fit.

    Args:
        curves: Curves of `lift.outputs.curves.read_curves`.

    Returns:
        `charts`: those that have data. One value alone is no line, so it is left out.
        `gaussians`: their number if it never changed, else None.
    """

    def series(tag: str, name: str, dots: bool = False) -> list[Series]:
        if tag not in curves:
            return []
        steps = sorted(curves[tag])
        if not dots and len(steps) < 2:
            return []
        return [Series(name, steps, [curves[tag][step] for step in steps], dots)]

    losses = [
        *series("loss", "total"),
        *series("l1", "L1"),
        *series("dssim", "1 − SSIM"),
        *series("depth", "inverse depth"),
    ]
    psnr = [
        *series("psnr", "training frames"),
        *series("val/input_psnr", "input", True),
        *series("val/held_out_psnr", "held out", True),
    ]
    count = series("gaussians", "Gaussians")
    numbers = set(curves.get("gaussians", {}).values())
    constant = len(numbers) == 1
    charts = [
        line_chart("loss and its parts", losses, width=_NARROW, log=True, x_label="step"),
        line_chart("PSNR (dB)", psnr, width=_NARROW, x_label="step"),
        line_chart("number of Gaussians", [] if constant else count, width=_NARROW, x_label="step"),
    ]
    return {
        "charts": [chart for chart in charts if chart],
        "gaussians": int(numbers.pop()) if constant else None,
    }
