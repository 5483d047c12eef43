"""The planners of docs/extending/planner.md do what the page says."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
import torch

from lift.geometry import pinhole
from lift.planners import planners
from lift.registry import catalogue
from lift.types import Depth, Trajectory

PAGE = Path(__file__).parents[2] / "docs/extending/planner.md"
CAMERA = pinhole(64, 48, 60.0)
DEPTH = Depth(torch.full((48, 64), 5.0), torch.ones(48, 64, dtype=torch.bool), "scale")


@pytest.fixture
def examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, ModuleType]:
    """The modules of the page. Their planners are registered for one test."""
    entries = catalogue().entries
    monkeypatch.setitem(entries, "planner", dict(entries["planner"]))
    text = PAGE.read_text(encoding="utf-8")
    modules = {}
    for name, code in re.findall(r"`(\w+)\.py`:\n\n```python\n(.*?)^```", text, re.M | re.S):
        (tmp_path / f"{name}.py").write_text(code, encoding="utf-8")
        spec = importlib.util.spec_from_file_location(name, tmp_path / f"{name}.py")
        assert spec and spec.loader
        modules[name] = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(__import__("sys").modules, name, modules[name])
        spec.loader.exec_module(modules[name])
    return modules


def plan(clip_length: int | None, **settings: object) -> Trajectory:
    return planners.build({"name": "branches", **settings})(CAMERA, DEPTH, clip_length)


def test_the_page_has_a_single_clip_and_a_tree(examples: dict[str, ModuleType]) -> None:
    assert list(examples) == ["slide", "branches"]
    assert len(planners.build({"name": "slide"})(CAMERA, DEPTH, None).clips) == 1


@pytest.mark.usefixtures("examples")
def test_the_chained_example_continues_the_ends_of_its_parents() -> None:
    trajectory = plan(3)
    names = [clip.name for clip in trajectory.clips]
    assert names == ["right", "up", "right/right", "right/up", "up/right", "up/up"]
    last = {name: span[-1] for name, span in zip(names, trajectory.spans, strict=True)}
    for clip in trajectory.clips:
        parent = clip.name.rpartition("/")[0]
        assert clip.source == (last[parent] if parent else 0)


@pytest.mark.usefixtures("examples")
def test_the_chained_example_moves_by_equal_steps() -> None:
    trajectory = plan(4, levels=3, distance=0.2)
    centers = trajectory.cameras.centers
    assert len(trajectory.clips) == 2 + 4 + 8
    for clip, span in zip(trajectory.clips, trajectory.spans, strict=True):
        path = torch.cat([centers[[clip.source]], centers[list(span)]])
        lengths = path.diff(dim=0).norm(dim=-1)
        torch.testing.assert_close(lengths, torch.full((4,), 0.2 * DEPTH.typical / 4))
    right = centers[trajectory.spans[0][-1]]
    torch.testing.assert_close(right, torch.tensor([1.0, 0.0, 0.0]))
    assert float(centers[trajectory.spans[1][-1]][1]) < 0  # y is down


@pytest.mark.usefixtures("examples")
def test_a_value_out_of_range_ends_with_the_line_of_the_page() -> None:
    text = (PAGE.parent / "index.md").read_text(encoding="utf-8")
    with pytest.raises(ValueError) as error:
        plan(None, levels=9)
    assert str(error.value) == "planner.levels is 9; choose 1 to 4"
    assert f"`{error.value}`" in text
