"""Running a notebook's cells without Jupyter.

As a program, `python -c`, its module `__main__` has no file, as in a notebook.
"""

import subprocess
from pathlib import Path

from tests.helpers.commands import start_python

RUNNER = """
import ast, json, pathlib, sys

cells = json.loads(pathlib.Path(sys.argv[1]).read_text(encoding="utf-8"))["cells"]
for number, cell in enumerate(cells):
    if cell["cell_type"] != "code":
        continue
    tree = ast.parse("".join(cell["source"]))
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, f"<cell {number}>", "exec"))
    if last is not None:
        value = eval(compile(ast.Expression(last.value), f"<cell {number}>", "eval"))
        if value is not None:
            print(repr(value))
"""


def run_notebook(path: Path, cwd: Path) -> subprocess.CompletedProcess:
    """Execute the code cells in order, and print the values of last expressions."""
    return start_python("-c", RUNNER, str(path), cwd=cwd).finish()
