"""Settings of `lift run` and `lift eval` that belong to no component, with their defaults."""

from dataclasses import dataclass, field
from typing import Annotated, Any

from annotated_types import Interval, Len
from omegaconf import MISSING, DictConfig, OmegaConf

from lift.config.loggers import Wandb
from lift.registry.ranges import (
    AtLeastOne,
    Count,
    Fraction,
    FrameRate,
    LearningRate,
    NonNegative,
    OneOf,
    Seed,
    Weight,
)

ANNOTATION = "annotation"
"""Key in a field's metadata: its type, where omegaconf has none for it."""

GaussianCount = Annotated[int, Interval(ge=1, le=100_000_000)]
"""A number of Gaussians."""

Power = Annotated[float, Interval(ge=0, le=100)]
"""An exponent of a weight."""


@dataclass
class Preprocess:
    """How pictures are read."""

    size: Annotated[int, Interval(ge=64, le=4096)] = 384
    """Longer side in pixels that pictures are resized to."""
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
class LearningRates:
    """Learning rates of Adam for the raw parameters of the Gaussians."""

    means: LearningRate | None = None
    """In units of the scene's typical depth. It decays to 1/100 of its value.

    Null: 0.002 for real frames, 0.0004 for frames with exact depth.
    """
    scales: LearningRate = 0.01
    """For log scales."""
    quats: LearningRate = 0.004
    """For rotation quaternions."""
    opacities: LearningRate = 0.05
    """For opacity logits."""
    colors: LearningRate = 0.006
    """For spherical harmonics coefficients."""


@dataclass
class Losses:
    """Weights of the loss terms. The L1 colour term has the weight 1 - ssim."""

    ssim: Fraction = 0.2
    """Weight of 1 - SSIM."""
    depth: Weight = 0.1
    """Weight of the L1 error of inverse depth, in units of 1 / typical depth."""
    opacity: Weight = 0.002
    """Weight of the mean opacity (a regulariser of MCMC)."""
    scale: Weight = 0.002
    """Weight of the mean standard deviation, in units of typical depth (a regulariser of MCMC)."""


@dataclass
class Robust:
    """Robust weights of frames and pixels in the losses."""

    frames: NonNegative = 2.5
    """Ratio of a frame's error to the median error at which its weight is one half.

    The weight falls as the error grows. 0 gives all frames the same weight. Frames of a prior that
    is multi-view consistent have the same weight if the pose estimator keeps their cameras.
    """
    pixels: NonNegative = 0.0
    """The same ratio for a pixel: the mean error around it, relative to that of its frame.

    0 gives all pixels of a frame the same weight.
    """


@dataclass
class Densify:
    """Relocation and cloning of Gaussians.

    Reference:
        Kheradmand et al., 3D Gaussian Splatting as Markov Chain Monte Carlo, NeurIPS 2024.
    """

    every: AtLeastOne = 50
    """Number of steps between two rounds."""
    start: Annotated[int, Interval(ge=0, le=10_000_000)] = 100
    """First step with a round."""
    stop: Fraction = 0.7
    """Fraction of the steps after which Gaussians are no longer moved or cloned."""
    growth_until: Annotated[float, Interval(ge=0, le=100)] = 0.5
    """Fraction of the steps at which the number of Gaussians reaches fit.max_gaussians."""
    gradient_power: Power = 0.5
    """Exponent of the mean position gradient in the weights of Gaussians to clone.

    0 draws them by opacity alone.
    """
    min_opacity: Fraction = 0.01
    """Gaussians with a lower opacity are relocated."""
    noise_scale: NonNegative = 0.0
    """Exploration noise of the means, relative to the published 5e5 times the learning rate."""


@dataclass
class CoarseToFine:
    """Phases of the fit that use smaller pictures, before the full size."""

    scales: Annotated[list[Annotated[float, Interval(gt=0, le=1)]], Len(0, 100)] = field(
        default_factory=list
    )
    """Fraction of the full width and height for each phase."""
    until: Annotated[list[Fraction], Len(0, 100)] = field(default_factory=list)
    """Fraction of the steps at which each phase ends, in rising order."""


