"""The examples run as they are."""

import json
import re
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

import lift
from tests.helpers.commands import start_python
from tests.helpers.notebook import run_notebook

EXAMPLES = Path(__file__).parents[2] / "examples"
NOTEBOOK = EXAMPLES / "own_distortion.ipynb"


def run_example(name: str, cwd: Path) -> subprocess.CompletedProcess:
    done = start_python(str(EXAMPLES / name), cwd=cwd).finish()
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def notebook_folder(tmp_path_factory) -> Path:
    """Where the notebook runs. Its second run finds the fits of the first."""
    return tmp_path_factory.mktemp("notebook")


def test_every_example_is_tested():
    tested = Path(__file__).read_text(encoding="utf-8")
    names = [path.name for path in EXAMPLES.iterdir() if path.suffix in (".py", ".ipynb")]
    assert len(names) == 3 and all(f'"{name}"' in tested for name in names)


@pytest.mark.slow
def test_run_and_render(tmp_path):
    lines = run_example("run_and_render.py", tmp_path).stdout.splitlines()
    folders = re.findall(r"^<lift.Scene '(.+?)'", "\n".join(lines), re.M)
    scene, longer = (lift.load(tmp_path / folder) for folder in folders)
    assert (scene.folder / "from_the_right.png").is_file()
    assert longer.metrics["input_psnr"] > scene.metrics["input_psnr"]
    assert (tmp_path / lines[-1]).stat().st_size > 1000 and lines[-1].endswith("scene.spz")
    assert any(re.fullmatch(r"\d+% of the view is covered", line) for line in lines)


@pytest.mark.slow
def test_loop_over_priors(tmp_path):
    lines = run_example("loop_over_priors.py", tmp_path).stdout.splitlines()
    assert len(lines) == 5
    rows = [line.strip("| ").split(" | ") for line in lines[2:]]
    assert [row[0] for row in rows] == ["warp", "synthetic, correct", "synthetic, corrupted"]
    true_views = [float(row[2].removesuffix(" dB")) for row in rows]
    assert true_views[1] > true_views[2] > 20 and true_views[1] > true_views[0]


@pytest.mark.slow
def test_own_distortion(notebook_folder):
    done = run_notebook(NOTEBOOK, notebook_folder)
    assert done.returncode == 0, done.stderr
    identity, gain = (
        float(value) for value in re.findall(r"^\w+: ([\d.]+) dB$", done.stdout, re.M)
    )
    assert gain > identity + 0.3
    assert "torch.Size([128, 384, 3])" in done.stdout
    repeated = run_notebook(NOTEBOOK, notebook_folder)
    assert repeated.stderr.count("finished before") == 2, "another session has the same key"


@pytest.mark.slow
@pytest.mark.skipif(
    not find_spec("nbclient") or not find_spec("ipykernel"), reason="no nbclient or ipykernel"
)
def test_own_distortion_in_jupyter(notebook_folder):
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, resources={"metadata": {"path": str(notebook_folder)}}).execute()
    assert list(notebook_folder.glob("outputs/room/synthetic-gain-*/gaussians.ply"))


def test_the_notebook_is_saved_without_results():
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert all(not cell.get("outputs") and not cell.get("execution_count") for cell in cells)
