"""The controls of one browser, without a browser."""

import asyncio
from types import SimpleNamespace
from unittest.mock import MagicMock

from lift.outputs.viewer.content import file_content
from lift.outputs.viewer.panel import Panel
from tests.helpers.scenes import write_small_scene


def open_panel(content) -> Panel:
    """Return the controls of a browser that shows nothing."""
    client = MagicMock()
    client.camera = SimpleNamespace(
        position=(0.0, 0.0, 0.0),
        look_at=(0.0, 0.0, 1.0),
        up_direction=(0.0, -1.0, 0.0),
        aspect=1.5,
        fov=1.0,
        on_update=lambda function: None,
    )
    viewer = MagicMock(content=content, unit=1.0, keyframes=[])
    viewer.server.get_event_loop.return_value = MagicMock(asyncio.AbstractEventLoop)
    return Panel(viewer, client)


def test_motion_of_the_user_pauses_only_the_newest_playback(tmp_path):
    panel = open_panel(file_content(write_small_scene(tmp_path)))
    panel.update(rebuild=True)
    panel.update(rebuild=True)
    panel._playback = MagicMock()
    (user_moved,) = panel.camera.user_moved
    user_moved()
    panel._playback.pause.assert_called_once()
