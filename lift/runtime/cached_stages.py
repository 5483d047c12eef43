"""What the cache has for a run: its finished stages, and the times of like stages."""

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from omegaconf import DictConfig
from PIL import Image
from safetensors import safe_open
from torch import Tensor

from lift.depths import DepthEstimator
from lift.io.image import Picture
from lift.poses import PoseEstimator
from lift.priors import VideoPrior
from lift.registry import Registry
from lift.runtime.integrity import DamagedFileError, damage_of, read_manifest
from lift.runtime.serialization import TENSORS, TREE, load
from lift.runtime.session import Session, component_names
from lift.stages.depth import estimate_depth
from lift.stages.fit import fit
from lift.stages.generate import generate
from lift.stages.plan import build_planner, plan
from lift.stages.reconstruct import reconstruct
from lift.stages.views import Views
from lift.types import Depth, Frames, Reconstruction, Trajectory

T = TypeVar("T")

Work = tuple[int, ...]
"""What the time of a stage depends on: its number of frames, and their height and width."""

_SHAPES = {"depth": "value.depth", "reconstruct": "value.reconstruction.depth"}
"""Tensor of a stage that has the shape of its frames."""


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
    """Find out how long like stages took.

    Args:
        config: Configuration of the run.
        works: Number and size of the frames of each stage, by name.
        unused: Slots whose components take no part in the run.

    Returns:
        Seconds of stages of the same components, size and number of frames, by name.
    """
    seconds: dict[str, list[float]] = {}
    components = component_names(config, unused)
    for file in (Path(config.output) / "cache").glob("*/manifest.json"):
        with suppress(DamagedFileError, OSError, KeyError):  # the run makes such a stage again
            manifest = read_manifest(file.parent)
            stage = manifest["stage"]
            is_alike = stage in works and manifest.get("by") == components[stage]
            if is_alike and _read_work(file.parent, stage) == works[stage]:
                seconds.setdefault(stage, []).append(float(manifest["seconds"]))
    return seconds


def _read_work(folder: Path, stage: str) -> Work | None:
    """Read the number and the size of a stage's frames, without its pixels."""
    with damage_of(folder):
        if stage == "clip":
            images = json.loads((folder / TREE).read_text(encoding="utf-8"))["fields"]["images"]
            paths = sorted((folder / images["pictures"]).glob("*.png"))
            with Image.open(paths[0], formats=["PNG"]) as image:
                return len(paths), image.height, image.width
        if stage not in _SHAPES:
            return None
        with safe_open(folder / TENSORS, "pt") as file:
            shape = file.get_slice(_SHAPES[stage]).get_shape()
        return tuple(shape) if len(shape) == 3 else (1, *shape)
