"""Does the pose stage find cameras that the released paths of LiftImage3D lead to?

    python experiments/released_paths.py [--fractions F ...] [--output FOLDER] [--results FOLDER]

The released code asks MotionCtrl for turns of 84.4 degrees, and MotionCtrl turns much less. By how
much is measured first, on the clips of MotionCtrl in `$LIFT_SHARED/data/generated_clips`: bundle
adjustment finds the cameras that they show. What these clips were asked for is not published, so
the fraction of the request is that of the released request.

Then `prior=synthetic` renders the whole tree of `planner=liftimage3d` at severity 1, with these
fractions of the requested motion (`prior.motion_scale`). The pose stage gets frames and the tree of
clips, but no cameras. The errors are those of the cameras that the frames really show.

--results gets released-paths-cpu.json and .md (default: benchmarks/results).
"""

import argparse
import json
from pathlib import Path
from statistics import median
from typing import Any

import clips as data
import torch
from generator_errors import WIDTH, Case, estimate_case_poses
from measuring import RESULTS, SHARED, load_or_compute, markdown, write_results

from lift.config import compose_run
from lift.geometry import rotation_angle
from lift.pipeline import run
from lift.planners.liftimage3d import LiftImage3D

GENERATOR = "MotionCtrl"
"""Start of the generator's name in the index of clips."""
SETTINGS = [
    "image=room",
    "planner=liftimage3d",
    "prior=synthetic",
    "depth=known",
    "pose=matching",
    "pose.features=sift",
    "preprocess.size=128",
    "fit.steps=500",
]
"""Settings of all runs: 241 frames of 128 x 128 pixels."""


def requested_turn() -> float:
    """Return the degrees that the released code asks for in one clip."""
    pose = LiftImage3D().requested_motion("right", 15)[-1, :3, :3]
    return float(rotation_angle(torch.eye(3, dtype=pose.dtype)[None], pose[None]))


def measure_motion(clip: data.GeneratedClip) -> dict[str, Any]:
    """Measure how far a clip's camera turns and moves from frame 0.

    Args:
        clip: The clip.

    Returns:
        The largest turn in degrees, and the largest distance in units of the median depth of the
        points that frame 0 shows. None if too little moves.
    """
    images = data.resize_to_width(data.generated_frames(clip), WIDTH)
    posed = estimate_case_poses(Case(clip.name, "generated", clip.generator, images))
    row: dict[str, Any] = {"name": clip.name, "frames": len(images), "turn": None, "distance": None}
    if posed is None:
        return row
    scene = posed.scene
    rotation = scene.rotation[scene.registered]
    first = posed.observations.frame == 0
    depth = float(posed.depth[first].median())
    centers = scene.centers[scene.registered]
    row["turn"] = float(rotation_angle(rotation[:1].expand_as(rotation), rotation).max())
    row["distance"] = float((centers - centers[0]).norm(dim=-1).max()) / depth
    return row


def measure_chain(fraction: float, output: Path) -> dict[str, Any]:
    """Run the whole chain on the released paths, with a fraction of the requested motion.

    Args:
        fraction: Fraction of the request.
        output: Folder of the runs.

    Returns:
        The row of the table.
    """
    settings = [f"prior.motion_scale={fraction}", f"output={output}", f"name=fraction-{fraction:g}"]
    folder = run(compose_run([*SETTINGS, *settings]))
    assert folder is not None, "one process"
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    stages = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))["stages"]
    return {
        "fraction": fraction,
        "registered": metrics["registered_frames"],
        "frames": metrics["frames"],
        "seconds": sum(stage["seconds"] for stage in stages),
        **{key: metrics["cameras"][key] for key in ("rotation", "rotation_worst", "position")},
        **{key: metrics["truth"][key] for key in ("psnr", "ssim")},
        "psnr_input": metrics["input_psnr"],
        "psnr_held_out": metrics["held_out_psnr"],
    }


def report(motions: list[dict[str, Any]], chains: list[dict[str, Any]], request: float) -> str:
    """Format both tables as a page."""
    moved = [
        (row["name"], row["frames"], row["turn"], row["distance"], row["fraction"])
        for row in motions
    ]
    lifted = [
        (
            row["fraction"],
            f"{row['registered']} of {row['frames']}",
            row["rotation"],
            row["rotation_worst"],
            100 * row["position"],
            row["psnr"],
            row["ssim"],
            row["psnr_held_out"],
            row["psnr_input"],
        )
        for row in chains
    ]
    return "\n\n".join(
        [
            "# The released paths",
            "Made by `python experiments/released_paths.py`.",
            "## Motion of MotionCtrl's clips",
            f"Largest turn from frame 0, largest distance in units of frame 0's median depth, and "
            f"the turn as a fraction of the released request of {request:.1f} degrees. What these "
            "clips were asked for is not published.",
            markdown(("clip", "frames", "turn, degrees", "distance", "fraction"), moved),
            "## The whole chain",
            "`prior=synthetic` at severity 1 shows a fraction of the requested motion. Errors of "
            "cameras are medians over frames, and the worst one. Positions are in percent of the "
            "typical depth. PSNR and SSIM are of ray-cast views that were not generated.",
            markdown(
                (
                    "fraction",
                    "registered",
                    "rotation, degrees",
                    "worst",
                    "position, %",
                    "PSNR",
                    "SSIM",
                    "PSNR, held-out frames",
                    "PSNR, input",
                ),
                lifted,
            ),
        ]
    )


def main() -> None:
    """Measure the motions and the chain, and write the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--fractions", nargs="*", type=float, help="default: as measured")
    parser.add_argument("--output", type=Path, default=Path("outputs/released_paths"))
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    request = requested_turn()
    clips = data.read_index(SHARED / "data" / "generated_clips")
    motions = []
    for clip in (clip for clip in clips if clip.generator.startswith(GENERATOR)):
        file = options.output / f"motion-{clip.name}.json"
        row = load_or_compute(file, lambda clip=clip: measure_motion(clip))
        motions.append(row | {"fraction": row["turn"] and row["turn"] / request})
    measured = [row["fraction"] for row in motions if row["fraction"]]
    chosen = options.fractions or [round(max(measured), 2), round(median(measured), 2)]
    chains = []
    for fraction in chosen:
        file = options.output / f"chain-{fraction:g}.json"
        chains.append(load_or_compute(file, lambda f=fraction: measure_chain(f, options.output)))
    write_results(
        "released-paths",
        "cpu",
        report(motions, chains, request),
        [*motions, *chains],
        options.results,
        settings=SETTINGS,
        requested_turn=request,
    )


if __name__ == "__main__":
    main()
