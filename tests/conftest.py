"""What all tests share."""

import atexit
import gc
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

if (
    "PYTEST_XDIST_WORKER" in os.environ
):  # one of several processes: threads of each would wait for those of the others
    os.environ |= {
        "OMP_NUM_THREADS": "1",
        "NUMBA_NUM_THREADS": "1",
    }  # before torch or numba are there

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # processes that tests start compile `lift` once

import pytest
import torch
from safetensors.torch import load_file

if not torch.cuda.is_available():
    os.environ.setdefault(
        "TRITON_INTERPRET", "1"
    )  # before Triton sees a kernel: where it is installed, its interpreter runs them

pytest.register_assert_rewrite("tests.helpers")

pytest_plugins = ["tests.helpers.browser"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests that need a GPU where there is none, and let files of slow tests start first.

    Then several processes end at about the same time.
    """
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])  # the order within a file stays
    if torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason="no CUDA device")
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(skip)


_imported_modules = 0
"""Number of modules whose objects no search for garbage looks at."""


def _skip_imports() -> None:
    """Leave out the objects of imported modules in all later searches for garbage.

    There are a million of them. `lift` searches after each clip and each run, for 0.5 s.
    """
    global _imported_modules
    gc.freeze()
    _imported_modules = len(sys.modules)


def pytest_collection() -> None:
    """Import modules of tests without a search for garbage."""
    gc.disable()


def pytest_collection_finish() -> None:
    gc.enable()
    _skip_imports()
    atexit.register(gc.unfreeze)  # Triton reports what is left at the end as leaked


def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Leave out what tests of a file imported, such as diffusers, once they are over."""
    is_last = nextitem is None or nextitem.path != item.path
    if is_last and len(sys.modules) > _imported_modules + 100:
        gc.collect()
        _skip_imports()


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real photographs, scenes and network weights that do not travel with the project."""
    path = Path(os.environ.get("LIFT_SHARED", Path(__file__).parents[2] / "shared")).resolve()
    if not (path / "data").is_dir():
        pytest.skip(f"no shared data at LIFT_SHARED={path}")
    return path


@pytest.fixture
def cuda() -> torch.device:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return torch.device("cuda")


@pytest.fixture(params=[pytest.param("cuda", marks=pytest.mark.gpu), "cpu"])
def device(request) -> torch.device:
    """Where Triton's kernels run: on a GPU, or by its interpreter."""
    if (request.param == "cuda") != torch.cuda.is_available():
        pytest.skip(
            "needs CUDA" if request.param == "cuda" else "CUDA is there: the kernels run on it"
        )
    pytest.importorskip("triton", reason="Triton is not installed")
    return torch.device(request.param)


@pytest.fixture
def kept() -> Iterator[None]:
    """Networks are kept, as in a worker of a batch."""
    from lift.runtime.kept_networks import keep_networks

    keep_networks()
    yield
    keep_networks(False)


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory) -> Path:
    """The folder of a small finished run. Tests may start more runs beside it."""
    from tests.helpers.commands import lift
    from tests.helpers.settings import TINY

    folder = tmp_path_factory.mktemp("run")
    done = lift(
        "run", "image=coffee", *TINY, "export.formats=[ply,spz]", f"output={folder}", cwd=folder
    )
    assert done.returncode == 0, done.stderr
    run = Path(done.stdout.strip().split("\n")[-1])
    assert run.is_dir() and run.parent == folder / "coffee"
    assert re.search(r"^(POOR SCENE|Fair scene): .+ dB", done.stderr, re.MULTILINE), (
        "the verdict is printed"
    )
    return run


@pytest.fixture
def trained(tmp_path, monkeypatch) -> Callable:
    """Run a training command without interruption, and killed and resumed.

    The first run writes to the folder `straight`, the other one to `resumed`. It is killed
    before its second evaluation.
    """

    class KilledError(Exception):
        pass

    def both(
        main: Callable, kind: type, command: list[str], weights: str
    ) -> tuple[Callable, dict, dict]:
        """How to run it in another folder, and the weights of the two."""

        def run(to: str) -> dict[str, torch.Tensor]:
            monkeypatch.setattr(sys, "argv", [*command, "--output", str(tmp_path / to)])
            main()
            return load_file(tmp_path / to / weights)

        evaluate, calls = kind.evaluate, []

        def killed(self) -> None:
            calls.append(self)
            if len(calls) == 2:
                raise KilledError
            evaluate(self)

        straight = run("straight")
        monkeypatch.setattr(kind, "evaluate", killed)
        with pytest.raises(KilledError):
            run("resumed")
        monkeypatch.setattr(kind, "evaluate", evaluate)
        return run, straight, run("resumed")

    return both
