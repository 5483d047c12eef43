"""Fit canonical Gaussians and a distortion to the frames."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from lift.config import resolve_fit
from lift.distortions import Distortion, distortions
from lift.renderers import renderers
from lift.runtime.serialization import load
from lift.runtime.session import Session, plain_settings
from lift.stages.views import Views
from lift.training import CHECKPOINT
from lift.types import Gaussians


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
    from lift.training.fit import fit as optimise
    from lift.training.module import SceneModule
    from lift.training.splats import initialise

    config = session.config
    frames = views.frames
    reconstruction = views.reconstruction
    settings = resolve_fit(config.fit, real=frames.depth is None)
    key = _fit_key(session, views, settings, test_frames, optimise)
    distortion = _build_distortion(session, views)
    if views.multiview_consistent:
        settings = OmegaConf.merge(settings, {"robust": {"frames": 0.0, "pixels": 0.0}})
        assert isinstance(settings, DictConfig)
    if note := _distortion_note(session, views, distortion):
        session.note(note)
    renderer = session.build(renderers)

    def make(folder: Path) -> None:
        if (folder / CHECKPOINT).exists():
            session.say("fit           going on from its last checkpoint")
        start = initialise(
            reconstruction, settings.initial_gaussians, settings.sh_degree, renderer.device
        )
        module = SceneModule(
            start,
            distortion,
            renderer,
            frames,
            reconstruction,
            settings,
            views.depth.typical,
            config.seed,
        )
        registered = [
            view for view in range(1, len(frames)) if reconstruction.confidence[view].any()
        ]
        trainer = plain_settings(config.trainer)
        optimise(module, registered, folder, settings, trainer, config.seed, test_frames)

    folder = session.folder("fit", key, make)
    fitted = load(folder)
    distortion.load_state_dict(fitted["distortion"])
    return fitted["gaussians"], distortion.eval().cpu(), folder


def _fit_key(
    session: Session,
    views: Views,
    settings: DictConfig,
    test_frames: Sequence[int] | None,
    optimise: Any,
) -> str:
    """Return the key of the stage.

    The number of devices is no part of it: a fit can continue on another number.
    """
    trainer = plain_settings(session.config.trainer)
    trainer.pop("devices", None)
    test_part = () if test_frames is None else (list(test_frames),)
    return session.key(
        "fit",
        views.key,
        session.config.seed,
        trainer,
        plain_settings(settings),
        *test_part,
        slots=("distortion", "renderer"),
        code=(optimise,),
    )


def _build_distortion(session: Session, views: Views) -> Distortion:
    """Build the distortion. Its random initial values depend on the run's seed."""
    cameras = views.reconstruction.cameras
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(session.config.seed)
        return session.build(
            distortions,
            num_views=len(views.frames),
            extent=views.depth.typical,
            size=(cameras.width, cameras.height),
            trajectory=views.trajectory,
            points=views.reconstruction.points,
            multiview_consistent=views.multiview_consistent,
        )


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
