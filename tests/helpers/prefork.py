"""Python programs in processes that are forked from one with the large packages imported.

A new interpreter imports PyTorch Lightning and what it drags in for six seconds of processor time,
which is more than a tiny run needs. The server imports the third-party packages once, nothing of
`lift`. A child runs a program as it is on disk now, with its own folder, variables and
streams. Where a variable differs that a package reads when it is imported, the caller has to start
an interpreter (`can_fork`).
"""

import atexit
import contextlib
import gc
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import types
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import IO, Any

SECONDS = 600
"""How long a process may take."""

PACKAGES = (
    "torch",
    "pytorch_lightning",
    "torchmetrics",
    "torch.utils.tensorboard",
    "numba",
    "scipy.ndimage",
    "scipy.optimize",
    "scipy.signal",
    "scipy.sparse.linalg",
    "scipy.spatial",
    "hydra",
    "PIL.Image",
    "imageio",
    "jinja2",
    "matplotlib.figure",
    "skimage.data",
)
_READ_AT_IMPORT = (
    *("CUDA", "HF_", "HOME", "HUGGINGFACE", "KMP_", "LANG", "LC_", "LD_", "MKL_", "MPL", "NCCL"),
    *("NUMBA_", "OMP_", "OPENBLAS_", "PATH", "PYTHON", "PYTORCH_", "TMPDIR", "TORCH", "TRITON_"),
    *("TRANSFORMERS_", "XDG_"),
)


class ForkedProcess:
    """A process of the server, used like one of `subprocess`."""

    def __init__(self, reply: socket.socket) -> None:
        reply.settimeout(SECONDS)
        self._lines = reply.makefile()
        self.pid = int(self._lines.readline())

    def wait(self) -> int:
        """Return its exit status, negative for a signal."""
        return os.waitstatus_to_exitcode(int(self._lines.readline()))

    def send_signal(self, number: int) -> None:
        """Send a signal to it."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """Send SIGKILL to it."""
        self.send_signal(signal.SIGKILL)


def can_fork(variables: Mapping[str, str]) -> bool:
    """Whether a forked process with these variables acts like a new one."""
    if not hasattr(os, "pidfd_open"):
        return False
    started = _server()[1]
    changed = {key for key, _ in variables.items() ^ started.items()} - {"TORCH_HOME"}
    return not any(key.startswith(_READ_AT_IMPORT) for key in changed)


def fork_python(
    arguments: Sequence[str], folder: Path, variables: Mapping[str, str], out: IO, err: IO
) -> ForkedProcess:
    """Run a program in a forked process.

    Args:
        arguments: Those of the interpreter: `-m MODULE ...`, `-c CODE ...` or `FILE ...`.
        folder: Its working folder.
        variables: Its whole environment.
        out: Open file for its standard output.
        err: Open file for its errors.
    """
    ours, theirs = socket.socketpair()
    with theirs, open(os.devnull) as empty:
        files = [theirs.fileno(), empty.fileno(), out.fileno(), err.fileno()]
        socket.send_fds(_server()[0], [b"+"], files)
    with ours:
        request = {"arguments": [*arguments], "folder": str(folder), "variables": {**variables}}
        ours.sendall(json.dumps(request).encode())
        ours.shutdown(socket.SHUT_WR)
        return ForkedProcess(ours)


@cache
def _server() -> tuple[socket.socket, dict[str, str]]:
    """The connection to the server of this process, and the variables that it started with."""
    ours, theirs = socket.socketpair()
    variables = dict(os.environ)
    with theirs:
        subprocess.Popen(  # ends when `ours` is closed, at the end of this process
            [sys.executable, __file__, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            start_new_session=True,
            env=variables,
        )
    return ours, variables


def _serve(control: socket.socket) -> dict[str, Any]:
    """Fork a child for every request. Return the request in the child only."""
    waiting = selectors.DefaultSelector()
    waiting.register(control, selectors.EVENT_READ)
    while True:
        for key, _ in waiting.select():
            if key.fileobj is control:
                word, files, _, _ = socket.recv_fds(control, 1, 4)
                if not word:
                    raise SystemExit
                request = _fork(files, waiting)
                if request is not None:
                    control.close()
                    return request
            else:
                pid, reply = key.data
                waiting.unregister(key.fileobj)
                os.close(key.fd)
                with reply, contextlib.suppress(BrokenPipeError):
                    reply.sendall(b"%d\n" % os.waitpid(pid, 0)[1])


def _fork(files: list[int], waiting: selectors.BaseSelector) -> dict[str, Any] | None:
    """Fork once. The child gets its streams and returns the request."""
    reply = socket.socket(fileno=files[0])
    with reply.makefile("rb") as stream:
        request = json.loads(stream.read())
    pid = os.fork()
    if pid == 0:
        waiting.close()
        reply.close()
        for stream, file in enumerate(files[1:]):
            os.dup2(file, stream)
            os.close(file)
        return request
    for file in files[1:]:
        os.close(file)
    waiting.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, reply))
    reply.sendall(b"%d\n" % pid)
    return None


def _run(first: str, *others: str) -> None:
    """Do what the interpreter does with these arguments."""
    if first == "-m":
        sys.path.insert(0, os.getcwd())
        sys.argv = [*others]
        runpy.run_module(others[0], run_name="__main__", alter_sys=True)
    elif first == "-c":
        sys.path.insert(0, "")
        sys.argv = ["-c", *others[1:]]
        module = types.ModuleType("__main__")
        sys.modules["__main__"] = module
        exec(compile(others[0], "<string>", "exec"), module.__dict__)
    else:
        sys.path.insert(0, str(Path(first).parent))
        sys.argv = [first, *others]
        runpy.run_path(first, run_name="__main__")


def _main() -> None:
    """Import the packages, serve, and be the program that was asked for in each child."""
    del sys.path[0]  # the folder of this file
    gc.disable()
    for package in PACKAGES:
        with contextlib.suppress(ImportError):
            __import__(package)
    gc.freeze()  # children neither search nor copy what is there
    atexit.register(gc.unfreeze)  # Triton reports what is left at the end as leaked
    gc.enable()
    request = _serve(socket.socket(fileno=int(sys.argv[1])))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # is off in a background job
    os.environ.clear()
    os.environ.update(request["variables"])
    os.chdir(request["folder"])
    os.environ["LIFT_START_METHOD"] = "fork"  # workers of a pool have the packages, too
    _run(*request["arguments"])


if __name__ == "__main__":
    _main()
