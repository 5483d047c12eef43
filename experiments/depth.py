"""Measure depth estimates of single photographs.

    python experiments/depth.py [depth=NAME depth.SETTING=VALUE ...] [--results FILE]

No network here was trained on these photographs (`$LIFT_SHARED/data`). The truth is a stereo pair,
depth of a Kinect, or points from structure from motion. Points behind nearer ones are left out.
Estimates are aligned by scale and shift of inverse depth (least squares). Without `depth=` these
are compared: a plane that is nearer at the bottom and does not depend on the picture, `ramp`,
`lite`, and the networks of `$LIFT_SHARED/weights` by `depth=onnx`. The table is printed and written
beside FILE.
"""

import argparse
import inspect
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from hydra.errors import HydraException
from jaxtyping import Bool, Float, UInt8
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.progress import track
from scipy.stats import spearmanr
from torch import Tensor

from lift.config import compose_run
from lift.depths import depths
from lift.errors import format_error
from lift.geometry import inside, pinhole, project
from lift.runtime.machine import machine_info
from lift.synthetic.photographs import read_photographs
from lift.types import Cameras

SHARED = Path(os.environ.get("LIFT_SHARED", Path(__file__).parents[2] / "shared")).resolve()
SPARSE = ("llff_fern", "llff_flower", "mipnerf360_kitchen", "sceaux_castle")
CONTROL = "plane"
NETWORKS = {
    "tiefenrausch": [
        "depth_tiefenrausch/tiefenrausch_qdq.onnx",
        "depth.quantity=log_inverse_depth",
    ],
    "tcmonodepth": [
        "depth_tcmonodepth/tcmonodepth_tcsmallnet_192x320.onnx",
        "depth.white_level=255",
    ],
    "fastdepth": ["depth_fastdepth/fastdepth_7.onnx", "depth.quantity=depth", "depth.metric=true"],
}
"""Files in `weights`, and settings of their output according to their READMEs."""
MAX_VIEWS = 6
"""Number of views of a scene, at most, evenly spaced."""

Picture = UInt8[Tensor, "height width 3"]


def pictures(
    name: str,
) -> Iterator[tuple[Picture, Float[Tensor, "height width"], Bool[Tensor, "height width"]]]:
    """Read photographs with true inverse depth, and masks of where it is known."""
    folder = SHARED / "data" / name
    if name == "middlebury_stereo":
        disparity = torch.from_numpy(np.load(folder / "motorcycle_disp.npz")["arr_0"])
        valid = disparity.isfinite()
        yield _read(folder / "motorcycle_left.png"), (disparity + 31.086).where(valid, 0), valid
    elif (
        name == "sevenscenes_redkitchen"
    ):  # colour and depth are misaligned by some seven pixels, which matters at edges
        for path in _evenly_spaced(sorted((folder / "images").iterdir())):
            depth = torch.from_numpy(
                cv2.imread(str(folder / "depth" / f"{path.stem}.png"), cv2.IMREAD_UNCHANGED).astype(
                    np.float32
                )
            )
            valid = (depth > 0) & (depth < 10_000)
            yield _read(path), (1 / depth).where(valid, 0), valid
    else:
        cameras, cloud, paths, k1 = read_photographs(folder)
        for index in _evenly_spaced(range(len(cameras))):
            yield _read(paths[index]), *visible_cells(cloud.points, cameras[index], k1)


