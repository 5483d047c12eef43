"""Child processes import nothing from the current folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lift.cli import doctor
from lift.runtime import child_process
from lift.runtime.child_process import code_command, inherited_path, module_command
from tests.helpers.hostile import imported, make_hostile_folder

PACKAGE = Path(child_process.__file__).parents[1]


@pytest.fixture
def hostile(tmp_path, monkeypatch):
    monkeypatch.chdir(make_hostile_folder(tmp_path / "here"))
    return tmp_path / "here"


def run(command: list[str], **environment: str) -> subprocess.CompletedProcess:
    env = {**os.environ, **environment}
    return subprocess.run(command, capture_output=True, text=True, env=env)


def test_code_in_a_child_ignores_the_current_folder(hostile):
    done = run(code_command("import json, runpy, sys; print(json.dumps(sys.argv[1:]))", ["a", ""]))
    assert (done.returncode, done.stdout.strip()) == (0, '["a", ""]')
    assert imported(hostile) == ""


def test_a_module_in_a_child_ignores_the_current_folder(hostile):
    done = run(module_command("lift", ["--version"]))
    assert done.returncode == 0 and done.stdout.startswith("lift "), done.stderr
    assert imported(hostile) == ""


def test_the_first_statements_suffice_without_safe_path(hostile):
    """Python 3.10 has no option -P."""
    command = [word for word in module_command("lift", ["--version"]) if word != "-P"]
    assert run(command).returncode == 0
    assert imported(hostile) == ""


def test_trials_of_the_doctor_ignore_the_current_folder(hostile):
    works, text = doctor._try("import json, numpy\nprint(json.__file__, numpy.__file__)")
    assert works and str(hostile) not in text
    assert imported(hostile) == ""


def test_folders_that_are_named_are_handed_over(hostile, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", ["", str(tmp_path / "mine"), *sys.path])
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "my_module.py").write_text("print('found')")
    assert "" not in inherited_path()
    assert run(code_command("import my_module")).stdout == "found\n"


def test_a_parent_by_python_m_hands_over_no_current_folder(tmp_path):
    """`python -m` runs `./json.py` by Python's own rule, its children do not."""
    (tmp_path / "parent.py").write_text(
        "import subprocess\nfrom lift.runtime.child_process import code_command\n"
        "subprocess.run(code_command('import my_other'))\n"
    )
    (tmp_path / "my_other.py").write_text("print('imported')")
    command = [sys.executable, "-m", "parent"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert "No module named 'my_other'" in done.stderr and done.stdout == ""
    path = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=path)
    assert done.stdout == "imported\n"


def test_lift_is_found_if_only_the_current_folder_has_it(tmp_path, monkeypatch):
    monkeypatch.chdir(PACKAGE.parent)
    monkeypatch.setattr(sys, "path", [e for e in sys.path if e and Path(e) != PACKAGE.parent])
    assert inherited_path()[-1] == str(PACKAGE.parent)


def test_no_other_module_starts_python():
    users = {
        str(file.relative_to(PACKAGE))
        for file in PACKAGE.rglob("*.py")
        if "sys.executable" in file.read_text(encoding="utf-8")
    }
    assert users == {"runtime/child_process.py", "cli/doctor.py"}  # the doctor prints it


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ["doctor"],
        ["list"],
        ["run", "image=coffee", "fit.steps=3", "preprocess.size=64", "trainer.devices=2"],
    ],
    ids=["doctor", "list", "two-processes"],
)
def test_no_command_imports_from_the_current_folder(hostile, tmp_path, arguments):
    """As the program `lift` does it: Python puts the folder of the program first."""
    program = tmp_path / "bin" / "lift"
    program.parent.mkdir()
    program.write_text("from lift.cli import main\nraise SystemExit(main())\n")
    done = run([sys.executable, str(program), *arguments], OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    assert imported(hostile) == ""


@pytest.mark.slow
def test_compiling_ahead_ignores_the_current_folder(hostile):
    from lift.runtime import compile_ahead

    done = run(code_command(compile_ahead._CODE))
    assert done.returncode == 0, done.stderr
    assert imported(hostile) == ""
