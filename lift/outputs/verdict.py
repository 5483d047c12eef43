"""Calls a scene good, fair or poor, in words and with reasons.

The thresholds were chosen by looking at scenes of real photographs and of generated clips. They are
not tuned on synthetic scenes.
"""

import math
from dataclasses import dataclass
from typing import Literal

Level = Literal["good", "fair", "poor"]

INPUT_GOOD = 28.0
INPUT_POOR = 24.0
"""PSNR of the input view in dB. From GOOD on it is good, below POOR it is poor, in between it is
fair; the same for all below."""

HELD_OUT_GOOD = 24.0
HELD_OUT_POOR = 20.0
"""Mean PSNR of held-out frames in dB, or of the fitted frames if none were held out."""

COVERAGE_GOOD = 0.9
COVERAGE_POOR = 0.7
"""Smallest coverage along the fly-through (`lift.outputs.coverage`)."""

PLACED_GOOD = 0.9
PLACED_POOR = 0.6
"""Share of the frames, the input aside, whose camera was found."""

PARALLAX_GOOD = 1.5
PARALLAX_POOR = 0.5
"""Largest angle in degrees between the input's and another frame's direction onto the middle of the
scene."""

GAUSSIANS_GOOD = 0.1
"""Share of the number of Gaussians that the settings allow. Fewer make a scene fair at best."""

TRUE_GOOD = 22.0
TRUE_POOR = 17.0
"""Mean PSNR in dB against true views, where truth is known. Depth and scale errors cost more here
than against frames."""

CARRIED_GOOD = 5.0
CARRIED_POOR = 10.0
"""Decibels that the learned distortion adds to the frames' PSNR. It counts only if the scene alone
is below HELD_OUT_GOOD; then it is fair from GOOD on, and poor from POOR on."""

SCALE_GOOD = 0.5
"""Factor on the fly-through's motion. A smaller one makes a scene fair at best."""


@dataclass(frozen=True)
class SceneNumbers:
    """The measurements of a scene: None if not measured, NaN if the measurement failed."""

    frames: int
    """Number of frames, the input included."""
    placed_frames: int
    """Number of frames whose camera was found, the input included."""
    gaussians: int
    gaussians_limit: int
    """Number of Gaussians that the settings allow for a picture of this size."""
    input_psnr: float | None = None
    """PSNR in dB of the canonical scene from the input's camera."""
    held_out_psnr: float | None = None
    """Mean PSNR in dB of the frames that were held out of the fit."""
    frames_psnr: float | None = None
    """Mean PSNR in dB of the frames that were fitted, canonical scene."""
    frames_psnr_distorted: float | None = None
    """The same with each frame's learned distortion applied."""
    true_psnr: float | None = None
    """Mean PSNR in dB against true views, known of the built-in pictures only."""
    smallest_coverage: float | None = None
    """Smallest coverage of a view along the fly-through, in [0, 1]."""
    parallax: float | None = None
    """Largest parallax of a frame in degrees."""
    fly_through_scale: float | None = None
    """Factor by which the fly-through's motion was shrunk, in [0, 1]."""


@dataclass(frozen=True)
class Verdict:
    """A level, and a sentence for each finding against the scene, the worst first."""

    level: Level
    reasons: tuple[str, ...]

    @property
    def headline(self) -> str:
        """The level as the first words of a message, poor in capitals."""
        return {"good": "Good scene", "fair": "Fair scene", "poor": "POOR SCENE"}[self.level]

    @property
    def lines(self) -> tuple[str, ...]:
        """The lines of a message: the level with the worst reason, then the other reasons."""
        if not self.reasons:
            return (f"{self.headline}.",)
        return (
            f"{self.headline}: {self.reasons[0]}",
            *(f"  - {reason}" for reason in self.reasons[1:]),
        )


Finding = tuple[Level, str]


def judge_scene(numbers: SceneNumbers) -> Verdict:
    """Draw a verdict from the numbers of a run.

    Args:
        numbers: What was measured.

    Returns:
        The level of the worst finding, and all findings as sentences. A scene without findings is
        good.
    """
    checks = (
        _input,
        _held_out,
        _truth,
        _placed,
        _parallax,
        _distortion,
        _coverage,
        _gaussians,
        _fly_through,
    )
    findings = [found for check in checks if (found := check(numbers)) is not None]
    poor = [text for level, text in findings if level == "poor"]
    fair = [text for level, text in findings if level == "fair"]
    level: Level = "poor" if poor else "fair" if fair else "good"
    return Verdict(level, (*poor, *fair))


