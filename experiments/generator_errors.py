"""Measure what video generators get wrong.

    python experiments/generator_errors.py [--clips NAME ...] [--output FOLDER] [--to FILE]

Points are tracked through the generated clips of `$LIFT_SHARED/data/generated_clips`. Cameras and
a static scene are found that explain the tracks best. What is left is the generator's. Real frames
of the same path, where there are any, say what the measurement adds by itself. Clips of the prior
`synthetic`, whose errors are known, say how much of an error the measurement sees.
Lengths are in pixels of a picture 384 wide.
"""

import argparse
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import clips as data
import numpy as np
import torch
from generator_measures import WIDTH, camera_errors, geometric, photometric
from jaxtyping import Float
from measuring import RESULTS, SHARED, load_or_compute, markdown
from rich.progress import track
from torch import Tensor
from tracking import (
    REACH,
    PosedTracks,
    chosen_frames,
    estimate_poses,
    restrict_frames,
    track_points,
)

from lift.depths import depths
from lift.geometry import pinhole
from lift.planners.articulated import Articulated
from lift.poses.sfm.state import Observations
from lift.priors.synthetic import Synthetic
from lift.runtime.machine import machine_info
from lift.synthetic import corruptions
from lift.synthetic.worlds import FIELD_OF_VIEW
from lift.types import Cameras, Depth, Frames

THIRDS = ("early", "middle", "late")
MEASURES = {
    "rotation": "rotation error, degrees",
    "translation": "position error, share of the path",
    "direction": "direction error, degrees",
    "residual": "displacement, median, px",
    "residual_90": "displacement, 90 %, px",
    "smooth": "smooth part, rms, px",
    "fine": "rest, rms, px",
    "brightness": "brightness, %",
    "balance": "white balance, %",
    "saturation": "saturation, %",
    "blur": "blur, px",
    "moving": "inconsistent, %",
}
SYNTHETIC = tuple((scene, seed) for scene in ("room", "terrace") for seed in (0, 1, 2))


@dataclass(frozen=True)
class Case:
    """A clip to be measured; images are WIDTH wide or less."""

    name: str
    kind: str
    """generated, real or synthetic."""
    generator: str
    images: data.Images
    requested: Cameras | None = None


def generated_case(clip: data.GeneratedClip) -> Case:
    """Load a generated clip."""
    images = data.resized_to(data.generated_frames(clip), WIDTH)
    height, width = images.shape[1:3]
    requested = data.requested_cameras(clip, width, height)
    return Case(clip.name, "generated", clip.generator, images, requested)


def real_case(clip: data.GeneratedClip) -> Case:
    """Load the real frames of a clip's path."""
    images = data.real_frames(clip)
    assert images is not None, "the caller asks for clips that have real frames"
    return Case(f"{clip.name}_real", "real", "camera", data.resized_to(images, WIDTH))


def synthetic_case(scene: str, seed: int, severity: float = 1.0) -> Case:
    """Render a clip whose errors are known, from the input to a full motion."""
    height = WIDTH * 3 // 4
    camera = pinhole(WIDTH, height, WIDTH / 2 / math.tan(math.radians(FIELD_OF_VIEW) / 2))
    prior = Synthetic(scene, severity, image=scene)
    start = prior.render_truth(camera)
    depth = Depth(start.depth[0], start.depth[0] > 0, "metric")
    arms = ("right", "left", "up")
    plan = Articulated(1, (arms[seed % len(arms)],), frames=24, angle=16.0)(camera, depth, None)
    frames = prior(Frames(start.images, start.depth), camera, plan.clips[0], seed)
    images = torch.cat([start.images, frames.images])
    name = f"synthetic_{scene}_{seed}" + ("" if severity == 1 else f"_{severity:g}")
    return Case(name, "synthetic", "synthetic", images, plan.cameras)


