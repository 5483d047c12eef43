"""Loggers and callbacks of the fit stage: checked before a run begins, and told of after it."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from lift.config.loggers import logger_name, read_callbacks, read_loggers
from lift.io.names import safe_name
from lift.runtime.session import Session, plain_settings
from lift.training import LOG_RECORD

if TYPE_CHECKING:
    from lift.training.loggers import LogSettings


def check_logs(session: Session) -> None:
    """Import loggers and callbacks, so that a mistake ends the run before its first stage.

    Args:
        session: The run.

    Raises:
        ComponentError: Something cannot be imported, an argument is wrong, or there is no key for
            W&B.
        ImportError: wandb is not installed.
    """
    if targets := read_callbacks(session.config):
        from pytorch_lightning import Callback

        from lift.training.callbacks import check_target

        for target in targets:
            check_target(target, "callbacks", Callback)
    if any(logger not in ("tensorboard", "csv") for logger in read_loggers(session.config)):
        from lift.training.loggers import check_loggers

        check_loggers(log_settings(session))


def log_settings(session: Session) -> "LogSettings":
    """Return what the loggers of the fit need to know.

    Args:
        session: The run.
    """
    from lift.training.loggers import LogSettings

    config = session.config
    image = session.image if isinstance(session.image, str) else session.image[0]
    slots = [slot for slot in ("prior", "distortion") if slot not in session.unused_slots]
    parts = [safe_name(session.title or Path(image).stem), *(config[slot].name for slot in slots)]
    return LogSettings(
        read_loggers(config),
        plain_settings(config.wandb),
        config.name or "-".join(parts),
        plain_settings(config),
    )


def tell_upload(session: Session, folder: Path) -> None:
    """Tell the user how to upload the curves of an offline run of W&B.

    Args:
        session: The run.
        folder: Folder of the run, with its results.
    """
    if next((folder / "wandb").glob("offline-run-*"), None):
        session.say(f"upload the curves: wandb sync {folder}/wandb/offline-run-*")


def tell_logs(session: Session, folder: Path) -> None:
    """Tell the user which of the chosen loggers have no curves, and where W&B's run is.

    Args:
        session: The run.
        folder: Folder of the finished fit.
    """
    file = folder / LOG_RECORD
    record = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    for logger in read_loggers(session.config):
        name = logger_name(logger)
        if name not in record:
            session.note(
                f"the fit was found in the cache, so no curves were written to {name}; remove "
                f"{folder} to fit again"
            )
        elif start := record[name]["start"]:
            session.note(
                f"the curves of {name} begin at step {start}: the fit went on from a checkpoint "
                "of a run without it"
            )
        if url := record.get(name, {}).get("url"):
            session.say(f"curves: {url}")
