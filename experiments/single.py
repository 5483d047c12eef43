"""How right is a scene from a single photograph, and what do depth and filling decide?

Photographs, each scene lifted from the one nearest to the middle: the defaults of `lift run` beside
what was the default before the package had networks of its own.
"""

from ablation import REAL, main

SETTINGS = {
    "lite, network": [],
    "lite, patches": ["prior.fill=patches"],
    "ramp, patches": ["depth=ramp", "prior.fill=patches"],
}
REMAINS = """
Depth Anything V2 (`depth=depth_anything`), whose weights are not part of the package:
`python experiments/single.py --only "lite, network" depth=depth_anything`. LLFF, DL3DV, Tanks and
Temples and RealEstate10K as a whole: `lift eval dataset=llff dataset.path=FOLDER`, and so on.
"""

if __name__ == "__main__":
    main(__file__, SETTINGS, {"photographs": REAL}, REMAINS)
