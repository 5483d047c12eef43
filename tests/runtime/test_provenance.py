"""The record of a run names plugins, with their code, and experiments."""

import hashlib
import importlib
import json
import subprocess
import sys

import pytest
from hydra import compose, initialize_config_module

from lift.config import store_schemas
from lift.runtime.execution import join_run
from lift.runtime.provenance import plugin_components, run_choices, shell_command
from lift.runtime.session import Session

PLUGIN = """
from lift.distortions import Distortion, distortions


@distortions.register("recorded")
class Recorded(Distortion):
    "Learn nothing."
"""


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """A registered component in a file."""
    from lift.registry import catalogue

    file = tmp_path / "recorded_plugin.py"
    file.write_text(PLUGIN, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("recorded_plugin")
    yield file
    del catalogue().entries["distortion"]["recorded"]
    del sys.modules["recorded_plugin"]


def config(*settings: str):
    store_schemas()
    with initialize_config_module("lift.configs", version_base="1.3"):
        return compose("lift", ["image=room", *settings])


def test_a_plugin_is_recorded_with_its_file_and_hash(plugin, tmp_path, monkeypatch):
    monkeypatch.setenv("LIFT_PLUGINS", "recorded_plugin")
    session = Session(config("distortion=recorded", f"output={tmp_path}"))
    record = session.provenance()
    (name, description), *others = record["plugins"].items()
    assert not others and name == "distortion recorded"
    assert description["module"] == "recorded_plugin" and description["file"] == str(plugin)
    assert description["sha256"] == hashlib.sha256(plugin.read_bytes()).hexdigest()
    assert record["environment"] == {"LIFT_PLUGINS": "recorded_plugin"}


def test_parts_of_a_distortion_are_recorded_too(plugin):
    found = plugin_components(config("distortion.parts=[rigid,recorded]"), ["distortion"])
    assert list(found) == ["distortion recorded"]


def test_the_package_of_a_plugin_has_its_version(plugin, tmp_path, monkeypatch):
    package = tmp_path / "lift_recorded-1.2.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: lift-recorded\nVersion: 1.2\n")
    (package / "entry_points.txt").write_text("[lift.plugins]\nrecorded = recorded_plugin\n")
    session = Session(config("distortion=recorded", f"output={tmp_path}"))
    assert session.provenance()["packages"]["lift-recorded"] == "1.2"


def test_built_in_components_are_no_plugins():
    assert plugin_components(config(), ["prior", "distortion", "renderer"]) == {}


def test_a_command_begins_with_the_variable_of_plugins(monkeypatch):
    monkeypatch.delenv("LIFT_PLUGINS", raising=False)
    assert shell_command(["lift", "eval", "a b"]) == "lift eval 'a b'"
    monkeypatch.setenv("LIFT_PLUGINS", "mine, other")
    assert shell_command(["lift", "eval"]) == "LIFT_PLUGINS='mine, other' lift eval"


def test_names_given_in_python_are_recorded(tmp_path, monkeypatch):
    import lift

    recorded = []
    monkeypatch.setattr("lift.api.running.execute_run", lambda *_: recorded.append(choices()))
    with pytest.raises(AssertionError, match="the main process has the folder"):
        lift.run("room", experiment="laptop", prior="warp", output=str(tmp_path))
    assert recorded == [("experiment=laptop", "prior=warp")]
    assert choices() == ()


def choices() -> tuple[str, ...]:
    return run_choices.get()


def test_other_processes_of_a_run_record_them_too(tmp_path, monkeypatch):
    (tmp_path / "choices.json").write_text(json.dumps(["experiment=laptop"]))
    monkeypatch.setattr("lift.config.load_config", lambda file: config())
    monkeypatch.setattr("lift.runtime.execution._run_here", lambda *_: None)
    monkeypatch.setattr(sys, "argv", [])
    token = run_choices.set(())
    join_run(tmp_path / "config.yaml", ["script.py"])
    assert choices() == ("experiment=laptop",)
    run_choices.reset(token)


def test_the_module_imports_no_torch():
    code = "import sys, lift.runtime.execution; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
