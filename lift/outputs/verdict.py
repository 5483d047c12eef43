"""Assess a scene as good, fair or poor, with reasons.

The thresholds were chosen by inspecting scenes of real photographs and of generated clips. They are
not tuned on synthetic scenes.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Level = Literal["good", "fair", "poor"]
"""Overall assessment of a scene."""

Evidence = Literal["truth", "pictures", "frames"]
"""What a scene was compared with.

truth: true views that no stage of the run used. pictures: recorded pictures that were held out of
the fit. frames: only the frames that the scene was made from. A high PSNR against these says that
the scene is consistent, not that it is close to reality.
"""

INPUT_GOOD = 28.0
INPUT_POOR = 24.0
"""PSNR of the input view in dB.

A value from GOOD on is good, a value below POOR is poor, and a value in between is fair. This holds
for all thresholds below.
"""

HELD_OUT_GOOD = 24.0
HELD_OUT_POOR = 20.0
"""Mean PSNR of held-out frames in dB, or of the fitted frames if none were held out."""

COVERAGE_GOOD = 0.9
COVERAGE_POOR = 0.7
"""Smallest coverage along the fly-through (`lift.outputs.coverage`)."""

INPUT_COVERAGE_FAIR = 0.5
"""Smallest coverage by the input picture alone, below which the report warns.

It has no effect on the level of the verdict.
"""

REGISTERED_GOOD = 0.9
REGISTERED_POOR = 0.6
"""Fraction of the frames, without the input, whose camera was registered."""

PARALLAX_GOOD = 1.5
PARALLAX_POOR = 0.5
"""Largest angle in degrees between the directions of the input and of another frame onto the centre
of the scene.
"""

GAUSSIANS_GOOD = 0.1
"""Fraction of the allowed number of Gaussians. With fewer, a scene is fair at best."""

TRUTH_GOOD = 22.0
TRUTH_POOR = 17.0
"""Mean PSNR in dB against true views, if they are known.

Errors of depth and scale reduce it more than the PSNR against frames.
"""

DISTORTION_GAIN_GOOD = 5.0
DISTORTION_GAIN_POOR = 10.0
"""Decibels that the learned distortion adds to the frames' PSNR.

They count only if the PSNR without distortion is below HELD_OUT_GOOD. Then a gain from GOOD on is
fair, and a gain from POOR on is poor.
"""

MOTION_SCALE_GOOD = 0.5
"""Factor on the fly-through's motion. With a smaller one, a scene is fair at best."""


@dataclass(frozen=True)
class SceneNumbers:
    """The measurements of a scene: None if not measured, NaN if the measurement failed."""

    frames: int
    """Number of frames, the input included."""
    registered_frames: int
    """Number of frames whose camera was registered, the input included."""
    gaussians: int
    """Number of Gaussians of the scene."""
    max_gaussians: int
    """Number of Gaussians that the settings allow for a picture of this size."""
    input_psnr: float | None = None
    """PSNR in dB of the canonical scene from the input's camera."""
    held_out_psnr: float | None = None
    """Mean PSNR in dB of the frames that were held out of the fit."""
    frames_psnr: float | None = None
    """Mean PSNR in dB of the fitted frames against the canonical scene."""
    frames_psnr_distorted: float | None = None
    """Mean PSNR in dB of the fitted frames, with each frame's learned distortion applied."""
    true_psnr: float | None = None
    """Mean PSNR in dB against true views, which are known for built-in pictures only."""
    min_coverage: float | None = None
    """Smallest coverage of a view along the fly-through, in [0, 1]."""
    parallax: float | None = None
    """Largest parallax of a frame in degrees."""
    fly_through_scale: float | None = None
    """Factor by which the fly-through's motion was shrunk, in [0, 1]."""


@dataclass(frozen=True)
class Finding:
    """The result of one check that a scene did not pass as good."""

    level: Level
    """fair or poor."""
    measure: str
    """Name of the measurement: a field of `SceneNumbers`."""
    text: str
    """A sentence for the user."""


