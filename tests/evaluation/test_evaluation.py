"""Evaluation of scenes that are lifted from one view and compared with the others.

The tests cover the choice of views, alignment, visible regions and tables.
"""

import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from lift import cli
from lift.camera_paths import orbit_cameras
from lift.config import Protocol
from lift.evaluation import evaluate as evaluation
from lift.evaluation import metrics
from lift.evaluation.alignment import (
    SCALE_FACTORS,
    align_to_input,
    align_views,
    check_alignment,
    median_scale,
    sweep_scale,
)
from lift.evaluation.case import crop_to_multiple
from lift.evaluation.datasets import CalibratedCapture, ray_cast
from lift.evaluation.measures import Measures
from lift.evaluation.protocol import (
    rescale_depth,
    select_views,
    sparse_depth,
    triangulate_depth,
    visible_pixels,
)
from lift.evaluation.tables import contact_rows, format_table, mean_of, stage_costs
from lift.geometry import pinhole, project, rotation_from_vector, transform_cameras, unproject
from lift.runtime import session
from lift.synthetic.scenes import render
from lift.types import Cameras, Depth, Frames, PointCloud

SIZE = 192


def room(
    similarity: tuple[float, torch.Tensor, torch.Tensor] | None = None, measured: bool = True
) -> CalibratedCapture:
    """Nine views of the built-in room in a transformed world, with exact depth or points."""
    camera = pinhole(SIZE, SIZE * 3 // 4, 0.9 * SIZE)
    start = render("room", camera)
    typical = float(start.depth.median())
    angles = torch.linspace(-12, 12, 8)
    own = Cameras.cat(
        [
            camera,
            orbit_cameras(
                camera, torch.stack([angles, 0.4 * angles.flip(0), torch.zeros(8)], -1), typical
            ),
        ]
    )
    scale, rotation, shift = similarity or (1.0, torch.eye(3), torch.zeros(3))
    cameras = transform_cameras(own, scale, rotation, shift)

    def look(view: int, target: Cameras) -> Frames:
        made = render(
            "room",
            replace(
                own[view], intrinsics=target.intrinsics, width=target.width, height=target.height
            ),
        )
        return Frames(made.images, scale * made.depth if measured else None)

    points = None
    if not measured:
        at = unproject(start.depth, camera)[0].reshape(-1, 3)[::37]
        points = PointCloud(scale * at @ rotation.T + shift, torch.zeros_like(at))
    return CalibratedCapture(
        "room",
        tuple(f"{k:03d}.png" for k in range(9)),
        cameras,
        lambda view, side: cameras[view].resized(side, side * 3 // 4),
        look,
        points,
    )


MOVED = (2.5, rotation_from_vector(torch.tensor([0.4, -0.8, 0.3])), torch.tensor([3.0, -1.0, 7.0]))


def protocol_settings(**settings) -> OmegaConf:
    return OmegaConf.merge(OmegaConf.structured(Protocol), settings)


def test_input_and_targets_follow_rule_name_or_file(tmp_path):
    capture = replace(room(), folder=tmp_path)
    middle = (capture.cameras.centers - capture.cameras.centers.mean(0)).norm(dim=-1).argmin()
    first, others = select_views(capture, protocol_settings())
    assert first == int(middle) and others == [view for view in range(9) if view != first]
    assert select_views(capture, protocol_settings(input="first", targets="every_8")) == (0, [8])
    assert (
        select_views(capture, protocol_settings(input="003.png"))[0]
        == select_views(capture, protocol_settings(input="003"))[0]
        == select_views(capture, protocol_settings(input="3"))[0]
        == 3
    )
    assert select_views(capture, protocol_settings(input="first", max_targets=3)) == (0, [1, 5, 8])
    assert select_views(capture, protocol_settings(input="first", targets="every_3")) == (0, [3, 6])
    named = replace(capture, views=tuple(f"images/{view}" for view in capture.views))
    assert (
        select_views(named, protocol_settings(input="003.png"))[0]
        == select_views(named, protocol_settings(input="images/003.png"))[0]
        == 3
    )
    (tmp_path / "split.json").write_text(json.dumps({"train_ids": [2], "test_ids": [5, 7]}))
    assert select_views(capture, protocol_settings(targets="split.json")) == (2, [5, 7])
    (tmp_path / "named.json").write_text(
        json.dumps({"room": {"input": "001.png", "targets": ["008.png", "001.png"]}})
    )
    assert select_views(capture, protocol_settings(targets=str(tmp_path / "named.json"))) == (
        1,
        [8],
    )
    (tmp_path / "bad.json").write_text("[1, 2")
    (tmp_path / "two.json").write_text(json.dumps({"train_ids": [2, 3], "test_ids": [5]}))
    for settings, says in (
        (
            {"input": "009.png"},
            (
                "protocol.input is '009.png', no view of room; choose middle, first, 0 "
                "to 8, or one of 000.png"
            ),
        ),
        (
            {"targets": "none.json"},
            (
                "protocol.targets is 'none.json'; choose all, every_N, or a JSON file; "
                "there is none at .*"
            ),
        ),
        ({"targets": "bad.json"}, "bad.json is no split"),
        ({"targets": "two.json"}, "names 2 input views of room"),
        (
            {"input": "0", "targets": str(tmp_path / "own.json")},
            "leaves no view of room but the input",
        ),
    ):
        (tmp_path / "own.json").write_text(json.dumps({"targets": [0]}))
        with pytest.raises((ValueError, FileNotFoundError), match=says):
            select_views(capture, protocol_settings(**settings))


@pytest.mark.parametrize("measured", [True, False])
def test_one_scale_brings_a_lifted_scene_to_the_true_cameras(measured):
    capture = room(MOVED, measured)
    camera = crop_to_multiple(capture.inner_camera(0, SIZE))
    lifted = (
        0.4 * render("room", pinhole(SIZE, SIZE * 3 // 4, 0.9 * SIZE)).depth[0]
    )  # the same scene in a unit of its own
    known = capture.load_view(0, camera).depth[0] if measured else sparse_depth(capture, camera)
    assert (known > 0).float().mean() > (0.99 if measured else 0.005)
    scale = median_scale(lifted, known)
    assert scale == pytest.approx(0.4 / 2.5, rel=1e-3 if measured else 0.02)
    aligned = align_to_input(camera, scale)(capture.cameras)
    truth = room().cameras
    assert torch.allclose(
        aligned.world_to_camera[:, :3, :3], truth.world_to_camera[:, :3, :3], atol=1e-5
    )
    assert torch.allclose(
        aligned.centers,
        0.4 * truth.centers,
        atol=0.02 * 0.4 * float(truth.centers.norm(dim=-1).max()),
    )
    assert median_scale(lifted, torch.zeros_like(known)) is None
    check_alignment("sweep", torch.zeros_like(known), "room")
    with pytest.raises(
        ValueError,
        match=(
            "protocol.align is median_depth, but nothing is known of the depth of room: "
            ".*; choose sweep, similarity or none"
        ),
    ):
        check_alignment("median_depth", torch.zeros_like(known), "room")


def test_nearest_point_gives_the_depth_with_any_threads():
    camera = pinhole(64, 64, 60.0)
    z = 1 + 9 * torch.rand(100_000)
    places = torch.stack(
        [(torch.rand(len(z)) - 0.5) * 1.2 * z, (torch.rand(len(z)) - 0.5) * 1.2 * z, z], -1
    )
    behind = torch.tensor([[0.0, 0, -1]])
    points = PointCloud(torch.cat([places, behind]), torch.zeros(len(z) + 1, 3))
    capture = CalibratedCapture(
        "x",
        ("a",),
        camera,
        lambda view, side: camera,
        lambda view, target: Frames(torch.zeros(1, 64, 64, 3, dtype=torch.uint8)),
        points,
    )
    pixels, depth = project(points.points, camera)
    truth = torch.full((64, 64), math.inf)
    for (x, y), far in zip(pixels[0].floor().long().tolist(), depth[0].tolist(), strict=True):
        if 0 <= x < 64 and 0 <= y < 64 and far > 0:
            truth[y, x] = min(truth[y, x], far)
    threads = torch.get_num_threads()
    try:
        for count in (1, 2, 4):
            torch.set_num_threads(count)
            assert torch.equal(sparse_depth(capture, camera), truth.where(truth.isfinite(), 0))
    finally:
        torch.set_num_threads(threads)
    assert not sparse_depth(replace(capture, points=None), camera).any()


@pytest.mark.slow
def test_similarity_is_estimated_from_matched_views():
    capture = room(MOVED)
    camera = crop_to_multiple(capture.inner_camera(0, SIZE))
    start = replace(camera, world_to_camera=torch.eye(4)[None])
    true = render("room", start)
    images = [
        capture.load_view(view, capture.inner_camera(view, SIZE)).images[0] for view in range(1, 9)
    ]
    # The input's camera of the dataset is wrong: only a similarity can tell.
    turned = transform_cameras(
        camera, 1.0, rotation_from_vector(torch.tensor([0.0, 0.05, 0.0])), torch.zeros(3)
    )
    found = align_views(
        capture.cameras[list(range(1, 9))],
        images,
        true.images[0],
        start,
        0.4 * true.depth[0],
        turned,
    )
    aligned, truth = found(capture.cameras), room().cameras
    assert found.scale == pytest.approx(0.4 / 2.5, rel=0.02) and found.details["registered"] >= 7
    off = (aligned.centers - 0.4 * truth.centers).norm(dim=-1) / (0.4 * float(true.depth.median()))
    assert off.max() < 0.02 and found.details["position"] < 0.01 and found.details["rotation"] < 0.5
    with pytest.raises(
        ValueError,
        match="only 0 of 2 views share enough with the input to be registered; choose median_depth",
    ):
        align_views(
            capture.cameras[[1, 2]],
            [torch.zeros(144, 192, 3, dtype=torch.uint8)] * 2,
            true.images[0],
            start,
            true.depth[0],
            camera,
        )


@pytest.mark.slow
def test_matches_give_the_input_depth_without_points():
    capture = room(MOVED)
    camera, others = (
        crop_to_multiple(capture.inner_camera(0, SIZE)),
        Cameras.cat([capture.inner_camera(view, SIZE) for view in range(1, 9)]),
    )
    image, truth = (
        capture.load_view(0, camera),
        torch.cat([capture.load_view(view, others[view - 1]).images for view in range(1, 9)]),
    )
    known = triangulate_depth(camera, image.images[0], others, truth)
    there = known > 0
    off = (known[there] / image.depth[0][there] - 1).abs()
    assert there.sum() > 100 and off.median() < 0.03 and off.quantile(0.8) < 0.1
    assert median_scale(0.4 / 2.5 * image.depth[0], known) == pytest.approx(0.16, rel=0.01)
    assert torch.equal(known, triangulate_depth(camera, image.images[0], others, truth))
    assert not triangulate_depth(
        camera, image.images[0], Cameras.cat([camera, camera]), image.images.expand(2, -1, -1, -1)
    ).any(), "no parallax, no depth"


def test_a_sweep_takes_the_best_factor():
    camera = pinhole(64, 64, 60.0)
    best = sweep_scale(camera, 3.0, lambda alignment: -abs(alignment.scale - 3.0 * 1.4))
    assert (
        best.details["factor"] == 1.4
        and best.scale == pytest.approx(4.2)
        and 1.0 in SCALE_FACTORS
        and len(SCALE_FACTORS) == 20
        and (SCALE_FACTORS[0], SCALE_FACTORS[-1]) == (0.1, 2.0)
    )


def test_visible_region_is_what_the_input_surface_covers():
    capture = room(MOVED)
    camera, targets = crop_to_multiple(capture.inner_camera(0, SIZE)), capture.cameras
    targets = Cameras.cat([capture.inner_camera(view, SIZE) for view in range(9)])
    image = capture.load_view(0, camera).images[0]
    from_first = capture.load_view(0, camera).depth[0]
    seen = visible_pixels(camera, image, Depth(from_first, from_first > 0, "scale"), targets)
    assert seen[0].all()
    agree = []
    for view in range(
        1, 9
    ):  # truly: the point of a pixel lies in the input, as near as what the input shows there
        depth = capture.load_view(view, targets[view]).depth
        pixels, z = project(unproject(depth, targets[view])[0].reshape(-1, 3), camera)
        column, row = pixels[0].floor().long().unbind(-1)
        inside = (
            (column >= 0)
            & (column < camera.width)
            & (row >= 0)
            & (row < camera.height)
            & (z[0] > 0)
        )
        near = from_first[row.clamp(0, camera.height - 1), column.clamp(0, camera.width - 1)]
        truly = (inside & ((z[0] / near - 1).abs() < 0.03)).view(seen[view].shape)
        agree.append(float((truly == seen[view]).float().mean()))
        assert 0.3 < truly.float().mean() < 0.999
    assert min(agree) > 0.93, agree


def test_reference_depth_is_scaled_to_dataset_or_scene():
    guess = Depth(torch.rand(20, 20) + 1, torch.ones(20, 20, dtype=torch.bool), "scale")
    known = (3 * guess.depth) * (torch.rand(20, 20) > 0.9)
    assert torch.allclose(
        rescale_depth(guess, known, torch.zeros(20, 20), 1.0).depth, 3 * guess.depth
    )
    lifted = 0.5 * guess.depth  # by a lifted scene whose lengths are a quarter of the dataset's
    assert torch.allclose(
        rescale_depth(guess, torch.zeros(20, 20), lifted, 0.25).depth, 2 * guess.depth
    )
    assert torch.equal(
        rescale_depth(guess, torch.zeros(20, 20), torch.zeros(20, 20), 0.25).depth, guess.depth
    )


def row(scene: str, seed: int, psnr: list[float], far: list[float]) -> dict:
    views = [
        {
            "view": str(k),
            "distance": away,
            "angle": 0.0,
            "psnr": value,
            "ssim": 0.5,
            "lpips": None,
            "dists": 0.1,
            "visible": 0.5,
            "psnr_visible": value,
            "ssim_visible": 0.5,
            "lpips_visible": None,
            "psnr_input": 9.0,
        }
        for k, (value, away) in enumerate(zip(psnr, far, strict=True))
    ]
    stages = {"fit": {"seconds": 10.0, "peak_gib": 1.0}}
    return {
        "scene": scene,
        "seed": seed,
        "views": views,
        "depth": None,
        "cameras": None,
        "alignment": {"scale": 2.0, "factor": 0.5},
        "stages": stages,
        "missing": ["LPIPS: no network"],
        "notes": {"source": "made up"},
    }


def test_table_averages_views_then_scenes_then_seeds():
    rows = [
        row("a", 0, [20.0, 10.0], [0.05, 0.3]),
        row("b", 0, [30.0], [0.05]),
        row("a", 1, [22.0, 12.0], [0.05, 0.3]),
        row("b", 1, [32.0], [0.2]),
    ]
    mean = mean_of(rows)
    assert (
        mean["psnr"] == pytest.approx((22.5 + 24.5) / 2)
        and mean["psnr_std"] == pytest.approx(math.sqrt(2))
        and mean["views"] == 6
        and mean["lpips"] is None
    )
    text = format_table(rows, "how", [0.1, 0.25], {"c-0": "no picture"})
    assert "Failed, and in no mean: c-0 (no picture)" in text and "| a | 0 | 2 | 0.5 |" in text
    assert mean_of(rows[:3])["psnr"] == pytest.approx(16) and mean_of(rows[:3])[
        "psnr_std"
    ] == pytest.approx(math.sqrt(2)), "of the scene that both seeds have"
    lines = text.splitlines()
    assert (
        "| a | 0 | 2 | 15.00 | 0.500 | 0.100 | 50 % | 15.00 |" in text
        and "| mean | all | 6 | 23.50 ± 1.41 |" in text
    )
    assert any(line.startswith("| 0 to 0.1 | 3 | 21.00 ± 1.41") for line in lines), (
        "of the scene that both seeds have there"
    )
    assert any(line.startswith("| 0.1 to 0.25 | 1 | 32.00 |") for line in lines) and any(
        line.startswith("| from 0.25 | 2 | 11.00 ± 1.41 |") for line in lines
    )
    assert "LPIPS |" not in text, "of which there are no figures"
    assert (
        "Not measured: LPIPS: no network" in text
        and "- source: made up (a, b)" in text
        and "| fit | 10.0 | 1.00 |" in text
    )


def test_stages_are_summed_by_name():
    stages = [
        {"stage": "clip", "seconds": 1.0, "peak_bytes": 2**30},
        {"stage": "clip", "seconds": 2.5, "peak_bytes": 2**29},
        {"stage": "fit", "seconds": 4, "peak_bytes": 0},
    ]
    assert stage_costs(stages) == {
        "clip": {"seconds": 3.5, "peak_gib": 1.0},
        "fit": {"seconds": 4.0, "peak_gib": 0.0},
    }


def test_view_of_another_aspect_covers_the_input_shape():
    wide, tall = pinhole(100, 75, 90.0), pinhole(75, 100, 90.0)
    like = crop_to_multiple(wide)
    assert (
        (like.width, like.height) == (96, 72)
        and like.intrinsics[0, 0, 0] == 90
        and like.intrinsics[0, 0, 2] == 48
    )
    made = crop_to_multiple(tall, like)
    assert (made.width, made.height) == (96, 72) and made.intrinsics[0, 0, 0] == pytest.approx(
        90 * 96 / 75
    )


def test_a_sheet_shows_input_truth_render_error_and_what_is_seen():
    image, seen = torch.full((40, 80, 3), 0.2), torch.ones(40, 80, dtype=torch.bool)
    seen[:, :40] = False
    made = contact_rows(
        image,
        [(torch.full_like(image, 0.6), torch.full_like(image, 0.5), seen)] * 2,
        ["input", "one", "two"],
    )
    assert made.shape == (3 * 60, 4 * 84, 3)
    step = 1 / 255
    assert (
        made[17, 0, 0] == pytest.approx(0.2, abs=step)
        and made[77, 0, 0] == pytest.approx(0.6, abs=step)
        and made[77, 85, 0] == pytest.approx(0.5, abs=step)
    )
    assert (
        made[77, 169, 0] == pytest.approx(0.2, abs=step)
        and made[77, 253, 0] == pytest.approx(0.51, abs=step)
        and made[77, 253 + 60, 0] == pytest.approx(0.6, abs=step)
    )
    assert all(bool((made[60 * k : 60 * k + 16] < 0.5).any()) for k in range(3)), "titles"


def test_missing_weights_raise_only_for_an_explicit_folder(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="LPIPS's weights"):
        Measures.load(str(tmp_path))

    def offline(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", offline)
    measures = Measures.load(None)
    assert [line.split(":")[0] for line in measures.missing] == ["LPIPS", "DISTS"]
    a, b = torch.rand(40, 40, 3), torch.rand(40, 40, 3)
    values = measures(a, b, torch.zeros(40, 40, dtype=torch.bool))
    assert (
        values["psnr"] == metrics.psnr(a, b)
        and values["lpips"]
        is values["dists"]
        is values["psnr_visible"]
        is values["ssim_visible"]
        is None
        and values["visible"] == 0
    )


QUICK = [
    "dataset=ray_cast",
    "dataset.scenes=[plain,thin]",
    "protocol.input=first",
    "protocol.max_targets=2",
    "prior=synthetic",
    "prior.severity=0",
    "depth=known",
    "preprocess.size=64",
    "planner.depth=1",
    "planner.frames=2",
    "fit.steps=40",
    "fit.initial_gaussians=2000",
    "motion_limit.on_exceed=ignore",
    "export.video_frames=2",
]


LOOKS = """
import atexit, os

def look():
    if "LIFT_REPORT" in os.environ:  # not whoever started them
        import numba
        with open(os.environ["THREADS"], "a") as file:
            file.write(f"{numba.get_num_threads()}\\n")

atexit.register(look)
"""


def evaluate(folder: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "lift", "eval", *QUICK, f"output={folder}", "name=table", *more]


def figures_of(folder: Path) -> tuple[str, list]:
    """Without what clocks and memory say."""
    content = json.loads((folder / "eval/table/table.json").read_text())
    text = (folder / "eval/table/table.md").read_text().split("| stage |")[0]
    return [line.rsplit("|", 3)[0] for line in text.splitlines()], [
        [row["scene"], row["seed"], row["views"], row["alignment"], row["depth"]]
        for row in content["rows"]
    ]


@pytest.mark.slow
def test_killed_evaluation_resumes_to_the_same_table(tmp_path):
    (tmp_path / "looks.py").write_text(LOOKS)
    env = os.environ | {"PYTHONUNBUFFERED": "1"}
    seen = {
        "LIFT_PLUGINS": "looks",
        "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]),
        "THREADS": str(tmp_path / "threads"),
    }
    seen = {
        name: value
        for name, value in (env | seen).items()
        if name not in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")
    }
    both = evaluate(
        tmp_path / "whole",
        "--processes",
        "2",
        "--",
        "distortion=identity",
        "name=without",
        "--",
        "dataset.scenes=[plain,thin]",
    )
    done = subprocess.run(both, capture_output=True, text=True, env=seen)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines()[-2:] == [
        str(tmp_path / f"whole/eval/{name}/table.md") for name in ("without", "table")
    ]
    assert (tmp_path / "threads").read_text().split() == 2 * [
        str(max(1, len(os.sched_getaffinity(0)) // 2))
    ], "each has its share"
    stages = [
        json.loads(file.read_text())["stage"]
        for file in (tmp_path / "whole/cache").glob("*/manifest.json")
    ]
    assert (stages.count("depth"), stages.count("reconstruct"), stages.count("fit")) == (2, 2, 4), (
        "what two evaluations share is made once"
    )
    assert (
        "| plain | 0 | 2 |" in done.stderr
        and "| mean | all | 4 |" in done.stderr
        and "Alignment `median_depth`" in done.stderr
    )
    killed = subprocess.Popen(
        evaluate(tmp_path / "killed"),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=env,
    )
    assert killed.stdout.readline().strip().endswith("plain-0.json")  # the first scene is made
    time.sleep(1)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert not (tmp_path / "killed/eval/table/table.md").exists()
    kept = (tmp_path / "killed/eval/table/plain-0.json").stat().st_mtime_ns
    again = subprocess.run(evaluate(tmp_path / "killed"), capture_output=True, text=True, env=env)
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "killed/eval/table/plain-0.json").stat().st_mtime_ns == kept, (
        "what was finished is not made again"
    )
    assert figures_of(tmp_path / "killed") == figures_of(tmp_path / "whole")
    rows = json.loads((tmp_path / "whole/eval/table/table.json").read_text())["rows"]
    for one in rows:
        assert (
            all(view["psnr"] > 14 and 0 < view["visible"] <= 1 for view in one["views"])
            and one["depth"]["abs_rel"] < 0.1
            and one["alignment"]["scale"] == pytest.approx(1, abs=0.1)
        )
        assert one["cameras"]["rotation"] < 1e-3 and one["cameras"]["position"] < 1e-4, (
            "a generator without corruptions"
        )
        assert (tmp_path / f"whole/eval/table/{one['scene']}-0.png").is_file() and {
            "depth",
            "fit",
        } <= set(one["stages"])


@pytest.mark.slow
def test_cached_results_are_reused_only_if_unchanged(tmp_path, monkeypatch, capsys):
    made = []
    lifted = evaluation.run
    monkeypatch.setattr(evaluation, "run", lambda *given: made.append(given) or lifted(*given))
    folder = tmp_path / "eval/table"

    def again(*more: str, status: int = 0) -> str:
        made.clear()
        assert (
            cli.main(
                [
                    "eval",
                    *QUICK,
                    "dataset.scenes=[plain]",
                    f"output={tmp_path}",
                    "name=table",
                    *more,
                ]
            )
            == status
        )
        return (folder / "table.md").read_text()

    first = again()
    assert len(made) == 1 and again() == first and not made
    assert (
        "| 0 to 0.01 |" not in again("protocol.bins=[0.01]").split("| distance |")[0] and not made
    ), "bins are arithmetic on what there is"
    sweep_table = again("protocol.align=sweep")
    assert (
        len(made) == 1
        and "Alignment `sweep`" in sweep_table
        and "| alignment | seed | scale | factor |" in sweep_table
    )
    whole = json.loads((folder / "plain-0.json").read_text())
    for broken in ('{"key": "ab', "[1]", json.dumps({"key": whole["key"]})):
        (folder / "plain-0.json").write_text(broken)
        assert again("protocol.align=sweep") == sweep_table and len(made) == 1, (
            "half a file is none"
        )
    (folder / "plain-0.png").unlink()
    assert (
        again("protocol.align=sweep") == sweep_table
        and len(made) == 1
        and (folder / "plain-0.png").is_file()
    ), "pictures that are gone"
    with monkeypatch.context() as changed:
        changed.setitem(session.STAGE_VERSIONS, "plan", -1)
        again("protocol.align=sweep")
        assert len(made) == 1, "another version of a stage"
    sweep_table = again("protocol.align=sweep")
    with monkeypatch.context() as changed:
        cast = ray_cast.render
        changed.setattr(
            ray_cast,
            "render",
            lambda scene, camera: replace(right := cast(scene, camera), images=255 - right.images),
        )
        assert again("protocol.align=sweep") != sweep_table and len(made) == 1, "other pictures"
    (tmp_path / "weights").mkdir()
    assert (
        cli.main(
            [
                "eval",
                *QUICK,
                "dataset.scenes=[plain]",
                f"output={tmp_path}",
                "name=table",
                f"protocol.weights={tmp_path / 'weights'}",
            ]
        )
        == 1
    )
    assert "plain-0 failed: there is no alexnet_features.pth" in capsys.readouterr().err


def test_wrong_arguments_give_one_line_with_choices(capsys, tmp_path):
    for arguments, says in (
        (["photo.jpg"], "'photo.jpg' is no setting; lift eval takes dataset=NAME"),
        (["image=coffee"], "the dataset has the pictures"),
        (["seed=3"], "choose protocol.seeds="),
        (
            ["dataset=ray_cast", "++protocol.align=sweep"],
            "'++protocol.align=sweep': lift eval takes KEY=VALUE; leave out '++'",
        ),
        (["dataset=ray_cast", "name=../x"], "name is '../x'; choose the name of one folder"),
        (["dataset=ray_cast", "name=inputs"], "name is 'inputs'"),
        (["dataset=lllf"], "dataset is 'lllf'; choose one of dl3dv, folder, llff"),
        (["protocol.alin=none"], "did you mean protocol.align?"),
        (
            ["dataset=ray_cast", "--", "fit.steps=5", "--", "fit.steps=5"],
            "give each a name=NAME of its own",
        ),
        (["dataset=ray_cast", "--", "fit.steps=5", "--", "fit.stesp=5"], "fit.stesp"),
        (
            ["dataset=ray_cast", "protocol.align=best"],
            "protocol.align is 'best'; choose one of none, median_depth, similarity, sweep",
        ),
        (
            ["dataset=ray_cast", "protocol.bins=[0.3,0.1]"],
            "protocol.bins is [0.3, 0.1]; choose distances above 0 that rise",
        ),
        (["dataset=ray_cast", "protocol.seeds=[]"], "protocol.seeds is []; choose one or more"),
        (
            ["dataset=ray_cast", "protocol.seeds=[3000000000]"],
            "choose one or more numbers from 0 to 2147483647",
        ),
        (
            ["dataset=ray_cast", "protocol.reference=onnx"],
            "protocol.reference is 'onnx', which needs path; choose one that needs no settings",
        ),
        (["dataset=ray_cast", "protocol.reference=known"], "protocol.reference is 'known'"),
        (["dataset=ray_cast", "protocol.reference=lte"], "depth is 'lte'"),
        (
            ["dataset=ray_cast", "dataset.scnes=[room]"],
            "dataset.scnes is not a setting of 'ray_cast'; did you mean dataset.scenes?",
        ),
        (["dataset=ray_cast", "dataset.scenes=[rom]"], "dataset.scenes has 'rom'; choose among"),
        (["dataset=folder", f"dataset.path={tmp_path / 'none'}"], str(tmp_path / "none")),
    ):
        assert cli.main(["eval", *arguments]) == 2
        message = capsys.readouterr().err
        assert says in message and message.count("\n") == 1, (arguments, message)
