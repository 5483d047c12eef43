"""Start other Python processes so that they import nothing from the current folder.

`python -c` and `python -m` search the current folder before all others. A `json.py` there, from an
archive of pictures for example, would run in the child.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

_SET_PATH = "import sys; n = int(sys.argv[1]) + 2; sys.path[:] = sys.argv[2:n]; del sys.argv[1:n]\n"
"""First statements of a child. `sys` is built in, so it never comes from a file."""

_RUN_MODULE = "import runpy; runpy.run_module({!r}, run_name='__main__', alter_sys=True)"
"""The rest of a child that runs a module as `python -m` does."""


def code_command(code: str, arguments: Sequence[str] = ()) -> list[str]:
    """Return the command that runs code in another Python process with this one's import path.

    Args:
        code: Python code.
        arguments: Arguments of the child, its `sys.argv[1:]`.
    """
    path = inherited_path()
    # -P does the same before the code runs, and the child's own children inherit it.
    safe_path = ["-P"] if sys.version_info >= (3, 11) else []
    options = [*safe_path, "-c", _SET_PATH + code]
    return [sys.executable, *options, str(len(path)), *path, *arguments]


def module_command(module: str, arguments: Sequence[str] = ()) -> list[str]:
    """Return the command that runs a module as `python -m` does, with this one's import path.

    Args:
        module: Import path of the module or package.
        arguments: Arguments of the child, its `sys.argv[1:]`.
    """
    return code_command(_RUN_MODULE.format(module), arguments)


def inherited_path() -> list[str]:
    """Return this process's import path without what names the current folder by position.

    That is an empty entry, and the first one of `python -m`. A folder of PYTHONPATH, of an editable
    installation or of a program that changes `sys.path` stays, and so does `lift`'s own.
    """
    path = list(sys.path)
    if path and _is_run_as_module() and _is_current_folder(path[0]):
        del path[0]
    path = [entry for entry in path if entry]
    home = str(Path(__file__).resolve().parents[2])
    # `lift` may have been found through the current folder, as in a checkout. It comes last, so
    # that no other file of that folder hides a package.
    return path if home in path else [*path, home]


def _is_run_as_module() -> bool:
    """Whether this process is `python -m`, which puts the current folder first."""
    is_safe = getattr(sys.flags, "safe_path", False)
    return not is_safe and getattr(sys.modules.get("__main__"), "__spec__", None) is not None


def _is_current_folder(entry: str) -> bool:
    """Whether an entry of the import path is the current folder."""
    try:
        return os.path.samefile(entry or ".", ".")
    except OSError:
        return False
