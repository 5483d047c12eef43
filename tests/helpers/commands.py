"""Running the `lift` command in tests."""

import contextlib
import io
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO

from lift.cli import main
from tests.helpers.prefork import ForkedProcess, can_fork, fork_python


class StartedProgram:
    """A Python program that runs in a process of its own. Bytes that are no text are kept."""

    def __init__(self, arguments: tuple[str, ...], cwd: Path | None, variables: dict[str, str]):
        self.arguments = arguments
        self._out, self._err = _text_file(), _text_file()
        self.process: ForkedProcess | subprocess.Popen
        if can_fork(variables):
            files = self._out, self._err
            self.process = fork_python(arguments, cwd or Path.cwd(), variables, *files)
        else:
            self.process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=cwd,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=self._out,
                stderr=self._err,
            )

    def finish(self) -> subprocess.CompletedProcess:
        """Wait for its end."""
        status = self.process.wait()
        with self._out, self._err:
            self._out.seek(0)
            self._err.seek(0)
            return subprocess.CompletedProcess(
                self.arguments, status, self._out.read(), self._err.read()
            )

    def send_signal(self, number: int) -> None:
        """Send a signal to it."""
        self.process.send_signal(number)

    def kill(self) -> subprocess.CompletedProcess:
        """End it by SIGKILL."""
        self.process.kill()
        return self.finish()

    def output(self) -> str:
        """Return what it has printed so far."""
        size = os.fstat(self._out.fileno()).st_size
        return os.pread(self._out.fileno(), size, 0).decode(errors="surrogateescape")


def start_python(*arguments: str, cwd: Path | None = None, **environment: str) -> StartedProgram:
    """Start `python ARGUMENTS`, where they begin with `-m`, `-c` or a file."""
    return StartedProgram(arguments, cwd, {**os.environ, **environment})


def start_lift(*arguments: str, cwd: Path | None = None, **environment: str) -> StartedProgram:
    """Start the command in a process of its own."""
    return start_python("-m", "lift", *arguments, cwd=cwd, **environment)


def lift(
    *arguments: str, cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess:
    """Run the command in a process of its own."""
    return start_lift(*arguments, cwd=cwd, **environment).finish()


def here(*arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    """The same within this process, which has imported by now what a new one would for seconds."""
    out, err = io.StringIO(), io.StringIO()
    before, variables = Path.cwd(), dict(os.environ)
    os.chdir(cwd)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = main(list(arguments))
    except SystemExit as ended:  # argparse's
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    finally:
        os.chdir(before)
        os.environ.clear()
        os.environ.update(variables)
    return subprocess.CompletedProcess(arguments, status, out.getvalue(), err.getvalue())


def _text_file() -> IO[str]:
    return tempfile.TemporaryFile("w+", errors="surrogateescape")
