"""The viewer: a scene in the browser, with the frames it was made from."""

from lift.outputs.viewer.content import ViewerContent, file_content, run_content
from lift.outputs.viewer.server import HOST, Viewer, announce, serve, start_viewer

__all__ = [
    "HOST",
    "Viewer",
    "ViewerContent",
    "announce",
    "file_content",
    "run_content",
    "serve",
    "start_viewer",
]
