"""What a command imports before its work begins. Heavy packages would double its time."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.settings import TINY

LIGHTNING = ("pytorch_lightning", "torchmetrics", "torch._dynamo", "sympy", "triton")
MODELS = ("diffusers", "transformers", "onnxruntime", "pycolmap", "gsplat", "viser")
TOOLS = ("matplotlib", "scipy.signal", "scipy.stats", "tensorboard", "wandb", "skimage", "pytest")
HEAVY = (*LIGHTNING, *MODELS, *TOOLS)
"""Packages that no command needs before a stage that uses them."""

ARRAYS = ("torch", "numpy", "numba", "cv2", "PIL")
"""Packages that a command without a picture needs not at all."""

COMPOSITION = ("hydra", "omegaconf", "yaml")
"""Packages that a command without settings needs not at all."""

STOPPED = "the first stage has begun"

STOP = f"""
import lift.depths.lite

def stop(*arguments):
    raise ValueError({STOPPED!r})

lift.depths.lite.Lite.__call__ = stop
"""
"""Code that ends a run when its first stage begins."""


def imported(folder: Path, *arguments: str, before: str = "") -> set[str]:
    """Run a command in a fresh interpreter, and return the names of the modules that it imports.

    Args:
        folder: Folder to run in.
        *arguments: Arguments of `lift`.
        before: Code that runs before the command.
    """
    code = (
        f"import sys\n{before}\nfrom lift.cli import main\n"
        f"try:\n    main({list(arguments)})\nexcept SystemExit:\n    pass\n"
        "print('', *sys.modules, sep='\\n')"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    assert bool(before) == (STOPPED in done.stderr), done.stderr
    return set(done.stdout.splitlines())


def test_help_imports_no_hydra(tmp_path: Path) -> None:
    assert not imported(tmp_path, "--help") & {*HEAVY, *ARRAYS, *COMPOSITION}


@pytest.mark.parametrize(
    "arguments",
    [
        ("list",),
        ("show", "depth", "lite"),
        ("show", "fit"),
        ("run", "image=picture.png", "--cfg", "job"),
        ("run", "image=picture.png", "prior=viewcrafter", "--cfg", "job"),
        ("run", "image=picture.png", "fit.stps=1"),
    ],
)
def test_settings_are_composed_without_torch(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    assert not imported(tmp_path, *arguments) & {*HEAVY, *ARRAYS}


def test_a_plan_imports_no_lightning(tmp_path: Path) -> None:
    modules = imported(tmp_path, "run", "image=coffee", *TINY, "--plan")
    assert "torch" in modules and not modules & set(HEAVY)


def test_the_first_stage_begins_without_lightning(tmp_path: Path) -> None:
    modules = imported(tmp_path, "run", "image=coffee", *TINY, before=STOP)
    assert "lift.pipeline" in modules and not modules & set(HEAVY)


def test_a_fit_that_is_cached_imports_no_lightning(finished_run: Path) -> None:
    output = finished_run.parents[1]
    settings = (*TINY, "export.formats=[ply,spz]", "redeliver=true", f"output={output}")
    modules = imported(output, "run", "image=coffee", *settings)
    assert "lift.outputs.delivery" in modules and not modules & set(LIGHTNING)
