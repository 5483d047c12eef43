"""What `deliver.keep` leaves in a run's folder, and what can be done with it."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from skimage import data

import lift
from lift import pipeline
from lift.api.films import registered_frames
from lift.evaluation.metrics import psnr
from lift.io.splats import read_ply
from lift.outputs.live_view import find_job
from lift.outputs.viewer import run_content
from lift.outputs.viewer.overlay import MODES
from lift.runtime.integrity import MANIFEST
from tests.helpers.commands import here
from tests.helpers.engines import InlineEngine
from tests.helpers.panels import open_panel
from tests.helpers.python_runs import tiny_settings
from tests.helpers.settings import MINIMAL, TINY

pytestmark = pytest.mark.slow

PASSED = "finished before"

ALWAYS = {
    "config.yaml",
    "fly_through.jpg",
    "fly_through.json",
    "manifest.json",
    "metrics.json",
    "provenance.json",
    "split.json",
    "transforms.json",
    "view_region.json",
}
FILES = {
    "scene": ALWAYS | {"gaussians.ply", "input.png", "report.html", "video.mp4"},
    "minimal": ALWAYS | {"gaussians.sog", "input.jpg"},
}
"""What a run leaves in its folder."""

REDUCED = pytest.mark.parametrize("keep", ["scene", "minimal"])


def run(output: Path, *more: str) -> tuple[Path, str]:
    """Run the command on a picture of `finished_run`, and return the folder and the messages."""
    done = here("run", "image=coffee", *TINY, f"output={output}", "name=kept", *more, cwd=output)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.split()[-1]), done.stderr


@pytest.fixture(scope="module")
def delivered(finished_run, tmp_path_factory) -> dict[str, Path]:
    """Folders of one scene, one for each value of `deliver.keep`, away from their cache."""
    root = tmp_path_factory.mktemp("kept")
    folders = {}
    for keep in ("full", *FILES):
        folder, _ = run(finished_run.parents[1], f"deliver.keep={keep}")
        folders[keep] = root / keep
        shutil.copytree(folder, folders[keep])
    return folders


@REDUCED
def test_only_what_was_told_is_kept(delivered, keep):
    assert {path.name for path in delivered[keep].iterdir()} == FILES[keep]


def test_each_kind_is_smaller_than_the_one_before(delivered):
    sizes = [
        sum(file.stat().st_size for file in delivered[keep].rglob("*") if file.is_file())
        for keep in ("full", "scene", "minimal")
    ]
    assert sizes[0] > sizes[1] > 10 * sizes[2] and sizes[2] < 200_000


@REDUCED
def test_a_loaded_run_shows_the_same_scene(delivered, keep):
    full, reduced = lift.load(delivered["full"]), lift.load(delivered[keep])
    assert (full.keep, reduced.keep) == ("full", keep)
    assert reduced.held_out == full.held_out and reduced.metrics == full.metrics
    assert reduced.view_region == full.view_region and reduced.verdict == full.verdict
    views = full.cameras[[0, 5, 12]]
    assert torch.allclose(reduced.cameras.world_to_camera, full.cameras.world_to_camera)
    pairs = zip(reduced.render(views).rgb, full.render(views).rgb, strict=True)
    assert min(psnr(a.clamp(0, 1), b.clamp(0, 1)) for a, b in pairs) > 35
    assert psnr(reduced.input_image / 255, full.frames.images[0] / 255) > 25
    assert torch.equal(full.input_image, full.frames.images[0])


@REDUCED
@pytest.mark.parametrize(
    ("part", "missing"),
    [
        ("frames", "frames"),
        ("depth", "views"),
        ("trajectory", "views"),
        ("estimated_cameras", "views"),
        ("distortion", "distortion.safetensors"),
    ],
)
def test_a_part_that_is_left_out_is_told_with_its_setting(delivered, keep, part, missing):
    with pytest.raises(FileNotFoundError) as caught:
        getattr(lift.load(delivered[keep]), part)
    text = str(caught.value)
    assert f"has no {missing}, which" in text and "\n" not in text
    assert f"deliver.keep={keep} leaves it out; run it again with deliver.keep=full" in text


@REDUCED
def test_exports_and_films_are_made_of_every_kind(delivered, keep, tmp_path):
    source = str(delivered[keep])
    for name in ("scene.ply", "scene.spz", "scene.html"):
        done = here("export", source, name, cwd=tmp_path)
        assert done.returncode == 0 and (tmp_path / name).is_file(), done.stderr
        is_told = "keeps a lossy scene, gaussians.sog" in done.stderr
        assert is_told == (keep == "minimal" and name != "scene.html")
    exact, exported = (
        read_ply(delivered["full"] / "gaussians.ply"),
        read_ply(tmp_path / "scene.ply"),
    )
    assert len(exact) == len(exported)
    for arguments in (("--to", "a.gif"), ("--to", "b.gif", "--preset", "orbit", "--kind", "depth")):
        done = here("render", source, *arguments, "--seconds", "0.1", cwd=tmp_path)
        assert done.returncode == 0 and (tmp_path / arguments[1]).is_file(), done.stderr


@REDUCED
@pytest.mark.parametrize(
    "command",
    [("fit", "--more-steps", "5"), ("render", "--to", "x.gif", "--distortion-of", "3")],
)
def test_commands_that_need_more_end_with_one_line(delivered, keep, command, tmp_path):
    done = here(command[0], str(delivered[keep]), *command[1:], cwd=tmp_path)
    assert done.returncode != 0 and done.stderr.count("\n") == 1
    assert (
        f"deliver.keep={keep} leaves it out" in done.stderr and "deliver.keep=full" in done.stderr
    )
    assert not list(tmp_path.iterdir())


@REDUCED
def test_the_viewer_opens_every_kind(delivered, keep):
    assert find_job(delivered[keep]) is None
    content = run_content(lift.load(delivered[keep]))
    assert content.region is not None and not content.has_frames
    panel = open_panel(content)
    panel.update(rebuild=True)
    calls = panel.client.gui.add_html.call_args_list
    assert any(f"deliver.keep is {keep}" in str(call) for call in calls)
    choices = panel.client.gui.add_dropdown.call_args_list
    modes = {call.args[1] for call in choices if call.args[0] == "Show"}
    assert modes == {MODES[:2]}


def test_the_report_names_no_file_that_is_not_there(delivered):
    folder = delivered["scene"]
    text = (folder / "report.html").read_text()
    links = re.findall(r'href="([^"#][^"]*)"', text)
    assert {"gaussians.ply", "input.png", "video.mp4"} <= set(links)
    assert all((folder / link).exists() for link in links)
    assert "lift fit" not in text and "--more-steps" not in text and "tensorboard" not in links
    assert "lift fit" in (delivered["full"] / "report.html").read_text()


def test_another_kind_delivers_again_from_the_cache(finished_run, monkeypatch):
    output = finished_run.parents[1]
    folder, _ = run(output, "deliver.keep=minimal", "--redeliver")
    (folder / "notes.txt").write_text("mine")
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "run", None)
        assert PASSED in run(output, "deliver.keep=minimal")[1]
    again, messages = run(output)
    assert again == folder and PASSED not in messages and "those of" not in messages
    assert re.search(r"fit +found", messages) and "delivering" in messages
    assert (folder / "frames").is_dir() and (folder / "checkpoint.ckpt").is_file()
    assert not (folder / "gaussians.sog").exists() and not (folder / "input.jpg").exists()
    assert PASSED in run(output)[1] and PASSED in run(output, "deliver.keep=full")[1]
    _, messages = run(output, "deliver.keep=scene")
    assert PASSED not in messages
    assert "has the results of deliver.keep=full; those of scene replace them" in messages
    assert {path.name for path in folder.iterdir()} == FILES["scene"] | {"notes.txt"}


def test_python_delivers_and_continues_with_the_setting(finished_run, tmp_path):
    settings = tiny_settings(finished_run.parents[1], name="python", deliver={"keep": "minimal"})
    scene = lift.run("coffee", **settings)
    assert scene.keep == "minimal" and scene.settings["deliver"] == {"keep": "minimal"}
    assert scene.render(scene.cameras[:1]).rgb.isfinite().all()
    longer = lift.load(finished_run).fit(5, name="longer", deliver={"keep": "minimal"})
    assert longer.keep == "minimal" and longer.settings["fit"]["steps"] == 35
    assert {path.name for path in longer.folder.iterdir()} == FILES["minimal"] | {"gaussians.spz"}


@pytest.mark.parametrize("name", ["gaussians.sog", "metrics.json", "input.jpg"])
def test_damage_and_loss_of_a_file_are_named(delivered, tmp_path, name):
    folder = tmp_path / "run"
    shutil.copytree(delivered["minimal"], folder)
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    scene = lift.load(folder)
    with pytest.raises(ValueError, match=f"{name} is damaged .its checksum differs"):
        _ = scene.gaussians, scene.metrics, scene.input_image
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"no finished run at .*: it has no {name}$"):
        lift.load(folder)


def test_a_damaged_scene_without_checksums_is_named(delivered, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(delivered["minimal"], folder)
    (folder / MANIFEST).unlink()
    data = (folder / "gaussians.sog").read_bytes()
    (folder / "gaussians.sog").write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match="gaussians.sog is damaged"):
        _ = lift.load(folder).gaussians


def test_frames_that_were_not_registered_are_known_without_depth(delivered, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(delivered["minimal"], folder)
    scene = lift.load(folder)
    assert registered_frames(scene) is None
    scene.metrics["registered_frames"] = 12
    assert registered_frames(scene) == [True] * 13, "as the run found"
    (folder / MANIFEST).unlink()
    split = json.loads((folder / "split.json").read_text())
    (folder / "split.json").write_text(json.dumps(split | {"registered": [0, 1, 2]}))
    scene = lift.load(folder)
    scene.metrics["registered_frames"] = 12
    assert registered_frames(scene) == [True] * 3 + [False] * 10
    (folder / "split.json").write_text("{}")
    with pytest.raises(ValueError, match=r"split.json is damaged"):
        registered_frames(scene)


def test_a_damaged_minimal_run_is_made_again(finished_run):
    output = finished_run.parents[1]
    folder, _ = run(output, "deliver.keep=minimal")
    content = (folder / "gaussians.sog").read_bytes()
    (folder / "gaussians.sog").write_bytes(content[:-10])
    _, messages = run(output, "deliver.keep=minimal")
    assert PASSED not in messages and (folder / "gaussians.sog").read_bytes() == content


def test_a_batch_may_keep_neither_stages_nor_frames(tmp_path, monkeypatch):
    monkeypatch.setattr("lift.batch.jobs.LocalEngine", InlineEngine)  # its output is seen here
    picture = tmp_path / "photo.png"
    Image.fromarray(data.coffee()[:96, :128]).save(picture)
    settings = [*MINIMAL, f"output={tmp_path / 'out'}", "deliver.keep=minimal", "cache.keep=false"]
    first = here("batch", str(picture), *settings, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    folder = Path(first.stdout.split()[-1])
    assert {path.name for path in folder.iterdir()} == FILES["minimal"]
    assert not [path for path in (tmp_path / "out" / "cache").iterdir() if path.is_dir()]
    assert here("batch", str(picture), *settings, cwd=tmp_path).stdout == first.stdout
    listed = here("cache", str(tmp_path / "out"), "--run", str(folder), cwd=tmp_path)
    assert listed.returncode == 0, listed.stderr
    full = here("batch", str(picture), *settings[:-2], cwd=tmp_path)
    assert full.returncode == 0 and Path(full.stdout.split()[-1]) == folder
    assert re.search(r"fit +[\d.]+ s", full.stderr), "its stages were made again"
    assert (folder / "frames").is_dir() and not (folder / "gaussians.sog").exists()
