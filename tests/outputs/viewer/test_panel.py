"""The controls of one browser, without a browser."""

from unittest.mock import MagicMock

from lift.outputs.viewer.content import file_content
from tests.helpers.panels import open_panel
from tests.helpers.scenes import write_small_scene


def test_motion_of_the_user_pauses_only_the_newest_playback(tmp_path):
    panel = open_panel(file_content(write_small_scene(tmp_path)))
    panel.update(rebuild=True)
    panel.update(rebuild=True)
    panel._playback = MagicMock()
    (user_moved,) = panel.camera.user_moved
    user_moved()
    panel._playback.pause.assert_called_once()
