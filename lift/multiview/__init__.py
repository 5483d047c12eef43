"""Multi-view geometry: depth alignment and stereo."""
