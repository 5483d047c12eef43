"""The tab of the camera path: record keyframes, look at the path, and save it."""

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lift.errors import format_error, raise_for_python
from lift.geometry import rotation_to_quat
from lift.io.names import safe_name
from lift.outputs.viewer.commands import render_command, run_command
from lift.outputs.viewer.html import command, note
from lift.outputs.viewer.keyframes import Keyframe, path_cameras, smooth_path, write_path
from lift.outputs.viewer.poses import camera_at, covering_fov

if TYPE_CHECKING:
    from lift.outputs.viewer.panel import Panel

GO = "go"
REPLACE = "replace"
EARLIER = "earlier"
LATER = "later"
DELETE = "delete"

ACTIONS = (GO, REPLACE, EARLIER, LATER, DELETE)
"""What can be done with a keyframe."""

NO_KEYFRAME = "none yet"
"""What the list shows without keyframes."""

FPS = 24
"""Views of a path per second."""

MAX_SECONDS = 60.0
"""Longest path in seconds."""

DIRECTIONS = {
    "forward": (0.0, 0.0, 1.0),
    "back": (0.0, 0.0, -1.0),
    "left": (-1.0, 0.0, 0.0),
    "right": (1.0, 0.0, 0.0),
    "up": (0.0, -1.0, 0.0),
    "down": (0.0, 1.0, 0.0),
}
"""Direction of a new clip in the axes of the present camera: x right, y down, z forward."""

EXTENSION = "extension"
"""Name of the file with the path of a new clip."""

MIN_FRAMES = 8
MAX_FRAMES = 48
"""Limits of the number of frames that a command generates."""

_NODE = "/path"
_LINE_COLOR = (255, 190, 40)
_LINE_POINTS = 120


