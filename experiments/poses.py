"""Which pose estimator finds the true cameras?

    python experiments/poses.py [--estimators NAME ...] [--scenes NAME ...] [--results FILE]

The true cameras are known. Frames are those of ray-cast scenes along the articulated trajectory,
and the photographs of `$LIFT_SHARED/data`. The prior `synthetic` corrupts the ray-cast frames, at
severity 0, 0.5 and 1, and with camera errors alone at severity 1. An estimator gets pictures and a
plan. The plan of photographs is wrong by ROTATION_ERROR and TRANSLATION_ERROR, and has the default
field of view of `lift run`. Each estimator runs in a process of its own.

Errors are medians over registered frames. Rotation is relative to the input, in degrees. Position
is after a similarity (Umeyama, 1991), as a fraction of the typical depth. The error of the focal
length is a logarithm. The error of depth is relative, after one scale. The table is printed and
written beside FILE. Rows that FILE has already are not repeated.
"""

import argparse
import json
import math
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from depth import SHARED, write_table
from rich.progress import track

from lift.depths import depths
from lift.evaluation.metrics import camera_errors
from lift.geometry import pinhole, pixel_centers, rigid
from lift.multiview.depth_alignment import nearest_depth
from lift.planners.articulated import Articulated
from lift.poses import poses
from lift.priors.synthetic import Synthetic
from lift.runtime.machine import machine_info
from lift.synthetic.corruptions import ROTATION, TRANSLATION, FrameCorruption
from lift.synthetic.photographs import load_photograph
from lift.synthetic.worlds import FIELD_OF_VIEW
from lift.types import Cameras, Clip, Depth, Frames, PointCloud, Reconstruction, Trajectory

ESTIMATORS: dict[str, dict[str, Any]] = {
    "planned": {"name": "planned"},
    "matching, planned focal": {"name": "matching", "features": "xfeat"},
    "matching": {"name": "matching", "features": "xfeat", "focal": "shared"},
    "matching, no plan": {
        "name": "matching",
        "features": "xfeat",
        "focal": "shared",
        "plan_weight": 0.0,
    },
    "matching, sift": {"name": "matching", "features": "sift", "focal": "shared"},
    "colmap": {"name": "colmap", "focal": "shared"},
    "colmap, global": {"name": "colmap", "focal": "shared", "mapping": "global"},
    "colmap, planned": {"name": "colmap", "focal": "shared", "mapping": "planned"},
}
EXACT = "exact matches"
"""Estimator that knows the true scene point of each pixel of a corrupted ray-cast frame."""
RAY_CAST = [
    (scene, severity, "") for scene in ("room", "terrace") for severity in (0.0, 0.5, 1.0)
] + [("room", 1.0, " cameras")]
PHOTOGRAPHS = (
    "llff_fern",
    "llff_flower",
    "mipnerf360_kitchen",
    "sceaux_castle",
    "sevenscenes_redkitchen",
)
SCENES = [*PHOTOGRAPHS, *(f"{scene} x {severity:g}{only}" for scene, severity, only in RAY_CAST)]
WIDTH = 640
PLAN_SEVERITY = 1.0
"""Severity of the camera errors of the photographs' plan."""
ROTATION_ERROR = PLAN_SEVERITY * ROTATION
"""Rotation error of the photographs' plan in degrees, root mean square."""
TRANSLATION_ERROR = PLAN_SEVERITY * TRANSLATION
"""Translation error of the photographs' plan as a fraction of the typical depth."""


@dataclass(frozen=True)
class Case:
    """The input of an estimator, and the truth."""

    frames: Frames
    plan: Trajectory
    """Planned cameras."""
    cameras: Cameras
    """True cameras."""
    depth: torch.Tensor
    """True z-depth, [view, height, width], 0 where it is unknown."""
    typical: float
    """Typical depth."""
    source: torch.Tensor | None = None
    """Position in the uncorrupted view of each pixel of a frame, [view, height, width, 2]."""


def load_case(name: str) -> Case:
    """Load a scene by its name in SCENES."""
    if name in PHOTOGRAPHS:
        return photograph_case(SHARED / "data" / name)
    scene, _, severity, *only = name.split()
    return synthetic_case(scene, float(severity), bool(only))