def measure(case: Case) -> dict[str, Any]:
    """Measure one clip.

    Args:
        case: The clip.

    Returns:
        Numbers by frame and their medians by third of the clip; `posed` says whether cameras were
        found.
    """
    torch.set_num_threads(1)
    numbers = chosen_frames(len(case.images))
    images = case.images[numbers]
    observations = restrict_frames(track_points(case.images), numbers)
    height, width = images.shape[1:3]
    unit = WIDTH / width
    posed_tracks = _estimate_poses(case, observations, images)
    rows: list[dict[str, Any]] = [{"frame": number} for number in numbers]
    _add(rows, photometric(images, observations, posed_tracks))
    if posed_tracks is not None:
        _add(rows, geometric(posed_tracks, len(images), (width, height), unit))
        if case.requested is not None:
            _add(rows, camera_errors(posed_tracks.scene, case.requested[numbers]))
    record = {"name": case.name, "kind": case.kind, "generator": case.generator}
    record["frames"] = len(case.images)
    if case.kind == "synthetic":
        record["sizes"] = {name: getattr(corruptions, name) for name in ("WARP", "DRIFT", "TURN")}
    record["posed"] = (
        None if posed_tracks is None else int(posed_tracks.scene.registered.sum()) / len(numbers)
    )
    if posed_tracks is not None:
        focal = posed_tracks.scene.log_focal[posed_tracks.scene.registered].exp().median()
        record["field_of_view"] = math.degrees(2 * math.atan(width / 2 / float(focal)))
    return record | {"thirds": by_thirds(rows), "by_frame": rows}


def _estimate_poses(
    case: Case, observations: Observations, images: data.Images
) -> PosedTracks | None:
    height, width = images.shape[1:3]
    focal = width / 2 / math.tan(math.radians(FIELD_OF_VIEW) / 2)
    if case.requested is not None:
        focal = float(case.requested.intrinsics[0, 0, 0])

    def depth() -> Float[Tensor, "height width"]:
        lite = depths.build({"name": "lite"}, image=case.name, device=torch.device("cpu"))
        input_depth = lite(images[0])
        return torch.where(input_depth.valid, input_depth.depth, 0.0)

    max_error = REACH * width / WIDTH
    principal_point = (width / 2, height / 2)
    lens = "fixed" if case.requested is not None else "shared"
    return estimate_poses(observations, len(images), focal, principal_point, max_error, lens, depth)


def _add(rows: list[dict[str, Any]], values: dict[str, Float[Tensor, "frame"]]) -> None:
    for name, numbers in values.items():
        for row, value in zip(rows, numbers.tolist(), strict=True):
            row[name] = round(value, 4) if math.isfinite(value) else None


def by_thirds(rows: list[dict[str, Any]]) -> dict[str, dict[str, float | None]]:
    """Take medians over the early, middle and late third of the frames, frame 0 left out."""
    later = rows[1:]
    bounds = [round(len(later) * k / 3) for k in range(4)]
    out: dict[str, dict[str, float | None]] = {}
    for third, start, end in zip(THIRDS, bounds, bounds[1:], strict=False):
        out[third] = {}
        for name in MEASURES:
            values = [row[name] for row in later[start:end] if row.get(name) is not None]
            out[third][name] = round(float(np.median(values)), 4) if values else None
    return out


HALF_NORMAL = 0.6745
"""Median of the absolute value of a standard normal number."""
BALANCE_SEEN = 0.65
"""Mean absolute value of three standard normal numbers less their mean."""
LATE = 5 / 6
"""Mean motion in the late third of a clip of `synthetic`, 1 at its end."""
LENGTH_3D = 1.126
"""Root mean square over median of the length of a normal vector in space."""


