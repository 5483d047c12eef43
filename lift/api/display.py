"""Show a scene where the user is: in a notebook or in a browser."""

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any


def show_scene(folder: Path, port: int) -> None:
    """Show the fly-through in a notebook. Elsewhere, serve the viewer until Ctrl-C.

    Args:
        folder: Folder of a finished run.
        port: Port of the viewer.

    Raises:
        FileNotFoundError: The run has no video.
        ImportError: There is no notebook, and the viewer is not installed.
    """
    if in_notebook():
        from IPython.display import Video, display  # pyright: ignore[reportMissingImports]

        video = folder / "video.mp4"
        if not video.is_file():
            raise FileNotFoundError(f"{folder} has no video.mp4; Scene.save_renders makes one")
        display(Video(str(video), embed=True, html_attributes="controls loop autoplay muted"))
        return
    if find_spec("viser") is None:
        raise ImportError(
            "there is no notebook to show the fly-through in (pip install notebook), and no viewer "
            f"(pip install 'lift[viewer]'); the fly-through is {folder / 'video.mp4'}"
        )
    from lift.outputs.viewer import serve

    serve(folder / "gaussians.ply", port)


def in_notebook() -> bool:
    """Whether the code runs in a notebook, which shows videos. IPython's terminal is none."""
    ipython: Any = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None
