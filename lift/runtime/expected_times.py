"""Expected times of the stages of a run, from earlier runs, and their sum."""

from collections.abc import Mapping
from pathlib import Path
from statistics import median

FOUND = "found in the cache"
"""What is said of a finished stage."""

UNKNOWN = "time unknown"
"""What is said of a stage that never ran with this size, number of frames and settings."""


class ExpectedTimes:
    """Times of stages. Each one that is described counts in the sum.

    Args:
        earlier: Seconds that the same stages took in earlier runs, by name.
        found: Number of finished stages by name.
        cache: Folder of the finished stages.
    """

    def __init__(
        self, earlier: Mapping[str, list[float]], found: Mapping[str, int], cache: Path
    ) -> None:
        self._earlier = earlier
        self._found = found
        self._cache = cache
        self._seconds = 0.0
        self._unknown: list[str] = []

    def describe(self, stage: str, count: int = 1, processes: int = 1) -> str:
        """Describe the time of like stages, or say that the cache has them.

        Args:
            stage: Name of the stages.
            count: Their number.
            processes: How many of them are made at the same time.

        Returns:
            The time, or that it is unknown.
        """
        cached = min(self._found.get(stage, 0), count)
        if cached == count:
            return FOUND
        time = self._describe_missing(stage, -(-(count - cached) // processes))
        return f"{cached} of {count} {FOUND}; {time} for the others" if cached else time

    def _describe_missing(self, stage: str, rounds: int) -> str:
        """Describe the time of stages that have to be computed one after the other."""
        if stage not in self._earlier:
            self._unknown.append(stage)
            return UNKNOWN
        single = median(self._earlier[stage])
        self._seconds += single * rounds
        each = " each" if rounds > 1 else ""
        total = format_seconds(single * rounds)
        return f"about {total}, as it took {format_seconds(single)}{each} before"

    def total(self) -> str:
        """Describe the sum of the times that were described, and name those that are unknown."""
        known = format_seconds(self._seconds)
        if not self._unknown:
            return f"about {known}, besides the delivery" if self._seconds else "only the delivery"
        names = self._unknown
        listed = " and ".join([", ".join(names[:-1]), names[-1]] if names[1:] else names)
        reason = (
            f"{self._cache} has none that this machine made with this size, number of frames and "
            "settings"
        )
        if not self._seconds:
            return f"{UNKNOWN}: {reason}"
        return f"at least {known}; {UNKNOWN} for {listed}: {reason}"


def format_seconds(seconds: float) -> str:
    """Format a time.

    Args:
        seconds: The time in seconds.
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours"
