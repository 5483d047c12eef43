"""Kill runs at random moments, run them again, and compare the results.

    python benchmarks/interruptions.py [--kills 100] [--cuts 100] [--kinds KIND ...]
        [--workers 2] [--seed 0] [--work FOLDER] [--results FOLDER]

Each trial starts a command in an empty folder, stops it after a random time, and runs it again. The
second run has to end with exit status 0, with the same stages and the same scene as a run that
nobody stopped, byte for byte. A kill sends SIGKILL, SIGTERM or SIGINT to the command's processes. A
power cut sends SIGKILL and then damages the folder: see `power_cut.py`. A fifth of the trials stop
the second run, too.

The trials are kept in FOLDER/trials.jsonl. Started again with the same FOLDER, the program goes on.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measure import add_results_option, write_results
from power_cut import SyncLog, cut
from rich.progress import track

TINY = (
    "preprocess.size=64",
    "planner.levels=1",
    "planner.num_frames=3",
    "fit.steps=30",
    "fit.checkpoint_every=10",
    "fit.initial_gaussians=1000",
    "fit.test_every=4",
    "export.video_frames=4",
)
KINDS: dict[str, tuple[str, ...]] = {
    "run": ("run", "image=coffee", "name=scene", *TINY),
    "processes": (
        "run",
        "image=coffee",
        "name=scene",
        *TINY,
        "trainer.accelerator=cpu",
        "trainer.devices=2",
    ),
    "batch": ("batch", "coffee", "rocket", "name=scene", *TINY),
    "eval": ("eval", "dataset=ray_cast", "dataset.scenes=[room]", "name=table", *TINY),
}
"""Commands by name, without their output folder."""
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
VARYING = {
    "manifest.json",
    "metrics.json",
    "provenance.json",
    "report.html",
    "config.yaml",
    "checkpoint.ckpt",
    "logs.json",
}
"""Files that hold times, paths, random names or the step at which a run went on."""
COMPARED = {"gaussians.ply", "transforms.json", "distortion.safetensors", "fly_through.json"}
"""Files of a delivered run that are compared, besides all files of the cache."""
TIME_LIMIT = 900.0
"""Seconds after which a run counts as hanging."""


@dataclass(frozen=True)
class Reference:
    """A run that nobody stopped."""

    seconds: float
    """Time from start to end."""
    files: dict[str, str]
    """Hash by path."""


def start(kind: str, folder: Path, log: Path | None) -> subprocess.Popen[str]:
    """Start a command in a process group of its own.

    Args:
        kind: Name of the command.
        folder: Output folder.
        log: File for the record of syncs; None keeps no record.
    """
    program = ["-m", "lift"]
    if log is not None:
        program = [str(Path(__file__).with_name("power_cut.py")), str(log)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    output = folder / "output"
    output.mkdir(parents=True, exist_ok=True)
    return subprocess.Popen(
        [sys.executable, *program, *KINDS[kind], f"output={output}"],
        env=environment,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=(folder / "stderr.txt").open("w", encoding="utf-8"),
        text=True,
        start_new_session=True,
    )


def stop(process: subprocess.Popen[str], kind: signal.Signals) -> int:
    """Send a signal to all processes of a command, wait, and return the exit status."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, kind)
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return -1000
    with suppress(ProcessLookupError):  # children that outlive their parent
        os.killpg(process.pid, signal.SIGKILL)
    return process.returncode


