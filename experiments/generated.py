"""Lift the frames of video generators with several distortions.

    python experiments/generated.py [--preset cpu|gpu] [--clips NAME ...] [--distortions NAME ...]
        [--output FOLDER] [--results FOLDER] [--weights FOLDER] [--set KEY=VALUE ...]

Clips are those of `$LIFT_SHARED/data/generated_clips`. `lift` gets the folder of frames as an
ordered sequence, with frame 0 as the input. Every 8th frame is held out. The canonical scene is
scored on held-out frames, without a distortion and with the one interpolated between their
neighbours. Some clips have real frames of the same path. These are registered in the lifted scene,
and the canonical scene is scored on them. If `lift` refuses a clip, the message is its result.
Clips that are finished already are not repeated.

--output holds frames, runs and contact sheets, --results the table.
"""

import argparse
from pathlib import Path
from typing import Any

import clips as data
import torch
from measuring import (
    PRESETS,
    SHARED,
    FinishedRun,
    contact_sheet,
    error_picture,
    load_lpips,
    load_or_compute,
    markdown,
    mean_scores,
    run_lift,
    scores,
    step_folder,
    write_results,
)
from registering import register
from rich.progress import track

from lift.evaluation.lpips import LPIPS
from lift.io.cameras import read_cameras
from lift.io.image import resize_images
from lift.outputs.delivery import FLY_THROUGH
from lift.outputs.quality import render_canonical
from lift.renderers import Renderer
from lift.types import Frames

DISTORTIONS = ("identity", "composed", "hexplane", "field")
DEFAULT_DISTORTIONS = ("identity", "composed")
MIN_COVERED_ALPHA = 0.9
"""Opacity above which a pixel of a render counts as covered."""
MIN_DEPTH_ALPHA = 0.5
"""Opacity above which the depth of a render is used for matches."""
SHEET_VIEWS = 8
"""Number of views in a contact sheet, at most."""


def input_settings(folder: Path) -> list[str]:
    """Settings of `lift run` for a folder of frames in order of time, the first one the input."""
    return [f"image={folder}", "input=0000.png", "frames.ordered=true"]


def lift_clip(
    clip: data.GeneratedClip,
    distortion: str,
    settings: list[str],
    output: Path,
    lpips: LPIPS | None,
) -> dict[str, Any]:
    """Lift a clip and score it.

    Args:
        clip: The clip.
        distortion: Name of the distortion.
        settings: Settings of `lift run`.
        output: Folder of frames, runs and sheets.
        lpips: Network, or None.

    Returns:
        PSNR in dB, counts, seconds and GiB.
    """
    folder = output / "frames" / clip.name
    if len(list(folder.glob("*.png"))) != len(clip.numbers):
        data.write_frames(data.generated_frames(clip), folder)
    clip_settings = [
        f"distortion={distortion}",
        f"output={output}",
        f"name={clip.name}-{distortion}",
    ]
    run = run_lift([*input_settings(folder), *clip_settings, *settings])
    renderer = run.renderer()
    sheets = output / "sheets"
    contact_sheet(sheets / f"{clip.name}-{distortion}.jpg", fly_through_rows(run, renderer))
    registered = run.registered
    metrics = run.metrics
    record = {
        "input_psnr": metrics["input_psnr"],
        "held_out_psnr": metrics["held_out_psnr"],
        "held_out_psnr_distorted": metrics["held_out_psnr_distorted"],
        "verdict": metrics.get("verdict"),
        "reasons": metrics.get("reasons"),
        "frames": len(registered),
        "registered": int(registered.sum()),
        "num_held_out": len(run.held_out),
        "gaussians": len(run.gaussians),
        "seconds": run.seconds,
        "total_seconds": sum(run.seconds.values()),
        "peak_gib": run.peak_gib,
    }
    real = data.real_frames(clip)
    if real is not None:
        sheet = sheets / f"{clip.name}-{distortion}-real.jpg"
        record["real"] = against_real(run, Frames(real), renderer, lpips, sheet)
    return record


