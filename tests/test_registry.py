import importlib.metadata
import inspect
import subprocess
import sys
import textwrap
from dataclasses import fields
from pathlib import Path

import pytest

from lift import registry
from lift.planners import planners
from lift.registry import SLOTS, ComponentError, Registry, catalogue, discovery
from tests.helpers.commands import here, lift

EVERY = [(slot, name) for slot in SLOTS for name in catalogue().entries[slot]]


@pytest.mark.parametrize(("slot", "name"), EVERY)
def test_what_is_read_from_the_source_is_what_the_class_says(slot, name):
    entry = catalogue()(slot, name)
    component = sys.modules.get(entry.module) or __import__(entry.module, fromlist=[entry.qualname])
    component = getattr(component, entry.qualname)
    owners, actual = [component], {}
    for owner in component.__mro__[:-1]:
        if "__init__" in vars(owner):
            parameters = inspect.signature(owner.__init__, eval_str=True).parameters
            actual = {
                key: p
                for key, p in parameters.items()
                if p.kind is p.POSITIONAL_OR_KEYWORD and key != "self"
            } | actual
            owners += [owner] if owner is not component and actual else []
            if "shared" not in parameters:
                break
    assert set(entry.settings) == set(actual)
    for key, parameter in actual.items():
        assert (
            entry.settings[key].default == parameter.default
            and entry.settings[key].annotation == parameter.annotation
        )
    plain = registry.Entry(slot, name, "", "", "", None, {})
    for fact in (
        "licence",
        "requires",
        "extra",
        "cost_settings",
        "has_recorded_frames",
        "origin",
        "hints_recorded_frames",
        "control",
        "trained_size",
        "trained_sizes",
        "trained_frames",
        "weight_memory",
        "working_memory",
    ):
        assert getattr(entry, fact) == getattr(component, fact, getattr(plain, fact))
    assert (
        entry.summary
        and entry.doc == inspect.getdoc(component)
        and list(entry.base_docs) == [inspect.cleandoc(o.__doc__ or "") for o in owners[1:]]
    )


@pytest.mark.parametrize(("slot", "name"), EVERY)
def test_every_setting_is_explained(slot, name):
    entry = catalogue()(slot, name)
    assert [key for key in entry.settings if not entry.docstring.arguments.get(key)] == []


@pytest.mark.parametrize(("slot", "name"), EVERY)
def test_the_summary_is_one_sentence_that_fits_a_line(slot, name):
    summary = catalogue()(slot, name).summary
    assert summary.endswith(".") and len(summary) <= 100


def test_the_schema_carries_descriptions():
    schema = catalogue()("prior", "warp").schema
    described = {field.name: field.metadata.get("description") for field in fields(schema)}
    assert described.pop("name") is None
    assert described == catalogue()("prior", "warp").docstring.arguments


def test_show_prints_what_a_setting_means(tmp_path):
    shown = here("show", "distortion", "rigid", cwd=tmp_path)
    entry = catalogue()("distortion", "rigid")
    assert shown.returncode == 0 and entry.summary in shown.stdout
    text = " ".join(shown.stdout.split())
    assert all(entry.docstring.arguments[key] in text for key in entry.settings)


PLUGIN = """
from typing import Literal
from lift.distortions import Distortion, distortions

@distortions.register({name!r})
class Mine(Distortion):
    '''A plugin.'''
    def __init__(
        self,
        width: int = 3,
        kind: Literal["a", "b"] = "a",
        sizes: tuple[int, int] = (1, 2),
        path: str | None = None,
        *,
        num_views: int,
    ):
        super().__init__()
        self.got = (width, kind, sizes, path, num_views)
"""


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """An empty catalogue, and a folder that modules are found in."""
    for cached in (discovery.builtin_catalogue, discovery._load_plugins):
        cached.cache_clear()
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for cached in (discovery.builtin_catalogue, discovery._load_plugins):
        cached.cache_clear()


def test_a_plugin_is_found_and_built(fresh, monkeypatch):
    (fresh / "plugin_one.py").write_text(PLUGIN.format(name="mine"))
    monkeypatch.setenv("LIFT_PLUGINS", "plugin_one")
    assert catalogue()("distortion", "mine").module == "plugin_one"
    made = Registry("distortion").build(
        {"name": "mine", "width": 4, "sizes": [5, 6]}, num_views=9, extent=2.0
    )
    assert made.got == (4, "a", (5, 6), None, 9)
    for settings, message in [
        ({"kind": "c"}, "distortion.kind is 'c'; choose one of a, b"),
        ({"sizes": [1]}, "distortion.sizes is .1.; it takes 2 values"),
        (
            {"depth": 1},
            "distortion.depth is not a setting of 'mine'; it has width, kind, sizes, path",
        ),
    ]:
        with pytest.raises(ComponentError, match=message):
            Registry("distortion").build({"name": "mine", **settings}, num_views=9)
    with pytest.raises(ComponentError, match="asks for 'num_views'; the pipeline supplies extent"):
        Registry("distortion").build({"name": "mine"}, extent=2.0)


