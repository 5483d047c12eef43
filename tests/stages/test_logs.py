"""Loggers and callbacks of whole runs: what is delivered, what is found again, what is refused."""

import json
import sys
from pathlib import Path

import pytest

from lift.runtime.session import Session
from lift.stages.logs import tell_upload
from tests.helpers.commands import here
from tests.helpers.settings import TINY

pytestmark = pytest.mark.slow

CALLBACK = """
from pathlib import Path
from pytorch_lightning import Callback

class Count(Callback):
    def __init__(self, every=5):
        self.every = every
        self.steps = []

    def on_train_batch_end(self, trainer, module, *_):
        if module.step % self.every == 0:
            self.steps.append(str(module.step))

    def on_train_end(self, trainer, module):
        Path(trainer.default_root_dir, "steps.txt").write_text(" ".join(self.steps))
"""


@pytest.fixture
def start(finished_run, tmp_path, monkeypatch):
    """Start a run like `finished_run`, whose stages are found, in a folder with a callback."""
    (tmp_path / "count_steps.py").write_text(CALLBACK)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def run(*settings: str):
        sys.modules.pop("count_steps", None)
        output = finished_run.parents[1]
        return here("run", "image=coffee", *TINY, f"output={output}", *settings, cwd=tmp_path)

    yield run
    sys.modules.pop("count_steps", None)


def folder_of(run) -> Path:
    assert run.returncode == 0, run.stderr
    return Path(run.stdout.strip().split("\n")[-1])


def test_a_fit_that_is_found_delivers_its_logs(start):
    run = start("logger=[tensorboard,csv]", "name=found")
    folder = folder_of(run)
    assert is_fit_found(run)
    note = "the fit was found in the cache, so no curves were written to csv; remove "
    assert run.stderr.count(note) == 1 and "written to tensorboard" not in run.stderr
    assert any(line.startswith(note) for line in read_notes(folder))
    assert (folder / "tensorboard").is_dir() and not (folder / "csv").exists()
    without = start("logger=none", "name=found")
    assert folder_of(without) == folder and "no curves were written" not in without.stderr
    assert not (folder / "tensorboard").exists() and not (folder / "logs.json").exists()


def read_notes(folder: Path) -> list[str]:
    return json.loads((folder / "provenance.json").read_text())["notes"]


def test_logs_and_files_of_callbacks_are_delivered(start, tmp_path):
    settings = (
        "logger=csv",
        "callbacks=[{_target_: count_steps.Count, every: 10}]",
        "name=counted",
    )
    folder = folder_of(first := start(*settings))
    assert not is_fit_found(first)
    assert (folder / "callbacks" / "steps.txt").read_text() == "10 20 30"
    assert (folder / "csv" / "metrics.csv").is_file() and not (folder / "tensorboard").exists()
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert '<a href="csv">csv</a>' in page and "left no curves" not in page
    assert is_fit_found(start(*settings)), "the same callback, the same arguments and source"
    (tmp_path / "count_steps.py").write_text(CALLBACK.replace('" ".join', '"-".join'))
    folder = folder_of(edited := start(*settings))
    assert not is_fit_found(edited)
    assert (folder / "callbacks" / "steps.txt").read_text() == "10-20-30"


def is_fit_found(run) -> bool:
    line = next(line for line in run.stderr.split("\n") if line.startswith("fit  "))
    return line.endswith("found")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("callbacks=[nowhere.Count]", "callbacks names 'nowhere.Count', but there is no module"),
        ("callbacks=[count_steps.Cuont]", "'count_steps' has no 'Cuont'; did you mean Count?"),
        ("callbacks=[{_target_: count_steps.Count, n: 1}]", "unexpected keyword argument 'n'"),
        ("logger=[csv,nowhere.Logger]", "logger names 'nowhere.Logger', but there is no module"),
        ("logger=everything", "logger is 'everything'; choose one or several of tensorboard"),
        ("trainer.logger=csv", "trainer.logger cannot be set; use logger=tensorboard"),
    ],
)
def test_a_mistake_ends_the_run_before_its_first_stage(start, setting, message):
    run = start(setting)
    (line,) = run.stderr.strip().split("\n")
    assert run.returncode == 2 and line.startswith("lift: ") and message in line


class Listener(Session):
    """Keeps messages."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines

    def say(self, line: str) -> None:
        self.lines.append(line)


def test_the_command_that_uploads_curves_names_the_run_folder(tmp_path):
    lines: list[str] = []
    session = Listener(lines)
    tell_upload(session, tmp_path)
    assert lines == []
    (tmp_path / "wandb/offline-run-1").mkdir(parents=True)
    tell_upload(session, tmp_path)
    assert lines == [f"upload the curves: wandb sync {tmp_path}/wandb/offline-run-*"]
