"""Settings that belong to no component, and how a run's configuration is composed and checked. Imports no torch."""

import math
from dataclasses import dataclass, field, fields, is_dataclass
from difflib import get_close_matches
from typing import Any, get_type_hints

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

from lift.registry import ALL_SLOTS, SLOTS, ComponentError, catalogue


@dataclass
class Intake:
    """How the picture is read."""

    size: int = 384
    """Long side in pixels that everything works at."""
    field_of_view: float = 55.0
    """Degrees of the longer side, where the file does not tell the focal length."""


@dataclass
class FrameSelection:
    """Which frames of a video, a folder or a list of pictures are used; not for a single picture."""

    most: int = 60
    """Number of frames, at most: sharp ones, spread evenly over motion and time."""
    first: int = 0
    """Index of the first frame."""
    stride: int = 1
    """Use every N-th frame from the first on."""
    ordered: bool | None = None
    """Whether frames follow one another in time; null: those of a video do, pictures do not."""


@dataclass
class Edges:
    """Steps of depth are made hard where the picture has its edges, before anything is done with it."""

    soft: float | None = None
    """Pixels of a picture 400 long, to either side, over which steps are soft; null: as the estimator says of itself; 0: they are hard already."""


@dataclass
class Stereo:
    """Depth of each frame from its neighbours (multi-view stereo)."""

    size: int = 192
    """Longer side, in pixels, of the pictures that are compared. 0: each frame's depth is its own estimate."""


@dataclass
class Reach:
    """How far a planned motion may go beyond what the picture shows."""

    max_unseen: float = 0.35
    """Largest share of a planned view that the input does not show."""
    beyond: str = "limit"
    """limit: shrink the motion until it fits; warn: keep it and say so; ignore."""


@dataclass
class LearningRates:
    """Adam's, for the raw parameters; `means` is in units of the scene's typical depth and decays to a hundredth."""

    means: float | None = None
    """Null: 0.002 for real frames, 0.0004 where frames come with exact depth."""
    scales: float = 0.01
    quats: float = 0.004
    opacities: float = 0.05
    colors: float = 0.006


@dataclass
class Losses:
    """Weights; the colour term weighs 1 - ssim."""

    ssim: float = 0.2
    depth: float = 0.1
    """Of the inverse depth, in units of 1 / typical depth."""
    opacity: float = 0.002
    scale: float = 0.002
    """Of the mean opacity and standard deviation (MCMC's regularisers; the latter in units of typical depth)."""


@dataclass
class Trust:
    """Whose word counts less in the losses."""

    frames: float = 2.5
    """A frame whose error is so many times the median frame's counts a half, and the less the worse it is; 0 trusts all alike, and so does
    a run whose prior vouches for its frames."""
    pixels: float = 0.0
    """The same of a pixel, by the mean error around it and that of its frame as it is rendered."""


@dataclass
class Densify:
    """Growth by MCMC relocation and cloning (Kheradmand et al., NeurIPS 2024)."""

    every: int = 50
    first: int = 100
    last: float = 0.7
    """Share of the steps after which the set stays as it is."""
    growth: float = 0.5
    """Share of the steps by which the number of Gaussians has grown from the start to fit.max_gaussians."""
    activity: float = 0.5
    """Power of a Gaussian's mean position gradient in the draw of those to clone; 0 draws by opacity alone."""
    dead: float = 0.01
    """Opacity below which a Gaussian is moved to where one is needed."""
    noise: float = 0.0
    """Exploration noise of the means, in units of MCMC's published 5e5 times the learning rate."""


@dataclass
class Coarse:
    """Smaller pictures to begin with."""

    sizes: list[float] = field(default_factory=list)
    """Shares of the full width and height, one a phase, before the full size."""
    until: list[float] = field(default_factory=list)
    """Shares of the steps at which each of these phases ends."""


