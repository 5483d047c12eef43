"""Compile the loops of a fit on the CPU while the first stages of the run are computed."""

import logging
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from lift.renderers import renderers
from lift.runtime import distributed, jit
from lift.runtime.child_process import code_command
from lift.runtime.launcher import standalone_environment
from lift.runtime.session import Session

_CODE = "from lift.runtime.compile_ahead import compile_fit_loops; compile_fit_loops()"


def fit_loops_cached() -> bool:
    """Return whether numba's cache has the loops that a fit on the CPU needs.

    Returns:
        True also if there is no cache that could be written.
    """
    from lift.renderers.cpu import projection_gradient, spherical_harmonics
    from lift.training.kernels import loss_numba, splats_numba, voxels_numba

    # Each of these is the last loop of its module that a warm-up compiles.
    loops = (
        projection_gradient.project_gradient,
        spherical_harmonics._gradients,
        splats_numba._gradient,
        loss_numba._photometric_gradient,
        voxels_numba._number_voxels,
    )
    return all(jit.is_cached(loop) for loop in loops)


def compile_fit_loops() -> None:
    """Compile the loops of a fit on the CPU into numba's cache.

    In a process of its own (`lift.runtime.launcher.standalone_environment`) it ends with the
    process that started it.
    """
    from lift.training import losses
    from lift.training.kernels import voxels_numba

    distributed.bind_device(distributed.ProcessInfo(), None)
    renderers.build({"name": "numba"}).warm_up()
    losses.warm_up()
    voxels_numba.warm_up()


@contextmanager
def compile_ahead(session: Session) -> Iterator[None]:
    """Compile the loops of the fit beside the work of the block, and wait for them at its end.

    A separate process compiles them, if numba's cache does not have them yet. In a thread of this
    process the compiler and the first stages would wait for each other's turn at Python, and both
    would take twice as long. On a GPU the renderer warms up before the block.

    Args:
        session: The run.
    """
    renderer = session.build(renderers)
    if renderer.device.type != "cpu":
        renderer.warm_up()
        yield
        return
    if session.process.local_rank or fit_loops_cached():
        yield
        return
    compiler = subprocess.Popen(
        code_command(_CODE),
        env=standalone_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
        if compiler.wait():
            logging.getLogger(__name__).warning(
                "the fit's loops could not be compiled ahead (status %d)", compiler.returncode
            )
    finally:
        compiler.terminate()
        compiler.wait()
