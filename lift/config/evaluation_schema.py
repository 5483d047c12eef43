"""Settings that `lift eval` adds to those of the runs, with their defaults."""

from dataclasses import dataclass, field
from typing import Annotated, Any

from annotated_types import Interval, Len
from omegaconf import MISSING

from lift.registry.ranges import AtLeastOne, OneOf, Seed

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
    max_targets: AtLeastOne | None = None
    """Maximum number of targets, evenly spaced among those. Null: all."""
    align: Annotated[str, OneOf(tuple(ALIGNMENTS))] = "median_depth"
    """none, median_depth, similarity or sweep."""
    bins: Annotated[list[Annotated[float, Interval(gt=0, le=1e6)]], Len(0, 100)] = field(
        default_factory=lambda: [0.1, 0.25]
    )
    """Distances from the input that divide the targets into groups with their own averages.

    In units of the input's typical depth.
    """
    seeds: Annotated[list[Seed], Len(1, 1000)] = field(default_factory=lambda: [0])
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
