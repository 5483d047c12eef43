"""Plugins of `LIFT_PLUGINS`: files, broken ones, and names that are not known."""

import sys

import pytest

import lift
from lift.config import compose_eval, compose_run
from lift.registry import ComponentError, catalogue, discovery

PLUGIN = """
from lift.distortions.rigid import Rigid, distortions

@distortions.register({name!r})
class Mine(Rigid):
    '''A plugin.'''
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A current folder without plugins, and an empty catalogue."""
    cached = (discovery.builtin_catalogue, discovery._load_plugins)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delenv("LIFT_PLUGINS", raising=False)
    for function in cached:
        function.cache_clear()
    yield tmp_path
    for function in cached:
        function.cache_clear()
    for name in [name for name in sys.modules if name.startswith("ds_")]:
        del sys.modules[name]


@pytest.mark.parametrize("plugin", ["ds_mine.py", "./ds_mine.py", "{folder}/ds_mine.py", "ds_mine"])
def test_a_plugin_is_named_by_its_module_or_its_file(folder, monkeypatch, plugin):
    (folder / "ds_mine.py").write_text(PLUGIN.format(name="mine"))
    monkeypatch.setenv("LIFT_PLUGINS", plugin.format(folder=folder))
    assert catalogue()("distortion", "mine").module == "ds_mine"
    assert catalogue().broken == {}
    assert compose_run(["image=coffee", "distortion=mine"]).distortion.name == "mine"


TAKEN = (
    "LIFT_PLUGINS names 'ds_two.py', which is broken (ds_two.Mine registers distortion 'mine', "
    "which is already ds_one.Mine; register another name); correct it"
)


def test_a_taken_name_stops_a_run(folder, monkeypatch):
    for name in ("ds_one", "ds_two"):
        (folder / f"{name}.py").write_text(PLUGIN.format(name="mine"))
    monkeypatch.setenv("LIFT_PLUGINS", "ds_one.py, ds_two.py")
    for compose in (
        lambda: compose_run(["image=coffee", "distortion=mine"]),
        lambda: compose_run(["image=coffee", "distortion.no_such_setting=1"]),
        lambda: compose_eval(["dataset=ray_cast"]),
        lambda: lift.run("coffee", distortion="mine", output=folder),
    ):
        with pytest.raises(ComponentError) as error:
            compose()
        assert TAKEN in str(error.value)


@pytest.mark.parametrize(
    ("plugin", "reason"),
    [
        ("ds_bad.py", "the import of ds_bad.py fails: RuntimeError: no such luck"),
        ("ds_bad", "RuntimeError: no such luck"),
        ("ds_none.py", "there is no file 'ds_none.py'"),
        ("ds_none", "ModuleNotFoundError: No module named 'ds_none'"),
    ],
)
def test_a_plugin_that_fails_stops_a_run(folder, monkeypatch, plugin, reason):
    (folder / "ds_bad.py").write_text("raise RuntimeError('no such\\nluck')")
    monkeypatch.setenv("LIFT_PLUGINS", plugin)
    with pytest.raises(ComponentError) as error:
        compose_run(["image=coffee"])
    message = str(error.value)
    assert f"LIFT_PLUGINS names {plugin!r}, which is broken ({reason}" in message
    assert "\n" not in message


def test_a_file_that_is_not_read_is_named(folder, monkeypatch):
    (folder / "ds_mine.py").write_text(PLUGIN.format(name="mine"))
    (folder / "ds_one.py").write_text("")
    monkeypatch.setenv("LIFT_PLUGINS", "ds_one")
    with pytest.raises(ComponentError, match=r"set LIFT_PLUGINS=ds_one,ds_mine.py\)$"):
        compose_run(["image=coffee", "distortion=mine"])


def test_an_unknown_name_lists_sorted_choices(folder):
    with pytest.raises(ComponentError) as error:
        catalogue()("prior", "wrap")
    choices = str(error.value).partition("choose one of ")[2].partition(" (")[0].split(", ")
    assert choices == sorted(choices) and "warp" in choices
    assert str(error.value).endswith("(did you mean warp?)")
