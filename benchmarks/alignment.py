"""From what a network says of pairs of frames to cameras: our alignment and the published one, side
by side.

    python benchmarks/alignment.py [--frames 15] [--width 448] [--device cuda] [--to FILE]

The tree of 16 clips of --frames frames each in the ray-cast room, whose cameras and depth are
known; in the network's place an oracle gives true point maps with noise, scales of their own, and
outliers (`lift.evaluation.pairs`). `published` looks at the star of all frames with the input, both
ways, and takes 400 steps of Adam; `bundle` chooses its pairs, and matches them by descriptors or by
points. Each in a process of its own, after a clip to warm up: seconds without the oracle's, peak
memory beyond what was held before (on a CPU the oracle's included), errors as in
experiments/poses.py. Appended to FILE as it comes.
"""

import argparse
import json
import math
import os
import resource
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "experiments"))
from poses import FIELD_OF_VIEW, Case, scores

from lift.evaluation.pairs import Oracle
from lift.geometry import pinhole
from lift.planners.articulated import Articulated
from lift.poses.mast3r import PATCH
from lift.poses.sfm.pointmaps import PointMapPoses
from lift.priors.synthetic import Synthetic
from lift.runtime.machine import machine_info
from lift.synthetic.scenes import render
from lift.types import Cameras, Depth, Frames, Trajectory

METHODS = {
    "published": {"alignment": "published"},
    "bundle, descriptors": {"alignment": "bundle", "has_descriptors": True},
    "bundle, points": {"alignment": "bundle", "has_descriptors": False},
}


class Timed(Oracle):
    """How long it took, so that this can be taken off."""

    spent = 0.0

    def predict(self, *arguments: Any, **options: Any) -> Any:
        began = self.now()
        out = super().predict(*arguments, **options)
        self.spent += self.now() - began
        return out

    def batch_size(self) -> int:
        return 16 if self.depth.device.type == "cuda" else 1

    def now(self) -> float:
        if self.depth.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


def scene(frames: int, width: int, device: str) -> Case:
    """Planned cameras, and where the frames were taken: off by what `synthetic` gets wrong of
    cameras at strength 1.
    """
    prior = Synthetic(
        "room", 1.0, image="room", geometry=0.0, texture=0.0, color=0.0, blur=0.0
    )  # cameras alone
    height = width * 3 // 4
    camera = pinhole(width, height, width / 2 / math.tan(math.radians(FIELD_OF_VIEW) / 2))
    start = prior.render_truth(camera)
    depth = Depth(start.depth[0], start.depth[0] > 0, "metric")
    plan = Articulated(frames=frames)(camera, depth, None)
    cameras = [camera]
    for number, clip in enumerate(plan.clips):
        cameras.append(prior.true_cameras(camera, sum(map(len, cameras)), clip, number))
    true = Cameras.cat(cameras)
    os.environ |= {"NUMBA_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}  # of those that draw
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool:
        frames_seen = Frames.cat(
            list(pool.map(render, ["room"] * len(true), [true[view] for view in range(len(true))]))
        )
    for name in ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS"):
        del os.environ[name]
    return Case(frames_seen, plan, true, frames_seen.depth, depth.typical)


def row(job: tuple[str, Case, str, int]) -> dict[str, Any]:
    name, case, device, seed = job
    settings = dict(METHODS[name])
    has_descriptors = settings.pop("has_descriptors", False)
    input_depth = Depth(case.depth[0], case.depth[0] > 0, "metric")

    def pose(oracle: Oracle) -> PointMapPoses:
        return PointMapPoses(
            oracle,
            case.cameras.width,
            PATCH,
            monocular="off",
            exhaustive_limit=16,
            loop_closures=4,
            focal="fixed",
            plan_weight=1.0,
            min_registered=0.5,
            tolerance=0.05,
            max_points=1_000_000,
            depth=input_depth,
            estimator=None,
            device=torch.device(device),
            **settings,
        )

    plan = Trajectory(
        case.plan.start, case.plan.clips[:1]
    )  # what is compiled and loaded once a process is not counted
    views = list(range(len(plan.cameras)))
    pose(
        Oracle(
            case.cameras[views].to(device),
            case.depth[views].to(device),
            has_descriptors=has_descriptors,
        )
    )(Frames(case.frames.images[views]), plan)
    oracle = Timed(
        case.cameras.to(device), case.depth.to(device), has_descriptors=has_descriptors, seed=seed
    )
    estimator = pose(oracle)
    if device == "cuda":
        held = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
    else:
        held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 2**10
    began = oracle.now()
    reconstruction = estimator(Frames(case.frames.images), case.plan)
    seconds = oracle.now() - began - oracle.spent
    peak = (
        torch.cuda.max_memory_allocated()
        if device == "cuda"
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 2**10
    )
    errors = {key: round(value, 5) for key, value in scores(case, reconstruction).items()}
    return {
        "alignment": name,
        "frames": len(case.frames),
        "width": case.cameras.width,
        "seed": seed,
        **errors,
        "seconds": round(seconds, 2),
        "peak_gib": round((peak - held) / 2**30, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=15, help="a clip")
    parser.add_argument("--width", type=int, default=448)
    parser.add_argument("--seeds", type=int, default=1, help="of the oracle's mistakes")
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu"
    )
    parser.add_argument("--methods", nargs="+", choices=tuple(METHODS), default=list(METHODS))
    parser.add_argument("--to", type=Path, default=Path("outputs/alignment.json"))
    args = parser.parse_args()
    rows = json.loads(args.to.read_text())["rows"] if args.to.exists() else []
    args.to.parent.mkdir(parents=True, exist_ok=True)
    case = scene(args.frames, args.width, args.device)
    for seed in range(args.seeds):
        for name in args.methods:
            with ProcessPoolExecutor(1, get_context("spawn")) as pool:
                rows.append(pool.submit(row, (name, case, args.device, seed)).result())
            print(json.dumps(rows[-1]), flush=True)
            args.to.write_text(
                json.dumps(
                    {"benchmark": "alignment", "rows": rows, "machine": machine_info(args.device)},
                    indent=1,
                )
                + "\n"
            )


if __name__ == "__main__":
    main()
