"""How long does `lift batch` take to pass over pictures whose scenes are finished?

    python benchmarks/finished_batch.py [--pictures 10000] [--work FOLDER] [--results FOLDER]

One default run is made. Its folder is copied by hard links, one copy a picture, with a manifest
that answers the picture's request. Then `lift batch` is timed on a tenth of the pictures, which
shows what the start costs, and on all.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measure import add_results_option, write_results
from PIL import Image
from skimage import data

from lift.config import compose_run
from lift.runtime.finished import REQUEST, Request
from lift.runtime.integrity import MANIFEST, read_manifest, seal

SETTINGS = ("preprocess.size=128", "fit.steps=50")
"""Settings of the run. The number of its files is that of a default run."""


def make_finished(work: Path, count: int) -> tuple[list[str], list[str]]:
    """Make pictures and their finished scenes.

    Args:
        work: An empty folder.
        count: Number of pictures.

    Returns:
        The pictures and the settings of the batch.
    """
    pictures = work / "pictures"
    pictures.mkdir()
    names = [str(pictures / f"{number:06d}.png") for number in range(count)]
    Image.fromarray(data.coffee()[:192, :256]).save(names[0])
    settings = [*SETTINGS, f"output={work / 'out'}", "name=scene"]
    subprocess.run([sys.executable, "-m", "lift", "batch", names[0], *settings], check=True)
    source = work / "out" / "000000" / "scene"
    manifest = read_manifest(source)
    files = list(manifest["files"])
    request = Request(compose_run([*settings, f"image={names[0]}"]))
    for name in names[1:]:
        os.link(names[0], name)
        folder = work / "out" / Path(name).stem / "scene"
        for file in files:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            os.link(source / file, folder / file)
        content = seal(manifest | {REQUEST: request.key(name)})
        text = json.dumps(content, indent=2) + "\n"
        (folder / MANIFEST).write_text(text, encoding="utf-8")
    return names, settings


def time_batch(pictures: list[str], settings: list[str]) -> float:
    """Return the seconds of a batch. It prints a result for each picture."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "lift", "batch", *pictures, *settings]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - start
    assert len(done.stdout.splitlines()) == len(pictures)
    assert "fit " not in done.stderr, "a run was made again"
    return seconds


def main() -> None:
    """Measure, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pictures", type=int, default=10_000)
    parser.add_argument("--work", type=Path, help="an empty folder (default: a temporary one)")
    add_results_option(parser)
    options = parser.parse_args()
    work = options.work or Path(tempfile.mkdtemp(prefix="finished-"))
    try:
        pictures, settings = make_finished(work, options.pictures)
        rows = []
        for count in (max(1, options.pictures // 10), options.pictures):
            seconds = time_batch(pictures[:count], settings)
            rows.append({"pictures": count, "seconds": round(seconds, 2)})
            print(rows[-1], flush=True)
    finally:
        if options.work is None:
            shutil.rmtree(work)
    write_results("finished-batch", 0, "cpu", rows, "seconds", options.results)


if __name__ == "__main__":
    main()
