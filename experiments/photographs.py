"""Lift photographs, and compare the scene with photographs that are held out of the fit.

    python experiments/photographs.py [--preset cpu|gpu] [--methods lift gsplat]
        [--scenes NAME ...] [--output FOLDER] [--results FOLDER] [--weights FOLDER]
        [--set KEY=VALUE ...]

Scenes are those of `$LIFT_SHARED/data` with several views. `lift` gets only the folder of
photographs. Every 8th photograph (0, 8, 16, ... by name) is held out of the fit. `lift` estimates
the cameras of all photographs. Held-out photographs are rendered at their estimated cameras. It is
compared with plain gsplat, which gets the official cameras and sparse points. These come from all
photographs. Scenes that are finished already are not repeated.

--output holds runs and contact sheets, --results the table.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import plain_gsplat
import torch
from measuring import (
    PRESETS,
    SHARED,
    FinishedRun,
    contact_sheet,
    error_picture,
    load_lpips,
    load_or_compute,
    markdown,
    mean_scores,
    run_lift,
    scores,
    step_folder,
    write_results,
)
from rich.progress import track

from lift.evaluation.lpips import LPIPS
from lift.evaluation.metrics import camera_errors
from lift.geometry import rigid, unproject
from lift.io.image import load_picture
from lift.outputs.quality import render_canonical
from lift.renderers import Renderer
from lift.synthetic.photographs import load_photograph
from lift.types import Cameras, Frames, PointCloud

SCENES = (
    "llff_fern",
    "llff_flower",
    "mipnerf360_kitchen",
    "sceaux_castle",
    "sevenscenes_redkitchen",
)
TEST_EVERY = 8
GSPLAT_FITS = ((2000, 60_000), (7000, 60_000), (7000, 300_000))
"""Steps and the largest number of Gaussians of plain gsplat."""
MIN_LENS_DISTORTION = 0.05
"""Radial coefficient above which photographs are undistorted for plain gsplat."""
SIDE_STEP = 0.12
"""Distance of a novel view from a photograph, as a fraction of the typical depth."""


@dataclass(frozen=True)
class Scene:
    """A scene's photographs and their official cameras, which some may not have."""

    name: str
    folder: Path
    files: tuple[str, ...]
    """File names of all photographs, in order."""
    names: tuple[str, ...]
    """File names of the photographs with a camera, in the order of `cameras`."""
    cameras: Cameras
    k1: float
    """First radial coefficient of the lens."""

    @property
    def held_out(self) -> tuple[str, ...]:
        """Photographs that are held out of the fit."""
        return self.files[::TEST_EVERY]


def read_scene(folder: Path) -> Scene:
    """Read the official cameras of a scene.

    Args:
        folder: Folder with `images` and cameras.npz.

    Returns:
        The scene.

    Raises:
        FileNotFoundError: If there are no cameras.
    """
    if not (folder / "cameras.npz").is_file():
        raise FileNotFoundError(f"there is no cameras.npz in {folder}; set LIFT_SHARED")
    with np.load(folder / "cameras.npz") as camera_file:
        poses = torch.from_numpy(camera_file["w2c"]).float()
        matrices = torch.from_numpy(camera_file["K"]).float()
        if "K_color_nominal" in camera_file:
            matrices = (
                torch.from_numpy(camera_file["K_color_nominal"]).float().expand(len(poses), 3, 3)
            )
        cameras = Cameras(
            poses, matrices.clone(), int(camera_file["width"]), int(camera_file["height"])
        )
        names = tuple(map(str, camera_file["names"]))
        k1 = float(camera_file["k1_simple_radial"])
    files = tuple(sorted(file.name for file in (folder / "images").iterdir()))
    return Scene(folder.name, folder, files, names, cameras, k1)


def sparse_points(scene: Scene, size: tuple[int, int]) -> PointCloud:
    """Read the scene's sparse points, or make points of its measured depth.

    Args:
        scene: The scene.
        size: Width and height of the pictures that the colours are taken from.

    Returns:
        Points with colours in [0, 1].
    """
    file = scene.folder / "sparse_points.npz"
    if file.is_file():
        with np.load(file) as point_file:
            points = torch.from_numpy(point_file["xyz"]).float()
            return PointCloud(points, torch.from_numpy(point_file["rgb"]).float() / 255)
    import cv2

    with np.load(scene.folder / "cameras.npz") as point_file:
        matrices = torch.from_numpy(point_file["K"]).float()
    clouds = []
    for view in range(1, len(scene.names), 4):
        path = scene.folder / "depth" / f"{Path(scene.names[view]).stem}.png"
        depth = torch.from_numpy(cv2.imread(str(path), cv2.IMREAD_UNCHANGED).astype(np.float32))
        camera = Cameras(
            scene.cameras.world_to_camera[view : view + 1],
            matrices[view : view + 1],
            depth.shape[1],
            depth.shape[0],
        )
        points = unproject(depth[None] / 1000, camera)[0][::8, ::8]
        image = load_picture(str(scene.folder / "images" / scene.names[view]), max(size), 55.0)
        rgb = torch.nn.functional.interpolate(
            image.frames.rgb.permute(0, 3, 1, 2), points.shape[:2], mode="area"
        )[0].permute(1, 2, 0)
        valid = depth[::8, ::8] > 0
        clouds.append(PointCloud(points[valid], rgb[valid]))
    return PointCloud.cat(clouds)


