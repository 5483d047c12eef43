"""Settings of `fit`: how the Gaussians are optimised, with their defaults."""

from dataclasses import dataclass, field
from typing import Annotated, Any

from annotated_types import Interval, Len
from omegaconf import DictConfig, OmegaConf

from lift.registry.ranges import (
    AtLeastOne,
    Count,
    Fraction,
    FractionBelowOne,
    LearningRate,
    NonNegative,
    OneOf,
    Weight,
)

GaussianCount = Annotated[int, Interval(ge=1, le=100_000_000)]
"""A number of Gaussians."""

Power = Annotated[float, Interval(ge=0, le=100)]
"""An exponent of a weight."""

StepCount = Annotated[int, Interval(ge=1, le=10_000_000)]
"""A number of steps of a fit of which there is at least one."""

Step = Annotated[int, Interval(ge=0, le=10_000_000)]
"""A step of a fit, or a number of steps where 0 turns something off."""

RateRatio = Annotated[float, Interval(gt=0, le=1)]
"""A learning rate relative to that at the start."""


@dataclass
class InitialGaussians:
    """The Gaussians that a fit starts from."""

    points: Annotated[str, OneOf(("all", "input"))] = "all"
    """all: the point cloud of all frames. input: the pixels of the input view with known depth.

    `fit.initial_gaussians` is the largest number of them.
    """
    scales: Annotated[str, OneOf(("voxels", "neighbours"))] = "voxels"
    """voxels: half the width of the voxels that thin the points.

    neighbours: the root mean square distance to the three nearest points, as in 3DGS.
    """
    opacity: Annotated[float, Interval(gt=0, lt=1)] = 0.6
    """Opacity of all Gaussians at the start. 3DGS uses 0.1."""


@dataclass
class RateDecay:
    """Learning rates at the end of their decay, relative to the start. The decay is exponential."""

    means: RateRatio = 0.01
    """Of the positions."""
    scales: RateRatio = 1.0
    """Of the log scales."""
    quats: RateRatio = 1.0
    """Of the rotation quaternions."""
    opacities: RateRatio = 1.0
    """Of the opacity logits."""
    colors: RateRatio = 1.0
    """Of the spherical harmonics coefficients."""
    distortion: RateRatio = 0.1
    """Of everything that the distortion learns."""
    steps: StepCount | None = None
    """Number of steps after which the rates are reached. Null: all steps of the stage."""


@dataclass
class LearningRates:
    """Learning rates of Adam for the raw parameters of the Gaussians."""

    means: LearningRate | None = None
    """In units of `fit.scene_scale`.

    Null: 0.002 for real frames, 0.0004 for frames with exact depth.
    """
    scales: LearningRate = 0.01
    """For log scales."""
    quats: LearningRate = 0.004
    """For rotation quaternions."""
    opacities: LearningRate = 0.05
    """For opacity logits."""
    colors: LearningRate = 0.006
    """For spherical harmonics coefficients. Those of degree 1 and above have a twentieth of it."""
    views: Annotated[int, Interval(ge=1, le=4096)] = 1
    """Number of views in a step that learning rates and Adam's betas are meant for.

    A step of N times as many has rates that are the square root of N larger, and betas to the power
    N.
    """
    decay: RateDecay = field(default_factory=RateDecay)
    """Decay of the learning rates."""


@dataclass
class AdamSettings:
    """Settings of Adam, for the Gaussians and for the distortion."""

    betas: Annotated[list[FractionBelowOne], Len(2, 2)] = field(
        default_factory=lambda: [0.9, 0.999]
    )
    """Decay rates of the two moments."""
    eps: Annotated[float, Interval(gt=0, le=1)] = 1e-15
    """Added to the square root of the second moment."""


