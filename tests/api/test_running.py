"""`lift.run` is `lift run`: the same settings, stages, folders and messages."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

import lift
from lift.api.running import compose_settings
from lift.config import compose_run
from lift.distortions import Distortion, distortions
from lift.errors import format_error
from lift.registry import ComponentError, catalogue
from lift.runtime.devices import cpu_cores
from tests.helpers.commands import here
from tests.helpers.python_runs import tiny_settings

pytestmark = pytest.mark.slow

WRONG = [
    ({"prior": "foo"}, ["prior=foo"]),
    ({"fit": {"stps": 3}}, ["fit.stps=3"]),
    ({"fit.steps": "many"}, ["fit.steps=many"]),
    ({"fit": {"steps": -4}}, ["fit.steps=-4"]),
    ({"depth": {"sise": 3}}, ["depth.sise=3"]),
    ({"experiment": "foo"}, ["experiment=foo"]),
    ({"distortion": {"name": "composed", "parts": ["foo"]}}, ["distortion.parts=[foo]"]),
    ({"device": "tpu"}, ["device=tpu"]),
    ({"prior": {"name": "frames"}}, ["prior=frames"]),
    ({"fit": {"robust": {"frames": float("nan")}}}, ["fit.robust.frames=nan"]),
    ({"trainer": {"devices": 0}}, ["trainer.devices=0"]),
]


def test_objects_in_place_of_import_paths_are_one_line():
    from pytorch_lightning.callbacks import EarlyStopping

    path = "pytorch_lightning.callbacks.early_stopping.EarlyStopping"
    for callback in (EarlyStopping("psnr"), EarlyStopping):
        with pytest.raises(ComponentError, match=f"callbacks has .* {path}; name it by '{path}'"):
            compose_settings("coffee", {"callbacks": [callback]})
    config = compose_settings("coffee", {"callbacks": [path], "logger": ["csv"]})
    assert list(config.callbacks) == [path] and list(config.logger) == ["csv"]


def test_a_folder_of_the_user_is_refused_before_work(tmp_path, monkeypatch):
    from lift import pipeline

    notes = tmp_path / "coffee" / "mine" / "notes.txt"
    notes.parent.mkdir(parents=True)
    notes.write_text("mine")
    monkeypatch.setattr(pipeline, "compile_ahead", lambda session: 1 / 0)
    with pytest.raises(ValueError, match=r"holds files that no run has written, such as notes"):
        lift.run("coffee", **tiny_settings(tmp_path) | {"name": "mine"})
    assert [path.name for path in notes.parent.iterdir()] == ["notes.txt"]


def test_the_import_is_light_and_lists_the_interface():
    script = (
        "import sys, lift; assert {'run', 'load', 'Scene', 'Cameras'} <= set(dir(lift));"
        "assert not {'torch', 'numpy', 'hydra'} & set(sys.modules);"
        "from lift import Cameras, Scene, load, run;"
        "import lift.types; assert Cameras is lift.types.Cameras"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'lift' has no attribute 'fit'"):
        _ = lift.fit


def test_the_stages_of_the_command_line_are_found(finished_run):
    export = {"film": {"seconds": 0.25}, "formats": ["ply", "spz"]}
    settings = tiny_settings(finished_run.parents[1], export=export)
    del settings["export.film.seconds"]
    passed_over = lift.run("coffee", **settings)
    assert passed_over.folder == finished_run
    assert passed_over.provenance["command"] != sys.argv, "its results are as they were"
    scene = lift.run("coffee", redeliver=True, **settings)
    assert scene.folder == finished_run and not scene.settings["redeliver"]
    assert all(stage["cached"] for stage in scene.provenance["stages"])
    assert scene.provenance["command"] == sys.argv
    repeated = lift.run(**scene.settings)
    assert repeated.folder == scene.folder and repeated.settings == scene.settings


@pytest.mark.parametrize(
    "settings",
    [
        {"fit": {"steps": 7, "robust": {"frames": 1}}, "prior": "synthetic", "seed": 3},
        {"fit.steps": 7, "fit.robust.frames": 1, "prior": "synthetic", "seed": np.int64(3)},
        {"fit.steps": 7, "fit": {"robust.frames": 1}, "prior": {"name": "synthetic"}, "seed": 3},
    ],
)
def test_settings_are_nested_or_dotted(settings):
    config = compose_settings("room", settings)
    overrides = ["image=none", "fit.steps=7", "fit.robust.frames=1", "prior=synthetic", "seed=3"]
    assert config == compose_run(overrides)


def test_settings_of_components_are_dictionaries():
    config = compose_settings(
        None,
        {
            "experiment": "demo",
            "distortion": {
                "name": "composed",
                "parts": ("rigid", "blur"),
                "settings": {"rigid": {"weight": 3}},
            },
            "prior.edge_threshold": 0.5,
            "trainer": {"gradient_clip_val": 1.0},
        },
    )
    assert config.image == "motorcycle_left" and config.fit.steps == 600
    assert list(config.distortion.parts) == ["rigid", "blur"]
    assert config.distortion.settings.rigid.weight == 3 and config.prior.edge_threshold == 0.5
    assert config.trainer.gradient_clip_val == 1.0 and config.trainer.devices == 1


@pytest.mark.parametrize(
    "text",
    ["a${b}, (1).jpg", "${fit.steps}", "2024_11_29", "null", "?" * 3, "été 'x' \"y\""],
)
def test_texts_are_taken_literally(tmp_path, text):
    config = compose_settings("x", {"name": text, "output": tmp_path / text})
    assert config.name == text and config.output == str(tmp_path / text)
    assert OmegaConf.to_container(config, resolve=True)["name"] == text


@pytest.mark.parametrize(("settings", "arguments"), WRONG)
def test_errors_have_the_message_of_the_command_line(tmp_path, settings, arguments):
    with pytest.raises(ComponentError) as error:
        lift.run("coffee", output=tmp_path / "out", **settings)
    done = here("run", "image=coffee", *arguments, f"output={tmp_path / 'out'}", cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.startswith("lift: ")
    assert format_error(error.value) in done.stderr
    assert not list(tmp_path.iterdir()), "an error writes no files"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fitt": 3}, "fitt is not a setting; did you mean fit?"),
        ({"prior": 3}, "prior is 3; give the name of a component, or a dictionary of settings"),
        ({"prior": None}, "prior is None; give the name"),
        ({"prior": "a,b"}, "prior is 'a,b'; choose one of"),
        ({"experiment": 3}, "experiment is 3; give the name of a file"),
        ({"fit": 3}, "fit is 3; give the name of a file, or a dictionary of settings"),
        ({"fit": "fast"}, "fit is 'fast', but it is a group of settings"),
        ({"fit": {"steps": object()}}, "steps"),
    ],
)
def test_values_of_a_wrong_kind_are_named(settings, message):
    with pytest.raises(ValueError, match=message.replace("?", r"\?")):
        lift.run("coffee", **settings)


def test_the_image_must_be_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="image is 'nowhere.jpg'; there is no such file"):
        lift.run("nowhere.jpg", output=tmp_path)
    with pytest.raises(ValueError, match="image is not set"):
        lift.run(output=tmp_path)


def test_no_state_of_hydra_is_left():
    compose_settings("coffee", {"experiment": "gpu"})
    assert not GlobalHydra.instance().is_initialized()


def test_it_works_within_a_program_that_uses_hydra():
    with initialize(version_base=None, config_path=None):
        assert compose_settings("coffee", {"fit.steps": 3}).fit.steps == 3
        assert compose(overrides=["+a=4"]).a == 4


def test_files_of_a_folder_of_ones_own(tmp_path):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\nfit:\n  steps: 17\n")
    (tmp_path / "fit").mkdir()
    (tmp_path / "fit" / "fast.yaml").write_text("steps: 18\nlog_every: 3\n")
    config = compose_settings("coffee", {"experiment": "mine"}, config_dir=tmp_path)
    assert config.fit.steps == 17
    config = compose_settings("coffee", {"fit": "fast", "fit.steps": 5}, config_dir=tmp_path)
    assert config.fit.steps == 5 and config.fit.log_every == 3


def test_several_devices_need_importable_components():
    if cpu_cores() < 2:
        pytest.skip("one core")
    namespace: dict = {"__name__": "__main__", "Distortion": Distortion}
    exec("class Mine(Distortion):\n    '''Learn nothing.'''\n", namespace)
    distortions.register("mine")(namespace["Mine"])
    try:
        with pytest.raises(ComponentError, match="'mine' is defined in __main__, which other"):
            lift.run("coffee", trainer={"devices": 2}, distortion="mine")
    finally:
        catalogue().entries["distortion"].pop("mine")


@pytest.mark.slow
def test_several_devices_fit_one_scene(tmp_path):
    if cpu_cores() < 2:
        pytest.skip("one core")
    name = "a, ${b}' é"  # taken literally by both processes
    scene = lift.run("coffee", name=name, trainer={"devices": 2}, **tiny_settings(tmp_path))
    assert scene.folder.name == name
    assert scene.provenance["processes"] == 2 and scene.metrics["input_psnr"] > 15
    assert Path.cwd() not in scene.folder.parents