def visible_cells(
    cloud: Float[Tensor, "point 3"], camera: Cameras, k1: float
) -> tuple[Float[Tensor, "height width"], Bool[Tensor, "height width"]]:
    """Compute inverse depth at the pixels of visible points.

    A point is hidden if it lies far behind another point of the same cell. Cells have a fortieth
    of the picture's width.

    Args:
        cloud: Points in world coordinates.
        camera: The camera.
        k1: First radial coefficient of its lens.

    Returns:
        Inverse depth, and the mask of pixels with a point.
    """
    pixels, depth = project(cloud, camera)
    pixels = pixels[0]
    depth = depth[0]
    focal = camera.intrinsics[0, 0, 0]
    principal_point = camera.intrinsics[0, :2, 2]
    flat = (pixels - principal_point) / focal
    pixels = flat * (1 + k1 * flat.square().sum(-1, keepdim=True)) * focal + principal_point
    visible = (depth > 0) & inside(pixels, camera)
    pixels = pixels[visible]
    depth = depth[visible]
    cell = max(camera.width, camera.height) // 40
    columns = camera.width // cell + 1
    cell_index = (pixels[:, 1] // cell * columns + pixels[:, 0] // cell).long()
    nearest = torch.full((int(cell_index.max()) + 1,), torch.inf).scatter_reduce(
        0, cell_index, depth, "amin"
    )
    front = depth < 1.25 * nearest[cell_index]
    x, y = pixels[front].long().unbind(-1)
    inverse = torch.zeros(camera.height * camera.width).scatter_reduce(
        0, y * camera.width + x, 1 / depth[front], "amax"
    )  # the nearest point of a pixel
    inverse = inverse.view(camera.height, camera.width)
    return inverse, inverse > 0


def errors(
    estimate: Float[Tensor, "height width"],
    truth: Float[Tensor, "height width"],
    valid: Bool[Tensor, "height width"],
) -> dict[str, float]:
    """Compare inverse depths.

    Returns:
        Spearman's rank correlation, and AbsRel and delta1 of depth after an alignment of scale and
        shift of inverse depth.
    """
    a = estimate[valid].double().numpy()
    b = truth[valid].double().numpy()
    scale, shift = np.polyfit(a, b, 1) if np.ptp(a) > 0 else (0.0, b.mean())
    if scale < 0:  # the alignment must not invert the order
        scale = 0.0
        shift = b.mean()
    ratio = b / np.clip(scale * a + shift, b.min() / 2, b.max() * 2)  # estimated over true depth
    return {
        "rank_correlation": float(spearmanr(a, b).statistic) if np.ptp(a) > 0 else 0.0,
        "abs_rel": float(np.abs(ratio - 1).mean()),
        "delta1": float((np.maximum(ratio, 1 / ratio) < 1.25).mean()),
    }


def plane(image: Picture) -> Float[Tensor, "height width"]:
    """Return inverse depth that grows to the bottom and does not depend on the picture."""
    return torch.linspace(0, 1, image.shape[0])[:, None].repeat(1, image.shape[1])


def build_estimator(overrides: list[str]) -> Callable[[Picture], Float[Tensor, "height width"]]:
    """Build a function that estimates inverse depth.

    Args:
        overrides: Settings of `lift run`.

    Raises:
        ValueError: If a setting is wrong.
    """
    config = compose_run(["image=room", *overrides])
    depth_estimator = depths.build(
        OmegaConf.to_container(config.depth),
        image="room",
        device=torch.device("cpu"),
        camera=pinhole(64, 48, 60.0),
    )

    def inverse(image: Picture) -> Float[Tensor, "height width"]:
        depth = depth_estimator(image)
        return (1 / depth.depth).where(depth.valid, 0)

    return inverse


def evaluate(name: str, estimate: Callable[[Picture], Tensor], dataset: str) -> dict[str, Any]:
    """Average the errors over the views of a dataset."""
    scores = []
    seconds = []
    for image, truth, valid in pictures(dataset):
        start = time.perf_counter()
        inverse = estimate(image)
        seconds.append(time.perf_counter() - start)
        scores.append(errors(inverse, truth, valid))
    return {
        "depth": name,
        "dataset": dataset,
        "views": len(scores),
        **{key: round(float(np.mean([f[key] for f in scores])), 4) for key in scores[0]},
        "seconds": round(float(np.median(seconds)), 3),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Format rank correlation by dataset, and the means of all measures over the datasets."""
    names = list(dict.fromkeys(row["depth"] for row in rows))
    sets = list(dict.fromkeys(row["dataset"] for row in rows))
    lines = [
        f"| depth | {' | '.join(sets)} | mean | AbsRel | delta1 |",
        "|---" * (len(sets) + 4) + "|",
    ]
    for name in names:
        by_set = {row["dataset"]: row for row in rows if row["depth"] == name}
        mean = {
            key: np.mean([row[key] for row in by_set.values()])
            for key in ("rank_correlation", "abs_rel", "delta1")
        }
        ranks = " | ".join(
            f"{by_set[name]['rank_correlation']:.2f}" if name in by_set else "" for name in sets
        )
        lines.append(
            f"| `{name}` | {ranks} | {mean['rank_correlation']:.2f} | {mean['abs_rel']:.3f} | "
            f"{mean['delta1']:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0].rstrip(":.") + ".")
    parser.add_argument("--results", type=Path, default=Path("outputs/depth.json"), metavar="FILE")
    parser.add_argument("settings", nargs="*", metavar="depth.setting=value")
    args = parser.parse_intermixed_args()
    sets = [
        name
        for name in (*SPARSE, "middlebury_stereo", "sevenscenes_redkitchen")
        if (SHARED / "data" / name).is_dir()
    ]
    if not sets:
        parser.error(
            f"LIFT_SHARED is {SHARED}, which has no data; choose a folder with data/{SPARSE[0]}"
        )
    names = (
        {" ".join(args.settings): args.settings}
        if args.settings
        else {name: [f"depth={name}"] for name in ("ramp", "lite")}
    )
    if not args.settings:
        for name, (file, *more) in NETWORKS.items():
            if (SHARED / "weights" / file).exists():
                names[name] = ["depth=onnx", f"depth.path={SHARED / 'weights' / file}", *more]
    estimators: dict[str, Callable[[Picture], Tensor]] = {CONTROL: plane}
    for name, overrides in names.items():
        try:
            estimators[name] = build_estimator(overrides)
        except (ValueError, OSError, HydraException, OmegaConfBaseException) as error:
            parser.error(f"{name}: {format_error(error)}")
    try:
        rows = [
            evaluate(name, estimate, dataset)
            for name, estimate in track(estimators.items(), "depth", transient=True)
            for dataset in sets
        ]
    except ValueError as error:  # an estimator that cannot use these pictures, such as `known`
        parser.error(format_error(error))
    args.results.parent.mkdir(parents=True, exist_ok=True)
    write_table(table(rows), __doc__, args.results)
    record = {"rows": rows, "machine": machine_info("cpu")}
    args.results.write_text(json.dumps(record, indent=1) + "\n")


def write_table(table: str, description: str, results: Path) -> None:
    """Print a table, and write it as Markdown beside the file of its rows.

    Args:
        table: The table.
        description: Text before the table. Its first line is the title.
        results: The JSON file.
    """
    print(table)
    title, _, rest = inspect.cleandoc(description).partition("\n")
    text = f"# {title.rstrip('.')}\n{rest}\n\n{table}\n"
    results.with_suffix(".md").write_text(text, encoding="utf-8")


def _evenly_spaced(items) -> list:
    items = list(items)
    return [items[round(k)] for k in np.linspace(0, len(items) - 1, min(MAX_VIEWS, len(items)))]


def _read(path: Path) -> Picture:
    return torch.from_numpy(cv2.imread(str(path))[..., ::-1].copy())


if __name__ == "__main__":
    main()