def benchmark_sizes(records: list[dict[str, Any]]) -> dict[str, float]:
    """Derive the constants of `lift.synthetic.corruptions` from what was measured.

    Severity 1 is the median generator in the last third of its clip. Warp and drift are scaled by
    the same measurement on clips of `synthetic`, because cameras and points take up a part of
    them. What real frames show is the floor of the measurement and taken off.

    Args:
        records: Results of `measure`, of all three kinds.

    Returns:
        Constants by name.
    """
    late = {
        kind: medians([record for record in records if record["kind"] == kind], "late")
        for kind in ("generated", "real", "synthetic")
    }
    generated = late["generated"]
    sizes = next(record["sizes"] for record in records if record["kind"] == "synthetic")

    def scaled(name: str, measure: str) -> float:
        floor, value, seen = (
            late[kind][measure] or 0.0 for kind in ("real", "generated", "synthetic")
        )
        over = [math.sqrt(max(number**2 - floor**2, 1e-6)) for number in (value, seen)]
        return sizes[name] * over[0] / over[1]

    turn = sizes["TURN"] * LATE / LENGTH_3D
    floor = max((late["synthetic"]["rotation"] or 0) ** 2 - turn**2, 0.0)
    return {
        "WARP": scaled("WARP", "smooth"),
        "DRIFT": scaled("DRIFT", "fine"),
        "EXPOSURE": math.log1p((generated["brightness"] or 0) / 100) / HALF_NORMAL,
        "BALANCE": (generated["balance"] or 0) / 100 / BALANCE_SEEN,
        "SATURATION": (generated["saturation"] or 0) / 100,
        "BLUR": _softening(records) / WIDTH,
        "TURN": LENGTH_3D * math.sqrt(max((generated["rotation"] or 0) ** 2 - floor, 0.0)),
        "SHIFT": (generated["translation"] or 0) * LENGTH_3D * corruptions.FULL_SHIFT,
    }


def _softening(records: list[dict[str, Any]]) -> float:
    """Median blur in the late third of the generated clips that get softer at all."""
    blurs = [r["thirds"]["late"]["blur"] for r in records if r["kind"] == "generated"]
    softer = [blur for blur in blurs if blur is not None and blur > 0]
    return float(np.median(softer)) if softer else 0.0


SIGNED = ("brightness", "saturation")


def medians(records: list[dict[str, Any]], third: str) -> dict[str, float | None]:
    """Take the median over clips of a third's values; absolute values of signed ones."""
    out: dict[str, float | None] = {}
    for name in MEASURES:
        values = [record["thirds"][third].get(name) for record in records]
        magnitudes = [
            abs(value) if name in SIGNED else value for value in values if value is not None
        ]
        out[name] = float(np.median(magnitudes)) if magnitudes else None
    return out


def report(records: list[dict[str, Any]]) -> str:
    """Write the page docs/generator-errors.md."""
    parts = [__doc__.split("\n")[0], "", INTRODUCTION, ""]
    kinds = ("generated", "real", "synthetic")
    by_kind = {kind: [record for record in records if record["kind"] == kind] for kind in kinds}
    parts += ["## Medians over clips", "", _summary(by_kind), ""]
    for kind, title in (
        ("generated", "Generated clips"),
        ("real", "Real frames of the same paths"),
        ("synthetic", "Clips of the prior `synthetic`"),
    ):
        if by_kind[kind]:
            parts += [f"## {title}", "", _by_clip(by_kind[kind]), ""]
    if all(by_kind.values()):
        sizes = benchmark_sizes(records)
        rows = [[f"`{name}`", f"{value:.2g}"] for name, value in sizes.items()]
        parts += ["## Sizes for the benchmark", "", SIZES, "", markdown(["constant", "size"], rows)]
        parts.append("")
    failed = [r["name"] for r in records if r["posed"] is None]
    if failed:
        parts += [f"No cameras were found for: {', '.join(failed)}.", ""]
    return "\n".join(["# What video generators get wrong", "", *parts[2:]])


INTRODUCTION = f"""Made by `python experiments/generator_errors.py`. Every number is a median over \
the frames of a third of a clip (early / middle / late), relative to frame 0.

- Points are tracked from frame to frame (Lucas-Kanade, checked backwards). No geometry is asked \
for, so moving parts stay in.
- Cameras and a static scene are found by bundle adjustment. Displacement is the reprojection \
error of the tracks, in pixels of a picture {WIDTH} wide. The smooth part is a field of 4 x 4 \
cosines; smooth part and rest are root mean squares along one axis.
- The cameras explain a part of a displacement. The table of `synthetic` shows how much is left of \
a smooth warp of 0.8 % of the width (3.1 px) at the end of a clip.
- Brightness, white balance and saturation are robust changes at tracked points. Blur is the \
Gaussian that takes as much gradient energy from frame 0; a negative value means sharper. The \
camera's distance is accounted for.
- Inconsistent is the share of observations more than {REACH:g} px from the static scene.
- Camera errors need requested cameras, whose focal length is then used. Both paths begin at frame \
0's camera, and the estimated one is scaled by least squares. For `synthetic` they are against the \
plan."""


