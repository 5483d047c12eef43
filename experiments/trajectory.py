"""Is a tree of short motions better than one large motion in each direction?

Both have 96 frames and end at the same angle. The tree has two levels of half the angle (4 + 12
clips of 6 frames), the large motion has one level (4 clips of 24 frames). They end at 8, 12 and 16
degrees, and are seen from 4, 8, 12 and 16 degrees. The generator is `synthetic` at severity 1.
"""

from ablation import RAY_CAST, main

BASE = ["prior=synthetic", "depth=known", "pose=matching", "fit.steps=400", "fit.batch_size=2"]
SETTINGS = {
    f"{name}, {angle} degrees": [*BASE, *planner_settings, f"planner.angle={angle / levels:g}"]
    for angle in (8, 12, 16)
    for name, levels, planner_settings in (
        ("tree", 2, ["planner.num_frames=6"]),
        ("one motion", 1, ["planner.levels=1", "planner.num_frames=24"]),
    )
}
DATA = {"ray-cast": [*RAY_CAST, "dataset.angles=[4,8,12,16]", "protocol.bins=[0.1,0.175,0.245]"]}
NOT_MEASURED = """
The corruptions of `synthetic` depend only on the distance from the input. The reason for the tree
is that the errors of video generators grow with the length of a single motion. This is measured
with a video generator: `python experiments/trajectory.py prior=motionctrl planner.num_frames=15
trainer=gpu renderer=gsplat` (or svd, viewcrafter, vace, sana_wm). The length of their clips is
fixed. So one large motion then has a quarter of the tree's frames.
"""

if __name__ == "__main__":
    main(
        __file__,
        SETTINGS,
        DATA,
        NOT_MEASURED,
        baselines={
            name: name.replace("one motion", "tree") for name in SETTINGS if name.startswith("one")
        },
    )