@dataclass(frozen=True)
class Verdict:
    """An overall assessment with reasons."""

    level: Level
    """Level of the worst finding."""
    reasons: tuple[str, ...]
    """A sentence for each finding, the worst first."""
    evidence: Evidence | None = None
    """What the scene was compared with. None if the run does not tell, as those of lift 0.2."""
    comparison: str = ""
    """A sentence that says the same with figures.

    Empty without evidence, and if one of the reasons says it.
    """
    findings: tuple[Finding, ...] = ()
    """What the reasons come from, in the same order. Empty if the run does not tell."""

    @classmethod
    def from_metrics(cls, metrics: Mapping[str, Any]) -> "Verdict":
        """Read the assessment of a finished run.

        Args:
            metrics: Content of metrics.json.

        Returns:
            The assessment.
        """
        evidence = metrics.get("evidence")
        findings = tuple(Finding(**finding) for finding in metrics.get("findings", ()))
        compared = {"truth": "true_psnr", "pictures": "held_out_psnr"}
        is_reason = any(finding.measure == compared.get(str(evidence)) for finding in findings)
        return cls(
            metrics["verdict"],
            tuple(metrics["reasons"]),
            evidence,
            "" if is_reason else describe_evidence(metrics),
            findings,
        )

    @property
    def headline(self) -> str:
        """The level as the first words of a message, poor in capitals."""
        if self.level == "good" and self.evidence == "frames":
            return "Good scene by its own frames"
        return {"good": "Good scene", "fair": "Fair scene", "poor": "POOR SCENE"}[self.level]

    @property
    def lines(self) -> tuple[str, ...]:
        """The lines of a message: the level with the worst reason, other reasons, the evidence."""
        if not self.reasons:
            if not self.comparison:
                return (f"{self.headline}.",)
            return (f"{self.headline}: {self.comparison}",)
        evidence = (f"  - {self.comparison}",) if self.comparison else ()
        return (
            f"{self.headline}: {self.reasons[0]}",
            *(f"  - {reason}" for reason in self.reasons[1:]),
            *evidence,
        )


def describe_evidence(metrics: Mapping[str, Any]) -> str:
    """Say in a sentence what a scene was compared with.

    Args:
        metrics: Content of metrics.json.

    Returns:
        The sentence. Empty if the metrics do not tell, as those of lift 0.2.
    """
    evidence = metrics.get("evidence")
    if evidence == "truth":
        truth = metrics["truth"]
        views = "1 true view" if truth["views"] == 1 else f"{truth['views']} true views"
        return f"Compared with {views}: {_format_decibels(truth['psnr'])}."
    if evidence == "pictures":
        value = metrics["held_out_psnr"]
        value = "not measurable" if value is None else _format_decibels(value)
        return f"Compared with pictures that the fit never saw: {value}."
    if evidence == "frames":
        return (
            "No true photograph was there to compare with. "
            "The figures show agreement with the scene's own frames."
        )
    return ""


def assess_scene(numbers: SceneNumbers) -> Verdict:
    """Assess a scene from the measurements of a run.

    Args:
        numbers: The measurements.

    Returns:
        The level of the worst finding, and all findings as sentences. A scene without findings is
        good.
    """
    checks = {
        "input_psnr": _check_input,
        "held_out_psnr": _check_held_out,
        "true_psnr": _check_truth,
        "registered_frames": _check_registration,
        "parallax": _check_parallax,
        "frames_psnr_distorted": _check_distortion,
        "min_coverage": _check_coverage,
        "gaussians": _check_gaussians,
        "fly_through_scale": _check_fly_through,
    }
    findings = [
        Finding(result[0], measure, result[1])
        for measure, check in checks.items()
        if (result := check(numbers)) is not None
    ]
    findings.sort(key=lambda finding: finding.level != "poor")
    level: Level = findings[0].level if findings else "good"
    reasons = tuple(finding.text for finding in findings)
    return Verdict(level, reasons, findings=tuple(findings))


def check_input_coverage(metrics: Mapping[str, Any]) -> Finding | None:
    """Check how much of the fly-through the input picture observed. The verdict ignores it.

    Args:
        metrics: Content of metrics.json.

    Returns:
        The finding. None if enough was observed, or if no frames were generated.
    """
    value = metrics["coverage"].get("input_min")
    if value is None or value >= INPUT_COVERAGE_FAIR:
        return None
    text = "Less than half of the worst view was seen in the photograph: most of it is generated."
    return Finding("fair", "input_coverage", text)


_Result = tuple[Level, str] | None
"""Level and sentence of one check. None if the check passes as good or does not apply."""


def _grade(value: float, good: float, poor: float) -> Level:
    """Grade a value. Larger values are better, and NaN is poor."""
    if math.isnan(value) or value < poor:
        return "poor"
    return "good" if value >= good else "fair"


def _format_decibels(value: float) -> str:
    return "NaN" if math.isnan(value) else f"{value:.1f} dB"


