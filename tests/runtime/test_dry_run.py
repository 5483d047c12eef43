"""`lift run --plan` predicts a run and writes nothing."""

import itertools
import re

import pytest

from lift.config import compose_run
from lift.runtime.dry_run import dry_run
from tests.helpers.commands import here, lift
from tests.helpers.settings import TINY
from tests.helpers.stored_stages import TINY_PICTURE, clip, depth, reconstruction, store_stage


def test_dry_run_lists_stages_and_costs_and_writes_nothing(tmp_path):
    done = here(
        "run",
        "image=coffee",
        "prior=svd",
        "planner.levels=1",
        "--plan",
        f"output={tmp_path}",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    lines = {line.split()[0]: line for line in done.stdout.strip().split("\n")}
    assert "512x288 pixels" in lines["coffee:"]  # the shape of the generator
    assert "lite (Apache-2.0)" in lines["depth"] and "4 clips, 97 frames" in lines["plan"]
    clip = lines["clip"]
    assert (
        "stabilityai/stable-video-diffusion-img2vid-xt" in clip
        and "Stability AI Community Licence" in clip
        and "GiB of GPU memory" in clip
        and "a clip takes about 20 s on an H200" in clip
    )
    assert "3000 steps of 1 views" in lines["fit"]
    for stage in ("depth", "plan", "clip", "reconstruct", "fit"):
        assert "; time unknown" in lines[stage]
    assert lines["total"].startswith("total        time unknown: ")
    assert not list(tmp_path.iterdir())


def test_memory_is_of_the_clips_that_are_made_together(tmp_path):
    from hydra import compose, initialize_config_module

    from lift.config import store_schemas

    store_schemas()
    reports = {}
    for name, batch_size in itertools.product(("svd", "vace"), (1, 3)):
        with initialize_config_module("lift.configs", version_base="1.3"):
            config = compose(
                "lift",
                [
                    "image=room",
                    f"prior={name}",
                    f"prior.batch_size={batch_size}",
                    f"output={tmp_path}",
                ],
            )
        reports[name, batch_size] = float(
            re.search(r"about (\d+) GiB of GPU memory", dry_run(config))[1]
        )
    assert reports["svd", 3] > reports["svd", 1] + 2 and reports["vace", 3] == reports["vace", 1], (
        "vace's pipeline always makes one clip a call"
    )


def test_memory_and_size_are_those_of_the_pictures_shape(tmp_path):
    clips = {}
    for mode in ("crop", "keep"):
        words = ["image=room", "prior=motionctrl", "prior.size=1024", f"prior.resize_mode={mode}"]
        report = dry_run(compose_run([*words, f"output={tmp_path}"]))
        (clips[mode],) = (line for line in report.splitlines() if line.startswith("clip "))
    assert "generates 1024x576 pixels; about 12 GiB" in clips["crop"]
    assert "generates 1024x1024 pixels; about 18 GiB" in clips["keep"]


def test_what_is_cut_off_the_picture_is_noted(tmp_path):
    report = dry_run(compose_run(["image=coffee", "prior=svd", f"output={tmp_path}"]))
    note = next(line for line in report.splitlines() if "trained with" in line)
    assert note.startswith("note: the middle of the picture") and "is cut off" in note


def test_memory_is_of_the_weights_in_the_models_folder(tmp_path):
    (tmp_path / "model_index.json").write_text("{}")
    (tmp_path / "unet").mkdir()
    with (tmp_path / "unet" / "model.safetensors").open("wb") as file:
        file.truncate(50 * 2**30)  # sparse
    words = ["image=room", "prior=svd", f"prior.model={tmp_path}", f"output={tmp_path}/out"]
    assert re.search(r"about 6[0-9] GiB of GPU memory", dry_run(compose_run(words)))


def test_frames_with_exact_depth_take_fewer_steps(tmp_path):
    done = here("run", "image=coffee", "prior=warp", "--plan", f"output={tmp_path}", cwd=tmp_path)
    assert "800 steps of 1 views" in done.stdout, done.stderr


def test_times_are_those_of_the_same_stages_of_earlier_runs(tmp_path):
    config = compose_run(list(TINY_PICTURE))
    store_stage(tmp_path, config, "depth", 0.5, depth())
    store_stage(tmp_path, config, "plan", 1.0, 0)
    for seconds in (2.0, 3.0):
        store_stage(tmp_path, config, "clip", seconds, clip())
    store_stage(tmp_path, config, "reconstruct", 4.0, reconstruction())
    store_stage(tmp_path, config, "fit", 130.0, 0)
    done = here("run", *TINY_PICTURE, "--plan", f"output={tmp_path}", cwd=tmp_path)
    lines = {line.split()[0]: line for line in done.stdout.strip().split("\n")}
    for stage, time in (
        ("depth", "about 0.5 s, as it took 0.5 s before"),
        ("plan", "about 1.0 s, as it took 1.0 s before"),
        ("clip", "about 2.5 s, as it took 2.5 s before"),
        ("reconstruct", "about 4.0 s, as it took 4.0 s before"),
        ("fit", "about 2 minutes, as it took 2 minutes before"),
    ):
        assert lines[stage].endswith(f"; {time}"), lines[stage]
    assert lines["total"] == "total        about 2 minutes, besides the delivery"


def test_a_plan_for_a_gpu_lists_the_generators_that_fit(tmp_path):
    words = ("experiment=quality", "prior=vace", "--plan", "--gpu-memory", "8")
    done = here("run", "image=coffee", *words, f"output={tmp_path}", cwd=tmp_path)
    lines = {line.split()[0]: line.split() for line in done.stdout.strip().split("\n")}
    assert lines["vace"] == ["vace", "22", "18", "8", "group"]
    assert lines["cosmos"] == ["cosmos", "35", "33", "7", "group"]
    assert lines["viewcrafter"] == ["viewcrafter", "12", "11", "9", "no"]
    assert " ".join(lines["diffusers"][4:]) == "unknown: it depends on prior.model"
    assert " ".join(lines["warp"][4:]) == "yes: it needs no GPU"
    needs = "about 22 GiB of GPU memory (estimated), of which there are 8: too little"
    assert f"{needs}; prior.offload=group takes about 8" in done.stdout, done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--gpu-memory", "8"], "--gpu-memory is 8, but it only plans; add --plan"),
        (["--plan", "--gpu-memory=0"], "--gpu-memory is '0'; choose a number of GiB from 0.1"),
        (["--plan", "--gpu-memory", "nan"], "--gpu-memory is 'nan'; choose a number"),
        (["--plan", "--gpu-memory", "8GB"], "--gpu-memory is '8GB'; choose a number"),
        (["--plan", "--gpu-memory"], "--gpu-memory has no value"),
    ],
)
def test_a_wrong_amount_of_memory_is_one_line(tmp_path, words, message):
    done = here("run", "image=coffee", *words, cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.startswith(f"lift: {message}"), done.stderr


def stage_lines(*words: str, cwd) -> list[str]:
    """Return the lines of stages and of the time, without headline, notes and sizes."""
    lines = here(*words, cwd=cwd).stdout.splitlines()[1:]
    return [line for line in lines if not line.startswith(("note: ", "deliver "))]


@pytest.mark.parametrize("keep", ["full", "scene", "minimal"])
def test_the_size_of_what_is_delivered_is_told(tmp_path, keep):
    command = ("run", "image=coffee", f"deliver.keep={keep}", f"output={tmp_path}", "--plan")
    (line,) = re.findall("^deliver .*$", here(*command, cwd=tmp_path).stdout, re.MULTILINE)
    sizes = dict(re.findall(r"(\w+) (\d+|\d\.\d) MB", line))
    sizes[keep] = sizes.pop("about")
    assert f"deliver.keep={keep}; " in line and set(sizes) == {"full", "scene", "minimal"}
    assert 100 < float(sizes["full"]) < 150 and 8 < float(sizes["scene"]) < 15
    assert float(sizes["minimal"]) < 3


@pytest.mark.slow
def test_finished_stages_are_named(finished_run):
    output = finished_run.parents[1]
    run = ("run", "image=coffee", *TINY, "export.formats=[ply,spz]", f"output={output}", "--plan")
    *stages, total = stage_lines(*run, cwd=output)
    assert [line.rpartition("; ")[2] for line in stages] == ["found in the cache"] * 5, stages
    assert total == "total        only the delivery"
    *stages, total = stage_lines(*run, "fit.steps=77", cwd=output)
    assert [line.endswith("found in the cache") for line in stages] == [True] * 4 + [False]
    assert total.startswith("total        time unknown: ")


@pytest.mark.slow
def test_a_finished_run_predicts_one_with_another_seed(finished_run):
    output = finished_run.parents[1]
    run = ("run", "image=coffee", *TINY, "export.formats=[ply,spz]", f"output={output}", "--plan")
    plan = here(*run, "seed=3", cwd=output).stdout
    assert "time unknown" not in plan and " before\ntotal        about " in plan, plan


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "hint"), [("xyz", "glb$"), ("html", "lift export RUN scene.html")]
)
def test_dry_run_reports_unknown_export_formats(name, hint):
    config = compose_run(["image=coffee", f"export.formats=[{name}]"])
    with pytest.raises(
        ValueError, match=f"export.formats has '{name}'; choose among ply, .*{hint}"
    ):
        dry_run(config)


