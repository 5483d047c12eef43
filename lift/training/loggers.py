"""Loggers of a fit: TensorBoard, Weights & Biases, CSV files, or any other of Lightning's.

A logger writes to a folder of its name in the folder of the fit. A killed fit continues its logs.
"""

import csv
import importlib
import io
import json
import secrets
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jaxtyping import UInt8
from numpy import ndarray
from PIL import Image
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger
from pytorch_lightning.utilities import rank_zero_only
from tensorboard.compat.proto.summary_pb2 import (
    Summary,  # pyright: ignore[reportAttributeAccessIssue]
)
from torch.utils.tensorboard import SummaryWriter

from lift.config.files import escape_values
from lift.config.loggers import logger_name
from lift.registry import ComponentError
from lift.registry.imports import is_installed
from lift.runtime.atomic_io import remove
from lift.training import LOG_RECORD
from lift.training.callbacks import build_target, check_target

JPEG_QUALITY = 92
"""Quality of the pictures in TensorBoard's file."""

_CSV_FILE = "metrics.csv"


@dataclass(frozen=True)
class LogSettings:
    """What the loggers of a fit need to know."""

    loggers: Sequence[str | Mapping[str, Any]] = ("tensorboard",)
    """Names of built-in loggers, and others as `{_target_: path, argument: value}`."""
    wandb: Mapping[str, Any] = field(default_factory=dict)
    """Settings `wandb` of the configuration."""
    run_name: str | None = None
    """Name of the run for W&B, unless `wandb.name` is set."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """The whole configuration; the loggers keep it as hyperparameters."""


def check_loggers(settings: LogSettings) -> None:
    """Check that all loggers can be built, and log in to W&B, before anything is computed.

    Args:
        settings: The chosen loggers.

    Raises:
        ComponentError: A logger cannot be imported, or there is no key for W&B.
        ImportError: wandb is not installed.
    """
    for logger in settings.loggers:
        if not isinstance(logger, str):
            check_target(logger, "logger", Logger)
        elif logger == "wandb":
            _check_wandb(settings)


@contextmanager
def open_loggers(settings: LogSettings, folder: Path, step: int) -> Iterator[list[Logger]]:
    """Build the loggers of a fit, and close them after it.

    Args:
        settings: The chosen loggers.
        folder: Folder of the fit.
        step: Step of the checkpoint from which the fit goes on; 0 without one.

    Yields:
        The loggers, in the order of the setting. They have the configuration already.
    """
    folder.mkdir(parents=True, exist_ok=True)
    loggers = build_loggers(settings, folder, step)
    failed = True
    try:
        yield loggers
        failed = False
    finally:
        close_loggers(loggers, folder, failed)


def build_loggers(settings: LogSettings, folder: Path, step: int) -> list[Logger]:
    """Build the loggers of a fit.

    Args:
        settings: The chosen loggers.
        folder: Folder of the fit.
        step: Step of the checkpoint from which the fit goes on; 0 without one.

    Returns:
        The loggers, in the order of the setting. They have the configuration already.
    """
    record = _continue_record(settings, folder, step)
    loggers = [_build_logger(logger, settings, folder, step, record) for logger in settings.loggers]
    if settings.config:
        for logger in loggers:
            # Lightning writes them to a file that OmegaConf reads.
            logger.log_hyperparams(escape_values(dict(settings.config)))
    if record:
        _write_record(folder, record)
    return loggers


def _continue_record(settings: LogSettings, folder: Path, step: int) -> dict[str, dict[str, Any]]:
    """Return what `LOG_RECORD` has to say of the chosen loggers from now on."""
    earlier = _read_record(folder) if _is_main() else {}
    record = earlier if step else {}
    for logger in settings.loggers:
        record.setdefault(logger_name(logger), {"start": step})
    if "wandb" in record and (id_ := earlier.get("wandb", {}).get("id")):
        record["wandb"]["id"] = id_  # also if the fit was killed before its first checkpoint
    return record


def _build_logger(
    logger: str | Mapping[str, Any],
    settings: LogSettings,
    folder: Path,
    step: int,
    record: dict[str, dict[str, Any]],
) -> Logger:
    """Build one logger."""
    if not isinstance(logger, str):
        return build_target(logger, "logger", Logger)
    if logger == "wandb":
        return _build_wandb(settings, folder, record[logger])
    if not step or not (folder / logger).is_dir():
        _remove(folder / logger)  # of a fit that was killed before its first checkpoint
    for name in (_CSV_FILE, "hparams.yaml"):
        if (folder / logger / name).is_dir():  # damage: a folder in place of a file
            _remove(folder / logger / name)
    if logger == "csv":
        table = CSVLogger(folder, name=logger, version="")
        _continue_csv(table, step)
        return table
    # TensorBoard hides what a killed fit wrote after its checkpoint.
    options: dict[str, Any] = {"purge_step": step + 1} if step else {}
    return TensorBoardLogger(folder, name=logger, version="", default_hp_metric=False, **options)


def log_picture(
    loggers: Sequence[Logger], name: str, picture: UInt8[ndarray, "height width 3"], step: int
) -> None:
    """Write a picture to each logger that takes pictures; call it on the main process only.

    CSV files have PNG files beside them.

    Args:
        loggers: The loggers of a fit.
        name: Name of the picture.
        picture: The picture.
        step: Step of the fit.
    """
    for logger in loggers:
        experiment = getattr(logger, "experiment", None)
        log_image: Any = getattr(logger, "log_image", None)
        if isinstance(logger, CSVLogger):
            file = Path(logger.log_dir) / "images" / f"{name}_{step:06d}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(file, compress_level=1)
        elif log_image is not None:
            log_image(key=name, images=[picture], step=step)
        elif isinstance(experiment, SummaryWriter):
            _add_jpeg(experiment, name, picture, step)
        elif add_image := getattr(experiment, "add_image", None):
            add_image(name, picture, step, dataformats="HWC")


def _add_jpeg(
    writer: SummaryWriter, name: str, picture: UInt8[ndarray, "height width 3"], step: int
) -> None:
    """Write a picture to TensorBoard's file.

    TensorBoard computes checksums in Python, and torch would write a PNG of several times the size.
    Both together would take seconds of a short fit.
    """
    data = io.BytesIO()
    Image.fromarray(picture).save(data, "JPEG", quality=JPEG_QUALITY)
    height, width = picture.shape[:2]
    encoded = Summary.Image(
        height=height, width=width, colorspace=3, encoded_image_string=data.getvalue()
    )
    value = Summary.Value(tag=name, image=encoded)
    writer._get_file_writer().add_summary(Summary(value=[value]), step)


@rank_zero_only
def close_loggers(loggers: Sequence[Logger], folder: Path, failed: bool) -> None:
    """End the run of W&B, because the folder is renamed next.

    Args:
        loggers: The loggers of a fit.
        folder: Folder of the fit.
        failed: Whether the fit ended with an error.
    """
    record = _read_record(folder)
    for logger in loggers:
        # A run that the user began, as in a sweep of W&B, has no id here and goes on.
        if isinstance(logger, WandbLogger) and "id" in record.get("wandb", {}):
            logger.experiment.finish(exit_code=int(failed))
    links = [path for path in (folder / "wandb").rglob("*") if path.is_symlink()]
    for link in links:  # to files outside, or a second name of the run's folder
        link.unlink()


def _check_wandb(settings: LogSettings) -> None:
    """Check that wandb is installed and knows the user's key. It asks for it in a terminal."""
    wandb = _import_wandb()
    if not _is_main() or wandb.run is not None or _wandb_mode(settings) != "online":
        return
    try:
        wandb.login()
    except wandb.Error as error:
        raise ComponentError(
            f"logger is 'wandb': {error} (wandb.mode=offline needs no key)"
        ) from None


