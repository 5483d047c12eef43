"""How things are timed here, so that two numbers can be compared.

Warm-up calls first; then single calls, each with the device's work finished inside the timer;
median and quartiles; the seed; and what it ran on: processor, cores, load, versions, commit.
Results go to `benchmarks/results/` as JSON.
"""

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
    """Milliseconds of a call: at least three calls, then more until `seconds` have passed or there
    are `most`.
    """
    for _ in range(warm_up):
        function()
    times: list[float] = []
    while len(times) < 3 or (sum(times) < 1e3 * seconds and len(times) < max_rounds):
        finish(device)
        start = time.perf_counter()
        function()
        finish(device)
        times.append(1e3 * (time.perf_counter() - start))
    return quartiles(times)


def quartiles(times: list[float]) -> dict[str, float]:
    low, median, high = statistics.quantiles(times, n=4)
    return {
        "median": round(median, 2),
        "low": round(low, 2),
        "high": round(high, 2),
        "best": round(min(times), 2),
        "calls": len(times),
    }


def write(
    name: str, seed: int, device: str, rows: list[dict[str, Any]], unit: str = "milliseconds"
) -> Path:
    """benchmarks/results/<name>-<device>.json: the rows, and what they were measured on."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}-{device}.json"
    record = {
        "benchmark": name,
        "unit": unit,
        "seed": seed,
        "machine": machine_info(device),
        "rows": rows,
    }
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return path


def finish(device: str) -> None:
    """Waits for the device's work."""
    if device == "cuda":
        torch.cuda.synchronize()
