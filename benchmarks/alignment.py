"""Compare our alignment of pair predictions with the published one.

    python benchmarks/alignment.py [--frames 15] [--width 448] [--device cuda] [--results FILE]

The frames are a tree of 16 clips of the ray-cast room, with known cameras and depth. An oracle
replaces the network. It gives true point maps with noise, scales and outliers
(`lift.evaluation.pairs`). `published` uses the star of all frames with the input, in both
directions, and 400 steps of Adam. `bundle` chooses its pairs, and matches them by descriptors or by
points. Each alignment runs in a process of its own, after a clip to warm up.

Seconds are without the oracle's. Peak memory is beyond that before the alignment. On a CPU it
includes the oracle's. Errors are those of experiments/poses.py. Rows are appended to FILE.
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
    "published": {"alignment": "global_alignment"},
    "bundle, descriptors": {"alignment": "bundle_adjustment", "has_descriptors": True},
    "bundle, points": {"alignment": "bundle_adjustment", "has_descriptors": False},
}


class TimedOracle(Oracle):
    """An oracle that measures its own time, to subtract it."""

    seconds = 0.0

    def predict(self, *arguments: Any, **options: Any) -> Any:
        start = self.now()
        prediction = super().predict(*arguments, **options)
        self.seconds += self.now() - start
        return prediction

    def batch_size(self) -> int:
        return 16 if self.depth.device.type == "cuda" else 1

    def now(self) -> float:
        if self.depth.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


def make_case(frames: int, width: int, device: str) -> Case:
    """Render the frames. The true cameras differ from the plan by the errors of `synthetic`.

    Args:
        frames: Frames per clip.
        width: Width in pixels.
        device: Device of the alignment.
    """
    prior = Synthetic(
        "room", 1.0, image="room", geometry=0.0, texture=0.0, color=0.0, blur=0.0
    )  # camera errors alone
    height = width * 3 // 4
    camera = pinhole(width, height, width / 2 / math.tan(math.radians(FIELD_OF_VIEW) / 2))
    start = prior.render_truth(camera)
    depth = Depth(start.depth[0], start.depth[0] > 0, "metric")
    plan = Articulated(num_frames=frames)(camera, depth, None)
    cameras = [camera]
    for number, clip in enumerate(plan.clips):
        cameras.append(prior.true_cameras(camera, sum(map(len, cameras)), clip, number))
    true = Cameras.cat(cameras)
    os.environ |= {
        "NUMBA_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }  # for the processes that render
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool:
        rendered = Frames.cat(
            list(pool.map(render, ["room"] * len(true), [true[view] for view in range(len(true))]))
        )
    for name in ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS"):
        del os.environ[name]
    return Case(rendered, plan, true, rendered.depth, depth.typical)


def evaluate(job: tuple[str, Case, str, int]) -> dict[str, Any]:
    """Run an alignment.

    Args:
        job: Name of the alignment, the case, the device and the seed.

    Returns:
        A row of the results.
    """
    name, case, device, seed = job
    settings = dict(METHODS[name])
    has_descriptors = settings.pop("has_descriptors", False)
    input_depth = Depth(case.depth[0], case.depth[0] > 0, "metric")

    def pose(oracle: Oracle) -> PointMapPoses:
        return PointMapPoses(
            oracle,
            case.cameras.width,
            PATCH,
            monocular="nowhere",
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
    )  # compiling and loading happen once per process and are not timed
    views = list(range(len(plan.cameras)))
    pose(
        Oracle(
            case.cameras[views].to(device),
            case.depth[views].to(device),
            has_descriptors=has_descriptors,
        )
    )(Frames(case.frames.images[views]), plan)
    oracle = TimedOracle(
        case.cameras.to(device), case.depth.to(device), has_descriptors=has_descriptors, seed=seed
    )
    estimator = pose(oracle)
    if device == "cuda":
        memory_before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
    else:
        memory_before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 2**10
    start = oracle.now()
    reconstruction = estimator(Frames(case.frames.images), case.plan)
    seconds = oracle.now() - start - oracle.seconds
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
        "peak_gib": round((peak - memory_before) / 2**30, 3),
    }


def main() -> None:
    """Run the alignments and append their rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=15, help="frames per clip")
    parser.add_argument("--width", type=int, default=448)
    parser.add_argument(
        "--seeds", type=int, default=1, help="number of seeds of the oracle's errors"
    )
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu"
    )
    parser.add_argument("--methods", nargs="+", choices=tuple(METHODS), default=list(METHODS))
    parser.add_argument(
        "--results", type=Path, default=Path("outputs/alignment.json"), metavar="FILE"
    )
    args = parser.parse_args()
    results = args.results
    rows = json.loads(results.read_text())["rows"] if results.exists() else []
    results.parent.mkdir(parents=True, exist_ok=True)
    case = make_case(args.frames, args.width, args.device)
    for seed in range(args.seeds):
        for name in args.methods:
            with ProcessPoolExecutor(1, get_context("spawn")) as pool:
                rows.append(pool.submit(evaluate, (name, case, args.device, seed)).result())
            print(json.dumps(rows[-1]), flush=True)
            machine = machine_info(args.device)
            record = {"benchmark": "alignment", "rows": rows, "machine": machine}
            results.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
