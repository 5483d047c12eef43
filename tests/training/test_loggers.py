"""Curves and pictures go to the chosen loggers, and a killed fit continues them."""

import csv
import json
import sys
from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image
from pytorch_lightning.loggers import Logger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lift.registry import ComponentError
from lift.training.fit import fit
from lift.training.loggers import LogSettings, check_loggers
from lift.training.module import SceneModule
from tests.helpers import fake_wandb
from tests.helpers.fits import SIZE, KilledError, module, settings

CPU = {"accelerator": "cpu", "devices": 1}
CURVES = {"loss", "l1", "dssim", "psnr", "gaussians", "val/input_psnr", "val/held_out_psnr"}
CONFIG = {"fit": {"steps": 10, "loss": None}, "callbacks": [{"_target_": "a.B"}]}
BUILT_IN = ("tensorboard", "csv", "wandb")


@pytest.fixture
def wandb(monkeypatch):
    return fake_wandb.install(monkeypatch)


def run(folder: Path, *loggers, die_at: int | None = None, **changes) -> SceneModule:
    """Fit with loggers; `die_at` is the step before which the fit is killed."""
    how = settings(steps=10, log_every=2, **changes)
    fitted = module(how)
    step = fitted.optimise

    def optimise(views):
        if fitted.step == die_at:
            raise KilledError
        return step(views)

    fitted.optimise = optimise
    logs = LogSettings(loggers, {"project": "p", "tags": ["a"]}, "ball", CONFIG)
    fit(fitted, [1, 2, 3], folder, how, CPU, 0, logs=logs)
    return fitted


