"""Compare a rendered picture with the true one by all measures of an evaluation."""

import hashlib
import math
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lift.errors import summarize_error
from lift.evaluation import metrics
from lift.evaluation.dists import DISTS
from lift.evaluation.lpips import LPIPS
from lift.io.names import user_path

CPU = torch.device("cpu")


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
    def load(
        cls,
        weights: str | None,
        device: torch.device = CPU,
        unavailable: Mapping[str, str] | None = None,
    ) -> "Measures":
        """Load the networks.

        Args:
            weights: Folder with the weights. None downloads them, and a failed download leaves a
                measure out.
            device: Device of the networks.
            unavailable: Measures that are not downloaded again, with the reason.

        Returns:
            The measures.

        Raises:
            FileNotFoundError: The folder has no weights of LPIPS.
        """
        folder = user_path(weights) if weights else None
        unavailable = {} if folder else unavailable or {}
        networks: list[Any] = []
        missing: list[str] = []
        for kind, required in ((LPIPS, folder is not None), (DISTS, False)):
            network = None
            reason = unavailable.get(kind.__name__)
            if reason is None:
                network, reason = _load(kind, folder, device, required)
            networks.append(network)
            if reason is not None:
                missing.append(f"{kind.__name__}: {reason}")
        return cls(networks[0], networks[1], missing)

    @property
    def unavailable(self) -> dict[str, str]:
        """Names of the missing measures, each with the reason."""
        return dict(line.split(": ", 1) for line in self.missing)

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
    kind: type[LPIPS] | type[DISTS], folder: Path | None, device: torch.device, required: bool
) -> tuple[LPIPS | DISTS | None, str | None]:
    """Return a network, or the reason why there is none."""
    try:
        with redirect_stdout(sys.stderr):  # torch.hub prints there what it loads
            return kind.load(folder).eval().to(device), None
    except OSError as error:
        if required:
            raise
        reason = summarize_error(error, 160)
        if folder is None:
            reason = (
                f"weights are not in torch.hub's cache and cannot be downloaded ({reason}); "
                "protocol.weights=FOLDER reads them from a folder"
            )
        return None, reason


def say_unavailable(unavailable: Mapping[str, str]) -> str:
    """Say which measures are left out, and why.

    Args:
        unavailable: Names of measures, each with the reason.

    Returns:
        A line for each reason.
    """
    names: dict[str, list[str]] = {}
    for name, reason in unavailable.items():
        names.setdefault(reason, []).append(name)
    return "\n".join(
        f"{' and '.join(group)} {'is' if len(group) == 1 else 'are'} not measured: {reason}"
        for reason, group in names.items()
    )
