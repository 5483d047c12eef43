"""The server of the viewer: what all browsers share."""

import contextlib
import io
import socket
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lift.outputs.viewer.access import Access, guard_servers, is_loopback, make_access
from lift.outputs.viewer.content import ViewerContent
from lift.outputs.viewer.keyframes import Keyframe
from lift.outputs.viewer.poses import covering_fov, pose_of
from lift.outputs.viewer.splats import add_splats, splat_arrays
from lift.registry import ComponentError
from lift.types import Gaussians

HOST = "127.0.0.1"
"""Address of the server, unless another one is chosen. Only this machine reaches it."""

TYPICAL_DEPTH = 10.0
"""Typical depth of a scene in the viewer's units. viser's clipping planes, its keyboard speed and
its precision fit scenes of this size."""

_BLACK = np.zeros((2, 2, 3), dtype=np.uint8)
"""Picture of the background, over which `lift` renders, too."""


class Viewer:
    """A running viewer. `start_viewer` makes one. Its methods may be called from any thread.

    Args:
        server: viser's server.
        content: What is shown.
        access: Who may read.
        host: Address of the server.
    """

    def __init__(self, server: Any, content: ViewerContent, access: Access, host: str) -> None:
        self.server = server
        """viser's server."""
        self._access = access
        self._host = host
        self._panels: dict[int, Any] = {}
        self._lock = threading.RLock()
        self._up: np.ndarray | None = None
        self.content = content
        """What is shown."""
        self.keyframes: list[Keyframe] = []
        """Keyframes of the camera path. All browsers share them."""
        self.render_lock = threading.Lock()
        """Held while `lift` renders, because renderers cannot draw two pictures at a time."""
        self.unit = TYPICAL_DEPTH / content.typical_depth
        """The viewer's units of length per scene unit."""
        # Sharing would open a public tunnel. A client can request it without the button.
        server.gui.configure_theme(show_share_button=False, show_logo=False, dark_mode=True)
        server.request_share_url = lambda *_, **__: None
        server.scene.set_background_image(_BLACK)
        server.gui.set_panel_label(content.label)
        self._draw()
        self._place_camera()
        server.on_client_connect(self._add_panel)
        server.on_client_disconnect(self._remove_panel)

    @property
    def url(self) -> str:
        """Address of the page, with the token if one is needed."""
        name = f"[{self._host}]" if ":" in self._host else self._host
        if self._access.any_address:
            name = _own_address(self._host)
        token = f"/?token={self._access.token}" if self._access.token else ""
        return f"http://{name}:{self.server.get_port()}{token}"

    def set_gaussians(self, gaussians: Gaussians, status: str | None = None) -> None:
        """Show other Gaussians in the place of the present ones. Cameras stay where they are.

        Args:
            gaussians: The scene.
            status: A line about it, as for `set_status`. None: the present one.
        """
        with self._lock:
            old = self.content
            self.content = replace(
                old,
                gaussians=gaussians,
                cameras=old.cameras if old.cameras is not None else old.input_camera,
                status=old.status if status is None else status,
            )
            self._draw()
            self._update_panels(rebuild=False)

    def set_status(self, text: str) -> None:
        """Show a line of text at the top of the panel.

        Args:
            text: The text; empty for none.
        """
        with self._lock:
            self.content = replace(self.content, status=text)
            for panel in list(self._panels.values()):
                panel.show_status()

    def set_content(self, content: ViewerContent) -> None:
        """Show another content, such as the finished run. Cameras stay where they are.

        Args:
            content: The content. Its world is that of the present one.
        """
        with self._lock:
            self.content = content
            self.server.gui.set_panel_label(content.label)
            self._draw()
            self._place_camera()
            self._update_panels(rebuild=True)

    def update_paths(self) -> None:
        """Show changed keyframes in all browsers."""
        for panel in list(self._panels.values()):
            panel.update_path()

    def wait(self) -> None:
        """Return when the user presses Ctrl-C."""
        with contextlib.suppress(KeyboardInterrupt):
            while True:
                time.sleep(3600)

    def stop(self) -> None:
        """End the server."""
        with contextlib.redirect_stdout(sys.stderr):  # viser prints messages to stdout
            self.server.stop()

    def _draw(self) -> None:
        center = self.content.input_camera.centers[0].cpu()
        add_splats(
            self.server.scene, splat_arrays(self.content.gaussians.to("cpu"), center, self.unit)
        )

    def _place_camera(self) -> None:
        """Let new browsers start at the input view."""
        camera = self.content.input_camera
        pose = pose_of(camera, self.content.orbit_distance)
        start = self.server.initial_camera
        if self._up is None or not np.allclose(self._up, pose.up):  # it moves open cameras home
            self._up = pose.up
            self.server.scene.set_up_direction(tuple(pose.up.tolist()))
        start.position = tuple((pose.position * self.unit).tolist())
        start.look_at = tuple((pose.look_at * self.unit).tolist())
        start.up = tuple(pose.up.tolist())
        start.fov = covering_fov(camera, camera.width / camera.height)

    def _add_panel(self, client: Any) -> None:
        from lift.outputs.viewer.panel import Panel

        with self._lock:
            self._panels[client.client_id] = Panel(self, client)

    def _remove_panel(self, client: Any) -> None:
        with self._lock:
            panel = self._panels.pop(client.client_id, None)
        if panel is not None:
            panel.close()

    def _update_panels(self, rebuild: bool) -> None:
        for panel in list(self._panels.values()):
            panel.update(rebuild)


