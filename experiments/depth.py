"""How right depth from one picture is:

    python experiments/depth.py [depth=NAME depth.SETTING=VALUE ...] [--to FILE]

Photographs with truth that no network here was trained on (`$LIFT_SHARED/data`): a stereo pair, Kinect depth, and points that structure
from motion found, without those that lie behind nearer ones. Estimates are aligned by scale and shift of inverse depth (least squares).
Without `depth=`: a plane that does not look at the picture (lower is nearer), which every score has to be read beside; `ramp`; `lite`;
and the networks of `$LIFT_SHARED/weights` through `depth=onnx`. Prints a table and writes FILE.
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
from hydra import compose, initialize_config_module
from hydra.errors import HydraException
from jaxtyping import Bool, Float, UInt8
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.progress import track
from scipy.stats import spearmanr
from torch import Tensor

from lift.cli import check_names
from lift.config import check, store_schemas
from lift.depths import depths
from lift.errors import one_line
from lift.geometry import inside, pinhole, project
from lift.runtime.machine import machine
from lift.synthetic.worlds import photographed
from lift.types import Cameras

SHARED = Path(os.environ.get("LIFT_SHARED", Path(__file__).parents[2] / "shared")).resolve()
SPARSE = ("llff_fern", "llff_flower", "mipnerf360_kitchen", "sceaux_castle")
CONTROL = "plane"
NETWORKS = {
    "tiefenrausch": ["depth_tiefenrausch/tiefenrausch_qdq.onnx", "depth.gives=log_inverse_depth"],
    "tcmonodepth": ["depth_tcmonodepth/tcmonodepth_tcsmallnet_192x320.onnx", "depth.white=255"],
    "fastdepth": ["depth_fastdepth/fastdepth_7.onnx", "depth.gives=depth", "depth.metric=true"],
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
        known = disparity.isfinite()
        yield _read(folder / "motorcycle_left.png"), (disparity + 31.086).where(known, 0), known
    elif (
        name == "sevenscenes_redkitchen"
    ):  # colour and depth are some seven pixels apart: good for ranks, not for edges
        for path in _spread(sorted((folder / "images").iterdir())):
            depth = torch.from_numpy(
                cv2.imread(str(folder / "depth" / f"{path.stem}.png"), cv2.IMREAD_UNCHANGED).astype(
                    np.float32
                )
            )
            known = (depth > 0) & (depth < 10_000)
            yield _read(path), (1 / depth).where(known, 0), known
    else:
        cameras, cloud, paths, k1 = photographed(folder)
        for index in _spread(range(len(cameras))):
            yield _read(paths[index]), *seen(cloud.points, cameras[index], k1)


def seen(
    cloud: Float[Tensor, "point 3"], camera: Cameras, k1: float
) -> tuple[Float[Tensor, "height width"], Bool[Tensor, "height width"]]:
    """Inverse depth at the pixels of points, bent as the lens bends; a point far behind another in the same cell, a fortieth of the picture wide, is hidden by it."""
    pixels, depth = project(cloud, camera)
    pixels, depth = pixels[0], depth[0]
    focal, middle = camera.intrinsics[0, 0, 0], camera.intrinsics[0, :2, 2]
    flat = (pixels - middle) / focal
    pixels = flat * (1 + k1 * flat.square().sum(-1, keepdim=True)) * focal + middle
    there = (depth > 0) & inside(pixels, camera)
    pixels, depth = pixels[there], depth[there]
    cell = max(camera.width, camera.height) // 40
    columns = camera.width // cell + 1
    place = (pixels[:, 1] // cell * columns + pixels[:, 0] // cell).long()
    nearest = torch.full((int(place.max()) + 1,), torch.inf).scatter_reduce(0, place, depth, "amin")
    front = depth < 1.25 * nearest[place]
    x, y = pixels[front].long().unbind(-1)
    inverse = torch.zeros(camera.height * camera.width).scatter_reduce(
        0, y * camera.width + x, 1 / depth[front], "amax"
    )  # the nearest of a pixel
    inverse = inverse.view(camera.height, camera.width)
    return inverse, inverse > 0


def errors(
    estimate: Float[Tensor, "height width"],
    truth: Float[Tensor, "height width"],
    known: Bool[Tensor, "height width"],
) -> dict[str, float]:
    """Of inverse depth: Spearman's rank correlation; AbsRel and delta1 of depth after scale and shift of the inverse."""
    a, b = estimate[known].double().numpy(), truth[known].double().numpy()
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
    """Inverse depth of a picture by the component that the settings name. Raises as `lift run` does for what is wrong with them."""
    check_names(overrides)
    with initialize_config_module("lift.configs", version_base="1.3"):
        config = compose("lift", ["image=room", *overrides])
    check(config)
    built = depths.build(
        OmegaConf.to_container(config.depth),
        image="room",
        device=torch.device("cpu"),
        camera=pinhole(64, 48, 60.0),
    )

    def inverse(image: Picture) -> Float[Tensor, "height width"]:
        guess = built(image)
        return (1 / guess.depth).where(guess.valid, 0)

    return inverse


