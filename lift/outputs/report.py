"""Write the report of a run: one HTML file with its pictures inside, without scripts."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from jaxtyping import UInt8
from torch import Tensor

from lift.io.names import printable
from lift.outputs.charts import Number, format_number
from lift.outputs.curves import read_curves
from lift.outputs.quality import FrameMetrics, RunResult
from lift.outputs.report_charts import camera_maps, distortion_charts, training_curves
from lift.outputs.report_pictures import (
    THUMBNAIL_SIDE,
    clip_tree,
    comparison_rows,
    encode_picture,
)
from lift.outputs.verdict import COVERAGE_GOOD, HELD_OUT_GOOD, INPUT_GOOD, Verdict, format_percent
from lift.renderers import Renderer

_STILLS = 4
"""Number of pictures of the fly-through."""

OUTPUT_FILES = {
    "gaussians.ply": "the canonical scene",
    "gaussians.splat": "the same, smaller, without view dependence",
    "gaussians.spz": "the same, compressed",
    "video.mp4": "a fly-through of it",
    "fly_through.jpg": "eight views of the fly-through",
    "fly_through.json": "cameras of the fly-through",
    "transforms.json": "cameras of the frames",
    "colmap": "cameras and points as COLMAP text",
    "frames": "the frames",
    "views": "depth and estimated cameras of the frames",
    "distortion.safetensors": "the learned distortion",
    "metrics.json": "the numbers of this page",
    "config.yaml": "every setting",
    "provenance.json": "versions, licences and stages of the run",
    "checkpoint.ckpt": "checkpoint of the fit",
    "tensorboard": "training logs",
    "csv": "training logs as a table, and pictures",
    "wandb": "training logs of Weights & Biases",
    "callbacks": "files of callbacks",
}
"""Results of a run by file name, with a description."""


def write_report(
    folder: Path,
    result: RunResult,
    renderer: Renderer,
    frame_metrics: list[FrameMetrics],
    metrics: dict[str, Any],
    provenance: dict[str, Any],
    video: Sequence[UInt8[Tensor, "height width 3"]],
) -> None:
    """Write `report.html`.

    Args:
        folder: Folder of the run. The other results are already there, and the page links to them.
        result: The result of a run.
        renderer: Renders on its own device.
        frame_metrics: Measurements of each frame, the input first.
        metrics: Content of metrics.json.
        provenance: Content of provenance.json.
        video: Pictures of the fly-through.
    """
    rows, depth_scale = comparison_rows(result, renderer, frame_metrics)
    camera = result.picture.cameras
    stills = [video[len(video) * k // _STILLS] for k in range(min(_STILLS, len(video)))]
    files = OUTPUT_FILES.items()
    log, curves = read_curves(result.fit_folder)
    text = _load_template().render(
        name=result.picture.name,
        frames=len(result.frames),
        width=camera.width,
        height=camera.height,
        focal=float(camera.intrinsics[0, 0, 0]),
        thumbnail=round(THUMBNAIL_SIDE * min(1.0, camera.width / camera.height)),
        input=encode_picture(result.frames.images[0]),
        stills=[encode_picture(still) for still in stills],
        poster=encode_picture(stills[0]) if stills else None,
        has_video=(folder / "video.mp4").is_file(),
        files=[(file, description) for file, description in files if (folder / file).exists()],
        metrics=metrics,
        headline=Verdict(metrics["verdict"], ()).headline,
        numbers=key_numbers(metrics),
        provenance=provenance,
        command=format_command(
            provenance["command"], provenance["environment"], provenance["choices"]
        ),
        clips=clip_tree(result, frame_metrics),
        maps=camera_maps(result),
        rows=rows,
        depth_scale=depth_scale,
        depth_kind=result.depth.kind,
        typical=result.depth.typical,
        distortion=distortion_charts(frame_metrics, result.trajectory),
        parts=metrics["distortion"].get("parts", {}),
        curves=training_curves(curves),
        curves_link=log if (folder / log).exists() else "",
        stages=stage_costs(provenance["stages"]),
    )
    (folder / "report.html").write_text(printable(text), encoding="utf-8")


def _load_template() -> jinja2.Template:
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(
        loader=loader,
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": _format_optional,
        "decibels": _format_decibels,
        "size": _format_size,
        "seconds": _format_seconds,
    }
    return environment.get_template("report.html")


def key_numbers(metrics: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Select the numbers at the top of the page.

    Args:
        metrics: Content of metrics.json.

    Returns:
        Value, name and a sentence that explains it, for each number.
    """
    coverage = metrics["coverage"]
    scale = metrics["fly_through_scale"]
    motion = "" if scale >= 1 else f" Its motion was shrunk to {format_percent(scale)}."
    return [
        (
            _format_measurement(metrics["input_psnr"]),
            "PSNR of the input view",
            "How closely the scene shows the input picture from its own camera; "
            f"{INPUT_GOOD:.0f} dB and more is good.",
        ),
        (
            _format_measurement(metrics["held_out_psnr"]),
            "PSNR of held-out frames",
            "How closely it shows frames that the fit never saw; "
            f"{HELD_OUT_GOOD:.0f} dB and more is good.",
        ),
        (
            format_percent(coverage["mean"]),
            "coverage of the fly-through",
            "Fraction of its pixels that show what some frame saw. "
            f"In the worst view it is {format_percent(coverage['min'])}; "
            f"{100 * COVERAGE_GOOD:.0f} % and more is good.{motion}",
        ),
        (
            _format_optional(metrics["gaussians"]),
            "Gaussians",
            "Number of coloured ellipsoids that the scene consists of.",
        ),
        (
            f"{metrics['registered_frames']} of {metrics['frames']}",
            "frames with a camera",
            "The fit uses only frames whose camera was found.",
        ),
    ]


