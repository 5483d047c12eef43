"""How much does the generator matter?

On photographs, `warp` is compared with each of its fillings. It warps the picture by its depth and
fills what it uncovers. On ray-cast scenes, `warp` is compared with `synthetic`, which renders the
scene and corrupts it. Severity 0 is a perfect generator, severity 1 the median generator.
"""

from ablation import RAY_CAST, REAL, main

SETTINGS = {
    "photographs": {
        "warp, network": [],
        "warp, patches": ["prior.fill=patches"],
        "warp, smooth": ["prior.fill=smooth"],
    },
    "ray-cast": {
        "warp, network": [],
        "synthetic, 0": ["prior=synthetic", "prior.severity=0"],
        "synthetic, 0.5": ["prior=synthetic", "prior.severity=0.5"],
        "synthetic, 1": ["prior=synthetic"],
    },
}
DATA = {
    "photographs": REAL,
    "ray-cast": [*RAY_CAST, "planner.num_frames=6", "fit.steps=400", "fit.batch_size=2"],
}
NOT_MEASURED = """
Generators that need weights. Each takes one command on a GPU: `python experiments/prior.py
--only "warp, network" prior=svd trainer=gpu renderer=gsplat` (or motionctrl, viewcrafter, vace,
sana_wm, wan_fun_camera, stable_virtual_camera, cosmos, easyanimate, ltx, diffusers).
`lift show prior NAME` says what each needs. Frames of other sources are used by
`prior=frames prior.path=FOLDER`.
"""

if __name__ == "__main__":
    main(__file__, SETTINGS, DATA, NOT_MEASURED)
