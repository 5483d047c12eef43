"""The report of a run: one HTML file with its pictures, film and scene inside."""

from lift.outputs.report.page import write_report

__all__ = ["write_report"]
