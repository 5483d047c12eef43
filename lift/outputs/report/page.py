"""Write the report of a run: one HTML file that needs no other file and no network."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jinja2
from jaxtyping import UInt8
from torch import Tensor

from lift.io.names import printable
from lift.io.splats import FORMATS
from lift.outputs.charts import Number, format_number
from lift.outputs.curves import read_curves
from lift.outputs.quality import FrameMetrics, RunResult
from lift.outputs.report.commands import format_command, improvements, next_steps
from lift.outputs.report.figures import (
    arrange_columns,
    figure_groups,
    format_decibels,
    format_seconds,
)
from lift.outputs.report.media import EmbeddedScene, embed_film, script_hash
from lift.outputs.report.pictures import clip_tree, comparison_rows, encode_picture
from lift.outputs.report.plots import (
    camera_maps,
    distortion_charts,
    psnr_chart,
    training_curves,
)
from lift.outputs.verdict import Verdict
from lift.priors import VideoPrior
from lift.registry import ComponentError, catalogue
from lift.renderers import Renderer
from lift.training import CHECKPOINT

TEMPLATES = Path(__file__).parent / "templates"
"""Folder of the page's template, style sheet and script."""

_STILLS = 4
"""Number of pictures that stand for the film where there is none."""

OUTPUT_FILES = {
    "gaussians.ply": "the canonical scene",
    **{
        f"gaussians.{name}": f"the same, as {format.title}"
        for name, format in FORMATS.items()
        if name != "ply"
    },
    "video.mp4": "a film of it",
    "fly_through.jpg": "eight views of the fly-through",
    "fly_through.json": "cameras of the fly-through",
    "view_region.json": "how far one can look around",
    "transforms.json": "cameras of the frames",
    "input.png": "the input picture at the size of the frames",
    "colmap": "cameras and points as COLMAP text",
    "frames": "the frames",
    "views": "depth and estimated cameras of the frames",
    "distortion.safetensors": "the learned distortion",
    "metrics.json": "the numbers of this page",
    "config.yaml": "every setting",
    "provenance.json": "versions, licences and stages of the run",
    CHECKPOINT: "checkpoint of the fit",
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
    stills: Sequence[UInt8[Tensor, "height width 3"]],
    run_folder: Path | None = None,
    scene: Callable[[], EmbeddedScene | None] = lambda: None,
) -> None:
    """Write `report.html`.

    Args:
        folder: Folder of the run. The other results are already there, and the page links to them.
        result: The result of a run.
        renderer: Renders on its own device.
        frame_metrics: Measurements of each frame, the input first.
        metrics: Content of metrics.json.
        provenance: Content of provenance.json.
        stills: Pictures of the film, evenly spaced.
        run_folder: Folder that the commands on the page name. None: `folder`.
        scene: Returns the interactive scene, or None if the page has none. It is called when the
            other parts of the page are there.
    """
    context = (
        _assessment(folder, result, metrics, provenance, run_folder or folder)
        | _sections(folder, result, renderer, frame_metrics, metrics)
        | _media(folder, result, stills, scene)
    )
    template = _load_template()
    # The page states its own size, whose text has nearly the same length whatever the size is.
    size = len(template.render(context, page_size=0).encode("utf-8", "replace"))
    text = template.render(context, page_size=size)
    (folder / "report.html").write_text(printable(text), encoding="utf-8")


def _media(
    folder: Path,
    result: RunResult,
    stills: Sequence[UInt8[Tensor, "height width 3"]],
    embed_scene: Callable[[], EmbeddedScene | None],
) -> dict[str, Any]:
    """Collect what is shown first, with the style sheet and the script of the page."""
    camera = result.picture.cameras
    film = embed_film(folder)
    script = (TEMPLATES / "page.js").read_text(encoding="utf-8")
    film_height, film_width = stills[0].shape[:2] if stills else (camera.height, camera.width)
    pictures = {
        "input": encode_picture(result.frames.images[0]),
        "poster": encode_picture(stills[0]) if stills else None,
        "stills": [] if film else [encode_picture(still) for still in _subsample(stills)],
    }
    scene = embed_scene()
    return pictures | {
        "style": (TEMPLATES / "page.css").read_text(encoding="utf-8"),
        "script": script,
        "policy": content_policy([script_hash(script), *(scene.script_hashes if scene else ())]),
        "name": result.picture.name,
        "width": camera.width,
        "height": camera.height,
        "full_size": result.picture.full_size,
        "focal": float(camera.intrinsics[0, 0, 0]),
        "scene": scene,
        "film": film,
        "film_size": (film_width, film_height),
    }


