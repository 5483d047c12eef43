"""Settings of small runs."""

TINY = (
    "preprocess.size=96",
    "planner.levels=1",
    "planner.num_frames=3",
    "fit.steps=30",
    "fit.checkpoint_every=10",
    "fit.initial_gaussians=1500",
    "fit.test_every=4",
    "export.film.seconds=0.25",
)

MINIMAL = (
    "preprocess.size=64",
    "planner=single",
    "planner.num_frames=2",
    "fit.steps=4",
    "fit.initial_gaussians=300",
    "export.film.seconds=0.05",
)
"""Settings of the shortest whole run: about 8 s, most of which are imports."""