def _import_wandb() -> Any:
    """Import the package wandb."""
    if not is_installed("wandb"):
        raise ImportError("logger is 'wandb', which is not installed: pip install 'lift[wandb]'")
    return importlib.import_module("wandb")


def _wandb_mode(settings: LogSettings) -> str:
    """Return online, offline or disabled: the setting, or what the environment says."""
    return settings.wandb.get("mode") or _import_wandb().setup().settings.mode


def _build_wandb(settings: LogSettings, folder: Path, record: dict[str, Any]) -> WandbLogger:
    """Build W&B's logger. Its run keeps its id when a killed fit goes on.

    Args:
        settings: The chosen loggers, and the settings of W&B.
        folder: Folder of the fit.
        record: What `LOG_RECORD` has of this logger. It receives the id and the address of the run.
    """
    _check_wandb(settings)
    wandb = _import_wandb()
    options = dict(settings.wandb)
    project = options.get("project")
    if not _is_main():
        return WandbLogger(project=project, save_dir=folder)
    if wandb.run is not None:
        record.pop("id", None)
        return WandbLogger(project=project, save_dir=folder, experiment=wandb.run)
    options |= options.pop("options", None) or {}
    options["name"] = options.get("name") or settings.run_name
    # An offline run would name a folder that is renamed after the fit.
    silence = {"quiet": True, "silent": _wandb_mode(settings) == "offline"}
    options["settings"] = silence | (options.get("settings") or {})
    id_ = record.setdefault("id", secrets.token_hex(4))
    try:
        run = wandb.init(dir=str(folder), id=id_, resume="allow", **options)
    except wandb.Error as error:
        raise ComponentError(
            f"logger is 'wandb', and its run cannot begin: {error} (wandb.mode=offline needs no "
            "network)"
        ) from None
    run.define_metric("trainer/global_step")
    run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
    record["mode"] = run.settings.mode
    if record["mode"] == "online":
        record["url"] = run.url
    return WandbLogger(project=project, save_dir=folder, experiment=run)