def test_dry_run_reports_invalid_settings(tmp_path):
    for setting, message in (
        ("prior.num_inference_steps=0", "prior.num_inference_steps is 0; choose 1"),
        ("prior.frames=1", "prior.frames is 1"),
        ("prior.model=/nope", "prior.model is /nope, which does not exist"),
    ):
        done = lift("run", "image=coffee", "prior=svd", setting, "--plan", cwd=tmp_path)
        assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr


def test_dry_run_reports_missing_packages(tmp_path, monkeypatch):
    from lift import registry

    monkeypatch.setattr(
        registry.Entry,
        "missing",
        property(lambda entry: ["gsplat"] if entry.name == "gsplat" else []),
    )
    done = here(
        "run", "image=coffee", "renderer=gsplat", "--plan", f"output={tmp_path}", cwd=tmp_path
    )
    assert (
        done.returncode == 0
        and "not installed: renderer gsplat: pip install 'lift[gpu]'" in done.stdout
    )


@pytest.mark.slow
def test_every_experiment_has_a_dry_run(tmp_path):
    """The published method by its parts, among them."""
    from importlib.resources import files

    from hydra import compose, initialize_config_module

    from lift.config import store_schemas, validate_config

    store_schemas()
    reports = {}
    for path in sorted((files("lift.configs") / "experiment").iterdir()):
        name = path.name.removesuffix(".yaml")
        with initialize_config_module("lift.configs", version_base="1.3"):
            config = compose("lift", [f"experiment={name}", "image=room", f"output={tmp_path}"])
        validate_config(config)
        reports[name] = dry_run(config)
        assert all(
            f"\n{stage}" in reports[name]
            for stage in ("depth", "plan", "clip", "reconstruct", "fit")
        )
    assert {"laptop", "liftimage3d", "quality"} <= set(reports)
    published = reports["liftimage3d"]
    for part in (
        "motionctrl, stabilityai/stable-video-diffusion-img2vid (",
        "16 clips, 241 frames",
        "mast3r, naver/MASt3R",
        "CC-BY-NC-SA-4.0",
        "hexplane",
        "17000 steps of 2 views",
    ):
        assert part in published, part
    assert (
        "viewcrafter, Drexubery/ViewCrafter_25 (Apache-2.0)" in reports["quality"]
        and "warp (Apache-2.0)" in reports["laptop"]
    )