def lift_scene(
    scene: Scene, settings: list[str], output: Path, lpips: LPIPS | None
) -> dict[str, Any]:
    """Lift a scene and score it.

    Args:
        scene: The scene.
        settings: Settings of `lift run`.
        output: Folder of the runs.
        lpips: Network, or None.

    Returns:
        Scores of the held-out photographs, errors of the cameras, seconds and memory.
    """
    name = f"photographs-{scene.name}"
    common = [f"image={scene.folder / 'images'}", f"output={output}", f"name={name}"]
    run = run_lift([*common, f"fit.test_every={TEST_EVERY}", *settings])
    renderer = run.renderer()
    frames = run.frames()
    files = run.names
    registered = run.registered
    rows = {}
    sheet = []
    for view in run.held_out:
        if registered[view]:
            render = render_canonical(renderer, run.gaussians, run.cameras[view]).rgb[0]
            truth = frames[view].rgb[0]
            rows[files[view]] = scores(render, truth, lpips)
            sheet.append([truth, render.clamp(0, 1), error_picture(render, truth)])
    sheet.append(render_novel_views(run, renderer))
    contact_sheet(output / "sheets" / f"{scene.name}-lift.jpg", sheet)
    return {
        "held_out": mean_scores(list(rows.values())),
        "held_out_views": rows,
        "held_out_registered": f"{len(rows)} of {len(scene.held_out)}",
        "input_psnr": run.metrics["input_psnr"],
        "verdict": run.metrics.get("verdict"),
        "gaussians": len(run.gaussians),
        "registered": f"{int(registered.sum())} of {len(registered)}",
        "cameras": compare_cameras(scene, run, files, registered),
        "seconds": run.seconds,
        "total_seconds": sum(run.seconds.values()),
        "peak_gib": run.peak_gib,
        "size": [run.cameras.width, run.cameras.height],
    }


def compare_cameras(
    scene: Scene, run: FinishedRun, files: list[str], registered: torch.Tensor
) -> dict[str, float] | None:
    """Compare the estimated cameras with the official ones, after a similarity.

    Returns:
        The errors of `lift.evaluation.metrics.camera_errors`. Positions are fractions of the
        largest distance between two cameras. None if fewer than three photographs have both.
    """
    common = [view for view, file in enumerate(files) if registered[view] and file in scene.names]
    if len(common) < 3:
        return None
    official = scene.cameras[[scene.names.index(files[view]) for view in common]]
    official = official.resized(run.cameras.width, run.cameras.height)
    extent = float(torch.cdist(official.centers, official.centers).max())
    return camera_errors(run.cameras[common], official, extent)


def render_novel_views(run: FinishedRun, renderer: Renderer, count: int = 3) -> list[torch.Tensor]:
    """Render views from beside some held-out photographs."""
    views = []
    for number, view in enumerate(run.held_out[:count]):
        depth = run.reconstruction.depth[view]
        typical = float(depth[depth > 0].median()) if bool((depth > 0).any()) else 1.0
        side = SIDE_STEP * typical * (-1) ** number
        step = rigid(torch.eye(3), torch.tensor([side, 0.0, 0.0]))
        camera = run.cameras[view]
        shifted = Cameras(
            step @ camera.world_to_camera, camera.intrinsics, camera.width, camera.height
        )
        views.append(render_canonical(renderer, run.gaussians, shifted).rgb[0].clamp(0, 1))
    return views


