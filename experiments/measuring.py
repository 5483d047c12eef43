"""Shared by the experiments on real inputs: runs of `lift`, scores, tables, contact sheets."""

import json
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from omegaconf import OmegaConf
from torch import Tensor

from lift.config import compose_run
from lift.errors import format_error, is_user_error
from lift.evaluation.lpips import LPIPS
from lift.evaluation.metrics import masked_psnr, masked_ssim, psnr, ssim
from lift.io.image import read_image, save_image
from lift.io.splats import read_ply
from lift.renderers import Renderer, renderers
from lift.runtime.machine import machine_info
from lift.runtime.serialization import load
from lift.types import Cameras, Frames, Gaussians, Reconstruction

SHARED = Path(os.environ.get("LIFT_SHARED", Path(__file__).parents[2] / "shared")).resolve()
RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"
PRESETS = {
    "cpu": [],
    "gpu": ["experiment=gpu"],
    "gpu-384": ["renderer=gsplat", "trainer=gpu"],
}
"""Settings of `lift run` by the name of a preset.

`cpu` has the defaults. `gpu-384` has them on a GPU.
"""

Picture = Float[Tensor, "height width 3"]


@dataclass(frozen=True)
class FinishedRun:
    """A finished run of `lift`, read from its folder."""

    folder: Path
    metrics: dict[str, Any]
    cameras: Cameras
    """Cameras that the pose stage estimated, the input's first."""
    reconstruction: Reconstruction
    gaussians: Gaussians
    names: list[str]
    """File name of each frame."""
    held_out: list[int]
    """Indices of the frames that were held out of the fit."""
    seconds: dict[str, float]
    """Seconds by stage."""
    peak_gib: float
    """Largest memory of a stage in GiB."""

    def frames(self) -> Frames:
        """Read the frames that the run worked on, the input first."""
        files = sorted((self.folder / "frames").glob("*.png"))
        return Frames(torch.stack([read_image(file) for file in files]))

    @property
    def registered(self) -> Bool[Tensor, "view"]:
        """Which frames the pose stage registered."""
        return self.reconstruction.confidence.flatten(1).any(1)

    def renderer(self) -> Renderer:
        """Build the renderer that the run used."""
        settings = OmegaConf.to_container(OmegaConf.load(self.folder / "config.yaml").renderer)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return renderers.build(settings, device=device)


def run_lift(settings: Sequence[str]) -> FinishedRun:
    """Run `lift run` in this process, or read a run that is finished.

    Args:
        settings: Overrides as on the command line; `output=` among them.

    Returns:
        The run.

    Raises:
        ValueError: If `lift` refuses the input.
    """
    from lift.pipeline import run

    config = compose_run(settings)
    folder = run(config)
    if folder is None:
        raise RuntimeError("only the first of several processes has the run")
    return read_run(folder, Path(config.output))


def read_run(folder: Path, output: Path) -> FinishedRun:
    """Read a finished run.

    Args:
        folder: Folder of the run.
        output: Folder that holds `cache`, with the stages that the run names.

    Returns:
        The run.
    """
    provenance = json.loads((folder / "provenance.json").read_text())
    seconds: dict[str, float] = {}
    for stage in provenance["stages"]:
        seconds[stage["stage"]] = seconds.get(stage["stage"], 0.0) + stage["seconds"]
    keys = {stage["stage"]: stage["key"] for stage in provenance["stages"]}
    reconstruction = load(output / "cache" / f"reconstruct-{keys['reconstruct']}")["reconstruction"]
    split = json.loads((folder / "split.json").read_text())
    return FinishedRun(
        folder,
        json.loads((folder / "metrics.json").read_text()),
        reconstruction.cameras,
        reconstruction,
        read_ply(folder / "gaussians.ply"),
        provenance["source"]["frames"],
        split["held_out"],
        seconds,
        max(stage["peak_bytes"] for stage in provenance["stages"]) / 2**30,
    )


def step_folder(output: Path, preset: str, settings: Sequence[str]) -> Path:
    """Return the folder of an experiment's steps. Each set of settings has a folder of its own."""
    slug = "-".join([preset, *(re.sub(r"\W+", "_", setting).strip("_") for setting in settings)])
    return output / slug[:120]


