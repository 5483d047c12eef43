"""How long does `lift` take to start: to print what was asked for, or to begin the first stage?

    python benchmarks/startup.py [--before CHECKOUT] [--rounds 5] [--results FOLDER]

The program copies the package of this checkout, and that of an older one with `--before`. One run
of each command is not counted. It compiles what Python and numba cache. Then the commands of all
copies take turns. A run is stopped when its first stage has begun. Figures are medians: seconds of
the clock, and seconds of the processor (user and system). The last row is the import of torch.
"""

import argparse
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from measure import add_results_option, write_results
from PIL import Image
from skimage import data

ROOT = Path(__file__).parents[1]

RUN = ("run", "image=picture.png")
COMMANDS = {
    "lift --help": ("--help",),
    "lift list": ("list",),
    "lift show depth lite": ("show", "depth", "lite"),
    "lift run --cfg job": (*RUN, "--cfg", "job"),
    "lift run --plan": (*RUN, "--plan"),
    "lift run, to its first stage": RUN,
    "lift batch, to its first stage": ("batch", "picture.png"),
}
"""Name of a command in the table -> its arguments."""

IMPORT = "import torch"
"""Name of the row that shows what torch alone takes."""

COMPILE = "from lift.runtime.compile_ahead import compile_fit_loops; compile_fit_loops()"

TIME_LIMIT = 300
"""Seconds after which a command counts as stuck."""


def copy_package(checkout: Path, folder: Path) -> Path:
    """Copy the package of a checkout as an installation has it.

    Args:
        checkout: Folder of the checkout.
        folder: A folder that does not exist.

    Returns:
        The value of PYTHONPATH by which commands find the copy.
    """
    ignored = shutil.ignore_patterns("__pycache__", "configs")
    shutil.copytree(checkout / "lift", folder / "lift", ignore=ignored)
    shutil.copytree(checkout / "configs", folder / "lift" / "configs")
    return folder


def command_line(name: str) -> list[str]:
    """Return the words of a command."""
    if name == IMPORT:
        return [sys.executable, "-c", IMPORT]
    return [sys.executable, "-m", "lift", *COMMANDS[name]]


def start(words: list[str], package: Path, folder: Path) -> subprocess.Popen[bytes]:
    """Start a command in a process group of its own."""
    environment = {**os.environ, "PYTHONPATH": str(package)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # users have compiled modules
    with (folder / "stderr.txt").open("wb") as errors:
        return subprocess.Popen(
            words,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,
        )


def has_begun(folder: Path) -> bool:
    """Whether the run of a folder computes its first stage."""
    return any(folder.glob("outputs/cache/.depth*.draft"))


def time_command(name: str, package: Path, folder: Path) -> tuple[float, float]:
    """Run a command to its end or to its first stage.

    Args:
        name: Name of the command.
        package: Folder with the copy of the package.
        folder: Folder to run in. It has the picture.

    Returns:
        Seconds of the clock, and seconds of the processor.
    """
    shutil.rmtree(folder / "outputs", ignore_errors=True)
    is_stopped = name.endswith("first stage")
    began = time.perf_counter()
    process = start(command_line(name), package, folder)
    while is_stopped and not has_begun(folder) and time.perf_counter() - began < TIME_LIMIT:
        if os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            break
        time.sleep(0.005)
    seconds = time.perf_counter() - began
    if is_stopped:
        os.killpg(process.pid, signal.SIGKILL)
    _, status, usage = os.wait4(process.pid, 0)
    if not is_stopped:
        seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != (-signal.SIGKILL if is_stopped else 0):
        raise RuntimeError(f"{name} failed: {(folder / 'stderr.txt').read_text()}")
    return seconds, usage.ru_utime + usage.ru_stime


def measure(packages: dict[str, Path], folder: Path, rounds: int) -> list[dict[str, Any]]:
    """Time all commands of all copies of the package.

    Args:
        packages: Name of a copy -> its folder.
        folder: Folder to run in.
        rounds: Number of runs of each command.

    Returns:
        The rows of the result.
    """
    times: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for package in packages.values():
        subprocess.run(
            [sys.executable, "-c", COMPILE],
            check=True,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(package)},
        )
    for number in range(rounds + 1):
        for name in (*COMMANDS, IMPORT):
            for label, package in packages.items():
                seconds = time_command(name, package, folder)
                if number:
                    times.setdefault((name, label), []).append(seconds)
    rows = []
    for (name, label), pairs in times.items():
        clock, processor = (statistics.median(values) for values in zip(*pairs, strict=True))
        row = {"command": name, "checkout": label, "runs": rounds}
        rows.append(row | {"seconds": round(clock, 2), "processor_seconds": round(processor, 2)})
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    """Measure, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--before", type=Path, help="an older checkout to compare with")
    parser.add_argument("--rounds", type=int, default=5)
    add_results_option(parser)
    options = parser.parse_args()
    checkouts = {"now": ROOT}
    if options.before:
        checkouts = {"before": options.before, **checkouts}
    with tempfile.TemporaryDirectory(prefix="startup-") as temporary:
        work = Path(temporary)
        packages = {label: copy_package(path, work / label) for label, path in checkouts.items()}
        folder = work / "run"
        folder.mkdir()
        Image.fromarray(data.coffee()).save(folder / "picture.png")
        rows = measure(packages, folder, options.rounds)
    write_results("startup", 0, "cpu", rows, "seconds", options.results)


if __name__ == "__main__":
    main()
