"""Which terms of the loss help?

One weight of the default fit is changed at a time: structure (1 - SSIM), inverse depth, the
regularisers of opacity and scale, and the robust weights of frames and pixels. The frames are those
of ray-cast scenes, corrupted at severity 1 (`prior=synthetic`).
"""

from ablation import RAY_CAST, main

BASE = [
    "prior=synthetic",
    "depth=known",
    "pose=matching",
    "planner.num_frames=6",
    "fit.steps=400",
    "fit.batch_size=2",
]
SETTINGS = {
    "default": BASE,
    "no SSIM": [*BASE, "fit.loss.ssim=0"],
    "SSIM 0.8": [*BASE, "fit.loss.ssim=0.8"],
    "no depth": [*BASE, "fit.loss.depth=0"],
    "depth 1": [*BASE, "fit.loss.depth=1"],
    "no regularisers": [*BASE, "fit.loss.opacity=0", "fit.loss.scale=0"],
    "no robust frame weights": [*BASE, "fit.robust.frames=0"],
    "robust pixel weights": [*BASE, "fit.robust.pixels=2.5"],
}
NOT_MEASURED = """
The generator is `synthetic`, not a video generator, whose errors differ. With one:
`python experiments/losses.py prior=svd depth=depth_anything trainer=gpu renderer=gsplat`. On
photographs, one setting at a time: `lift eval dataset=folder dataset.path=FOLDER prior=svd
fit.loss.ssim=0`.
"""

if __name__ == "__main__":
    main(__file__, SETTINGS, {"ray-cast": RAY_CAST}, NOT_MEASURED)