def fit_gsplat(
    scene: Scene, size: int, output: Path, lpips: LPIPS | None, steps: int, max_gaussians: int
) -> dict[str, Any]:
    """Fit plain gsplat to a scene with its official cameras and score it.

    Args:
        scene: The scene.
        size: Longer side of the pictures in pixels.
        output: Folder of the contact sheets.
        lpips: Network, or None.
        steps: Steps of the fit.
        max_gaussians: Number of Gaussians, at most.

    Returns:
        Scores of held-out photographs.
    """
    input_picture = load_picture(str(scene.folder / "images" / scene.names[0]), size, 55.0)
    shape = (input_picture.cameras.width, input_picture.cameras.height)
    k1 = scene.k1 if abs(scene.k1) > MIN_LENS_DISTORTION else 0.0
    renders = [
        load_photograph(scene.folder / "images" / name, scene.cameras[view], k1, shape)
        for view, name in enumerate(scene.names)
    ]
    frames = Frames.cat([frame for frame, _ in renders])
    cameras = Cameras.cat([camera for _, camera in renders])
    test = [view for view, name in enumerate(scene.names) if name in scene.held_out]
    train = [view for view in range(len(frames)) if view not in test]
    points = sparse_points(scene, shape)
    result = plain_gsplat.fit(
        Frames(frames.images[train]), cameras[train], points, steps, max_gaussians
    )
    rows = {}
    sheet = []
    with torch.no_grad():
        for view in test:
            camera = cameras[view].to(result.splats["means"].device)
            render = plain_gsplat.render(result.splats, camera)[0][0].cpu()
            truth = frames[view].rgb[0]
            rows[scene.names[view]] = scores(render, truth, lpips)
            sheet.append([truth, render.clamp(0, 1), error_picture(render, truth)])
    contact_sheet(output / "sheets" / f"{scene.name}-gsplat-{steps}-{max_gaussians}.jpg", sheet)
    return {
        "held_out": mean_scores(list(rows.values())),
        "held_out_views": rows,
        "gaussians": result.gaussians,
        "undistorted": k1 != 0,
        "total_seconds": result.seconds,
        "size": list(shape),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Format the results as Markdown."""
    heads = [
        "scene",
        "method",
        "PSNR",
        "SSIM",
        "LPIPS",
        "input PSNR",
        "Gaussians",
        "registered",
        "held out, registered",
        "rotation, degrees",
        "position, %",
        "focal, %",
        "s",
        "GiB",
    ]
    lines = []
    for row in rows:
        head = [row["scene"], row["method"]]
        if "refused" in row:
            lines.append([*head, f"refused: {row['refused']}", *[""] * (len(heads) - 3)])
            continue
        mean = row["held_out"]
        errors = row.get("cameras") or {}
        lines.append(
            [
                *head,
                *(mean.get(name) for name in ("psnr", "ssim", "lpips")),
                row.get("input_psnr"),
                row["gaussians"],
                row.get("registered"),
                row.get("held_out_registered"),
                errors.get("rotation"),
                *(100 * errors[key] if key in errors else None for key in ("position", "focal")),
                round(row["total_seconds"]),
                row.get("peak_gib"),
            ]
        )
    return markdown(heads, lines)


def text_of(rows: list[dict[str, Any]], command: str) -> str:
    """Write the Markdown page."""
    notes = (
        "Every 8th photograph (0, 8, 16, ... by name) is held out of the fit. PSNR in dB, SSIM and "
        "LPIPS (AlexNet) are means over held-out photographs, for `lift` over those that it "
        "registered. `lift` gets only the folder of photographs. It estimates the cameras of all "
        "of them. Held-out photographs are rendered at their estimated cameras. Plain gsplat "
        "(MCMC) gets the official cameras and sparse points, which come from all photographs. "
        "Camera errors are medians after a similarity. Position is a fraction of the largest "
        "distance between two cameras."
    )
    return "\n\n".join(["# Photographs", notes, f"Made by `{command}`.", table(rows)])


def options_of(arguments: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", choices=list(PRESETS), default="cpu")
    parser.add_argument(
        "--methods",
        nargs="+",
        choices=["lift", "gsplat"],
        help="default: both with --preset gpu, otherwise lift",
    )
    parser.add_argument("--scenes", nargs="+", choices=SCENES, default=list(SCENES))
    parser.add_argument(
        "--output", type=Path, default=Path("outputs/photographs"), help="folder of the runs"
    )
    parser.add_argument("--weights", type=Path, help="folder with the weights of LPIPS")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", dest="settings")
    parser.add_argument("--results", type=Path, help="folder of the table (benchmarks/results)")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Measure the scenes that are not finished, and write the table."""
    options = options_of(arguments)
    both = ["lift", "gsplat"]
    methods = options.methods or (both if options.preset == "gpu" else ["lift"])
    output = step_folder(options.output, options.preset, options.settings)
    lpips = load_lpips(options.weights)
    settings = [*PRESETS[options.preset], *options.settings]
    rows = []
    for name in track(options.scenes, "scenes", transient=True):
        scene = read_scene(SHARED / "data" / name)
        if "lift" in methods:
            results = load_or_compute(
                output / f"{name}-lift.json",
                lambda scene=scene: lift_scene(scene, settings, output, lpips),
            )
            rows.append({"scene": name, "method": "lift"} | results)
        for steps, cap in GSPLAT_FITS if "gsplat" in methods else ():
            results = load_or_compute(
                output / f"{name}-gsplat-{steps}-{cap}.json",
                lambda scene=scene, steps=steps, cap=cap: fit_gsplat(
                    scene, _size(settings), output, lpips, steps, cap
                ),
            )
            method = f"gsplat, {steps} steps, cap {cap // 1000}k"
            rows.append({"scene": name, "method": method} | results)
    command = f"python experiments/photographs.py --preset {options.preset}"
    command += f" --set {' '.join(options.settings)}" if options.settings else ""
    text = text_of(rows, command)
    complete = not options.settings and len(options.scenes) == len(SCENES)
    folder = options.results or (None if complete else output / "tables")
    folder_option = {} if folder is None else {"folder": folder}
    write_results("photographs", options.preset, text, rows, settings=settings, **folder_option)
    print(text)


def _size(settings: list[str]) -> int:
    """Return the longer side of the pictures in pixels with some settings of `lift`."""
    from lift.config import compose_run

    return int(compose_run([*settings, "image=none"]).preprocess.size)


if __name__ == "__main__":
    main()
