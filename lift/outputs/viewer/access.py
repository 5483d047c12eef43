"""Decide which requests the viewer answers.

Every web page that the user opens can send requests to 127.0.0.1. Three rules keep pages out:

- Host: a page can give its own domain name the address of the viewer (DNS rebinding). Then its
  requests name that domain, and not this machine, as their host.
- Origin: browsers let any page open a WebSocket to any host, but they state the page's origin.
- Frames: a page can show the viewer in a frame and lead the user's clicks to it. Headers of each
  answer forbid this.

A viewer that other machines reach has a fourth rule. Each request needs a secret token: as
`?token=` of the URL, or as the cookie that the first answer sets.
"""

import hashlib
import hmac
import http
import inspect
import ipaddress
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from lift.registry import ComponentError

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
"""Names of this machine by which a browser on it reaches the server."""

TOKEN_BYTES = 24
"""Random bytes of a token."""

_NO_TOKEN = "this viewer needs a token; open the URL that lift view printed"


@dataclass(frozen=True)
class Access:
    """Who may read from a viewer."""

    hosts: tuple[str, ...] = ()
    """Names of hosts that requests may name besides those of this machine, in lower case."""
    any_address: bool = False
    """Whether requests may name any IP address as their host. No page can rebind an address."""
    token: str | None = field(default=None, repr=False)
    """Secret that each request needs. None: no request needs one."""

    @property
    def cookie(self) -> str:
        """Name of the cookie with the token. It differs between viewers of one machine."""
        return f"lift_view_{hashlib.sha256((self.token or '').encode()).hexdigest()[:8]}"

    def accepts(self, token: str) -> bool:
        """Whether a token is the right one. The comparison takes the same time for all tokens."""
        return self.token is None or hmac.compare_digest(token.encode(), self.token.encode())


def is_loopback(host: str) -> bool:
    """Whether a server at an address is reached from this machine only.

    Args:
        host: An IP address or the name of a host.
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def make_access(host: str, allowed_hosts: Sequence[str]) -> Access:
    """Decide who may read from a server at an address.

    Args:
        host: Address of the server. A new token is needed unless it is of the loopback device.
        allowed_hosts: Names by which the server may be reached besides those of this machine.

    Raises:
        ComponentError: A name is no name of a host.
    """
    names = parse_allowed_hosts(allowed_hosts)
    if is_loopback(host):
        own = () if host.lower() in LOOPBACK_NAMES else (host.lower(),)
        return Access((*own, *names))
    try:
        any_address = ipaddress.ip_address(host).is_unspecified
    except ValueError:
        any_address = False
    own = () if any_address else (host.lower(),)
    return Access((*own, *names), any_address, secrets.token_urlsafe(TOKEN_BYTES))


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


def rejection(hosts: Sequence[str], origins: Sequence[str], access: Access) -> str | None:
    """Say why a request is refused, whatever its token.

    Args:
        hosts: Values of the header Host.
        origins: Values of the header Origin. Programs other than browsers send none.
        access: Who may read.

    Returns:
        The reason; None if the request may be answered.
    """
    if len(hosts) != 1 or len(origins) > 1:
        return "a request needs one Host and at most one Origin"
    host = _host_name(f"//{hosts[0]}")
    is_known = host in (*LOOPBACK_NAMES, *access.hosts)
    if not is_known and not (access.any_address and _is_address(host)):
        return "the host is not this machine; lift view --allow-host NAME allows another one"
    if not origins:
        return None
    is_same = _origin_host(origins[0]) == hosts[0].lower()
    if is_same or _host_name(origins[0]) in access.hosts:
        return None
    return "the page that sends the request has another origin than the viewer"


def _is_address(host: str | None) -> bool:
    """Whether a host is an IP address, which no page can redirect."""
    try:
        ipaddress.ip_address(host or "")
    except ValueError:
        return False
    return True


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
def guard_servers(access: Access) -> Iterator[list[bool]]:
    """Let servers of `websockets` that start within the block refuse foreign requests.

    viser has no setting for this and starts its server when it is constructed.

    Args:
        access: Who may read.

    Yields:
        A list that has an item for each server that started.
    """
    from websockets.asyncio import server as websockets_server

    original = websockets_server.serve
    started: list[bool] = []

    def serve(*arguments: Any, process_request: Any = None, **options: Any) -> Any:
        guarded = _guarded(process_request, access)
        started.append(True)
        return original(*arguments, process_request=guarded, **options)

    websockets_server.serve = serve  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield started
    finally:
        websockets_server.serve = original


def _guarded(process_request: Any, access: Access) -> Callable[[Any, Any], Any]:
    """Return a handler that refuses foreign requests and passes on the others."""

    async def handle(connection: Any, request: Any) -> Any:
        headers = request.headers
        reason = rejection(headers.get_all("Host"), headers.get_all("Origin"), access)
        if reason is not None:
            answer = connection.respond(http.HTTPStatus.FORBIDDEN, f"{reason}\n")
        else:
            answer = _check_token(connection, request, access)
            if answer is None and process_request:
                answer = process_request(connection, request)
            if inspect.isawaitable(answer):
                answer = await answer
        if answer is not None:  # else the request opens a WebSocket
            answer.headers.update(frame_headers(access.hosts))
            answer.headers["Referrer-Policy"] = "no-referrer"
        return answer

    return handle


def _check_token(connection: Any, request: Any, access: Access) -> Any:
    """Return the answer to a request without the token, or with it in its URL; None: go on."""
    if access.token is None:
        return None
    path, _, query = request.path.partition("?")
    values = parse_qsl(query, keep_blank_values=True)
    if any(key == "token" and access.accepts(value) for key, value in values):
        if "Upgrade" in request.headers:
            return None
        # The browser keeps the token as a cookie. It no longer is in the address bar or history.
        rest = urlencode([(key, value) for key, value in values if key != "token"])
        answer = connection.respond(http.HTTPStatus.SEE_OTHER, "")
        answer.headers["Location"] = f"/{path.lstrip('/')}" + (f"?{rest}" if rest else "")
        answer.headers["Set-Cookie"] = (
            f"{access.cookie}={access.token}; HttpOnly; SameSite=Lax; Path=/"
        )
        answer.headers["Cache-Control"] = "no-store"
        return answer
    cookies = [
        item.strip() for text in request.headers.get_all("Cookie") for item in text.split(";")
    ]
    prefix = f"{access.cookie}="
    if any(c.startswith(prefix) and access.accepts(c[len(prefix) :]) for c in cookies):
        return None
    return connection.respond(http.HTTPStatus.FORBIDDEN, f"{_NO_TOKEN}\n")