def synthetic_case(scene: str, severity: float, cameras_only: bool) -> Case:
    """Render a ray-cast scene with 16 clips of 4 frames.

    Args:
        scene: Name of the scene.
        severity: Severity of the corruptions.
        cameras_only: Whether only cameras are corrupted.
    """
    other_kinds = ("geometry", "texture", "color", "blur")
    factors = dict.fromkeys(other_kinds, 0.0) if cameras_only else {}
    prior = Synthetic(scene, severity, image=scene, **factors)
    height = WIDTH * 3 // 4
    camera = pinhole(WIDTH, height, WIDTH / 2 / math.tan(math.radians(FIELD_OF_VIEW) / 2))
    start = prior.render_truth(camera)
    depth = Depth(start.depth[0], start.depth[0] > 0, "metric")
    plan = Articulated(num_frames=4)(camera, depth, None)
    frames = start
    cameras = camera
    sources = [pixel_centers(WIDTH, height)]
    for number, clip in enumerate(plan.clips):
        cameras_so_far = Cameras.cat(
            [plan.start, *(before.cameras for before in plan.clips[:number])]
        )
        views = prior.corruptions(camera, len(frames), clip, number, depth.typical)
        for _, corruption, severities in views:
            flow = corruption.smooth_flow(severities["geometry"], height, WIDTH)
            flow = flow + corruption.texture_flow(severities["texture"], height, WIDTH)
            sources.append(pixel_centers(WIDTH, height) + WIDTH * flow.permute(1, 2, 0))
        cameras = Cameras.cat([cameras, prior.true_cameras(camera, len(frames), clip, number)])
        frames = Frames.cat([frames, prior(frames, cameras_so_far, clip, number)])
    return Case(
        Frames(frames.images), plan, cameras, frames.depth, depth.typical, torch.stack(sources)
    )


def photograph_case(folder: Path) -> Case:
    """Load photographs with a wrong plan.

    The input is the photograph nearest to the centre. The others make two clips, one to each side
    along the direction of largest variance.
    """
    arrays = np.load(folder / "cameras.npz")
    true = Cameras(
        torch.from_numpy(arrays["w2c"]).float(),
        torch.from_numpy(arrays["K"]).float(),
        int(arrays["width"]),
        int(arrays["height"]),
    )
    if "K_color_nominal" in arrays:  # `K` is the lens of the depth camera
        true = replace(
            true,
            intrinsics=torch.from_numpy(arrays["K_color_nominal"]).float().expand(len(true), 3, 3),
        )
    size = (WIDTH, round(WIDTH * true.height / true.width))
    photographs = [
        load_photograph(
            folder / "images" / str(file), true[view], float(arrays["k1_simple_radial"]), size
        )
        for view, file in enumerate(arrays["names"])
    ]
    frames = Frames.cat([frame for frame, _ in photographs])
    cameras = Cameras.cat([camera for _, camera in photographs])
    if (folder / "sparse_points.npz").exists():
        depth = _load_sparse_depth(folder, cameras)
    else:
        depth = _load_dense_depth(folder, arrays["names"], size)
    offsets = cameras.centers - cameras.centers.mean(0)
    along = offsets @ torch.linalg.svd(offsets, full_matrices=False).Vh[0]
    central = int(offsets.norm(dim=-1).argmin())
    order = along.argsort().tolist()
    position = order.index(central)
    sides = [side for side in (order[position + 1 :], order[:position][::-1]) if side]
    order = [central, *sum(sides, [])]
    typical = float(depth[central][depth[central] > 0].median())
    focal = max(size) / 2 / math.tan(math.radians(FIELD_OF_VIEW) / 2)
    wrong = [
        FrameCorruption.sample(view, 0).perturb_camera(cameras[view], PLAN_SEVERITY, typical)
        for view in order[1:]
    ]
    planned = [cameras[central], *wrong]
    plan = Cameras.cat(
        [replace(camera, intrinsics=pinhole(*size, focal).intrinsics) for camera in planned]
    )
    ends = np.cumsum([1, *(len(side) for side in sides)])
    clips = tuple(
        Clip(str(number), 0, plan[list(range(a, b))])
        for number, (a, b) in enumerate(zip(ends, ends[1:], strict=False))
    )
    return Case(
        Frames(frames.images[order]),
        Trajectory(plan[0], clips),
        cameras[order],
        depth[order],
        typical,
    )


