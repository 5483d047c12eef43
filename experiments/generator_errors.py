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

import cv2
import numpy as np
import torch
from jaxtyping import Float
from rich.progress import track
from torch import Tensor

import clips as data
from lift.depths import depths
from lift.evaluation.worlds import FIELD_OF_VIEW
from lift.geometry import pinhole, rotation_angle
from lift.mistakes import motion
from lift.planners.articulated import Articulated
from lift.poses.bundle import Scene, Sightings
from lift.priors.synthetic import Synthetic
from lift.types import Cameras, Depth, Frames
from measuring import RESULTS, SHARED, markdown, resumed
from lift.machine import machine
from tracking import (
    REACH,
    PosedTracks,
    chosen_frames,
    posed,
    restricted,
    smooth_part,
    tracked,
    two_way,
)

WIDTH = 384
THIRDS = ("early", "middle", "late")
SIGMAS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0)
"""Blurs in pixels that frame 0 is given, to read a loss of gradient energy as a blur."""
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


def synthetic_case(scene: str, seed: int, strength: float = 1.0) -> Case:
    """Render a clip whose errors are known, from the input to a full motion."""
    height = WIDTH * 3 // 4
    camera = pinhole(WIDTH, height, WIDTH / 2 / math.tan(math.radians(FIELD_OF_VIEW) / 2))
    prior = Synthetic(scene, strength, image=scene)
    start = prior.truth(camera)
    depth = Depth(start.depth[0], start.depth[0] > 0, "metric")
    arms = ("right", "left", "up")
    plan = Articulated(1, (arms[seed % len(arms)],), frames=24, angle=16.0)(camera, depth, None)
    frames = prior(Frames(start.images, start.depth), camera, plan.clips[0], seed)
    images = torch.cat([start.images, frames.images])
    name = f"synthetic_{scene}_{seed}" + ("" if strength == 1 else f"_{strength:g}")
    return Case(name, "synthetic", "synthetic", images, plan.cameras)


def measure(case: Case) -> dict[str, Any]:
    """Measure one clip.

    Args:
        case: The clip.

    Returns:
        Numbers by frame and their medians by third of the clip; `posed` says whether cameras were
        found.
    """
    torch.set_num_threads(2)
    numbers = chosen_frames(len(case.images))
    images = case.images[numbers]
    sightings = restricted(tracked(case.images), numbers)
    height, width = images.shape[1:3]
    unit = WIDTH / width
    found = _posed(case, sightings, images)
    rows: list[dict[str, Any]] = [{"frame": number} for number in numbers]
    _add(rows, photometric(images, sightings, found))
    if found is not None:
        _add(rows, geometric(found, len(images), (width, height), unit))
        if case.requested is not None:
            _add(rows, camera_errors(found.scene, case.requested[numbers]))
    record = {"name": case.name, "kind": case.kind, "generator": case.generator}
    record["frames"] = len(case.images)
    record["posed"] = None if found is None else int(found.scene.placed.sum()) / len(numbers)
    if found is not None:
        focal = found.scene.log_focal[found.scene.placed].exp().median()
        record["field_of_view"] = math.degrees(2 * math.atan(width / 2 / float(focal)))
    return record | {"thirds": by_thirds(rows), "by_frame": rows}


def _posed(case: Case, sightings: Sightings, images: data.Images) -> PosedTracks | None:
    height, width = images.shape[1:3]
    focal = width / 2 / math.tan(math.radians(FIELD_OF_VIEW) / 2)
    if case.requested is not None:
        focal = float(case.requested.intrinsics[0, 0, 0])
    lite = depths.build({"name": "lite"}, image=case.name, device=torch.device("cpu"))
    first = lite(images[0])
    reach = REACH * width / WIDTH
    middle = (width / 2, height / 2)
    depth = torch.where(first.valid, first.depth, 0.0)
    return posed(sightings, len(images), focal, middle, reach, depth=depth)


