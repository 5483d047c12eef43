"""The page that shows what a run did: one HTML file with its pictures inside, nothing fetched, no scripts."""

import base64
import math
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import matplotlib
import matplotlib.colors
import torch
from jaxtyping import Bool, Float, UInt8
from markupsafe import Markup
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from lift.evaluation.diagnosis import CAUSES
from lift.io.image import encode_image
from lift.outputs.charts import Band, Number, Series, line_chart, map_view, number_text
from lift.outputs.quality import FrameFinding, Scene, registered_frames
from lift.outputs.verdict import COVERAGE_GOOD, HELD_OUT_GOOD, INPUT_GOOD, Verdict, format_percent
from lift.renderers import Renderer
from lift.types import Trajectory

THUMBNAIL, STILL = 168, 384
"""Longer side of the pictures in filmstrips, and of all others, in pixels."""

STRIP = 5
"""Pictures a clip."""

DIFFERENCE = 0.25
"""Mean absolute difference of the three channels that is shown in full brightness."""

DEEPEST = 6
"""Level of the tree below which clips are indented no more."""

_WIDE, _NARROW = (
    1080,
    350,
)  # of charts, in about the pixels that the page gives them, so that their text has one size

FILES = {
    "gaussians.ply": "the canonical scene",
    "gaussians.splat": "the same, smaller, without view dependence",
    "gaussians.spz": "the same, compressed",
    "video.mp4": "a fly-through of it",
    "fly_through.jpg": "eight views of the fly-through",
    "fly_through.json": "cameras of the fly-through",
    "transforms.json": "cameras of the frames",
    "colmap": "cameras and points as COLMAP text",
    "frames": "the frames",
    "distortion.safetensors": "what was learned as distortion",
    "metrics.json": "the numbers of this page",
    "config.yaml": "every setting",
    "provenance.json": "what made it",
    "checkpoint.ckpt": "checkpoint of the fit",
    "tensorboard": "training logs",
}


