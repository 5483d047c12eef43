"""The report of a run: one HTML file with its pictures, film and scene inside."""

from lift.outputs.report.media import EmbeddedScene, embed_scene
from lift.outputs.report.page import write_report

__all__ = ["EmbeddedScene", "embed_scene", "write_report"]