def load_or_compute(file: Path, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Read a step's result, or compute and save it.

    Args:
        file: JSON file of the step.
        compute: Computes the result. If the input is unsuitable (an error of the user), the
            message is saved as `refused`.

    Returns:
        The result.
    """
    if file.is_file():
        return json.loads(file.read_text())
    try:
        result = compute()
    except Exception as error:
        if not is_user_error(error):
            raise
        result = {"refused": format_error(error)}
    result["machine"] = machine_info("cuda" if torch.cuda.is_available() else "cpu")
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_suffix(".draft")
    draft.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    draft.replace(file)
    return result


def load_lpips(folder: Path | None) -> LPIPS | None:
    """Load LPIPS from a folder with its weights, or return None if there is none."""
    weights_folder = folder or SHARED / "weights" / "lpips_backbones"
    return LPIPS.load(weights_folder) if weights_folder.is_dir() else None


def scores(
    render: Picture,
    truth: Picture,
    lpips: LPIPS | None,
    mask: Bool[Tensor, "height width"] | None = None,
) -> dict[str, float]:
    """Score a render.

    Args:
        render: Picture in [0, 1].
        truth: Picture in [0, 1].
        lpips: Network, or None to leave LPIPS out.
        mask: Pixels that count; all if None.

    Returns:
        PSNR in dB, SSIM and LPIPS.
    """
    if mask is None:
        values = {"psnr": psnr(render, truth), "ssim": ssim(render, truth)}
    else:
        values = {
            "psnr": masked_psnr(render, truth, mask),
            "ssim": masked_ssim(render, truth, mask),
        }
    if lpips is not None:
        values["lpips"] = lpips(render, truth, mask)
    return values


def mean_scores(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """Average scores by name; NaN is left out."""
    names = rows[0].keys() if rows else ()
    return {name: float(np.nanmean([row[name] for row in rows])) for name in names}


def markdown(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Format a Markdown table; numbers get two digits, None a dash."""
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    lines += ["| " + " | ".join(map(_cell, row)) + " |" for row in rows]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and not np.isfinite(value)):
        return "-"
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def write_results(
    name: str,
    preset: str,
    text: str,
    rows: list[dict[str, Any]],
    folder: Path = RESULTS,
    **more: Any,
) -> Path:
    """Write the rows and the machine to NAME-PRESET.json, and the table to NAME-PRESET.md.

    Args:
        name: Name of the experiment.
        preset: Name of the preset.
        text: Markdown.
        rows: Results for the JSON file. The machine of the newest row is written.
        folder: Folder of both files.
        more: Further entries of the JSON file.

    Returns:
        The JSON file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    machine = max((row["machine"] for row in rows), key=lambda info: info["when"])
    rows = [{key: value for key, value in row.items() if key != "machine"} for row in rows]
    record = {"experiment": name, **more, "machine": machine, "rows": rows}
    file = folder / f"{name}-{preset}.json"
    file.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    file.with_suffix(".md").write_text(text.rstrip() + "\n", encoding="utf-8")
    return file


def contact_sheet(file: Path, rows: Sequence[Sequence[Picture]], width: int = 256) -> None:
    """Write pictures of one size as one picture.

    Args:
        file: JPEG or PNG file.
        rows: Pictures in [0, 1]. Short rows are filled with white.
        width: Width of a picture in the sheet, pixels.
    """
    from torch.nn.functional import interpolate

    columns = max(len(row) for row in rows)
    lines = []
    for row in rows:
        height = round(row[0].shape[0] * width / row[0].shape[1])
        planes = torch.stack([picture.permute(2, 0, 1) for picture in row])
        small = interpolate(planes, (height, width), mode="bilinear", antialias=True)
        blank = torch.ones(columns - len(row), 3, height, width)
        lines.append(torch.cat([*torch.cat([small, blank])], dim=-1))
    sheet = torch.cat(lines, dim=-2).permute(1, 2, 0).clamp(0, 1)
    file.parent.mkdir(parents=True, exist_ok=True)
    save_image(file, sheet)


def error_picture(render: Picture, truth: Picture, gain: float = 4.0) -> Picture:
    """Return the absolute difference times a gain."""
    return ((render - truth).abs() * gain).clamp(0, 1)
