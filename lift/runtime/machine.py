"""What a result was made on: processor, device, versions, commit."""

import importlib.metadata
import os
import platform
import subprocess
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("torch", "numba", "numpy", "gsplat", "pytorch-lightning")


def machine(device: str) -> dict[str, Any]:
    """As benchmarks and experiments write it beside their figures. device: cpu or cuda."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "load_average": [round(load, 2) for load in os.getloadavg()]
        if hasattr(os, "getloadavg")
        else None,
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: found for name in PACKAGES if (found := version(name))},
        "commit": commit(),
        "when": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def commit() -> str | None:
    """Of the checkout that lift runs from, if it is one and not installed within another; with a + if it was changed."""
    root = Path(__file__).resolve().parents[2]

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=5
        ).stdout.strip()

    try:
        return (
            git("rev-parse", "--show-toplevel") == str(root)
            and git("describe", "--always", "--dirty=+", "--abbrev=12")
        ) or None
    except (OSError, subprocess.TimeoutExpired):
        return None


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")),
        platform.processor(),
    )
