"""Check the settings of a run, and read its picture, its video or its photographs."""

from collections.abc import Iterable
from dataclasses import replace

import torch

from lift.distortions import validate_settings
from lift.io.capture import Capture, CaptureSettings, load_capture
from lift.io.central import match_counts
from lift.io.image import Picture, load_picture
from lift.io.names import safe_name
from lift.io.sizing import PICTURE_SIZE
from lift.io.sources import is_capture
from lift.io.splats import SPLAT_FORMATS
from lift.registry import SLOTS, catalogue
from lift.runtime import distributed
from lift.runtime.session import Session, component_names, plain_settings
from lift.stages.prior import shape_choice
from lift.stages.unused import (
    check_capture,
    planner_is_used,
    tell_unused,
    unused_planner_message,
    unused_slots_message,
)


def read_input(session: Session) -> tuple[Picture, Capture | None]:
    """Check the settings of a run, and read its input.

    Args:
        session: The run. Notes about the picture are added.

    Returns:
        The input view, and all frames of a video or of several pictures. None for a single picture.

    Raises:
        ValueError: A setting cannot be used, or something is wrong with the files.
        ImportError: A component needs a package that is not installed.
    """
    config = session.config
    check_export_formats(config.export.formats)
    capture = _read_capture(session)
    for slot in SLOTS:
        if slot not in session.unused_slots:
            catalogue()(slot, config[slot].name).require()
    picture = capture.picture if capture else _read_picture(session)
    validate_settings(plain_settings(config.distortion), picture.cameras)
    picture = replace(picture, name=safe_name(session.title or picture.name))
    for note in picture.notes:
        session.note(note)
    return picture, capture


def check_export_formats(formats: Iterable[str]) -> None:
    """Check the names of the formats that a run delivers.

    Args:
        formats: The setting export.formats.

    Raises:
        ValueError: There is no format of a name.
    """
    for name in formats:
        if name not in SPLAT_FORMATS:
            page = "; `lift export RUN scene.html` writes a page" if name == "html" else ""
            choices = ", ".join(SPLAT_FORMATS)
            raise ValueError(f"export.formats has {name!r}; choose among {choices}{page}")


def _read_capture(session: Session) -> Capture | None:
    """Read the frames of a video, a folder or a list of pictures.

    Args:
        session: The run. Slots that it does not use are marked, with a note to the user.

    Returns:
        The frames, or None if the run starts from a single picture.

    Raises:
        ValueError: Planner or prior have frames or cameras of their own, or something is wrong with
            the files.
    """
    if not is_capture(session.image):
        if not planner_is_used(session.config):
            session.unused_slots = ("planner",)
            tell_unused(session, unused_planner_message(session.config))
        return None
    check_capture(session.config)
    session.unused_slots = ("planner", "prior")
    session.store.components = component_names(session.config, session.unused_slots)
    tell_unused(session, unused_slots_message(session.config))

    def centrality(images: torch.Tensor) -> torch.Tensor:
        # The main process decides, because results may differ between devices.
        counts = match_counts(images, session.device) if session.is_main else torch.empty(0)
        return distributed.broadcast(counts)

    return load_capture(session.image, CaptureSettings.from_config(session.config), centrality)


def _read_picture(session: Session) -> Picture:
    """Read the single picture of a run, cropped to the shape of its prior if that has one.

    Args:
        session: The run.

    Raises:
        ValueError: A setting is for several pictures only, or the file is no picture.
    """
    config = session.config
    for key in ("cameras", "input"):
        if config[key] is not None:
            raise ValueError(
                f"{key} is {config[key]!r}, but image is a single picture; {key} is for a video, "
                "a folder or a list of pictures"
            )
    assert isinstance(session.image, str)  # several pictures are a capture
    return load_picture(
        session.image,
        config.preprocess.size or PICTURE_SIZE,
        config.preprocess.field_of_view,
        shape_choice(plain_settings(config.prior)),
    )