def _add(rows: list[dict[str, Any]], values: dict[str, Float[Tensor, "frame"]]) -> None:
    for name, numbers in values.items():
        for row, value in zip(rows, numbers.tolist(), strict=True):
            row[name] = round(value, 4) if math.isfinite(value) else None


def geometric(
    found: PosedTracks, frames: int, size: tuple[int, int], unit: float
) -> dict[str, Float[Tensor, "frame"]]:
    """Summarise by frame what the best cameras leave of the tracks' displacements.

    Args:
        found: Tracks with residuals.
        frames: Number of frames.
        size: Width and height in pixels.
        unit: Pixels at WIDTH in one pixel.

    Returns:
        Median and 90 % quantile of the displacement; root mean square, along one axis, of its
        smooth part and of the rest; share of inconsistent sightings. NaN where nothing is known.
    """
    names = ("residual", "residual_90", "smooth", "fine", "moving")
    out = {name: torch.full((frames,), math.nan) for name in names}
    for frame in range(frames):
        own = found.sightings.frame == frame
        if int(own.sum()) < 30:
            continue
        pixel = found.sightings.pixel[own]
        residual = found.residual[own]
        length = unit * residual.norm(dim=-1)
        field = smooth_part(pixel, residual, size)
        consistent = length < REACH
        left = unit * (residual - field).norm(dim=-1)
        out["residual"][frame] = length.median()
        out["residual_90"][frame] = length.quantile(0.9)
        out["smooth"][frame] = unit * field[consistent].square().mean().sqrt()
        out["fine"][frame] = left.median() / math.sqrt(2 * math.log(2))
        out["moving"][frame] = 100 * (~consistent).double().mean()
    return out


def photometric(
    images: data.Images, sightings: Sightings, found: PosedTracks | None
) -> dict[str, Float[Tensor, "frame"]]:
    """Measure colour and sharpness at tracked points, relative to frame 0.

    A value is split into one part of the track and one of the frame, by medians. So frames that
    share no track with frame 0 are reached through others.

    Args:
        images: Frames.
        sightings: Tracks.
        found: Posed tracks, which tell how much nearer the camera came; None if unknown.

    Returns:
        Change of mean brightness, of the channels' balance (mean of absolute values) and of
        saturation in %; equivalent blur in pixels at WIDTH, negative for a gain of sharpness.
    """
    frames, width = len(images), images.shape[2]
    color = _sampled(images, sightings, lambda image: cv2.blur(image, (7, 7)))
    grey = color.mean(-1)
    usable = (grey > 0.04) & (color.amax(-1) < 0.96)
    gain = two_way(torch.where(usable, grey.log(), math.nan), sightings, frames)
    channels = [
        two_way(torch.where(usable, (color[:, c] / grey).clamp(min=1e-3).log(), math.nan), sightings, frames)
        for c in range(3)
    ]
    chroma = (color - grey[:, None]).norm(dim=-1) / grey
    vivid = usable & (chroma > 0.06)
    saturation = two_way(torch.where(vivid, chroma.clamp(min=1e-3).log(), math.nan), sightings, frames)
    energy = _sampled(images, sightings, _energy)[:, 0]
    log_energy = energy.clamp(min=1e-7).log() - 2 * gain[sightings.frame]
    log_energy = log_energy + _magnification(sightings, found, log_energy, frames)
    loss = two_way(log_energy, sightings, frames)
    return {
        "brightness": 100 * gain.expm1(),
        "balance": 100 * torch.stack(channels).abs().mean(0),
        "saturation": 100 * saturation.expm1(),
        "blur": WIDTH / width * _equivalent_blur(images[0], sightings, loss),
    }


def _sampled(images: data.Images, sightings: Sightings, function) -> Float[Tensor, "sighting c"]:
    """Values of a filtered picture at the sightings, bilinear."""
    out = None
    for frame in range(len(images)):
        own = sightings.frame == frame
        plane = function(images[frame].numpy().astype(np.float32) / 255)
        plane = plane if plane.ndim == 3 else plane[..., None]
        at = (sightings.pixel[own] - 0.5).float().numpy()
        values = _bilinear(plane, at)
        out = torch.zeros(len(sightings), values.shape[-1]) if out is None else out
        out[own] = values
    assert out is not None
    return out


