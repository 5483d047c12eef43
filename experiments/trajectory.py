"""Is a tree of short motions better than one large motion a direction, and how far does either
reach?

With as many frames (96) and as far at the ends: two levels of half the angle each (4 + 12 clips of
6 frames) or one level (4 clips of 24), for ends 8, 12 and 16 degrees away, seen from 4, 8, 12 and
16 degrees. The generator is `synthetic` at full strength.
"""

from ablation import RAY_CAST, main

BASE = ["prior=synthetic", "depth=known", "pose=matching", "fit.steps=400", "fit.batch_size=2"]
SETTINGS = {
    f"{name}, {angle} degrees": [*BASE, *planner_settings, f"planner.angle={angle / levels:g}"]
    for angle in (8, 12, 16)
    for name, levels, planner_settings in (
        ("tree", 2, ["planner.frames=6"]),
        ("one motion", 1, ["planner.depth=1", "planner.frames=24"]),
    )
}
DATA = {"ray-cast": [*RAY_CAST, "dataset.angles=[4,8,12,16]", "protocol.bins=[0.1,0.175,0.245]"]}
REMAINS = """
`synthetic` makes mistakes by the distance from the input alone. That video generators make more of
them the larger a single motion is, the tree's reason, is measured with one:
`python experiments/trajectory.py prior=motionctrl planner.frames=15 trainer=gpu renderer=gsplat`
(or svd, viewcrafter, vace, sana_wm). These make clips of a length of their own, so that one motion
has then a quarter of a tree's frames.
"""

if __name__ == "__main__":
    main(
        __file__,
        SETTINGS,
        DATA,
        REMAINS,
        to={
            name: name.replace("one motion", "tree") for name in SETTINGS if name.startswith("one")
        },
    )
