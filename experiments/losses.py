"""Which terms of the loss earn their place?

The default fit with one weight changed at a time, on ray-cast scenes whose frames are spoiled at
full strength (`prior=synthetic`): structure (1 - SSIM), inverse depth, the regularisers of opacity
and size, and the trust in frames and pixels.
"""

from ablation import RAY_CAST, main

BASE = [
    "prior=synthetic",
    "depth=known",
    "pose=matching",
    "planner.frames=6",
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
    "frames trusted alike": [*BASE, "fit.robust.frames=0"],
    "pixels weighed, too": [*BASE, "fit.robust.pixels=2.5"],
}
REMAINS = """
Measured with `synthetic`; no video generator's weights were at hand. Frames of one are wrong in
ways of their own: `python experiments/losses.py prior=svd depth=depth_anything trainer=gpu
renderer=gsplat`; on photographs, one by one: `lift eval dataset=folder dataset.path=FOLDER
prior=svd fit.loss.ssim=0`.
"""

if __name__ == "__main__":
    main(__file__, SETTINGS, {"ray-cast": RAY_CAST}, REMAINS)
