"""Run the pipeline from Python."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from lift.api.loading import load
from lift.api.pictures import ImageLike, store_image
from lift.api.scene import Scene
from lift.config import compose_run
from lift.config.folders import OPTION
from lift.config.text import escape_text
from lift.config.values import nest_settings, split_choices
from lift.errors import raise_for_python
from lift.registry import SLOTS, ComponentError, catalogue
from lift.remote.results import local_run
from lift.remote.urls import local_output
from lift.runtime import distributed
from lift.runtime.devices import device_indices
from lift.runtime.execution import execute_run, restore_device
from lift.runtime.folder_settings import check_current_folder
from lift.runtime.provenance import run_choices
from lift.runtime.release import freeze_older_objects, released_memory
from lift.types import Gaussians


def run(
    image: ImageLike | None = None,
    *,
    config_dir: str | os.PathLike[str] | None = None,
    **settings: Any,
) -> Scene:
    """Turn a picture, a video or photographs into a scene.

    It is `lift run`. Stages that an earlier run computed are found in the cache. A call that was
    interrupted continues when it is repeated.

        lift.run("photo.jpg", prior="warp", fit={"steps": 100})
        lift.run("photo.jpg", distortion={"name": "rigid", "weight": 3.0})
        lift.run("photo.jpg", **{"fit.steps": 100})

    If `trainer.devices` names several devices, other processes do the work, and this one waits.

    Args:
        image: A picture: a file, a URL, a built-in name, an image of PIL, or uint8
            [height width 3] of numpy or torch. Or frames of one scene: a video, a folder, or a list
            of pictures. None: that of the experiment. Pictures in memory are written to
            `<output>/cache/images`.
        config_dir: Folder with experiments and presets of your own.
        **settings: Settings of `lift run`. Those of a group or of a slot are a dictionary, or have
            dotted names. A slot takes the name of a component, or a dictionary with `name` and
            settings. Texts and paths are taken literally.

    Returns:
        The finished scene. With processes of torchrun, each returns it.

    Raises:
        ComponentError: A name or a value is wrong. It is a ValueError, and its message is that of
            the command line.
        ValueError: A setting cannot be used with this input.
        OSError: A file is missing or cannot be read.
        ImportError: A component needs a package that is not installed.
    """
    with raise_for_python(), restore_device(), freeze_older_objects(), released_memory():
        config = compose_settings(image, settings, config_dir)
        _check_processes(config)
        if image is not None:
            config.image = _stored(image, local_output(config))
        token = run_choices.set(_choices(settings, config_dir))
        try:
            folder = distributed.broadcast(execute_run(config, sys.argv))
        finally:
            run_choices.reset(token)
    assert folder is not None, "the main process has the folder"
    return load(local_run(folder, config.cache.folder))


def preview(
    image: ImageLike,
    *,
    config_dir: str | os.PathLike[str] | None = None,
    **settings: Any,
) -> Gaussians:
    """Turn a picture into Gaussians straight from its depth: a first look, without a fit.

    It is what `lift run preview=true` shows before it generates frames. It takes a second or two on
    a CPU. What is behind objects and beyond the border is a guess. Depth and result are cached.

        gaussians = lift.preview("photo.jpg")

    Args:
        image: A picture as `run` takes it, or frames of one scene, of which the input view is used.
        config_dir: Folder with experiments and presets of your own.
        **settings: Settings of `lift run`. Those of the picture and of `depth` matter.

    Returns:
        Gaussians of degree 0 on the CPU. The input camera is at the origin and looks along z.

    Raises:
        ComponentError: A name or a value is wrong. It is a ValueError.
        ValueError: A setting cannot be used with this input.
        OSError: A file is missing or cannot be read.
        ImportError: A component needs a package that is not installed.
    """
    with raise_for_python(), restore_device(), freeze_older_objects(), released_memory():
        config = compose_settings(image, settings, config_dir)
        config.image = _stored(image, local_output(config))
        check_current_folder()
        distributed.bind_device(distributed.process_info(), device_indices(config.trainer)[:1])
        # The import loads numba, which reads the number of threads that `bind_device` has set.
        from lift.stages.preview import compute_preview

        gaussians = compute_preview(config)
    return gaussians


def compose_settings(
    image: Any,
    settings: Mapping[str, Any],
    config_dir: str | os.PathLike[str] | None = None,
) -> DictConfig:
    """Compose and check the configuration of a run.

    Args:
        image: The input; None if an experiment names it.
        settings: Settings as `run` takes them.
        config_dir: Folder with experiments and presets of your own.

    Returns:
        The configuration. `image` is a stand-in unless it is None.

    Raises:
        ComponentError: A name or a value is wrong.
    """
    nested = nest_settings(settings)
    for key in ("callbacks", "logger"):
        _check_targets(key, nested.get(key))
    choices, values = split_choices(nested)
    if image is not None:
        values["image"] = "none"
    if config_dir is not None:
        choices.append(f"{OPTION}={os.fspath(config_dir)}")
    return compose_run(choices, values)


def _check_targets(key: str, value: Any) -> None:
    """Raise ComponentError for objects of Lightning, which only their import path can name."""
    for item in value if isinstance(value, (list, tuple)) else [value]:
        kind = item if isinstance(item, type) else type(item)
        if isinstance(item, type) or kind.__module__ not in ("builtins", "omegaconf.dictconfig"):
            path = f"{kind.__module__}.{kind.__qualname__}"
            raise ComponentError(
                f"{key} has {'the class' if isinstance(item, type) else 'an object of the class'} "
                f"{path}; name it by {path!r}, with arguments by "
                f"{{'_target_': {path!r}, 'ARGUMENT': VALUE}}"
            )


def _choices(
    settings: Mapping[str, Any], config_dir: str | os.PathLike[str] | None
) -> tuple[str, ...]:
    """Return the names of experiments and components, and the folder of the user's files."""
    choices, _ = split_choices(nest_settings(settings))
    folder = [] if config_dir is None else [f"{OPTION}={os.fspath(config_dir)}"]
    return (*folder, *choices)


def _stored(image: ImageLike, output: Path) -> Any:
    """Return the value of the setting `image`; write pictures that are in memory to files."""
    if isinstance(image, Sequence) and not isinstance(image, str):
        return [escape_text(store_image(item, output)) for item in image]
    return escape_text(store_image(image, output))


def _check_processes(config: DictConfig) -> None:
    """Raise ComponentError if other processes have to run components that only this one has."""
    if distributed.process_info().world_size > 1 or len(device_indices(config.trainer)) == 1:
        return
    for slot in SLOTS:
        settings = config[slot]
        for name in (settings.name, *settings.get("parts", ())):
            entry = catalogue()(slot, name)
            if entry.module == "__main__" or entry.source is None:
                raise ComponentError(
                    f"trainer.devices is {config.trainer.devices!r}, but {slot} {name!r} is "
                    f"defined in {entry.module}, which other processes cannot import; choose "
                    "trainer.devices 1, or put it into a module and name that in LIFT_PLUGINS"
                )
