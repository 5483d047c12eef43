"""Rendering a picture from another view by its depth, and filling what comes into view."""
