"""`lift doctor`: what this machine and this installation can do, in one page of text."""

import argparse
import importlib.metadata
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from lift import __version__
from lift.cli.processes import add_command
from lift.registry import Entry, catalogue
from lift.runtime.child_process import code_command
from lift.runtime.memory import format_memory

_EXTRA_USES = {
    "match": "pose.features=xfeat",
    "viewer": "lift view",
    "heif": "image=photo.heic",
    "wandb": "logger=wandb",
    "cluster": "lift run -m hydra/launcher=submitit_slurm",
    "test": "make test",
    "docs": "make docs",
}
"""What an extra adds if that is not a component."""

_TRIALS = {
    "torch": r"""
import torch
for k in range(torch.cuda.device_count()):
    p = torch.cuda.get_device_properties(k)
    print(f'CUDA {k}: {p.name}, {p.total_memory / 2**30:.0f} GiB')
if not torch.cuda.is_available():
    print(f'CUDA: none (torch is built for {torch.version.cuda or "the CPU only"})')
mps = torch.backends.mps.is_available()
print('MPS: ' + ('yes, not used by any component' if mps else 'none'))
""",
    "torchvision": "import torchvision",
    "numba": r"""
import numba, numpy
@numba.njit(parallel=True)
def fill(a):
    for k in numba.prange(len(a)): a[k] = k
a = numpy.zeros(64); fill(a); assert a.sum() == 2016
print(f'{numba.threading_layer()}, {numba.get_num_threads()} threads')
""",
    "ffmpeg": r"""
import imageio_ffmpeg
print(imageio_ffmpeg.get_ffmpeg_version(), 'at', imageio_ffmpeg.get_ffmpeg_exe())
""",
}
"""Python code that tries a package. Each runs in its own process, which may hang or crash."""

_TRIAL_TIMEOUT = 15.0
"""Seconds after which a trial is stopped. All together take 2 to 4 s unless one hangs."""

_IMPORT_TIMEOUT = 60.0
"""Seconds after which the import of a network's package is stopped."""

_MIN_FREE_DISK = 2 * 2**30
"""Bytes of free disk below which the report warns."""

_CORE = ("torch", "numpy", "pytorch-lightning", "hydra-core", "numba", "gaussforge", "torchvision")
"""Packages whose versions the report names."""

_Trial = Future[tuple[bool, str]]


def add_parser(commands: Any) -> None:
    """Add the command to the command line.

    Args:
        commands: What `add_subparsers` returned.
    """
    parser = add_command(
        commands,
        "doctor",
        doctor,
        "say what is installed, what each extra would add, and which devices there are",
    )
    parser.add_argument(
        "--compile",
        action="store_true",
        help="compile the CPU's loops now, so that the first run need not",
    )


def doctor(options: argparse.Namespace) -> int:
    """Print the report, after the loops are compiled if the user asks for it.

    Args:
        options: `compile`.

    Returns:
        The exit status.
    """
    if options.compile:
        from lift.cli.compile_loops import compile_loops

        compile_loops()
    print(report())
    return 0


def report() -> str:
    """Describe versions, devices, extras and problems, within seconds.

    Returns:
        The report. Whatever is missing or broken becomes a line of it.
    """
    networks = {
        f"{slot} {name}": entry
        for slot, entries in catalogue().entries.items()
        for name, entry in sorted(entries.items())
        if entry.install
    }
    with ThreadPoolExecutor(len(_TRIALS) + len(networks)) as pool:
        imports = {
            name: pool.submit(_try, _import_code(entry), _IMPORT_TIMEOUT)
            for name, entry in networks.items()
            if not entry.missing
        }
        trials = {
            name: pool.submit(_try, code)
            for name, code in _TRIALS.items()
            if name != "torchvision" or _version(name)
        }
        sections: dict[str, Callable[[], list[str]]] = {
            "versions": _versions,
            "devices": lambda: [*_machine(), *_result(trials["torch"], "torch")],
            "extras": _extras,
            "generators": _generators,
            "networks": lambda: [
                _describe_network(name, entry, imports.get(name))
                for name, entry in networks.items()
            ],
            "tools": lambda: [
                f"{name}: {line}"
                for name in ("numba", "ffmpeg")
                for line in _result(trials[name], name)
            ],
            "troubles": lambda: _troubles(trials),
        }
        lines = []
        for title, describe in sections.items():
            lines.append(title)
            try:
                section = describe()
            except Exception as error:  # the report must survive whatever is broken
                section = [f"not available: {type(error).__name__}: {error}"]
            lines += [f"  {line}" for line in section or ["none"]]
    return "\n".join(lines)


def _versions() -> list[str]:
    """List versions of lift, Python and the core packages."""
    lines = [
        f"lift {__version__}",
        f"Python {platform.python_version()} ({sys.executable})",
        platform.platform(),
    ]
    return [*lines, *(f"{name} {_version(name)}" for name in _CORE if _version(name))]


