"""Settings of `lift run` and `lift eval` that belong to no component, with their defaults."""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING, DictConfig, OmegaConf

from lift.config.loggers import Wandb

ANNOTATION = "annotation"
"""Key in a field's metadata: its type, where omegaconf has none for it."""


@dataclass
class Preprocess:
    """How pictures are read."""

    size: int = 384
    """Longer side in pixels that pictures are resized to, from 64 to 4096."""
    field_of_view: float = 55.0
    """Degrees of the longer side, for files without a focal length. From 5 to 150."""


@dataclass
class FrameSelection:
    """Which frames of a video, a folder or a list of pictures are used. Ignored for one picture."""

    max_count: int = 60
    """Maximum number of frames. Sharp frames are chosen, spread evenly over motion and time."""
    start: int = 0
    """Index of the first frame."""
    stride: int = 1
    """Use every N-th frame."""
    ordered: bool | None = None
    """Whether the frames are consecutive in time. Null: yes for a video, no for pictures."""


@dataclass
class Edges:
    """How steps of the depth are aligned to the edges of the picture. This comes first."""

    width: float | None = None
    """Half-width in pixels of a blurred depth step, in a picture whose longer side is 400 pixels.

    Null: the width that the estimator declares. 0: do not sharpen. From 0 to 20.
    """


@dataclass
class Stereo:
    """Depth of each frame from its neighbours (multi-view stereo)."""

    size: int = 192
    """Longer side in pixels of the compared pictures. 0: use each frame's monocular depth."""


@dataclass
class MotionLimit:
    """How far a planned motion may leave what the picture shows."""

    max_unseen: float = 0.35
    """Largest fraction of a planned view that the input does not show, from 0 to 1."""
    on_exceed: str = "limit"
    """limit: shrink the motion until it fits. warn: keep it and warn. ignore: do not check."""


@dataclass
class LearningRates:
    """Learning rates of Adam for the raw parameters of the Gaussians."""

    means: float | None = None
    """In units of the scene's typical depth. It decays to 1/100 of its value.

    Null: 0.002 for real frames, 0.0004 for frames with exact depth.
    """
    scales: float = 0.01
    """For log scales."""
    quats: float = 0.004
    """For rotation quaternions."""
    opacities: float = 0.05
    """For opacity logits."""
    colors: float = 0.006
    """For spherical harmonics coefficients."""


@dataclass
class Losses:
    """Weights of the loss terms. The L1 colour term has the weight 1 - ssim."""

    ssim: float = 0.2
    """Weight of 1 - SSIM, from 0 to 1."""
    depth: float = 0.1
    """Weight of the L1 error of inverse depth, in units of 1 / typical depth."""
    opacity: float = 0.002
    """Weight of the mean opacity (a regulariser of MCMC)."""
    scale: float = 0.002
    """Weight of the mean standard deviation, in units of typical depth (a regulariser of MCMC)."""


@dataclass
class Robust:
    """Robust weights of frames and pixels in the losses."""

    frames: float = 2.5
    """Ratio of a frame's error to the median error at which its weight is one half.

    The weight falls as the error grows. 0 gives all frames the same weight. Frames of a prior that
    is multi-view consistent have the same weight if the pose estimator keeps their cameras.
    """
    pixels: float = 0.0
    """The same ratio for a pixel: the mean error around it, relative to that of its frame.

    0 gives all pixels of a frame the same weight.
    """


@dataclass
class Densify:
    """Relocation and cloning of Gaussians.

    Reference:
        Kheradmand et al., 3D Gaussian Splatting as Markov Chain Monte Carlo, NeurIPS 2024.
    """

    every: int = 50
    """Number of steps between two rounds."""
    start: int = 100
    """First step with a round."""
    stop: float = 0.7
    """Fraction of the steps after which Gaussians are no longer moved or cloned."""
    growth_until: float = 0.5
    """Fraction of the steps at which the number of Gaussians reaches fit.max_gaussians."""
    gradient_power: float = 0.5
    """Exponent of the mean position gradient in the weights of Gaussians to clone.

    0 draws them by opacity alone.
    """
    min_opacity: float = 0.01
    """Gaussians with a lower opacity are relocated."""
    noise_scale: float = 0.0
    """Exploration noise of the means, relative to the published 5e5 times the learning rate."""


@dataclass
class CoarseToFine:
    """Phases of the fit that use smaller pictures, before the full size."""

    scales: list[float] = field(default_factory=list)
    """Fraction of the full width and height for each phase."""
    until: list[float] = field(default_factory=list)
    """Fraction of the steps at which each phase ends, in rising order."""


