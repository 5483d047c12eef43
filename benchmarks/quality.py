"""How right whole runs are: python benchmarks/quality.py

What `lift run` itself finds about its results (`metrics.json`), for pictures of which the truth is
known: the demo's photograph, and a ray-cast room whose frames are right, or wrong and taken at
their word, or wrong and corrected by the default.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from measure import write

CASES = {
    "demo": ["experiment=demo"],
    "right frames": ["experiment=synthetic", "prior.severity=0"],
    "wrong frames, taken at their word": [
        "experiment=synthetic",
        "prior.severity=1",
        "pose=planned",
        "distortion=identity",
        "fit.robust.frames=0",
    ],
    "wrong frames": ["experiment=synthetic", "prior.severity=1"],
}


def main() -> None:
    rows = []
    for case, settings in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "lift", "run", *settings, f"output={folder}"]
            run = (
                subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
                .stdout.strip()
                .split("\n")[-1]
            )
            metrics = json.loads((Path(run) / "metrics.json").read_text())
        metrics.pop("diagnosis", None)  # a row a frame
        rows.append({"case": case, "settings": settings, **metrics})
        print(case, json.dumps(metrics), flush=True)
    print(write("quality", 0, "cpu", rows, unit="dB"))


if __name__ == "__main__":
    main()