@dataclass
class Fit:
    """How the Gaussians are optimised."""

    steps: Annotated[int, Interval(ge=1, le=10_000_000)] | None = None
    """Number of steps of one process. N processes divide it by N, so the number of views stays.

    Null: 3000 for real frames, 1000 for frames with exact depth.
    """
    batch_size: Annotated[int, Interval(ge=1, le=4096)] = 1
    """Number of views per step and process.

    Learning rates grow with the square root of the number of views in a step.
    """
    importance_power: Power = 0.0
    """Exponent of a frame's error in the weights that frames are drawn with. 0: uniform."""
    input_fraction: Fraction = 0.15
    """Fraction of drawn views that are the input view.

    It rises, up to 0.4, while the input's error is larger than the median error of the frames,
    or its PSNR is below about 33 dB.
    """
    test_every: Count = 8
    """Hold out every N-th frame from training. 0 holds out none.

    For an unordered set of pictures the pictures 0, N, 2N, ... are held out, as in evaluations on
    LLFF. With fewer than N pictures all are trained on.
    """
    initial_gaussians: GaussianCount = 40_000
    """Number of Gaussians at the start."""
    max_gaussians: GaussianCount = 60_000
    """Number of Gaussians at the end."""
    sh_degree: Annotated[int, Interval(ge=0, le=3)] | None = None
    """Degree of the spherical harmonics.

    Null: 2 for real frames, 0 for frames with exact depth.
    """
    coarse_to_fine: CoarseToFine = field(default_factory=CoarseToFine)
    """Phases with smaller pictures at the start of the fit."""
    learning_rate: LearningRates = field(default_factory=LearningRates)
    """Learning rates of the parameters of the Gaussians."""
    loss: Losses = field(default_factory=Losses)
    """Weights of the loss terms."""
    robust: Robust = field(default_factory=Robust)
    """Robust weights of frames and pixels."""
    densify: Densify = field(default_factory=Densify)
    """Relocation and cloning of Gaussians."""
    checkpoint_every: Annotated[int, Interval(ge=1, le=10_000_000)] = 100
    """Number of steps between checkpoints. An interrupted fit resumes from the latest one."""
    log_every: Annotated[int, Interval(ge=1, le=10_000_000)] = 20
    """Number of steps between points of the training curves."""
    log_images_every: Annotated[int, Interval(ge=0, le=10_000_000)] = 0
    """Number of steps between rendered views in the logs, each beside its frame.

    0: after the last step only. The input and up to three held-out frames are rendered.
    """


@dataclass
class Export:
    """What is written of the finished scene."""

    video_frames: Annotated[int, Interval(ge=2, le=100_000)] = 72
    """Number of frames of the fly-through."""
    fps: FrameRate = 24
    """Frames per second of the fly-through."""
    formats: Annotated[list[str], Len(0, 16)] = field(default_factory=lambda: ["ply"])
    """Formats of the scene: ply, splat or spz."""


@dataclass
class Cache:
    """How the cache of stages is used."""

    verify: Annotated[str, OneOf(("checksum", "size", "none"))] = "checksum"
    """How the files of a stage are checked when it is read: checksum, size or none.

    A damaged stage is set aside and made again. Checksums are read at several GB/s.
    """


@dataclass
class Config:
    """Configuration of `lift run`. The six slots hold the settings of the chosen components."""

    image: Any = field(default=MISSING, metadata={ANNOTATION: str | list[str]})
    """One picture that the prior continues: a file or a built-in name.

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
    """Folder of all runs and of their cache."""
    name: str | None = None
    """Name of the run's folder. Null: made from prior, distortion and cache key."""
    seed: Seed = 0
    """Seed of all random numbers."""
    device: Annotated[str, OneOf(("auto", "cpu", "cuda"))] = "auto"
    """Device of depth, prior and poses: auto, cpu or cuda. The trainer has its own setting."""
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
    fit: Fit = field(default_factory=Fit)
    """Settings of the optimisation of the Gaussians."""
    cache: Cache = field(default_factory=Cache)
    """How the cache of stages is used."""
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


FIT_DEFAULTS: dict[str, tuple[int | float, int | float]] = {
    "steps": (1000, 3000),
    "sh_degree": (0, 2),
    "learning_rate.means": (4e-4, 2e-3),
}
"""Values that replace null in settings of `fit`: for frames with exact depth, for real frames."""


def resolve_fit(fit: DictConfig, real: bool = False) -> DictConfig:
    """Replace null in the settings of the fit.

    Args:
        fit: `fit` of the configuration; it is not changed.
        real: Whether the frames come from a generator or a camera, without exact depth.

    Returns:
        A copy in which null is replaced by the values of `FIT_DEFAULTS`.
    """
    resolved = OmegaConf.create(fit).copy()
    for key, values in FIT_DEFAULTS.items():
        if OmegaConf.select(resolved, key) is None:
            OmegaConf.update(resolved, key, values[real])
    return resolved
