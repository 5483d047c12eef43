"""Measure the errors of video generators.

    python experiments/generator_errors.py [--clips NAME ...] [--output FOLDER] [--results FOLDER]

Points are tracked through the generated clips of `$LIFT_SHARED/data/generated_clips`. Bundle
adjustment finds the cameras and the static scene that explain the tracks best. The residuals are
the generator's errors. Some clips have real frames of the same path. They show the error of the
measurement itself. Clips of the prior `synthetic`, whose errors are known, show how much of an
error is measured. Lengths are in pixels of a picture that is 384 wide.

--output holds the measures of each clip. --results gets generator-errors.json and the page of the
same name (default: benchmarks/results and docs).
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
    MAX_RESIDUAL,
    PosedTracks,
    estimate_poses,
    restrict_frames,
    select_frames,
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
    "rotation_error_deg": "rotation error, degrees",
    "position_error": "position error, fraction of the path",
    "direction_error_deg": "direction error, degrees",
    "residual_px": "residual, median, px",
    "residual_p90_px": "residual, 90 %, px",
    "smooth_residual_px": "smooth part, rms, px",
    "fine_residual_px": "fine part, rms, px",
    "brightness": "brightness, %",
    "white_balance": "white balance, %",
    "saturation": "saturation, %",
    "blur_px": "blur, px",
    "inconsistent": "inconsistent, %",
}
SYNTHETIC = tuple((scene, seed) for scene in ("room", "terrace") for seed in (0, 1, 2))


@dataclass(frozen=True)
class Case:
    """A clip to measure. Its images are at most WIDTH wide."""

    name: str
    kind: str
    """generated, real or synthetic."""
    generator: str
    images: data.Images
    requested: Cameras | None = None


def generated_case(clip: data.GeneratedClip) -> Case:
    """Load a generated clip."""
    images = data.resize_to_width(data.generated_frames(clip), WIDTH)
    height, width = images.shape[1:3]
    requested = data.requested_cameras(clip, width, height)
    return Case(clip.name, "generated", clip.generator, images, requested)


def real_case(clip: data.GeneratedClip) -> Case:
    """Load the real frames of a clip's path."""
    images = data.real_frames(clip)
    assert images is not None, "the caller selects clips with real frames"
    return Case(f"{clip.name}_real", "real", "camera", data.resize_to_width(images, WIDTH))


def synthetic_case(scene: str, seed: int, severity: float = 1.0) -> Case:
    """Render a clip whose errors are known, from the input to a full motion."""
    height = WIDTH * 3 // 4
    camera = pinhole(WIDTH, height, WIDTH / 2 / math.tan(math.radians(FIELD_OF_VIEW) / 2))
    prior = Synthetic(scene, severity, image=scene)
    start = prior.render_truth(camera)
    depth = Depth(start.depth[0], start.depth[0] > 0, "metric")
    arms = ("right", "left", "up")
    plan = Articulated(1, (arms[seed % len(arms)],), num_frames=24, angle=16.0)(camera, depth, None)
    frames = prior(Frames(start.images, start.depth), camera, plan.clips[0], seed)
    images = torch.cat([start.images, frames.images])
    name = f"synthetic_{scene}_{seed}" + ("" if severity == 1 else f"_{severity:g}")
    return Case(name, "synthetic", "synthetic", images, plan.cameras)


def measure(case: Case) -> dict[str, Any]:
    """Measure one clip.

    Args:
        case: The clip.

    Returns:
        Measures by frame, and their medians by third of the clip. `registered` is the fraction of
        frames with a camera, or None if none was found.
    """
    torch.set_num_threads(1)
    numbers = select_frames(len(case.images))
    images = case.images[numbers]
    observations = restrict_frames(track_points(case.images), numbers)
    height, width = images.shape[1:3]
    unit = WIDTH / width
    posed_tracks = _estimate_poses(case, observations, images)
    rows: list[dict[str, Any]] = [{"frame": number} for number in numbers]
    _add_measures(rows, photometric(images, observations, posed_tracks))
    if posed_tracks is not None:
        _add_measures(rows, geometric(posed_tracks, len(images), (width, height), unit))
        if case.requested is not None:
            _add_measures(rows, camera_errors(posed_tracks.scene, case.requested[numbers]))
    record = {"name": case.name, "kind": case.kind, "generator": case.generator}
    record["frames"] = len(case.images)
    if case.kind == "synthetic":
        record["sizes"] = {name: getattr(corruptions, name) for name in SCALED_SIZES}
    record["registered"] = (
        None if posed_tracks is None else int(posed_tracks.scene.registered.sum()) / len(numbers)
    )
    if posed_tracks is not None:
        focal = posed_tracks.scene.log_focal[posed_tracks.scene.registered].exp().median()
        record["field_of_view"] = math.degrees(2 * math.atan(width / 2 / float(focal)))
    return record | {"thirds": by_thirds(rows), "by_frame": rows}