def _machine() -> list[str]:
    """List cores, memory and disk."""
    import psutil

    memory = psutil.virtual_memory()
    disk = shutil.disk_usage(Path.cwd())
    return [
        f"CPU: {psutil.cpu_count(logical=False) or '?'} cores, {psutil.cpu_count()} threads",
        f"memory: {memory.total / 2**30:.1f} GiB, {memory.available / 2**30:.1f} free",
        f"disk: {disk.free / 2**30:.1f} GiB free here ({Path.cwd()})",
    ]


def _extras() -> list[str]:
    """List the extras of the installation: what each adds, and what of it is not installed."""
    distribution = importlib.metadata.distribution("lift")
    extras = distribution.metadata.get_all("Provides-Extra") or []
    uses: dict[str, list[str]] = {
        extra: [_EXTRA_USES[extra]] if extra in _EXTRA_USES else [] for extra in extras
    }
    for slot, entries in catalogue().entries.items():
        for name, entry in entries.items():
            if entry.extra:
                uses.setdefault(entry.extra, []).append(f"{slot}={name}")
    lines = []
    for extra in uses:
        requirements = [
            r
            for r in distribution.requires or []
            if re.search(rf"extra\s*==\s*['\"]{re.escape(extra)}['\"]", r)
        ]
        packages = [
            re.split(r"[\s<>=!~;\[(]", requirement, maxsplit=1)[0] for requirement in requirements
        ]
        missing = [package for package in packages if not _version(package)]
        state = (
            f"not installed: {', '.join(missing)}; pip install 'lift[{extra}]'"
            if missing
            else "installed"
        )
        lines.append(f"{extra:<8} {', '.join(uses[extra]) or 'nothing yet':<44} {state}")
    return lines


def _generators() -> list[str]:
    """List the video generators: size of their clips, memory and licence."""
    lines = []
    for name, entry in sorted(catalogue().entries["prior"].items()):
        if entry.trained_frames and entry.trained_size:
            width, height = entry.trained_size
            missing = f"; not installed: {entry.install_hint}" if entry.missing else ""
            memory = format_memory(entry)
            lines.append(
                f"{name:<12} {entry.trained_frames} frames of {width}x{height}; "
                f"{memory}; {entry.licence}{missing}"
            )
    return lines


def _import_code(entry: Entry) -> str:
    """Return code that imports the package of a network as the component does."""
    return (
        f"from {entry.module} import {entry.qualname} as component\n"
        "getattr(component, 'import_packages', lambda: None)()"
    )


def _describe_network(name: str, entry: Entry, trial: _Trial | None) -> str:
    """Say whether the package of a network can be imported, and how to install it."""
    if trial is None:
        return f"{name:<22} not installed: {entry.install_hint}"
    works, text = trial.result()
    if works:
        return f"{name:<22} can be imported; licence: {entry.licence}"
    return f"{name:<22} cannot be imported: {text}; install it by: {entry.install_hint}"


def _troubles(trials: Mapping[str, _Trial]) -> list[str]:
    """List trials that failed, broken plugins and a full disk."""
    lines = [
        f"{name} does not work: {trial.result()[1]}"
        for name, trial in trials.items()
        if not trial.result()[0]
    ]
    if "torchvision" in trials and not trials["torchvision"].result()[0]:
        lines.append(
            "  lift does not need torchvision, but Lightning and torchmetrics import it if it is "
            "there: pip uninstall torchvision"
        )
    lines += [
        f"plugin {name} is broken: {type(error).__name__}: {_one_line(str(error))}"
        for name, error in catalogue().broken.items()
    ]
    if shutil.disk_usage(Path.cwd()).free < _MIN_FREE_DISK:
        lines.append("less than 2 GiB of disk are free here, and a run may need as much")
    return lines


def _result(trial: _Trial, name: str) -> list[str]:
    """Return the lines that a trial printed."""
    works, text = trial.result()
    return text.splitlines() if works else [f"{name} does not work, see below"]


def _try(code: str, timeout: float | None = None) -> tuple[bool, str]:
    """Run code in a process of its own.

    Args:
        code: The code.
        timeout: Seconds after which it is stopped. None: `_TRIAL_TIMEOUT`.

    Returns:
        Whether it ended without an error, and what it printed or the last line of its error.
    """
    timeout = _TRIAL_TIMEOUT if timeout is None else timeout
    try:
        process = subprocess.run(
            code_command(code),
            capture_output=True,
            encoding="utf-8",
            errors="backslashreplace",
            timeout=timeout,
        )
    except subprocess.TimeoutExpired:
        return (
            False,
            f"no answer within {timeout:g} s: it hangs, or the machine is very busy",
        )
    except OSError as error:
        return False, _one_line(str(error))
    if process.returncode:
        text = process.stderr.strip() or f"exit status {process.returncode}"
        return False, _one_line(text.splitlines()[-1])
    return True, process.stdout.strip()


def _version(package: str) -> str | None:
    """Return the version of an installed package."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _one_line(text: str) -> str:
    """Replace line breaks and repeated spaces by single spaces."""
    return " ".join(text.split())
