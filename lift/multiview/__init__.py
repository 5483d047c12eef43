"""Depth from several views at known cameras."""
