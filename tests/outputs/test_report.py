"""The report has every section, embeds its pictures, fetches nothing and escapes names."""

import base64
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from torch.utils.tensorboard import SummaryWriter

from lift.distortions import distortions
from lift.distortions.rigid import Rigid
from lift.geometry import look_at, pinhole
from lift.io.image import Picture
from lift.outputs.charts import Band, Series, downsample, format_number, line_chart, map_view
from lift.outputs.fly_through import FlyThrough
from lift.outputs.quality import FrameMetrics, SceneQuality, summarize
from lift.outputs.report import format_command, stage_costs, training_curves, write_report
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

EVIL = "<script>alert('x')</script>&\"photo"
VOID = {"meta", "img", "br", "link", "input", "hr"}
SECTIONS = {
    "overview",
    "frames",
    "comparison",
    "distortion",
    "training",
    "cost",
    "licences",
    "notes",
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
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data):
        self.text += data

    def all(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.seen if name == tag]


def make_scene(folder: Path, name: str = EVIL) -> SceneQuality:
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
    return SceneQuality(
        picture, known, trajectory, frames, reconstruction, gaussians, distortion, folder
    )


PROVENANCE = {
    "lift": "0.1.0",
    "git": None,
    "python": "3.11",
    "platform": "Linux",
    "device": "a CPU",
    "command": ["lift run", "image=" + EVIL],
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


def findings(learned: float = 1.0) -> list[FrameMetrics]:
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


def flight(scene: SceneQuality, smallest: float = 0.95) -> FlyThrough:
    return FlyThrough(scene.picture.cameras, 1.0, torch.tensor([1.0, smallest]))


def write(
    folder: Path, scene: SceneQuality, found: list[FrameMetrics], truth: dict | None, **changed
) -> tuple[str, Page]:
    (folder / "video.mp4").write_bytes(b"")
    video = [torch.randint(0, 256, (24, 32, 3), dtype=torch.uint8) for _ in range(6)]
    metrics = (
        summarize(scene, found, flight(scene), max_gaussians=60_000, truth_metrics=truth) | changed
    )
    write_report(folder, scene, Reference(), found, metrics, PROVENANCE, video)
    text = (folder / "report.html").read_text(encoding="utf-8")
    return text, Page(text)


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> tuple[str, Page]:
    folder = tmp_path_factory.mktemp("run")
    return write(folder, make_scene(folder), findings(), TRUTH)


def test_every_section_is_there_and_every_anchor_leads_somewhere(written):
    _, page = written
    ids = {attributes["id"] for _, attributes in page.seen if "id" in attributes}
    assert ids == SECTIONS | {"truth"}
    assert {a["href"][1:] for a in page.all("a") if a["href"].startswith("#")} <= ids


def test_it_fetches_nothing_and_runs_nothing(written):
    text, page = written
    assert (
        not page.all("script")
        and not page.all("link")
        and not re.search(r"url\(|@import|https?:", text)
    )
    sources = [
        attributes[key]
        for _, attributes in page.seen
        for key in ("src", "href", "poster")
        if key in attributes
    ]
    assert all(
        source.startswith(("data:image/jpeg;base64,", "#")) or re.fullmatch(r"[\w./]+", source)
        for source in sources
    )
    assert [video["src"] for video in page.all("video")] == ["video.mp4"]
    for image in page.all("img"):
        assert image["alt"] and base64.b64decode(image["src"].split(",")[1]).startswith(b"\xff\xd8")
    assert len(text) < 400_000


def test_the_verdict_and_its_numbers_come_first(written):
    text, page = written
    flat = " ".join(page.text.split())
    names = [
        "POOR SCENE",
        "PSNR of the input view",
        "PSNR of held-out frames",
        "coverage of the fly-through",
        "Number of coloured",
        "One picture",
        "fly-through of",
    ]
    places = [flat.index(name) for name in names]
    assert places == sorted(places) and 'class="verdict poor"' in text
    assert "The canonical scene does not explain the input view (20.0 dB; 28 dB is good)." in flat
    assert "In the worst view it is 95 %" in flat


def test_a_good_scene_is_called_good(tmp_path):
    changed = {"verdict": "good", "reasons": [], "held_out_psnr": None}
    text, page = write(tmp_path, make_scene(tmp_path), findings(), None, **changed)
    assert (
        'class="verdict good"' in text and "POOR" not in page.text and "not measured" in page.text
    )


def test_metrics_begin_with_the_verdict(tmp_path):
    scene = make_scene(tmp_path)
    lost = [*findings()[:-1], replace(findings()[-1], registered=False, psnr=3.0)]
    metrics = summarize(scene, lost, flight(scene), max_gaussians=60_000)
    first = [
        "verdict",
        "reasons",
        "input_psnr",
        "held_out_psnr",
        "held_out_psnr_distorted",
        "coverage",
    ]
    assert list(metrics)[:6] == first and metrics["verdict"] == "poor"
    assert (
        metrics["registered_frames"] == 6
        and metrics["frames"] == 7
        and metrics["held_out_psnr"] == 25.0
    )
    assert metrics["frames_psnr"] == pytest.approx((21 + 22 + 23 + 24) / 4), (
        "frames without a camera tell nothing"
    )
    assert metrics["coverage"] == {"mean": pytest.approx(0.975), "min": pytest.approx(0.95)}


def test_nan_is_poor_and_valid_json(tmp_path):
    scene = make_scene(tmp_path)
    failed = [replace(findings()[0], psnr=float("nan")), *findings()[1:]]
    metrics = summarize(scene, failed, flight(scene), max_gaussians=60_000)
    assert metrics["input_psnr"] is None and metrics["reasons"][0].startswith(
        "The canonical scene does not explain the input view (NaN"
    )
    json.dumps(metrics, allow_nan=False)


def test_nothing_planned_is_shown_of_given_frames(tmp_path):
    scene = make_scene(tmp_path)
    still = scene.trajectory.start
    placeholders = tuple(replace(clip, cameras=still[[0, 0, 0]]) for clip in scene.trajectory.clips)
    confidence = torch.ones(7, 24, 32)
    confidence[6] = 0
    given = replace(
        scene,
        trajectory=Trajectory(still, placeholders, "sequence"),
        reconstruction=replace(scene.reconstruction, confidence=confidence),
    )
    found = [replace(finding, registered=finding.view != 6) for finding in findings()]
    text, page = write(tmp_path, given, found, None)
    assert "No camera path was planned" in " ".join(page.text.split())
    assert "Dotted: as planned" not in page.text and 'class="faint"' not in text
    assert "6 · not registered" in page.text and "continued along" not in page.text


def test_names_are_text(written):
    text, page = written
    assert "<script" not in text and "<b>up" not in text and "<i>assumed" not in text
    assert (
        EVIL in page.text
        and "right/<b>up" in page.text
        and "focal length <i>assumed</i>" in page.text
    )


def test_clips_stand_below_what_they_continue(written):
    text, page = written
    levels = re.findall(r"--level: (\d)", text)
    assert levels == ["0", "1"]
    assert (
        "continues the input; frames 1–3" in page.text
        and "continues frame 3 of right; frames 4–6" in page.text
    )
    assert len([i for i in page.all("img") if re.fullmatch(r"frame \d", i["alt"])]) == 6


def test_input_best_median_and_worst_frame_are_compared(written):
    _, page = written
    alts = [image["alt"] for image in page.all("img")]
    for name in ("input", "best", "median", "worst"):
        assert {
            f"{name} {what}"
            for what in ("frame", "render", "difference", "depth", "depth of the scene")
        } <= set(alts)
    assert (
        "Best · frame 6 of right/<b>up · 26.0 dB · 27.0 dB with its distortion applied"
        in " ".join(page.text.split())
    )


def test_numbers_of_the_run_appear(written):
    flat = " ".join(written[1].text.split())
    assert (
        "by 1.00 dB on average" in flat
        and "camera turned by" in flat
        and "Nothing was learned as Gaussian motion or image change. "
        "Nothing was learned from held-out"
        in flat
    )
    assert (
        "27.12 dB" in flat
        and "Seconds and memory" in flat
        and "2 min 10 s" in flat
        and "512 MiB" in flat
    )
    assert "loss and its parts" in flat and "held out" in flat
    assert "lift run 'image=<script>" in flat and "Apache-2.0" in flat and "MIT" in flat


def test_report_states_missing_truth_log_and_learning(tmp_path):
    scene = replace(make_scene(tmp_path, "plain"), fit_folder=tmp_path / "nowhere")
    text, page = write(tmp_path, scene, findings(0.0), None)
    assert (
        "No distortion was learned for any frame" in " ".join(page.text.split())
        and "camera turned by" not in text
    )
    assert 'id="truth"' not in text and "no training logs" in text


def test_report_lists_distortion_parts_and_verdicts(tmp_path):
    scene = make_scene(tmp_path)
    supplied = {
        "num_views": 7,
        "extent": 3.5,
        "size": (32, 24),
        "trajectory": scene.trajectory,
        "points": scene.reconstruction.points,
    }
    composed = distortions.build({"name": "composed", "parts": ["rigid", "blur"]}, **supplied)
    composed.progress = 0.5
    composed.prune(
        lambda: torch.tensor(
            [1 - 0.41 * any(isinstance(part, Rigid) for part in composed.active_parts())]
        )
    )
    text = " ".join(
        write(tmp_path, replace(scene, distortion=composed), findings(), TRUTH)[1].text.split()
    )
    assert "rigid kept (41 %), blur dropped (0 %)." in text
    needless = distortions.build(
        {"name": "composed", "parts": ["rigid", "blur"]}, **supplied, multiview_consistent=True
    )
    text = " ".join(
        write(tmp_path, replace(scene, distortion=needless), findings(), TRUTH)[1].text.split()
    )
    assert "guarantees that its frames show one scene, so rigid, blur were not needed." in text


def test_a_run_without_clips_is_a_page_too(tmp_path):
    scene = make_scene(tmp_path)
    alone = replace(
        scene, trajectory=Trajectory(scene.trajectory.start, ()), frames=scene.frames[0]
    )
    _, page = write(tmp_path, alone, findings()[:1], None)
    assert {a.get("id") for a in page.all("section")} == SECTIONS


def test_stages_of_one_name_are_summed():
    depth, clips, fit = stage_costs(PROVENANCE["stages"])
    assert (clips["seconds"], clips["count"], clips["cached"]) == (3.0, 2, 1)
    assert fit["fraction"] == 1.0 and depth["fraction"] == pytest.approx(0.5 / 130)


def test_the_command_can_be_typed():
    assert format_command(["lift run", "image=a b.jpg"]) == "lift run 'image=a b.jpg'"
    assert format_command(["/somewhere/bin/lift", "-m"]) == "lift -m"


def test_a_step_logged_twice_is_drawn_once(tmp_path):
    for value in (1.0, 2.0):
        with SummaryWriter(str(tmp_path), filename_suffix=str(value)) as writer:
            writer.add_scalar("psnr", value, 1)
    (chart,) = training_curves(tmp_path)
    assert (
        len(re.findall(r"L", re.search(r'class="line s0" d="([^"]*)"', chart)[1])) == 1
    )  # a lone point: a line to itself


def test_charts_place_values_where_the_axes_say():
    chart = line_chart(
        "t", [Series("a", [0, 10], [0.0, 100.0])], width=520, height=190, from_zero=True
    )
    ticks = {
        label: float(y) - 3.5
        for y, label in re.findall(r'y="([\d.]+)" text-anchor="end">([^<]+)<', chart)
    }
    (x0, y0), (x1, y1) = [
        tuple(map(float, p.split(","))) for p in re.search(r'd="M([^"]*)"', chart)[1].split("L")
    ]
    assert (y0, y1) == (pytest.approx(ticks["0"]), pytest.approx(ticks["100"])) and (x0, x1) == (
        46,
        508,
    )
    assert y0 > y1, "up is more"
    gaps = line_chart(
        "t", [Series("a", [0, 1, 2, 3], [1.0, 2.0, float("nan"), 3.0])], bands=[Band(0, 3, "<b>")]
    )
    assert re.search(r'd="([^"]*)"', gaps)[1].count("M") == 2 and "<b>" not in gaps
    assert line_chart("t", [Series("a", [0], [0.0])], log=True) == "", (
        "nothing positive, nothing to draw"
    )
    log = line_chart("t", [Series("a", [0, 1, 2], [1.0, 10.0, 100.0])], log=True)
    ys = [float(p.split(",")[1]) for p in re.search(r'd="M([^"]*)"', log)[1].split("L")]
    assert ys[0] - ys[1] == pytest.approx(ys[1] - ys[2], abs=0.2)


def test_maps_keep_both_axes_to_one_scale():
    square = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]])
    view = map_view("t", [square], ["<i>"], square[0], 1.0, "units")
    a, b, c = [
        tuple(map(float, p.split(","))) for p in re.search(r'd="M([^"]*)"', view)[1].split("L")
    ]
    assert b[0] - a[0] == pytest.approx(c[1] - b[1], abs=0.15) and "<i>" not in view
    still = map_view("t", [], [], torch.zeros(2), 1.0, "units")
    assert "nan" not in still and "inf" not in still


def test_numbers_are_short_and_long_curves_thin():
    assert [format_number(v) for v in (0, 0.12345, 999, 1234, 40_000, 1_500_000)] == [
        "0",
        "0.123",
        "999",
        "1234",
        "40k",
        "1.5M",
    ]
    x, y = downsample(range(1000), [1.0] * 1000)
    assert len(x) <= 240 and set(y) == {1.0}
