"""The time and the memory that a block of code takes."""

import os
import threading
import time

import psutil
import torch

_MEMORY_INTERVAL = 0.05
"""Seconds between readings of the resident memory."""


class Meter:
    """Measure the wall time and the peak memory of a block."""

    seconds: float
    """Wall time of the block."""
    peak_bytes: int
    """Largest resident memory of the process, or CUDA's if that was more."""

    def __enter__(self) -> "Meter":
        """Start to measure."""
        self._start = time.perf_counter()
        self.peak_bytes = 0
        self._process = psutil.Process(os.getpid())
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        return self

    def _watch(self) -> None:
        while True:
            self.peak_bytes = max(self.peak_bytes, self._process.memory_info().rss)
            if self._stop.wait(_MEMORY_INTERVAL):
                return

    def __exit__(self, *_: object) -> None:
        """Stop to measure, and set `seconds` and `peak_bytes`."""
        self._stop.set()
        self._thread.join()
        self.seconds = time.perf_counter() - self._start
        if torch.cuda.is_available():
            self.peak_bytes = max(self.peak_bytes, torch.cuda.max_memory_allocated())
