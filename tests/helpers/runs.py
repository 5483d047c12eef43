"""What a run leaves in its folder."""

RUN_FILES = {
    "gaussians.ply",
    "transforms.json",
    "colmap",
    "video.mp4",
    "report.html",
    "metrics.json",
    "config.yaml",
    "provenance.json",
    "checkpoint.ckpt",
    "tensorboard",
    "frames",
    "views",
    "distortion.safetensors",
    "fly_through.json",
    "fly_through.jpg",
    "view_region.json",
}