@dataclass
class Fit:
    """How the Gaussians are optimised."""

    steps: int | None = None
    """Of one process; with several, each of which takes views of its own, as many fewer make as many views. Null: 3000 for real frames, 1000 where frames come
    with exact depth."""
    views_per_step: int = 1
    """A process. Learning rates grow with the square root of the views in a step."""
    importance: float = 0.0
    """How much more often frames are drawn that are worse explained: by the error's power; 0 draws all alike."""
    input_share: float = 0.15
    """Share of draws that are the input view."""
    held_out: int = 8
    """Hold out every N-th frame from training; 0 holds out none. Of an unordered set of pictures these are the pictures 0, N, 2N, ...,
    as in evaluations on LLFF; fewer than N pictures are all trained on."""
    initial_gaussians: int = 40_000
    max_gaussians: int = 60_000
    sh_degree: int | None = None
    """Degree of the spherical harmonics. Null: 2 for real frames, 0 where frames come with exact depth."""
    coarse: Coarse = field(default_factory=Coarse)
    learning_rate: LearningRates = field(default_factory=LearningRates)
    loss: Losses = field(default_factory=Losses)
    trust: Trust = field(default_factory=Trust)
    densify: Densify = field(default_factory=Densify)
    checkpoint_every: int = 100
    """Steps; a killed fit goes on from the last one."""
    log_every: int = 20
    """Steps between curve points."""


@dataclass
class Deliver:
    """What is made of the finished scene."""

    video_frames: int = 72
    fps: int = 24
    formats: list[str] = field(default_factory=lambda: ["ply"])


@dataclass
class Config:
    """`lift run`'s configuration; the six slots hold what the component's signature says."""

    image: Any = MISSING
    """A picture, by its file or its built-in name, to be continued by the prior; or a video, a folder or a list of pictures of one
    scene, for which planner and prior are not used."""
    input: str | None = None
    """Name or index of the input view, of a video or several pictures; null: a video's first, else the most central picture."""
    cameras: str | None = None
    """Cameras of the frames of a video or several pictures: npz, transforms.json, RealEstate10K text or a COLMAP folder; null: the pose stage finds them."""
    output: str = "outputs"
    name: str | None = None
    """The run's folder; made from prior, distortion and key if not given."""
    seed: int = 0
    device: str = "auto"
    """Of depth, prior and poses: auto, cpu or cuda. The trainer has its own."""
    intake: Intake = field(default_factory=Intake)
    frames: FrameSelection = field(default_factory=FrameSelection)
    edges: Edges = field(default_factory=Edges)
    stereo: Stereo = field(default_factory=Stereo)
    reach: Reach = field(default_factory=Reach)
    planner: Any = MISSING
    prior: Any = MISSING
    depth: Any = MISSING
    pose: Any = MISSING
    distortion: Any = MISSING
    renderer: Any = MISSING
    fit: Fit = field(default_factory=Fit)
    deliver: Deliver = field(default_factory=Deliver)
    trainer: dict[str, Any] = field(default_factory=dict)


FIT_DEFAULTS = {"steps": (1000, 3000), "sh_degree": (0, 2), "learning_rate.means": (4e-4, 2e-3)}
"""What null stands for in settings of `fit`: for frames with exact depth, and for real frames."""


def resolve_fit(fit: DictConfig, real: bool = False) -> DictConfig:
    """Settings of the fit without null.

    Args:
        fit: `fit` of the configuration; it is not changed.
        real: Whether the frames are real: a generator's or a camera's, without exact depth.

    Returns:
        A copy in which null is replaced by the values of `FIT_DEFAULTS`.
    """
    resolved = OmegaConf.create(fit).copy()
    for key, values in FIT_DEFAULTS.items():
        if OmegaConf.select(resolved, key) is None:
            OmegaConf.update(resolved, key, values[real])
    return resolved


ALIGNMENTS = {
    "none": "lengths are taken as they are",
    "median_depth": "one scale: the median ratio of the lifted scene's depth, seen from the input, and what the dataset knows of it",
    "similarity": "rotation (chordal mean), scale and shift (least squares of the better half) between the true cameras and where matches with the input, by the lifted scene's depth, place their "
    "views; the input's own pose is given up for it",
    "sweep": "one scale, the best of 20 from 0.1 to 2.0 times that of median_depth (without points: times that by which the farthest target is a typical depth away), by mean PSNR of the "
    "target views, as SEVA sweeps camera scales; it favours whoever is measured",
}
"""What is done to bring the lifted scene to the true cameras, by the name in `protocol.align`. The input's camera is the same for both in all but `similarity`."""


