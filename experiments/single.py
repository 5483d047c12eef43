"""How right a scene from a single photograph is:

    python experiments/single.py [--scenes NAME ...] [--to FILE] [setting=value ...]

Of each scene of `$LIFT_SHARED/data` the photograph nearest to the middle is lifted by `lift run`, and the scene seen from where others were taken
(four fifths of them; the rest is kept back for what may be chosen by these). Its unit of length is free: it is scaled so that the median depth of points that structure from motion found in the input is right; nothing
else is aligned. PSNR, SSIM and LPIPS over whole views, and PSNR of what the input shows of them by the scene's own depth. Without settings the
defaults stand beside what was the default before the package had networks. Prints a table and writes FILE.
"""

import argparse
import json
import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from hydra import compose, initialize_config_module
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from depth import SHARED, SPARSE
from lift.cli import check_names
from lift.config import check, store_schemas
from lift.errors import one_line
from lift.evaluation.lpips import LPIPS
from lift.evaluation.metrics import psnr, ssim
from lift.evaluation.worlds import World, photographs
from lift.geometry import inside, project, unproject
from lift.io.splats import read_ply
from lift.machine import machine
from lift.pipeline import run
from lift.renderers import Renderer, renderers
from lift.types import Cameras

SIZE = (384, 288)
RUNS = Path("outputs/single")
"""Where scenes are made: gigabytes, which do not belong beside the table."""
SETTINGS = {
    "ramp, patches": ["depth=ramp", "prior.fill=patches"], "lite, patches": ["prior.fill=patches"], "lite, network": [],
}  # fmt: skip
SAME = 0.1
"""Relative difference of depth up to which a point of a view is one that the input shows."""


def lifted(world: World, output: Path, settings: list[str]) -> Path:
    """The run's folder."""
    image = output / f"{world.name}.png"
    image.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(image), world.frames.images[0].numpy()[..., ::-1])
    field = math.degrees(2 * math.atan(0.5 * SIZE[0] / float(world.trajectory.cameras.intrinsics[0, 0, 0])))
    with initialize_config_module("lift.configs", version_base="1.3"):
        config = compose(
            "lift", ["experiment=demo", f"image={image}", f"output={output}", f"intake.size={SIZE[0]}", f"intake.field_of_view={field}", *settings]
        )
    check(config)
    return run(config)


def scores(world: World, folder: Path, renderer: Renderer, lpips: LPIPS) -> dict[str, Any]:
    """Means over all photographs of the trajectory but the input."""
    gaussians, cameras = read_ply(folder / "gaussians.ply"), world.trajectory.cameras
    first = cameras[0]
    start = replace(first, world_to_camera=torch.eye(4)[None])
    seen = renderer(gaussians, start)
    pixels, z = project(world.points.points, first)
    there = (z[0] > 0) & inside(pixels[0], first)
    x, y = pixels[0][there].long().unbind(-1)
    scale = float((z[0][there] / seen.depth[0, y, x]).median())
    found = []
    for view in range(1, len(cameras)):
        relative = cameras.world_to_camera[view] @ torch.linalg.inv(first.world_to_camera[0])
        relative[:3, 3] /= scale
        camera = replace(cameras[view], world_to_camera=relative[None])
        made, photo = renderer(gaussians, camera), world.frames.images[view].float() / 255
        rgb = made.rgb[0].clamp(0, 1)
        shown = _shown(made.depth, camera, seen.depth, start)
        found.append({
            "psnr": psnr(rgb, photo), "ssim": ssim(rgb, photo), "lpips": float(lpips(rgb, photo)),
            "psnr_seen": float(-10 * (rgb - photo)[shown].square().mean().log10()), "seen": float(shown.float().mean()),
        })  # fmt: skip
    return {key: round(float(np.mean([f[key] for f in found])), 4) for key in found[0]} | {"views": len(found), "scale": scale}


def _shown(depth: torch.Tensor, camera: Cameras, first_depth: torch.Tensor, first: Cameras) -> torch.Tensor:
    """Pixels of a view that the input shows."""
    points = unproject(depth, camera)[0].reshape(-1, 3)
    pixels, z = project(points, first)
    pixels, z = pixels[0], z[0]
    there = (z > 0) & inside(pixels, first)
    x, y = pixels.long().unbind(-1)
    at = first_depth[0, y.clamp(0, first.height - 1), x.clamp(0, first.width - 1)]
    return (there & ((z / at - 1).abs() < SAME)).view(depth.shape[1:])


def table(rows: list[dict[str, Any]]) -> str:
    names, scenes = list(dict.fromkeys(r["settings"] for r in rows)), list(dict.fromkeys(r["scene"] for r in rows))
    lines = ["| settings | scene | PSNR | SSIM | LPIPS | PSNR of what the input shows | its share |", "|---|---|---|---|---|---|---|"]
    for scene in (*scenes, "mean"):
        for name in names:
            own = [r for r in rows if r["settings"] == name and scene in (r["scene"], "mean")]
            mean = {key: np.mean([r[key] for r in own]) for key in ("psnr", "ssim", "lpips", "psnr_seen", "seen")}
            figures = f"{mean['psnr']:.2f} | {mean['ssim']:.3f} | {mean['lpips']:.3f} | {mean['psnr_seen']:.2f} | {100 * mean['seen']:.0f} %"
            lines.append(f"| `{name}` | {scene} | {figures} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0].rstrip(":.") + ".")
    parser.add_argument("--scenes", nargs="+", metavar="NAME", default=list(SPARSE), help=", ".join(SPARSE))
    parser.add_argument("--to", type=Path, default=Path("outputs/single.json"))
    parser.add_argument("settings", nargs="*", metavar="setting=value")
    asked = parser.parse_intermixed_args()
    asked.settings += [name for name in asked.scenes if "=" in name]
    asked.scenes = [name for name in asked.scenes if "=" not in name]
    if not (SHARED / "weights/lpips_backbones").is_dir():
        parser.error(f"LIFT_SHARED is {SHARED}, where weights/lpips_backbones are missing")
    for name in asked.scenes:
        if not (SHARED / "data" / name / "cameras.npz").is_file():
            parser.error(f"--scenes has {name}, which is not in {SHARED / 'data'} (LIFT_SHARED); choose among {', '.join(SPARSE)}")
    store_schemas()
    try:
        check_names(asked.settings)
    except ValueError as error:
        parser.error(str(error))
    chosen = {" ".join(asked.settings): asked.settings} if asked.settings else SETTINGS
    lpips, renderer = LPIPS.load(SHARED / "weights/lpips_backbones"), renderers.build({"name": "numba"}, device=torch.device("cpu"), image="")
    rows = []
    asked.to.parent.mkdir(parents=True, exist_ok=True)
    for name in asked.scenes:
        world = photographs(SHARED / "data" / name, SIZE)
        for label, settings in chosen.items():
            began = time.perf_counter()
            try:
                folder = lifted(world, RUNS, settings)
            except (ValueError, OSError, HydraException, OmegaConfBaseException) as error:
                parser.error(f"{label}: {one_line(error)}")
            rows.append({"settings": label, "scene": name, **scores(world, folder, renderer, lpips), "seconds": round(time.perf_counter() - began, 1)})
            print(json.dumps(rows[-1]), flush=True)
            asked.to.write_text(json.dumps({"rows": rows, "machine": machine("cpu")}, indent=1) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