def estimate_case_poses(case: Case) -> PosedTracks | None:
    """Estimate the cameras of a clip; None if it has too little parallax.

    Args:
        case: The clip.
    """
    numbers = select_frames(len(case.images))
    observations = restrict_frames(track_points(case.images), numbers)
    return _estimate_poses(case, observations, case.images[numbers])


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

    max_error = MAX_RESIDUAL * width / WIDTH
    principal_point = (width / 2, height / 2)
    lens = "fixed" if case.requested is not None else "shared"
    return estimate_poses(observations, len(images), focal, principal_point, max_error, lens, depth)


def _add_measures(rows: list[dict[str, Any]], values: dict[str, Float[Tensor, "frame"]]) -> None:
    for name, numbers in values.items():
        for row, value in zip(rows, numbers.tolist(), strict=True):
            row[name] = round(value, 4) if math.isfinite(value) else None


def by_thirds(rows: list[dict[str, Any]]) -> dict[str, dict[str, float | None]]:
    """Take medians over the early, middle and late third of the frames, without frame 0."""
    later = rows[1:]
    bounds = [round(len(later) * k / 3) for k in range(4)]
    out: dict[str, dict[str, float | None]] = {}
    for third, start, end in zip(THIRDS, bounds, bounds[1:], strict=False):
        out[third] = {}
        for name in MEASURES:
            values = [row[name] for row in later[start:end] if row.get(name) is not None]
            out[third][name] = round(float(np.median(values)), 4) if values else None
    return out


SCALED_SIZES = ("WARP", "TEXTURE_WARP", "ROTATION")
"""Constants of `lift.synthetic.corruptions` whose values are kept with clips of `synthetic`."""
HALF_NORMAL_MEDIAN = 0.6745
"""Median of the absolute value of a standard normal number."""
MEAN_ABSOLUTE_DEVIATION = 0.65
"""Mean absolute deviation of three standard normal numbers from their mean."""
LATE_MOTION = 5 / 6
"""Mean motion in the late third of a clip of `synthetic`. It is 1 at the end."""
RMS_OVER_MEDIAN = 1.126
"""Root mean square over median of the length of a normal vector in space."""


def corruption_sizes(records: list[dict[str, Any]]) -> dict[str, float]:
    """Derive the constants of `lift.synthetic.corruptions` from the measured errors.

    Severity 1 is the median generator in the last third of its clip. Cameras and points explain a
    part of the warps. So both warps are scaled by the same measurement on clips of `synthetic`.
    The residuals of real frames are the floor of the measurement. They are subtracted.

    Args:
        records: Results of `measure`, of all three kinds.

    Returns:
        The constants by name.
    """
    late = {
        kind: medians([record for record in records if record["kind"] == kind], "late")
        for kind in ("generated", "real", "synthetic")
    }
    generated = late["generated"]
    sizes = next(record["sizes"] for record in records if record["kind"] == "synthetic")

    def scaled(name: str, measure: str) -> float:
        floor, value, measured = (
            late[kind][measure] or 0.0 for kind in ("real", "generated", "synthetic")
        )
        over = [math.sqrt(max(number**2 - floor**2, 1e-6)) for number in (value, measured)]
        return sizes[name] * over[0] / over[1]

    true_rotation = sizes["ROTATION"] * LATE_MOTION / RMS_OVER_MEDIAN
    floor = max((late["synthetic"]["rotation_error_deg"] or 0) ** 2 - true_rotation**2, 0.0)
    rotation = math.sqrt(max((generated["rotation_error_deg"] or 0) ** 2 - floor, 0.0))
    return {
        "WARP": scaled("WARP", "smooth_residual_px"),
        "TEXTURE_WARP": scaled("TEXTURE_WARP", "fine_residual_px"),
        "EXPOSURE": math.log1p((generated["brightness"] or 0) / 100) / HALF_NORMAL_MEDIAN,
        "WHITE_BALANCE": (generated["white_balance"] or 0) / 100 / MEAN_ABSOLUTE_DEVIATION,
        "SATURATION": (generated["saturation"] or 0) / 100,
        "BLUR": _median_blur(records) / WIDTH,
        "ROTATION": RMS_OVER_MEDIAN * rotation,
        "TRANSLATION": (
            (generated["position_error"] or 0) * RMS_OVER_MEDIAN * corruptions.FULL_TRANSLATION
        ),
    }