@dataclass
class Losses:
    """Weights of the loss terms."""

    l1: Weight | None = None
    """Weight of the L1 colour term. Null: 1 - ssim."""
    ssim: Fraction = 0.2
    """Weight of 1 - SSIM."""
    depth: Weight = 0.1
    """Weight of the L1 error of inverse depth, in units of 1 / `depth_unit`."""
    depth_final: Annotated[float, Interval(gt=0, le=1e6)] | None = None
    """Weight of the depth term after `depth_steps`. In between its logarithm changes linearly.

    Null: the weight does not change.
    """
    depth_steps: StepCount | None = None
    """Number of steps after which `depth_final` is reached. Null: all steps of the stage."""
    depth_unit: Annotated[str, OneOf(("typical", "points"))] = "typical"
    """Unit of depth in the depth term.

    typical: the typical depth of the input. points: a tenth of the largest distance of a point from
    the mean of all points along an axis, so that the scene spans -10 to 10.
    """
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
class GradientDensify:
    """Densification by gradients: `fit.densify.strategy=gradient`.

    Gaussians with large gradients in the picture are cloned if they are small, else split in two.
    Gaussians of low opacity are removed. `every`, `start`, `stop` and `min_opacity` of
    `fit.densify` apply.

    Reference:
        Kerbl et al., 3D Gaussian Splatting for Real-Time Radiance Field Rendering, SIGGRAPH 2023,
        section 5. Names are those of gsplat's DefaultStrategy.
    """

    grow_grad2d: NonNegative = 2e-4
    """Mean gradient norm of a position in the picture above which a Gaussian is cloned or split.

    It is per unit of half the picture's size.
    """
    grow_scale3d: NonNegative = 0.01
    """Largest standard deviation up to which a Gaussian is cloned, in units of `fit.scene_scale`.

    Larger ones are split.
    """
    per_view: bool = True
    """Whether the norm is that of each view, as in gsplat.

    If not, it is that of the sum over the views of a step, as in 4DGS.
    """
    prune_every: StepCount | None = None
    """Number of steps between two rounds that remove Gaussians. Null: each round."""
    prune_scale3d: NonNegative = 0.1
    """Largest standard deviation of a Gaussian that is kept, in units of `fit.scene_scale`.

    0 keeps all sizes.
    """
    prune_radius: NonNegative = 0.0
    """Largest radius of a Gaussian that is kept, in pixels of the full-size picture.

    0 keeps all radii.
    """
    prune_size_start: Step = 3000
    """First step that removes Gaussians by their size or radius."""
    reset_every: Step = 3000
    """Number of steps between two resets of all opacities. 0: no reset.

    They become at most 0.01, or twice `fit.densify.min_opacity` if that is larger.
    """


@dataclass
class Densify:
    """How the number of Gaussians changes.

    Reference:
        mcmc: Kheradmand et al., 3D Gaussian Splatting as Markov Chain Monte Carlo, NeurIPS 2024.
    """

    strategy: Annotated[str, OneOf(("mcmc", "gradient"))] = "mcmc"
    """mcmc: relocate Gaussians of low opacity, and clone up to fit.max_gaussians.

    gradient: clone and split by gradients in the picture, and remove Gaussians of low opacity.
    fit.max_gaussians is a limit then.
    """
    every: AtLeastOne = 50
    """Number of steps between two rounds."""
    start: Step = 100
    """First step with a round. With `gradient` it is counted in the stage."""
    stop: Fraction = 0.7
    """Fraction of fit.steps after which there are no more rounds.

    With `gradient` the steps are counted in the stage.
    """
    growth_until: Annotated[float, Interval(ge=0, le=100)] = 0.5
    """Fraction of the steps at which `mcmc` reaches fit.max_gaussians."""
    gradient_power: Power = 0.5
    """Exponent of the mean position gradient in the weights of Gaussians that `mcmc` clones.

    0 draws them by opacity alone.
    """
    min_opacity: Annotated[float, Interval(ge=0, lt=0.5)] = 0.01
    """Gaussians with a lower opacity are relocated (`mcmc`) or removed (`gradient`)."""
    noise_scale: NonNegative = 0.0
    """Exploration noise of the means, relative to the published 5e5 times the learning rate.

    Only `mcmc` has it.
    """
    gradient: GradientDensify = field(default_factory=GradientDensify)
    """Settings of `strategy=gradient`."""


@dataclass
class CoarseToFine:
    """Phases of the fit that use smaller pictures, before the full size."""

    scales: Annotated[list[Annotated[float, Interval(gt=0, le=1)]], Len(0, 100)] | None = None
    """Fraction of the full width and height for each phase.

    Null: [0.5] for frames with exact depth or if `until` is set, none for real frames.
    """
    until: Annotated[list[Fraction], Len(0, 100)] | None = None
    """Fraction of the steps at which each phase ends, in rising order.

    Null: [0.5] for frames with exact depth or if `scales` is set, none for real frames.
    """


