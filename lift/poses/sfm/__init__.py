"""Structure from motion: matching, mapping, bundle adjustment."""
