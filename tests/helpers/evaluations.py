"""Results of evaluations that were never made."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from lift.evaluation.description import sheet_targets
from lift.evaluation.tables import MEASURES, contact_rows
from lift.io.image import save_image

SIZE = (64, 48)
"""Width and height of the pictures."""
TARGETS = (("near", 0.05), ("middle", 0.2), ("far", 0.5))
"""Name and distance of each target. The second is the one on a joint sheet."""


def task_row(scene: str, seed: int, psnr: float, **changes: Any) -> dict[str, Any]:
    """The result of one scene and seed, all targets of which have the same PSNR."""
    views = [
        dict.fromkeys(MEASURES)
        | {"view": name, "distance": distance, "psnr": psnr, "ssim": 0.5, "psnr_input": 10.0}
        for name, distance in TARGETS
    ]
    return {
        "scene": scene,
        "seed": seed,
        "input": "middle",
        "views": views,
        "size": list(SIZE),
        "depth": None,
        "cameras": None,
        "alignment": {"scale": 1.0},
        "stages": {"fit": {"seconds": 3.0, "peak_gib": 1.0}},
        "missing": ["LPIPS: no network", "DISTS: no network"],
        "notes": {},
        **changes,
    }


def task_rows(scores: Mapping[tuple[str, int], float]) -> list[dict[str, Any]]:
    """Results with a PSNR for each scene and seed."""
    return [task_row(scene, seed, psnr) for (scene, seed), psnr in scores.items()]


def write_evaluation(
    folder: Path,
    rows: Iterable[dict[str, Any]],
    settings: Mapping[str, Any] | None = None,
    failed: Mapping[str, str] | None = None,
    **changes: Any,
) -> Path:
    """Write what `lift eval` would write, but pictures only if `write_sheet` is called."""
    content = {
        "dataset": {"name": "ray_cast", "scenes": None, "size": [512, 512]},
        "protocol": {
            "input": "middle",
            "targets": "all",
            "max_targets": None,
            "align": "median_depth",
            "bins": [0.1],
            "seeds": [0, 1],
            "reference": "lite",
            "weights": None,
        },
        "settings": {
            "preprocess": {"size": 64},
            "prior": {"name": "warp", "fill": "network"},
            "distortion": {"name": "identity"},
            "fit": {"steps": 5},
            "output": str(folder),
        }
        | dict(settings or {}),
        "code": "0",
        "failed": dict(failed or {}),
        "rows": list(rows),
        "machine": {"device": "an abacus"},
    }
    folder.mkdir(parents=True)
    (folder / "table.json").write_text(json.dumps(content | changes))
    return folder


def write_sheet(folder: Path, row: dict[str, Any], grey: float) -> None:
    """Write the pictures of a result: the input is black, targets are white, renders grey."""

    shape = (SIZE[1], SIZE[0])
    pictures = [
        (torch.ones(*shape, 3), torch.full((*shape, 3), grey), torch.ones(shape, dtype=torch.bool))
        for _ in sheet_targets(row["views"])
    ]
    sheet = contact_rows(torch.zeros(*shape, 3), pictures, ["title"] * (1 + len(pictures)))
    save_image(folder / f"{row['scene']}-{row['seed']}.png", sheet)