@rank_zero_only
def _continue_csv(logger: CSVLogger, step: int) -> None:
    """Keep the rows up to a step. Lightning removes the file of an earlier logger."""
    file = Path(logger.log_dir) / _CSV_FILE
    rows = _read_rows(file, step) if file.is_file() else []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it removes the file
        writer = logger.experiment
    writer.metrics.extend(rows)
    writer.save()


def _read_rows(file: Path, step: int) -> list[dict[str, Any]]:
    """Read the rows up to a step. Curves of a damaged file begin anew."""
    try:
        with file.open(newline="", encoding="utf-8") as stream:
            return [
                {key: value for key, value in row.items() if value}
                for row in csv.DictReader(stream)
                if int(row["step"]) <= step
            ]
    except (ValueError, LookupError, TypeError, csv.Error) as error:
        warnings.warn(f"{file} is damaged ({error}); its curves begin anew", stacklevel=2)
        return []


def _is_main() -> bool:
    """Whether Lightning lets this process write logs."""
    return not getattr(rank_zero_only, "rank", 0)


def _read_record(folder: Path) -> dict[str, dict[str, Any]]:
    """Read `LOG_RECORD`: name of a logger -> the step at which it began, and W&B's run.

    A record that is damaged counts as none.
    """
    with suppress(OSError, ValueError):
        record = json.loads((folder / LOG_RECORD).read_text(encoding="utf-8"))
        if isinstance(record, dict) and all(
            isinstance(entry, dict) and "start" in entry for entry in record.values()
        ):
            return record
    return {}


@rank_zero_only
def _write_record(folder: Path, record: Mapping[str, Any]) -> None:
    file = folder / LOG_RECORD
    if file.is_dir():
        remove(file)
    file.write_text(json.dumps(record, indent=2), encoding="utf-8")


@rank_zero_only
def _remove(path: Path) -> None:
    with suppress(OSError):
        remove(path)
