"""Published weights: what components need of them, and how they are read and fetched."""

from lift.weights.sources import CachedUrl, HubFiles, HubPipeline, UsesWeights, Weights, is_local

__all__ = ["CachedUrl", "HubFiles", "HubPipeline", "UsesWeights", "Weights", "is_local"]
