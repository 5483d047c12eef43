"""Web pages of others get no answer of the viewer, and machines of others need its token."""

import http.client

import pytest

from lift.outputs.viewer import file_content, start_viewer
from lift.outputs.viewer.access import (
    Access,
    frame_headers,
    is_loopback,
    make_access,
    parse_allowed_hosts,
    rejection,
)
from lift.registry import ComponentError
from tests.helpers.scenes import write_small_scene

OWN = "http://127.0.0.1:8080"
LOCAL = Access()


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("127.0.0.1:8080", OWN),
        ("localhost:9000", "http://localhost:9000"),
        ("[::1]:8080", "http://[::1]:8080"),
        ("LOCALHOST:8080", "http://localhost:8080"),
        ("localhost:8080", None),
        ("localhost", "https://localhost"),
    ],
)
def test_this_machine_is_answered(host, origin):
    assert rejection([host], [origin] if origin else [], LOCAL) is None


@pytest.mark.parametrize(
    ("hosts", "origins"),
    [
        (["127.0.0.1:8080"], ["https://evil.example"]),
        (["127.0.0.1:8080"], ["null"]),
        (["127.0.0.1:8080"], [""]),
        (["127.0.0.1:8080"], ["http://127.0.0.1:3000"]),
        (["127.0.0.1:8080"], ["http://127.0.0.1.evil.example:8080"]),
        (["127.0.0.1:8080"], ["file://127.0.0.1:8080"]),
        (["127.0.0.1:8080"], [OWN, "https://evil.example"]),
        (["127.0.0.1:8080"], ["http://[::1"]),
        (["evil.example:8080"], ["http://evil.example:8080"]),
        (["192.0.2.7:8080"], []),
        (["evil.example"], []),
        (["evil.example@127.0.0.1"], []),
        (["127.0.0.1:8080", "evil.example"], []),
        (["127.0.0.1:port"], []),
        ([""], []),
        ([], []),
    ],
)
def test_other_hosts_and_pages_are_refused(hosts, origins):
    assert rejection(hosts, origins, LOCAL)


def test_an_allowed_host_is_answered_alone():
    access = Access(parse_allowed_hosts(["Viewer.Example.org"]))
    assert rejection(["viewer.example.org"], ["https://viewer.example.org"], access) is None
    assert rejection(["localhost:8080"], ["https://viewer.example.org"], access) is None
    assert rejection(["viewer.example.org"], ["https://evil.example"], access)
    assert rejection(["other.example.org"], [], access)


def test_all_networks_answer_addresses_but_no_names():
    access = make_access("0.0.0.0", [])
    assert rejection(["192.0.2.7:8080"], ["http://192.0.2.7:8080"], access) is None
    assert rejection(["evil.example:8080"], ["http://evil.example:8080"], access)
    assert rejection(["192.0.2.7:8080"], ["http://192.0.2.8:8080"], access)


def test_one_network_answers_its_address_alone():
    access = make_access("192.0.2.7", [])
    assert rejection(["192.0.2.7:8080"], [], access) is None
    assert rejection(["192.0.2.8:8080"], [], access)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.3.2.1", "::1", "localhost", "LocalHost"])
def test_a_loopback_address_needs_no_token(host):
    assert is_loopback(host) and make_access(host, []).token is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "machine.example"])
def test_another_address_gets_a_token_of_its_own(host):
    tokens = {make_access(host, []).token for _ in range(3)}
    assert len(tokens) == 3 and all(len(token or "") >= 32 for token in tokens)


def test_the_token_is_not_in_the_text_of_the_object():
    access = make_access("0.0.0.0", [])
    assert access.token and access.token not in repr(access) + access.cookie


@pytest.mark.parametrize("name", ["", "*", "http://host", "host:80", "a b", "a@b"])
def test_what_is_no_host_name_cannot_be_allowed(name):
    with pytest.raises(ComponentError, match="--allow-host is .*; give the name of a host alone"):
        parse_allowed_hosts([name])


@pytest.fixture(scope="module")
def viewer(tmp_path_factory):
    pytest.importorskip("viser")
    ply = write_small_scene(tmp_path_factory.mktemp("scene"))
    viewer = start_viewer(file_content(ply), 0)
    yield viewer
    viewer.stop()


@pytest.fixture(scope="module")
def port(viewer):
    return viewer.server.get_port()


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A viewer with a token."""
    pytest.importorskip("viser")
    ply = write_small_scene(tmp_path_factory.mktemp("scene"))
    viewer = start_viewer(file_content(ply), 0, "0.0.0.0")
    yield viewer
    viewer.stop()


def answer(port: int, host: str, path: str = "/", cookie: str | None = None):
    """Status, headers and content of an answer of the viewer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.putrequest("GET", path, skip_host=True)
    connection.putheader("Host", host)
    if cookie is not None:
        connection.putheader("Cookie", cookie)
    connection.endheaders()
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response.status, response.headers, content