def _bilinear(plane: np.ndarray, at: np.ndarray) -> Float[Tensor, "point c"]:
    if not len(at):
        return torch.zeros(0, plane.shape[-1])
    parts = [at[start : start + 30_000] for start in range(0, len(at), 30_000)]
    found = [
        cv2.remap(plane, part[:, None, 0].copy(), part[:, None, 1].copy(), cv2.INTER_LINEAR)
        for part in parts
    ]
    return torch.from_numpy(np.concatenate(found).reshape(len(at), plane.shape[-1]))


def _energy(image: np.ndarray) -> np.ndarray:
    """Squared gradient of the grey picture around a pixel."""
    grey = image.mean(-1)
    across = cv2.Sobel(grey, cv2.CV_32F, 1, 0, scale=1 / 8)
    down = cv2.Sobel(grey, cv2.CV_32F, 0, 1, scale=1 / 8)
    return cv2.GaussianBlur(across**2 + down**2, (0, 0), 3)


def _magnification(
    sightings: Sightings, found: PosedTracks | None, energy: Float[Tensor, "sighting"], frames: int
) -> Float[Tensor, "sighting"]:
    """What has to be added to the logarithm of gradient energy where the camera came nearer.

    How strongly energy depends on the distance is fitted within frames, where near and far points
    differ.
    """
    if found is None:
        return torch.zeros(len(sightings))
    key = sightings.frame * (int(sightings.point.max()) + 1) + sightings.point
    pixel = {}
    for index, (frame, x, y) in enumerate(
        zip(found.sightings.frame.tolist(), *found.sightings.pixel.T.tolist(), strict=True)
    ):
        pixel[frame, x, y] = index
    index = torch.tensor(
        [
            pixel.get((frame, x, y), -1)
            for frame, x, y in zip(sightings.frame.tolist(), *sightings.pixel.T.tolist(), strict=True)
        ]
    )
    assert len(key) == len(index)
    near = torch.where(index >= 0, -found.depth[index.clamp(min=0)].log(), math.nan)
    a = _less_means(near, sightings, frames)
    b = _less_means(torch.where(near.isfinite(), energy.double(), math.nan), sightings, frames)
    both = a.isfinite() & b.isfinite() & (a.abs() < 0.5)
    if int(both.sum()) < 100 or float(a[both].square().mean()) < 1e-4:
        return torch.zeros(len(sightings))
    slope = float((a[both] * b[both].clamp(-1, 1)).sum() / a[both].square().sum())
    return torch.where(near.isfinite(), -min(max(slope, -2.0), 0.0) * near, math.nan).float()


def _less_means(values: Tensor, sightings: Sightings, frames: int) -> Tensor:
    """Values less the means of their tracks and frames."""
    left = values.clone()
    good = left.isfinite()
    for _ in range(10):
        for index in (sightings.point, sightings.frame):
            count = torch.bincount(index[good]).clamp(min=1)
            total = torch.zeros(len(count), dtype=left.dtype).index_add_(0, index[good], left[good])
            left[good] = left[good] - (total / count)[index[good]]
    return left


def _equivalent_blur(
    first: Tensor, sightings: Sightings, loss: Float[Tensor, "frame"]
) -> Float[Tensor, "frame"]:
    """The Gaussian blur, pixels, that takes as much gradient energy from frame 0."""
    own = sightings.frame == 0
    at = (sightings.pixel[own] - 0.5).float().numpy()
    image = first.numpy().astype(np.float32) / 255
    curve = []
    for sigma in SIGMAS:
        soft = cv2.GaussianBlur(image, (0, 0), sigma) if sigma else image
        curve.append(_bilinear(_energy(soft)[..., None], at)[:, 0].clamp(min=1e-7).log())
    drop = np.array([float((level - curve[0]).median()) for level in curve])
    values = loss.numpy()
    sigma = np.interp(-np.abs(values), drop[::-1], np.array(SIGMAS)[::-1])
    return torch.from_numpy(np.where(values <= 0, sigma, -sigma))


