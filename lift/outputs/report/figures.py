"""Choose and explain the figures of the report, with the warnings that belong to them.

Two kinds of figures are kept apart: comparisons with true pictures, and agreement with the frames
that the scene was made from. Only the first kind says how close a scene is to reality.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from lift.outputs.charts import format_number
from lift.outputs.verdict import (
    COVERAGE_GOOD,
    COVERAGE_POOR,
    HELD_OUT_GOOD,
    HELD_OUT_POOR,
    INPUT_GOOD,
    INPUT_POOR,
    REGISTERED_GOOD,
    REGISTERED_POOR,
    TRUTH_GOOD,
    TRUTH_POOR,
    Finding,
    Level,
    Verdict,
    check_input_coverage,
    format_percent,
)


@dataclass(frozen=True)
class ValueBar:
    """A bar that shows a value between poor and good, all in percent of its length."""

    poor: float
    """Where fair begins."""
    good: float
    """Where good begins."""
    value: float
    """Position of the value, cut to the bar."""


@dataclass(frozen=True)
class Figure:
    """One figure of the report."""

    value: str
    """The value with its unit."""
    name: str
    """What it measures, in a few words."""
    about: str
    """A sentence that explains it."""
    findings: tuple[Finding, ...] = ()
    """Warnings about it."""
    meter: ValueBar | None = None
    """Where the value lies between poor and good."""

    @property
    def level(self) -> Level | None:
        """Level of the worst warning."""
        levels = [finding.level for finding in self.findings]
        return "poor" if "poor" in levels else "fair" if levels else None


@dataclass(frozen=True)
class FigureGroup:
    """Figures of one kind."""

    key: str
    """truth, agreement, range or scene."""
    title: str
    """Title for a reader who does not know the field."""
    about: str
    """What figures of this kind prove, and what they do not."""
    figures: tuple[Figure, ...]
    """The figures. Empty if nothing was measured."""


@dataclass(frozen=True)
class _Scale:
    """Ends of a meter, and the thresholds on it."""

    low: float
    poor: float
    good: float
    high: float

    def meter(self, value: float | None) -> ValueBar | None:
        if value is None or value != value:
            return None

        def percent(position: float) -> float:
            fraction = (position - self.low) / (self.high - self.low)
            return round(100 * min(max(fraction, 0.0), 1.0), 1)

        return ValueBar(percent(self.poor), percent(self.good), percent(value))


_INPUT = _Scale(INPUT_POOR - 10, INPUT_POOR, INPUT_GOOD, INPUT_GOOD + 14)
_HELD_OUT = _Scale(HELD_OUT_POOR - 10, HELD_OUT_POOR, HELD_OUT_GOOD, HELD_OUT_GOOD + 14)
_TRUTH = _Scale(TRUTH_POOR - 10, TRUTH_POOR, TRUTH_GOOD, TRUTH_GOOD + 14)
_COVERAGE = _Scale(0.4, COVERAGE_POOR, COVERAGE_GOOD, 1.0)
_REGISTERED = _Scale(0.0, REGISTERED_POOR, REGISTERED_GOOD, 1.0)


def figure_groups(
    metrics: dict[str, Any], generated: bool, seconds: float, origin: str = ""
) -> list[FigureGroup]:
    """Choose the figures of the page, each with its warnings.

    Args:
        metrics: Content of metrics.json.
        generated: Whether the frames are generated. If not, they are recorded.
        seconds: Time of all stages.
        origin: A sentence that says how generated frames were made.

    Returns:
        The groups in the order of the page.
    """
    findings = Verdict.from_metrics(metrics).findings
    return [
        _truth_group(metrics, findings, generated),
        _agreement_group(metrics, findings, generated, origin),
        _range_group(metrics, findings, generated),
        _scene_group(metrics, findings, seconds),
    ]


def arrange_columns(groups: Sequence[FigureGroup]) -> tuple[list[FigureGroup], list[FigureGroup]]:
    """Arrange groups with figures in two columns of similar height.

    Args:
        groups: The groups in the order of the page.

    Returns:
        The groups of the left and of the right column.
    """
    columns: tuple[list[FigureGroup], list[FigureGroup]] = ([], [])
    heights = [0, 0]
    for group in groups:
        if group.figures:
            # The first group is on the left. Later, a tie goes to the right.
            column = int(0 < heights[0] >= heights[1])
            columns[column].append(group)
            heights[column] += 1 + len(group.figures)
    return columns


def _about(findings: Iterable[Finding], *measures: str) -> tuple[Finding, ...]:
    """Select the findings about some measurements."""
    return tuple(finding for finding in findings if finding.measure in measures)


def _truth_group(
    metrics: dict[str, Any], findings: tuple[Finding, ...], generated: bool
) -> FigureGroup:
    """Describe the comparison with pictures that the scene was not made from."""
    if truth := metrics["truth"]:
        views = "a true view" if truth["views"] == 1 else f"{truth['views']} true views"
        depth_error = format_percent(truth["depth"]["abs_rel"])
        figures = (
            Figure(
                format_decibels(truth["psnr"]),
                f"PSNR against {views}",
                f"Likeness from beside the input; {TRUTH_GOOD:.0f} dB and more is good.",
                _about(findings, "true_psnr"),
                _TRUTH.meter(truth["psnr"]),
            ),
            Figure(depth_error, "mean error of the depth", "Of the input's depth, after scaling."),
        )
        used = "this picture" if truth["views"] == 1 else "these views"
        about = (
            f"No stage of the run used {used}. The figures say how close the scene is to reality."
        )
        title = "Against a true photograph" if truth["views"] == 1 else "Against true views"
        return FigureGroup("truth", title, about, figures)
    if metrics["evidence"] == "pictures":
        about = (
            "The fit never saw these pictures of the input. "
            "If they are real photographs, the figure says how close the scene is to reality."
        )
        return FigureGroup(
            "truth", "Against held-out pictures", about, (_held_out_figure(metrics, findings),)
        )
    about = (
        "The run had no second, true picture of this place. "
        "So no figure on this page says how close the scene is to reality beside the input picture."
        if generated or metrics["held_out_psnr"] is not None
        else "No picture was held out of the fit (setting fit.test_every). "
        "So no figure says how well the scene shows what the fit did not see."
    )
    return FigureGroup("truth", "Against a true photograph: not measured", about, ())


def _held_out_figure(metrics: dict[str, Any], findings: tuple[Finding, ...]) -> Figure:
    return Figure(
        format_measurement(metrics["held_out_psnr"]),
        "PSNR of held-out frames",
        "How closely the scene shows frames that the fit never saw; "
        f"{HELD_OUT_GOOD:.0f} dB and more is good.",
        _about(findings, "held_out_psnr"),
        _HELD_OUT.meter(metrics["held_out_psnr"]),
    )


def _agreement_group(
    metrics: dict[str, Any], findings: tuple[Finding, ...], generated: bool, origin: str
) -> FigureGroup:
    """Describe the agreement with the frames that the scene was made from."""
    has_held_out = metrics["held_out_psnr"] is not None
    figures = [
        Figure(
            format_measurement(metrics["input_psnr"]),
            "PSNR of the input view",
            "How closely the scene shows the input picture from its own camera; "
            f"{INPUT_GOOD:.0f} dB and more is good.",
            _about(findings, "input_psnr"),
            _INPUT.meter(metrics["input_psnr"]),
        )
    ]
    if metrics["evidence"] != "pictures" and has_held_out:
        figures.append(_held_out_figure(metrics, findings))
    if metrics["frames_psnr"] is not None:
        figures.append(_fitted_figure(metrics, findings, has_held_out))
    if "input_min" in metrics["coverage"]:
        figures.append(_input_coverage_figure(metrics))
    made = "generated" if generated else "recorded"
    about = (
        f"{origin} They may be wrong themselves. "
        "A high figure says that the scene is consistent. "
        "Even 40 dB does not prove that it looks like the real place."
        if generated
        else "The scene was made from these pictures. "
        "A high figure says that it repeats them, not that it looks right in between."
    )
    return FigureGroup("agreement", f"Agreement with the {made} frames", about, tuple(figures))


def _input_coverage_figure(metrics: dict[str, Any]) -> Figure:
    """Describe how much of the fly-through the input picture shows."""
    coverage = metrics["coverage"]
    finding = check_input_coverage(metrics)
    return Figure(
        format_percent(coverage["input_min"]),
        "seen in your photograph, in the fly-through's worst view",
        "The rest was generated, so it is a guess. "
        f"On average {format_percent(coverage['input_mean'])} was seen in your photograph.",
        (finding,) if finding else (),
    )


def _fitted_figure(
    metrics: dict[str, Any], findings: tuple[Finding, ...], has_held_out: bool
) -> Figure:
    """Describe the frames that the scene was fitted to."""
    about = "How closely the scene shows the frames that it was fitted to"
    distorted = metrics["frames_psnr_distorted"]
    if distorted is not None and abs(distorted - metrics["frames_psnr"]) >= 0.05:
        about += f"; {format_decibels(distorted)} with each frame's learned distortion applied"
    measures = ["frames_psnr_distorted"] + ([] if has_held_out else ["held_out_psnr"])
    return Figure(
        format_measurement(metrics["frames_psnr"]),
        "PSNR of fitted frames",
        about + ".",
        _about(findings, *measures),
        _HELD_OUT.meter(metrics["frames_psnr"]),
    )


def _range_group(
    metrics: dict[str, Any], findings: tuple[Finding, ...], generated: bool
) -> FigureGroup:
    """Describe how far one can look around."""
    coverage = metrics["coverage"]
    registered = metrics["registered_frames"]
    total = metrics["frames"]
    scale = metrics["fly_through_scale"]
    motion = "" if scale >= 1 else f" Its motion was shrunk to {format_percent(scale)}."
    kind = "some frame, yours or a generated one," if generated else "some frame"
    figures = [
        Figure(
            format_percent(coverage["min"]),
            "coverage of the fly-through's worst view",
            f"Part of the picture that shows what {kind} saw; "
            f"{100 * COVERAGE_GOOD:.0f} % and more is good. "
            f"On average {format_percent(coverage['mean'])}.{motion}",
            _about(findings, "min_coverage", "fly_through_scale"),
            _COVERAGE.meter(coverage["min"]),
        )
    ]
    if total > 1:
        figures.append(
            Figure(
                f"{registered} of {total}",
                "frames with a camera, the input included",
                "The fit uses only frames whose camera was found.",
                _about(findings, "registered_frames"),
                _REGISTERED.meter((registered - 1) / (total - 1)),
            )
        )
    if metrics["parallax"] is not None:
        figures.append(
            Figure(
                f"{metrics['parallax']:.1f}°",
                "largest parallax",
                "Angle by which the camera moved about the centre of the scene.",
                _about(findings, "parallax"),
            )
        )
    about = "Views far from all frames show holes and guesses. The fly-through avoids them."
    if generated:
        about = (
            "Views far from all frames show holes. The fly-through avoids them. "
            "Generated parts are guesses, too."
        )
    return FigureGroup("range", "How far one can look around", about, tuple(figures))


def _scene_group(
    metrics: dict[str, Any], findings: tuple[Finding, ...], seconds: float
) -> FigureGroup:
    """Describe the size of the scene and the time that it took."""
    figures = (
        Figure(
            format_number(metrics["gaussians"]),
            "Gaussians",
            "Number of coloured ellipsoids that the scene consists of.",
            _about(findings, "gaussians"),
        ),
        Figure(format_seconds(seconds), "for all stages", "Stages from the cache count, too."),
    )
    return FigureGroup("scene", "What it is made of", "", figures)


def format_decibels(value: float, digits: int = 1) -> str:
    """Format a PSNR.

    Args:
        value: Decibels.
        digits: Digits after the point.

    Returns:
        The text with its unit.
    """
    return f"{value:.{digits}f} dB"


def format_measurement(decibels: float | None) -> str:
    """Format a PSNR that may not have been measured.

    Args:
        decibels: The PSNR, or None.

    Returns:
        The text.
    """
    return "not measured" if decibels is None else format_decibels(decibels)


def format_seconds(value: float) -> str:
    """Format a duration.

    Args:
        value: Seconds.

    Returns:
        Seconds, or minutes and seconds from two minutes on.
    """
    return f"{value:.1f} s" if value < 120 else f"{int(value) // 60} min {int(value) % 60:02d} s"
