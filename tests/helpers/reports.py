"""A small result of a run, and its report as a parsed page."""

from html.parser import HTMLParser
from pathlib import Path

import torch
from torch.utils.tensorboard import SummaryWriter

from lift.distortions.rigid import Rigid
from lift.geometry import look_at, pinhole
from lift.io.image import Picture
from lift.outputs.fly_through import FlyThrough
from lift.outputs.quality import FrameMetrics, RunResult, summarize
from lift.outputs.report import write_report
from lift.outputs.report.media import embed_scene
from lift.renderers.reference import Reference
from lift.types import (
    Cameras,
    Clip,
    Depth,
    Frames,
    Gaussians,
    PointCloud,
    Reconstruction,
    Trajectory,
)

NAME_WITH_MARKUP = "<script>alert('x')</script>&\"photo"
VOID_TAGS = {"meta", "img", "br", "link", "input", "hr"}


SECTIONS = {
    "overview",
    "verdict",
    "next",
    "frames",
    "comparison",
    "distortion",
    "training",
    "cost",
    "licences",
    "provenance",
}


class Page(HTMLParser):
    """Collect the elements that the tests need. An unmatched end tag fails."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == [], f"left open: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID_TAGS:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data):
        self.text += data

    def all(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.seen if name == tag]


def build_result(folder: Path, name: str = NAME_WITH_MARKUP) -> RunResult:
    """Two clips of three frames, the second continues the first. 40 Gaussians, ten steps."""
    torch.manual_seed(0)
    camera = pinhole(32, 24, 30.0)

    def cameras(start: float, end: float) -> Cameras:
        eye = torch.stack(
            [torch.linspace(start, end, 4)[1:], torch.zeros(3), torch.zeros(3)], dim=-1
        )
        target, down = (
            torch.tensor([0.0, 0.0, 4.0]).expand(3, 3),
            torch.tensor([0.0, 1.0, 0.0]).expand(3, 3),
        )
        return Cameras(
            look_at(eye, target, down), camera.intrinsics.expand(3, 3, 3).clone(), 32, 24
        )

    trajectory = Trajectory(
        camera, (Clip("right", 0, cameras(0, 1)), Clip("right/<b>up", 3, cameras(1, 2)))
    )
    frames = Frames(torch.randint(0, 256, (7, 24, 32, 3), dtype=torch.uint8))
    depth = torch.rand(24, 32) + 3
    means = torch.randn(40, 3) * 0.7 + torch.tensor([0.0, 0.0, 4.0])
    quats = torch.tensor([1.0, 0, 0, 0]).expand(40, 4).clone()
    gaussians = Gaussians(
        means, quats, torch.full((40, 3), 0.2), torch.full((40,), 0.7), torch.randn(40, 1, 3)
    )
    distortion = Rigid(
        num_views=7, extent=3.5, trajectory=trajectory, points=PointCloud(means, torch.rand(40, 3))
    )
    reconstruction = Reconstruction(
        trajectory.cameras,
        PointCloud(means, torch.rand(40, 3)),
        depth.expand(7, 24, 32).clone(),
        torch.ones(7, 24, 32),
    )
    with SummaryWriter(str(folder / "tensorboard")) as writer:
        for step in range(1, 11):
            for tag, value in {
                "loss": 1 / step,
                "l1": 0.5 / step,
                "dssim": 0.3 / step,
                "psnr": 10.0 + step,
                "gaussians": 40.0,
            }.items():
                writer.add_scalar(tag, value, step)
        writer.add_scalar("val/input_psnr", 20.0, 10)
        writer.add_scalar("val/held_out_psnr", 18.0, 10)
    picture = Picture(name, Frames(frames.images[:1]), camera, "0" * 64, ("focal length assumed",))
    known = Depth(depth, torch.ones(24, 32, dtype=torch.bool), "affine-invariant")
    return RunResult(
        picture, known, trajectory, frames, reconstruction, gaussians, distortion, folder
    )


PROVENANCE = {
    "lift": "0.1.0",
    "git": None,
    "python": "3.11",
    "platform": "Linux",
    "device": "a CPU",
    "command": ["lift run", "image=" + NAME_WITH_MARKUP],
    "choices": [],
    "environment": {},
    "plugins": {"prior mine": {"module": "mine", "file": "/plugins/mine.py", "sha256": "f00d"}},
    "packages": {"torch": "2.13.0"},
    "components": {"prior": "warp", "distortion": "rigid"},
    "licences": {"lift": "Apache-2.0", "prior warp": "MIT"},
    "notes": ["focal length <i>assumed</i>"],
    "stages": [
        {"stage": name, "key": "0", "seconds": seconds, "peak_bytes": 2**29, "cached": found}
        for name, seconds, found in [
            ("depth", 0.5, True),
            ("clip", 1.0, False),
            ("clip", 2.0, True),
            ("fit", 130.0, False),
        ]
    ],
}


TRUTH = {
    "source": "ray-cast",
    "alignment": "scale",
    "views": 8,
    "psnr": 27.125,
    "ssim": 0.9,
    "depth": {"abs_rel": 0.1, "delta1": 0.9, "rank_correlation": 0.8, "scale": 1.2},
}


SHARES = {"camera": 0.5, "geometry": 0.25, "appearance": 0.125, "unexplained": 0.125}


def frame_metrics(learned: float = 1.0) -> list[FrameMetrics]:
    clips = ["input", *["right"] * 3, *["right/<b>up"] * 3]
    return [
        FrameMetrics(
            v,
            clip,
            20.0 + v,
            20.0 + v + learned,
            v == 5,
            learned * v,
            0.01 * learned * v,
            0.0,
            0.0,
            SHARES,
        )
        for v, clip in enumerate(clips)
    ]


def fly_through(result: RunResult, smallest: float = 0.95) -> FlyThrough:
    return FlyThrough(result.picture.cameras, 1.0, torch.tensor([1.0, smallest]))


SCENE_PAGE = "<!doctype html><title>scene</title><script>window.opened = true;</script>"
"""Stands for the page of the interactive scene."""

FILM = b"a film"
"""Stands for the bytes of video.mp4."""


def write_page(
    folder: Path,
    result: RunResult,
    found: list[FrameMetrics],
    truth: dict | None,
    *,
    film: bytes | None = FILM,
    scene_page: str = SCENE_PAGE,
    **changed,
) -> tuple[str, Page]:
    """Write a report. `changed` are entries of metrics.json."""
    if film is not None:
        (folder / "video.mp4").write_bytes(film)
    stills = [torch.randint(0, 256, (24, 32, 3), dtype=torch.uint8) for _ in range(6)]
    metrics = (
        summarize(result, found, fly_through(result), max_gaussians=60_000, truth_metrics=truth)
        | changed
    )
    write_report(
        folder,
        result,
        Reference(),
        found,
        metrics,
        PROVENANCE,
        stills,
        run_folder=Path("outputs/my run"),
        scene=lambda: embed_scene(scene_page) if scene_page else None,
    )
    text = (folder / "report.html").read_text(encoding="utf-8")
    return text, Page(text)
