"""Shared by the benchmarks: timing and result files.

Warm-up calls come first. Then calls are timed one by one. The timer waits for the work of the
device. Results have median and quartiles, the seed, and the machine: processor, cores, load,
versions and commit. They are JSON files in `benchmarks/results/`.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from lift.runtime.machine import machine_info

RESULTS = Path(__file__).parent / "results"


def measure(
    function: Callable[[], Any],
    device: str = "cpu",
    warm_up: int = 1,
    seconds: float = 3.0,
    max_rounds: int = 30,
) -> dict[str, float]:
    """Time the calls of a function.

    Args:
        function: The function.
        device: `cpu` or `cuda`.
        warm_up: Number of calls that are not timed.
        seconds: Time after which calls end. There are at least three.
        max_rounds: Number of calls, at most.

    Returns:
        Milliseconds per call. See `quartiles`.
    """
    for _ in range(warm_up):
        function()
    times: list[float] = []
    while len(times) < 3 or (sum(times) < 1e3 * seconds and len(times) < max_rounds):
        synchronize(device)
        start = time.perf_counter()
        function()
        synchronize(device)
        times.append(1e3 * (time.perf_counter() - start))
    return quartiles(times)


def quartiles(times: list[float]) -> dict[str, float]:
    """Return quartiles, minimum and number of times."""
    lower, median, upper = statistics.quantiles(times, n=4)
    return {
        "median": round(median, 2),
        "lower_quartile": round(lower, 2),
        "upper_quartile": round(upper, 2),
        "min": round(min(times), 2),
        "calls": len(times),
    }


def add_results_option(parser: argparse.ArgumentParser) -> None:
    """Add the option --results, the folder of the result files."""
    parser.add_argument(
        "--results",
        type=Path,
        default=RESULTS,
        metavar="FOLDER",
        help="folder of the JSON file (default: benchmarks/results)",
    )


def write_results(
    name: str,
    seed: int,
    device: str,
    rows: list[dict[str, Any]],
    unit: str = "milliseconds",
    folder: Path = RESULTS,
) -> Path:
    """Write the rows and the machine to NAME-DEVICE.json.

    Args:
        name: Name of the benchmark.
        seed: Random seed.
        device: `cpu` or `cuda`.
        rows: The results.
        unit: Unit of the results.
        folder: Folder of the file.

    Returns:
        The file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{device}.json"
    record = {
        "benchmark": name,
        "unit": unit,
        "seed": seed,
        "machine": machine_info(device),
        "rows": rows,
    }
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return path


def synchronize(device: str) -> None:
    """Wait for the work of the device."""
    if device == "cuda":
        torch.cuda.synchronize()
