"""Show a finished scene in the browser. The server accepts connections from this machine only.

`lift.outputs.viewer_access` keeps out web pages, which could otherwise read the scene.
"""

import contextlib
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from lift.geometry import quat_to_rotation, rotation_to_quat
from lift.io.splats import read_ply
from lift.outputs.viewer_access import guard_servers, parse_allowed_hosts
from lift.spherical_harmonics import C0

HOST = "127.0.0.1"
"""Address of the server."""

_COLORS = ((217, 98, 43), (47, 111, 222))
"""Colours of the input's frustum and of the others."""


def serve(ply: Path, port: int, allowed_hosts: Sequence[str] = ()) -> None:
    """Show Gaussians and the cameras of a transforms.json beside them until interrupted.

    The URL is printed on stderr.

    Args:
        ply: PLY file of the Gaussians.
        port: Port of the server. 0 uses any free one.
        allowed_hosts: Names by which the server may be reached besides those of this machine,
            such as that of a proxy.

    Raises:
        ImportError: viser is not installed.
        ValueError: The port is in use.
    """
    with contextlib.redirect_stdout(sys.stderr):  # viser prints messages to stdout
        server = start(ply, port, allowed_hosts)
        print(f"http://{HOST}:{server.get_port()}   Ctrl-C ends it", flush=True)
        try:
            server.sleep_forever()
        except KeyboardInterrupt:
            pass  # Ctrl-C ends the server
        finally:
            server.stop()


def start(ply: Path, port: int, allowed_hosts: Sequence[str] = ()):
    """Start the server.

    Args:
        ply: PLY file of the Gaussians.
        port: Port of the server. 0 uses any free one.
        allowed_hosts: Names by which the server may be reached besides those of this machine.

    Returns:
        The running `viser.ViserServer`.

    Raises:
        ImportError: viser is not installed.
        ValueError: The port is in use.
    """
    try:
        import viser
    except ImportError as error:
        raise ImportError(
            f"the viewer needs viser, which cannot be imported ({error}): "
            "pip install 'lift[viewer]'"
        ) from error

    allowed = parse_allowed_hosts(allowed_hosts)
    gaussians = read_ply(ply)
    label = ply.resolve().parent.name
    with guard_servers(allowed) as started:
        server = viser.ViserServer(host=HOST, port=port, label=label, verbose=False)
    if not started:  # the server of another version of viser would answer every web page
        server.stop()
        raise ImportError(
            f"lift cannot restrict who reads from viser {viser.__version__}; install another "
            "version: pip install 'viser>=1.0'"
        )
    if port and server.get_port() != port:  # it silently takes the next free one
        server.stop()
        raise ValueError(
            f"port is {port}, which another program uses; choose another with --port, or 0 for "
            "any free one"
        )
    # Sharing would open a public tunnel. A client can request it without the button.
    server.gui.configure_theme(show_share_button=False)
    server.request_share_url = lambda *_, **__: None
    axes = quat_to_rotation(gaussians.quats) * gaussians.scales[:, None]
    server.scene.set_up_direction("-y")
    server.scene.add_gaussian_splats(
        "/gaussians",
        centers=gaussians.means.numpy(),
        covariances=(axes @ axes.mT).numpy(),
        rgbs=(gaussians.sh_coeffs[:, 0] * C0 + 0.5).clamp(0, 1).numpy(),
        opacities=gaussians.opacities[:, None].numpy(),
    )
    typical = float(gaussians.means[:, 2].median().abs().clamp(min=1e-3))
    server.initial_camera.position = (0.0, 0.0, 0.0)
    server.initial_camera.look_at = (0.0, 0.0, typical)
    server.initial_camera.up = (0.0, -1.0, 0.0)
    if (cameras := ply.parent / "transforms.json").is_file():
        _add_cameras(server, json.loads(cameras.read_text(encoding="utf-8")), typical)
    return server


def _add_cameras(server, transforms: dict, typical: float) -> None:
    """Add frustums of a transforms.json, which a checkbox shows and hides.

    The file has camera to world with axes x right, y up, z back. Its first frame sets the field of
    view.
    """
    frustums = []
    flip = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    for number, frame in enumerate(transforms["frames"]):
        focal, height, width = (
            float(frame.get(key, transforms.get(key))) for key in ("fl_y", "h", "w")
        )
        to_world = torch.tensor(frame["transform_matrix"])
        angle = 2 * math.atan(height / 2 / focal)
        if number == 0:
            server.initial_camera.fov = angle
        handle = server.scene.add_camera_frustum(
            f"/cameras/{number:06d}",
            fov=angle,
            aspect=width / height,
            scale=0.04 * typical,
            color=_COLORS[number > 0],
            wxyz=rotation_to_quat(to_world[:3, :3] @ flip).numpy(),
            position=to_world[:3, 3].numpy(),
            visible=False,  # the first view is from inside one
        )
        frustums.append(handle)
    checkbox = server.gui.add_checkbox("cameras of the frames", initial_value=False)

    @checkbox.on_update
    def _(_) -> None:
        for frustum in frustums:
            frustum.visible = checkbox.value