@dataclass
class Protocol:
    """How a lifted scene is measured; `protocol.*` of `lift eval`."""

    input: str = "middle"
    """The view that is lifted: middle (nearest to the middle of all cameras), first, its name, or its number. A split that names one decides."""
    targets: str = "all"
    """The views that are the truth: all others, every_N (each N-th from the first on; LLFF is split by every_8), or a JSON file with lists of names or numbers, `input` (or
    `train_ids`) and `targets` (or `test_ids`), beside the scene or in its folder."""
    most: int | None = None
    """At most so many targets, evenly taken of those."""
    align: str = "median_depth"
    """none, median_depth, similarity or sweep."""
    bins: list[float] = field(default_factory=lambda: [0.1, 0.25])
    """Distances from the input, in units of its typical depth, between which targets are averaged apart."""
    seeds: list[int] = field(default_factory=lambda: [0])
    """Of the runs, each scene once with each."""
    reference: str = "lite"
    """The depth estimator that says which part of a target the input shows, where the dataset has no dense depth. The same for all that are compared."""
    weights: str | None = None
    """Folder with the weights of LPIPS and DISTS; without it they come from torch.hub's cache or the network."""


@dataclass
class EvalConfig:
    """What `lift eval` has besides the settings of the runs that it makes."""

    dataset: Any = MISSING
    protocol: Protocol = field(default_factory=Protocol)


def store_schemas() -> None:
    """Tells Hydra of the schema and of every component; call before composing."""
    store = ConfigStore.instance()
    store.store(name="schema", node=Config)
    store.store(name="eval_schema", node=EvalConfig)
    for slot in ALL_SLOTS:
        for name, entry in catalogue().entries[slot].items():
            store.store(group=slot, name=name, node=entry.schema)


def check_key(key: str) -> None:
    """Whether there is a setting of that name, a component's own aside. Raises ComponentError with those there are."""
    own = {f.name for f in fields(EvalConfig)}
    node, known = (EvalConfig if key.split(".")[0] in own else Config), ""
    for part in key.split("."):
        if not is_dataclass(node):
            return
        names = [f.name for f in fields(node)]
        if part not in names:
            near = get_close_matches(part, names, 1)
            hint = f"did you mean {known}{near[0]}? " if near else ""
            raise ComponentError(
                f"{key} is not a setting; {hint}{known.rstrip('.') or 'lift run'} has {', '.join(names)}"
            )
        if part in ALL_SLOTS:
            return
        node, known = get_type_hints(node)[part], f"{known}{part}."


def image_setting(config: DictConfig) -> str | tuple[str, ...]:
    """Read the setting `image`: one name, or several of a list.

    Raises:
        ComponentError: It is not set, or neither a name nor a list of names.
    """
    if OmegaConf.is_missing(config, "image") or config.image is None:
        raise ComponentError(
            "image is not set: give image=PATH, or the name of a built-in picture such as image=coffee"
        )
    value = config.image
    if not OmegaConf.is_config(value):
        return str(value)
    names = OmegaConf.to_container(value, resolve=True)
    if not isinstance(names, list) or any(
        isinstance(name, (list, dict)) or name is None for name in names
    ):
        raise ComponentError(
            f"image is {names!r}; give one name, or a list such as image=[a.jpg,b.jpg]"
        )
    return str(names[0]) if len(names) == 1 else tuple(str(name) for name in names)