@dataclass
class Fit:
    """How the Gaussians are optimised."""

    steps: int | None = None
    """Number of steps of one process. N processes divide it by N, so the number of views stays.

    Null: 3000 for real frames, 1000 for frames with exact depth.
    """
    batch_size: int = 1
    """Number of views per step and process.

    Learning rates grow with the square root of the number of views in a step.
    """
    importance_power: float = 0.0
    """Exponent of a frame's error in the weights that frames are drawn with. 0: uniform."""
    input_fraction: float = 0.15
    """Fraction of drawn views that are the input view.

    It rises, up to 0.4, while the input's error is larger than the median error of the frames,
    or its PSNR is below about 33 dB.
    """
    test_every: int = 8
    """Hold out every N-th frame from training. 0 holds out none.

    For an unordered set of pictures the pictures 0, N, 2N, ... are held out, as in evaluations on
    LLFF. With fewer than N pictures all are trained on.
    """
    initial_gaussians: int = 40_000
    """Number of Gaussians at the start."""
    max_gaussians: int = 60_000
    """Number of Gaussians at the end."""
    sh_degree: int | None = None
    """Degree of the spherical harmonics, from 0 to 3.

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
    checkpoint_every: int = 100
    """Number of steps between checkpoints. An interrupted fit resumes from the latest one."""
    log_every: int = 20
    """Number of steps between points of the training curves."""
    log_images_every: int = 0
    """Number of steps between rendered views in the logs, each beside its frame.

    0: after the last step only. The input and up to three held-out frames are rendered.
    """


@dataclass
class Export:
    """What is written of the finished scene."""

    video_frames: int = 72
    """Number of frames of the fly-through."""
    fps: int = 24
    """Frames per second of the fly-through."""
    formats: list[str] = field(default_factory=lambda: ["ply"])
    """Formats of the scene: ply, splat or spz."""


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
    seed: int = 0
    """Seed of all random numbers."""
    device: str = "auto"
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


ALIGNMENTS = {
    "none": "lengths stay as they are",
    "median_depth": "one scale: the median ratio of the lifted scene's depth, rendered from the "
    "input view, and the dataset's depth",
    "similarity": "rotation (chordal mean), scale and shift (least squares of the better half) "
    "between the true cameras and the poses that matches with the input give their views, by the "
    "lifted scene's depth; the input's own pose is not kept",
    "sweep": "one scale, the best of 20 from 0.1 to 2.0 times that of median_depth (without "
    "points: times the scale that puts the farthest target one typical depth away), by mean PSNR "
    "of the target views, as SEVA sweeps camera scales; it favours the method that is measured",
}
"""How the lifted scene is aligned to the true cameras, by the name in `protocol.align`.

The input's camera is the same for both, except with `similarity`.
"""


@dataclass
class Protocol:
    """How a lifted scene is measured: `protocol.*` of `lift eval`."""

    input: str = "middle"
    """The view that is lifted: middle (nearest to the centre of all cameras), first, name or index.

    A split that names an input overrides it.
    """
    targets: str = "all"
    """The views that are compared.

    all: all others. every_N: each N-th, starting with the first, as every_8 splits LLFF. Or a JSON
    file with lists of names or indices, `input` (or `train_ids`) and `targets` (or `test_ids`).
    The file is in the scene's folder or beside it.
    """
    max_targets: int | None = None
    """Maximum number of targets, evenly spaced among those. Null: all."""
    align: str = "median_depth"
    """none, median_depth, similarity or sweep."""
    bins: list[float] = field(default_factory=lambda: [0.1, 0.25])
    """Distances from the input that divide the targets into groups with their own averages.

    In units of the input's typical depth.
    """
    seeds: list[int] = field(default_factory=lambda: [0])
    """Seeds of the runs. Each scene is lifted once with each."""
    reference: str = "lite"
    """Depth estimator that decides which part of a target the input shows.

    Used where the dataset has no dense depth. Keep it the same for all compared methods.
    """
    weights: str | None = None
    """Folder with the weights of LPIPS and DISTS. Null: torch.hub's cache or the network."""


@dataclass
class EvalConfig:
    """Settings that `lift eval` adds to those of the runs."""

    dataset: Any = MISSING
    """Dataset with the scenes and their true views: its name and settings."""
    protocol: Protocol = field(default_factory=Protocol)
    """How the lifted scenes are measured."""
