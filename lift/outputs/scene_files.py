"""Write the scene of a finished run, its cameras and its frames, as `deliver.keep` says."""

import json
from collections.abc import Callable
from pathlib import Path

import torch
from omegaconf import DictConfig
from safetensors.torch import save_file

from lift.config.delivery_schema import FULL, MINIMAL
from lift.config.loggers import CALLBACK_FOLDER, LOGGERS, read_loggers
from lift.io.colmap import write_colmap
from lift.io.image import save_image
from lift.io.nerfstudio import write_transforms
from lift.io.splats import export, write_ply
from lift.outputs.fidelity import MIN_PSNR, compare_renders
from lift.outputs.quality import RunResult, registered_frames
from lift.outputs.storage import FRAMES, write_views
from lift.renderers import Renderer
from lift.runtime.atomic_io import copy_path
from lift.runtime.kept_files import INPUT_PICTURES, LOSSY_FORMATS, PLY
from lift.runtime.parallel import parallel_map
from lift.training import CHECKPOINT, LOG_RECORD
from lift.types import Cameras, Gaussians

FIT_LOGS = (LOG_RECORD, *LOGGERS)
"""Logs that are copied from the fit stage, if it has them, unless the setting `logger` is none."""

SPLIT = "split.json"
"""File with the frames that the fit was trained on, and those that were held out."""

FIT_OUTPUTS = (CHECKPOINT, SPLIT, CALLBACK_FOLDER, *FIT_LOGS)
"""Files and folders that are copied from the fit stage."""

REGISTERED = "registered"
"""Entry of split.json where no frames are kept: the frames whose cameras were found."""


def write_scene_files(
    folder: Path,
    config: DictConfig,
    result: RunResult,
    renderer: Renderer,
    cameras: Cameras,
    note: Callable[[str], object],
) -> None:
    """Write Gaussians, cameras, and what `deliver.keep` says of the frames and of the fit.

    Args:
        folder: Folder of the results.
        config: Configuration of the run.
        result: The results of the stages.
        renderer: Renders the scene for comparison with its files.
        cameras: The frames' corrected cameras, the input first.
        note: Receives a sentence for the user if the smallest format cannot hold the scene.
    """
    keep = config.deliver.keep
    gaussians = result.gaussians.to("cpu")
    refused: list[str] = []
    if keep == MINIMAL:
        refused = _write_lossy(folder, gaussians, renderer, cameras[:1], note)
    else:
        write_ply(folder / PLY, gaussians)
    for suffix in config.export.formats:
        path = folder / f"gaussians.{suffix}"
        if suffix != "ply" and suffix not in refused and not path.exists():
            export(gaussians if keep == MINIMAL else folder / PLY, path)
    if keep == FULL:
        _copy_fit(config, folder, result)
        _write_frames(folder, result, cameras)
    else:
        _write_input(folder, result, cameras, INPUT_PICTURES[keep])


def _write_lossy(
    folder: Path,
    gaussians: Gaussians,
    renderer: Renderer,
    camera: Cameras,
    note: Callable[[str], object],
) -> list[str]:
    """Write Gaussians in the first compressed format that holds them, else without loss.

    Returns:
        The formats that cannot hold them.
    """

    @torch.no_grad()
    def check(decoded: Gaussians) -> None:
        psnr = compare_renders(
            lambda scene, view: renderer(scene.to(renderer.device), view.to(renderer.device)),
            gaussians,
            decoded,
            camera,
        )
        if psnr < MIN_PSNR:
            raise ValueError(f"it shows the input view with {psnr:.1f} dB against the scene")

    problems = []
    for name in LOSSY_FORMATS:
        try:
            export(gaussians, folder / f"gaussians.{name}", name, check)
            break
        except ValueError as error:
            problems.append(f"{name} cannot keep the scene ({error})")
    else:
        write_ply(folder / PLY, gaussians)
    if problems:
        chosen = LOSSY_FORMATS[len(problems)] if len(problems) < len(LOSSY_FORMATS) else "ply"
        note(f"{', '.join(problems)}; it is kept as {chosen}")
    return list(LOSSY_FORMATS[: len(problems)])


def _copy_fit(config: DictConfig, folder: Path, result: RunResult) -> None:
    """Copy the checkpoint, the split and the logs of the fit."""
    has_logs = bool(read_loggers(config))
    for item in FIT_OUTPUTS:
        if (result.fit_folder / item).exists() and (has_logs or item not in FIT_LOGS):
            copy_path(result.fit_folder / item, folder / item)


def _write_frames(folder: Path, result: RunResult, cameras: Cameras) -> None:
    """Write frames, with their cameras and depth, and the distortion."""
    names = [f"{FRAMES}/{view:06d}.png" for view in range(len(result.frames))]
    (folder / FRAMES).mkdir(exist_ok=True)
    parallel_map(
        lambda view: save_image(folder / names[view], result.frames.images[view]), range(len(names))
    )
    write_transforms(folder / "transforms.json", cameras, names)
    write_colmap(folder / "colmap", cameras, names, result.reconstruction.points)
    write_views(folder, result)
    state = {key: value.contiguous() for key, value in result.distortion.state_dict().items()}
    save_file(state, folder / "distortion.safetensors")


def _write_input(folder: Path, result: RunResult, cameras: Cameras, picture: str) -> None:
    """Write the input picture, the cameras of all frames, and how the fit used them."""
    save_image(folder / picture, result.frames.images[0])
    names = [picture] + [""] * (len(cameras) - 1)
    write_transforms(folder / "transforms.json", cameras, names)
    split = json.loads((result.fit_folder / SPLIT).read_text(encoding="utf-8"))
    split[REGISTERED] = registered_frames(result)
    (folder / SPLIT).write_text(json.dumps(split), encoding="utf-8")
