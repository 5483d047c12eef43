"""Tests of `lift.outputs.films`."""
