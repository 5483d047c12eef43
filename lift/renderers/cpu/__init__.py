"""Compiled loops of the CPU renderer."""
