"""Turn one image, or frames of one scene, into a 3D Gaussian scene. Read this file first.

A latent video diffusion model knows what a scene looks like from the side. But it degrades over
large camera motions, follows cameras imprecisely, and bends geometry from frame to frame. The
method (LiftImage3D, arXiv 2412.09597) answers each of these problems in five stages:

    plan         split a large camera motion into a tree of short clips
    generate     let a video prior continue the picture along each clip
    reconstruct  estimate the cameras, the depth and the points that the frames really show
    fit          optimise canonical Gaussians and, beside them, the distortion of each frame
    deliver      export the undistorted canonical scene, and write a report

A video, a folder or a list of pictures (`lift.io.capture`) already has frames. Then nothing is
planned or generated.

Each stage is a function in `lift.stages`, from typed values to a typed value. Its result is cached
on disk under a key that hashes everything it depends on (`lift.runtime.cache`). So a run that was
killed continues when it is started again. The configuration names the component that fills each
slot (`lift.registry`).
"""

from pathlib import Path

import torch
from omegaconf import DictConfig

from lift.io.capture import Capture
from lift.io.image import Picture
from lift.poses import poses
from lift.remote.urls import local_output
from lift.runtime.cache import hash_key
from lift.runtime.cache_contents import remove_stage
from lift.runtime.compile_ahead import compile_ahead
from lift.runtime.finished import find_finished
from lift.runtime.kept_networks import park_networks
from lift.runtime.profiling import span
from lift.runtime.resource_errors import name_disk
from lift.runtime.session import Session
from lift.stages.clips import true_cameras
from lift.stages.depth import build_depth_estimator, estimate_capture_depth, estimate_depth
from lift.stages.fit import fit
from lift.stages.generate import generate
from lift.stages.inputs import read_input
from lift.stages.logs import check_logs
from lift.stages.plan import build_planner, plan
from lift.stages.preview import publish_preview, show_live
from lift.stages.prior import build_early_prior, build_prior
from lift.stages.reconstruct import reconstruct
from lift.stages.views import Views

POSES_THAT_KEEP_CAMERAS = ("auto", "matching", "planned")
"""Pose estimators that keep cameras that the user supplies."""


def run(config: DictConfig, title: str | None = None, label: str | None = None) -> Path | None:
    """Compute the scene of `config.image`, or the stages of it that are not cached.

    With several processes (`lift.runtime.distributed`) each calls this function.

    Args:
        config: Configuration of the run.
        title: Name of the picture; by default that of its file.
        label: Put before each message; by default the title, if there is one.

    Returns:
        The run's local folder on the main process, which delivers the scene. None on others.

    Raises:
        ValueError: A setting cannot be used. Most are checked before anything is computed.
    """
    with name_disk(local_output(config)):
        return _run(Session(config, title, label))


def _check_run_folder(session: Session, picture: Picture) -> None:
    """Refuse a folder with files of the user before anything is computed. See `publish_run`."""
    name = session.config.name
    folder = session.output / picture.name / (name or "")
    if name and folder.is_dir():
        from lift.outputs.publication import check_run_folder

        check_run_folder(folder)


def _run(session: Session) -> Path | None:
    """Compute all stages of a run, and deliver the scene."""
    check_logs(session)
    with span("input"):
        picture, capture = read_input(session)
    _check_run_folder(session, picture)
    with show_live(session, picture):
        folder = _compute(session, picture, capture)
        if folder is not None and session.live_job is not None:
            session.live_job.finish(folder)
    return folder


def _compute(session: Session, picture: Picture, capture: Capture | None) -> Path | None:
    """Compute the stages of a run whose input is read, and deliver the scene."""
    test_frames = capture.held_out(session.config.fit.test_every) if capture else None
    with session.deferred_writes():
        with compile_ahead(session):
            if capture:
                views = register_capture(session, picture, capture)
            else:
                views = generate_views(session, picture)
        gaussians, distortion, folder = fit(session, views, test_frames)
    if not session.is_main:
        return None
    from lift.outputs.delivery import deliver
    from lift.outputs.quality import RunResult

    result = RunResult(
        picture,
        views.depth,
        views.trajectory,
        views.frames,
        views.reconstruction,
        gaussians,
        distortion,
        folder,
        views.true_cameras,
        capture,
        views.multiview_consistent,
    )
    try:
        delivered = deliver(session, result, request=session.request)
    except FileNotFoundError:  # the same run has delivered meanwhile, and removed its stages
        if finished := find_finished(session.config, session.title):
            return finished
        raise
    if not session.config.cache.keep:
        for stage in session.stages:
            if not remove_stage(stage.folder, stage.name, stage.key):
                session.say(f"{stage.folder} is in use or another user's, and stays")
    return delivered


def generate_views(session: Session, picture: Picture) -> Views:
    """Plan a trajectory from a single picture, generate its frames, and reconstruct their cameras.

    Args:
        session: The run.
        picture: The input.
    """
    planner = build_planner(session, picture)
    estimator = build_depth_estimator(session, picture)
    with span("prior"):
        prior = build_early_prior(session, picture, estimator, planner)
    depth, key = estimate_depth(session, picture, estimator)
    with span("preview"):
        publish_preview(session, picture, depth, key)
    if prior is None:
        with span("prior"):
            prior = build_prior(session, picture, estimator, depth)
    # The pose estimator is built now, so that wrong settings raise before frames are generated.
    pose = session.build(
        poses,
        depth=depth,
        estimator=estimator,
        multiview_consistent=prior.multiview_consistent,
        focal_known=picture.focal_known,
    )
    trajectory, key = plan(session, picture, depth, planner, prior, key)
    frames, key = generate(session, picture, depth, prior, trajectory, key)
    prior.release()
    reconstruction, key = reconstruct(session, pose, frames, trajectory, key)
    park_networks()
    # The frames of a consistent prior agree with the planned cameras, not with other ones.
    planned = trajectory.cameras
    estimated = reconstruction.cameras
    consistent = (
        prior.multiview_consistent
        and torch.equal(estimated.world_to_camera, planned.world_to_camera)
        and torch.equal(estimated.intrinsics, planned.intrinsics)
    )
    cameras = true_cameras(prior, trajectory, session.config.seed)
    return Views(depth, trajectory, frames, reconstruction, key, consistent, cameras)


def register_capture(session: Session, picture: Picture, capture: Capture) -> Views:
    """Estimate the cameras of recorded frames, or use those that the user supplies.

    Args:
        session: The run.
        picture: The input view.
        capture: All frames.

    Raises:
        ValueError: The user supplies cameras, and the pose estimator would ignore them.
    """
    name = session.config.pose.name
    cameras_known = capture.trajectory.hint == "known"
    if cameras_known and name not in POSES_THAT_KEEP_CAMERAS:
        raise ValueError(
            f"pose is {name!r}, which finds cameras of its own, but "
            f"cameras={session.config.cameras} gives them; choose one of "
            f"{', '.join(POSES_THAT_KEEP_CAMERAS)}, or leave cameras out"
        )
    estimator = build_depth_estimator(session, picture)
    depth, key = estimate_capture_depth(session, picture, capture, estimator)
    publish_preview(session, picture, depth, key)
    pose = session.build(
        poses,
        depth=depth,
        estimator=estimator,
        multiview_consistent=False,
        focal_known=picture.focal_known,
    )
    key = hash_key(key, capture.digest)
    reconstruction, key = reconstruct(session, pose, capture.frames, capture.trajectory, key)
    park_networks()
    return Views(depth, capture.trajectory, capture.frames, reconstruction, key)