def table(folder: Path) -> list[dict]:
    with (folder / "csv" / "metrics.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def table_steps(folder: Path, name: str) -> list[int]:
    return [int(row["step"]) for row in table(folder) if row[name]]


def events(folder: Path) -> EventAccumulator:
    read = EventAccumulator(str(folder / "tensorboard"))
    read.Reload()
    return read


def event_steps(folder: Path, name: str) -> list[int]:
    return [event.step for event in events(folder).Scalars(name)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A fit with all loggers: its folder, the scene and the run of W&B."""
    folder = tmp_path_factory.mktemp("fit")
    with pytest.MonkeyPatch.context() as patch:
        wandb = fake_wandb.install(patch)
        fitted = run(folder, *BUILT_IN, log_images_every=4)
        assert wandb.logins
        (made,) = wandb.runs
    return folder, fitted, made


def test_tensorboard_has_curves_and_pictures(finished):
    folder, _, _ = finished
    tags = events(folder).Tags()
    assert set(tags["scalars"]) >= CURVES
    assert set(tags["images"]) == {"view_0", "view_2"}
    assert event_steps(folder, "loss") == [2, 4, 6, 8, 10]
    assert "steps: 10" in (folder / "tensorboard" / "hparams.yaml").read_text()


def test_the_table_has_curves_and_pictures(finished):
    folder, _, _ = finished
    assert set(table(folder)[0]) >= CURVES
    assert table_steps(folder, "loss") == [2, 4, 6, 8, 10]
    assert table_steps(folder, "val/held_out_psnr")[-1] == 10
    assert {path.stem[:6] for path in (folder / "csv" / "images").iterdir()} == {"view_0", "view_2"}
    assert "steps: 10" in (folder / "csv" / "hparams.yaml").read_text()


def test_wandb_has_curves_and_pictures(finished):
    folder, _, made = finished
    assert made.arguments["project"] == "p" and made.arguments["tags"] == ["a"]
    assert made.arguments["name"] == "ball" and made.arguments["dir"] == str(folder)
    assert set().union(*made.rows) >= CURVES | {"view_0", "view_2"}
    assert made.steps("loss") == [2, 4, 6, 8, 10]
    (picture,) = next(row["view_2"] for row in made.rows if "view_2" in row)
    assert picture.shape == (SIZE, 2 * SIZE, 3)
    assert made.config["fit"]["steps"] == 10
    assert made.exit_code == 0


def test_several_loggers_have_the_same_points(finished):
    folder, _, made = finished
    for name in ("psnr", "val/input_psnr"):
        assert table_steps(folder, name) == event_steps(folder, name) == made.steps(name)


def test_pictures_are_logged_at_intervals_and_at_the_end(finished):
    folder, _, made = finished
    assert [event.step for event in events(folder).Images("view_0")] == [4, 8, 10]
    assert made.steps("view_2") == [4, 8, 10]
    names = sorted(path.stem for path in (folder / "csv" / "images").glob("view_2*"))
    assert names == ["view_2_000004", "view_2_000008", "view_2_000010"]


def test_a_picture_is_the_frame_beside_its_render(finished):
    folder, fitted, _ = finished
    picture = numpy.array(Image.open(folder / "csv" / "images" / "view_2_000010.png"))
    assert picture.shape == (SIZE, 2 * SIZE, 3)
    assert (picture[:, :SIZE] == fitted.images[2].numpy()).all()
    cameras = fitted.cameras(torch.tensor([2]))
    render = fitted.renderer(fitted.splats.gaussians(), cameras).rgb[0].detach()
    assert numpy.abs(picture[:, SIZE:] - render.clamp(0, 1).numpy() * 255).max() <= 1


def test_no_logger_writes_nothing_and_the_result_is_the_same(tmp_path, finished):
    _, expected, _ = finished
    fitted = run(tmp_path)
    written = {path.name for path in tmp_path.iterdir()}
    assert written == {"checkpoint.ckpt", "split.json", "tensors.safetensors", "value.json"}
    for name, value in expected.state_dict().items():
        assert value.equal(fitted.state_dict()[name]), name


@pytest.mark.slow
def test_real_wandb_logs_offline(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    run(tmp_path, "wandb")
    (log,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    content = log.read_bytes()
    assert b"val/held_out_psnr" in content and b"ball" in content
    assert len(list(tmp_path.glob("wandb/offline-run-*/files/media/images/*.png"))) == 2
    assert not [path for path in tmp_path.rglob("*") if path.is_symlink()]
    assert json.loads((tmp_path / "logs.json").read_text())["wandb"]["mode"] == "offline"


@pytest.mark.parametrize(("at", "checkpoint"), [(3, 0), (9, 5)])
def test_a_killed_fit_continues_its_logs(tmp_path, wandb, at, checkpoint):
    """The killed fit has logged a step that comes after its checkpoint."""
    with pytest.raises(KilledError):
        run(tmp_path, *BUILT_IN, die_at=at)
    assert wandb.runs[0].exit_code == 1
    run(tmp_path, *BUILT_IN)
    assert table_steps(tmp_path, "loss") == [2, 4, 6, 8, 10]
    assert event_steps(tmp_path, "loss") == [2, 4, 6, 8, 10]
    killed, resumed = wandb.runs
    assert killed.id == resumed.id and resumed.arguments["resume"] == "allow"
    assert resumed.steps("loss") == [step for step in (2, 4, 6, 8, 10) if step > checkpoint]


def test_a_logger_that_is_new_to_a_killed_fit_is_recorded(tmp_path):
    with pytest.raises(KilledError):
        run(tmp_path, "tensorboard", die_at=7)
    run(tmp_path, "tensorboard", "csv")
    record = json.loads((tmp_path / "logs.json").read_text())
    assert record == {"tensorboard": {"start": 0}, "csv": {"start": 5}}
    assert table_steps(tmp_path, "loss") == [6, 8, 10]


def test_a_run_of_the_user_stays_open(tmp_path, wandb):
    own = wandb.init(id="mine")
    run(tmp_path, "wandb")
    assert wandb.runs == [own] and own.exit_code is None and wandb.run is own
    assert own.steps("loss") == [2, 4, 6, 8, 10] and wandb.logins == 0


def test_the_name_of_the_run_can_be_set(tmp_path, wandb):
    how = settings(steps=1)
    logs = LogSettings(
        ("wandb",), {"name": "mine", "options": {"job_type": "x", "settings": {"quiet": False}}}
    )
    fit(module(how), [1, 2, 3], tmp_path, how, CPU, 0, logs=logs)
    arguments = wandb.runs[0].arguments
    assert arguments["name"] == "mine" and arguments["job_type"] == "x"
    assert arguments["settings"] == {"quiet": False, "silent": False}


def test_a_missing_key_is_an_error_before_the_run(wandb):
    wandb.has_key = False
    with pytest.raises(ComponentError, match="No API key configured.*wandb.mode=offline needs no"):
        check_loggers(LogSettings(("wandb",)))
    check_loggers(LogSettings(("wandb",), {"mode": "offline"}))
    wandb.mode = "disabled"
    check_loggers(LogSettings(("wandb",)))


def test_a_run_that_cannot_begin_is_one_line(tmp_path, wandb, monkeypatch):
    def fail(**arguments):
        raise wandb.Error("the server does not answer")

    monkeypatch.setattr(wandb, "init", fail)
    with pytest.raises(ComponentError, match="the server does not answer.*wandb.mode=offline"):
        run(tmp_path, "wandb")


def test_wandb_that_is_not_installed_says_how(tmp_path, monkeypatch):
    """A folder `wandb` of earlier logs is no package."""
    (tmp_path / "wandb").mkdir()
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(ImportError, match=r"pip install 'lift\[wandb\]'"):
        check_loggers(LogSettings(("wandb",)))


class Recorder(Logger):
    """Another logger of Lightning's, found by its path."""

    made: list["Recorder"] = []

    def __init__(self, prefix: str) -> None:
        super().__init__()
        self.prefix, self.metrics, self.pictures, self.config = prefix, {}, {}, {}
        Recorder.made.append(self)

    name = version = "recorder"

    def log_metrics(self, metrics, step=None):
        self.metrics |= {f"{self.prefix}{key}": step for key in metrics}

    def log_hyperparams(self, params):
        self.config = params

    def log_image(self, key, images, step=None):
        self.pictures[key] = images[0].shape


def test_another_logger_is_built_from_its_path(tmp_path):
    path = f"{__name__}.Recorder"
    run(tmp_path, "csv", {"_target_": path, "prefix": "my/"})
    made = Recorder.made.pop()
    assert made.metrics["my/loss"] == 10 and made.config["fit"]["steps"] == 10
    assert made.pictures["view_2"] == (SIZE, 2 * SIZE, 3)
    assert json.loads((tmp_path / "logs.json").read_text())[path] == {"start": 0}
    with pytest.raises(ComponentError, match="missing a required argument: 'prefix'"):
        check_loggers(LogSettings(({"_target_": path},)))
    with pytest.raises(ComponentError, match="derive it from Logger of pytorch_lightning"):
        check_loggers(LogSettings(({"_target_": "pathlib.Path"},)))


@pytest.mark.parametrize("damage", ["not json", "[]", '{"csv": 1}'])
def test_a_damaged_record_or_table_does_not_stop_a_fit(tmp_path, damage):
    with pytest.raises(KilledError):
        run(tmp_path, "csv", die_at=5)
    (tmp_path / "logs.json").write_text(damage)
    (tmp_path / "csv" / "metrics.csv").write_bytes(b"\x00\xff,\n1,2")
    with pytest.warns(UserWarning, match="its curves begin anew"):
        run(tmp_path, "csv")
    assert json.loads((tmp_path / "logs.json").read_text())["csv"]["start"] == 5
    assert table_steps(tmp_path, "loss")[-1] == 10


def test_stray_files_and_folders_do_not_stop_a_fit(tmp_path):
    (tmp_path / "logs.json").mkdir()
    (tmp_path / "csv").write_text("")
    run(tmp_path, "csv")
    assert table_steps(tmp_path, "loss") and (tmp_path / "logs.json").is_file()
