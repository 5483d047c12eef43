"""Compare a rendered picture with the true one by all measures of an evaluation."""

import hashlib
import math
import sys
from contextlib import redirect_stdout
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from lift.evaluation import metrics
from lift.evaluation.dists import DISTS
from lift.evaluation.lpips import LPIPS

CPU = torch.device("cpu")
NetworkT = TypeVar("NetworkT", LPIPS, DISTS)


class Measures:
    """PSNR, SSIM, LPIPS and DISTS of a picture, also over the pixels that the input shows.

    Args:
        lpips: The network, or None if its weights are missing.
        dists: The network, or None if its weights are missing.
        missing: Names of the missing measures with the reason.
    """

    def __init__(self, lpips: LPIPS | None, dists: DISTS | None, missing: list[str]) -> None:
        self.lpips = lpips
        self.dists = dists
        self.missing = missing

    @classmethod
    def load(cls, weights: str | None, device: torch.device = CPU) -> "Measures":
        """Load the networks.

        Args:
            weights: Folder with the weights. None downloads them, and a failed download leaves a
                measure out.
            device: Device of the networks.

        Returns:
            The measures.

        Raises:
            FileNotFoundError: The folder has no weights of LPIPS.
        """
        folder = Path(weights).expanduser() if weights else None
        missing: list[str] = []
        lpips = _load(LPIPS, folder, device, missing, required=folder is not None)
        dists = _load(DISTS, folder, device, missing, required=False)
        return cls(lpips, dists, missing)

    @cached_property
    def digest(self) -> list[str | None]:
        """SHA-256 of the weights of each network."""
        return [
            network
            and hashlib.sha256(
                b"".join(value.cpu().numpy().tobytes() for value in network.state_dict().values())
            ).hexdigest()
            for network in (self.lpips, self.dists)
        ]

    def __call__(self, rgb: Tensor, truth: Tensor, visible: Tensor) -> dict[str, float | None]:
        """Compare two pictures.

        Args:
            rgb: The render [height width 3] in [0, 1].
            truth: The true picture [height width 3] in [0, 1].
            visible: Pixels [height width] that the input shows.

        Returns:
            The measures by name. None stands for a value that is missing or NaN.
        """
        values = {
            "psnr": metrics.psnr(rgb, truth),
            "ssim": metrics.ssim(rgb, truth),
            "lpips": self.lpips(rgb, truth) if self.lpips else None,
            "dists": self.dists(rgb, truth) if self.dists else None,
            "visible": float(visible.float().mean()),
            "psnr_visible": metrics.masked_psnr(rgb, truth, visible),
            "ssim_visible": metrics.masked_ssim(rgb, truth, visible),
            "lpips_visible": (
                self.lpips(rgb, truth, visible) if self.lpips and visible.any() else None
            ),
        }
        return {
            key: None if value is None or math.isnan(value) else value
            for key, value in values.items()
        }


def _load(
    kind: type[NetworkT],
    folder: Path | None,
    device: torch.device,
    missing: list[str],
    required: bool,
) -> NetworkT | None:
    """Load a network, or return None and append the reason to `missing`."""
    try:
        with redirect_stdout(sys.stderr):  # torch.hub prints there what it loads
            return kind.load(folder).eval().to(device)
    except OSError as error:
        if required:
            raise
        missing.append(f"{kind.__name__}: {' '.join(str(error).split())[:160]}")
        return None