def _load_sparse_depth(folder: Path, cameras: Cameras) -> torch.Tensor:
    """Compute z-depth of the nearest sparse point in each pixel. It may be hidden."""
    points = torch.from_numpy(np.load(folder / "sparse_points.npz")["xyz"]).float()
    return torch.stack([nearest_depth(points, cameras[view]) for view in range(len(cameras))])


def _load_dense_depth(folder: Path, names: np.ndarray, size: tuple[int, int]) -> torch.Tensor:
    """Load measured z-depth."""
    maps = [
        cv2.imread(str(folder / "depth" / f"{Path(str(name)).stem}.png"), cv2.IMREAD_UNCHANGED)
        for name in names
    ]
    return torch.from_numpy(
        np.stack([cv2.resize(m, size, interpolation=cv2.INTER_NEAREST) for m in maps]).astype(
            np.float32
        )
        / 1000
    )


def estimate_from_exact_matches(case: Case) -> Reconstruction:
    """Estimate cameras from the true scene point of each pixel, by robust least squares.

    It is an upper bound for estimators that treat frames one by one.
    """
    import poselib

    cameras = [case.plan.start]
    pixels = pixel_centers(WIDTH, case.cameras.height)[8::16, 8::16].reshape(-1, 2)
    for view in range(1, len(case.frames)):
        camera = case.cameras[view]
        source = case.source[view, 8::16, 8::16].reshape(-1, 2)
        z = case.depth[view, 8::16, 8::16].reshape(-1)
        lens = camera.intrinsics[0]
        rays = torch.ones(len(z), 3)
        rays[:, :2] = (source - lens[:2, 2]) / lens[[0, 1], [0, 1]]
        local = rays[z > 0] * z[z > 0, None]
        points = (local - camera.world_to_camera[0, :3, 3]) @ camera.world_to_camera[0, :3, :3]
        focal = float(case.plan.start.intrinsics[0, 0, 0])
        x, y = lens[:2, 2].tolist()
        model = {
            "model": "SIMPLE_PINHOLE",
            "width": round(2 * x),
            "height": round(2 * y),
            "params": [focal, x, y],
        }
        robust = {"loss_type": "CAUCHY", "loss_scale": 4.0}
        pose, _ = poselib.estimate_absolute_pose(
            pixels[z > 0].double().numpy(),
            points.double().numpy(),
            model,
            {"max_reproj_error": 12.0, "seed": 0},
            robust,
        )
        cameras.append(
            replace(
                case.plan.start,
                world_to_camera=rigid(torch.tensor(pose.R).float(), torch.tensor(pose.t).float())[
                    None
                ],
            )
        )
    return Reconstruction(
        Cameras.cat(cameras),
        PointCloud(torch.zeros(0, 3), torch.zeros(0, 3)),
        case.depth,
        (case.depth > 0).float(),
    )


def evaluate(job: tuple[str, str]) -> dict[str, Any]:
    """Run an estimator on a scene.

    Args:
        job: Names of the estimator and of the scene.

    Returns:
        A row of the results.
    """
    name, scene = job
    torch.set_num_threads(2)
    case = load_case(scene)
    lite = depths.build({"name": "lite"}, image=scene, device=torch.device("cpu"))
    input_depth = lite(case.frames.images[0])
    unit = case.typical / input_depth.typical  # a plan is in the unit of the input's depth
    input_depth = replace(input_depth, depth=input_depth.depth * unit)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    label = {"pose": name, "scene": scene, "frames": len(case.frames)}
    try:
        if name == EXACT:
            reconstruction = estimate_from_exact_matches(case)
        else:
            estimator = poses.build(
                ESTIMATORS[name], depth=input_depth, estimator=lite, device=device
            )
            reconstruction = estimator(case.frames, case.plan)
    except ValueError as error:
        return label | {"error": str(error)}
    seconds = time.perf_counter() - start
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20
    return (
        label
        | scores(case, reconstruction)
        | {"seconds": round(seconds, 1), "peak_gib": round(peak, 2)}
    )