def test_a_plugin_is_found_by_its_entry_point(fresh, monkeypatch):
    (fresh / "plugin_two.py").write_text(PLUGIN.format(name="pointed"))
    point = importlib.metadata.EntryPoint("two", "plugin_two", registry.PLUGIN_GROUP)
    real = importlib.metadata.entry_points
    monkeypatch.setattr(
        importlib.metadata,
        "entry_points",
        lambda **kw: [point] if kw.get("group") == registry.PLUGIN_GROUP else real(**kw),
    )
    assert catalogue()("distortion", "pointed").summary == "A plugin."


def test_component_of_another_kind_is_rejected():
    with pytest.raises(
        ComponentError,
        match="planner 'odd' is Odd, which is no lift.planners.Planner; derive it from that",
    ):

        @planners.register("odd")
        class Odd:
            """Nothing."""


def test_a_broken_plugin_is_shown_and_breaks_nothing_else(tmp_path):
    (tmp_path / "broken_plugin.py").write_text("raise RuntimeError('no such luck')")
    listed = lift("list", cwd=tmp_path, LIFT_PLUGINS="broken_plugin")
    assert (
        listed.returncode == 0
        and "broken plugin broken_plugin: RuntimeError: no such luck" in listed.stdout
    )
    assert "rigid" in listed.stdout
    shown = lift("show", "distortion", "mine", cwd=tmp_path, LIFT_PLUGINS="broken_plugin")
    assert (
        shown.returncode == 2 and "no such luck" in shown.stderr and shown.stderr.count("\n") == 1
    )


def test_duplicate_name_is_rejected(fresh, monkeypatch):
    (fresh / "plugin_three.py").write_text(PLUGIN.format(name="rigid"))
    monkeypatch.setenv("LIFT_PLUGINS", "plugin_three")
    assert catalogue()("distortion", "rigid").module == "lift.distortions.rigid"
    assert "already lift.distortions.rigid.Rigid" in str(catalogue().broken["plugin_three"])


def test_an_edited_component_has_another_fingerprint(tmp_path):
    source = tmp_path / "mine.py"
    source.write_text("1")
    entry = registry.Entry("prior", "mine", "mine", "Mine", "doc", source, {})
    before = entry.fingerprint()
    source.write_text("2")
    assert entry.fingerprint() != before


def test_a_missing_package_is_named_with_what_installs_it():
    entry = registry.Entry(
        "depth", "x", "x", "X", "doc", None, {}, requires=("no_such_package",), extra="onnx"
    )
    with pytest.raises(
        ImportError,
        match=r"depth 'x' needs no_such_package, which is not installed: pip .* 'lift\[onnx\]'",
    ):
        entry.load()


def test_listing_and_showing_import_no_torch():
    script = textwrap.dedent("""
        import sys
        from lift.cli import main
        assert main(["list"]) == 0 and main(["show", "prior", "warp"]) == 0
        assert not {"torch", "numpy", "pytorch_lightning"} & set(sys.modules), "imported"
    """)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (
        all(f"\n{slot}\n" in "\n" + done.stdout for slot in SLOTS) and "prior warp" in done.stdout
    )


def test_names_of_what_generators_declare_mean_nothing_elsewhere(fresh, monkeypatch):
    (fresh / "plugin_own.py").write_text('''
from lift.priors import VideoPrior, priors

@priors.register("own")
class Own(VideoPrior):
    """A plugin."""
    @property
    def clip(self): return 3
    def size(self): return 4
    def __call__(self, frames, cameras, clip, seed): ...
''')
    monkeypatch.setenv("LIFT_PLUGINS", "plugin_own")
    entry = catalogue()("prior", "own")
    assert entry.trained_frames is None and entry.trained_size is None
    shown = lift("show", "prior", "own", cwd=fresh, LIFT_PLUGINS="plugin_own")
    assert shown.returncode == 0 and "A plugin." in shown.stdout


def test_a_path_setting_may_start_at_the_home_folder():
    checked = catalogue()("planner", "path").check({"path": "~/cameras.json"})
    assert checked["path"] == Path("~/cameras.json").expanduser()