def _median_blur(records: list[dict[str, Any]]) -> float:
    """Take the median blur in the late third of the generated clips that become softer."""
    blurs = [r["thirds"]["late"]["blur_px"] for r in records if r["kind"] == "generated"]
    softer = [blur for blur in blurs if blur is not None and blur > 0]
    return float(np.median(softer)) if softer else 0.0


SIGNED = ("brightness", "saturation")


def medians(records: list[dict[str, Any]], third: str) -> dict[str, float | None]:
    """Take the median over clips of a third's values. Signed values become absolute."""
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
        sizes = corruption_sizes(records)
        rows = [[f"`{name}`", f"{value:.2g}"] for name, value in sizes.items()]
        parts += [
            "## Sizes of the corruptions",
            "",
            SIZES,
            "",
            markdown(["constant", "size"], rows),
        ]
        parts.append("")
    failed = [r["name"] for r in records if r["registered"] is None]
    if failed:
        parts += [f"No cameras were found for: {', '.join(failed)}.", ""]
    return "\n".join(["# What video generators get wrong", "", *parts[2:]])


INTRODUCTION = f"""Made by `python experiments/generator_errors.py`. Every number is a median over \
the frames of a third of a clip (early / middle / late), relative to frame 0.

- Points are tracked from frame to frame (Lucas-Kanade, checked backwards). Tracks need not fit \
any geometry, so moving parts stay in.
- Bundle adjustment finds the cameras and a static scene. The residual is the reprojection error \
of the tracks, in pixels of a picture that is {WIDTH} wide. Its smooth part is a field of 4 x 4 \
cosines, the fine part is the rest. Both are root mean squares along one axis.
- The cameras explain a part of a warp. The table of `synthetic` shows how much is left of a \
smooth warp of 0.8 % of the width (3.1 px) at the end of a clip.
- Brightness, white balance and saturation are robust changes at tracked points. Blur is the \
Gaussian that takes as much gradient energy from frame 0. A negative value means sharper. The \
camera's distance is taken into account.
- Inconsistent is the fraction of observations more than {MAX_RESIDUAL:g} px from the static scene.
- Camera errors need requested cameras, whose focal length is then used. Both paths begin at frame \
0's camera, and the estimated one is scaled by least squares. For `synthetic` the errors are \
relative to the plan."""


SIZES = """The constants of `lift.synthetic.corruptions` follow from the medians over generated \
clips in the late third. So severity 1 of the prior `synthetic` and of the distortion benchmark is \
the median generator. `WARP` and `TEXTURE_WARP` are scaled by the same measurement on `synthetic`, \
after the residual of real frames is subtracted. Half of the clips become sharper, not softer. \
`BLUR` is the median of those that become softer. The measurement's own error on `synthetic` is \
subtracted from `ROTATION`. `ROTATION` and `TRANSLATION` come from few clips, those with a camera \
file. A fraction of the path counts as the same fraction of a full motion. Inconsistent parts are \
not more frequent than in real frames, so no constant follows from them. False texture \
(`FALSE_TEXTURE`), moving objects (`OBJECTS`, `OBJECT_MOTION`, `OBJECT_SIZE`) and focal length \
(`LOG_FOCAL`) were not measured. Their sizes are chosen."""


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
    heads = ["clip", "generator", "registered, %", *MEASURES.values()]
    rows = []
    for record in records:
        fraction = record["registered"]
        cells = [" / ".join(_short(record["thirds"][t][name]) for t in THIRDS) for name in MEASURES]
        cells = ["-" if set(cell) <= set("- /") else cell for cell in cells]
        registered = f"{100 * fraction:.0f}" if fraction else "-"
        rows.append([record["name"], record["generator"], registered, *cells])
    return markdown(heads, rows)


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.2g}" if abs(value) < 10 else f"{value:.0f}"


def main() -> None:
    """Measure the clips that are not finished, and write the page and the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", nargs="+", metavar="NAME", help="only these clips")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("outputs/generator_errors"),
        help="folder of the measures of each clip",
    )
    parser.add_argument(
        "--results",
        type=Path,
        help="folder of the JSON file and the page (benchmarks/results, docs)",
    )
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
    folder = options.results or RESULTS
    folder.mkdir(parents=True, exist_ok=True)
    page = (options.results or Path("docs")) / "generator-errors.md"
    page.write_text(text.rstrip() + "\n", encoding="utf-8")
    header = {"experiment": "generator_errors", "width": WIDTH, "machine": machine_info("cpu")}
    lines = ",\n".join(json.dumps(record) for record in records)  # a clip a line
    content = json.dumps(header, indent=1).removesuffix("\n}") + f',\n "rows": [\n{lines}\n]\n}}\n'
    (folder / "generator-errors.json").write_text(content, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