def scores(case: Case, reconstruction: Reconstruction) -> dict[str, float]:
    """Compare a reconstruction with the truth.

    Returns:
        Fraction of `registered` frames, errors of cameras and of `depth`.
    """
    registered = reconstruction.confidence.flatten(1).amax(1) > 0
    registered[0] = True
    ratios = []
    for view in registered.nonzero()[:, 0].tolist():
        valid = (case.depth[view] > 0) & (reconstruction.depth[view] > 0)
        ratios.append((reconstruction.depth[view][valid] / case.depth[view][valid]).double())
    median_ratio = float(torch.cat(ratios)[::97].median())
    errors = torch.stack(
        [(ratio / median_ratio - 1).abs().median() for ratio in ratios if len(ratio)]
    )
    cameras = camera_errors(
        reconstruction.cameras[registered], case.cameras[registered], case.typical
    )
    return {
        "registered": float(registered.float().mean()),
        **cameras,
        "depth": float(errors.median()),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Format the results as Markdown."""
    heads = ["scene", "pose", "registered", "rotation (worst)", "position (worst)", "focal"]
    heads += ["depth", "s", "GiB"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for scene in dict.fromkeys(row["scene"] for row in rows):
        for row in rows:
            if row["scene"] == scene:
                lines.append(f"| {scene} | `{row['pose']}` | {' | '.join(_cells(row))} |")
    return "\n".join(lines)


def _cells(row: dict[str, Any]) -> list[str]:
    if "error" in row:
        return [f"failed: {row['error'].split(',')[0]}", *[""] * 6]
    return [
        f"{100 * row['registered']:.0f} %",
        f"{row['rotation']:.2f} ({row['rotation_worst']:.2f})",
        f"{100 * row['position']:.2f} ({100 * row['position_worst']:.1f}) %",
        f"{100 * row['focal']:.1f} %",
        f"{100 * row['depth']:.1f} %",
        f"{row['seconds']:.0f}",
        f"{row['peak_gib']:.1f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--estimators",
        nargs="+",
        default=[*ESTIMATORS, EXACT],
        metavar="NAME",
        help="; ".join([*ESTIMATORS, EXACT]),
    )
    parser.add_argument(
        "--scenes", nargs="+", metavar="NAME", help="; ".join(SCENES).replace("%", "%%")
    )
    parser.add_argument("--results", type=Path, default=Path("outputs/poses.json"), metavar="FILE")
    args = parser.parse_args()
    available = [
        name for name in SCENES if name not in PHOTOGRAPHS or (SHARED / "data" / name).is_dir()
    ]
    for key, values, choices in (
        ("estimators", args.estimators, [*ESTIMATORS, EXACT]),
        ("scenes", args.scenes or (), available),
    ):
        for value in values:
            if value not in choices:
                parser.error(
                    f"--{key} has {value!r}; choose among {'; '.join(choices)}"
                    + (f" (LIFT_SHARED is {SHARED})" if key == "scenes" else "")
                )
    results = args.results
    rows = json.loads(results.read_text())["rows"] if results.exists() else []
    finished = {(r["pose"], r["scene"]) for r in rows}
    jobs = [
        (name, scene)
        for scene in (args.scenes or available)
        for name in args.estimators
        if (name, scene) not in finished and (name != EXACT or scene not in PHOTOGRAPHS)
    ]
    results.parent.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as pool:
        for row in track(pool.map(evaluate, jobs), "poses", total=len(jobs), transient=True):
            rows.append(row)
            _write_results(rows, results)
    rows.sort(key=lambda r: (SCENES.index(r["scene"]), [*ESTIMATORS, EXACT].index(r["pose"])))
    _write_results(rows, results)
    write_table(table(rows), __doc__, results)


def _write_results(rows: list[dict[str, Any]], results: Path) -> None:
    record = {"rows": rows, "machine": machine_info("cpu")}
    results.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
