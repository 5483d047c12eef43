"""GPU memory that a generator needs, measured or estimated. This module does not import torch."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from lift.registry import Entry

OFFLOADS = ("none", "model", "group")
"""Choices of the setting `prior.offload`."""

MEASURED_MARK = "*"
"""Stands after a figure that was measured."""


def required_memory(
    parts: dict[str, float],
    working: float,
    offload: str,
    precision: str = "auto",
    denoisers: Collection[str] = (),
) -> float:
    """Estimate the GPU memory that a model needs, in GiB.

    Args:
        parts: Weights of each part in half precision, in GiB.
        working: Memory besides the weights, in GiB.
        offload: `none` keeps all parts on the GPU. `model` keeps the part that runs. `group` keeps
            a layer or two and the autoencoder.
        precision: float8 halves the weights of the denoisers, float32 doubles everything.
        denoisers: Names of the parts that denoise.
    """
    factor = 2.0 if precision == "float32" else 1.0
    sizes = {
        name: size * (0.5 if precision == "float8" and name in denoisers else factor)
        for name, size in parts.items()
    }
    resident = {
        "none": sum(sizes.values()),
        "model": max(sizes.values(), default=0.0),
        "group": 0.5 + sizes.get("vae", 0.0),
    }[offload]
    return resident + working * factor


def scale_working_memory(
    working: float,
    trained_size: tuple[int, int],
    trained_frames: int,
    size: tuple[int, int] | None = None,
    frames: int | None = None,
    batch_size: int = 1,
) -> float:
    """Scale the memory besides the weights to another size and number of frames, in GiB.

    Args:
        working: Memory for one clip of the trained size.
        trained_size: Width and height in pixels that it was trained with.
        trained_frames: Number of frames. 0: not known.
        size: Width and height of the generated pictures in pixels. None: the trained size.
        frames: Frames of the clip. None: as trained.
        batch_size: Number of clips that are made together.
    """
    scale = float(batch_size)
    if size is not None:
        scale *= size[0] * size[1] / (trained_size[0] * trained_size[1])
    if frames is not None and trained_frames:
        scale *= frames / trained_frames
    return working * scale


def trained_shape(trained_size: tuple[int, int], longer_side: int | None) -> tuple[int, int]:
    """Scale the trained size to another longer side, for pictures whose shape is not known.

    Args:
        trained_size: Width and height in pixels.
        longer_side: The setting `prior.size`. None: that of the trained size.

    Returns:
        Width and height in whole pixels.
    """
    scale = 1.0 if longer_side is None else longer_side / max(trained_size)
    return round(trained_size[0] * scale), round(trained_size[1] * scale)


@dataclass(frozen=True)
class PeakMemory:
    """Peak GPU memory of a generator."""

    gib: float
    """The memory in GiB."""
    is_measured: bool
    """Whether it was measured with the real network. If not, it is an estimate."""

    def __str__(self) -> str:
        """Return the rounded number, with a star if it was measured."""
        return f"{self.gib:.0f}{MEASURED_MARK if self.is_measured else ''}"


def peak_memory(entry: Entry) -> dict[str, PeakMemory]:
    """Return the peak GPU memory of a generator in half precision, at its default size.

    All tables and messages take their figures from here.

    Args:
        entry: The registry's entry of a prior.

    Returns:
        Choice of `prior.offload` -> memory. It is empty if nothing is known, because the memory
        depends on the model that the user chooses, or because the prior is no network.
    """
    if not entry.weight_memory:
        return {}
    figures = {}
    for offload in OFFLOADS:
        measured = entry.measured_memory.get(offload)
        estimate = required_memory(entry.weight_memory, entry.working_memory, offload)
        figures[offload] = PeakMemory(
            estimate if measured is None else float(measured), measured is not None
        )
    return figures


def format_memory(entry: Entry) -> str:
    """Describe the GPU memory that a generator needs, for each choice of offload.

    Args:
        entry: The registry's entry of a prior.
    """
    figures = peak_memory(entry)
    if not figures:
        return "GPU memory as the model asks for"
    sizes = " / ".join(str(figure) for figure in figures.values())
    is_measured = any(figure.is_measured for figure in figures.values())
    basis = f" ({MEASURED_MARK} measured, others estimated)" if is_measured else " (estimated)"
    text = f"about {sizes} GiB of GPU memory with prior.offload={' / '.join(OFFLOADS)}{basis}"
    return f"{text}; {entry.memory_note}" if entry.memory_note else text


def list_fitting(entries: Iterable[Entry], available: float) -> str:
    """List which generators fit a GPU, at their default size and number of frames.

    Args:
        entries: The registry's entries of the priors.
        available: Memory of the GPU in GiB.

    Returns:
        A table with a line for each prior, and lines that explain it.
    """
    lines = [
        f"generators on a GPU with {available:g} GiB, at their own size and number of frames; "
        "GiB by prior.offload:",
        f"  {'prior':<22} " + " ".join(f"{offload:>7}" for offload in OFFLOADS) + "   fits",
    ]
    has_measured = False
    for entry in sorted(entries, key=lambda entry: entry.name):
        figures = peak_memory(entry)
        has_measured |= any(figure.is_measured for figure in figures.values())
        if figures:
            cells = " ".join(f"{figure!s:>7}" for figure in figures.values())
            fitting = [name for name, figure in figures.items() if figure.gib <= available]
            verdict = " ".join(fitting) or "no"
        else:
            cells = " ".join(f"{'-':>7}" for _ in OFFLOADS)
            is_network = bool(entry.trained_size)
            verdict = "unknown: it depends on prior.model" if is_network else "yes: it needs no GPU"
        note = f" ({entry.memory_note})" if entry.memory_note else ""
        lines.append(f"  {entry.name:<22} {cells}   {verdict}{note}")
    if has_measured:
        lines.append(f"  figures with {MEASURED_MARK} were measured with the real network")
    lines += [
        f"  {'other' if has_measured else 'all'} figures are estimates: "
        "the published size of the weights plus an estimate of the rest",
        "  prior.precision=float8 halves the weights of the denoiser",
        "  a smaller prior.size and fewer prior.frames take less",
    ]
    return "\n".join(lines)
