"""Time the stages of a run.

    python benchmarks/stages.py [setting=value ...] [--results FOLDER]

The run is `lift run experiment=demo`, or one with other settings. It has a process of its own and
an empty folder. Seconds and peak memory of each stage are those that the run records. The time of
the whole process includes start, export and report. The quality of the run is recorded, too.
"""

import argparse
import json
import subprocess
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path

import psutil
from measure import add_results_option, write_results

from lift.runtime.child_process import module_command


def watch_memory(process: subprocess.Popen, peak: dict[str, int]) -> None:
    """Record the peak of the resident memory of a process until it ends."""
    watched = psutil.Process(process.pid)
    peak["bytes"] = 0
    while process.poll() is None:
        try:
            peak["bytes"] = max(peak["bytes"], watched.memory_info().rss)
        except psutil.Error:
            return
        time.sleep(0.05)


def main() -> None:
    """Run once and write the stages."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("settings", nargs="*", default=["experiment=demo"], metavar="setting=value")
    add_results_option(parser)
    arguments = parser.parse_intermixed_args()
    settings = arguments.settings
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        command = module_command("lift", ["run", *settings, f"output={folder}"])
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        peak: dict[str, int] = {}
        watcher = threading.Thread(target=watch_memory, args=(process, peak))
        watcher.start()
        out, _ = process.communicate()
        watcher.join()
        seconds = time.perf_counter() - start
        if process.returncode:
            raise SystemExit(process.returncode)
        run = Path(out.strip().split("\n")[-1])
        stages: dict[str, dict] = defaultdict(lambda: {"seconds": 0.0, "peak_gib": 0.0, "count": 0})
        for stage in json.loads((run / "provenance.json").read_text())["stages"]:
            row = stages[stage["stage"]]
            row["seconds"] = round(row["seconds"] + stage["seconds"], 2)
            row["peak_gib"] = max(row["peak_gib"], round(stage["peak_bytes"] / 2**30, 2))
            row["count"] += 1
        metrics = json.loads((run / "metrics.json").read_text())
        metrics.pop("diagnosis", None)  # it has a row per frame
    rows = [{"stage": name, **row} for name, row in stages.items()]
    rows.append(
        {
            "stage": "whole process",
            "seconds": round(seconds, 2),
            "peak_gib": round(peak["bytes"] / 2**30, 2),
            "count": 1,
        }
    )
    path = write_results(
        "stages",
        0,
        "cpu",
        [{"settings": settings, "stages": rows, "metrics": metrics}],
        unit="seconds",
        folder=arguments.results,
    )
    print(path.read_text())


if __name__ == "__main__":
    main()
