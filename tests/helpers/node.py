"""splat-transform of PlayCanvas, which reads files of Gaussians independently of `lift`."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from filelock import FileLock

VERSION = "3.7.0"
"""Version of @playcanvas/splat-transform."""


def splat_transform(*arguments: str | Path) -> None:
    """Run splat-transform, which is installed by npm into a cache folder on its first use.

    The test is skipped where Node or npm is absent, or where npm cannot install the package.
    """
    node = shutil.which("node")
    if node is None or shutil.which("npm") is None:
        pytest.skip("Node and npm are not installed")
    command = [node, str(_install()), "--quiet", "--overwrite", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr + done.stdout


def _install() -> Path:
    """Install the package where it is missing, and return its program."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "lift-tests" / f"splat-transform-{VERSION}"
    program = folder / "node_modules/@playcanvas/splat-transform/bin/cli.mjs"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "lock"):
        if not (folder / "installed").exists():
            package = f"@playcanvas/splat-transform@{VERSION}"
            command = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", package]
            done = subprocess.run(
                [*command, "--prefix", str(folder)], capture_output=True, text=True, timeout=600
            )
            if done.returncode != 0:
                pytest.skip(f"npm cannot install {package}: {done.stderr.strip()[-200:]}")
            (folder / "installed").touch()
    return program
