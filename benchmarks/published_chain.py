"""Time `experiment=liftimage3d` end to end, with networks of real size and random weights.

    python benchmarks/published_chain.py [--work FOLDER] [--results FOLDER] [SETTING ...]

`random_networks.py` explains how frames, depth and point maps become sensible. The command is
`lift run image=room.png experiment=liftimage3d`, from an empty cache. All settings follow from the
experiment. SETTINGs are added to it, for example `fit.steps=100` or `trainer.devices=2`. Rows have
the seconds of each stage without the replacements, and the peak of the GPU memory of the first
process.
"""

import argparse
import json
import math
import os
import re
import shutil
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


def run_chain(work: Path, settings: list[str]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Run the experiment, and return the rows of its stages and the run's metrics.

    Args:
        work: Folder with the weights. The run's files go there, too.
        settings: Further settings.
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
    start = time.monotonic()
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    stages = watch_stages(process, start)
    if process.wait():
        raise SystemExit(f"the run ended with {process.returncode}")
    total = time.monotonic() - start
    metrics = json.loads((output / "room" / "scene" / "metrics.json").read_text(encoding="utf-8"))
    replaced = replaced_seconds(truth / "substitutions.jsonl")
    stages["whole command"] = (total, max(peak for _, peak in stages.values()))
    replaced["whole command"] = sum(replaced.values())
    rows = [
        {
            "stage": name,
            "seconds": round(seconds - replaced.get(name, 0.0), 2),
            "replacement_seconds": round(replaced.get(name, 0.0), 2),
            "peak_gib": round(peak, 2),
        }
        for name, (seconds, peak) in stages.items()
    ]
    return rows, metrics


def watch_stages(process: subprocess.Popen[str], start: float) -> dict[str, tuple[float, float]]:
    """Read the lines of a run, and return the seconds and the peak memory of its stages.

    A stage lasts from the last line of the stage before it to its own last line. The first one
    includes the start of the program. All clips count as one stage, `generate`.

    Args:
        process: The run. Its messages come by a pipe.
        start: Time of its start.
    """
    ends: dict[str, float] = {}
    peaks: dict[str, float] = {}
    assert process.stderr is not None
    for line in process.stderr:
        sys.stderr.write(line)
        match = STAGE_LINE.match(line)
        if match:
            name = "generate" if match["stage"] == "clip" else match["stage"]
            ends[name] = time.monotonic() - start
            peaks[name] = max(peaks.get(name, 0.0), float(match["peak"]))
    stages = {}
    previous = 0.0
    for name, end in ends.items():
        stages[name] = (end - previous, peaks[name])
        previous = end
    return stages


def replaced_seconds(file: Path) -> dict[str, float]:
    """Return the seconds of replacements by stage: those of the slowest process."""
    by_process: dict[tuple[str, int], float] = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        key = (row["stage"], row["process"])
        by_process[key] = by_process.get(key, 0.0) + row["seconds"]
    return {
        stage: max(seconds for (name, _), seconds in by_process.items() if name == stage)
        for stage, _ in by_process
    }


def main() -> None:
    """Make the weights, run the chain and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, help="folder of weights and run (default: temporary)")
    parser.add_argument("settings", nargs="*", metavar="SETTING", help="further settings")
    add_results_option(parser)
    options = parser.parse_args()
    work = options.work or Path(tempfile.mkdtemp(prefix="lift-published-chain-"))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    make_weights(work / "weights", device)
    rows, metrics = run_chain(work.resolve(), options.settings)
    rows[-1]["settings"] = options.settings
    rows[-1]["metrics"] = metrics
    print(write_results("published-chain", 0, device.type, rows, "seconds, GiB", options.results))


if __name__ == "__main__":
    main()