def write_report(
    folder: Path,
    scene: Scene,
    renderer: Renderer,
    findings: list[FrameFinding],
    metrics: dict[str, Any],
    provenance: dict[str, Any],
    video: Sequence[UInt8[Tensor, "height width 3"]],
) -> None:
    """Writes `report.html` into `folder`, where the other results lie already and are linked to.

    findings: one a frame, the input first. metrics, provenance: what metrics.json and provenance.json hold. video: the fly-through.
    """
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    page = jinja2.Environment(
        loader=loader,
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page.filters |= {"number": _number, "decibels": _decibels, "size": _size, "seconds": _seconds}
    rows, depth_scale = compared(scene, renderer, findings)
    stills = [video[len(video) * k // 4] for k in range(min(4, len(video)))]
    text = page.get_template("report.html").render(
        name=scene.picture.name,
        frames=len(scene.frames),
        width=scene.picture.cameras.width,
        height=scene.picture.cameras.height,
        focal=float(scene.picture.cameras.intrinsics[0, 0, 0]),
        thumbnail=round(
            THUMBNAIL * min(1.0, scene.picture.cameras.width / scene.picture.cameras.height)
        ),
        input=picture(scene.frames.images[0]),
        stills=[picture(still) for still in stills],
        poster=picture(stills[0]) if stills else None,
        has_video=(folder / "video.mp4").is_file(),
        files=[(file, about) for file, about in FILES.items() if (folder / file).exists()],
        metrics=metrics,
        headline=Verdict(metrics["verdict"], ()).headline,
        numbers=key_numbers(metrics),
        provenance=provenance,
        command=command(provenance["command"]),
        clips=tree(scene, findings),
        maps=camera_maps(scene),
        rows=rows,
        depth_scale=depth_scale,
        depth_kind=scene.depth.kind,
        typical=scene.depth.typical,
        learned=learned(findings, scene.trajectory),
        parts=metrics["distortion"].get("parts", {}),
        curves=training_curves(scene.fitted / "tensorboard"),
        stages=stage_costs(provenance["stages"]),
    )
    (folder / "report.html").write_text(text, encoding="utf-8")


def key_numbers(metrics: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Choose the numbers that the page begins with.

    Args:
        metrics: What metrics.json holds.

    Returns:
        Value, name and a sentence that explains it, for each number.
    """
    coverage = metrics["coverage"]
    scale = metrics["fly_through_scale"]
    motion = "" if scale >= 1 else f" Its motion was shrunk to {format_percent(scale)}."
    return [
        (
            _measured(metrics["input_psnr"]),
            "PSNR of the input view",
            "How closely the scene shows the input picture from its own camera; "
            f"{INPUT_GOOD:.0f} dB and more is good.",
        ),
        (
            _measured(metrics["held_out_psnr"]),
            "PSNR of held-out frames",
            "How closely it shows frames that the fit never saw; "
            f"{HELD_OUT_GOOD:.0f} dB and more is good.",
        ),
        (
            format_percent(coverage["mean"]),
            "coverage of the fly-through",
            "Share of its pixels that show what some frame saw. "
            f"In the worst view it is {format_percent(coverage['smallest'])}; "
            f"{100 * COVERAGE_GOOD:.0f} % and more is good.{motion}",
        ),
        (
            _number(metrics["gaussians"]),
            "Gaussians",
            "Number of coloured ellipsoids that the scene consists of.",
        ),
        (
            f"{metrics['placed_frames']} of {metrics['frames']}",
            "frames with a camera",
            "The fit uses only frames whose camera was found.",
        ),
    ]


def picture(
    image: UInt8[Tensor, "height width 3"] | Float[Tensor, "height width 3"],
    side: int = STILL,
    quality: int = 82,
) -> str:
    """A JPEG as a data URI, its longer side at most `side` pixels."""
    image = image.cpu().float() / 255 if image.dtype == torch.uint8 else image.cpu()
    height, width = image.shape[:2]
    if (factor := side / max(height, width)) < 1:
        size = (max(1, round(height * factor)), max(1, round(width * factor)))
        image = torch.nn.functional.interpolate(
            image.permute(2, 0, 1)[None], size, mode="bilinear", antialias=True
        )[0].permute(1, 2, 0)
    return (
        "data:image/jpeg;base64," + base64.b64encode(encode_image(image, "jpeg", quality)).decode()
    )


def colored(
    value: Float[Tensor, "height width"], known: Bool[Tensor, "height width"], palette: str
) -> Float[Tensor, "height width 3"]:
    """Values in [0, 1] through a palette of matplotlib; grey where not known."""
    rgb = torch.from_numpy(
        matplotlib.colormaps[palette](value.clamp(0, 1).numpy())[..., :3]
    ).float()
    return torch.where(known[..., None], rgb, torch.full_like(rgb, 0.5))


def tree(scene: Scene, findings: list[FrameFinding]) -> list[dict[str, Any]]:
    """The clips, each after the one that it continues, with level, source and filmstrip."""
    clips, spans = scene.trajectory.clips, scene.trajectory.spans
    parents = [
        next((k for k, span in enumerate(spans) if clip.source in span), None) for clip in clips
    ]
    out: list[dict[str, Any]] = []
    waiting = [(number, 0) for number in reversed(range(len(clips))) if parents[number] is None]
    while waiting:
        number, level = waiting.pop()
        span = spans[number]
        chosen = (
            sorted({span[round(k * (len(span) - 1) / max(1, STRIP - 1))] for k in range(STRIP)})
            if len(span)
            else []
        )
        parent = parents[number]
        out.append(
            {
                "name": clips[number].name,
                "level": min(level, DEEPEST),
                "source": clips[number].source,
                "continues": "the input"
                if clips[number].source == 0
                else f"frame {clips[number].source} of {clips[parent].name}",
                "first": span[0] if len(span) else None,
                "last": span[-1] if len(span) else None,
                "strip": [_thumbnail(scene, findings[view]) for view in chosen],
            }
        )
        waiting += [
            (child, level + 1) for child in reversed(range(len(clips))) if parents[child] == number
        ]
    return out


def _thumbnail(scene: Scene, finding: FrameFinding) -> dict[str, Any]:
    """Describe a frame of a filmstrip; its PSNR is None if its camera was not found."""
    return {
        "view": finding.view,
        "image": picture(scene.frames.images[finding.view], THUMBNAIL),
        "psnr": finding.psnr if finding.registered else None,
    }


def camera_maps(scene: Scene) -> dict[str, Any]:
    """Draw the cameras from above and from the side, in the input camera's axes.

    Args:
        scene: What the run made. Frames whose camera was not found are left out.

    Returns:
        `charts`: the maps. `planned`: whether the trajectory says where the cameras should be.
        `moved`: whether some are elsewhere; the planned paths are then drawn, too.
    """
    trajectory = scene.trajectory
    start = trajectory.start.world_to_camera[0]

    def local(centers: Tensor) -> Tensor:
        return centers @ start[:3, :3].T + start[:3, 3]

    planned = local(trajectory.cameras.centers)
    found = local(scene.reconstruction.cameras.centers)
    meaningful = trajectory.hint in ("planned", "known")
    distance = (planned - found).norm(dim=-1)
    moved = meaningful and bool((distance > 0.005 * scene.depth.typical).any())
    registered = set(registered_frames(scene))
    clips = zip(trajectory.clips, trajectory.spans, strict=True)
    paths = [[clip.source, *span] for clip, span in clips]
    if not meaningful:
        paths = [[view for view in path if view in registered] or [0] for path in paths]
    names = [clip.name for clip in trajectory.clips]
    above = ("from above: right, forward (up the page)", (0, 2), torch.tensor([1.0, -1.0]))
    side = ("from the side: forward (to the right), up", (2, 1), torch.tensor([1.0, 1.0]))
    charts = []
    for title, axes, signs in (above, side):
        flat = found[:, axes] * signs
        faint = planned[:, axes] * signs
        curves = [flat[path] for path in paths]
        behind = [faint[path] for path in paths] if moved else []
        unit = scene.depth.typical
        name = "of the typical depth"
        charts.append(map_view(title, curves, names, flat[0], unit, name, behind))
    return {"moved": moved, "planned": meaningful, "charts": charts}


@torch.no_grad()
def compared(
    scene: Scene, renderer: Renderer, findings: list[FrameFinding]
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Input, best, median and worst frame, each beside the canonical scene from the same place, depths too; and the depths' scale."""
    registered = [finding for finding in findings[1:] if finding.registered]
    order = sorted(registered, key=lambda finding: finding.psnr, reverse=True)
    names: dict[int, list[str]] = {0: ["input"]}
    for label, finding in zip(
        ("best", "median", "worst"),
        [order[0], order[len(order) // 2], order[-1]] if order else [],
        strict=False,
    ):
        names.setdefault(finding.view, []).append(label)

    known = scene.depth.depth[scene.depth.valid]
    known = known[:: max(1, known.numel() // 100_000)]
    near, far = (float(known.quantile(share)) for share in (0.02, 0.98))

    def depth_picture(depth: Tensor, valid: Tensor) -> str:
        # Linear in inverse depth, as the eye's two pictures see it: otherwise a far background takes all the colours.
        share = (1 / depth.clamp(min=1e-6) - 1 / far) / max(1 / near - 1 / far, 1e-9)
        return picture(colored(share, valid, "turbo"))

    rows, device = [], renderer.device
    for view, labels in names.items():
        render = renderer(scene.gaussians.to(device), scene.reconstruction.cameras[view].to(device))
        rgb, frame = render.rgb[0].cpu().clamp(0, 1), scene.frames[view].rgb[0]
        difference = (rgb - frame).abs().mean(-1)
        depth = scene.depth.depth if view == 0 else scene.reconstruction.depth[view].cpu()
        valid = scene.depth.valid if view == 0 else depth > 0
        rows.append(
            {
                "name": ", ".join(labels),
                "view": view,
                "finding": findings[view],
                "frame": picture(frame),
                "render": picture(rgb),
                "difference": picture(
                    colored(
                        difference / DIFFERENCE,
                        torch.ones_like(difference, dtype=torch.bool),
                        "inferno",
                    )
                ),
                "depth": depth_picture(depth, valid),
                "render_depth": depth_picture(render.depth[0].cpu(), render.alpha[0].cpu() > 0.5),
            }
        )
    shares = torch.linspace(0, 1, 5)
    stops = [
        matplotlib.colors.to_hex(matplotlib.colormaps["turbo"](1 - share))
        for share in torch.linspace(0, 1, 13).tolist()
    ]
    marks = [_number(1 / (1 / near + share * (1 / far - 1 / near))) for share in shares.tolist()]
    return rows, {"colors": ", ".join(stops), "marks": marks}


def learned(findings: list[FrameFinding], trajectory: Trajectory) -> dict[str, Any]:
    """Charts over the frames of all that was learned as their distortion, and what it gains."""
    bands = [
        Band(span[0] - 0.5, span[-1] + 0.5, clip.name)
        for clip, span in zip(trajectory.clips, trajectory.spans, strict=False)
        if len(span)
    ]
    views = [finding.view for finding in findings]

    def values(name: str, factor: float = 1.0) -> list[float]:
        fitted = [f.registered and not f.held_out for f in findings]
        return [
            factor * getattr(f, name) if fit else math.nan
            for f, fit in zip(findings, fitted, strict=True)
        ]

    charts, nothing = [], []
    for title, name, factor in (
        ("camera turned by (degrees)", "rotation", 1.0),
        ("camera moved by (% of the typical depth)", "translation", 100.0),
        ("Gaussians moved by, mean (% of the typical depth)", "motion", 100.0),
        ("picture changed by, mean (% of full range)", "color", 100.0),
    ):
        if max((v for v in values(name, factor) if v == v), default=0.0) > 1e-5:
            charts.append(
                line_chart(
                    title,
                    [Series(name, views, values(name, factor))],
                    width=_WIDE,
                    height=130,
                    zero=True,
                    bands=bands,
                )
            )
        else:
            nothing.append({"motion": "Gaussian motion", "color": "image change"}.get(name, name))
    if charts:  # what nothing was learned of explains nothing
        # Bounded: one frame that its own correction makes worse would take the whole scale.
        parts = [
            Series(cause, views[1:], [_percent_of(f, cause) for f in findings[1:]])
            for cause in (*CAUSES, "unexplained")
        ]
        charts.insert(
            0,
            line_chart(
                "of a frame's squared difference to the canonical scene (%)",
                parts,
                width=_WIDE,
                height=160,
                zero=True,
                bands=bands,
            ),
        )
    held_out = [f for f in findings if f.held_out]
    lines = [
        Series("canonical scene", views, [f.psnr if f.registered else math.nan for f in findings])
    ]
    if charts:
        lines.append(Series("with the frame's distortion put in", views, values("psnr_distorted")))
    if held_out:
        lines.append(
            Series(
                "held out of the fit",
                [f.view for f in held_out],
                [f.psnr for f in held_out],
                dots=True,
            )
        )
    charts.insert(
        0,
        line_chart(
            "PSNR against the frame (dB)",
            lines,
            width=_WIDE,
            height=190,
            bands=bands,
            x_name="frame",
        ),
    )
    gains = [f.psnr_distorted - f.psnr for f in findings[1:] if f.registered and not f.held_out]
    return {
        "charts": charts,
        "nothing": nothing,
        "gain": sum(gains) / len(gains) if gains else None,
        "most": max(gains, default=None),
        "held_out": len(held_out),
    }


def _percent_of(finding: FrameFinding, cause: str) -> float:
    """Return a cause's share of a frame's error in percent, bounded; NaN if no camera was found."""
    return min(max(100 * finding.shares[cause], -50.0), 150.0) if finding.registered else math.nan


def training_curves(folder: Path) -> list[Markup]:
    """Charts of what TensorBoard's event files in `folder` hold; none if there is no such folder."""
    if not folder.is_dir():
        return []
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 1, "tensors": 1})
    events.Reload()
    tags = events.Tags()["scalars"]

    def series(tag: str, name: str, dots: bool = False) -> list[Series]:
        if tag not in tags:
            return []
        at = {
            event.step: event.value for event in events.Scalars(tag)
        }  # a resumed fit may have logged a step twice
        return [Series(name, sorted(at), [at[step] for step in sorted(at)], dots)]

    parts = [
        *series("loss", "total"),
        *series("l1", "L1"),
        *series("dssim", "1 − SSIM"),
        *series("depth", "inverse depth"),
    ]
    pictures = [
        *series("psnr", "training frames"),
        *series("val/input_psnr", "input", True),
        *series("val/held_out_psnr", "held out", True),
    ]
    charts = [
        line_chart("loss and its parts", parts, width=_NARROW, log=True, x_name="step"),
        line_chart("PSNR (dB)", pictures, width=_NARROW, x_name="step"),
        line_chart("Gaussians", series("gaussians", "Gaussians"), width=_NARROW, x_name="step"),
    ]
    return [chart for chart in charts if chart]


def stage_costs(stages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Seconds and peak memory by stage, clips summed; the share of the longest for a bar."""
    out: dict[str, dict[str, Any]] = {}
    for stage in stages:
        row = out.setdefault(
            stage["stage"],
            {"name": stage["stage"], "count": 0, "found": 0, "seconds": 0.0, "peak_bytes": 0},
        )
        row["count"] += 1
        row["found"] += stage["found"]
        row["seconds"] += stage["seconds"]
        row["peak_bytes"] = max(row["peak_bytes"], stage["peak_bytes"])
    longest = max((row["seconds"] for row in out.values()), default=0.0)
    return [row | {"share": row["seconds"] / longest if longest else 0.0} for row in out.values()]


def command(arguments: Sequence[str]) -> str:
    """What to type to run it again; the first argument is the program, without the folder it was installed in."""
    return (
        " ".join([Path(arguments[0]).name, shlex.join(arguments[1:])]).strip() if arguments else ""
    )


def _number(value: Number | None) -> str:
    return "–" if value is None or value != value else number_text(value)


def _decibels(value: float, digits: int = 1) -> str:
    return f"{value:.{digits}f} dB"


def _measured(decibels: float | None) -> str:
    return "not measured" if decibels is None else _decibels(decibels)


def _size(value: int) -> str:
    return f"{value / 2**30:.2f} GiB" if value >= 2**30 else f"{value / 2**20:.0f} MiB"


def _seconds(value: float) -> str:
    return f"{value:.1f} s" if value < 120 else f"{int(value) // 60} min {int(value) % 60:02d} s"
