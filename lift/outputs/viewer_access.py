"""Decide which requests a server on the loopback device answers.

Every web page that the user opens can send requests to 127.0.0.1. Three rules keep pages out:

- Host: a page can give its own domain name the address 127.0.0.1 (DNS rebinding). Then its
  requests name that domain, and not this machine, as their host.
- Origin: browsers let any page open a WebSocket to any host, but they state the page's origin.
- Frames: a page can show the viewer in a frame and lead the user's clicks to it. Headers of each
  answer forbid this.
"""

import http
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from lift.registry import ComponentError

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
"""Names of this machine by which a browser on it reaches the server."""


def parse_allowed_hosts(names: Sequence[str]) -> tuple[str, ...]:
    """Check host names that the user allows, such as that of a proxy.

    Args:
        names: Names or addresses, without scheme and port.

    Returns:
        The names in lower case.

    Raises:
        ComponentError: It is no name of a host.
    """
    for name in names:
        is_plain = not set(name) & set("/@*?# \t") and name.isprintable()
        if not name or not is_plain or (":" in name and name.count(":") < 2):
            raise ComponentError(
                f"--allow-host is {name!r}; give the name of a host alone, such as "
                "viewer.example.org"
            )
    return tuple(name.lower().rstrip(".") for name in names)


def rejection(
    hosts: Sequence[str], origins: Sequence[str], allowed: Sequence[str] = ()
) -> str | None:
    """Say why a request is refused.

    Args:
        hosts: Values of the header Host.
        origins: Values of the header Origin. Programs other than browsers send none.
        allowed: Names of hosts that are allowed besides this machine's.

    Returns:
        The reason; None if the request may be answered.
    """
    if len(hosts) != 1 or len(origins) > 1:
        return "a request needs one Host and at most one Origin"
    host = _host_name(f"//{hosts[0]}")
    if host not in (*LOOPBACK_NAMES, *allowed):
        return "the host is not this machine; lift view --allow-host NAME allows another one"
    if not origins:
        return None
    is_same = _origin_host(origins[0]) == hosts[0].lower()
    if is_same or _host_name(origins[0]) in allowed:
        return None
    return "the page that sends the request has another origin than the viewer"


def _origin_host(origin: str) -> str | None:
    """Return host and port of an origin of http or https; None of any other."""
    try:
        parts = urlsplit(origin)
    except ValueError:
        return None
    return parts.netloc.lower() if parts.scheme in ("http", "https") else None


def _host_name(url: str) -> str | None:
    """Return the host of a URL in lower case, without port and final dot."""
    try:
        parts = urlsplit(url)
        name = parts.hostname
        _ = parts.port  # fails if it is no number
    except ValueError:
        return None
    if name is None or "@" in parts.netloc:
        return None
    return name.rstrip(".")


def frame_headers(allowed: Sequence[str] = ()) -> dict[str, str]:
    """Return the headers that keep pages of others from showing an answer in a frame.

    Args:
        allowed: Names of hosts whose pages may show it, as `parse_allowed_hosts` returns them.
    """
    names = [name for name in allowed if ":" not in name]  # the header cannot hold IPv6 addresses
    if not names:
        return {"Content-Security-Policy": "frame-ancestors 'none'", "X-Frame-Options": "DENY"}
    ancestors = " ".join(f"http://{name}:* https://{name}:*" for name in names)
    return {"Content-Security-Policy": f"frame-ancestors {ancestors}"}


@contextmanager
def guard_servers(allowed: Sequence[str]) -> Iterator[list[bool]]:
    """Let servers of `websockets` that start within the block refuse foreign requests.

    viser has no setting for this and starts its server when it is constructed.

    Args:
        allowed: Names of hosts that are allowed besides this machine's.

    Yields:
        A list that has an item for each server that started.
    """
    from websockets.asyncio import server as websockets_server

    original = websockets_server.serve
    started: list[bool] = []

    def serve(*arguments: Any, process_request: Any = None, **options: Any) -> Any:
        guarded = _guarded(process_request, allowed)
        started.append(True)
        return original(*arguments, process_request=guarded, **options)

    websockets_server.serve = serve  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield started
    finally:
        websockets_server.serve = original


def _guarded(process_request: Any, allowed: Sequence[str]) -> Callable[[Any, Any], Any]:
    """Return a handler that refuses foreign requests and passes on the others."""

    async def handle(connection: Any, request: Any) -> Any:
        headers = request.headers
        reason = rejection(headers.get_all("Host"), headers.get_all("Origin"), allowed)
        if reason is not None:
            answer = connection.respond(http.HTTPStatus.FORBIDDEN, f"{reason}\n")
        else:
            answer = process_request(connection, request) if process_request else None
            if inspect.isawaitable(answer):
                answer = await answer
        if answer is not None:  # else the request opens a WebSocket
            answer.headers.update(frame_headers(allowed))
        return answer

    return handle
