"""Make the frames that fits are measured on.

    python benchmarks/frames.py --output FOLDER [--width 1024] [--severity 1]

The frames are a ray-cast scene's own view, and the clips of the `synthetic` prior along the
`articulated` plan, as in `lift run experiment=synthetic`. By default these are 1 + 16 x 15 = 241
pictures of 4:3. There are also true views from cameras of no frame, which no fit gets. Rendering
takes minutes on one core, so the frames are kept in a folder.
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

TEST_EVERY = 8
"""Every N-th generated frame is held out (`lift.training.data.split_frames`)."""


@dataclass(frozen=True)
class FrameSet:
    """Frames with their plan and reconstruction, and true views from other cameras."""

    frames: Frames
    """Corrupted frames, the input first."""
    trajectory: Trajectory
    """Planned cameras."""
    true_cameras: Cameras
    """Cameras of no frame."""
    true_frames: Frames
    """Correct views from `true_cameras`."""

    @property
    def reconstruction(self) -> Reconstruction:
        """Planned cameras and the corrupted frames' depth, by `pose=planned`.

        It is computed at each call.
        """
        return Planned(depth=_depth(self.frames))(self.frames, self.trajectory)

    @property
    def views(self) -> tuple[list[int], list[int]]:
        """Indices of the generated frames to train on, and of those that are held out."""
        return split_frames(list(range(1, len(self.frames))), TEST_EVERY)


def make_frame_set(
    size: tuple[int, int] = (1024, 768),
    frames: int = 15,
    severity: float = 1.0,
    seed: int = 0,
    name: str = "room",
    levels: int = 2,
    workers: int | None = None,
) -> FrameSet:
    """Render the frames.

    Args:
        size: Width and height in pixels.
        frames: Frames per clip.
        severity: Severity of the corruptions.
        seed: Seed of the corruptions.
        name: Name of the ray-cast scene.
        levels: Levels of the trajectory.
        workers: Number of processes. Default: one per core. The result does not depend on it.
    """
    width, height = size
    camera = pinhole(width, height, width / 2 / math.tan(math.radians(FIELD_OF_VIEW) / 2))
    start = render(name, camera)
    trajectory = Articulated(levels, num_frames=frames)(camera, _depth(start), None)
    # The prior uses only the input and the number of frames so far, so clips are independent.
    calls: list[Callable] = [
        _ClipJob(name, severity, start, camera, clip, span.start, seed + number)
        for number, (clip, span) in enumerate(zip(trajectory.clips, trajectory.spans, strict=True))
    ]
    cameras = ring_cameras(camera, _depth(start))
    calls += [_ViewJob(name, cameras[view]) for view in range(len(cameras))]
    workers = min(len(calls), workers or torch.get_num_threads())
    if workers == 1:
        results = [call() for call in calls]
    else:  # processes, because threads would wait for one another at every small operation
        with ProcessPoolExecutor(
            workers, get_context("spawn"), torch.set_num_threads, (1,)
        ) as pool:
            results = list(pool.map(_call, calls))
    clips = results[: len(trajectory.clips)]
    views = results[len(trajectory.clips) :]
    return FrameSet(Frames.cat([start, *clips]), trajectory, cameras, Frames.cat(views))


def save_frame_set(frame_set: FrameSet, folder: Path) -> None:
    """Write frames to a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    save(dict(vars(frame_set)), folder)


def load_frame_set(folder: Path) -> FrameSet:
    """Read the frames that `save_frame_set` wrote."""
    return FrameSet(**load(folder))


def _depth(frames: Frames) -> Depth:
    return Depth(frames.depth[0], frames.depth[0] > 0, "metric")


@dataclass(frozen=True)
class _ClipJob:
    """Renders a clip in a worker process."""

    scene: str
    severity: float
    start: Frames
    camera: Cameras
    clip: Clip
    context_length: int
    seed: int

    def __call__(self) -> Frames:
        context = self.start.map(lambda value: value.expand(self.context_length, *value.shape[1:]))
        return Synthetic(severity=self.severity, image=self.scene)(
            context, self.camera, self.clip, self.seed
        )


@dataclass(frozen=True)
class _ViewJob:
    """Renders a true view in a worker process."""

    scene: str
    camera: Cameras

    def __call__(self) -> Frames:
        return render(self.scene, self.camera)


def _call(call: Callable[[], Frames]) -> Frames:
    return call()


def main() -> None:
    """Render the frames and write them to a folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER")
    parser.add_argument(
        "--width", type=int, default=1024, help="in pixels; the height is three quarters of it"
    )
    parser.add_argument("--frames", type=int, default=15, help="frames per clip")
    parser.add_argument("--severity", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scene", default="room")
    parser.add_argument("--workers", type=int)
    args = parser.parse_args()
    started = time.perf_counter()
    frame_set = make_frame_set(
        (args.width, args.width * 3 // 4),
        args.frames,
        args.severity,
        args.seed,
        args.scene,
        workers=args.workers,
    )
    seconds = time.perf_counter() - started
    save_frame_set(frame_set, args.output)
    print(
        f"{len(frame_set.frames)} frames and {len(frame_set.true_frames)} true views of "
        f"{args.width} pixels in {seconds:.1f} s, in {args.output}"
    )


if __name__ == "__main__":
    main()
