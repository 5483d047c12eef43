"""The fits of `distortion.py`: which modules are compared, on what, and in which processes."""

import hashlib
import json
import logging
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from inspect import Parameter
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import torch
from distortion_measures import Oracle, evaluate_scene, measure_corruption_errors
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lift.config import compose_run, resolve_fit
from lift.distortions import Distortion, distortions
from lift.errors import is_interrupt
from lift.evaluation.lpips import LPIPS
from lift.registry import catalogue
from lift.renderers import Renderer, renderers
from lift.runtime.parallel import torch_on_one_thread
from lift.synthetic.photographs import load_photographs
from lift.synthetic.scenes import render
from lift.synthetic.worlds import (
    CORRUPTION_KINDS,
    CorruptedScene,
    World,
    corrupt_world,
    ray_cast_world,
)
from lift.training.fit import fit
from lift.training.initial import initial_gaussians
from lift.training.module import SceneModule
from lift.types import Cameras, Frames, Gaussians

SHARED = Path(os.environ.get("LIFT_SHARED", Path(__file__).parents[2] / "shared"))
WEIGHTS = SHARED / "weights" / "lpips_backbones"

ORACLE = "oracle"
"""Name of the module that applies the true corruption. See `distortion_measures.Oracle`."""
MODULES = {
    "identity": ["distortion=identity"],
    "rigid": ["distortion=composed", "distortion.parts=[rigid]"],
    "image_warp": ["distortion=composed", "distortion.parts=[image_warp]"],
    "appearance": ["distortion=composed", "distortion.parts=[appearance]"],
    "blur": ["distortion=composed", "distortion.parts=[blur]"],
    "field": ["distortion=composed", "distortion.parts=[field]"],
    "hexplane": ["distortion=composed", "distortion.parts=[hexplane]"],
    "hexplane as_released": ["distortion=hexplane", "distortion.as_released=true"],
    ORACLE: ["distortion=identity"],
    "composed, no pruning": ["distortion=composed", "distortion.prune_after=0"],
    "composed, no robust weights": ["distortion=composed"],
    "composed": ["distortion=composed", "fit.robust.frames=2.5"],
}
"""Settings of each row of the table.

A single module is a part of `composed`, which delays its start and drops it if it explains too
little. All rows but the last weight frames alike. The last row is the default of `lift run`.
"""
RAY_CAST = ("room", "terrace", "thin", "plain")
PHOTOGRAPHS = ("llff_fern", "llff_flower", "sceaux_castle")
FITS = {
    "quick": ["fit.steps=900", "fit.initial_gaussians=9000", "fit.max_gaussians=14000"],
    "full": [
        "fit.steps=1200",
        "fit.batch_size=4",
        "fit.initial_gaussians=40000",
        "fit.max_gaussians=80000",
    ],
}
DEVICES = {"cpu": [], "cuda": ["renderer=gsplat", "trainer=gpu"]}
BASE_SETTINGS = [
    "image=room",
    "fit.test_every=0",
    "fit.checkpoint_every=1000000",
    "fit.coarse_to_fine.scales=[0.5]",
    "fit.coarse_to_fine.until=[0.3]",
    "fit.robust.frames=0",
]
SETTING_ERRORS = (ValueError, HydraException, OmegaConfBaseException)
"""What `compose` raises if settings are wrong."""


def corruption_cases(severities: list[float], single_kinds: bool) -> dict[str, dict[str, float]]:
    """List the corruptions that are compared.

    Args:
        severities: Severities at which all kinds are applied together.
        single_kinds: Whether to add each kind alone at severity 1.

    Returns:
        The size of each kind by the name of the case.
    """
    cases: dict[str, dict[str, float]] = {"clean": {}}
    for severity in severities:
        cases[f"all x {severity:g}"] = dict.fromkeys(CORRUPTION_KINDS, severity)
    if single_kinds:
        cases |= {kind: {kind: 1.0} for kind in CORRUPTION_KINDS}
    return cases


