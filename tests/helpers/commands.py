"""Running the `lift` command in tests."""

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path

from lift.cli import main


def lift(
    *arguments: str, cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "lift", *arguments],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


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