def _level(value: float, good: float, poor: float) -> Level:
    """Grade a value of which more is better; NaN is poor."""
    if math.isnan(value) or value < poor:
        return "poor"
    return "good" if value >= good else "fair"


def _decibels(value: float) -> str:
    return "NaN" if math.isnan(value) else f"{value:.1f} dB"


def format_percent(value: float) -> str:
    """Write a share in percent, rounded down: 89.9 % must not read as a good 90 %."""
    return "NaN" if math.isnan(value) else f"{math.floor(100 * value + 1e-3)} %"


def _input(numbers: SceneNumbers) -> Finding | None:
    value = numbers.input_psnr
    if value is None or (level := _level(value, INPUT_GOOD, INPUT_POOR)) == "good":
        return None
    what = (
        "does not explain the input view"
        if level == "poor"
        else "explains the input view only roughly"
    )
    return level, f"The canonical scene {what} ({_decibels(value)}; {INPUT_GOOD:.0f} dB is good)."


def _held_out(numbers: SceneNumbers) -> Finding | None:
    value = numbers.held_out_psnr
    name = "Held-out frames"
    if value is None:
        value = numbers.frames_psnr
        name = "No frames were held out. The fitted frames"
    if value is None or (level := _level(value, HELD_OUT_GOOD, HELD_OUT_POOR)) == "good":
        return None
    compared = f"{HELD_OUT_GOOD:.0f} dB is good"
    if numbers.input_psnr is not None:
        compared += f"; input: {_decibels(numbers.input_psnr)}"
    cause = "cameras or depth are wrong, or the frames contradict one another"
    return level, f"{name} are met at {_decibels(value)} only ({compared}): {cause}."


def _truth(numbers: SceneNumbers) -> Finding | None:
    value = numbers.true_psnr
    if value is None or (level := _level(value, TRUE_GOOD, TRUE_POOR)) == "good":
        return None
    return (
        level,
        f"True views are met at {_decibels(value)} only ({TRUE_GOOD:.0f} dB is good): "
        "the scene's geometry is wrong.",
    )


def _placed(numbers: SceneNumbers) -> Finding | None:
    total = numbers.frames - 1
    lost = numbers.frames - numbers.placed_frames
    if total < 1 or lost < 1:
        return None
    level = _level((total - lost) / total, PLACED_GOOD, PLACED_POOR)
    if level == "good":
        return None
    were = "frame was" if total == 1 else "frames were"
    return (
        level,
        f"{lost} of {total} {were} not placed: no camera was found, and they are not used.",
    )


def _parallax(numbers: SceneNumbers) -> Finding | None:
    value = numbers.parallax
    if value is None or (level := _level(value, PARALLAX_GOOD, PARALLAX_POOR)) == "good":
        return None
    moves = "hardly moves" if level == "poor" else "moves little"
    effect = "depth is a guess from single pictures" if level == "poor" else "depth is uncertain"
    return level, f"The camera {moves} (largest parallax {value:.1f} degrees): {effect}."


def _distortion(numbers: SceneNumbers) -> Finding | None:
    plain = numbers.frames_psnr
    distorted = numbers.frames_psnr_distorted
    if (
        plain is None
        or distorted is None
        or not plain < HELD_OUT_GOOD
        or not distorted - plain >= CARRIED_GOOD
    ):
        return None
    level: Level = "poor" if distorted - plain >= CARRIED_POOR else "fair"
    values = f"canonical {_decibels(plain)}, with distortion {_decibels(distorted)}"
    more = "more of the frames than the scene does" if level == "poor" else "much of the frames"
    return level, f"The learned distortion carries {more} ({values})."


def _coverage(numbers: SceneNumbers) -> Finding | None:
    value = numbers.smallest_coverage
    if value is None or (level := _level(value, COVERAGE_GOOD, COVERAGE_POOR)) == "good":
        return None
    return (
        level,
        (
            f"In the worst view of the fly-through only {format_percent(value)} of the pixels show "
            "what frames saw: the rest is holes or guesses."
        ),
    )


def _gaussians(numbers: SceneNumbers) -> Finding | None:
    count = numbers.gaussians
    limit = numbers.gaussians_limit
    if count == 0:
        return "poor", "The scene has no Gaussians."
    if count >= GAUSSIANS_GOOD * limit:
        return None
    return "fair", f"The scene has {count:,} of {limit:,} Gaussians: fine detail is missing."


def _fly_through(numbers: SceneNumbers) -> Finding | None:
    value = numbers.fly_through_scale
    if value is None or value >= SCALE_GOOD:
        return None
    return (
        "fair",
        f"The fly-through was shrunk to {format_percent(value)} to stay where frames saw the scene.",
    )
