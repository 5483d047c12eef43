"""From what a network says of pairs of frames to cameras: our alignment and the published one, side by side.

    python benchmarks/alignment.py [--frames 15] [--width 448] [--device cuda] [--to FILE]

The tree of 16 clips of --frames frames each in the ray-cast room, whose cameras and depth are known; in the network's place an oracle gives true point
maps with noise, scales of their own, and outliers (`lift.evaluation.pairs`). `published` looks at the star of all frames with the input, both ways, and takes 400
steps of Adam; `bundle` chooses its pairs, and matches them by descriptors or by points. Each in a process of its own, after a clip to warm up: seconds without the oracle's, peak memory beyond what was held before (on a
CPU the oracle's included), errors as in experiments/poses.py. Appended to FILE as it comes.
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
from lift.runtime.machine import machine
from lift.synthetic.scenes import render
from lift.types import Cameras, Depth, Frames, Trajectory

METHODS = {
    "published": {"alignment": "published"},
    "bundle, descriptors": {"alignment": "bundle", "describes": True},
    "bundle, points": {"alignment": "bundle", "describes": False},
}


class Timed(Oracle):
    """How long it took, so that this can be taken off."""

    spent = 0.0

    def pairs(self, *asked: Any, **more: Any) -> Any:
        began = self.now()
        out = super().pairs(*asked, **more)
        self.spent += self.now() - began
        return out

    def batch(self) -> int:
        return 16 if self.depth.device.type == "cuda" else 1

    def now(self) -> float:
        if self.depth.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


def scene(frames: int, width: int, device: str) -> Case:
    """Planned cameras, and where the frames were taken: off by what `synthetic` gets wrong of cameras at strength 1."""
    prior = Synthetic(
        "room", 1.0, image="room", geometry=0.0, texture=0.0, color=0.0, blur=0.0
    )  # cameras alone
    height = width * 3 // 4
    camera = pinhole(width, height, width / 2 / math.tan(math.radians(FIELD_OF_VIEW) / 2))
    start = prior.truth(camera)
    depth = Depth(start.depth[0], start.depth[0] > 0, "metric")
    plan = Articulated(frames=frames)(camera, depth, None)
    cameras = [camera]
    for number, clip in enumerate(plan.clips):
        cameras.append(prior.taken(camera, sum(map(len, cameras)), clip, number))
    true = Cameras.cat(cameras)
    os.environ |= {"NUMBA_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}  # of those that draw
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool:
        seen = Frames.cat(
            list(pool.map(render, ["room"] * len(true), [true[view] for view in range(len(true))]))
        )
    for name in ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS"):
        del os.environ[name]
    return Case(seen, plan, true, seen.depth, depth.typical)


def row(asked: tuple[str, Case, str, int]) -> dict[str, Any]:
    name, given, device, seed = asked
    settings = dict(METHODS[name])
    describes = settings.pop("describes", False)
    first = Depth(given.depth[0], given.depth[0] > 0, "metric")

    def pose(oracle: Oracle) -> PointMapPoses:
        return PointMapPoses(
            oracle,
            given.cameras.width,
            PATCH,
            monocular="off",
            exhaustive=16,
            closures=4,
            focal="fixed",
            trust=1.0,
            least=0.5,
            tolerance=0.05,
            most_points=1_000_000,
            depth=first,
            estimator=None,
            device=torch.device(device),
            **settings,
        )

    few = Trajectory(
        given.plan.start, given.plan.clips[:1]
    )  # what is compiled and loaded once a process is not counted
    some = list(range(len(few.cameras)))
    pose(Oracle(given.cameras[some].to(device), given.depth[some].to(device), describes=describes))(
        Frames(given.frames.images[some]), few
    )
    oracle = Timed(given.cameras.to(device), given.depth.to(device), describes=describes, seed=seed)
    made = pose(oracle)
    if device == "cuda":
        held = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
    else:
        held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 2**10
    began = oracle.now()
    found = made(Frames(given.frames.images), given.plan)
    seconds = oracle.now() - began - oracle.spent
    peak = (
        torch.cuda.max_memory_allocated()
        if device == "cuda"
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 2**10
    )
    errors = {key: round(value, 5) for key, value in scores(given, found).items()}
    return {
        "alignment": name,
        "frames": len(given.frames),
        "width": given.cameras.width,
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
    asked = parser.parse_args()
    rows = json.loads(asked.to.read_text())["rows"] if asked.to.exists() else []
    asked.to.parent.mkdir(parents=True, exist_ok=True)
    given = scene(asked.frames, asked.width, asked.device)
    for seed in range(asked.seeds):
        for name in asked.methods:
            with ProcessPoolExecutor(1, get_context("spawn")) as pool:
                rows.append(pool.submit(row, (name, given, asked.device, seed)).result())
            print(json.dumps(rows[-1]), flush=True)
            asked.to.write_text(
                json.dumps(
                    {"benchmark": "alignment", "rows": rows, "machine": machine(asked.device)},
                    indent=1,
                )
                + "\n"
            )


if __name__ == "__main__":
    main()
