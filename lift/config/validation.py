"""Checks of a composed configuration that types alone do not make."""

import math
from typing import Any

from omegaconf import DictConfig, OmegaConf

from lift.config.loggers import validate_loggers
from lift.config.schema import ALIGNMENTS
from lift.registry import SLOTS, ComponentError, catalogue

_CHOICES = {
    "motion_limit.on_exceed": ("limit", "warn", "ignore"),
    "device": ("auto", "cpu", "cuda"),
}

_BOUNDS: dict[str, tuple[float, float | None]] = {
    "frames.max_count": (2, None),
    "frames.start": (0, None),
    "frames.stride": (1, None),
    "preprocess.size": (64, 4096),
    "edges.width": (0, 20),
    "stereo.size": (0, 4096),
    "preprocess.field_of_view": (5, 150),
    "motion_limit.max_unseen": (0, 1),
    "fit.steps": (1, None),
    "fit.batch_size": (1, None),
    "fit.input_fraction": (0, 1),
    "fit.test_every": (0, None),
    "fit.initial_gaussians": (1, None),
    "fit.max_gaussians": (1, None),
    "fit.sh_degree": (0, 3),
    "fit.checkpoint_every": (1, None),
    "fit.loss.ssim": (0, 1),
    "fit.densify.every": (1, None),
    "fit.importance_power": (0, None),
    "fit.log_every": (1, None),
    "fit.log_images_every": (0, None),
    "seed": (0, 2**31 - 1),
    "export.video_frames": (2, None),
    "export.fps": (1, None),
}
"""Lowest and highest value of numeric settings."""

_NON_NEGATIVE = ("fit.learning_rate", "fit.loss", "fit.robust", "fit.densify")
"""Groups of settings that are at least 0 unless `_BOUNDS` says more."""


def read_image_setting(config: DictConfig) -> str | tuple[str, ...]:
    """Read the setting `image`: one name, or several from a list.

    Args:
        config: Configuration of `lift run`.

    Returns:
        A name, or a tuple of at least two names.

    Raises:
        ComponentError: It is not set, or neither a name nor a list of names.
    """
    if OmegaConf.is_missing(config, "image") or config.image is None:
        raise ComponentError(
            "image is not set: give image=PATH, "
            "or the name of a built-in picture such as image=coffee"
        )
    value = config.image
    if not OmegaConf.is_config(value):
        return str(value)
    names = OmegaConf.to_container(value, resolve=True)
    if not isinstance(names, list) or any(
        isinstance(name, (list, dict)) or name is None for name in names
    ):
        raise ComponentError(
            f"image is {names!r}; give one name, or a list such as image=[a.jpg,b.jpg]"
        )
    return str(names[0]) if len(names) == 1 else tuple(str(name) for name in names)


def validate_config(config: DictConfig) -> None:
    """Check the configuration of `lift run`.

    Args:
        config: Composed configuration.

    Raises:
        ComponentError: A setting is wrong; the message names it.
        MissingMandatoryValue: A setting without a default is not set.
    """
    read_image_setting(config)
    _check_name(config)
    for slot in SLOTS:
        _check_component(config, slot)
    for key, choices in _CHOICES.items():
        if (value := OmegaConf.select(config, key)) not in choices:
            raise ComponentError(f"{key} is {value!r}; choose one of {', '.join(choices)}")
    validate_loggers(config)
    _check_fit(config.fit)
    _check_bounds(config)


def _check_name(config: DictConfig) -> None:
    """Check that the run's name is the name of one folder."""
    name = config.name
    if name is not None and (name in ("", ".", "..") or set("/\\") & set(name)):
        raise ComponentError(
            f"name is {name!r}; choose the name of one folder; output=FOLDER is its parent"
        )


