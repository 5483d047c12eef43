"""Describe an evaluation in words and pictures."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from omegaconf import DictConfig
from torch import Tensor

from lift.config import ALIGNMENTS, resolve_fit
from lift.evaluation.case import Case
from lift.evaluation.tables import contact_rows
from lift.io.sizing import MULTIPLE
from lift.registry import catalogue

SHEET_TARGETS = 4
"""Largest number of targets on a sheet."""


def describe_evaluation(config: DictConfig, eval_config: DictConfig) -> str:
    """Describe how the figures of a table were measured.

    Args:
        config: Configuration of the runs.
        eval_config: The settings `dataset` and `protocol`.

    Returns:
        A paragraph of Markdown.
    """
    p = eval_config.protocol
    components = ", ".join(
        f"{slot} `{config[slot].name}`"
        for slot in ("prior", "planner", "depth", "pose", "distortion", "renderer")
    )
    fit = resolve_fit(config.fit, real=not catalogue()("prior", config.prior.name).exact_depth)
    limit = f", at most {p.max_targets}" if p.max_targets else ""
    return (
        f"Dataset `{eval_config.dataset.name}`. One input view (`{p.input}`), targets "
        f"`{p.targets}`{limit}. Alignment `{p.align}`: {ALIGNMENTS[p.align]}. Pictures have "
        f"{config.preprocess.size} pixels along the longer side, or their own size if it is "
        "smaller. Their lens distortion is undone, and they are cropped about the centre to "
        f"multiples of {MULTIPLE}. LPIPS on AlexNet and SSIM as torchmetrics defines it, both "
        'over the complete picture. "visible": over the pixels of a target that the input '
        f"shows, by the dataset's dense depth, else by `{p.reference}`, for targets with such "
        "pixels. Means over a scene's targets, then over scenes, then over seeds (± their "
        'standard deviation). "PSNR of the input": the input itself as the prediction of every '
        "target. Distances in units of the input's typical depth. Seconds as they were when a "
        f"stage was computed. {components}; {fit.steps} steps; seeds "
        f"{', '.join(map(str, p.seeds))}."
    )


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
    order = sorted(range(len(views)), key=lambda k: views[k]["distance"])
    count = min(SHEET_TARGETS, len(order))
    selection = [order[round(k)] for k in np.linspace(0, len(order) - 1, count)]
    titles = [f"input: {case.capture.views[case.input_view]}"]
    for k in selection:
        view = views[k]
        titles.append(
            f"{view['view']}: {view['distance']:.2f} typical depths away, {view['psnr']:.1f} dB"
        )
    pictures = [(case.truth[k].rgb[0], renders[k], visible[k]) for k in selection]
    return contact_rows(case.image.float() / 255, pictures, titles)
