"""What the Gaussians of one browser show: colours, depth, or the distortion of a frame."""

import threading
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from lift.distortions.parameters.neighbours import infer_held_out
from lift.errors import format_error
from lift.outputs.viewer.html import note
from lift.outputs.viewer.splats import add_splats, color_by, quantiles, splat_arrays
from lift.types import Gaussians

if TYPE_CHECKING:
    from lift.outputs.viewer.panel import Panel

COLORS = "colours"
DEPTH = "depth"
DISTORTED = "as the frame shows it"
DISPLACEMENT = "displacement in the frame"

MODES = (COLORS, DEPTH, DISTORTED, DISPLACEMENT)
"""What can be shown. The last two need a finished run with its frames."""

QUANTILES = (0.02, 0.98)
"""Quantiles of depth at the ends of the colour map."""

MIN_DISPLACEMENT = 1e-5
"""Displacement in typical depths below which a frame counts as not distorted."""


class Overlay:
    """What the Gaussians of one browser show.

    Args:
        panel: The controls of the browser.
    """

    def __init__(self, panel: "Panel") -> None:
        self.frame = 0
        """Index of the frame whose distortion is shown."""
        self._panel = panel
        self._lock = threading.Lock()
        self._handle: Any = None
        self._mode = COLORS

    def build(self, gui: Any) -> None:
        """Add the controls.

        Args:
            gui: viser's interface of the browser.
        """
        content = self._panel.viewer.content
        modes = MODES if content.has_frames else MODES[:2]
        self._mode = COLORS
        self._remove()
        self._choice = gui.add_dropdown(
            "Show",
            modes,
            initial_value=COLORS,
            hint="Distortions are those of the frame chosen below",
        )
        self._legend = gui.add_html("", visible=False)

        @self._choice.on_update
        def _(_: Any) -> None:
            self._mode = self._choice.value
            self.refresh()

    def choose_frame(self, frame: int) -> None:
        """Choose the frame whose distortion is shown.

        Args:
            frame: Index of the frame.
        """
        self.frame = frame
        if self._mode in (DISTORTED, DISPLACEMENT):
            self.refresh()

    def refresh(self) -> None:
        """Draw what is chosen, in this browser only."""
        with self._lock:
            content = self._panel.viewer.content
            if self._mode == COLORS or (content.run is None and self._mode != DEPTH):
                self._remove()
                self._show_legend("")
                return
            gaussians = content.gaussians.to("cpu")
            try:
                arrays, text = (
                    self._depth(gaussians) if self._mode == DEPTH else self._distortion(gaussians)
                )
            except (ImportError, OSError, ValueError) as error:  # such as a damaged file
                self._show_legend(format_error(error))
                return
            self._handle = add_splats(self._panel.client.scene, arrays)
            self._show_legend(text)

    def _arrays(self, gaussians: Gaussians) -> dict[str, np.ndarray]:
        """Return what viser draws of Gaussians, in their colours."""
        viewer = self._panel.viewer
        return splat_arrays(gaussians, viewer.content.input_camera.centers[0].cpu(), viewer.unit)

    def _distortion(self, gaussians: Gaussians) -> tuple[dict[str, np.ndarray], str]:
        """Return the scene as the frame shows it, perhaps coloured by displacement, and legend."""
        content = self._panel.viewer.content
        changed = distorted(content.run, gaussians, self.frame)
        shift = (changed.means - gaussians.means).norm(dim=-1)
        (largest,) = quantiles(shift, QUANTILES[1:])
        arrays = self._arrays(changed)
        text = f"Frame {self.frame}: {_describe_shift(largest, content.typical_depth)}"
        is_moved = largest >= MIN_DISPLACEMENT * content.typical_depth
        if self._mode == DISPLACEMENT and is_moved:
            arrays["rgbs"] = color_by(shift, 0.0, largest) / 255
            text += " Blue: 0, red: the largest."
        return arrays, text

    def _depth(self, gaussians: Gaussians) -> tuple[dict[str, np.ndarray], str]:
        """Return the scene coloured by depth in the input view, and the legend."""
        camera = self._panel.viewer.content.input_camera
        pose = camera.world_to_camera[0].cpu()
        depth = (gaussians.means @ pose[2, :3] + pose[2, 3]).clamp(min=1e-9)
        near, far = quantiles(depth, QUANTILES)
        arrays = self._arrays(gaussians)
        # Even steps of inverse depth, as the eye sees it: near is red.
        arrays["rgbs"] = color_by(1 / depth, 1 / far, 1 / near) / 255
        return arrays, f"Depth in scene units: red {near:.3g}, blue {far:.3g}."

    def _remove(self) -> None:
        """Show the Gaussians of the server again."""
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    def _show_legend(self, text: str) -> None:
        self._legend.content = note(text)
        self._legend.visible = bool(text)


@torch.no_grad()
def distorted(run: Any, gaussians: Gaussians, frame: int) -> Gaussians:
    """Return the scene as it was in a frame. That of a held-out frame is inferred.

    Args:
        run: The finished run, a `lift.Scene`.
        gaussians: Its canonical scene.
        frame: Index of the frame.
    """
    distortion = infer_held_out(run.distortion, run.trajectory, set(run.held_out))
    changed = distortion.gaussians(gaussians, torch.tensor([frame]))
    if changed.means.ndim == 2:
        return changed  # the distortion moves nothing
    return Gaussians(**{field.name: getattr(changed, field.name)[0] for field in fields(changed)})


def _describe_shift(largest: float, typical_depth: float) -> str:
    """Say how far a frame moves the scene."""
    if largest < MIN_DISPLACEMENT * typical_depth:
        return "its distortion moves nothing."
    percent = 100 * largest / typical_depth
    return f"it moves the scene by up to {largest:.3g} scene units ({percent:.2g} % of the depth)."
