"""Settings of `lift run` and `lift eval` that belong to no component, with their defaults."""

from dataclasses import dataclass, field
from typing import Annotated, Any

from annotated_types import Interval, Len
from omegaconf import MISSING

from lift.config.delivery_schema import Deliver
from lift.config.film_schema import Film
from lift.config.fit_schema import Fit
from lift.config.loggers import Wandb
from lift.registry.ranges import (
    AtLeastOne,
    Count,
    Fraction,
    OneOf,
    Seed,
)

ANNOTATION = "annotation"
"""Key in a field's metadata: its type, where omegaconf has none for it."""


@dataclass
class Preprocess:
    """How pictures are read."""

    size: Annotated[int, Interval(ge=64, le=4096)] | None = None
    """Longer side in pixels that pictures are resized to.

    Null: 512 for a single picture, 384 for a video or several pictures.
    """
    field_of_view: Annotated[float, Interval(ge=5, le=150)] = 55.0
    """Degrees of the longer side, for files without a focal length."""


@dataclass
class FrameSelection:
    """Which frames of a video, a folder or a list of pictures are used. Ignored for one picture."""

    max_count: Annotated[int, Interval(ge=2, le=100_000)] = 60
    """Maximum number of frames. Sharp frames are chosen, spread evenly over motion and time."""
    start: Count = 0
    """Index of the first frame."""
    stride: AtLeastOne = 1
    """Use every N-th frame."""
    ordered: bool | None = None
    """Whether the frames are consecutive in time. Null: yes for a video, no for pictures."""


@dataclass
class Edges:
    """How steps of the depth are aligned to the edges of the picture. This comes first."""

    width: Annotated[float, Interval(ge=0, le=20)] | None = None
    """Half-width in pixels of a blurred depth step, in a picture whose longer side is 400 pixels.

    Null: the width that the estimator declares. 0: do not sharpen.
    """


@dataclass
class Stereo:
    """Depth of each frame from its neighbours (multi-view stereo)."""

    size: Annotated[int, Interval(ge=0, le=4096)] = 192
    """Longer side in pixels of the compared pictures. 0: use each frame's monocular depth."""


@dataclass
class MotionLimit:
    """How far a planned motion may leave what the picture shows."""

    max_unseen: Fraction = 0.35
    """Largest fraction of a planned view that the input does not show."""
    on_exceed: Annotated[str, OneOf(("limit", "warn", "ignore"))] = "limit"
    """limit: shrink the motion until it fits. warn: keep it and warn. ignore: do not check."""


@dataclass
class Export:
    """What is written of the finished scene."""

    film: Film = field(default_factory=Film)
    """The film of the scene."""
    formats: Annotated[list[str], Len(0, 16)] = field(default_factory=lambda: ["ply"])
    """Formats of the scene: ply, compressed.ply, splat, ksplat, spz, v4.spz, sog or glb.

    `deliver.keep=minimal` writes no ply, and those of the others that are named.
    """


@dataclass
class Cache:
    """How the cache of stages is used."""

    verify: Annotated[str, OneOf(("checksum", "size", "none"))] = "checksum"
    """How the files of a stage are checked when it is read: checksum, size or none.

    A damaged stage is set aside and made again. Checksums are read at several GB/s.
    """
    keep: bool = True
    """Whether stages stay in the cache when the scene is delivered.

    False saves disk in a batch. A run with other settings, such as another `deliver.keep`, then
    has to make all stages again. If `output` is a URL, the local copy of the result goes, too.
    """
    folder: str | None = None
    """Local folder below which runs work whose `output` is a URL. Stages are never uploaded.

    Null: `lift` in the user's cache folder (`XDG_CACHE_HOME`, or `~/.cache`). Each URL has a folder
    of its own in it. Not used if `output` is a folder, which then has the stages.
    """


@dataclass
class Config:
    """Configuration of `lift run`. The six slots hold the settings of the chosen components."""

    image: Any = field(default=MISSING, metadata={ANNOTATION: str | list[str]})
    """One picture that the prior continues: a file, a URL or a built-in name.

    Or a video, a folder or a list of pictures of one scene. Planner and prior are then not used.
    """
    input: str | None = None
    """Name or index of the input view, of a video or several pictures.

    Null: the first frame of a video, else the most central picture.
    """
    cameras: str | None = None
    """File with the cameras of the frames, of a video or several pictures.

    npz, transforms.json, camera_path.json, RealEstate10K text or a COLMAP folder. Null: the pose
    stage estimates them.
    """
    output: str = "outputs"
    """Folder of all runs and of their cache. Or a URL such as s3://bucket/results.

    Results are uploaded to a URL. The cache is then in `cache.folder`.
    """
    name: str | None = None
    """Name of the run's folder. Null: made from prior, distortion and cache key."""
    seed: Seed = 0
    """Seed of all random numbers."""
    device: Annotated[str, OneOf(("auto", "cpu", "cuda"))] = "auto"
    """Device of all stages but the fit: auto, cpu or cuda. The trainer has its own setting."""
    preprocess: Preprocess = field(default_factory=Preprocess)
    """Size and field of view of the pictures."""
    frames: FrameSelection = field(default_factory=FrameSelection)
    """Choice of frames of a video or of several pictures."""
    edges: Edges = field(default_factory=Edges)
    """Alignment of depth steps to the edges of the picture."""
    stereo: Stereo = field(default_factory=Stereo)
    """Multi-view stereo of the frames."""
    motion_limit: MotionLimit = field(default_factory=MotionLimit)
    """Limit of the planned motion."""
    planner: Any = MISSING
    """Component that plans the camera path and its clips: its name and settings."""
    prior: Any = MISSING
    """Component that generates the frames of the clips: its name and settings."""
    depth: Any = MISSING
    """Component that estimates depth from one picture: its name and settings."""
    pose: Any = MISSING
    """Component that estimates the cameras and the points of the frames: its name and settings."""
    distortion: Any = MISSING
    """Component that models the errors of generated frames: its name and settings."""
    renderer: Any = MISSING
    """Component that renders the Gaussians: its name and settings."""
    redeliver: bool = False
    """Whether a finished run writes its results again.

    Otherwise a run that was asked for the same before is passed over.
    """
    preview: bool = False
    """Whether Gaussians straight from the depth are shown and written before the fit.

    They take about a second. `lift view` shows them while the run goes on.
    """
    fit: Fit = field(default_factory=Fit)
    """Settings of the optimisation of the Gaussians."""
    cache: Cache = field(default_factory=Cache)
    """How the cache of stages is used."""
    deliver: Deliver = field(default_factory=Deliver)
    """What a finished run keeps in its folder."""
    export: Export = field(default_factory=Export)
    """Files that are written of the finished scene."""
    trainer: dict[str, Any] = field(default_factory=dict)
    """Arguments of pytorch_lightning.Trainer."""
    logger: Any = "tensorboard"
    """What writes the curves and pictures of the fit: tensorboard, wandb, csv or none.

    Or a list, such as [tensorboard,csv]. Or the import path of another logger of Lightning's.
    """
    wandb: Wandb = field(default_factory=Wandb)
    """Settings of Weights & Biases, if `logger` names wandb."""
    callbacks: Any = None
    """Callbacks of Lightning's Trainer, by import path: [my_module.MyCallback]. Null: none.

    With arguments: [{_target_: my_module.MyCallback, every: 10}].
    """
