"""Time matching and multi-view depth of many frames.

    python benchmarks/multiview.py --frames FOLDER [--device cuda] [--features sift]
        [--size 512] [--rounds 3] [--name NAME] [--results FOLDER]

`benchmarks/frames.py --severity 0` makes the frames, whose cameras and depth are the true ones. The
pose estimator gets the tree of clips without its cameras. Depth of single pictures is the true one
times an unknown scale for each frame, so no network counts. `matching` is `pose=matching` from
pictures in memory to cameras and aligned depth: keypoints, matches, their verification, mapping.
`stereo` is the refinement of depth that follows it (`stereo.size`). The first round warms up; the
others count.

Errors: medians of degrees and of parts of the typical depth between estimated and true cameras, and
of the relative error of depth before and after `stereo`.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from frames import load_frame_set
from measure import add_results_option, quartiles, synchronize, write_results

from lift.depths import DepthEstimator
from lift.geometry import rotation_angle
from lift.multiview import stereo
from lift.poses.matching import Matching
from lift.types import Cameras, Depth, Frames, Reconstruction

SCALE_SPREAD = 0.2
"""Standard deviation of the logarithm of a frame's unknown scale."""


class UnscaledDepth(DepthEstimator):
    """True depth with an unknown scale for each picture.

    Args:
        frames: The pictures with their depth.
        seed: Seed of the scales.
    """

    licence = "Apache-2.0"

    def __init__(self, frames: Frames, seed: int) -> None:
        assert frames.depth is not None
        generator = torch.Generator().manual_seed(seed)
        scales = (SCALE_SPREAD * torch.randn(len(frames), generator=generator)).exp()
        self.depth = {
            image.data_ptr(): scale * depth
            for image, depth, scale in zip(frames.images, frames.depth, scales, strict=True)
        }

    def __call__(self, image: torch.Tensor) -> Depth:
        """Return the depth of a picture. See `DepthEstimator`."""
        depth = self.depth[image.data_ptr()]
        return Depth(depth, depth > 0, "scale")


def errors(
    reconstruction: Reconstruction, cameras: Cameras, depth: torch.Tensor
) -> dict[str, float]:
    """Compare a reconstruction with the truth.

    Args:
        reconstruction: The estimate. The first camera is the true one.
        cameras: The true cameras.
        depth: The true depth, [frame, height, width].
    """
    estimated = reconstruction.cameras
    angle = rotation_angle(estimated.camera_to_world[:, :3, :3], cameras.camera_to_world[:, :3, :3])
    typical = float(depth[0][depth[0] > 0].median())
    shift = (estimated.centers - cameras.centers).norm(dim=-1) / typical
    seen = (depth > 0) & (reconstruction.depth > 0)
    relative = (reconstruction.depth[seen] / depth[seen] - 1).abs()
    return {
        "registered": int(reconstruction.registered.sum()),
        "rotation_degrees": round(float(angle.median()), 4),
        "shift": round(float(shift.median()), 5),
        "depth_error": round(float(relative[:: max(1, len(relative) // 10**6)].median()), 5),
    }


def main() -> None:
    """Time both and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=Path, required=True, help="a folder made by frames.py")
    parser.add_argument("--device", default="cuda", help="cuda or cpu")
    parser.add_argument("--features", nargs="*", default=["xfeat", "sift"])
    parser.add_argument("--size", type=int, default=512, help="of the pictures in `stereo`")
    parser.add_argument("--rounds", type=int, default=3, help="that count")
    parser.add_argument("--name", help="name of the result; without it nothing is written")
    add_results_option(parser)
    args = parser.parse_args()
    frame_set = load_frame_set(args.frames)
    truth = frame_set.frames
    assert truth.depth is not None
    device = torch.device(args.device)
    estimator = UnscaledDepth(truth, seed=0)
    frames = Frames(truth.images)
    cameras = frame_set.trajectory.cameras
    tree = replace(frame_set.trajectory, hint="requested").without_cameras()
    rows: list[dict[str, Any]] = []
    for features in args.features:
        pose = Matching(
            features,
            depth=Depth(truth.depth[0], truth.depth[0] > 0, "metric"),
            estimator=estimator,
            device=device,
        )
        times: dict[str, list[float]] = {"matching": [], "stereo": []}
        for _ in range(args.rounds + 1):
            synchronize(device.type)
            start = time.perf_counter()
            matched = pose(frames, tree)
            synchronize(device.type)
            middle = time.perf_counter()
            refined = stereo.refine_depth(frames, matched, args.size, device=device)
            synchronize(device.type)
            times["matching"].append(middle - start)
            times["stereo"].append(time.perf_counter() - middle)
            print({key: round(value[-1], 2) for key, value in times.items()}, flush=True)
        row = {
            "features": features,
            "frames": len(frames),
            "width": cameras.width,
            "height": cameras.height,
            "stereo_size": args.size,
            "first": {key: round(value[0], 2) for key, value in times.items()},
            "seconds": {key: quartiles(value[1:]) for key, value in times.items()},
            "matching": errors(matched, cameras, truth.depth),
            "stereo": errors(refined, cameras, truth.depth),
        }
        print(row, flush=True)
        rows.append(row)
    if args.name:
        write_results(
            f"multiview-{args.name}", 0, device.type, rows, "seconds, degrees", args.results
        )


if __name__ == "__main__":
    main()
