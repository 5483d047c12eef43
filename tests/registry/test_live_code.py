"""A class without a file gets a new cache key when its code changes, and only then."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest

from lift.distortions import Distortion
from lift.registry import catalogue
from lift.registry.live_code import code_fingerprint, defining_file

CELL = '''
from dataclasses import replace

import torch
from torch import nn

from lift.distortions import Distortion, distortions

SCALE = 2.0
TABLE = torch.tensor([1.0, 2.0])

def brighten(rgb):
    return rgb * SCALE * TABLE[0]

@distortions.register("live")
class Live(Distortion):
    """Learn nothing."""

    def __init__(self, learning_rate: float = 1e-2, *, num_views: int) -> None:
        super().__init__()
        self.learning_rate = learning_rate
        self.values = nn.Parameter(torch.zeros(num_views))

    @torch.no_grad()
    def image(self, render, view):
        return replace(render, rgb=brighten(render.rgb))

unrelated = 1
'''


@pytest.fixture(autouse=True)
def forget():
    yield
    catalogue().entries["distortion"].pop("live", None)


def fingerprint(cell: str) -> str:
    exec(compile(cell, "<cell>", "exec"), {"__name__": "__main__"})
    return catalogue()("distortion", "live").fingerprint()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("learning_rate = learning_rate", "learning_rate = 2 * learning_rate"),
        ("torch.zeros(num_views)", "torch.ones(num_views)"),
        ("rgb * SCALE", "rgb + SCALE"),
        ("SCALE = 2.0", "SCALE = 3.0"),
        ("[1.0, 2.0]", "[1.0, 3.0]"),
        ("= 1e-2", "= 1e-3"),
        ("(Distortion):", "(Distortion):\n    start = 0.5\n"),
        ("brighten(render.rgb)", "brighten(render.rgb, )[0:]"),
    ],
)
def test_code_values_and_helpers_count(old, new):
    assert old in CELL
    assert fingerprint(CELL.replace(old, new)) != fingerprint(CELL)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("unrelated = 1", "unrelated = 2"),
        ("Learn nothing.", "Learn something."),
        ("SCALE = 2.0", "\n\n# A comment.\nSCALE = 2.0"),
    ],
)
def test_comments_and_unrelated_cells_do_not_count(old, new):
    assert old in CELL
    assert fingerprint(CELL.replace(old, new)) == fingerprint(CELL)


def test_a_module_of_lift_counts(monkeypatch):
    before = fingerprint(CELL)
    monkeypatch.setattr("lift.registry.live_code.source_fingerprint", lambda file: "edited")
    assert catalogue()("distortion", "live").fingerprint() != before


def test_the_newest_definition_is_built():
    fingerprint(CELL)
    fingerprint(CELL.replace("learning_rate: float = 1e-2", "learning_rate: float = 3, n: int = 3"))
    entry = catalogue()("distortion", "live")
    assert list(entry.settings) == ["learning_rate", "n"]
    assert entry.load()(num_views=2).learning_rate == 3


def test_a_class_within_a_function_can_be_built():
    def make() -> type:
        class Local(Distortion):
            """Learn nothing."""

        return Local

    from lift.distortions import distortions

    local = distortions.register("live")(make())
    assert catalogue()("distortion", "live").load() is local
    assert defining_file(local) is not None


def test_recursive_values_are_described():
    values: list = []
    values.append(values)
    namespace = {"__name__": "__main__", "values": values, "replace": replace}
    exec("class Own:\n    def read(self):\n        return values, replace, Own", namespace)
    assert len(code_fingerprint(namespace["Own"])) == 12


@pytest.mark.slow
def test_sessions_agree(tmp_path):
    script = (
        f"exec({CELL!r})\n"
        "from lift.registry import catalogue\n"
        "print(catalogue()('distortion', 'live').fingerprint())"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1