def row(name: str, guess: Callable[[Picture], Tensor], place: str) -> dict[str, Any]:
    """Means over the views of a set."""
    found, seconds = [], []
    for image, truth, known in pictures(place):
        began = time.perf_counter()
        estimate = guess(image)
        seconds.append(time.perf_counter() - began)
        found.append(errors(estimate, truth, known))
    return {
        "depth": name,
        "set": place,
        "views": len(found),
        **{key: round(float(np.mean([f[key] for f in found])), 4) for key in found[0]},
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
        own = {r["set"]: r for r in rows if r["depth"] == name}
        mean = {
            key: np.mean([r[key] for r in own.values()]) for key in ("rank", "abs_rel", "delta1")
        }
        ranks = " | ".join(f"{own[s]['rank']:.2f}" if s in own else "" for s in sets)
        lines.append(
            f"| `{name}` | {ranks} | {mean['rank']:.2f} | {mean['abs_rel']:.3f} | {mean['delta1']:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0].rstrip(":.") + ".")
    parser.add_argument("--to", type=Path, default=Path("outputs/depth.json"))
    parser.add_argument("settings", nargs="*", metavar="depth.setting=value")
    asked = parser.parse_intermixed_args()
    sets = [
        name
        for name in (*SPARSE, "middlebury_stereo", "sevenscenes_redkitchen")
        if (SHARED / "data" / name).is_dir()
    ]
    if not sets:
        parser.error(
            f"LIFT_SHARED is {SHARED}, where no data is; choose a folder with data/{SPARSE[0]} and the like"
        )
    chosen = (
        {" ".join(asked.settings): asked.settings}
        if asked.settings
        else {name: [f"depth={name}"] for name in ("ramp", "lite")}
    )
    if not asked.settings:
        for name, (file, *more) in NETWORKS.items():
            if (SHARED / "weights" / file).exists():
                chosen[name] = ["depth=onnx", f"depth.path={SHARED / 'weights' / file}", *more]
    store_schemas()
    guesses: dict[str, Callable[[Picture], Tensor]] = {CONTROL: plane}
    for name, overrides in chosen.items():
        try:
            guesses[name] = estimator(overrides)
        except (ValueError, OSError, HydraException, OmegaConfBaseException) as error:
            parser.error(f"{name}: {one_line(error)}")
    try:
        rows = [
            row(name, guess, place)
            for name, guess in track(guesses.items(), "depth", transient=True)
            for place in sets
        ]
    except ValueError as error:  # of an estimator that cannot do with these pictures, as `known` with the depth of another
        parser.error(one_line(error))
    asked.to.parent.mkdir(parents=True, exist_ok=True)
    written(table(rows), __doc__, asked.to)
    asked.to.write_text(json.dumps({"rows": rows, "machine": machine("cpu")}, indent=1) + "\n")


def written(table: str, doc: str, to: Path) -> None:
    """Prints a table, and keeps it with its question as Markdown beside the file of its rows."""
    print(table)
    to.with_suffix(".md").write_text(f"# {inspect.cleandoc(doc)}\n\n{table}\n", encoding="utf-8")


def _spread(items) -> list:
    items = list(items)
    return [items[round(k)] for k in np.linspace(0, len(items) - 1, min(VIEWS, len(items)))]


def _read(path: Path) -> Picture:
    return torch.from_numpy(cv2.imread(str(path))[..., ::-1].copy())


if __name__ == "__main__":
    main()
