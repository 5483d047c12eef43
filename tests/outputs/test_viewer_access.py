"""Web pages of others get no answer of the viewer."""

import http.client

import pytest

from lift.outputs.viewer import start
from lift.outputs.viewer_access import frame_headers, parse_allowed_hosts, rejection
from lift.registry import ComponentError
from tests.helpers.scenes import write_small_scene

OWN = "http://127.0.0.1:8080"


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
    assert rejection([host], [origin] if origin else []) is None


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
        (["evil.example"], []),
        (["evil.example@127.0.0.1"], []),
        (["127.0.0.1:8080", "evil.example"], []),
        (["127.0.0.1:port"], []),
        ([""], []),
        ([], []),
    ],
)
def test_other_hosts_and_pages_are_refused(hosts, origins):
    assert rejection(hosts, origins)


def test_an_allowed_host_is_answered_alone():
    allowed = parse_allowed_hosts(["Viewer.Example.org"])
    assert rejection(["viewer.example.org"], ["https://viewer.example.org"], allowed) is None
    assert rejection(["localhost:8080"], ["https://viewer.example.org"], allowed) is None
    assert rejection(["viewer.example.org"], ["https://evil.example"], allowed)
    assert rejection(["other.example.org"], [], allowed)


@pytest.mark.parametrize("name", ["", "*", "http://host", "host:80", "a b", "a@b"])
def test_what_is_no_host_name_cannot_be_allowed(name):
    with pytest.raises(ComponentError, match="--allow-host is .*; give the name of a host alone"):
        parse_allowed_hosts([name])


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    pytest.importorskip("viser")
    server = start(write_small_scene(tmp_path_factory.mktemp("scene")), 0)
    yield server.get_port()
    server.stop()


def answer(port: int, host: str) -> tuple[int, http.client.HTTPMessage]:
    """Status and headers of the viewer's page."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.putrequest("GET", "/", skip_host=True)
    connection.putheader("Host", host)
    connection.endheaders()
    response = connection.getresponse()
    response.read()
    connection.close()
    return response.status, response.headers


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


def test_the_server_refuses_a_foreign_origin(port):
    import viser
    from websockets.exceptions import InvalidStatus
    from websockets.sync.client import connect

    url = f"ws://127.0.0.1:{port}"
    protocol = f"viser-v{viser.__version__}"
    with connect(url, origin=f"http://127.0.0.1:{port}", subprotocols=[protocol]) as own:
        assert own.recv(timeout=30)  # the scene
    for origin in ("https://evil.example", "null", f"http://localhost:{port}"):
        with pytest.raises(InvalidStatus, match="HTTP 403"):
            connect(url, origin=origin, subprotocols=[protocol])


def test_a_server_that_cannot_be_guarded_does_not_start(tmp_path, monkeypatch):
    viser = pytest.importorskip("viser")

    class Unguarded:
        def __init__(self, **_):
            self.stopped = False

        def stop(self):
            self.stopped = True

    monkeypatch.setattr(viser, "ViserServer", Unguarded)
    with pytest.raises(ImportError, match="lift cannot restrict who reads from viser"):
        start(write_small_scene(tmp_path), 0)
