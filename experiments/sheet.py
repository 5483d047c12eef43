"""Draw contact sheets of scenes from single pictures, to compare two versions by eye.

    python experiments/sheet.py [PICTURE ...] [setting=value ...] [--sheets DIR] [--output DIR]

Each picture is lifted with the defaults of `lift run`. A sheet shows the input view, two views of
the fly-through, and three views from beside: right, left and above. These are a quarter farther
from the input than the outermost frames. All have the width of the picture file, at most 1,008
pixels. Printed are PSNR in dB and LPIPS of the input view at that size, and the seconds of the run.
Without PICTURE all pictures of `$LIFT_SHARED/data/single_images` are used. Finished runs are not
repeated.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import yaml
from depth import SHARED
from rich.progress import track

import lift
from lift.camera_paths import scale_motion
from lift.evaluation.lpips import LPIPS
from lift.evaluation.metrics import psnr
from lift.io.image import load_picture
from lift.types import Cameras

WIDTH = 1008
"""Largest length of the longer side of a view in pixels."""
BEYOND = 1.25
"""Distance of the views from beside, in distances of the outermost frames from the input."""
CLIPS = ("right/right", "left/left", "up/up")
"""Clips beyond whose ends the views from beside lie. A planner without them has none."""


def draw(scene: lift.Scene, camera: Cameras) -> list[np.ndarray]:
    """Render the views of a sheet.

    Args:
        scene: The scene.
        camera: The input's camera, of the size of the views.

    Returns:
        Colours, [height, width, 3] uint8, the input view first.
    """
    loop = scene.fly_through.resized(camera.width, camera.height)
    views = [camera, loop[len(loop) // 4], loop[5 * len(loop) // 8]]
    for clip in scene.trajectory.clips:
        if clip.name in CLIPS:
            last = clip.cameras[len(clip.cameras) - 1]
            beside = scale_motion(scene.trajectory.start, last, BEYOND)
            views.append(beside.resized(camera.width, camera.height))
    with torch.no_grad():
        renders = [scene.renderer(scene.gaussians, view).rgb[0].clamp(0, 1) for view in views]
    return [(rgb * 255).round().to(torch.uint8).cpu().numpy() for rgb in renders]


def sheet(
    picture: str, settings: dict[str, Any], output: Path, sheets: Path, lpips: LPIPS | None
) -> str:
    """Lift a picture, write its sheet, and return a line of figures.

    Args:
        picture: File or built-in name.
        settings: Settings of `lift run`.
        output: Folder of the runs and of their cache.
        sheets: Folder of the sheets.
        lpips: The network, or None.
    """
    start = time.perf_counter()
    scene = lift.run(picture, output=str(output), **settings)
    seconds = time.perf_counter() - start
    full = load_picture(picture, WIDTH, scene.settings["preprocess"]["field_of_view"])
    views = draw(scene, full.cameras)
    sheets.mkdir(parents=True, exist_ok=True)
    name = Path(picture).stem
    cv2.imwrite(str(sheets / f"{name}.png"), np.concatenate(views, 1)[..., ::-1])
    pair = [
        torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
        for image in (views[0], full.frames.images[0].numpy())
    ]
    distance = f", LPIPS {float(lpips.distances(*pair)):.3f}" if lpips else ""
    value = psnr(pair[0][0], pair[1][0])
    return f"{name}: {value:.2f} dB{distance} at the input view, {seconds:.0f} s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pictures", nargs="*", metavar="PICTURE or setting=value")
    parser.add_argument("--sheets", type=Path, default=Path("outputs/sheets"), metavar="DIR")
    parser.add_argument("--output", type=Path, default=Path("outputs/sheet-runs"), metavar="DIR")
    args = parser.parse_intermixed_args()
    values = [text.partition("=") for text in args.pictures if "=" in text]
    settings = {key: yaml.safe_load(value) for key, _, value in values}
    singles = sorted((SHARED / "data/single_images/images").glob("*.jpg"))
    pictures = [text for text in args.pictures if "=" not in text] or [str(p) for p in singles]
    if not pictures:
        parser.error(f"LIFT_SHARED is {SHARED}, which has no data/single_images; name pictures")
    backbones = SHARED / "weights/lpips_backbones"
    lpips = LPIPS.load(backbones) if backbones.is_dir() else None
    for picture in track(pictures, "sheet", transient=True):
        print(sheet(picture, settings, args.output, args.sheets, lpips), flush=True)


if __name__ == "__main__":
    main()
