"""Measure the quality of whole runs.

    python benchmarks/quality.py [--results FOLDER]

The measures are those of `metrics.json`, for inputs with ground truth: the photograph of the demo,
and a ray-cast room. The frames of the room are correct, or corrupted and fitted without any
correction, or corrupted and fitted with the defaults.
"""

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

from measure import add_results_option, write_results

from lift.runtime.child_process import module_command

CASES = {
    "demo": ["experiment=demo"],
    "correct frames": ["experiment=synthetic", "prior.severity=0"],
    "corrupted frames, no correction": [
        "experiment=synthetic",
        "prior.severity=1",
        "pose=planned",
        "distortion=identity",
        "fit.robust.frames=0",
    ],
    "corrupted frames, defaults": ["experiment=synthetic", "prior.severity=1"],
}


def main() -> None:
    """Run all cases."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_results_option(parser)
    arguments = parser.parse_args()
    rows = []
    for case, settings in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            command = module_command("lift", ["run", *settings, f"output={folder}"])
            run = (
                subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
                .stdout.strip()
                .split("\n")[-1]
            )
            metrics = json.loads((Path(run) / "metrics.json").read_text())
        metrics.pop("diagnosis", None)  # it has a row per frame
        rows.append({"case": case, "settings": settings, **metrics})
        print(case, json.dumps(metrics), flush=True)
    print(write_results("quality", 0, "cpu", rows, unit="dB", folder=arguments.results))


if __name__ == "__main__":
    main()
