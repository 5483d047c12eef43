"""The controls that one browser shows."""

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from lift.outputs.viewer.camera import ViewerCamera
from lift.outputs.viewer.frames_tab import FramesTab
from lift.outputs.viewer.html import limit_controls, note
from lift.outputs.viewer.keyframes import Keyframe, camera_views
from lift.outputs.viewer.limits import CameraLimits
from lift.outputs.viewer.overlay import Overlay
from lift.outputs.viewer.path_tab import PathTab
from lift.outputs.viewer.playback import Playback
from lift.outputs.viewer.poses import pose_of

if TYPE_CHECKING:
    from lift.outputs.viewer.server import Viewer

MAX_ZOOM = 4.0
"""Largest factor on the focal length of the input camera."""

MIN_ZOOM = 0.5
"""Smallest factor, where the camera may go anywhere. Within the limits it is 1."""

SPEEDS = ("0.25", "0.5", "1", "2", "4")
"""Speeds of the fly-through."""

DEFAULT_FPS = 24.0
"""Views of the fly-through per second, if the settings of the run do not tell."""


class Panel:
    """The controls and the camera of one browser.

    Args:
        viewer: The viewer.
        client: viser's handle of the browser.
    """

    def __init__(self, viewer: "Viewer", client: Any) -> None:
        self.viewer = viewer
        """The viewer."""
        self.client = client
        """viser's handle of the browser."""
        content = viewer.content
        home = pose_of(content.input_camera, content.orbit_distance)
        loop = viewer.server.get_event_loop()
        self.camera = ViewerCamera(client, loop, home, content.input_camera, viewer.unit)
        """The camera of the browser."""
        self.camera.set_pose(home)
        self.overlay = Overlay(self)
        """What the Gaussians show."""
        self._build()
        self.camera.user_moved.append(self.pause)

    def update(self, rebuild: bool) -> None:
        """Show what has changed.

        Args:
            rebuild: Whether there is another content, and not only other Gaussians.
        """
        if rebuild:
            self.call(self._playback.pause)
            self.client.gui.reset()
            self._path_tab.close()
            self._build()
            return
        self.show_status()
        self.overlay.refresh()

    def update_path(self) -> None:
        """Show the keyframes, which all browsers share."""
        self._path_tab.refresh()

    def close(self) -> None:
        """End all motions. The browser is gone."""
        self.call(self._playback.pause)
        self.call(self.camera.stop)

    def call(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Call a function on the event loop of the server, soon.

        Args:
            function: The function.
            *arguments: Its arguments.
        """
        loop = self.viewer.server.get_event_loop()
        if not loop.is_closed():
            loop.call_soon_threadsafe(function, *arguments)

    def on_loop(self, function: Callable[[Any], Any]) -> Callable[[Any], Coroutine[Any, Any, None]]:
        """Return a callback for viser that calls a function on the event loop.

        Args:
            function: Takes the event.
        """

        async def callback(event: Any) -> None:
            if event.client is not None:  # else the server has set the value
                function(event)

        return callback

    def go_home(self) -> None:
        """Go to the input view. Called on the event loop."""
        self._playback.pause()
        self.camera.set_zoom(1.0)
        self._zoom.value = 1.0
        self.camera.glide_to(self.camera.home)

    def play(self, path: list[Keyframe], fps: float, is_loop: bool) -> None:
        """Play a path other than the fly-through, from its start. Called on the event loop.

        Args:
            path: Views, at least one.
            fps: Views per second.
            is_loop: Whether the path starts again after its end.
        """
        self._playback.position = 0.0
        self._is_fly_through = False
        self._playback.play(path, fps, is_loop)

    def pause(self) -> None:
        """Stop what plays. Called on the event loop."""
        self._playback.pause()

    def _build(self) -> None:
        """Add all controls."""
        content = self.viewer.content
        region = content.region
        camera = self.camera
        camera.home = pose_of(content.input_camera, content.orbit_distance)
        camera.set_limits(CameraLimits(region, content.input_camera) if region else None)
        self._is_fly_through = True
        gui = self.client.gui
        self._status = gui.add_html("", visible=False)
        self._mouse_limits = gui.add_html("")
        self._limit_mouse()
        self.show_status()
        self._add_view_controls(gui)
        self._playback = Playback(camera, self._report)
        if content.fly_through is not None:
            self._add_playback(gui)
        self.overlay.build(gui)
        tabs = gui.add_tab_group()
        self.frames_tab = None
        if content.cameras is not None:
            with tabs.add_tab("Frames"):
                self.frames_tab = FramesTab(self)
        with tabs.add_tab("Path"):
            self._path_tab = PathTab(self)

    def _add_view_controls(self, gui: Any) -> None:
        """Add what moves the camera: home, limits and zoom."""
        home = gui.add_button("Home", icon="home", hint="Go back to the input view (key H)")
        home.on_click(self.on_loop(lambda _: self.go_home()))
        command = gui.add_command("Home", description="Go to the input view", hotkey="H")
        command.on_trigger(self.on_loop(lambda _: self.go_home()))
        limit = gui.add_checkbox(
            "Stay where frames looked",
            self.camera.is_limited,
            visible=self.camera.limits is not None,
            hint="Beyond, views show surfaces that no frame observed: holes and smears",
        )
        self._zoom = gui.add_slider(
            "Zoom",
            1.0 if self.camera.is_limited else MIN_ZOOM,
            MAX_ZOOM,
            0.05,
            1.0,
            hint="Focal length, as a multiple of the input's",
        )

        def set_limited(event: Any) -> None:
            is_limited = event.target.value
            self.camera.set_limited(is_limited)
            self._limit_mouse()
            self._zoom.min = 1.0 if is_limited else MIN_ZOOM
            if is_limited and self._zoom.value < 1:
                self._zoom.value = 1.0
                self.camera.set_zoom(1.0)

        limit.on_update(self.on_loop(set_limited))
        self._zoom.on_update(self.on_loop(lambda event: self.camera.set_zoom(event.target.value)))

    def _add_playback(self, gui: Any) -> None:
        """Add the controls of the fly-through."""
        content = self.viewer.content
        assert content.fly_through is not None, "there is something to play"
        focal = float(content.input_camera.intrinsics[0, 0, 0])
        path = camera_views(content.fly_through, content.orbit_distance, focal)
        fps = _fps(content.run)
        with gui.add_folder("Fly-through"):
            self._play_button = gui.add_button("Play", icon="player-play", hint="Key P")
            self._slider = gui.add_slider("Time (s)", 0.0, len(path) / fps, 0.01, 0.0)
            speed = gui.add_dropdown("Speed", SPEEDS, initial_value="1")
        self._fps = fps

        def toggle(_: Any) -> None:
            if self._playback.is_playing:
                self._playback.pause()
                return
            if not self._is_fly_through:
                self._is_fly_through = True
                self._playback.position = self._slider.value * fps
            self._playback.play(path, fps)

        def scrub(event: Any) -> None:
            self._is_fly_through = True
            self._playback.show(path, min(event.target.value * fps, len(path)))
            self._report(self._playback.position, False)

        def set_speed(event: Any) -> None:
            self._playback.speed = float(event.target.value)

        self._play_button.on_click(self.on_loop(toggle))
        self._slider.on_update(self.on_loop(scrub))
        speed.on_update(self.on_loop(set_speed))
        command = gui.add_command("Play or pause the fly-through", hotkey="P")
        command.on_trigger(self.on_loop(toggle))

    def _report(self, position: float, is_playing: bool) -> None:
        """Show how far the fly-through is."""
        self._path_tab.show_nodes(not is_playing)
        if self.viewer.content.fly_through is None:
            return
        is_shown = is_playing and self._is_fly_through
        label = "Pause" if is_shown else "Play"
        if self._play_button.label != label:
            self._play_button.label = label
            self._play_button.icon = "player-pause" if is_shown else "player-play"
        if self._is_fly_through:
            self._slider.value = min(position / self._fps, self._slider.max)

    def _limit_mouse(self) -> None:
        """Let the browser stop the mouse at the limits."""
        limits = self.camera.limits
        if limits is None or not self.camera.is_limited:
            self._mouse_limits.content = limit_controls(None, (0.0, 0.0), 0.0)
            return
        # Along the diagonal of the box, the shift is that of the limits.
        pan = limits.pan * self.viewer.unit / 3**0.5
        region = limits.region
        self._mouse_limits.content = limit_controls(region.azimuth, region.elevation, pan)

    def show_status(self) -> None:
        """Show the status of the viewer."""
        text = self.viewer.content.status
        self._status.content = note(text)
        self._status.visible = bool(text)


def _fps(run: Any) -> float:
    """Return the views of the fly-through per second."""
    if run is None:
        return DEFAULT_FPS
    export = run.settings.get("export", {})
    film = export.get("film", {}) if isinstance(export, dict) else {}
    value = film.get("fps", export.get("fps", DEFAULT_FPS))
    return float(value) if isinstance(value, (int, float)) and value > 0 else DEFAULT_FPS
