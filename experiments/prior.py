"""What does the generator decide?

On photographs: `warp`, which moves the picture by its depth and fills what it uncovers, with each
of its ways to fill. On ray-cast scenes: it beside `synthetic`, which knows the scene and spoils it:
severity 0 is a perfect generator, 1 one as wrong as video diffusion is taken to be.
"""

from ablation import RAY_CAST, REAL, main

SETTINGS_OF = {
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
    "ray-cast": [*RAY_CAST, "planner.frames=6", "fit.steps=400", "fit.batch_size=2"],
}
REMAINS = """
Generators with weights of their own, each by one command on a GPU: `python experiments/prior.py
--only "warp, network" prior=svd trainer=gpu renderer=gsplat` (or motionctrl, viewcrafter, vace,
sana_wm, cosmos, easyanimate, ltx, diffusers; `lift show prior NAME` says what each needs), or
frames made elsewhere: `prior=frames prior.path=FOLDER`.
"""

if __name__ == "__main__":
    main(__file__, SETTINGS_OF, DATA, REMAINS)