def _check_component(config: DictConfig, slot: str) -> None:
    """Check the settings of a slot's component, and those of the parts of a composed one."""
    settings: Any = OmegaConf.to_container(config[slot], resolve=True)
    catalogue()(slot, settings.pop("name")).check(settings)
    for part in settings.get("parts", ()):
        part_settings = (settings.get("settings") or {}).get(part, {})
        if not isinstance(part_settings, dict):
            raise ComponentError(
                f"{slot}.settings.{part} is {part_settings!r}; set one of its settings: "
                f"{slot}.settings.{part}.SETTING=VALUE"
            )
        try:
            catalogue()(slot, part).check(part_settings)
        except ComponentError as error:
            raise ComponentError(f"in {slot}.parts: {error}") from None


def _check_fit(fit: DictConfig) -> None:
    """Check settings of the fit that depend on one another."""
    scales = list(fit.coarse_to_fine.scales)
    ends = list(fit.coarse_to_fine.until)
    if (
        len(scales) != len(ends)
        or not all(0 < scale <= 1 for scale in scales)
        or not all(0 <= end <= 1 for end in ends)
        or ends != sorted(ends)
    ):
        raise ComponentError(
            f"fit.coarse_to_fine has scales {scales} and until {ends}; choose as many of each, "
            "scales above 0 and up to 1, until rising from 0 to 1"
        )
    if fit.test_every == 1:
        raise ComponentError(
            "fit.test_every is 1, which leaves no generated frame to learn from; "
            "choose 0 for none, or 2 or more"
        )
    if fit.initial_gaussians > fit.max_gaussians:
        raise ComponentError(
            f"fit.initial_gaussians is {fit.initial_gaussians}, more than fit.max_gaussians, "
            f"{fit.max_gaussians}; choose no more"
        )


def _check_bounds(config: DictConfig) -> None:
    """Check that numbers are finite and in range."""
    bounds = dict(_BOUNDS)
    for group in _NON_NEGATIVE:
        bounds = {f"{group}.{key}": (0, None) for key in OmegaConf.select(config, group)} | bounds
    for key, (low, high) in bounds.items():
        value = OmegaConf.select(config, key)
        if value is None:  # the default depends on the run
            continue
        # This comparison is also false for NaN.
        if not low <= value < math.inf or (high is not None and value > high):
            span = f"from {low} to {high}" if high is not None else f"of at least {low}"
            raise ComponentError(f"{key} is {value}; choose a value {span}")


def validate_eval_config(config: DictConfig) -> None:
    """Check the settings that `lift eval` adds.

    Args:
        config: Composed `EvalConfig`.

    Raises:
        ComponentError: A setting is wrong; the message names it.
    """
    settings: Any = OmegaConf.to_container(config.dataset, resolve=True)
    catalogue()("dataset", settings.pop("name")).check(settings)
    protocol = config.protocol
    if protocol.align not in ALIGNMENTS:
        raise ComponentError(
            f"protocol.align is {protocol.align!r}; choose one of {', '.join(ALIGNMENTS)}"
        )
    bins = list(protocol.bins)
    if bins != sorted(set(bins)) or any(not 0 < edge < math.inf for edge in bins):
        raise ComponentError(f"protocol.bins is {bins}; choose distances above 0 that rise")
    seeds = list(protocol.seeds)
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0 or max(seeds) >= 2**31:
        raise ComponentError(
            f"protocol.seeds is {seeds}; choose one or more numbers from 0 to {2**31 - 1}, "
            "each once"
        )
    _check_reference(protocol.reference)
    if protocol.max_targets is not None and protocol.max_targets < 1:
        raise ComponentError(f"protocol.max_targets is {protocol.max_targets}; choose 1 or more")


def _check_reference(name: str) -> None:
    """Check that a depth estimator can serve as `protocol.reference`."""
    entry = catalogue()("depth", name)
    entry.require()
    if required := [
        key for key, parameter in entry.settings.items() if parameter.default is parameter.empty
    ]:
        raise ComponentError(
            f"protocol.reference is {name!r}, which needs {', '.join(required)}; "
            "choose one that needs no settings, such as lite"
        )
    if name == "known":
        raise ComponentError(
            "protocol.reference is 'known'; the dataset's own depth is used anyway: "
            "choose an estimator, such as lite"
        )
