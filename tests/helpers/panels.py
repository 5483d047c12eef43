"""The viewer's controls of one browser, without a browser."""

import asyncio
from types import SimpleNamespace
from unittest.mock import MagicMock

from lift.outputs.viewer.panel import Panel


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