def compose(fit_settings: list[str], module_settings: list[str]) -> DictConfig:
    """Compose the configuration of a fit."""
    return compose_run([*BASE_SETTINGS, *fit_settings, *module_settings])


NEUTRAL_SETTINGS: dict[str, Any] = {
    "canonical_steps": 0,
    "max_input_fraction": 0.4,
    "init": {"points": "all", "scales": "voxels", "opacity": 0.6},
    "scene_scale": "depth",
    "sh_degree_interval": 0,
    "adam": {"betas": [0.9, 0.999], "eps": 1e-15},
    "learning_rate.views": 1,
    "learning_rate.decay": {
        **{"means": 0.01, "scales": 1.0, "quats": 1.0, "opacities": 1.0},
        **{"colors": 1.0, "distortion": 0.1, "steps": None},
    },
    "loss.l1": None,
    "loss.depth_final": None,
    "loss.depth_steps": None,
    "loss.depth_unit": "typical",
    "densify.strategy": "mcmc",
}
"""Settings of the fit that are newer than results, and the values with which nothing changed."""


def config_hash(config: DictConfig) -> str:
    """Hash the fit and the distortion of a configuration, defaults included.

    A row of the results keeps the hash. So rows that were made with other defaults are recognised.
    `NEUTRAL_SETTINGS` are left out, so that rows that are older than these settings stay valid.

    Args:
        config: The configuration of a run.

    Returns:
        Eight hexadecimal digits.
    """
    distortion: Any = OmegaConf.to_container(config.distortion, resolve=True)
    changes = distortion.get("settings") or {}
    parts = {
        name: _default_settings(name) | changes.get(name, {})
        for name in distortion.get("parts") or ()
    }
    resolved = {
        "fit": _without_neutral(OmegaConf.to_container(resolve_fit(config.fit), resolve=True)),
        "distortion": distortion,
        "parts": parts,
    }
    text = json.dumps(resolved, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _without_neutral(fit: Any) -> dict[str, Any]:
    """Return settings of the fit without those of `NEUTRAL_SETTINGS` that have these values."""
    for key, neutral in NEUTRAL_SETTINGS.items():
        *groups, name = key.split(".")
        node = fit
        for group in groups:
            node = node[group]
        if node[name] == neutral:
            del node[name]
    if "strategy" not in fit["densify"]:
        del fit["densify"]["gradient"]  # it has no effect
    return fit


def _default_settings(name: str) -> dict[str, Any]:
    """Look up the defaults of a distortion, which are those of its constructor, and its start."""
    entry = catalogue()("distortion", name)
    defaults = {
        key: parameter.default
        for key, parameter in entry.settings.items()
        if parameter.default is not Parameter.empty
    }
    return {**defaults, "start": entry.load().start}


@dataclass(frozen=True)
class Trial:
    """One fit: a row of the results."""

    scene: str
    case: str
    """Name of the corruptions."""
    seed: int
    module: str
    sizes: dict[str, float]
    """Size of each kind of corruption."""
    fit_settings: list[str]
    """Settings that all fits of a table have in common."""
    module_settings: list[str]
    """Settings of the row's module."""
    config_hash: str
    """See `config_hash`."""
    quick: bool
    """Whether pictures and trajectory are small."""
    worlds: Path
    """Folder of the scenes that were rendered already."""

    @property
    def label(self) -> dict[str, Any]:
        """What identifies a row."""
        return {
            "scene": self.scene,
            "case": self.case,
            "seed": self.seed,
            "module": self.module,
            "fit_settings": self.fit_settings,
            "module_settings": self.module_settings,
            "config_hash": self.config_hash,
        }

    def world(self, render_scene: Callable[[str, Cameras], Frames] = render) -> World:
        """Render or load the scene. It is kept in a file, which other processes read.

        Args:
            render_scene: Renders a built-in scene by name.
        """
        path = self.worlds / f"{self.scene}.pt"
        if not path.exists():
            size, frames = ((128, 96), 4) if self.quick else ((256, 192), 8)
            if self.scene in RAY_CAST:
                world = ray_cast_world(self.scene, size, frames, render_scene)
            else:
                world = load_photographs(SHARED / "data" / self.scene, size)
            torch.save(world, path)
        return torch.load(path, weights_only=False)


def fit_and_measure(
    world: World,
    corrupted: CorruptedScene,
    config: DictConfig,
    renderer: Renderer,
    seed: int,
    lpips: LPIPS | None = None,
    oracle: bool = False,
) -> tuple[dict[str, Any], Gaussians, Distortion]:
    """Fit a scene to corrupted frames and measure it.

    Args:
        world: The true scene.
        corrupted: The corrupted scene.
        config: Settings of the run.
        renderer: The renderer.
        seed: Seed of the fit.
        lpips: Network, or None to leave LPIPS out.
        oracle: Whether `Oracle` takes the place of the distortion that `config` names.

    Returns:
        The measures, the canonical scene and the learned distortion.
    """
    cameras = corrupted.reconstruction.cameras
    torch.manual_seed(seed)
    if oracle:
        distortion: Distortion = Oracle(world.trajectory.cameras, corrupted)
    else:
        distortion = _build_distortion(world, corrupted, config)
    start = initial_gaussians(
        corrupted.frames, corrupted.reconstruction, resolve_fit(config.fit), renderer.device
    )
    module = SceneModule(
        start,
        distortion,
        renderer,
        corrupted.frames,
        corrupted.reconstruction,
        config.fit,
        world.typical,
        seed,
    )
    if renderer.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    start_time = time.perf_counter()
    trainer: Any = OmegaConf.to_container(config.trainer)
    views = list(range(1, len(cameras)))
    with tempfile.TemporaryDirectory() as folder:
        fit(module, views, Path(folder), config.fit, trainer, seed)
    seconds = time.perf_counter() - start_time
    gaussians = module.splats.gaussians().map(lambda value: value.detach())
    distortion = module.distortion.eval()
    row = {
        **evaluate_scene(renderer, gaussians, world, lpips),
        **measure_corruption_errors(distortion, gaussians, world, corrupted),
        "seconds": seconds,
        "gaussians": len(gaussians),
    }
    if summary := distortion.summary():
        row["summary"] = summary
    if renderer.device.type == "cuda":
        row["peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
    return row, gaussians, distortion


def _build_distortion(world: World, corrupted: CorruptedScene, config: DictConfig) -> Distortion:
    cameras = corrupted.reconstruction.cameras
    settings: Any = OmegaConf.to_container(config.distortion)
    return distortions.build(
        settings,
        num_views=len(cameras),
        extent=world.typical,
        size=(cameras.width, cameras.height),
        trajectory=world.trajectory,
        points=corrupted.reconstruction.points,
        multiview_consistent=False,
    )


class TrialRunner:
    """Runs trials in one process. Keeps the renderer, the network and the last scene.

    Args:
        device: `cpu`, or a CUDA device such as `cuda:0`.
    """

    def __init__(self, device: str) -> None:
        if device != "cpu":
            torch.cuda.set_device(device)
        name = "numba" if device == "cpu" else "gsplat"
        self.renderer = renderers.build({"name": name}, device=torch.device(device))
        self.lpips = LPIPS.load(WEIGHTS).to(device) if WEIGHTS.is_dir() else None
        self._scene = ""
        self._world: World | None = None
        self._corrupted: dict[tuple[str, int], CorruptedScene] = {}
        logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)

    def run(self, trial: Trial) -> dict[str, Any]:
        """Run a trial.

        Args:
            trial: The trial.

        Returns:
            Its row of the results.
        """
        if trial.scene != self._scene or self._world is None:
            self._scene = trial.scene
            self._world = trial.world()
            self._corrupted = {}
        key = (trial.case, trial.seed)
        if key not in self._corrupted:
            self._corrupted = {key: corrupt_world(self._world, trial.sizes, trial.seed)}
        row, *_ = fit_and_measure(
            self._world,
            self._corrupted[key],
            compose(trial.fit_settings, trial.module_settings),
            self.renderer,
            trial.seed,
            self.lpips,
            oracle=trial.module.startswith(ORACLE),
        )
        return {**trial.label, **row}


_runner: TrialRunner | None = None
"""The runner of a worker process."""


def _start_worker(device: str, next_gpu: Any) -> None:
    """Make the runner of a worker process, on the next GPU in turn.

    Only the main process handles Ctrl-C.
    """
    global _runner
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with next_gpu.get_lock():
        index = next_gpu.value
        next_gpu.value += 1
    _runner = TrialRunner(
        device if device == "cpu" else f"cuda:{index % torch.cuda.device_count()}"
    )


def _run_in_worker(trial: Trial) -> dict[str, Any]:
    assert _runner is not None
    return _runner.run(trial)


def run_trials(trials: list[Trial], device: str, workers: int) -> Iterator[dict[str, Any]]:
    """Run trials. A trial that fails is reported, and the others go on.

    Args:
        trials: The trials.
        device: `cpu` or `cuda`.
        workers: Number of processes. They share the GPUs.

    Yields:
        Rows of the results as they are finished.
    """
    if workers == 1:
        yield from _run_here(trials, device)
        return
    spawn = torch.multiprocessing.get_context("spawn")
    # Each process uses one core. The variables are set here, because numba reads them when its
    # threads start.
    os.environ |= {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    arguments = (device, spawn.Value("i", 0))
    with (
        torch_on_one_thread(),
        ProcessPoolExecutor(workers, spawn, _start_worker, arguments) as pool,
    ):
        failed = _render_scenes(trials, pool)
        futures = {
            pool.submit(_run_in_worker, trial): trial
            for trial in trials
            if trial.scene not in failed
        }
        try:
            for future in as_completed(futures):
                try:
                    row = future.result()
                except BrokenExecutor:
                    raise SystemExit(
                        "a process was ended, maybe for lack of memory; choose fewer --workers "
                        "and run the same command again"
                    ) from None
                except Exception:
                    _print_failure(futures[future])
                else:
                    yield row
        except BaseException:
            for worker in active_children():  # a fit takes minutes
                worker.terminate()
            pool.shutdown(cancel_futures=True)
            raise


def _run_here(trials: list[Trial], device: str) -> Iterator[dict[str, Any]]:
    runner = TrialRunner(device if device == "cpu" else "cuda:0")
    for trial in trials:
        try:
            yield runner.run(trial)
        except Exception as error:
            if is_interrupt(error):
                raise KeyboardInterrupt from None
            _print_failure(trial)


def _render_scenes(trials: list[Trial], pool: ProcessPoolExecutor) -> set[str]:
    """Render each scene once, a view per process, and return the scenes that failed."""
    failed = set()
    for trial in {trial.scene: trial for trial in trials}.values():
        try:
            trial.world(partial(_render_in_pool, pool))
        except Exception:
            _print_failure(trial)
            failed.add(trial.scene)
    return failed


def _render_in_pool(pool: ProcessPoolExecutor, name: str, cameras: Cameras) -> Frames:
    views = [cameras[view] for view in range(len(cameras))]
    return Frames.cat(list(pool.map(render, [name] * len(views), views)))


def _print_failure(trial: Trial) -> None:
    name = f"{trial.scene}, {trial.case}, seed {trial.seed}, {trial.module}"
    print(f"{name} failed:\n{traceback.format_exc()}", file=sys.stderr, flush=True)