def stage_costs(stages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Sum the costs of each stage over clips.

    Args:
        stages: Entry `stages` of provenance.json.

    Returns:
        For each stage its name, count, number of cached results, seconds, peak memory in bytes,
        and its time as a fraction of the longest stage's.
    """
    rows: dict[str, dict[str, Any]] = {}
    for stage in stages:
        row = rows.setdefault(
            stage["stage"],
            {"name": stage["stage"], "count": 0, "cached": 0, "seconds": 0.0, "peak_bytes": 0},
        )
        row["count"] += 1
        row["cached"] += stage["cached"]
        row["seconds"] += stage["seconds"]
        row["peak_bytes"] = max(row["peak_bytes"], stage["peak_bytes"])
    longest = max((row["seconds"] for row in rows.values()), default=0.0)
    return [
        row | {"fraction": row["seconds"] / longest if longest else 0.0} for row in rows.values()
    ]


def format_command(
    arguments: Sequence[str],
    environment: Mapping[str, str] | None = None,
    choices: Sequence[str] = (),
) -> str:
    """Format the command that repeats a run.

    Args:
        arguments: The program, whose folder is dropped, and its arguments.
        environment: Variables that the run depends on.
        choices: Names that a program called `lift.run` with. They are no part of the command.

    Returns:
        The command with quotes for a shell, and the choices on a line of their own.
    """
    if not arguments:
        return ""
    variables = [f"{name}={shlex.quote(value)}" for name, value in (environment or {}).items()]
    words = [*variables, Path(arguments[0]).name, shlex.join(arguments[1:])]
    command = " ".join(words).strip()
    return f"{command}\nlift.run with {', '.join(choices)}" if choices else command


def _format_optional(value: Number | None) -> str:
    return "–" if value is None or value != value else format_number(value)


def _format_decibels(value: float, digits: int = 1) -> str:
    return f"{value:.{digits}f} dB"


def _format_measurement(decibels: float | None) -> str:
    return "not measured" if decibels is None else _format_decibels(decibels)


def _format_size(value: int) -> str:
    return f"{value / 2**30:.2f} GiB" if value >= 2**30 else f"{value / 2**20:.0f} MiB"


def _format_seconds(value: float) -> str:
    return f"{value:.1f} s" if value < 120 else f"{int(value) // 60} min {int(value) % 60:02d} s"
