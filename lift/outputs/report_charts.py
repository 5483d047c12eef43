"""Draw the charts of the report: camera maps, distortion of the frames and training curves."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from markupsafe import Markup
from torch import Tensor

from lift.evaluation.diagnosis import CAUSES
from lift.outputs.charts import Band, Series, line_chart, map_view
from lift.outputs.curves import Curves
from lift.outputs.quality import FrameMetrics, RunResult, registered_frames
from lift.types import Trajectory

_WIDE = 1080
"""Width of a chart over all frames, in about the pixels that the page gives it."""
_NARROW = 350
"""Width of a training chart, in about the pixels that the page gives it."""

_MIN_CAMERA_SHIFT = 0.005
"""Distance from the planned position, divided by the typical depth, from which it is drawn."""

_PERCENT_RANGE = (-50.0, 150.0)
"""Range of the error fractions in the chart, so that one frame does not set the scale."""

_MEASURES = (
    ("camera turned by (degrees)", "rotation", "rotation", 1.0),
    ("camera moved by (% of the typical depth)", "translation", "translation", 100.0),
    ("Gaussians moved by, mean (% of the typical depth)", "motion", "Gaussian motion", 100.0),
    ("picture changed by, mean (% of full range)", "color", "image change", 100.0),
)
"""Title of the chart, attribute of FrameMetrics, its name in a sentence, and a factor."""


def camera_maps(result: RunResult) -> dict[str, Any]:
    """Draw the cameras from above and from the side, in the input camera's axes.

    Args:
        result: The result of a run. Frames whose camera was not registered are left out.

    Returns:
        `charts`: the maps. `planned`: whether the trajectory has meaningful cameras. `moved`:
        whether some cameras are elsewhere; then the planned paths are drawn, too.
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
    above = ("from above: right, forward (up the page)", (0, 2), torch.tensor([1.0, -1.0]))
    side = ("from the side: forward (to the right), up", (2, 1), torch.tensor([1.0, 1.0]))
    charts = []
    for title, axes, signs in (above, side):
        positions = reconstructed[:, axes] * signs
        planned_positions = planned[:, axes] * signs
        curves = [positions[path] for path in paths]
        background = [planned_positions[path] for path in paths] if moved else []
        unit = result.depth.typical
        name = "of the typical depth"
        charts.append(map_view(title, curves, names, positions[0], unit, name, background))
    return {"moved": moved, "planned": meaningful, "charts": charts}


def distortion_charts(frame_metrics: list[FrameMetrics], trajectory: Trajectory) -> dict[str, Any]:
    """Draw the learned distortion of each frame, and what it gains.

    Args:
        frame_metrics: Measurements of each frame, the input first.
        trajectory: The clips, which are shaded alternately.

    Returns:
        `charts`. `unused`: names of the effects that were not learned. `gain`: mean gain of the
        distortion in dB, and `max_gain`, both None without fitted frames. `held_out`: number of
        held-out frames.
    """
    clips = zip(trajectory.clips, trajectory.spans, strict=False)
    bands = [Band(span[0] - 0.5, span[-1] + 0.5, clip.name) for clip, span in clips if len(span)]
    views = [frame.view for frame in frame_metrics]
    charts = []
    unused = []
    for title, attribute, name, factor in _MEASURES:
        values = _fitted_values(frame_metrics, attribute, factor)
        if max((v for v in values if v == v), default=0.0) > 1e-5:
            series = [Series(attribute, views, values)]
            chart = line_chart(title, series, width=_WIDE, height=130, from_zero=True, bands=bands)
            charts.append(chart)
        else:
            unused.append(name)
    has_distortion = bool(charts)
    if has_distortion:
        charts.insert(0, _error_chart(frame_metrics, bands))
    charts.insert(0, _psnr_chart(frame_metrics, bands, has_distortion))
    gains = [
        frame.psnr_distorted - frame.psnr
        for frame in frame_metrics[1:]
        if frame.registered and not frame.held_out
    ]
    return {
        "charts": charts,
        "unused": unused,
        "gain": sum(gains) / len(gains) if gains else None,
        "max_gain": max(gains, default=None),
        "held_out": sum(frame.held_out for frame in frame_metrics),
    }


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
    title = "of a frame's squared difference to the canonical scene (%)"
    return line_chart(title, series, width=_WIDE, height=160, from_zero=True, bands=bands)


def _psnr_chart(
    frame_metrics: list[FrameMetrics], bands: Sequence[Band], has_distortion: bool
) -> Markup:
    """Draw the PSNR of each frame without and with distortion."""
    views = [frame.view for frame in frame_metrics]
    psnr = [frame.psnr if frame.registered else math.nan for frame in frame_metrics]
    series = [Series("canonical scene", views, psnr)]
    if has_distortion:
        psnr = _fitted_values(frame_metrics, "psnr_distorted")
        series.append(Series("with the frame's distortion applied", views, psnr))
    held_out = [frame for frame in frame_metrics if frame.held_out]
    if held_out:
        views = [frame.view for frame in held_out]
        psnr = [frame.psnr for frame in held_out]
        series.append(Series("held out of the fit", views, psnr, dots=True))
    title = "PSNR against the frame (dB)"
    return line_chart(title, series, width=_WIDE, height=190, bands=bands, x_label="frame")


def training_curves(curves: Curves) -> list[Markup]:
    """Draw the curves of a fit.

    Args:
        curves: Curves of `lift.outputs.curves.read_curves`.

    Returns:
        The charts that have data.
    """

    def series(tag: str, name: str, dots: bool = False) -> list[Series]:
        if tag not in curves:
            return []
        steps = sorted(curves[tag])
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
    charts = [
        line_chart("loss and its parts", losses, width=_NARROW, log=True, x_label="step"),
        line_chart("PSNR (dB)", psnr, width=_NARROW, x_label="step"),
        line_chart("Gaussians", count, width=_NARROW, x_label="step"),
    ]
    return [chart for chart in charts if chart]
