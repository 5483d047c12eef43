"""Play a camera path in one browser."""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

from lift.outputs.viewer.camera import STEPS_PER_SECOND, ViewerCamera
from lift.outputs.viewer.keyframes import Keyframe, nearest

REPORTS_PER_SECOND = 8
"""How often the position is reported while a path plays."""


class Playback:
    """Move a camera along a path, again and again.

    Args:
        camera: The camera.
        report: Called with the position, and with whether the path plays, when they change.
    """

    def __init__(self, camera: ViewerCamera, report: Callable[[float, bool], Any]) -> None:
        self.position = 0.0
        """Index into the path, with fractions."""
        self.speed = 1.0
        """Factor on the frames per second."""
        self._camera = camera
        self._report = report
        self._task: Future[None] | None = None

    @property
    def is_playing(self) -> bool:
        """Whether the path plays."""
        return self._task is not None and not self._task.done()

    def play(self, path: Sequence[Keyframe], fps: float, is_loop: bool = True) -> None:
        """Play a path from the present position.

        Args:
            path: Views, at least one.
            fps: Views per second at speed 1.
            is_loop: Whether the path starts again after its end.
        """
        self._cancel()
        self._camera.stop()
        if not is_loop and self.position >= len(path) - 1:
            self.position = 0.0
        self._task = self._camera.start(self._run(path, fps, is_loop))

    def pause(self) -> None:
        """Stop where the path is."""
        if self.is_playing:
            self._cancel()
            self._report(self.position, False)

    def show(self, path: Sequence[Keyframe], position: float) -> None:
        """Stop, and show a view of the path.

        Args:
            path: Views, at least one.
            position: Index into the path, with fractions.
        """
        self._cancel()
        self._camera.stop()
        self.position = position
        self._apply(nearest(path, position))

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()
            self._task = None

    def _apply(self, view: Keyframe) -> None:
        self._camera.set_pose(view.pose)
        self._camera.set_zoom(view.zoom)

    async def _run(self, path: Sequence[Keyframe], fps: float, is_loop: bool) -> None:
        reported = last = time.monotonic()
        end = len(path) if is_loop else len(path) - 1
        with suppress(asyncio.CancelledError):
            while True:
                now = time.monotonic()
                self.position += (now - last) * fps * self.speed
                last = now
                if is_loop:
                    self.position %= max(end, 1)
                self.position = min(self.position, end)
                self._apply(nearest(path, self.position))
                if self.position >= end and not is_loop:
                    break
                if now - reported > 1 / REPORTS_PER_SECOND:
                    reported = now
                    self._report(self.position, True)
                await asyncio.sleep(1 / STEPS_PER_SECOND)
            self._report(self.position, False)
