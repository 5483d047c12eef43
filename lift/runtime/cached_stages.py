"""What the cache has for a run: its finished stages, and the times of earlier stages."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from omegaconf import DictConfig
from torch import Tensor

from lift.depths import DepthEstimator
from lift.io.image import Picture
from lift.poses import PoseEstimator
from lift.priors import VideoPrior
from lift.registry import Registry
from lift.remote.urls import local_output
from lift.runtime.integrity import DamagedFileError, read_manifest
from lift.runtime.serialization import load
from lift.runtime.session import Session
from lift.runtime.stage_times import STAGE_SLOTS, Work, read_work, run_devices, stage_method
from lift.stages.depth import estimate_depth
from lift.stages.fit import fit
from lift.stages.generate import generate
from lift.stages.plan import build_planner, plan
from lift.stages.reconstruct import reconstruct
from lift.stages.views import Views
from lift.types import Depth, Frames, Reconstruction, Trajectory

T = TypeVar("T")


class _MissingError(Exception):
    """A stage is not in the cache, or nothing comes after it."""


class _Lookup(Session):
    """A run that only finds what the cache has.

    Args:
        config: Configuration of the run.
    """

    def __init__(self, config: DictConfig) -> None:
        super().__init__(config)
        self.store.say = lambda line: None
        self.device = torch.device("cpu")
        self.found: dict[str, int] = defaultdict(int)
        """Number of finished stages by name."""

    def say(self, line: str) -> None:
        """Print nothing."""

    def note(self, line: str) -> None:
        """Keep nothing."""

    def build(self, registry: Registry[T], **supplied: Any) -> T:
        """Build a planner or a distortion. The key of a stage needs no other component."""
        if registry.slot in ("planner", "distortion"):
            return super().build(registry, **supplied)
        return cast(T, None)

    def value(self, stage: str, key: str, make: Callable[[], T], label: str | None = None) -> T:
        """Return a stage's value if it is there."""
        return load(self._find(stage, key))

    def values(self, stage: str, keys: list[str], *_: Any, **__: Any) -> list[Any]:
        """Return the values of like stages if all are there. Count them first."""
        folders = []
        missing = False
        for key in keys:
            try:
                folders.append(self._find(stage, key))
            except _MissingError:
                missing = True
        if missing:
            raise _MissingError
        return [load(folder) for folder in folders]

    def folder(self, stage: str, key: str, *_: Any, **__: Any) -> Path:
        """Look for the last stage of a run."""
        self._find(stage, key)
        raise _MissingError  # the dry run does not need what comes after it

    def _find(self, stage: str, key: str) -> Path:
        """Return the folder of a finished stage."""
        finished = self.store.find(stage, key)
        if finished is None:
            raise _MissingError
        self.found[stage] += 1
        return finished.folder


class _NoDepth(DepthEstimator):
    """Stands for the depth estimator, which is not called."""

    def __call__(self, image: Tensor) -> Depth:
        """Fail."""
        raise NotImplementedError


class _NoPose(PoseEstimator):
    """Stands for the pose estimator, which is not called."""

    def __call__(self, frames: Frames, trajectory: Trajectory) -> Reconstruction:
        """Fail."""
        raise NotImplementedError


def find_stages(config: DictConfig, picture: Picture, prior: VideoPrior) -> dict[str, int]:
    """Count the finished stages of a run of a single picture. Nothing is computed.

    Args:
        config: Configuration of the run.
        picture: The input.
        prior: The prior.

    Returns:
        Number of finished stages by name, up to the first that is missing. A plan of recorded
        frames is no stage.
    """
    session = _Lookup(config)
    with suppress(_MissingError, DamagedFileError, OSError, ValueError):
        depth, key = estimate_depth(session, picture, _NoDepth())
        planner = build_planner(session, picture)
        trajectory, key = plan(session, picture, depth, planner, prior, key)
        frames, key = generate(session, picture, depth, prior, trajectory, key)
        reconstruction, key = reconstruct(session, _NoPose(), frames, trajectory, key)
        fit(session, Views(depth, trajectory, frames, reconstruction, key))
    return dict(session.found)


def earlier_seconds(
    config: DictConfig, works: Mapping[str, Work], unused: Sequence[str] = ()
) -> dict[str, list[float]]:
    """Find out how long the same stages took in earlier runs on this machine.

    Args:
        config: Configuration of the run.
        works: Number and size of the frames of each stage but the plan, by name.
        unused: Slots whose components take no part in the run.

    Returns:
        Seconds of stages with the same settings, device, size and number of frames, by name. Empty
        if this machine has not the devices of the run.
    """
    seconds: dict[str, list[float]] = {}
    devices = run_devices(config)
    if devices is None:
        return seconds
    methods = {
        stage: stage_method(
            config, stage, *devices, unused, works.get(stage) if stage == "fit" else None
        )
        for stage in STAGE_SLOTS
    }
    for file in (local_output(config) / "cache").glob("*/manifest.json"):
        with suppress(DamagedFileError, OSError, KeyError):  # the run makes such a stage again
            manifest = read_manifest(file.parent)
            stage = manifest["stage"]
            if manifest["method"] == methods[stage] and (
                stage in ("plan", "fit") or read_work(file.parent, stage) == works[stage]
            ):
                seconds.setdefault(stage, []).append(float(manifest["seconds"]))
    return seconds