class PathTab:
    """Controls of the camera path. All browsers share the keyframes.

    Args:
        panel: The controls of the browser. Controls are added to its open container.
    """

    def __init__(self, panel: "Panel") -> None:
        self._panel = panel
        self._viewer = panel.viewer
        self._nodes: list[Any] = []
        gui = panel.client.gui
        self._add_list(gui)
        self._add_file(gui)
        self._add_extension(gui)
        self.refresh()

    def close(self) -> None:
        """Remove the path from the scene."""
        for node in self._nodes:
            node.remove()
        self._nodes = []

    def show_nodes(self, is_shown: bool) -> None:
        """Show or hide the path in the scene, which is hidden while it plays.

        Args:
            is_shown: Whether it is shown.
        """
        for node in self._nodes:
            node.visible = is_shown

    def refresh(self) -> None:
        """Show the keyframes of the viewer."""
        count = len(self._keyframes)
        index = self._index
        options = [str(number + 1) for number in range(count)] or [NO_KEYFRAME]
        self._list.options = options
        self._list.value = options[min(max(index, 0), max(count - 1, 0))]
        self._actions.visible = count > 0
        self._preview.disabled = count < 2 and not self._from_input.value
        self._draw()

    @property
    def _keyframes(self) -> list[Keyframe]:
        return self._viewer.keyframes

    @property
    def _index(self) -> int:
        """Index of the chosen keyframe; -1 if there is none."""
        value = self._list.value
        return -1 if value == NO_KEYFRAME else int(value) - 1

    @property
    def _path(self) -> list[Keyframe]:
        """The keyframes of the path, with the input view if it is chosen."""
        home = [Keyframe(self._panel.camera.home)]
        return [*(home if self._from_input.value else []), *self._keyframes]

    def _present(self) -> Keyframe:
        """Return the present view as a keyframe."""
        return Keyframe(self._panel.camera.pose, self._panel.camera.zoom)

    def _add_list(self, gui: Any) -> None:
        """Add what records and changes keyframes."""
        add = gui.add_button("Add keyframe", icon="plus", hint="Record the present view (key K)")
        self._list = gui.add_dropdown("Keyframe", [NO_KEYFRAME], initial_value=NO_KEYFRAME)
        self._actions = gui.add_button_group("Chosen one", ACTIONS, visible=False)

        def record(_: Any) -> None:
            self._keyframes.insert(self._index + 1, self._present())
            self._changed(self._index + 1)

        add.on_click(self._panel.on_loop(record))
        shortcut = gui.add_command("Add a keyframe at the present view", hotkey="K")
        shortcut.on_trigger(self._panel.on_loop(record))
        self._actions.on_click(self._panel.on_loop(lambda event: self._act(event.target.value)))

    def _act(self, action: str) -> None:
        """Do something with the chosen keyframe."""
        index = self._index
        keyframes = self._keyframes
        if not 0 <= index < len(keyframes):
            return
        if action == GO:
            self._panel.pause()
            self._panel.camera.set_zoom(keyframes[index].zoom)
            self._panel.camera.glide_to(keyframes[index].pose)
            return
        if action == REPLACE:
            keyframes[index] = self._present()
        elif action == DELETE:
            del keyframes[index]
            index = max(index - 1, 0)
        else:
            other = index + (1 if action == LATER else -1)
            if not 0 <= other < len(keyframes):
                return
            keyframes[index], keyframes[other] = keyframes[other], keyframes[index]
            index = other
        self._changed(index)

    def _changed(self, index: int) -> None:
        """Show changed keyframes in all browsers, and choose one in this browser."""
        if self._keyframes:
            self._list.options = [str(number + 1) for number in range(len(self._keyframes))]
            self._list.value = str(index + 1)
        self._viewer.update_paths()

    def _add_file(self, gui: Any) -> None:
        """Add what previews and saves the path."""
        self._from_input = gui.add_checkbox(
            "Start at the input view", True, hint="planner=path needs it; a render does not"
        )
        self._loop = gui.add_checkbox("Return to the start", False)
        self._seconds = gui.add_slider("Seconds", 1.0, MAX_SECONDS, 0.5, 6.0)
        self._preview = gui.add_button("Preview the path", icon="player-play")
        self._name = gui.add_text("File name", "path")
        save = gui.add_button("Save", icon="device-floppy", hint="Write JSON beside the scene")
        download = gui.add_button("Download", icon="download", hint="Save JSON by the browser")
        self._saved = gui.add_html("")
        panel = self._panel

        def preview(_: Any) -> None:
            panel.play(self._views(), FPS, self._loop.value)

        self._preview.on_click(panel.on_loop(preview))
        redraw = panel.on_loop(lambda _: self.refresh())
        self._from_input.on_update(redraw)
        self._loop.on_update(redraw)
        save.on_click(lambda _: self._save())
        download.on_click(lambda _: self._download())

    def _views(self) -> list[Keyframe]:
        count = max(2, round(self._seconds.value * FPS))
        return smooth_path(self._path, count, self._loop.value)

    def _save(self) -> None:
        """Write the path, and show the commands that use it."""
        if not self._path:
            self._saved.content = note("There is no keyframe yet: add one first.")
            return
        content = self._viewer.content
        picture = content.input_camera
        try:
            path = write_path(
                content.folder or Path(), self._name.value, path_cameras(self._views(), picture)
            )
        except OSError as error:
            self._saved.content = note(format_error(error))
            return
        parts = [note(f"Saved {path}")]
        if content.run is not None:
            parts += [note("Render it:"), command(render_command(content.folder or Path(), path))]
            parts.append(self._run_part(path))
        self._saved.content = "".join(parts)

    def _run_part(self, path: Path) -> str:
        """Return the command that generates frames along a path, as HTML."""
        if not self._from_input.value:
            return note("For frames along the path (planner=path), let it start at the input view.")
        return note("Make a new scene, with frames along it:") + self._run_command(path)

    def _run_command(self, path: Path) -> str:
        run = self._viewer.content.run
        frames = min(max(len(run.cameras) - 1, MIN_FRAMES), MAX_FRAMES)
        try:
            with raise_for_python():
                return command(run_command(run.settings, path, frames))
        except (ImportError, OSError, ValueError) as error:
            return note(f"The settings of this run cannot be used: {format_error(error)}")

    def _download(self) -> None:
        """Let the browser save the path."""
        if not self._path:
            self._saved.content = note("There is no keyframe yet: add one first.")
            return
        cameras = path_cameras(self._views(), self._viewer.content.input_camera)
        with tempfile.TemporaryDirectory(prefix="lift-") as folder:
            data = write_path(Path(folder), "path", cameras).read_bytes()
        assert json.loads(data), "the file is JSON"
        name = f"{safe_name(self._name.value.strip(), 'path')}.json"
        self._panel.client.send_file_download(name, data, save_immediately=True)

    def _add_extension(self, gui: Any) -> None:
        """Add what continues the scene from the present camera."""
        if self._viewer.content.run is None:
            return
        with gui.add_folder("Continue from this camera", expand_by_default=False):
            gui.add_html(
                note(
                    "Writes a path from the input view to this camera and on, and the command "
                    "that makes a new scene with generated frames along it."
                )
            )
            direction = gui.add_dropdown("Go on", tuple(DIRECTIONS), initial_value="forward")
            length = gui.add_slider("By (% of the depth)", 5, 50, 5, 20)
            write = gui.add_button("Write the command", icon="terminal-2")
            result = gui.add_html("")

        @write.on_click
        def _(_: Any) -> None:
            result.content = self._extend(direction.value, length.value / 100)

    def _extend(self, direction: str, length: float) -> str:
        """Write the path of a new clip, and return the command as HTML."""
        content = self._viewer.content
        present = self._present()
        matrix = camera_at(present.pose, content.input_camera).world_to_camera[0, :3, :3]
        step = length * content.typical_depth * (np.array(DIRECTIONS[direction]) @ matrix.numpy())
        pose = present.pose
        end = Keyframe(type(pose)(pose.position + step, pose.look_at + step, pose.up), present.zoom)
        keyframes = [Keyframe(self._panel.camera.home), present, end]
        views = smooth_path(keyframes, MAX_FRAMES + 1)
        cameras = path_cameras(views, content.input_camera)
        try:
            path = write_path(content.folder or Path(), EXTENSION, cameras)
        except OSError as error:
            return note(format_error(error))
        return self._run_command(path)

    def _draw(self) -> None:
        """Draw the path and its keyframes."""
        self.close()
        keyframes = self._path
        if len(keyframes) < 2:
            return
        unit = self._viewer.unit
        scene = self._panel.client.scene
        views = smooth_path(keyframes, _LINE_POINTS, self._loop.value)
        points = np.stack([view.pose.position for view in views]) * unit
        if self._loop.value:
            points = np.concatenate([points, points[:1]])
        segments = np.stack([points[:-1], points[1:]], axis=1)
        self._nodes = [
            scene.add_line_segments(
                f"{_NODE}/line", segments, _LINE_COLOR, thickness=2.0, thickness_units="screen"
            )
        ]
        picture = self._viewer.content.input_camera
        aspect = picture.width / picture.height
        for number, keyframe in enumerate(self._keyframes):
            camera = camera_at(keyframe.pose, picture)
            self._nodes.append(
                scene.add_camera_frustum(
                    f"{_NODE}/{number}",
                    fov=covering_fov(picture, aspect, keyframe.zoom),
                    aspect=aspect,
                    scale=0.03 * self._viewer.content.typical_depth * unit,
                    color=_LINE_COLOR,
                    thickness=2.0,
                    thickness_units="screen",
                    wxyz=rotation_to_quat(camera.camera_to_world[0, :3, :3]).numpy(),
                    position=keyframe.pose.position * unit,
                )
            )
