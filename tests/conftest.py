"""What all tests share."""

import os
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:  # one of several processes: threads of each would wait for those of the others
    os.environ |= {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}  # before torch or numba are there

import pytest
import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # before Triton sees a kernel: where it is installed, its interpreter runs them


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
        pytest.skip("needs CUDA" if request.param == "cuda" else "CUDA is there: the kernels run on it")
    pytest.importorskip("triton", reason="Triton is not installed")
    return torch.device(request.param)