def start_viewer(
    content: ViewerContent, port: int, host: str = HOST, allowed_hosts: Sequence[str] = ()
) -> Viewer:
    """Start a viewer.

    Args:
        content: What to show.
        port: Port of the server. 0 uses any free one.
        host: Address of the server. Other machines need a token, which is part of the URL.
        allowed_hosts: Names by which the server may be reached besides those of this machine.

    Raises:
        ComponentError: An address or a name cannot be used.
        ImportError: viser is not installed.
        ValueError: The port is in use.
    """
    viser = _import_viser()
    access = make_access(host, allowed_hosts)
    _check_address(host, port)
    # viser prints addresses without the token.
    with contextlib.redirect_stdout(io.StringIO()), guard_servers(access) as started:
        server = viser.ViserServer(host=host, port=port, label=content.label, verbose=False)
    if not started:  # the server of another version of viser would answer every web page
        server.stop()
        raise ImportError(
            f"lift cannot restrict who reads from viser {viser.__version__}; install another "
            "version: pip install 'viser>=1.1'"
        )
    if port and server.get_port() != port:  # it silently takes the next free one
        server.stop()
        raise _port_error(port)
    return Viewer(server, content, access, host)


def serve(
    content: ViewerContent, port: int, host: str = HOST, allowed_hosts: Sequence[str] = ()
) -> None:
    """Show a scene until interrupted. The URL is printed on stderr.

    Args:
        content: What to show.
        port: Port of the server. 0 uses any free one.
        host: Address of the server.
        allowed_hosts: Names by which the server may be reached besides those of this machine.

    Raises:
        ComponentError: An address or a name cannot be used.
        ImportError: viser is not installed.
        ValueError: The port is in use.
    """
    viewer = start_viewer(content, port, host, allowed_hosts)
    announce(viewer)
    try:
        viewer.wait()
    finally:
        viewer.stop()


def announce(viewer: Viewer) -> None:
    """Print the URL of a viewer on stderr.

    Args:
        viewer: The viewer.
    """
    print(f"{viewer.url}   Ctrl-C ends it", file=sys.stderr, flush=True)


def _import_viser() -> Any:
    """Import viser.

    Raises:
        ImportError: It is not installed, or is too old.
    """
    try:
        import viser
    except ImportError as error:
        raise ImportError(
            f"the viewer needs viser, which cannot be imported ({error}): "
            "pip install 'lift[viewer]'"
        ) from error
    return viser


def _check_address(host: str, port: int) -> None:
    """Check that the address is one of this machine, and the port is free.

    Raises:
        ComponentError: The address is none of this machine.
        ValueError: The port is in use.
    """
    if not 0 <= port <= 65535:
        raise ComponentError(f"--port is {port}; choose 0 to 65535")
    try:
        found = socket.getaddrinfo(host or " ", port, type=socket.SOCK_STREAM)[0]
        with socket.socket(found[0], found[1]) as test:
            test.bind((found[4][0], 0))
    except (OSError, UnicodeError):
        raise ComponentError(
            f"--host is {host!r}, which is no address of this machine; choose 127.0.0.1 for this "
            "machine only, 0.0.0.0 for all networks, or the address of one network"
        ) from None
    if not port:
        return
    with socket.socket(found[0], found[1]) as test:
        test.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            test.bind((found[4][0], port))
        except PermissionError:
            raise ValueError(
                f"port is {port}, which needs the rights of an administrator; choose 1024 or more"
            ) from None
        except OSError:
            raise _port_error(port) from None


def _port_error(port: int) -> ValueError:
    return ValueError(
        f"port is {port}, which another program uses; choose another with --port, or 0 for any "
        "free one"
    )


def _own_address(host: str) -> str:
    """Return the address by which other machines reach this one, as far as it can be known."""
    is_v6 = ":" in host
    target = ("2001:db8::1", 9) if is_v6 else ("192.0.2.1", 9)  # reserved; nothing is sent
    try:
        with socket.socket(socket.AF_INET6 if is_v6 else socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.connect(target)
            address = sock.getsockname()[0]
    except OSError:
        address = "::1" if is_v6 else HOST
    if is_loopback(address) and not is_v6:
        address = HOST
    return f"[{address}]" if ":" in address else address
