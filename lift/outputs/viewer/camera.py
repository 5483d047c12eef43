"""The camera of one browser: it follows the user within limits, or is moved by the viewer."""

import asyncio
from collections import deque
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any

import numpy as np

from lift.outputs.viewer.limits import CameraLimits
from lift.outputs.viewer.poses import Pose, covering_fov
from lift.types import Cameras

GLIDE_SECONDS = 0.5
"""Time in which the camera goes to another view."""

REST_SECONDS = 0.15
"""Time without motion after which the camera glides back within the limits."""

STEPS_PER_SECOND = 30
"""Number of poses per second of a moving camera."""

REMEMBERED = 90
"""Number of poses that are remembered. A browser reports each pose that it gets some time later."""

FREE_DISTANCE = (0.01, 1e4)
"""Limits of the distance from the orbited point in the viewer's units, where it is free. They are
viser's own."""

MIN_FOV_CHANGE = 1e-4
"""Smallest change of the field of view in radians that is sent."""


class ViewerCamera:
    """The camera of one browser, in scene units.

    Args:
        client: viser's handle of the browser.
        loop: Event loop of the server.
        home: Pose of the input view.
        picture: The input camera, one view. The window shows no more than its field of view.
        unit: The viewer's units of length per scene unit.
    """

    def __init__(
        self,
        client: Any,
        loop: asyncio.AbstractEventLoop,
        home: Pose,
        picture: Cameras,
        unit: float,
    ) -> None:
        self.home = home
        """Pose of the input view."""
        self.limits: CameraLimits | None = None
        """Limits of the camera, where the content has some."""
        self.is_limited = False
        """Whether the limits are kept."""
        self.zoom = 1.0
        """Factor on the focal length of the input camera."""
        self.user_moved: list[Any] = []
        """Functions that are called when the user moves the camera."""
        self._handle = client.camera
        self._client = client
        self._picture = picture
        self._unit = unit
        self._sent: deque[Pose] = deque(maxlen=REMEMBERED)
        self._loop: asyncio.AbstractEventLoop = loop
        self._glide: Future[None] | None = None
        self._settling: Future[None] | None = None
        self._handle.on_update(self._on_update)

    @property
    def pose(self) -> Pose:
        """The present pose."""
        camera = self._handle
        up = np.array(camera.up_direction, dtype=np.float64)
        return Pose(
            np.array(camera.position) / self._unit,
            np.array(camera.look_at) / self._unit,
            up / max(float(np.linalg.norm(up)), 1e-9),
        )

    def set_pose(self, pose: Pose) -> None:
        """Move the camera at once. Limits do not apply until the user moves it.

        Args:
            pose: The new pose.
        """
        self._sent.append(pose)
        with self._client.atomic():
            # viser moves `look_at` with `position`, so it comes after.
            self._handle.up_direction = pose.up
            self._handle.position = pose.position * self._unit
            self._handle.look_at = pose.look_at * self._unit
        self._client.flush()

    def glide_to(self, pose: Pose) -> None:
        """Move the camera smoothly.

        Args:
            pose: The pose at the end.
        """
        self.stop()
        self._glide = self.start(self._move(self.pose, pose))

    def set_limits(self, limits: CameraLimits | None) -> None:
        """Replace the limits, and keep them from now on.

        Args:
            limits: The limits; None if there are none.
        """
        self.limits = limits
        self.set_limited(limits is not None)

    def start(self, motion: Coroutine[Any, Any, None]) -> Future[None]:
        """Run a motion on the event loop.

        Args:
            motion: The motion.

        Returns:
            What cancels it.
        """
        return asyncio.run_coroutine_threadsafe(motion, self._loop)

    def stop(self) -> None:
        """End a smooth motion where it is."""
        if self._glide is not None:
            self._glide.cancel()
            self._glide = None

    def set_zoom(self, zoom: float) -> None:
        """Change the field of view.

        Args:
            zoom: Factor on the focal length of the input camera, above 0.
        """
        self.zoom = zoom
        self._update_fov()

    def set_limited(self, is_limited: bool) -> None:
        """Keep the limits, or let the camera go anywhere.

        Args:
            is_limited: Whether the limits are kept, if there are any.
        """
        self.is_limited = is_limited and self.limits is not None
        near, far = FREE_DISTANCE
        if self.is_limited and self.limits is not None:
            near, far = (value * self._unit for value in self.limits.orbit_distance)
            allowed = self.limits.clamp(pose := self.pose)
            if allowed is not pose:
                self.glide_to(allowed)
        self._handle.min_orbit_distance = FREE_DISTANCE[0]  # below any largest distance
        self._handle.max_orbit_distance = far
        self._handle.min_orbit_distance = near

    async def _move(self, start: Pose, end: Pose) -> None:
        """Move along a straight line, with gentle start and end."""
        count = max(1, round(GLIDE_SECONDS * STEPS_PER_SECOND))
        for step in range(1, count + 1):
            fraction = step / count
            self.set_pose(start.mix(end, fraction * fraction * (3 - 2 * fraction)))
            await asyncio.sleep(1 / STEPS_PER_SECOND)
        self.set_pose(end)

    async def _on_update(self, _: Any) -> None:
        """Keep the limits when the user moved the camera, and the field of view in any window."""
        self._update_fov()
        pose = self.pose
        if any(pose.is_close(sent) for sent in reversed(self._sent)):
            return  # the browser reports what it got
        self._sent.clear()
        self.stop()
        for function in self.user_moved:
            function()
        if self._settling is not None:
            self._settling.cancel()
        self._settling = self.start(self._settle())

    async def _settle(self) -> None:
        """Bring the camera back within the limits once the user has stopped moving it."""
        await asyncio.sleep(REST_SECONDS)
        self._settling = None
        self.set_limited(self.is_limited)

    def _update_fov(self) -> None:
        fov = covering_fov(self._picture, self._handle.aspect, self.zoom)
        if abs(fov - self._handle.fov) > MIN_FOV_CHANGE:
            self._handle.fov = fov