SIZES = """The constants of `lift.synthetic.corruptions` follow from the medians over generated \
clips in the late third. Severity 1 of the prior `synthetic` and of the distortion benchmark is \
thus the median generator. Warp and drift are scaled by the same measurement on `synthetic`, less \
the floor that real frames show. Half of the clips get sharper, not softer: `BLUR` is the median \
of those that get softer. Of `TURN`, what the measurement adds on `synthetic` is taken off. \
`TURN` and `SHIFT` rest on few clips, those with a camera file; a share of the path is taken to \
be a share of a full motion. Inconsistent parts are not more frequent than in real frames, so \
nothing follows from them. Contrast of false texture (`MOTTLE`), moving objects (`OBJECT`) and \
zoom (`ZOOM`) were not measured and are chosen."""


def _summary(by_kind: dict[str, list[dict[str, Any]]]) -> str:
    heads = ["measure"]
    columns = []
    for kind, records in by_kind.items():
        if records:
            thirds = [medians(records, third) for third in THIRDS]
            heads += [f"{kind}, {third}" for third in THIRDS]
            columns += thirds
    rows = [[label, *(column[name] for column in columns)] for name, label in MEASURES.items()]
    return markdown(heads, rows)


def _by_clip(records: list[dict[str, Any]]) -> str:
    heads = ["clip", "generator", "posed, %", *MEASURES.values()]
    rows = []
    for record in records:
        fraction = record["posed"]
        cells = [" / ".join(_short(record["thirds"][t][name]) for t in THIRDS) for name in MEASURES]
        cells = ["-" if set(cell) <= set("- /") else cell for cell in cells]
        posed_share = f"{100 * fraction:.0f}" if fraction else "-"
        rows.append([record["name"], record["generator"], posed_share, *cells])
    return markdown(heads, rows)


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.2g}" if abs(value) < 10 else f"{value:.0f}"


def main() -> None:
    """Measure the clips that are not measured yet, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", nargs="+", metavar="NAME", help="only these clips")
    parser.add_argument("--output", type=Path, default=Path("outputs/generator_errors"))
    parser.add_argument("--to", type=Path, default=Path("docs/generator-errors.md"))
    options = parser.parse_args()
    index = data.read_index(SHARED / "data" / "generated_clips")
    names = [clip.name for clip in index]
    for name in options.clips or ():
        if name not in names:
            parser.error(f"--clips has {name!r}; choose among {', '.join(names)}")
    steps = {}
    for clip in index:
        if options.clips and clip.name not in options.clips:
            continue
        steps[clip.name] = lambda clip=clip: generated_case(clip)
        if clip.real_numbers is not None:
            steps[f"{clip.name}_real"] = lambda clip=clip: real_case(clip)
    for scene, seed in () if options.clips else SYNTHETIC:
        steps[f"synthetic_{scene}_{seed}"] = lambda a=scene, b=seed: synthetic_case(a, b)
    records = []
    for name, load in track(list(steps.items()), "clips", transient=True):
        record = load_or_compute(options.output / f"{name}.json", lambda load=load: measure(load()))
        records.append({key: value for key, value in record.items() if key != "machine"})
    text = report(records)
    if options.clips:
        print(text)
        return
    options.to.parent.mkdir(parents=True, exist_ok=True)
    options.to.write_text(text.rstrip() + "\n", encoding="utf-8")
    header = {"experiment": "generator_errors", "width": WIDTH, "machine": machine_info("cpu")}
    RESULTS.mkdir(exist_ok=True)
    lines = ",\n".join(json.dumps(record) for record in records)  # a clip a line
    content = json.dumps(header, indent=1).removesuffix("\n}") + f',\n "rows": [\n{lines}\n]\n}}\n'
    (RESULTS / "generator-errors.json").write_text(content, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
