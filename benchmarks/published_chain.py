"""Time `experiment=liftimage3d` end to end, with networks of real size and random weights.

    python benchmarks/published_chain.py [--work FOLDER] [--results FOLDER] [--limit SECONDS]
        [SETTING ...]

`random_networks.py` explains how frames, depth and point maps become sensible. The command is
`lift run image=room.png experiment=liftimage3d`, from an empty cache. All settings follow from the
experiment. SETTINGs are added to it, for example `fit.steps=100` or `trainer.devices=2`. Rows have
the seconds of each stage without the replacements, and the peak of the GPU memory of the first
process. A run that `--limit` stops has rows for what it finished, and for the steps of its fit.
"""

import argparse
import json
import math
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from measure import add_results_option, write_results
from PIL import Image
from random_networks import SCENE, make_weights
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lift.geometry import pinhole
from lift.synthetic.scenes import render

WIDTH, HEIGHT = 1024, 768
"""Size of the input picture in pixels, as released."""

FIELD_OF_VIEW = 55.0
"""Field of view along the longer side in degrees, the default of `preprocess.field_of_view`."""

STAGE_LINE = re.compile(r"(?P<stage>\w+) .*? (?P<seconds>[\d.]+) s, (?P<peak>[\d.]+) GiB$")
"""A line that `lift run` prints for a finished stage."""


def make_input(work: Path) -> Path:
    """Render the input picture of the released size, seen from the camera that `lift` assumes.

    Args:
        work: Folder of the picture.
    """
    focal = WIDTH / 2 / math.tan(math.radians(FIELD_OF_VIEW) / 2)
    picture = render(SCENE, pinhole(WIDTH, HEIGHT, focal)).images[0]
    file = work / "room.png"
    Image.fromarray(picture.numpy()).save(file)
    return file


def run_chain(
    work: Path, settings: list[str], limit: float
) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """Run the experiment, and return the rows of its stages and the run's metrics.

    Args:
        work: Folder with the weights. The run's files go there, too.
        settings: Further settings.
        limit: Seconds after which the run is stopped.

    Returns:
        Rows, and metrics; None for the metrics of a run that was stopped.
    """
    output = work / "run"
    truth = work / "truth"
    for folder in (output, truth):
        shutil.rmtree(folder, ignore_errors=True)
    weights = work / "weights"
    command = [
        *(
            sys.executable,
            "-m",
            "lift",
            "run",
            f"image={make_input(work)}",
            "name=scene",
            f"output={output}",
        ),
        "experiment=liftimage3d",
        "prior=random_motionctrl",
        f"prior.model={weights / 'motionctrl'}",
        "depth=random_depth_anything",
        f"depth.model={weights / 'depth_anything'}",
        "pose=random_mast3r",
        f"pose.model={weights / 'mast3r'}",
        *settings,
    ]
    plugin = Path(__file__).with_name("random_networks.py")
    environment = {**os.environ, "LIFT_PLUGINS": str(plugin), "TRUTH_FOLDER": str(truth)}
    log = work / "run.log"
    start = time.monotonic()
    with log.open("w", encoding="utf-8") as stream:
        process = subprocess.Popen(command, env=environment, stderr=stream)
        try:
            code = process.wait(None if math.isinf(limit) else limit)
        except subprocess.TimeoutExpired:
            process.terminate()
            code = process.wait()
            print(f"stopped after {limit:g} s", file=sys.stderr)
    total = time.monotonic() - start
    text = log.read_text(encoding="utf-8")
    sys.stderr.write(text)
    rows = stage_rows(text, truth / "substitutions.jsonl")
    curves = sorted(output.glob("cache/.fit-*/tensorboard/events.out.*"))
    if curves:
        rows.append(unfinished_fit(curves[-1]))
    if code and total < limit:
        raise SystemExit(f"the run ended with {code}")
    replaced = sum(row["replacement_seconds"] for row in rows)
    rows.append({"stage": "whole command", "seconds": round(total - replaced, 2)})
    metrics = output / "room" / "scene" / "metrics.json"
    return rows, json.loads(metrics.read_text(encoding="utf-8")) if metrics.is_file() else None


def stage_rows(log: str, substitutions: Path) -> list[dict[str, Any]]:
    """Return a row for each stage that a run has finished, without the replacements.

    Args:
        log: What the run printed.
        substitutions: File with the seconds of replacements, in the order of time.
    """
    lines = [line for line in re.split(r"[\r\n]+", log) if STAGE_LINE.match(line)]
    replaced = replaced_seconds(substitutions)
    rows = []
    for stage in ("depth", "plan", "generate", "reconstruct", "fit"):
        prefix = "clip" if stage == "generate" else stage
        found = [m for line in lines if (m := STAGE_LINE.match(line)) and m["stage"] == prefix]
        if not found:
            continue
        seconds = [float(match["seconds"]) for match in found]
        others = replaced.get(stage, [])
        others = others if stage == "generate" else [sum(others)]
        calls = [a - b for a, b in zip(seconds, others, strict=False)]
        rows.append(
            {
                "stage": stage,
                "calls": len(calls),
                "seconds": round(sum(calls), 2),
                "median_seconds": round(statistics.median(calls), 2),
                "replacement_seconds": round(sum(others[: len(calls)]), 2),
                "peak_gib": max(float(match["peak"]) for match in found),
            }
        )
    return rows


def unfinished_fit(curves: Path) -> dict[str, Any]:
    """Return a row for the steps of a fit that was stopped.

    Args:
        curves: TensorBoard file of the fit. The first point counts as the start.
    """
    events = EventAccumulator(str(curves))
    events.Reload()
    points = events.Scalars("gaussians")
    first, last = points[0], points[-1]
    thousand = [p for p in points if p.step > last.step - 1000]
    milliseconds = 1e3 * (last.wall_time - thousand[0].wall_time)
    return {
        "stage": "fit",
        "steps": last.step - first.step,
        "seconds": round(last.wall_time - first.wall_time, 2),
        "milliseconds_per_step": round(milliseconds / (last.step - thousand[0].step), 1),
        "gaussians": int(last.value),
        "replacement_seconds": 0.0,
    }


def replaced_seconds(file: Path) -> dict[str, list[float]]:
    """Return the seconds of each replacement by stage: those of the slowest process."""
    by_process: dict[tuple[str, int], list[float]] = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        by_process.setdefault((row["stage"], row["process"]), []).append(row["seconds"])
    return {
        stage: max((rows for (name, _), rows in by_process.items() if name == stage), key=sum)
        for stage, _ in by_process
    }


def main() -> None:
    """Make the weights, run the chain and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, help="folder of weights and run (default: temporary)")
    parser.add_argument(
        "--limit", type=float, default=math.inf, help="seconds after which the run is stopped"
    )
    parser.add_argument("settings", nargs="*", metavar="SETTING", help="further settings")
    add_results_option(parser)
    options = parser.parse_args()
    work = options.work or Path(tempfile.mkdtemp(prefix="lift-published-chain-"))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    make_weights(work / "weights", device)
    rows, metrics = run_chain(work.resolve(), options.settings, options.limit)
    rows[-1]["settings"] = options.settings
    rows[-1]["metrics"] = metrics
    print(write_results("published-chain", 0, device.type, rows, "seconds, GiB", options.results))


if __name__ == "__main__":
    main()
