"""How right depth from one picture is:

    python experiments/depth.py [depth=NAME depth.SETTING=VALUE ...] [--to FILE]

Photographs with truth that no network here was trained on (`$LIFT_SHARED/data`): a stereo pair,
Kinect depth, and points that structure from motion found, without those that lie behind nearer
ones. Estimates are aligned by scale and shift of inverse depth (least squares). Without `depth=`: a
plane that does not look at the picture (lower is nearer), which every score has to be read beside;
`ramp`; `lite`; and the networks of `$LIFT_SHARED/weights` through `depth=onnx`. Prints a table and
writes FILE.
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
"""Files under `weights`, and what their READMEs say of their output."""
VIEWS = 6
"""Of a scene, at most, evenly spread."""

Picture = UInt8[Tensor, "height width 3"]


def pictures(
    name: str,
) -> Iterator[tuple[Picture, Float[Tensor, "height width"], Bool[Tensor, "height width"]]]:
    """Photographs of a set, their true inverse depth and where it is known."""
    folder = SHARED / "data" / name
    if name == "middlebury_stereo":
        disparity = torch.from_numpy(np.load(folder / "motorcycle_disp.npz")["arr_0"])
        valid = disparity.isfinite()
        yield _read(folder / "motorcycle_left.png"), (disparity + 31.086).where(valid, 0), valid
    elif (
        name == "sevenscenes_redkitchen"
    ):  # colour and depth are some seven pixels apart: good for ranks, not for edges
        for path in _standard_error(sorted((folder / "images").iterdir())):
            depth = torch.from_numpy(
                cv2.imread(str(folder / "depth" / f"{path.stem}.png"), cv2.IMREAD_UNCHANGED).astype(
                    np.float32
                )
            )
            valid = (depth > 0) & (depth < 10_000)
            yield _read(path), (1 / depth).where(valid, 0), valid
    else:
        cameras, cloud, paths, k1 = read_photographs(folder)
        for index in _standard_error(range(len(cameras))):
            yield _read(paths[index]), *visible_cells(cloud.points, cameras[index], k1)


def visible_cells(
    cloud: Float[Tensor, "point 3"], camera: Cameras, k1: float
) -> tuple[Float[Tensor, "height width"], Bool[Tensor, "height width"]]:
    """Inverse depth at the pixels of points, bent as the lens bends; a point far behind another in
    the same cell, a fortieth of the picture wide, is hidden by it.
    """
    pixels, depth = project(cloud, camera)
    pixels, depth = pixels[0], depth[0]
    focal, principal_point = camera.intrinsics[0, 0, 0], camera.intrinsics[0, :2, 2]
    flat = (pixels - principal_point) / focal
    pixels = flat * (1 + k1 * flat.square().sum(-1, keepdim=True)) * focal + principal_point
    visible = (depth > 0) & inside(pixels, camera)
    pixels, depth = pixels[visible], depth[visible]
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
    )  # the nearest of a pixel
    inverse = inverse.view(camera.height, camera.width)
    return inverse, inverse > 0


def errors(
    estimate: Float[Tensor, "height width"],
    truth: Float[Tensor, "height width"],
    valid: Bool[Tensor, "height width"],
) -> dict[str, float]:
    """Of inverse depth: Spearman's rank correlation; AbsRel and delta1 of depth after scale and
    shift of the inverse.
    """
    a, b = estimate[valid].double().numpy(), truth[valid].double().numpy()
    scale, shift = np.polyfit(a, b, 1) if np.ptp(a) > 0 else (0.0, b.mean())
    if scale < 0:  # what is upside down is not to be turned over for it
        scale, shift = 0.0, b.mean()
    ratio = b / np.clip(scale * a + shift, b.min() / 2, b.max() * 2)  # estimated over true depth
    return {
        "rank": float(spearmanr(a, b).statistic) if np.ptp(a) > 0 else 0.0,
        "abs_rel": float(np.abs(ratio - 1).mean()),
        "delta1": float((np.maximum(ratio, 1 / ratio) < 1.25).mean()),
    }


def plane(image: Picture) -> Float[Tensor, "height width"]:
    return torch.linspace(0, 1, image.shape[0])[:, None].repeat(1, image.shape[1])


def estimator(overrides: list[str]) -> Callable[[Picture], Float[Tensor, "height width"]]:
    """Inverse depth of a picture by the component that the settings name. Raises as `lift run` does
    for what is wrong with them.
    """
    config = compose_run(["image=room", *overrides])
    depth_estimator = depths.build(
        OmegaConf.to_container(config.depth),
        image="room",
        device=torch.device("cpu"),
        camera=pinhole(64, 48, 60.0),
    )

    def inverse(image: Picture) -> Float[Tensor, "height width"]:
        guess = depth_estimator(image)
        return (1 / guess.depth).where(guess.valid, 0)

    return inverse


def row(name: str, guess: Callable[[Picture], Tensor], dataset: str) -> dict[str, Any]:
    """Means over the views of a set."""
    scores, seconds = [], []
    for image, truth, valid in pictures(dataset):
        began = time.perf_counter()
        estimate = guess(image)
        seconds.append(time.perf_counter() - began)
        scores.append(errors(estimate, truth, valid))
    return {
        "depth": name,
        "set": dataset,
        "views": len(scores),
        **{key: round(float(np.mean([f[key] for f in scores])), 4) for key in scores[0]},
        "seconds": round(float(np.median(seconds)), 3),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Rank correlation by set, and the means of all three over sets."""
    names, sets = (
        list(dict.fromkeys(r["depth"] for r in rows)),
        list(dict.fromkeys(r["set"] for r in rows)),
    )
    lines = [
        f"| depth | {' | '.join(sets)} | mean | AbsRel | delta1 |",
        "|---" * (len(sets) + 4) + "|",
    ]
    for name in names:
        depth_rows = {r["set"]: r for r in rows if r["depth"] == name}
        mean = {
            key: np.mean([r[key] for r in depth_rows.values()])
            for key in ("rank", "abs_rel", "delta1")
        }
        ranks = " | ".join(f"{depth_rows[s]['rank']:.2f}" if s in depth_rows else "" for s in sets)
        lines.append(
            f"| `{name}` | {ranks} | {mean['rank']:.2f} | {mean['abs_rel']:.3f} | "
            f"{mean['delta1']:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0].rstrip(":.") + ".")
    parser.add_argument("--to", type=Path, default=Path("outputs/depth.json"))
    parser.add_argument("settings", nargs="*", metavar="depth.setting=value")
    args = parser.parse_intermixed_args()
    sets = [
        name
        for name in (*SPARSE, "middlebury_stereo", "sevenscenes_redkitchen")
        if (SHARED / "data" / name).is_dir()
    ]
    if not sets:
        parser.error(
            f"LIFT_SHARED is {SHARED}, where no data is; choose a folder with data/{SPARSE[0]} "
            "and the like"
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
    guesses: dict[str, Callable[[Picture], Tensor]] = {CONTROL: plane}
    for name, overrides in names.items():
        try:
            guesses[name] = estimator(overrides)
        except (ValueError, OSError, HydraException, OmegaConfBaseException) as error:
            parser.error(f"{name}: {format_error(error)}")
    try:
        rows = [
            row(name, guess, dataset)
            for name, guess in track(guesses.items(), "depth", transient=True)
            for dataset in sets
        ]
    # of an estimator that cannot do with these pictures, as `known` with the depth of another
    except ValueError as error:
        parser.error(format_error(error))
    args.to.parent.mkdir(parents=True, exist_ok=True)
    write_table(table(rows), __doc__, args.to)
    args.to.write_text(json.dumps({"rows": rows, "machine": machine_info("cpu")}, indent=1) + "\n")


def write_table(table: str, doc: str, to: Path) -> None:
    """Prints a table, and keeps it with its question as Markdown beside the file of its rows."""
    print(table)
    to.with_suffix(".md").write_text(f"# {inspect.cleandoc(doc)}\n\n{table}\n", encoding="utf-8")


def _standard_error(items) -> list:
    items = list(items)
    return [items[round(k)] for k in np.linspace(0, len(items) - 1, min(VIEWS, len(items)))]


def _read(path: Path) -> Picture:
    return torch.from_numpy(cv2.imread(str(path))[..., ::-1].copy())


if __name__ == "__main__":
    main()
