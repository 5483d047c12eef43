"""How many pictures an hour does `lift batch` make, beside a shell loop of `lift run`?

    python benchmarks/batch.py [setting=value ...] [--pictures 3] [--rounds 3] [--workers 1]
        [--name small] [--results FOLDER]

Pictures are different crops of one photograph. Each round makes all of them by `lift batch`, whose
workers stay warm, and by one `lift run` after another, into empty folders. The two take turns in
which is first. One `lift run` before is not counted: it compiles loops. Settings are those of
the shortest whole run, or those that are given; `--defaults` takes the default settings.

With `experiment=gpu` the batch has a worker for each GPU that is visible. For one and two GPUs:

    CUDA_VISIBLE_DEVICES=0 python benchmarks/batch.py experiment=gpu --name gpu-1
    CUDA_VISIBLE_DEVICES=0,1 python benchmarks/batch.py experiment=gpu --pictures 8 --workers 2 \\
        --name gpu-2

The loop takes one GPU. `processor_seconds` are user and system seconds of all processes: on a
machine with busy neighbours they say more than the clock.
"""

import argparse
import contextlib
import ctypes
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import torch
from measure import add_results_option, write_results
from PIL import Image
from skimage import data

SMALL = (
    "preprocess.size=64",
    "planner=single",
    "planner.num_frames=2",
    "fit.steps=4",
    "fit.initial_gaussians=300",
    "export.film.seconds=0.05",
)
"""Settings of the shortest whole run."""

_PR_SET_CHILD_SUBREAPER = 36
"""A number of Linux's prctl."""

BATCH = "lift batch"
LOOP = "a loop of lift run"


def write_pictures(folder: Path, count: int) -> list[str]:
    """Write different crops of a photograph, and return their names."""
    pixels = data.astronaut()
    names = []
    for number in range(count):
        left = number * 128 // max(count - 1, 1)
        names.append(str(folder / f"{number:03d}.png"))
        Image.fromarray(pixels[64:448, left : left + 384]).save(names[-1])
    return names


def run(words: list[str]) -> None:
    """Run a command of `lift`. Its output is shown if it fails."""
    command = [sys.executable, "-m", "lift", *words]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} failed:\n{done.stderr[-3000:]}")


def time_way(way: str, pictures: list[str], settings: list[str], workers: int) -> dict[str, float]:
    """Make all scenes once in an empty folder, and return seconds."""
    folder = tempfile.mkdtemp(prefix="batch-")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    try:
        if way == BATCH:
            run(["batch", *pictures, *settings, f"output={folder}", f"--processes={workers}"])
        else:
            for picture in pictures:
                run(["run", f"image={picture}", *settings, f"output={folder}"])
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    seconds = time.perf_counter() - start
    wait_for_orphans()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": seconds, "processor_seconds": used, "load": psutil.getloadavg()[0]}


def adopt_orphans() -> None:
    """Become the parent of processes whose parent ends, such as the server that forks workers."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def wait_for_orphans() -> None:
    """Wait until all processes below this one have ended, so that their seconds are counted."""
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)


def summarize(way: str, times: list[dict[str, float]], pictures: int) -> dict[str, Any]:
    """Return the row of one way: medians over the rounds."""
    row: dict[str, Any] = {
        key: round(statistics.median(time[key] for time in times), 2) for key in times[0]
    }
    row["pictures_per_hour"] = round(3600 * pictures / row["seconds"], 1)
    return {"way": way, "pictures": pictures, "rounds": len(times), **row}


def main() -> None:
    """Measure both ways, and write the result."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("settings", nargs="*", metavar="setting=value")
    parser.add_argument("--defaults", action="store_true", help="the default settings")
    parser.add_argument("--pictures", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=1, help="processes of lift batch")
    parser.add_argument("--name", default="small", help="name of the result: batch-NAME")
    add_results_option(parser)
    options = parser.parse_intermixed_args()
    adopt_orphans()
    settings: list[str] = options.settings or ([] if options.defaults else list(SMALL))
    times: dict[str, list[dict[str, float]]] = {BATCH: [], LOOP: []}
    with tempfile.TemporaryDirectory() as folder:
        pictures = write_pictures(Path(folder), options.pictures)
        time_way(LOOP, pictures[:1], settings, 1)
        for number in range(options.rounds):
            for way in (BATCH, LOOP) if number % 2 == 0 else (LOOP, BATCH):
                times[way].append(time_way(way, pictures, settings, options.workers))
                print(way, {key: round(value, 2) for key, value in times[way][-1].items()})
    rows = [
        {"settings": settings, "workers": options.workers if way == BATCH else 1}
        | summarize(way, values, options.pictures)
        for way, values in times.items()
    ]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    print(write_results(f"batch-{options.name}", 0, device, rows, "seconds", options.results))


if __name__ == "__main__":
    main()
