"""A scene is shown where the user is."""

import sys
from types import ModuleType, SimpleNamespace

import pytest

import lift
from lift.api import display


@pytest.fixture
def notebook(monkeypatch):
    """What `IPython.display.display` receives, in a process that looks like a notebook."""
    shown = []
    ipython = ModuleType("IPython")
    ipython.get_ipython = lambda: SimpleNamespace(kernel=object())
    module = ModuleType("IPython.display")
    module.Video = lambda path, **options: (path, options)
    module.display = shown.append
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    return shown


@pytest.mark.slow
def test_a_notebook_plays_the_fly_through(notebook, finished_run):
    lift.load(finished_run).show()
    ((path, options),) = notebook
    assert path == str(finished_run / "video.mp4") and options["embed"]


def test_a_terminal_of_ipython_is_no_notebook(notebook, monkeypatch):
    monkeypatch.setattr(sys.modules["IPython"], "get_ipython", lambda: SimpleNamespace())
    assert not display.in_notebook()


def test_elsewhere_the_viewer_serves_the_scene(finished_run, monkeypatch):
    served = []
    monkeypatch.setattr(display, "find_spec", lambda name: object())
    monkeypatch.setattr("lift.outputs.viewer.serve", lambda *arguments: served.append(arguments))
    lift.load(finished_run).show(port=0)
    ((content, port, *_),) = served
    assert port == 0 and content.run.folder == finished_run
    assert len(content.gaussians.means) == len(lift.load(finished_run).gaussians.means)


def test_without_either_the_error_says_what_to_install(finished_run, monkeypatch):
    monkeypatch.setattr(display, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install notebook.*lift\[viewer\].*video\.mp4"):
        lift.load(finished_run).show()
