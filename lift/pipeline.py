"""One image to a 3D Gaussian scene. The one file to read first.

A latent video diffusion model knows what a scene looks like from the side, but it degrades over large camera motions, follows cameras
imprecisely, and bends geometry from frame to frame. The method (LiftImage3D, arXiv 2412.09597) answers each:

    plan         an articulated trajectory splits large motions into chained small ones
    generate     a video prior continues the picture along each of them
    reconstruct  where were the frames really taken, and what did they see?
    fit          canonical Gaussians and, beside them, what each frame got wrong
    deliver      the undistorted canonical scene, as files and as a report

Each stage is a function from typed values to a typed value, kept on disk under a key of all that made it (`lift.store`); to go on
after a kill is to run again. Which component fills which slot is the configuration's business (`lift.registry`).
"""

from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from lift.delivery import Scene, deliver
from lift.depths import DepthEstimator, depths
from lift.distortions import Distortion, distortions
from lift.io.image import Picture, load_picture
from lift.io.splats import FORMATS
from lift.planners import planners
from lift.planners.reach import limit
from lift.poses import poses
from lift.priors import VideoPrior, priors
from lift.renderers import renderers
from lift.session import Session
from lift.store import load
from lift.training.fit import fit as optimise
from lift.training.module import SceneModule
from lift.training.splats import initialise
from lift.types import Depth, Frames, Gaussians, Reconstruction, Trajectory


def run(config: DictConfig) -> Path:
    """Makes the scene of `config.image`, or what is left to make of it, and returns the run's folder."""
    session = Session(config)
    for name in config.deliver.formats:
        if name not in FORMATS:
            raise ValueError(f"deliver.formats has {name!r}; choose among {', '.join(FORMATS)}")
    picture = load_picture(config.image, config.intake.size, config.intake.field_of_view)
    for note in picture.notes:
        session.note(note)
    session.build(renderers).warm_up()

    estimator = session.build(depths, camera=picture.cameras)
    depth, key = estimate_depth(session, picture, estimator)
    prior = session.build(priors, depth=depth, camera=picture.cameras, estimator=estimator)
    trajectory, key = plan(session, picture, depth, prior, key)
    frames, key = generate(session, picture, depth, prior, trajectory, key)
    reconstruction, key = reconstruct(session, estimator, depth, frames, trajectory, key)
    gaussians, distortion, folder = fit(session, depth, frames, reconstruction, key)
    return deliver(session, Scene(picture, depth, trajectory, frames, reconstruction, gaussians, distortion, folder))


def estimate_depth(session: Session, picture: Picture, estimator: DepthEstimator) -> tuple[Depth, str]:
    """How far away is everything in the picture? Its unit is the unit of the whole scene from here on."""
    key = session.key("depth", picture.digest, *_camera(picture), session.config.image, slots=("depth",))
    return session.value("depth", key, lambda: estimator(picture.frames.images[0])), key


def plan(session: Session, picture: Picture, depth: Depth, prior: VideoPrior, before: str) -> tuple[Trajectory, str]:
    """Where shall the camera go, without leaving what the picture can tell?"""
    reach = session.config.reach
    key = session.key("plan", before, prior.clip_length, reach.max_unseen, reach.beyond, slots=("planner",), code=(limit,))
    planner = session.build(planners)

    def make() -> dict:
        trajectory, magnitude, notes = limit(planner, picture.cameras, depth, prior.clip_length, reach.max_unseen, reach.beyond)
        return {"trajectory": trajectory, "magnitude": magnitude, "notes": list(notes)}

    planned = session.value("plan", key, make)
    for note in planned["notes"]:
        session.note(note)
    return planned["trajectory"], key


def generate(
    session: Session, picture: Picture, depth: Depth, prior: VideoPrior, trajectory: Trajectory, before: str
) -> tuple[Frames, str]:
    """What would be seen there? Clip after clip, each continuing an earlier frame; a finished clip is never made twice."""
    for side in (picture.cameras.width, picture.cameras.height):
        if side % prior.multiple:
            raise ValueError(f"intake.size leads to a side of {side} pixels; this prior needs multiples of {prior.multiple}")
    known = depth.depth.where(depth.valid, 0)[None]
    frames, cameras, key = Frames(picture.frames.images, known), trajectory.start, before
    for number, clip in enumerate(trajectory.clips):
        key = session.key("clip", key, number, session.config.seed, slots=("prior",))
        made = session.value(
            "clip", key, lambda: prior(frames, cameras, clip, session.config.seed + number), f"{number + 1}/{len(trajectory.clips)} {clip.name}"
        )
        if made.depth is None:  # a prior that knows no depth: the pose stage estimates every frame's
            frames = Frames(frames.images)
        frames, cameras = Frames.cat([frames, made]), type(cameras).cat([cameras, clip.cameras])
    return frames, key


def reconstruct(
    session: Session, estimator: DepthEstimator, depth: Depth, frames: Frames, trajectory: Trajectory, before: str
) -> tuple[Reconstruction, str]:
    """Where were the frames really taken, and what did they see?"""
    key = session.key("reconstruct", before, slots=("pose", "depth"))
    pose = session.build(poses, depth=depth, estimator=estimator)
    return session.value("reconstruct", key, lambda: pose(frames, trajectory)), key


def fit(
    session: Session, depth: Depth, frames: Frames, reconstruction: Reconstruction, before: str
) -> tuple[Gaussians, Distortion, Path]:
    """Canonical Gaussians that explain all frames, while a distortion learns what each frame got wrong."""
    config = session.config
    key = session.key("fit", before, config.seed, _plain(config.trainer), _plain(config.fit), slots=("distortion", "renderer"), code=(optimise,))
    cameras = reconstruction.cameras
    distortion = session.build(distortions, num_views=len(frames), extent=depth.typical, size=(cameras.width, cameras.height))
    renderer = session.build(renderers)

    def make(folder: Path) -> None:
        start = initialise(reconstruction, config.fit.initial_gaussians, config.fit.sh_degree, renderer.device)
        module = SceneModule(start, distortion, renderer, frames, reconstruction, config.fit, depth.typical, config.seed)
        placed = [view for view in range(1, len(frames)) if reconstruction.confidence[view].any()]
        optimise(module, placed, folder, config.fit, _plain(config.trainer), config.seed)

    folder = session.folder("fit", key, make)
    fitted = load(folder)
    distortion.load_state_dict(fitted["distortion"])
    return fitted["gaussians"], distortion.cpu(), folder


def _camera(picture: Picture) -> tuple:
    return picture.cameras.intrinsics.tolist(), picture.cameras.width, picture.cameras.height


def _plain(settings: DictConfig) -> dict:
    return OmegaConf.to_container(settings, resolve=True)
