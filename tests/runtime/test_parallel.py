"""Threads of loops and of torch."""

import os
import subprocess
import sys


def test_loops_that_start_within_leave_torch_on_one_thread():
    """numba sets torch's thread count when it starts, perhaps in the fit's first loop.

    Results must not depend on that.
    """
    code = (
        "import numba, torch, numpy\n"
        "from lift.runtime.parallel import torch_on_one_thread\n"
        "torch.set_num_threads(2)\n"
        "@numba.njit(parallel=True)\n"
        "def fill(x):\n"
        "    for i in numba.prange(len(x)):\n"
        "        x[i] = 1\n"
        "with torch_on_one_thread():\n"
        "    fill(numpy.zeros(100))\n"
        "    print(torch.get_num_threads())\n"
        "print(torch.get_num_threads())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "NUMBA_NUM_THREADS": "2"},
    )
    assert done.stdout.split() == ["1", "2"], done.stderr