def against_real(
    run: FinishedRun, real: Frames, renderer: Renderer, lpips: LPIPS | None, sheet: Path
) -> dict[str, Any]:
    """Score the canonical scene on real frames of the same path.

    Args:
        run: The lifted clip.
        real: Real frames. Frame k was taken at the requested camera of generated frame k.
        renderer: Renderer of the canonical scene.
        lpips: Network, or None.
        sheet: File of the contact sheet.

    Returns:
        Scores of full frames and of the pixels that the fit covers, and the number of registered
        frames.
    """
    width = run.cameras.width
    height = run.cameras.height
    frames = run.frames()
    pictures = Frames(resize_images(real.images, width, height))
    views = [run.cameras[view] for view in range(len(frames))]
    rendered = [render_canonical(renderer, run.gaussians, camera) for camera in views]
    depth = torch.cat([torch.where(r.alpha > MIN_DEPTH_ALPHA, r.depth, 0.0) for r in rendered])
    registered = run.registered
    depth[~registered] = 0
    registration = register(pictures, frames, run.cameras, depth)
    full_scores = []
    covered = []
    rows = []
    for view in registration.registered.nonzero()[:, 0].tolist():
        render = render_canonical(renderer, run.gaussians, registration.cameras[view])
        truth = pictures[view].rgb[0]
        picture = render.rgb[0].clamp(0, 1)
        mask = render.alpha[0] > MIN_COVERED_ALPHA
        full_scores.append(scores(picture, truth, lpips))
        covered.append(
            scores(picture, truth, lpips, mask) | {"fraction": float(mask.float().mean())}
        )
        rows.append([truth, picture, error_picture(picture, truth)])
    if rows:
        contact_sheet(sheet, rows[:: max(1, len(rows) // SHEET_VIEWS)])
    return {
        "registered": int(registration.registered.sum()),
        "frames": len(pictures),
        "focal_factor": registration.focal_factor,
        "full_frame": mean_scores(full_scores),
        "covered": mean_scores(covered),
    }


def fly_through_rows(run: FinishedRun, renderer: Renderer) -> list[list[torch.Tensor]]:
    """Render views of the fly-through, in rows of four."""
    path = read_cameras(run.folder / FLY_THROUGH)
    views = range(0, len(path), max(1, len(path) // SHEET_VIEWS))
    renders = [render_canonical(renderer, run.gaussians, path[view]) for view in views]
    pictures = [render.rgb[0].clamp(0, 1) for render in renders]
    return [pictures[start : start + 4] for start in range(0, min(len(pictures), SHEET_VIEWS), 4)]


def tables(rows: list[dict[str, Any]]) -> str:
    """Format the results as Markdown."""
    heads = [
        "clip",
        "distortion",
        "input PSNR",
        "held-out PSNR",
        "held-out PSNR, distorted",
        "registered",
        "Gaussians",
        "verdict",
        "s",
    ]
    lines = []
    for row in rows:
        head = [row["clip"], row["distortion"]]
        if "refused" in row:
            lines.append([*head, f"refused: {row['refused']}", *[""] * (len(heads) - 3)])
            continue
        lines.append(
            [
                *head,
                row["input_psnr"],
                row["held_out_psnr"],
                row["held_out_psnr_distorted"],
                f"{row['registered']} of {row['frames']}",
                row["gaussians"],
                row["verdict"],
                round(row["total_seconds"]),
            ]
        )
    parts = [markdown(heads, lines)]
    if real := [row for row in rows if "real" in row]:
        parts.append("## Against real frames of the same path\n\n" + _real_table(real))
    parts.append("## Means\n\n" + _means(rows))
    return "\n\n".join(parts)


def _real_table(rows: list[dict[str, Any]]) -> str:
    names = ("psnr", "ssim", "lpips")
    heads = ["clip", "distortion", "registered", "PSNR", "SSIM", "LPIPS"]
    heads += ["covered, %", "PSNR, covered", "SSIM, covered", "LPIPS, covered"]
    lines = []
    for row in rows:
        real = row["real"]
        fraction = real["covered"].get("fraction")
        lines.append(
            [
                row["clip"],
                row["distortion"],
                f"{real['registered']} of {real['frames']}",
                *(real["full_frame"].get(name) for name in names),
                None if fraction is None else 100 * fraction,
                *(real["covered"].get(name) for name in names),
            ]
        )
    return markdown(heads, lines)


def _means(rows: list[dict[str, Any]]) -> str:
    """Average over the clips that were lifted with every distortion."""
    successes = [row for row in rows if "refused" not in row]
    names = list(dict.fromkeys(row["distortion"] for row in rows))
    lifted = [{row["clip"] for row in successes if row["distortion"] == name} for name in names]
    common = set.intersection(*lifted) if lifted else set()
    keys = ("input_psnr", "held_out_psnr", "held_out_psnr_distorted")
    lines = []
    for name in names:
        group = [row for row in successes if row["distortion"] == name and row["clip"] in common]
        values_by_key = [[row[key] for row in group if row[key] is not None] for key in keys]
        means = [sum(values) / len(values) if values else None for values in values_by_key]
        lines.append([name, len(common), *means])
    heads = ["distortion", "clips", "input PSNR", "held-out PSNR", "held-out PSNR, distorted"]
    return markdown(heads, lines)


NOTES = """Frames of video generators, as an ordered sequence. Frame 0 is the input. Every 8th \
frame is held out of the fit. PSNR in dB is of the canonical scene at the estimated cameras. \
`distorted` is with the distortion interpolated between the fitted frames before and after.

Real frames are registered in the lifted scene. Their features are matched with those of \
generated frames at about the same time. Rendered depth of the canonical scene turns matches into \
points, and poselib finds the camera by RANSAC. One factor on the focal length is chosen for all \
real frames of a clip. Real frames with too few inliers are left out. Covered are the pixels of a \
real frame where the render is opaque."""


def options_of(arguments: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", choices=list(PRESETS), default="cpu")
    parser.add_argument("--clips", nargs="+", metavar="NAME")
    parser.add_argument(
        "--distortions", nargs="+", choices=DISTORTIONS, default=list(DEFAULT_DISTORTIONS)
    )
    parser.add_argument(
        "--output", type=Path, default=Path("outputs/generated"), help="folder of frames and runs"
    )
    parser.add_argument("--weights", type=Path, help="folder with the weights of LPIPS")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", dest="settings")
    parser.add_argument("--results", type=Path, help="folder of the table (benchmarks/results)")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Lift the clips that are not finished, and write the table."""
    options = options_of(arguments)
    index = {clip.name: clip for clip in data.read_index(SHARED / "data" / "generated_clips")}
    clip_names = options.clips or list(index)
    if unknown := [name for name in clip_names if name not in index]:
        raise SystemExit(f"--clips has {unknown[0]!r}; choose among {', '.join(index)}")
    output = step_folder(options.output, options.preset, options.settings)
    lpips = load_lpips(options.weights)
    settings = [*PRESETS[options.preset], *options.settings]
    rows = []
    steps = [(name, distortion) for name in clip_names for distortion in options.distortions]
    for name, distortion in track(steps, "clips", transient=True):
        results = load_or_compute(
            output / "results" / f"{name}-{distortion}.json",
            lambda name=name, distortion=distortion: lift_clip(
                index[name], distortion, settings, output, lpips
            ),
        )
        rows.append({"clip": name, "distortion": distortion} | results)
    command = f"python experiments/generated.py --preset {options.preset}"
    command += f" --distortions {' '.join(options.distortions)}"
    command += f" --set {' '.join(options.settings)}" if options.settings else ""
    text = "\n\n".join(["# Generated clips", NOTES, f"Made by `{command}`.", tables(rows)])
    complete = not options.settings and len(clip_names) == len(index)
    folder = options.results or (None if complete else output / "tables")
    folder_option = {} if folder is None else {"folder": folder}
    write_results("generated", options.preset, text, rows, settings=settings, **folder_option)
    print(text)


if __name__ == "__main__":
    main()
