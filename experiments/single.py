"""How good is a scene from a single photograph, and how much do depth and filling matter?

Each scene is lifted from its central photograph. The defaults of `lift run` are compared with
`depth=ramp` and filling by patches, which need no networks.
"""

from ablation import REAL, main

SETTINGS = {
    "lite, network": [],
    "lite, patches": ["prior.fill=patches"],
    "ramp, patches": ["depth=ramp", "prior.fill=patches"],
}
NOT_MEASURED = """
Depth Anything V2 (`depth=depth_anything`), whose weights are not part of the package:
`python experiments/single.py --only "lite, network" depth=depth_anything`. All scenes of LLFF,
DL3DV, Tanks and Temples or RealEstate10K: `lift eval dataset=llff dataset.path=FOLDER`, and so on.
"""

if __name__ == "__main__":
    main(__file__, SETTINGS, {"photographs": REAL}, NOT_MEASURED)
