"""Describe an evaluation in words and pictures."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

from lift.config import ALIGNMENTS, resolve_fit
from lift.evaluation.case import Case
from lift.evaluation.storage import to_json
from lift.evaluation.tables import contact_rows
from lift.io.image import read_image, save_image
from lift.io.sizing import MULTIPLE, PICTURE_SIZE
from lift.registry import catalogue
from lift.runtime.atomic_io import make_folder, publish

SHEET_TARGETS = 4
"""Largest number of targets on a sheet."""


def save_input(path: Path, image: Tensor) -> Path:
    """Save a picture, unless the file has its pixels already.

    Args:
        path: The file. It may be missing or damaged.
        image: The picture as uint8 [height width 3].

    Returns:
        The file.
    """
    with suppress(OSError, ValueError):
        if torch.equal(read_image(path), image):
            return path
    make_folder(path.parent)
    publish(path, lambda draft: save_image(draft, image))
    return path


def describe_evaluation(config: DictConfig, eval_config: DictConfig) -> str:
    """Describe how the figures of a table were measured.

    Args:
        config: Configuration of the runs.
        eval_config: The settings `dataset` and `protocol`.

    Returns:
        A paragraph of Markdown.
    """
    components = ", ".join(
        f"{slot} `{config[slot].name}`"
        for slot in ("prior", "planner", "depth", "pose", "distortion", "renderer")
    )
    fit = resolve_fit(config.fit, real=not catalogue()("prior", config.prior.name).exact_depth)
    size = config.preprocess.size or PICTURE_SIZE
    protocol = describe_protocol(eval_config.dataset.name, to_json(eval_config.protocol), size)
    return (
        f"{protocol} Means over a scene's targets, then over scenes, then over seeds (± their "
        'standard deviation). "PSNR of the input": the input itself as the prediction of every '
        "target. Distances in units of the input's typical depth. Seconds as they were when a "
        f"stage was computed. {components}; {fit.steps} steps; seeds "
        f"{', '.join(map(str, eval_config.protocol.seeds))}."
    )


def describe_protocol(dataset: str, protocol: Mapping[str, Any], size: int) -> str:
    """Describe what is compared, and how.

    Args:
        dataset: Name of the dataset.
        protocol: The settings `protocol`.
        size: Longer side of the pictures in pixels.

    Returns:
        Sentences of Markdown.
    """
    align = protocol["align"]
    limit = f", at most {protocol['max_targets']}" if protocol["max_targets"] else ""
    return (
        f"Dataset `{dataset}`. One input view (`{protocol['input']}`), targets "
        f"`{protocol['targets']}`{limit}. Alignment `{align}`: {ALIGNMENTS[align]}. Pictures have "
        f"{size} pixels along the longer side, or their own size if it is "
        "smaller. Their lens distortion is undone, and they are cropped about the centre to "
        f"multiples of {MULTIPLE}. LPIPS on AlexNet and SSIM as torchmetrics defines it, both "
        'over the complete picture. "visible": over the pixels of a target that the input '
        f"shows, by the dataset's dense depth, else by `{protocol['reference']}`, for targets with "
        "such pixels."
    )


def sheet_targets(views: Sequence[Mapping[str, Any]]) -> list[int]:
    """Choose the targets that a sheet shows, at evenly spaced ranks of distance.

    Args:
        views: Measures of each target.

    Returns:
        Indices of at most SHEET_TARGETS targets, the nearest first.
    """
    order = sorted(range(len(views)), key=lambda k: views[k]["distance"])
    count = min(SHEET_TARGETS, len(order))
    return [order[round(k)] for k in np.linspace(0, len(order) - 1, count)]


def draw_sheet(
    case: Case, views: Sequence[dict[str, Any]], renders: Sequence[Tensor], visible: Tensor
) -> Tensor:
    """Draw the input and targets at evenly spaced ranks of distance.

    Args:
        case: The scene.
        views: Measures of each target.
        renders: Render of each target.
        visible: Pixels [target height width] that the input shows.

    Returns:
        The sheet [sheet_height sheet_width 3] in [0, 1].
    """
    selection = sheet_targets(views)
    titles = [f"input: {case.capture.views[case.input_view]}"]
    for k in selection:
        view = views[k]
        titles.append(
            f"{view['view']}: {view['distance']:.2f} typical depths away, {view['psnr']:.1f} dB"
        )
    pictures = [(case.truth[k].rgb[0], renders[k], visible[k]) for k in selection]
    return contact_rows(case.image.float() / 255, pictures, titles)
