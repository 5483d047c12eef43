"""Fit canonical Gaussians and a distortion to the frames."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from lift.config import resolve_fit
from lift.config.loggers import read_callbacks
from lift.distortions import Distortion, distortions
from lift.registry import source_fingerprint
from lift.renderers import Renderer, renderers
from lift.runtime.atomic_io import copy_path
from lift.runtime.cache import hash_key
from lift.runtime.profiling import span
from lift.runtime.quick_import import quick_import
from lift.runtime.serialization import load
from lift.runtime.session import Session, plain_settings
from lift.stages.checks import OutputError
from lift.stages.logs import log_settings, tell_logs
from lift.stages.render_checks import check_render
from lift.stages.unused import unused_densify_message
from lift.stages.views import Views
from lift.training import CHECKPOINT
from lift.types import Gaussians

_FIT_SOURCE = Path(__file__).parents[1] / "training" / "fit.py"
"""Source of the fit. A finished fit needs its fingerprint, but not the import of Lightning."""

_LOG_SETTINGS = ("log_every", "log_images_every")
"""Settings of `fit` that do not change the result."""


def fit(
    session: Session, views: Views, test_frames: Sequence[int] | None = None
) -> tuple[Gaussians, Distortion, Path]:
    """Fit canonical Gaussians that explain all frames, and the distortion of each frame.

    Args:
        session: The run.
        views: Frames with their cameras and depth.
        test_frames: Frames to hold out from training; by default every `fit.test_every`-th.

    Returns:
        The Gaussians and the distortion on the CPU, and the stage's folder.
    """
    config = session.config
    settings = fit_settings(config.fit, views)
    key = _fit_key(session, views.key, settings, test_frames)
    distortion = _build_distortion(session, views)
    if note := _distortion_note(session, views, distortion):
        session.note(note)
    if note := unused_densify_message(config.fit.densify):
        session.note(note)
    renderer = session.build(renderers)

    def make(folder: Path) -> None:
        if (folder / CHECKPOINT).exists():
            session.say("fit           going on from its last checkpoint")
        _optimise(session, views, settings, distortion, renderer, folder, test_frames)

    return _read_fit(session, _fit_folder(session, key, make), distortion)


def continuation_key(
    session: Session, views: Views, checkpoint: Path, test_frames: Sequence[int]
) -> str:
    """Return the key of a fit that continues a finished one.

    Args:
        session: The run, with the new settings.
        views: Frames with their cameras and depth.
        checkpoint: Checkpoint of the finished fit.
        test_frames: Frames that the finished fit held out.
    """
    settings = fit_settings(session.config.fit, views)
    return _fit_key(session, hash_key(checkpoint), settings, test_frames)


def continue_fit(
    session: Session, views: Views, outputs: Sequence[Path], test_frames: Sequence[int]
) -> tuple[Gaussians, Distortion, Path]:
    """Continue a finished fit from its checkpoint, up to `fit.steps` steps in all.

    The optimiser keeps its state. Learning rates, densification, coarse to fine and the start of
    distortions are functions of the fraction of all steps that are done. So they go on where a
    fit of that many steps would be.

    Args:
        session: The run, with the new settings.
        views: Frames with their cameras and depth.
        outputs: Files and folders of the finished fit, the checkpoint first. They are copied.
        test_frames: Frames that the finished fit held out.

    Returns:
        The Gaussians and the distortion on the CPU, and the stage's folder.
    """
    settings = fit_settings(session.config.fit, views)
    key = continuation_key(session, views, outputs[0], test_frames)
    distortion = _build_distortion(session, views)
    renderer = session.build(renderers)

    def make(folder: Path) -> None:
        if (folder / CHECKPOINT).exists():
            session.say("fit           going on from its last checkpoint")
        else:
            for path in reversed(outputs):  # a checkpoint says that all are there
                copy_path(path, folder / path.name)
        _optimise(session, views, settings, distortion, renderer, folder, test_frames)

    return _read_fit(session, _fit_folder(session, key, make), distortion)


def _fit_folder(session: Session, key: str, make: Callable[[Path], None]) -> Path:
    """Return the folder of the stage. Checkpoints of a killed fit are verified first."""

    def restore(draft: Path) -> None:
        from lift.training.checkpoint import restore_checkpoint

        restore_checkpoint(draft, session.say)

    return session.folder("fit", key, make, restore)


def fit_settings(fit: DictConfig, views: Views) -> DictConfig:
    """Return the settings of a fit without null, for the frames that it has.

    Args:
        fit: `fit` of the configuration.
        views: Frames with their cameras and depth.
    """
    return resolve_fit(fit, real=views.frames.depth is None)


def distortion_inputs(views: Views) -> dict[str, Any]:
    """Return what the constructors of distortions may take besides their settings.

    Args:
        views: Frames with their cameras and depth.

    Returns:
        Values of keyword-only parameters by name.
    """
    cameras = views.reconstruction.cameras
    trajectory = views.trajectory
    clips = tuple(
        replace(clip, cameras=cameras[span.start : span.stop])
        for clip, span in zip(trajectory.clips, trajectory.spans, strict=True)
    )
    return {
        "num_views": len(views.frames),
        "extent": views.depth.typical,
        "size": (cameras.width, cameras.height),
        # Planned cameras may be far from those of the frames.
        "trajectory": replace(trajectory, clips=clips),
        "points": views.reconstruction.points,
        "multiview_consistent": views.multiview_consistent,
    }


def _optimise(
    session: Session,
    views: Views,
    settings: DictConfig,
    distortion: Distortion,
    renderer: Renderer,
    folder: Path,
    test_frames: Sequence[int] | None,
) -> None:
    """Fit the scene, or continue from the checkpoint in the folder."""
    with quick_import(), span("imports"):  # Lightning takes seconds
        from lift.training.callbacks import build_callbacks
        from lift.training.finite import NonFiniteError
        from lift.training.fit import fit as optimise
        from lift.training.initial import initial_gaussians
        from lift.training.module import SceneModule

    if views.multiview_consistent:
        merged = OmegaConf.merge(settings, {"robust": {"frames": 0.0, "pixels": 0.0}})
        assert isinstance(merged, DictConfig)
        settings = merged
    frames = views.frames
    reconstruction = views.reconstruction
    with span("initial Gaussians"):
        start = initial_gaussians(frames, reconstruction, settings, renderer.device)
    seed = session.config.seed
    module = SceneModule(
        start, distortion, renderer, frames, reconstruction, settings, views.depth.typical, seed
    )
    registered = [view for view in reconstruction.registered.nonzero()[:, 0].tolist() if view > 0]
    other = registered[-1] if registered else 0
    check_render(renderer, distortion, start, reconstruction.cameras, other)
    trainer = plain_settings(session.config.trainer)
    callbacks = build_callbacks(read_callbacks(session.config))
    logs = log_settings(session)
    observer = _snapshots(session)
    try:
        optimise(
            module,
            registered,
            folder,
            settings,
            trainer,
            seed,
            test_frames,
            logs,
            callbacks,
            observer,
        )
    except NonFiniteError as error:
        if error.views is None or error.parameter:
            raise
        view = max(error.views.tolist()) or other
        scene = module.splats.gaussians()
        try:
            progress = distortion.progress
            check_render(renderer, distortion, scene, reconstruction.cameras, view, progress)
        except OutputError as cause:
            raise error.with_cause(str(cause)) from None
        raise


def _snapshots(session: Session) -> Any:
    """Return the callback that shows the fit to `lift view`. None without a job to show."""
    job = session.live_job
    if job is None:
        return None
    from lift.io.splats import write_ply
    from lift.runtime.live_job import SNAPSHOT
    from lift.training.snapshots import SnapshotCallback

    def show(gaussians: Gaussians, step: int, steps: int) -> None:
        job.show("fit", SNAPSHOT, lambda path: write_ply(path, gaussians), step, steps)

    return SnapshotCallback(show, job.is_watched)


def _read_fit(
    session: Session, folder: Path, distortion: Distortion
) -> tuple[Gaussians, Distortion, Path]:
    """Read the result of the stage."""
    tell_logs(session, folder)
    fitted = load(folder)
    distortion.load_state_dict(fitted["distortion"])
    return fitted["gaussians"], distortion.eval().cpu(), folder


def _fit_key(
    session: Session,
    source: str,
    settings: DictConfig,
    test_frames: Sequence[int] | None,
) -> str:
    """Return the key of the stage.

    The number of devices is no part of it: a fit can continue on another number. Loggers are not
    either, but callbacks are: they may change the result.
    """
    trainer = plain_settings(session.config.trainer)
    trainer.pop("devices", None)
    values = plain_settings(settings)
    for name in _LOG_SETTINGS:
        values.pop(name)
    optional: list[Any] = [] if test_frames is None else [list(test_frames)]
    if targets := read_callbacks(session.config):
        from lift.training.callbacks import callback_key

        optional.append({"callbacks": callback_key(targets)})
    return session.key(
        "fit",
        source,
        session.config.seed,
        trainer,
        values,
        *optional,
        source_fingerprint(_FIT_SOURCE),
        slots=("distortion", "renderer"),
    )


def _build_distortion(session: Session, views: Views) -> Distortion:
    """Build the distortion. Its random initial values depend on the run's seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(session.config.seed)
        return session.build(distortions, **distortion_inputs(views))


def _distortion_note(session: Session, views: Views, distortion: Distortion) -> str | None:
    """Return what the user should know about the distortion of this kind of frames, if anything."""
    prior = session.config.prior.name
    name = session.config.distortion.name
    is_learned = bool(list(distortion.groups()))
    is_pruned = not is_learned and bool(distortion.summary().get("parts"))
    if views.multiview_consistent and is_learned:
        return (
            f"frames of {prior} are multi-view consistent, so what {name} learns of them is noise; "
            "prior=frames has others"
        )
    if views.multiview_consistent and is_pruned:
        return (
            f"frames of {prior} are multi-view consistent, so no distortion is learned; "
            "distortion.prune_after=0 learns one all the same"
        )
    if views.trajectory.hint == "unordered" and is_pruned:
        return (
            "photographs of one scene: no distortion is learned; distortion.prune_after=0 learns "
            "one all the same"
        )
    return None
