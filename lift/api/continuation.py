"""Continue the fit of a finished run, and deliver the result as a run of its own."""

import json
import re
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from lift.config import compose_run
from lift.config.files import config_to_yaml
from lift.config.loggers import LOGGERS
from lift.config.text import escape_text
from lift.config.values import merge_settings, nest_settings, split_choices
from lift.errors import raise_for_python
from lift.io.capture import Capture
from lift.io.image import Picture
from lift.io.names import name_problem
from lift.outputs.delivery import deliver
from lift.outputs.publication import check_run_folder
from lift.outputs.quality import RunResult
from lift.outputs.scene_files import FIT_OUTPUTS
from lift.outputs.storage import VIEWS, read_views
from lift.registry import SLOTS, ComponentError
from lift.runtime.cache import Stage
from lift.runtime.execution import restore_device
from lift.runtime.integrity import DamagedFileError, read_manifest, verify_files
from lift.runtime.session import Session
from lift.stages.fit import continuation_key, continue_fit
from lift.stages.views import Views
from lift.training import CHECKPOINT
from lift.training.checkpoint import read_progress, verify_checkpoint

if TYPE_CHECKING:
    from lift.api.scene import Scene

CHANGEABLE = (
    "cache",
    "callbacks",
    "deliver",
    "device",
    "export",
    "fit",
    "logger",
    "renderer",
    "trainer",
    "wandb",
)
"""Settings that may change when a fit continues."""

FIXED = ("steps", "initial_gaussians", "sh_degree", "test_every")
"""Settings of `fit` that the first part of a fit has decided."""


def continue_scene(
    scene: "Scene", more_steps: int, name: str | None, settings: Mapping[str, Any]
) -> Path:
    """Continue the fit of a scene.

    Args:
        scene: The finished scene.
        more_steps: Number of steps to add.
        name: Name of the new run's folder. None: the run's name and the number of all steps.
        settings: Settings to change.

    Returns:
        Folder of the new run.

    Raises:
        FileNotFoundError: The run has no checkpoint, or no views.
        ValueError: A setting cannot be changed, the folder has another scene, or a file is damaged.
    """
    if not isinstance(more_steps, int) or more_steps < 1:
        raise ComponentError(f"more_steps is {more_steps!r}; choose a number of at least 1")
    if name is not None and (problem := name_problem(name)):
        raise ComponentError(
            f"name is {name!r}; choose the name of one folder (this one {problem})"
        )
    for item in (CHECKPOINT, VIEWS):
        scene.require(item, "more steps of the fit")
    # The name of the folder "." is empty.
    folder = scene.folder if scene.folder.name.strip(".") else scene.folder.resolve()
    with (
        raise_for_python(),
        restore_device(),
        tempfile.TemporaryDirectory(prefix="lift-") as scratch,
    ):
        # Another run may replace the folder at any moment. What is checked is what is used.
        outputs, done = _copy_outputs(scene, Path(scratch))
        steps = done + more_steps
        base = re.sub(r"-[0-9]+-steps$", "", folder.name)
        target = folder.parent / (name or f"{base}-{steps}-steps")
        frames = scene.frames
        source = scene.files.read(VIEWS, lambda path: read_views(path.parent, frames))
        is_in_place = folder.parent.name == source[0].name
        output = folder.parent.parent if is_in_place else folder.parent
        config = _compose(scene, steps, target.name, output, settings)
        session = _resume_session(scene, config)
        key = continuation_key(session, source[1], outputs[0], scene.held_out)
        if _holds(target, key, config):
            session.say(f"found {target}")
            return target
        check_run_folder(target)
        result = _continue(session, source, outputs, scene.held_out)
        record = {"continued": {"run": folder.name, "more_steps": more_steps, "steps": steps}}
        return deliver(session, result, target, record)


def _copy_outputs(scene: "Scene", folder: Path) -> tuple[list[Path], int]:
    """Copy what the fit wrote, and check its checkpoint.

    Args:
        scene: The finished scene.
        folder: An empty folder.

    Returns:
        The copies, the checkpoint first, and the number of steps that are done.

    Raises:
        DamagedFileError: The checkpoint is damaged.
    """
    outputs = [folder / item for item in FIT_OUTPUTS if scene.files.copy(item, folder)]
    try:
        verify_checkpoint(outputs[0])
        return outputs, read_progress(outputs[0])[1]
    except DamagedFileError as error:
        raise DamagedFileError(scene.folder / CHECKPOINT, error.reason) from None


