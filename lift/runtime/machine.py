"""The machine on which a result was computed: processor, device, versions and commit."""

import importlib.metadata
import os
import platform
import subprocess
from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from typing import Any

import torch

from lift.runtime.devices import cpu_cores

PACKAGES = ("torch", "numba", "numpy", "gsplat", "pytorch-lightning")
"""Packages whose versions benchmarks and experiments record."""


def machine_info(device: str) -> dict[str, Any]:
    """Describe this machine, as benchmarks and experiments record it beside their results.

    Args:
        device: cpu or cuda.
    """
    load = [round(value, 2) for value in os.getloadavg()] if hasattr(os, "getloadavg") else None
    return {
        "processor": _processor(),
        "cores": cpu_cores(),
        "torch_threads": torch.get_num_threads(),
        "load_average": load,
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: number for name in PACKAGES if (number := version(name))},
        "commit": commit(),
        "when": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def device_name(device: torch.device) -> str:
    """Name a device, so that times of different machines can be told apart.

    Args:
        device: The device.

    Returns:
        Name of the GPU, or name and number of cores of the processor.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_processor()}, {cpu_cores()} cores"


def version(package: str) -> str | None:
    """Return the version of an installed package, or None.

    Args:
        package: Name of the distribution, as for pip.
    """
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def commit() -> str | None:
    """Return the commit of the git checkout that `lift` runs from.

    Returns:
        The abbreviated commit, with a + if files were changed. None if `lift` does not run from a
        checkout of its own.
    """
    root = Path(__file__).resolve().parents[2]

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=5).stdout.strip()

    try:
        if git("rev-parse", "--show-toplevel") != str(root):
            return None
        return git("describe", "--always", "--dirty=+", "--abbrev=12") or None
    except (OSError, subprocess.TimeoutExpired):
        return None


@cache
def _processor() -> str:
    """Return the name of the processor's model."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())
