"""Constants of the structural similarity index (Wang et al., 2004, equations 11 to 13)."""

import numpy as np

C1 = 0.01**2
"""Stabiliser of the luminance term, for values in [0, 1]."""
C2 = 0.03**2
"""Stabiliser of the contrast term, for values in [0, 1]."""

_OFFSETS = np.arange(-5, 6)
_WEIGHTS = np.exp(-(_OFFSETS**2) / 4.5)

WINDOW = (_WEIGHTS / _WEIGHTS.sum()).astype(np.float32)
"""Gaussian window of 11 taps and a standard deviation of 1.5 pixels; it sums to 1."""