@dataclass
class Fit:
    """How the Gaussians are optimised."""

    steps: StepCount | None = None
    """Number of steps of one process. N processes divide it by N, so the number of views stays.

    Null: 3000 for real frames, 800 for frames with exact depth.
    """
    canonical_steps: Step = 0
    """Number of steps of a first stage that fits the canonical Gaussians alone. 0: no such stage.

    Frames are explained without distortions until then, or longer if a distortion starts later by
    itself. Afterwards Adam starts anew, and so do
    learning rates, the weight of depth and densification by gradients.
    """
    batch_size: Annotated[int, Interval(ge=1, le=4096)] = 1
    """Number of views per step and process.

    Learning rates grow with the square root of the number of views in a step, see
    `fit.learning_rate.views`.
    """
    importance_power: Power = 0.0
    """Exponent of a frame's error in the weights that frames are drawn with. 0: uniform."""
    input_fraction: Fraction = 0.15
    """Fraction of drawn views that are the input view.

    It rises, up to `max_input_fraction`, while the input's error is larger than the median error of
    the frames, or its PSNR is below about 33 dB.
    """
    max_input_fraction: Fraction = 0.4
    """Largest fraction of drawn views that are the input view while it is explained badly."""
    test_every: Count = 8
    """Hold out every N-th frame from training. 0 holds out none.

    For an unordered set of pictures the pictures 0, N, 2N, ... are held out, as in evaluations on
    LLFF. With fewer than N pictures all are trained on.
    """
    initial_gaussians: GaussianCount = 40_000
    """Largest number of Gaussians at the start."""
    max_gaussians: GaussianCount = 60_000
    """Largest number of Gaussians. `fit.densify.strategy=mcmc` reaches it."""
    init: InitialGaussians = field(default_factory=InitialGaussians)
    """The Gaussians at the start."""
    scene_scale: Annotated[str, OneOf(("depth", "cameras"))] = "depth"
    """Unit of length of `fit.learning_rate.means` and of `fit.densify.gradient`.

    depth: the typical depth of the input. cameras: 1.1 times the largest distance of a camera from
    the mean of all cameras, as in 3DGS.
    """
    sh_degree: Annotated[int, Interval(ge=0, le=3)] | None = None
    """Degree of the spherical harmonics.

    Null: 2 for real frames, 0 for frames with exact depth.
    """
    sh_degree_interval: Step = 0
    """Number of steps after which each degree of the spherical harmonics is added, from 0.

    0: all degrees from the start.
    """
    coarse_to_fine: CoarseToFine = field(default_factory=CoarseToFine)
    """Phases with smaller pictures at the start of the fit."""
    learning_rate: LearningRates = field(default_factory=LearningRates)
    """Learning rates of the parameters of the Gaussians."""
    adam: AdamSettings = field(default_factory=AdamSettings)
    """Settings of the optimiser."""
    loss: Losses = field(default_factory=Losses)
    """Weights of the loss terms."""
    robust: Robust = field(default_factory=Robust)
    """Robust weights of frames and pixels."""
    densify: Densify = field(default_factory=Densify)
    """How the number of Gaussians changes."""
    checkpoint_every: StepCount = 100
    """Number of steps between checkpoints. An interrupted fit resumes from the latest one."""
    log_every: StepCount = 20
    """Number of steps between points of the training curves."""
    log_images_every: Step = 0
    """Number of steps between rendered views in the logs, each beside its frame.

    0: after the last step only. The input and up to three held-out frames are rendered.
    """


FIT_DEFAULTS: dict[str, tuple[Any, Any]] = {
    "steps": (800, 3000),
    "sh_degree": (0, 2),
    "learning_rate.means": (4e-4, 2e-3),
    "coarse_to_fine.scales": ([0.5], []),
    "coarse_to_fine.until": ([0.5], []),
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
    for name, partner in (("scales", "until"), ("until", "scales")):
        chosen = resolved.coarse_to_fine[name]
        if chosen is not None and resolved.coarse_to_fine[partner] is None:
            key = f"coarse_to_fine.{partner}"
            OmegaConf.update(resolved, key, FIT_DEFAULTS[key][0] if chosen else [])
    for key, values in FIT_DEFAULTS.items():
        if OmegaConf.select(resolved, key) is None:
            OmegaConf.update(resolved, key, values[real])
    return resolved
