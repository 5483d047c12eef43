"""The frames that fitting is measured on: python benchmarks/frames.py --to FOLDER [--width 1024]
[--severity 1]

A ray-cast scene's own view and the clips that the `synthetic` prior makes along the `articulated`
plan, as `lift run experiment=synthetic` would; by default 1 + 16 x 15 = 241 pictures of 4:3. Beside
them what no fit is given: true views from cameras that no frame was generated for. Making them
takes minutes of one core, or as many cores as there are clips; so they are kept in a folder.
"""

import argparse
import math
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import torch

from lift.geometry import pinhole
from lift.planners.articulated import Articulated
from lift.poses.planned import Planned
from lift.priors.synthetic import Synthetic
from lift.runtime.serialization import load, save
from lift.synthetic.scenes import render
from lift.synthetic.worlds import FIELD_OF_VIEW, ring_cameras
from lift.training.data import split_frames
from lift.types import Cameras, Clip, Depth, Frames, Reconstruction, Trajectory

HELD_OUT = 8
"""Every so many-th generated frame is held out (`lift.training.data.split_frames`)."""


@dataclass(frozen=True)
class FrameSet:
    """Frames with their plan and reconstruction, frame 0 the input; and the truth at cameras off
    the plan.
    """

    frames: Frames
    trajectory: Trajectory
    true_cameras: Cameras
    true_frames: Frames

    @property
    def reconstruction(self) -> Reconstruction:
        """By the `planned` pose: cameras as asked for, not as taken; depth as drawn. Computed at
        each call.
        """
        return Planned(depth=_depth(self.frames))(self.frames, self.trajectory)

    @property
    def views(self) -> tuple[list[int], list[int]]:
        """Generated frames to train on, and those held out."""
        return split_frames(list(range(1, len(self.frames))), HELD_OUT)


def scene(
    size: tuple[int, int] = (1024, 768),
    frames: int = 15,
    severity: float = 1.0,
    seed: int = 0,
    name: str = "room",
    depth: int = 2,
    workers: int | None = None,
) -> FrameSet:
    """Makes the set. size: width and height in pixels. frames: a clip. severity: of the prior's
    mistakes. name: of `lift.synthetic.scenes`.
    depth: levels of the tree. workers: processes, by default one a core; the result does not depend
    on them.
    """
    width, height = size
    camera = pinhole(width, height, width / 2 / math.tan(math.radians(FIELD_OF_VIEW) / 2))
    start = render(name, camera)
    trajectory = Articulated(depth, frames=frames)(camera, _depth(start), None)
    # The prior looks at the input and at how many frames there are, not at other clips: so none has
    # to wait for another.
    calls: list[Callable] = [
        _Clip(name, severity, start, camera, clip, span.start, seed + number)
        for number, (clip, span) in enumerate(zip(trajectory.clips, trajectory.spans, strict=True))
    ]
    cameras = ring_cameras(camera, _depth(start))
    calls += [_View(name, cameras[view]) for view in range(len(cameras))]
    workers = min(len(calls), workers or torch.get_num_threads())
    if workers == 1:
        results = [call() for call in calls]
    else:  # a fresh interpreter each: threads would wait for one another at every small operation
        with ProcessPoolExecutor(
            workers, get_context("spawn"), torch.set_num_threads, (1,)
        ) as pool:
            results = list(pool.map(_call, calls))
    clips, views = results[: len(trajectory.clips)], results[len(trajectory.clips) :]
    return FrameSet(Frames.cat([start, *clips]), trajectory, cameras, Frames.cat(views))


def save_frame_set(frame_set: FrameSet, folder: Path) -> None:
    """Writes the set to a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    save(dict(vars(frame_set)), folder)


def load_frame_set(folder: Path) -> FrameSet:
    """What `keep` wrote."""
    return FrameSet(**load(folder))


def _depth(frames: Frames) -> Depth:
    return Depth(frames.depth[0], frames.depth[0] > 0, "metric")


@dataclass(frozen=True)
class _Clip:
    scene: str
    severity: float
    start: Frames
    camera: Cameras
    clip: Clip
    context_length: int
    seed: int

    def __call__(self) -> Frames:
        before = self.start.map(lambda value: value.expand(self.context_length, *value.shape[1:]))
        return Synthetic(severity=self.severity, image=self.scene)(
            before, self.camera, self.clip, self.seed
        )


@dataclass(frozen=True)
class _View:
    scene: str
    camera: Cameras

    def __call__(self) -> Frames:
        return render(self.scene, self.camera)


def _call(call: Callable[[], Frames]) -> Frames:
    return call()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0].rstrip(":.") + ".")
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument(
        "--width", type=int, default=1024, help="pixels; the height is three quarters of it"
    )
    parser.add_argument("--frames", type=int, default=15, help="a clip")
    parser.add_argument("--severity", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scene", default="room")
    parser.add_argument("--workers", type=int)
    args = parser.parse_args()
    started = time.perf_counter()
    frame_set = scene(
        (args.width, args.width * 3 // 4),
        args.frames,
        args.severity,
        args.seed,
        args.scene,
        workers=args.workers,
    )
    seconds = time.perf_counter() - started
    save_frame_set(frame_set, args.to)
    print(
        f"{len(frame_set.frames)} frames and {len(frame_set.true_frames)} true views of "
        f"{args.width} pixels in {seconds:.1f} s, in {args.to}"
    )


if __name__ == "__main__":
    main()