def check(config: DictConfig) -> None:
    """What types alone do not catch. Raises ComponentError or omegaconf's MissingMandatoryValue with the key."""
    image_setting(config)
    if config.name is not None and (
        config.name in ("", ".", "..") or set("/\\") & set(config.name)
    ):
        raise ComponentError(
            f"name is {config.name!r}; choose the name of one folder, and by output=FOLDER where it lies"
        )
    for slot in SLOTS:
        settings = OmegaConf.to_container(config[slot], resolve=True)
        catalogue()(slot, settings.pop("name")).check(settings)
        for part in settings.get("parts", ()):  # of a component that is composed of others
            own = (settings.get("settings") or {}).get(part, {})
            if not isinstance(own, dict):
                raise ComponentError(
                    f"{slot}.settings.{part} is {own!r}; set one of its settings: {slot}.settings.{part}.SETTING=VALUE"
                )
            try:
                catalogue()(slot, part).check(own)
            except ComponentError as error:
                raise ComponentError(f"in {slot}.parts: {error}") from None
    for key, choices in {
        "reach.beyond": ("limit", "warn", "ignore"),
        "device": ("auto", "cpu", "cuda"),
    }.items():
        if (value := OmegaConf.select(config, key)) not in choices:
            raise ComponentError(f"{key} is {value!r}; choose one of {', '.join(choices)}")
    bounds = {
        "frames.most": (2, None),
        "frames.first": (0, None),
        "frames.stride": (1, None),
        "intake.size": (64, 4096),
        "stereo.size": (0, 4096),
        "intake.field_of_view": (5, 150),
        "reach.max_unseen": (0, 1),
        "fit.steps": (1, None),
        "fit.views_per_step": (1, None),
        "fit.input_share": (0, 1),
        "fit.held_out": (0, None),
        "fit.initial_gaussians": (1, None),
        "fit.max_gaussians": (1, None),
        "fit.sh_degree": (0, 3),
        "fit.checkpoint_every": (1, None),
        "fit.loss.ssim": (0, 1),
        "fit.densify.every": (1, None),
        "fit.importance": (0, None),
        "fit.log_every": (1, None),
        "seed": (0, 2**31 - 1),
        "deliver.video_frames": (2, None),
        "deliver.fps": (1, None),
    }
    for group in ("fit.learning_rate", "fit.loss", "fit.trust", "fit.densify"):
        bounds = {f"{group}.{key}": (0, None) for key in OmegaConf.select(config, group)} | bounds
    coarse = config.fit.coarse
    phases, ends = list(coarse.sizes), list(coarse.until)
    if (
        len(phases) != len(ends)
        or not all(0 < size <= 1 for size in phases)
        or not all(0 <= end <= 1 for end in ends)
        or ends != sorted(ends)
    ):
        raise ComponentError(
            f"fit.coarse has sizes {phases} and until {ends}; choose as many of each, sizes above 0 and up to 1, until rising from 0 to 1"
        )
    if config.fit.held_out == 1:
        raise ComponentError(
            "fit.held_out is 1, which leaves no generated frame to learn from; choose 0 for none, or 2 or more"
        )
    if config.fit.initial_gaussians > config.fit.max_gaussians:
        raise ComponentError(
            f"fit.initial_gaussians is {config.fit.initial_gaussians}, more than fit.max_gaussians, {config.fit.max_gaussians}; choose no more"
        )
    if config.edges.soft is not None:
        bounds["edges.soft"] = (0, 20)
    for key, (low, high) in bounds.items():
        value = OmegaConf.select(config, key)
        if value is None and key.removeprefix("fit.") in FIT_DEFAULTS:
            continue
        if not low <= value < math.inf or (high is not None and value > high):  # nan is not, either
            span = f"from {low} to {high}" if high is not None else f"of at least {low}"
            raise ComponentError(f"{key} is {value}; choose a value {span}")


def check_eval(asked: DictConfig) -> None:
    """What types alone do not catch, of an EvalConfig. Raises ComponentError with the key."""
    settings = OmegaConf.to_container(asked.dataset, resolve=True)
    catalogue()("dataset", settings.pop("name")).check(settings)
    protocol = asked.protocol
    if protocol.align not in ALIGNMENTS:
        raise ComponentError(
            f"protocol.align is {protocol.align!r}; choose one of {', '.join(ALIGNMENTS)}"
        )
    bins, seeds = list(protocol.bins), list(protocol.seeds)
    if bins != sorted(set(bins)) or any(not 0 < edge < float("inf") for edge in bins):
        raise ComponentError(f"protocol.bins is {bins}; choose distances above 0 that rise")
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0 or max(seeds) >= 2**31:
        raise ComponentError(
            f"protocol.seeds is {seeds}; choose one or more numbers from 0 to {2**31 - 1}, each once"
        )
    reference = catalogue()("depth", protocol.reference)
    reference.require()
    if needed := [
        key for key, parameter in reference.settings.items() if parameter.default is parameter.empty
    ]:
        raise ComponentError(
            f"protocol.reference is {protocol.reference!r}, which needs {', '.join(needed)}; choose one that needs no settings, such as lite"
        )
    if protocol.reference == "known":
        raise ComponentError(
            "protocol.reference is 'known'; what a dataset knows of depth is taken anyway: choose an estimator, such as lite"
        )
    if protocol.most is not None and protocol.most < 1:
        raise ComponentError(f"protocol.most is {protocol.most}; choose 1 or more")