def format_percent(value: float) -> str:
    """Format a fraction in percent, rounded down, so that 89.9 % does not read as a good 90 %.

    Args:
        value: The fraction, 1 for all.

    Returns:
        The text with its unit.
    """
    return "NaN" if math.isnan(value) else f"{math.floor(100 * value + 1e-3)} %"


def _check_input(numbers: SceneNumbers) -> _Result:
    value = numbers.input_psnr
    if value is None or (level := _grade(value, INPUT_GOOD, INPUT_POOR)) == "good":
        return None
    effect = (
        "does not explain the input view"
        if level == "poor"
        else "explains the input view only roughly"
    )
    return (
        level,
        f"The canonical scene {effect} ({_format_decibels(value)}; {INPUT_GOOD:.0f} dB is good).",
    )


def _check_held_out(numbers: SceneNumbers) -> _Result:
    value = numbers.held_out_psnr
    name = "Held-out frames"
    if value is None:
        value = numbers.frames_psnr
        name = "No frames were held out. The fitted frames"
    if value is None or (level := _grade(value, HELD_OUT_GOOD, HELD_OUT_POOR)) == "good":
        return None
    reference = f"{HELD_OUT_GOOD:.0f} dB is good"
    if numbers.input_psnr is not None:
        reference += f"; input: {_format_decibels(numbers.input_psnr)}"
    cause = "cameras or depth are wrong, or the frames contradict one another"
    return level, f"{name} are met at {_format_decibels(value)} only ({reference}): {cause}."


def _check_truth(numbers: SceneNumbers) -> _Result:
    value = numbers.true_psnr
    if value is None or (level := _grade(value, TRUTH_GOOD, TRUTH_POOR)) == "good":
        return None
    return (
        level,
        f"True views are met at {_format_decibels(value)} only ({TRUTH_GOOD:.0f} dB is good): "
        "the scene's geometry is wrong.",
    )


def _check_registration(numbers: SceneNumbers) -> _Result:
    total = numbers.frames - 1
    missing = numbers.frames - numbers.registered_frames
    if total < 1 or missing < 1:
        return None
    level = _grade((total - missing) / total, REGISTERED_GOOD, REGISTERED_POOR)
    if level == "good":
        return None
    verb = "frame was" if total == 1 else "frames were"
    return (
        level,
        f"{missing} of {total} {verb} not registered: no camera was found, and they are not used.",
    )


def _check_parallax(numbers: SceneNumbers) -> _Result:
    value = numbers.parallax
    if value is None or (level := _grade(value, PARALLAX_GOOD, PARALLAX_POOR)) == "good":
        return None
    moves = "hardly moves" if level == "poor" else "moves little"
    effect = "depth is a guess from single pictures" if level == "poor" else "depth is uncertain"
    return level, f"The camera {moves} (largest parallax {value:.1f} degrees): {effect}."


def _check_distortion(numbers: SceneNumbers) -> _Result:
    plain = numbers.frames_psnr
    distorted = numbers.frames_psnr_distorted
    if (
        plain is None
        or distorted is None
        or not plain < HELD_OUT_GOOD
        or not distorted - plain >= DISTORTION_GAIN_GOOD
    ):
        return None
    level: Level = "poor" if distorted - plain >= DISTORTION_GAIN_POOR else "fair"
    values = f"canonical {_format_decibels(plain)}, with distortion {_format_decibels(distorted)}"
    more = "more of the frames than the scene does" if level == "poor" else "much of the frames"
    return level, f"The learned distortion carries {more} ({values})."


def _check_coverage(numbers: SceneNumbers) -> _Result:
    value = numbers.min_coverage
    if value is None or (level := _grade(value, COVERAGE_GOOD, COVERAGE_POOR)) == "good":
        return None
    return (
        level,
        (
            f"In the worst view of the fly-through only {format_percent(value)} of the pixels show "
            "what frames saw: the rest is holes or guesses."
        ),
    )


def _check_gaussians(numbers: SceneNumbers) -> _Result:
    count = numbers.gaussians
    limit = numbers.max_gaussians
    if count == 0:
        return "poor", "The scene has no Gaussians."
    if count >= GAUSSIANS_GOOD * limit:
        return None
    return "fair", f"The scene has {count:,} of {limit:,} Gaussians: fine detail is missing."


def _check_fly_through(numbers: SceneNumbers) -> _Result:
    value = numbers.fly_through_scale
    if value is None or value >= MOTION_SCALE_GOOD:
        return None
    return (
        "fair",
        f"The fly-through was shrunk to {format_percent(value)} to stay where frames saw the "
        "scene.",
    )
