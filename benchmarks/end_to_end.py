"""How long does a photo take to become a scene, and which stage takes how much of it?

    python benchmarks/end_to_end.py --presets gpu,fast
    python benchmarks/end_to_end.py --presets demo --picture motorcycle_left
    python benchmarks/end_to_end.py --presets gpu,fast --scenes llff_fern llff_flower --name gpu-1

Each preset has a process of its own. Its first run starts from empty caches of Triton; numba's and
gsplat's compiled code is at hand. Then come the runs of a warm process, as the second and later
pictures of a worker of `lift batch`: each has a seed of its own, so no stage is in the cache. The
preview is timed likewise, without the delivery of anything.

With `--scenes`, folders with photographs and their cameras, `lift eval` lifts one view of each with
each preset, and compares the scene with what the other views have in common with it. So no second
is bought with quality.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import torch
import yaml
from measure import add_results_option, write_results

PARTS = ("start", "depth", "plan", "clip", "reconstruct", "fit", "delivery")
"""Parts of a run whose medians are reported."""

PROTOCOL = ("protocol.align=similarity", "protocol.targets=all")
"""Settings of `lift eval`, as documented in docs/evaluation.md."""


def write_picture(picture: str, folder: Path) -> str:
    """Return the name of the photo, or write a photograph of scikit-image of 1,024 pixels."""
    if picture:
        return picture
    from PIL import Image
    from skimage import data

    path = folder / "photo.png"
    Image.fromarray(data.astronaut()).resize((1024, 1024), Image.Resampling.LANCZOS).crop(
        (0, 128, 1024, 896)
    ).save(path)
    return str(path)


def run_in_process(picture: str, settings: list[str], rounds: int) -> dict[str, Any]:
    """Make the scene several times in this process, and return seconds by part of each run."""
    import psutil

    created = psutil.Process().create_time()
    import lift
    from lift.runtime.profiling import profile_run

    words = [setting.split("=", 1) for setting in settings]
    values: dict[str, Any] = {name: yaml.safe_load(value) for name, value in words}
    memory = GpuMemory()
    runs = []
    for number in range(rounds + 1):
        folder = tempfile.mkdtemp(prefix="end-to-end-")
        started = created if number == 0 else time.time()
        try:
            with profile_run(started, operations=False) as profile:
                scene = lift.run(picture, output=folder, seed=number, **values)
            seconds = {"all": time.time() - started, **profile.seconds()}
            runs.append({name: round(value, 3) for name, value in seconds.items()})
            metrics = json.loads((Path(scene.folder) / "metrics.json").read_text("utf-8"))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    previews = []
    for number in range(rounds + 1):
        folder = tempfile.mkdtemp(prefix="end-to-end-")
        started = time.time()
        lift.preview(picture, output=folder, seed=number, **values)
        previews.append(round(time.time() - started, 3))
        shutil.rmtree(folder, ignore_errors=True)
    return {
        "runs": runs,
        "previews": previews,
        "input_psnr": metrics.get("input_psnr", metrics.get("psnr")),
        "gpu_gib": memory.stop(),
    }


class GpuMemory:
    """Watches the memory in use on the GPU, that of CUDA itself included."""

    def __init__(self) -> None:
        self.peak = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        if torch.cuda.is_available():
            self._thread.start()

    def _watch(self) -> None:
        while not self._stop.wait(0.05):
            free, total = torch.cuda.mem_get_info()
            self.peak = max(self.peak, total - free)

    def stop(self) -> float | None:
        """Return the largest memory in GiB. None without a GPU."""
        self._stop.set()
        return round(self.peak / 2**30, 2) if self.peak else None


def time_preset(preset: str, picture: str, settings: list[str], rounds: int) -> dict[str, Any]:
    """Measure a preset in a process of its own, and return its row."""
    words = [f"experiment={preset}", *settings]
    with tempfile.TemporaryDirectory(prefix="triton-") as folder:
        command = [sys.executable, __file__, "--child", picture, "--rounds", str(rounds), *words]
        done = subprocess.run(
            command,
            env=os.environ | {"TRITON_CACHE_DIR": folder},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    result = json.loads(done.stdout.splitlines()[-1])
    first, *warm = result["runs"]
    middle = {
        part: round(statistics.median(run.get(part, 0.0) for run in warm), 2)
        for part in ("all", *PARTS)
    }
    return {
        "preset": preset,
        "settings": settings,
        "first_seconds": {part: round(first.get(part, 0.0), 2) for part in ("all", *PARTS)},
        "seconds": middle,
        "first_preview_seconds": result["previews"][0],
        "preview_seconds": statistics.median(result["previews"][1:]),
        "input_psnr": result["input_psnr"],
        "gpu_gib": result["gpu_gib"],
        "runs": result["runs"],
    }


def true_views(preset: str, settings: list[str], scenes: list[Path]) -> dict[str, float]:
    """Lift a view of each scene. Return the mean PSNR of what the others have in common with it."""
    found = {}
    with tempfile.TemporaryDirectory(prefix="end-to-end-") as folder:
        for scene in scenes:
            command = [
                *(sys.executable, "-m", "lift", "eval", "dataset=folder"),
                *(f"dataset.path={scene}", f"experiment={preset}", f"output={folder}"),
                *("name=true_views", *PROTOCOL, *settings),
            ]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
            files = sorted(Path(folder, "eval", "true_views").glob(f"{scene.name}-*.json"))
            found[scene.name] = round(_psnr(json.loads(files[0].read_text("utf-8"))), 2)
    return found


def _psnr(record: dict[str, Any]) -> float:
    """Return the mean PSNR of the targets of a scene, over what the input shows of them."""
    return statistics.mean(view["psnr_visible"] for view in record["views"])


def main() -> None:
    """Measure the presets, and write the result."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("settings", nargs="*", metavar="setting=value")
    parser.add_argument("--presets", default="gpu", help="experiments, with commas")
    parser.add_argument("--picture", default="", help="a photo (default: one of scikit-image)")
    parser.add_argument("--rounds", type=int, default=5, help="runs of the warm process")
    parser.add_argument("--scenes", type=Path, nargs="*", default=[], help="folders for lift eval")
    parser.add_argument("--name", default="", help="name of the result: end-to-end-NAME")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    add_results_option(parser)
    options = parser.parse_intermixed_args()
    if options.child:
        print(json.dumps(run_in_process(options.child, options.settings, options.rounds)))
        return
    rows: list[dict[str, Any]] = []
    device = "cuda" if torch.cuda.is_available() else "cpu"
    name = "-".join(filter(None, ("end-to-end", options.name)))
    with tempfile.TemporaryDirectory() as folder:
        picture = write_picture(options.picture, Path(folder))
        for preset in options.presets.split(","):
            row = time_preset(preset, picture, options.settings, options.rounds)
            rows.append(row | {"true_view_psnr": None})
            print({key: value for key, value in row.items() if key != "runs"}, flush=True)
            write_results(name, 0, device, rows, "seconds", options.results)
    if options.scenes:
        for row in rows:
            row["true_view_psnr"] = true_views(row["preset"], options.settings, options.scenes)
            print(row["preset"], row["true_view_psnr"], flush=True)
    print(write_results(name, 0, device, rows, "seconds", options.results))


if __name__ == "__main__":
    main()
