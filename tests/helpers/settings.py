"""Settings of small runs."""

TINY = (
    "preprocess.size=96",
    "planner.levels=1",
    "planner.num_frames=3",
    "fit.steps=30",
    "fit.checkpoint_every=10",
    "fit.initial_gaussians=1500",
    "fit.test_every=4",
    "export.video_frames=6",
)