def file_hashes(output: Path) -> dict[str, str]:
    """Hash the stages and the delivered scenes below a folder.

    Args:
        output: Output folder of a command.
    """
    hashes = {}
    for path in sorted(output.rglob("*")):
        relative = path.relative_to(output)
        ignored = any(part.startswith(".") or ".damaged-" in part for part in relative.parts)
        in_cache = "cache" in relative.parts
        if not path.is_file() or ignored or path.name in VARYING or "tensorboard" in relative.parts:
            continue
        if in_cache:
            name = str(relative)
        elif path.name in COMPARED:
            name = f"{relative.parts[0]}/*/{path.name}"  # names of evaluated runs hash `output`
        else:
            continue
        hashes[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return hashes


def make_reference(kind: str, work: Path) -> Reference:
    """Run a command undisturbed, or read what an earlier start of this program measured."""
    record = work / f"reference-{kind}.json"
    if record.exists():
        return Reference(**json.loads(record.read_text(encoding="utf-8")))
    folder = work / f"reference-{kind}"
    shutil.rmtree(folder, ignore_errors=True)
    began = time.monotonic()
    process = start(kind, folder, None)
    if process.wait(TIME_LIMIT):
        raise SystemExit(f"{kind} fails undisturbed: {tail(folder)}")
    reference = Reference(time.monotonic() - began, file_hashes(folder / "output"))
    record.write_text(json.dumps(vars(reference)), encoding="utf-8")
    shutil.rmtree(folder)
    return reference


def tail(folder: Path) -> str:
    """Return the end of what a command said."""
    return (folder / "stderr.txt").read_text(encoding="utf-8", errors="replace")[-2000:]


def trial(number: int, cause: str, kind: str, work: Path, seed: int) -> dict[str, Any]:
    """Stop a command at a random moment, run it again, and compare.

    Args:
        number: Index of the trial.
        cause: `kill` or `cut`.
        kind: Name of the command.
        work: Folder of all trials.
        seed: Seed of all trials.

    Returns:
        The row of the trial. `problem` is None if the second run gave the same result.
    """
    rng = random.Random(f"{seed} {cause} {number}")
    reference = make_reference(kind, work)
    folder = work / f"{cause}-{number}"
    shutil.rmtree(folder, ignore_errors=True)
    log = folder / "synced.jsonl" if cause == "cut" else None
    row: dict[str, Any] = {"trial": number, "cause": cause, "kind": kind, "stops": []}
    problems = []
    for _ in range(2 if rng.random() < 0.2 else 1):
        name = signal.SIGKILL if cause == "cut" else rng.choice(SIGNALS)
        delay = rng.uniform(0.0, 1.1 * reference.seconds)
        process = start(kind, folder, log)
        with suppress(subprocess.TimeoutExpired):
            process.wait(delay)
        status = stop(process, name)
        damage = cut(folder / "output", SyncLog.read(log), rng) if log else {}
        row["stops"].append(
            {"signal": name.name, "seconds": round(delay, 2), "status": status, **damage}
        )
        if status == -1000:
            problems.append(f"did not end within 60 s of {name.name}")
        if "Traceback" in tail(folder):
            problems.append(f"traceback after {name.name}: {tail(folder)}")
    process = start(kind, folder, log)
    try:
        status = process.wait(TIME_LIMIT)
    except subprocess.TimeoutExpired:
        status = stop(process, signal.SIGKILL)
    if status:
        problems.append(f"the run ended with {status}: {tail(folder)}")
    else:
        files = file_hashes(folder / "output")
        row["set_aside"] = len(list(folder.glob("output/cache/*.damaged-*")))
        changed = [path for path, digest in reference.files.items() if files.get(path) != digest]
        more = sorted(set(files) - set(reference.files))
        if changed or more:
            problems.append(f"files differ: {changed[:5]}, files that were not there: {more[:5]}")
    row["problem"] = "; ".join(problems) or None
    if not problems:
        shutil.rmtree(folder)
    return row


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read the trials that are finished."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]


def summarize(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Count trials and problems for each cause, kind and signal."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["cause"], row["kind"]), []).append(row)
    return [
        {
            "cause": cause,
            "kind": kind,
            "trials": len(members),
            "stops": sum(len(row["stops"]) for row in members),
            "damaged_files": sum(s.get("damaged", 0) for row in members for s in row["stops"]),
            "lost_entries": sum(s.get("lost", 0) for row in members for s in row["stops"]),
            "stages_set_aside": sum(row.get("set_aside", 0) for row in members),
            "resumed_identically": sum(row["problem"] is None for row in members),
            "problems": [row["problem"] for row in members if row["problem"]],
        }
        for (cause, kind), members in sorted(groups.items())
    ]


def main() -> None:
    """Run the trials that are missing, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100, help="number of killed runs")
    parser.add_argument("--cuts", type=int, default=100, help="number of power cuts")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), metavar="KIND")
    parser.add_argument("--workers", type=int, default=1, help="trials at the same time")
    parser.add_argument("--seed", type=int, default=0, help="seed of all random choices")
    parser.add_argument("--work", type=Path, help="folder of the trials (default: a temporary one)")
    add_results_option(parser)
    options = parser.parse_args()
    work = options.work or Path(tempfile.mkdtemp(prefix="lift-interruptions-"))
    work.mkdir(parents=True, exist_ok=True)
    work = work.resolve()
    for kind in options.kinds:
        make_reference(kind, work)
    trials = work / "trials.jsonl"
    finished = {(row["cause"], row["trial"]) for row in read_rows(trials)}
    wanted = [("kill", number) for number in range(options.kills)]
    wanted += [("cut", number) for number in range(options.cuts)]
    missing = [item for item in wanted if item not in finished]

    def run_trial(item: tuple[str, int]) -> None:
        cause, number = item
        kind = options.kinds[number % len(options.kinds)]
        row = trial(number, cause, kind, work, options.seed)
        with trials.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")
        if row["problem"]:
            print(f"{cause} {number} ({kind}): {row['problem']}", file=sys.stderr, flush=True)

    with ThreadPoolExecutor(options.workers) as pool:
        for _ in track(pool.map(run_trial, missing), "trials", total=len(missing), transient=True):
            pass
    rows = summarize(read_rows(trials))
    print(write_results("interruptions", options.seed, "cpu", rows, "trials", options.results))


if __name__ == "__main__":
    main()
