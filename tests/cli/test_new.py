"""`lift new` writes components that pass their test and `lift check` at once."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lift.cli.new import class_name
from lift.contracts import contract_checks
from lift.registry import ALL_SLOTS, PLUGIN_GROUP
from tests.helpers.commands import here, lift

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a component of each slot."""
    folder = tmp_path_factory.mktemp("components")
    for slot in ALL_SLOTS:
        done = here("new", slot, f"my_{slot}", "--to", str(folder / "own"), cwd=folder)
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[:2] == [
            str(folder / f"own/my_{slot}.py"),
            str(folder / f"own/test_my_{slot}.py"),
        ]
        assert f"lift check {folder}/own/my_{slot}.py" in done.stdout
    return folder / "own"


def test_new_components_pass_their_tests(written: Path):
    """The tests run as those of a user, without the checks of types that lift's tests have."""
    tested = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(written)],
        cwd=written,
        capture_output=True,
        text=True,
    )
    assert tested.returncode == 0, tested.stdout
    count = sum(len(contract_checks(slot)) for slot in ALL_SLOTS)
    passed = int(tested.stdout.rpartition(" passed")[0].rpartition("\n")[2].split()[-1])
    assert passed > count


@pytest.mark.parametrize("slot", ALL_SLOTS)
def test_new_tests_say_which_of_them_stays(written: Path, slot: str):
    tree = ast.parse((written / f"test_my_{slot}.py").read_text(encoding="utf-8"))
    assert "Keep `test_it_keeps_the_contract`" in (ast.get_docstring(tree) or "")
    names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    assert "test_it_keeps_the_contract" in names


@pytest.mark.parametrize("slot", ALL_SLOTS)
def test_new_components_have_no_name_of_the_template(written: Path, slot: str):
    for file in (f"my_{slot}.py", f"test_my_{slot}.py"):
        text = (written / file).read_text(encoding="utf-8")
        assert f"new_{slot}" not in text and "lift.templates" not in text
        assert f"New{slot.title()}" not in text
    tree = ast.parse((written / f"my_{slot}.py").read_text(encoding="utf-8"))
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    assert [node.name for node in classes] == [f"My{slot.title()}"]
    assert all(ast.get_docstring(node) for node in classes)


def test_new_components_are_listed_as_plugins(written: Path):
    names = ",".join(f"my_{slot}" for slot in ALL_SLOTS)
    done = lift("list", cwd=written, LIFT_PLUGINS=names)
    for slot in ALL_SLOTS:
        assert f"  my_{slot} " in done.stdout
    assert "broken" not in done.stdout
    shown = lift("show", "prior", "my_prior", cwd=written, LIFT_PLUGINS=names).stdout
    assert "Distance of the plane in units of the scene's typical depth" in shown


def test_no_file_is_overwritten(tmp_path: Path):
    (tmp_path / "test_mine.py").write_text("mine")
    done = here("new", "prior", "mine", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == (
        "lift: test_mine.py would be overwritten; choose another name or --to FOLDER\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["test_mine.py"]
    assert (tmp_path / "test_mine.py").read_text() == "mine"


@pytest.mark.parametrize(
    ("slot", "name", "message"),
    [
        ("plan", "mine", "there is no slot 'plan'; choose one of planner, prior, depth, pose"),
        ("planner", "orbit", "planner 'orbit' is already lift.planners.orbit.Orbit; taken are art"),
        ("planner", "my-own", "the name is 'my-own'; choose a lower-case letter, followed by"),
        ("planner", "Mine", "the name is 'Mine'; choose a lower-case letter"),
        ("planner", "class", "the name is 'class'; choose a lower-case letter"),
        ("planner", "random", "the name is 'random', but Python has a module 'random' already"),
        ("planner", "torch", "the name is 'torch', but Python has a module 'torch' already"),
    ],
)
def test_a_wrong_name_ends_with_one_line(tmp_path: Path, slot: str, name: str, message: str):
    done = here("new", slot, name, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(f"lift: {message}") and done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_class_does_not_hide_what_its_module_needs():
    assert class_name("planner", "side_step") == "SideStep"
    assert class_name("planner", "planner") == "PlannerPlanner"
    assert class_name("prior", "frames") == "FramesPrior"


@pytest.mark.parametrize("slot", ALL_SLOTS)
def test_a_package_has_an_entry_point(tmp_path: Path, slot: str):
    done = here("new", slot, "mine", "--package", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    project = (tmp_path / "lift-mine/pyproject.toml").read_text(encoding="utf-8")
    assert f'[project.entry-points."{PLUGIN_GROUP}"]\nmine = "lift_mine.mine"\n' in project
    checked = lift("check", "lift_mine.mine", cwd=tmp_path / "lift-mine")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"{slot} mine   lift_mine.mine.Mine" in checked.stdout


@pytest.mark.slow
def test_an_installed_package_is_found(tmp_path: Path):
    assert here("new", "distortion", "mine", "--package", cwd=tmp_path).returncode == 0
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-build-isolation"]
    command += ["--no-index", "--target", str(tmp_path / "site"), str(tmp_path / "lift-mine")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    path = os.pathsep.join([str(tmp_path / "site"), str(Path(__file__).parents[2])])
    listed = lift("list", "distortion", cwd=tmp_path, PYTHONPATH=path)
    assert "  mine " in listed.stdout and "(lift_mine.mine)" in listed.stdout
    shown = lift("show", "experiment", "mine", cwd=tmp_path, PYTHONPATH=path)
    assert "distortion" in shown.stdout and "composed -> mine" in shown.stdout, shown.stderr