def _continue(
    session: Session,
    source: tuple[Picture, Views, Capture | None],
    outputs: Sequence[Path],
    held_out: Sequence[int],
) -> RunResult:
    """Continue the fit, and return the result of the run."""
    picture, views, capture = source
    gaussians, distortion, fit_folder = continue_fit(session, views, outputs, held_out)
    return RunResult(
        picture,
        views.depth,
        views.trajectory,
        views.frames,
        views.reconstruction,
        gaussians,
        distortion,
        fit_folder,
        views.true_cameras,
        capture,
        views.multiview_consistent,
    )


def _compose(
    scene: "Scene", steps: int, name: str, output: Path, settings: Mapping[str, Any]
) -> DictConfig:
    """Compose the configuration of the run with the changed settings."""
    changes = nest_settings(settings)
    for key, value in changes.items():
        if key not in CHANGEABLE:
            raise ComponentError(
                f"{key} cannot change when a fit continues; choose among {', '.join(CHANGEABLE)}, "
                "or start a new run"
            )
        for fixed in FIXED if key == "fit" and isinstance(value, Mapping) else ():
            if fixed in value:
                raise ComponentError(
                    f"fit.{fixed} cannot change when a fit continues; start a new run"
                )
    settings = without_imports(scene.settings)
    for key, value in changes.items():
        old = settings.get(key)
        is_part = isinstance(value, Mapping) and isinstance(old, Mapping) and "name" not in value
        settings[key] = merge_settings(dict(old or {}), dict(value)) if is_part else value
    settings["fit"] = {**settings["fit"], "steps": steps}
    choices, values = split_choices(settings)
    config = compose_run(choices, values)
    config.name = escape_text(name)
    config.output = escape_text(str(output))
    devices = config.trainer.get("devices")
    is_one = not isinstance(devices, (int, str, type(None))) and len(devices) == 1
    config.trainer.devices = devices if is_one else 1
    return config


def without_imports(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a run without callbacks and loggers that are imported by path.

    The folder may be of somebody else, and its settings must not run code.

    Args:
        stored: Settings of the run.
    """
    settings = dict(stored)
    loggers = settings.get("logger")
    if isinstance(loggers, list):
        settings["logger"] = [name for name in loggers if name in LOGGERS] or "none"
    elif loggers not in (*LOGGERS, "none", None):
        settings["logger"] = "none"
    wandb = settings.get("wandb")
    if isinstance(wandb, Mapping):  # they could name another server
        settings["wandb"] = {k: v for k, v in wandb.items() if k not in ("settings", "options")}
    if settings.get("logger") != loggers or settings.get("callbacks"):
        warnings.warn(
            "callbacks and loggers with an import path are not taken from the run's folder; give "
            "callbacks=[...] or logger=[...] again to use them",
            stacklevel=2,
        )
    settings["callbacks"] = None
    return settings


def _resume_session(scene: "Scene", config: DictConfig) -> Session:
    """Return a session with the record of the finished run."""
    record = scene.provenance
    session = Session(config)
    session.notes = list(record["notes"])
    session.licences = dict(record["licences"])
    session.unused_slots = tuple(slot for slot in SLOTS if slot not in record["components"])
    session.stages = [
        Stage(
            stage["stage"], stage["key"], Path(), stage["seconds"], stage["peak_bytes"], cached=True
        )
        for stage in record["stages"]
    ]
    return session


def _holds(target: Path, key: str, config: DictConfig) -> bool:
    """Whether a folder has the scene already, with all its files.

    Raises:
        ComponentError: It has another scene.
    """
    try:
        stages = json.loads((target / "provenance.json").read_text(encoding="utf-8"))["stages"]
        settings = (target / "config.yaml").read_text(encoding="utf-8")
    except (OSError, ValueError, KeyError):
        return False  # nothing, or an interrupted delivery
    if stages[-1]["key"] != key:
        raise ComponentError(f"{target} has another scene; choose another name, or remove it")
    if settings != config_to_yaml(config):
        return False
    try:
        verify_files(target, read_manifest(target))
    except (DamagedFileError, KeyError):
        return False  # it is delivered again
    return True
