"""What this machine and this installation can do, in one page of text."""

import importlib.metadata
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import psutil

from lift import __version__
from lift.registry import catalogue
from lift.runtime.memory import told

_BY_HAND = {
    "match": "pose.features=xfeat",
    "viewer": "lift view",
    "cluster": "lift run -m hydra/launcher=submitit_slurm",
    "test": "make test",
}
"""What extras add that is not a component."""

_TRIALS = {
    "torch": "import torch\n"
    "for k in range(torch.cuda.device_count()):\n"
    "    p = torch.cuda.get_device_properties(k)\n"
    "    print(f'CUDA {k}: {p.name}, {p.total_memory / 2**30:.0f} GiB')\n"
    "if not torch.cuda.is_available(): print(f'CUDA: none (torch is built for {torch.version.cuda or \"the CPU only\"})')\n"
    "print('MPS: ' + ('yes, not used by any component' if torch.backends.mps.is_available() else 'none'))",
    "torchvision": "import torchvision",
    "numba": "import numba, numpy\n"
    "@numba.njit(parallel=True)\n"
    "def fill(a):\n"
    "    for k in numba.prange(len(a)): a[k] = k\n"
    "a = numpy.zeros(64); fill(a); assert a.sum() == 2016\n"
    "print(f'{numba.threading_layer()}, {numba.get_num_threads()} threads')",
    "ffmpeg": "import imageio_ffmpeg\nprint(imageio_ffmpeg.get_ffmpeg_version(), 'at', imageio_ffmpeg.get_ffmpeg_exe())",
}
"""Each is tried in a process of its own, which may hang or die; what it prints is shown."""

_PATIENCE = 15.0
"""Seconds after which a trial is given up; together they take 2 to 4 unless something hangs."""

_CORE = ("torch", "numpy", "pytorch-lightning", "hydra-core", "numba", "gaussforge", "torchvision")


def loops_are_compiled() -> bool:
    """Whether numba's cache has what a fit on the CPU needs; also if there is no cache to fill."""
    from lift.renderers.cpu import gradients, harmonics
    from lift.runtime import jit
    from lift.training.kernels import loss_numba, splats_numba

    loops = (
        gradients.unproject,
        harmonics._gradients,
        splats_numba._gradient,
        loss_numba._combine,
    )
    return all(jit.cached(last) for last in loops)


def compile_for_a_fit() -> None:
    """What `loops_are_compiled` asks for; as a process of its own (`distributed.alone`) it ends with the one that started it."""
    from lift.renderers import renderers
    from lift.runtime import distributed
    from lift.training import losses

    distributed.settle(distributed.Place(), None)
    renderers.build({"name": "numba"}).warm_up()
    losses.warm_up()


def compile_loops() -> None:
    """Compiles the CPU's loops into numba's cache, half a minute once, so that no run has to wait for it."""
    import torch

    from lift.geometry import pinhole
    from lift.planners import planners
    from lift.priors import priors
    from lift.types import Depth, Frames

    compile_for_a_fit()
    camera, ramp = pinhole(64, 64, 64.0), torch.linspace(3, 1, 64)[:, None].repeat(1, 64)
    depth = Depth(ramp, ramp > 0, "scale")
    clip = planners.build({"name": "single"})(camera, depth, 1).clips[0]
    priors.build({"name": "warp"}, depth=depth)(
        Frames(torch.zeros(1, 64, 64, 3, dtype=torch.uint8), ramp[None]), camera, clip, 0
    )


def report() -> str:
    """Versions, devices, extras and known troubles, within seconds. Whatever is missing or broken becomes a line."""
    with ThreadPoolExecutor(len(_TRIALS)) as pool:
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
            "tools": lambda: [
                f"{name}: {line}"
                for name in ("numba", "ffmpeg")
                for line in _result(trials[name], name)
            ],
            "troubles": lambda: _troubles(trials),
        }
        lines = []
        for title, look in sections.items():
            lines.append(title)
            try:
                found = look()
            except Exception as error:  # a doctor who dies of the disease helps nobody
                found = [f"cannot be told: {type(error).__name__}: {error}"]
            lines += [f"  {line}" for line in found or ["none"]]
    return "\n".join(lines)


