"""Compare priors on a scene whose every view is known, and print a table.

python examples/loop_over_priors.py
"""

import lift

# Frames of `warp` are made from the depth of the input. Frames of `synthetic` are ray-cast, and
# corrupted as those of a video generator are. A severity of 1 is that of the median generator.
priors = {
    "warp": "warp",
    "synthetic, correct": {"name": "synthetic", "severity": 0.0},
    "synthetic, corrupted": {"name": "synthetic", "severity": 1.0},
}

print("| prior | PSNR of held-out frames | PSNR of true views | verdict |")
print("|---|---|---|---|")
for name, prior in priors.items():
    # Stages that the runs have in common are computed once.
    scene = lift.run(
        "room",
        prior=prior,
        depth="known",
        preprocess={"size": 128},
        planner={"levels": 1, "num_frames": 4},
        fit={"steps": 100, "initial_gaussians": 4000, "max_gaussians": 6000},
        export={"film": {"seconds": 0.25}},
    )
    held_out = scene.metrics["held_out_psnr"]
    true_views = scene.metrics["truth"]["psnr"]
    print(f"| {name} | {held_out:.1f} dB | {true_views:.1f} dB | {scene.metrics['verdict']} |")
