"""Where were the frames really taken, and which estimator finds out?

    python experiments/poses.py [--estimators NAME ...] [--scenes NAME ...] [--to FILE]

Frames of which the cameras are known: ray-cast scenes along the articulated trajectory, distorted
as the prior `synthetic` distorts (severity 0, 0.5 and 1, and 1 of the cameras' mistakes alone), and
the photographs of `$LIFT_SHARED/data`. An estimator is given pictures and a plan. The plan of
photographs is wrong by ANGLE and SHIFT, and supposes the field of view that `lift run` supposes.
Each runs in a process of its own. Errors: of rotation, degrees, relative to the input's; of
position after a similarity (Umeyama, 1991), share of the typical depth; of the focal length,
logarithm; of depth, relative, after one factor. Medians over frames that were placed. Prints a
table and writes FILE; what is there already is not run again.
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
from lift.synthetic.corruptions import SHIFT as MISTAKEN
from lift.synthetic.corruptions import TURN, FrameCorruption
from lift.synthetic.photographs import load_photograph
from lift.synthetic.worlds import FIELD_OF_VIEW
from lift.types import Cameras, Clip, Depth, Frames, PointCloud, Reconstruction, Trajectory

ESTIMATORS: dict[str, dict[str, Any]] = {
    "planned": {"name": "planned"},
    "matching, focal as planned": {"name": "matching", "features": "xfeat"},
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
"""Of ray-cast scenes: where a frame's pixels, mistakes and all, are best explained to have been
taken from, with the true point known of each.
"""
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
ASKED = 1.0
"""Times the mistakes that `synthetic` makes of cameras at full motion, by which the plan of
photographs is wrong: ANGLE and SHIFT.
"""
ANGLE, SHIFT = ASKED * TURN, ASKED * MISTAKEN


@dataclass(frozen=True)
class Case:
    """What an estimator is given, and the truth. depth: z-depth [view H W], 0 where it is not
    known. source: pixels [view H W 2] of the true view that a frame's pixels show.
    """

    frames: Frames
    plan: Trajectory
    cameras: Cameras
    depth: torch.Tensor
    typical: float
    source: torch.Tensor | None = None


def case(name: str) -> Case:
    if name in PHOTOGRAPHS:
        return photograph_case(SHARED / "data" / name)
    scene, _, severity, *only = name.split()
    return synthetic_case(scene, float(severity), bool(only))


def synthetic_case(scene: str, severity: float, cameras_only: bool) -> Case:
    """A ray-cast scene, 16 clips of 4 frames."""
    other_severities = (
        dict.fromkeys(("geometry", "texture", "color", "blur"), 0.0) if cameras_only else {}
    )
    prior = Synthetic(scene, severity, image=scene, **other_severities)
    height = WIDTH * 3 // 4
    camera = pinhole(WIDTH, height, WIDTH / 2 / math.tan(math.radians(FIELD_OF_VIEW) / 2))
    start = prior.render_truth(camera)
    depth = Depth(start.depth[0], start.depth[0] > 0, "metric")
    plan = Articulated(frames=4)(camera, depth, None)
    frames, cameras, sources = start, camera, [pixel_centers(WIDTH, height)]
    for number, clip in enumerate(plan.clips):
        cameras_so_far = Cameras.cat(
            [plan.start, *(before.cameras for before in plan.clips[:number])]
        )
        for _, mistakes, sizes in prior.corruptions(
            camera, len(frames), clip, number, depth.typical
        ):
            flow = mistakes.smooth_flow(sizes["geometry"], height, WIDTH) + mistakes.texture_flow(
                sizes["texture"], height, WIDTH
            )
            sources.append(pixel_centers(WIDTH, height) + WIDTH * flow.permute(1, 2, 0))
        cameras = Cameras.cat([cameras, prior.true_cameras(camera, len(frames), clip, number)])
        frames = Frames.cat([frames, prior(frames, cameras_so_far, clip, number)])
    return Case(
        Frames(frames.images), plan, cameras, frames.depth, depth.typical, torch.stack(sources)
    )


def photograph_case(folder: Path) -> Case:
    """Photographs, the one nearest to the middle first, then to either side of it along the
    direction in which they spread most.
    """
    arrays = np.load(folder / "cameras.npz")
    true = Cameras(
        torch.from_numpy(arrays["w2c"]).float(),
        torch.from_numpy(arrays["K"]).float(),
        int(arrays["width"]),
        int(arrays["height"]),
    )
    if (
        "K_color_nominal" in arrays
    ):  # the poses are those of the camera of depth, whose lens is another
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
    frames, cameras = (
        Frames.cat([frame for frame, _ in photographs]),
        Cameras.cat([camera for _, camera in photographs]),
    )
    depth = (
        _sparse(folder, cameras)
        if (folder / "sparse_points.npz").exists()
        else _load_depth(folder, arrays["names"], size)
    )
    offsets = cameras.centers - cameras.centers.mean(0)
    along = offsets @ torch.linalg.svd(offsets, full_matrices=False).Vh[0]
    central = int(offsets.norm(dim=-1).argmin())
    order = along.argsort().tolist()
    position = order.index(central)
    sides = [side for side in (order[position + 1 :], order[:position][::-1]) if side]
    order = [central, *sum(sides, [])]
    typical = float(depth[central][depth[central] > 0].median())
    focal = max(size) / 2 / math.tan(math.radians(FIELD_OF_VIEW) / 2)
    outside = [
        cameras[central],
        *(
            FrameCorruption.sample(view, 0).perturb_camera(cameras[view], ASKED, typical)
            for view in order[1:]
        ),
    ]
    plan = Cameras.cat(
        [replace(camera, intrinsics=pinhole(*size, focal).intrinsics) for camera in outside]
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


def _sparse(folder: Path, cameras: Cameras) -> torch.Tensor:
    """z-depth at the nearest point of structure from motion in a pixel, seen there or not."""
    points = torch.from_numpy(np.load(folder / "sparse_points.npz")["xyz"]).float()
    return torch.stack([nearest_depth(points, cameras[view]) for view in range(len(cameras))])


def _load_depth(folder: Path, names: np.ndarray, size: tuple[int, int]) -> torch.Tensor:
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


def exact(case: Case) -> Reconstruction:
    """Cameras from what each pixel truly shows, by robust least squares: no estimator that looks at
    frames one by one knows more.
    """
    import poselib

    cameras = [case.plan.start]
    pixels = pixel_centers(WIDTH, case.cameras.height)[8::16, 8::16].reshape(-1, 2)
    for view in range(1, len(case.frames)):
        camera, at, z = (
            case.cameras[view],
            case.source[view, 8::16, 8::16].reshape(-1, 2),
            case.depth[view, 8::16, 8::16].reshape(-1),
        )
        lens = camera.intrinsics[0]
        local = (
            torch.cat([(at - lens[:2, 2]) / lens[[0, 1], [0, 1]], torch.ones_like(at[:, :1])], -1)[
                z > 0
            ]
            * z[z > 0, None]
        )
        points = (local - camera.world_to_camera[0, :3, 3]) @ camera.world_to_camera[0, :3, :3]
        focal, (x, y) = float(case.plan.start.intrinsics[0, 0, 0]), lens[:2, 2].tolist()
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


def row(job: tuple[str, str]) -> dict[str, Any]:
    name, scene = job
    torch.set_num_threads(2)
    data = case(scene)
    lite = depths.build({"name": "lite"}, image=scene, device=torch.device("cpu"))
    input_depth = lite(data.frames.images[0])
    unit = data.typical / input_depth.typical  # a plan is in the unit of the input's depth
    input_depth = replace(input_depth, depth=input_depth.depth * unit)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    label = {"pose": name, "scene": scene, "frames": len(data.frames)}
    try:
        reconstruction = (
            exact(data)
            if name == EXACT
            else poses.build(ESTIMATORS[name], depth=input_depth, estimator=lite, device=device)(
                data.frames, data.plan
            )
        )
    except ValueError as error:
        return label | {"failed": str(error)}
    seconds = time.perf_counter() - began
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20
    return (
        label
        | scores(data, reconstruction)
        | {"seconds": round(seconds, 1), "peak_gib": round(peak, 2)}
    )


def scores(case: Case, reconstruction: Any) -> dict[str, float]:
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
    return {"placed": float(registered.float().mean()), **cameras, "depth": float(errors.median())}


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| scene | pose | placed | rotation (worst) | position (worst) | focal | depth | s | GiB |",
        "|---" * 9 + "|",
    ]
    for scene in dict.fromkeys(r["scene"] for r in rows):
        for r in rows:
            if r["scene"] == scene and "failed" in r:
                lines.append(
                    f"| {scene} | `{r['pose']}` | failed: {r['failed'].split(',')[0]} | | | | | | |"
                )
            elif r["scene"] == scene:
                lines.append(
                    f"| {scene} | `{r['pose']}` | {100 * r['placed']:.0f} % | {r['rotation']:.2f} "
                    f"({r['rotation_worst']:.2f}) | {100 * r['position']:.2f} "
                    f"({100 * r['position_worst']:.1f}) % | {100 * r['focal']:.1f} % | "
                    f"{100 * r['depth']:.1f} % | {r['seconds']:.0f} | {r['peak_gib']:.1f} |"
                )
    return "\n".join(lines)


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
    parser.add_argument("--to", type=Path, default=Path("outputs/poses.json"))
    args = parser.parse_args()
    rows_so_far = [
        name for name in SCENES if name not in PHOTOGRAPHS or (SHARED / "data" / name).is_dir()
    ]
    for key, values, choices in (
        ("estimators", args.estimators, [*ESTIMATORS, EXACT]),
        ("scenes", args.scenes or (), rows_so_far),
    ):
        for value in values:
            if value not in choices:
                parser.error(
                    f"--{key} has {value!r}; choose among {'; '.join(choices)}"
                    + (f" (LIFT_SHARED is {SHARED})" if key == "scenes" else "")
                )
    rows = json.loads(args.to.read_text())["rows"] if args.to.exists() else []
    finished = {(r["pose"], r["scene"]) for r in rows}
    due = [
        (name, scene)
        for scene in (args.scenes or rows_so_far)
        for name in args.estimators
        if (name, scene) not in finished and (name != EXACT or scene not in PHOTOGRAPHS)
    ]
    args.to.parent.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as pool:
        for result in track(pool.map(row, due), "poses", total=len(due), transient=True):
            rows.append(result)
            args.to.write_text(
                json.dumps({"rows": rows, "machine": machine_info("cpu")}, indent=1) + "\n"
            )
    rows.sort(key=lambda r: (SCENES.index(r["scene"]), [*ESTIMATORS, EXACT].index(r["pose"])))
    args.to.write_text(json.dumps({"rows": rows, "machine": machine_info("cpu")}, indent=1) + "\n")
    write_table(table(rows), __doc__, args.to)


if __name__ == "__main__":
    main()
