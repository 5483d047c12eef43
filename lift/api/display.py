"""Show a scene where the user is: in a notebook or in a browser."""

import sys
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lift.types import Cameras


def show_scene(folder: Path, view: Callable[[], None]) -> None:
    """Show the fly-through in a notebook. Elsewhere, serve the viewer until Ctrl-C.

    Args:
        folder: Folder of a finished run.
        view: Serves the viewer.

    Raises:
        FileNotFoundError: The run has no video.
        ImportError: There is no notebook, and the viewer is not installed.
    """
    if in_notebook():
        from IPython.display import Video, display  # pyright: ignore[reportMissingImports]

        video = folder / "video.mp4"
        if not video.is_file():
            raise FileNotFoundError(f"{folder} has no video.mp4; Scene.save_film makes one")
        display(Video(str(video), embed=True, html_attributes="controls loop autoplay muted"))
        return
    if find_spec("viser") is None:
        raise ImportError(
            "there is no notebook to show the fly-through in (pip install notebook), and no viewer "
            f"(pip install 'lift[viewer]'); {_where_film_is(folder / 'video.mp4')}"
        )
    view()


def _where_film_is(video: Path) -> str:
    """Name the film of a run, or say what makes one."""
    return f"the fly-through is {video}" if video.is_file() else "Scene.save_film makes a film"


def describe_scene(folder: Path, metrics: Mapping[str, Any], cameras: Cameras) -> str:
    """Describe a scene in one line: its folder, verdict and most important numbers.

    Args:
        folder: Folder of the run.
        metrics: Content of metrics.json.
        cameras: Cameras of the frames.
    """
    numbers = [f"{name} {_format_decibels(metrics[key])}" for name, key in _NUMBERS.items()]
    return (
        f"<lift.Scene {str(folder)!r}: {metrics['verdict']}, "
        f"{metrics['gaussians']:,} Gaussians, {len(cameras)} frames of "
        f"{cameras.width} x {cameras.height} pixels, PSNR of {', '.join(numbers)}>"
    )


_NUMBERS = {"the input": "input_psnr", "held-out frames": "held_out_psnr"}
"""Description of a number -> its key in metrics.json."""


def _format_decibels(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.1f} dB"


def in_notebook() -> bool:
    """Whether the code runs in a notebook, which shows videos. IPython's terminal is none."""
    ipython: Any = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None
