"""Measure how well a picture is continued beyond its border.

    python experiments/border.py [--results FILE] [--pictures FOLDER]

The middle of a photograph is cut out, and continued to the full photograph again
(`$LIFT_SHARED/data`). Depth is `depth=lite` of the middle. `extended` is the filling of
the `warp` prior. `strips` fills a strip in each of eight frames, as a camera reveals them. The
table is printed and written beside the results.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from depth import SHARED, write_table
from rich.progress import track

from lift.depths import depths
from lift.evaluation.lpips import LPIPS
from lift.io.image import load_picture
from lift.runtime.machine import machine_info
from lift.warping.border import extend_picture
from lift.warping.fill import FillMethod, fill_behind

SIZE = 320
"""Longer side of the full photograph in pixels."""
MARGIN = 0.14
"""Width that is cut off at each side, as a fraction of the longer side."""
STRIPS = 8
"""Number of strips of `strips`."""
PHOTOS = 16
"""Number of photographs of `photos`, evenly spaced. All of `single_images` are used."""

Filling = Callable[[np.ndarray, np.ndarray, int], np.ndarray]
"""Continues colours uint8 and depth by a number of pixels."""


def fill_ring(method: FillMethod, strips: int) -> Filling:
    """Return a filling of holes, in rings from the inside out.

    Args:
        method: How holes get texture.
        strips: Number of rings.
    """

    def fill(image: np.ndarray, depth: np.ndarray, margin: int) -> np.ndarray:
        rgb = np.pad(image, ((margin, margin), (margin, margin), (0, 0))).astype(np.float32)
        inverse = np.pad(1 / depth, margin, mode="edge").astype(np.float32)
        no_front = np.zeros(inverse.shape, bool)
        for number in range(strips):
            outer = margin - margin * (number + 1) // strips
            inner = margin - margin * number // strips
            part = np.s_[outer : len(rgb) - outer, outer : rgb.shape[1] - outer]
            hole = np.ones(inverse.shape, bool)
            hole[inner : len(rgb) - inner, inner : rgb.shape[1] - inner] = False
            rgb[part] = fill_behind(rgb[part], inverse[part], hole[part], no_front[part], method)[0]
        return rgb

    return fill


def mirror(image: np.ndarray, depth: np.ndarray, margin: int) -> np.ndarray:
    """Mirror the picture in its border."""
    return np.pad(image, ((margin, margin), (margin, margin), (0, 0)), mode="reflect")


FILLINGS: dict[str, Filling] = {
    "smooth": fill_ring("smooth", 1),
    "mirrored": mirror,
    "strips": fill_ring("patches", STRIPS),
    "patches at once": fill_ring("patches", 1),
    "extended": lambda image, depth, margin: extend_picture(image, depth, margin)[0],
}


def photographs() -> Iterator[tuple[str, Path]]:
    """Yield the names of sets and their files."""
    singles = sorted((SHARED / "data/single_images/images").glob("*.jpg"))
    photos = sorted((SHARED / "data/photos").glob("*.jpg"))
    yield from (("single_images", file) for file in singles)
    for index in np.linspace(0, len(photos) - 1, PHOTOS) if photos else ():
        yield "photos", photos[round(index)]


def evaluate(
    name: str, file: Path, lpips: LPIPS, pictures_folder: Path | None
) -> Iterator[dict[str, Any]]:
    """Yield a row for each filling of a photograph.

    Args:
        name: Name of the set.
        file: The photograph.
        lpips: The network.
        pictures_folder: Folder for pictures, or None.
    """
    full = load_picture(str(file), SIZE, 55.0).frames.images[0].numpy()
    height, width = full.shape[:2]
    margin = min(round(MARGIN * max(height, width)), min(height, width) // 4)
    image = np.ascontiguousarray(full[margin : height - margin, margin : width - margin])
    lite = depths.build({"name": "lite"}, image=str(file), device=torch.device("cpu"))
    depth = lite.draft(torch.from_numpy(image)).depth.numpy()
    outside = np.ones((height, width), bool)
    outside[margin : height - margin, margin : width - margin] = False
    panels = [np.where(outside[..., None], 0, full)]
    for filling, fill in FILLINGS.items():
        start = time.process_time()
        filled = np.clip(fill(image, depth, margin), 0, 255)
        seconds = time.process_time() - start
        error = float(np.square((filled - full.astype(np.float64))[outside] / 255).mean())
        distance = lpips.distances(
            *(
                torch.from_numpy(np.ascontiguousarray(a)).float().permute(2, 0, 1)[None] / 255
                for a in (filled, full)
            )
        )
        panels.append(filled)
        yield {
            "fill": filling,
            "dataset": name,
            "picture": file.stem,
            "psnr": -10 * float(np.log10(error)),
            "lpips": float(distance),
            "seconds": seconds,
        }
    if pictures_folder:
        pictures_folder.mkdir(parents=True, exist_ok=True)
        sheet = np.concatenate([*panels, full], 1).astype(np.uint8)
        cv2.imwrite(str(pictures_folder / f"{file.stem}.png"), sheet[..., ::-1])


def table(rows: list[dict[str, Any]]) -> str:
    """Format the means of each set, and the means over all photographs."""
    sets = list(dict.fromkeys(row["dataset"] for row in rows))
    counts = {name: len({r["picture"] for r in rows if r["dataset"] == name}) for name in sets}
    lines = [
        f"| fill | {' | '.join(f'{s} ({counts[s]})' for s in sets)} | PSNR | LPIPS | CPU seconds |",
        "|---" * (len(sets) + 4) + "|",
    ]

    def mean(key: str, **values: str) -> float:
        chosen = [row[key] for row in rows if values.items() <= row.items()]
        return float(np.mean(chosen))

    for name in FILLINGS:
        cells = " | ".join(
            f"{mean('psnr', fill=name, dataset=s):.2f} / {mean('lpips', fill=name, dataset=s):.3f}"
            for s in sets
        )
        means = f"{mean('psnr', fill=name):.2f} | {mean('lpips', fill=name):.3f}"
        lines.append(f"| `{name}` | {cells} | {means} | {mean('seconds', fill=name):.2f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0].rstrip(".") + ".")
    parser.add_argument("--results", type=Path, default=Path("outputs/border.json"), metavar="FILE")
    parser.add_argument(
        "--pictures",
        type=Path,
        metavar="FOLDER",
        help="folder for pictures: the middle, each filling in the table's order, the truth",
    )
    args = parser.parse_args()
    backbones = SHARED / "weights/lpips_backbones"
    files = list(photographs())
    if not files or not backbones.is_dir():
        parser.error(
            f"LIFT_SHARED is {SHARED}; choose a folder with data/single_images or data/photos, and "
            "weights/lpips_backbones"
        )
    lpips = LPIPS.load(backbones)
    rows = [
        row
        for name, file in track(files, "border", transient=True)
        for row in evaluate(name, file, lpips, args.pictures)
    ]
    args.results.parent.mkdir(parents=True, exist_ok=True)
    write_table(table(rows), __doc__, args.results)
    record = {"rows": rows, "machine": machine_info("cpu")}
    args.results.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
