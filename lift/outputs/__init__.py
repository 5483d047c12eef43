"""What a run delivers: scene files, measurements, report and viewer."""
