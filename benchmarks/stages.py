"""Times a whole run, stage by stage: python benchmarks/stages.py [setting=value ...]

A fresh `lift run experiment=demo` (or other settings) in a process of its own and an empty folder:
seconds and peak memory of each stage as the run itself records them, the wall time of the whole
process, start-up, delivery and report included, and its quality.
"""

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path

import psutil
from measure import write


def peak_of(process: subprocess.Popen, peaks: dict[str, int]) -> None:
    """Watches the resident memory of a process until it ends."""
    watched = psutil.Process(process.pid)
    peaks["bytes"] = 0
    while process.poll() is None:
        try:
            peaks["bytes"] = max(peaks["bytes"], watched.memory_info().rss)
        except psutil.Error:
            return
        time.sleep(0.05)


def main() -> None:
    settings = sys.argv[1:] or ["experiment=demo"]
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        command = [sys.executable, "-m", "lift", "run", *settings, f"output={folder}"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        peak: dict[str, int] = {}
        watcher = threading.Thread(target=peak_of, args=(process, peak))
        watcher.start()
        out, _ = process.communicate()
        watcher.join()
        seconds = time.perf_counter() - start
        if process.returncode:
            raise SystemExit(process.returncode)
        run = Path(out.strip().split("\n")[-1])
        stages: dict[str, dict] = defaultdict(lambda: {"seconds": 0.0, "peak_gib": 0.0, "times": 0})
        for stage in json.loads((run / "provenance.json").read_text())["stages"]:
            row = stages[stage["stage"]]
            row["seconds"] = round(row["seconds"] + stage["seconds"], 2)
            row["peak_gib"] = max(row["peak_gib"], round(stage["peak_bytes"] / 2**30, 2))
            row["times"] += 1
        metrics = json.loads((run / "metrics.json").read_text())
        metrics.pop("diagnosis")  # of every frame
    rows = [{"stage": name, **row} for name, row in stages.items()]
    rows.append(
        {
            "stage": "whole process",
            "seconds": round(seconds, 2),
            "peak_gib": round(peak["bytes"] / 2**30, 2),
            "times": 1,
        }
    )
    path = write(
        "stages",
        0,
        "cpu",
        [{"settings": settings, "stages": rows, "metrics": metrics}],
        unit="seconds",
    )
    print(path.read_text())


if __name__ == "__main__":
    main()