def _versions() -> list[str]:
    lines = [
        f"lift {__version__}",
        f"Python {platform.python_version()} ({sys.executable})",
        platform.platform(),
    ]
    return [*lines, *(f"{name} {_version(name)}" for name in _CORE if _version(name))]


def _machine() -> list[str]:
    memory, disk = psutil.virtual_memory(), shutil.disk_usage(Path.cwd())
    return [
        f"CPU: {psutil.cpu_count(logical=False) or '?'} cores, {psutil.cpu_count()} threads",
        f"memory: {memory.total / 2**30:.1f} GiB, {memory.available / 2**30:.1f} free",
        f"disk: {disk.free / 2**30:.1f} GiB free here ({Path.cwd()})",
    ]


def _extras() -> list[str]:
    """Each extra of setup.cfg, from the metadata of the installation: what it adds, and what of it is not installed."""
    distribution = importlib.metadata.distribution("lift")
    extras = distribution.metadata.get_all("Provides-Extra") or []
    enables: dict[str, list[str]] = {
        extra: [_BY_HAND[extra]] if extra in _BY_HAND else [] for extra in extras
    }
    for slot, entries in catalogue().entries.items():
        for name, entry in entries.items():
            if entry.extra:
                enables.setdefault(entry.extra, []).append(f"{slot}={name}")
    lines = []
    for extra in enables:
        wanted = [
            r
            for r in distribution.requires or []
            if re.search(rf"extra\s*==\s*['\"]{re.escape(extra)}['\"]", r)
        ]
        packages = [
            re.split(r"[\s<>=!~;\[(]", requirement, maxsplit=1)[0] for requirement in wanted
        ]
        missing = [package for package in packages if not _version(package)]
        state = (
            f"not installed: {', '.join(missing)}; pip install 'lift[{extra}]'"
            if missing
            else "installed"
        )
        lines.append(f"{extra:<8} {', '.join(enables[extra]) or 'nothing yet':<44} {state}")
    return lines


def _generators() -> list[str]:
    """Video priors: what they make, and what they take."""
    lines = []
    for name, entry in sorted(catalogue().entries["prior"].items()):
        if entry.clip:
            missing = f"; not installed: {entry.how}" if entry.missing else ""
            lines.append(
                f"{name:<12} {entry.clip} frames of {entry.size[0]}x{entry.size[1]}; {told(entry.parts, entry.working)}; {entry.licence}{missing}"
            )
    return lines


def _troubles(trials: "dict[str, Future[tuple[bool, str]]]") -> list[str]:
    lines = [
        f"{name} does not work: {trial.result()[1]}"
        for name, trial in trials.items()
        if not trial.result()[0]
    ]
    if "torchvision" in trials and not trials["torchvision"].result()[0]:
        lines.append(
            "  lift does not need torchvision, but Lightning and torchmetrics import it if it is there: pip uninstall torchvision"
        )
    lines += [
        f"plugin {name} is broken: {type(error).__name__}: {_line(str(error))}"
        for name, error in catalogue().broken.items()
    ]
    if shutil.disk_usage(Path.cwd()).free < 2 * 2**30:
        lines.append("less than 2 GiB of disk are free here, and a run may need as much")
    return lines


def _result(trial: "Future[tuple[bool, str]]", name: str) -> list[str]:
    works, text = trial.result()
    return text.splitlines() if works else [f"{name} does not work, see below"]


def _try(code: str) -> tuple[bool, str]:
    """Whether the code runs, and what it prints, or the last line of its error."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=_PATIENCE
        )
    except subprocess.TimeoutExpired:
        return False, f"no answer within {_PATIENCE:g} s: it hangs, or the machine is very busy"
    except OSError as error:
        return False, _line(str(error))
    if done.returncode:
        return False, _line(
            (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1]
        )
    return True, done.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _line(text: str) -> str:
    return " ".join(text.split())
