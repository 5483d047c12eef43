"""What the time of a stage depends on, so that the time of one run predicts that of another."""

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from safetensors import safe_open

from lift.registry import ComponentError
from lift.runtime.cache import Stage, hash_key
from lift.runtime.devices import device_indices
from lift.runtime.integrity import DamagedFileError, damage_of
from lift.runtime.machine import device_name
from lift.runtime.serialization import TENSORS, TREE

Work = tuple[int, ...]
"""Number of the frames of a stage, and their height and width in pixels."""

STAGE_SLOTS = {
    "depth": ("depth",),
    "plan": ("planner",),
    "clip": ("prior",),
    "reconstruct": ("pose", "prior"),
    "fit": ("distortion", "renderer"),
}
"""Slots of the components that compute each stage. The prior decides what `pose=auto` does."""

_SECTIONS = {
    "depth": ("edges",),
    "plan": ("motion_limit", "preprocess", "prior"),
    "clip": (),
    "reconstruct": ("stereo",),
    "fit": ("fit", "prior.name", "trainer", "callbacks"),
}
"""Other settings that the time of a stage depends on."""

_SHAPES = {"depth": "value.depth", "reconstruct": "value.reconstruction.depth"}
"""Tensor of a stage that has the shape of its frames."""


def stage_method(
    config: DictConfig,
    stage: str,
    device: torch.device,
    processes: int,
    unused: Sequence[str] = (),
    frames: Work | None = None,
) -> str:
    """Hash what the time of a stage depends on: settings, device and number of processes.

    Args:
        config: Configuration of the run.
        stage: Name of the stage.
        device: Device of the run.
        processes: Number of processes of the run.
        unused: Slots whose components take no part in the run.
        frames: Number and size of the frames, for a fit. The results of other stages tell them.
    """
    keys = [key for key in (*STAGE_SLOTS[stage], *_SECTIONS[stage]) if key not in unused]
    settings = {key: _plain(OmegaConf.select(config, key)) for key in keys}
    return hash_key(stage, settings, device_name(device), processes, frames)


def run_devices(config: DictConfig) -> tuple[torch.device, int] | None:
    """Return the device and the number of processes of a run on this machine.

    Args:
        config: Configuration of the run.

    Returns:
        None if this machine has not the devices that `trainer` names. The run is for another one.
    """
    try:
        processes = len(device_indices(config.trainer))
    except ComponentError:
        return None
    if config.device != "cpu" and torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device()), processes
    return torch.device("cpu"), processes


def fitted_frames(stages: Sequence[Stage]) -> Work | None:
    """Return the number and the size of the frames that a run has registered.

    Args:
        stages: Finished stages of the run, in order.

    Returns:
        None if the run has no such stage, as a fit that continues another run's.
    """
    for stage in reversed(stages):
        if stage.name == "reconstruct":
            with suppress(DamagedFileError, OSError, KeyError):
                return read_work(stage.folder, stage.name)
    return None


def read_work(folder: Path, stage: str) -> Work | None:
    """Read the number and the size of a stage's frames, without its pixels.

    Args:
        folder: Folder of the finished stage.
        stage: Name of the stage.

    Returns:
        None for a stage without frames.

    Raises:
        DamagedFileError: The folder is damaged, or has no such stage.
    """
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


def _plain(value: Any) -> Any:
    """Return settings as JSON-like values."""
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
