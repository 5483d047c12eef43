"""Colours of the pictures that CLIP sees."""

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
"""Mean of each colour channel that CLIP's pictures are normalised with."""
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
"""Their standard deviation."""