def _assessment(
    folder: Path,
    result: RunResult,
    metrics: dict[str, Any],
    provenance: dict[str, Any],
    run_folder: Path,
) -> dict[str, Any]:
    """Collect the verdict, its figures, and where the scene comes from."""
    stages = stage_costs(provenance["stages"])
    generated = result.is_generated
    components = provenance["components"]
    origin = frames_origin(components.get("prior", ""))
    seconds = sum(stage["seconds"] for stage in stages)
    groups = figure_groups(metrics, generated, seconds, origin)
    camera = result.picture.cameras
    can_continue = (folder / CHECKPOINT).exists()
    advice = improvements(
        generated,
        has_setting("planner", components.get("planner", ""), "angle"),
        origin == VideoPrior.origin,
        (camera.width, camera.height),
        result.picture.full_size,
        can_continue,
    )
    return {
        "generated": generated,
        "metrics": metrics,
        "verdict": Verdict.from_metrics(metrics),
        "groups": groups,
        "columns": arrange_columns(groups),
        "steps": next_steps(run_folder, can_continue),
        "improvements": [] if metrics["verdict"] == "good" else advice,
        "provenance": provenance,
        "command": format_command(
            provenance["command"], provenance["environment"], provenance["choices"]
        ),
        "stages": stages,
    }


def _sections(
    folder: Path,
    result: RunResult,
    renderer: Renderer,
    frame_metrics: list[FrameMetrics],
    metrics: dict[str, Any],
) -> dict[str, Any]:
    """Collect the pictures and charts of the sections below."""
    rows, depth_scale = comparison_rows(result, renderer, frame_metrics)
    log, curves = read_curves(result.fit_folder)
    files = OUTPUT_FILES.items()
    return {
        "rows": rows,
        "depth_scale": depth_scale,
        "depth_kind": result.depth.kind,
        "typical": result.depth.typical,
        "clips": clip_tree(result, frame_metrics),
        "maps": camera_maps(result),
        "frames_chart": psnr_chart(frame_metrics, result.trajectory),
        "distortion": distortion_charts(frame_metrics, result.trajectory),
        "parts": metrics["distortion"].get("parts", {}),
        "training": training_curves(curves),
        "curves_folder": log if (folder / log).exists() else "",
        "files": [(file, description) for file, description in files if (folder / file).exists()],
    }


def frames_origin(prior: str) -> str:
    """Say in a sentence how the frames of a prior were made.

    Args:
        prior: Name of the prior, which need not be installed any more.
    """
    try:
        return catalogue()("prior", prior).origin or VideoPrior.origin
    except ComponentError:
        return VideoPrior.origin


def has_setting(slot: str, name: str, setting: str) -> bool:
    """Whether a component has a setting.

    Args:
        slot: Slot of the component.
        name: Name of the component, which need not be installed any more.
        setting: Name of the setting.
    """
    try:
        return setting in catalogue()(slot, name).settings
    except ComponentError:
        return False


def _subsample(
    stills: Sequence[UInt8[Tensor, "height width 3"]],
) -> list[UInt8[Tensor, "height width 3"]]:
    """Select evenly spaced pictures."""
    return [stills[len(stills) * k // _STILLS] for k in range(min(_STILLS, len(stills)))]


def content_policy(script_sources: Sequence[str]) -> str:
    """Write a content security policy: only known scripts, and no network.

    The frame of the interactive scene inherits the policy, so it allows what that page makes of its
    own data: scripts and workers by blob URLs, and WebAssembly.

    Args:
        script_sources: Hashes of the scripts of the report and of the scene's page.

    Returns:
        Value of the header Content-Security-Policy.
    """
    scripts = " ".join(dict.fromkeys(script_sources))
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src {scripts} blob: 'wasm-unsafe-eval'",
            "worker-src blob:",
            "style-src 'unsafe-inline'",
            "img-src data: blob:",
            "font-src data:",
            # A film that is too large is a file beside the page.
            "media-src data: blob: 'self' file:",
            "connect-src data: blob:",
            "frame-src blob:",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )


def _load_template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": _format_optional,
        "decibels": format_decibels,
        "size": _format_size,
        "megabytes": _format_megabytes,
        "seconds": format_seconds,
    }
    return environment.get_template("page.html")


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


def _format_optional(value: Number | None) -> str:
    return "–" if value is None or value != value else format_number(value)


def _format_size(value: int) -> str:
    return f"{value / 2**30:.2f} GiB" if value >= 2**30 else f"{value / 2**20:.0f} MiB"


def _format_megabytes(value: int) -> str:
    return f"{value / 1e6:.1f} MB" if value >= 1e5 else f"{max(1, round(value / 1e3))} kB"