def test_the_server_refuses_a_foreign_host(port):
    assert answer(port, f"127.0.0.1:{port}")[0] == 200
    assert answer(port, f"localhost:{port}")[0] == 200
    assert answer(port, f"evil.example:{port}")[0] == 403


@pytest.mark.parametrize("host", ["localhost", "evil.example"])
def test_no_page_may_show_the_viewer_in_a_frame(port, host):
    headers = answer(port, f"{host}:{port}")[1]
    assert headers.get_all("Content-Security-Policy") == ["frame-ancestors 'none'"]
    assert headers.get_all("X-Frame-Options") == ["DENY"]


def test_an_allowed_host_may_show_the_viewer_in_a_frame():
    headers = frame_headers(["viewer.example.org", "::2"])
    policy = "frame-ancestors http://viewer.example.org:* https://viewer.example.org:*"
    assert headers == {"Content-Security-Policy": policy}


def connect(port: int, path: str = "", origin: str | None = None, cookie: str | None = None):
    """Open a WebSocket as viser's page does."""
    import viser
    from websockets.sync.client import connect

    return connect(
        f"ws://127.0.0.1:{port}{path}",
        origin=origin,
        subprotocols=[f"viser-v{viser.__version__}"],
        additional_headers={"Cookie": cookie} if cookie else None,
    )


def test_the_server_refuses_a_foreign_origin(port):
    from websockets.exceptions import InvalidStatus

    with connect(port, origin=f"http://127.0.0.1:{port}") as own:
        assert own.recv(timeout=30)  # the scene
    for origin in ("https://evil.example", "null", f"http://localhost:{port}"):
        with pytest.raises(InvalidStatus, match="HTTP 403"):
            connect(port, origin=origin)


def test_the_url_with_the_token_sets_a_cookie(shared):
    port = shared.server.get_port()
    token = shared.url.partition("token=")[2]
    status, headers, _ = answer(port, f"127.0.0.1:{port}", f"/?token={token}&darkMode=1")
    assert status == 303 and headers["Location"] == "/?darkMode=1"
    assert headers["Cache-Control"] == "no-store" and headers["Referrer-Policy"] == "no-referrer"
    cookie, *attributes = headers["Set-Cookie"].split("; ")
    assert {"HttpOnly", "SameSite=Lax"} <= set(attributes)
    status, _, content = answer(port, f"127.0.0.1:{port}", cookie=f"other=1; {cookie}")
    assert status == 200 and b"<html" in content.lower()


@pytest.mark.parametrize("change", [lambda t: "", lambda t: t[:-1], lambda t: t + "a", str.upper])
def test_a_wrong_token_gets_nothing(shared, change):
    port = shared.server.get_port()
    name = shared._access.cookie
    wrong = change(shared.url.partition("token=")[2])
    host = f"127.0.0.1:{port}"
    for path, cookie in ((f"/?token={wrong}", None), ("/", f"{name}={wrong}")):
        status, headers, content = answer(port, host, path, cookie)
        assert status == 403 and b"<html" not in content and "Set-Cookie" not in headers


def test_the_token_does_not_open_the_door_to_pages(shared):
    port = shared.server.get_port()
    token = shared.url.partition("token=")[2]
    assert answer(port, f"evil.example:{port}", f"/?token={token}")[0] == 403


def test_a_websocket_needs_the_token(shared):
    from websockets.exceptions import InvalidStatus

    port = shared.server.get_port()
    token = shared.url.partition("token=")[2]
    name = shared._access.cookie
    for path, cookie in (("", None), ("/?token=x", None), ("", f"{name}=x")):
        with pytest.raises(InvalidStatus, match="HTTP 403"):
            connect(port, path, cookie=cookie)
    for path, cookie in ((f"/?token={token}", None), ("", f"{name}={token}")):
        with connect(port, path, cookie=cookie) as own:
            assert own.recv(timeout=30)


def test_a_server_that_cannot_be_guarded_does_not_start(tmp_path, monkeypatch):
    viser = pytest.importorskip("viser")

    class Unguarded:
        def __init__(self, **_):
            self.stopped = False

        def stop(self):
            self.stopped = True

    monkeypatch.setattr(viser, "ViserServer", Unguarded)
    with pytest.raises(ImportError, match="lift cannot restrict who reads from viser"):
        start_viewer(file_content(write_small_scene(tmp_path)), 0)