def camera_errors(scene: Scene, requested: Cameras) -> dict[str, Float[Tensor, "frame"]]:
    """Compare found cameras with the requested ones.

    Both begin at frame 0's camera; the found path is scaled by least squares.

    Args:
        scene: Found cameras; frames that were not placed get NaN.
        requested: The requested cameras.

    Returns:
        Rotation error in degrees; position error as a share of the length of the requested path
        from the first camera to the farthest; angle in degrees between both directions.
    """
    if not bool(scene.placed[0]):
        return {}
    turn = scene.rotation @ scene.rotation[0].T
    moved = (scene.rotation[0] @ (scene.centers - scene.centers[0]).T).T
    true = requested.to(torch.float64)
    true_turn = true.world_to_camera[:, :3, :3] @ true.world_to_camera[0, :3, :3].T
    true_moved = (true.world_to_camera[0, :3, :3] @ (true.centers - true.centers[0]).T).T
    kept = scene.placed
    scale = (moved * true_moved)[kept].sum() / moved[kept].square().sum().clamp(min=1e-12)
    length = true_moved.norm(dim=-1).max().clamp(min=1e-12)
    nothing = torch.where(kept, 0.0, math.nan)
    angle = torch.cosine_similarity(moved * scale.sign(), true_moved, dim=-1).clamp(-1, 1).acos()
    far = true_moved.norm(dim=-1) > 0.05 * length
    return {
        "rotation": rotation_angle(turn, true_turn) + nothing,
        "translation": (scale * moved - true_moved).norm(dim=-1) / length + nothing,
        "direction": torch.where(far, torch.rad2deg(angle), math.nan) + nothing,
    }


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


SIGNED = ("brightness", "saturation")


def medians(records: list[dict[str, Any]], third: str) -> dict[str, float | None]:
    """Take the median over clips of a third's values; absolute values of signed ones."""
    out: dict[str, float | None] = {}
    for name in MEASURES:
        values = [record["thirds"][third].get(name) for record in records]
        known = [abs(value) if name in SIGNED else value for value in values if value is not None]
        out[name] = float(np.median(known)) if known else None
    return out


def report(records: list[dict[str, Any]]) -> str:
    """Write the page docs/generator-errors.md."""
    parts = [__doc__.split("\n")[0], "", INTRODUCTION, ""]
    by_kind = {
        kind: [r for r in records if r["kind"] == kind] for kind in ("generated", "real", "synthetic")
    }
    parts += ["## Medians over clips", "", _summary(by_kind), ""]
    for kind, title in (
        ("generated", "Generated clips"),
        ("real", "Real frames of the same paths"),
        ("synthetic", "Clips of the prior `synthetic`"),
    ):
        if by_kind[kind]:
            parts += [f"## {title}", "", _by_clip(by_kind[kind]), ""]
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
- Inconsistent is the share of sightings more than {REACH:g} px from the static scene.
- Camera errors need requested cameras. Both paths begin at frame 0's camera, and the found one is \
scaled by least squares. For `synthetic` they are against the plan."""


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
        share = record["posed"]
        cells = [" / ".join(_short(record["thirds"][t][name]) for t in THIRDS) for name in MEASURES]
        cells = ["-" if set(cell) <= set("- /") else cell for cell in cells]
        rows.append([record["name"], record["generator"], f"{100 * share:.0f}" if share else "-", *cells])
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
        record = resumed(options.output / f"{name}.json", lambda load=load: measure(load()))
        records.append(record)
    text = report(records)
    if options.clips:
        print(text)
        return
    options.to.parent.mkdir(parents=True, exist_ok=True)
    options.to.write_text(text.rstrip() + "\n", encoding="utf-8")
    kept = {"experiment": "generator_errors", "width": WIDTH, "machine": machine("cpu")}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "generator-errors.json").write_text(json.dumps(kept | {"rows": records}, indent=1) + "\n")
    print(text)


if __name__ == "__main__":
    main()
