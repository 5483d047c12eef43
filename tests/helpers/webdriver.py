"""Sessions of Firefox and WebKit by the WebDriver protocol (https://www.w3.org/TR/webdriver2).

Firefox has the commands of WebDriver on a socket: Marionette, as geckodriver uses it. WebKitGTK
brings the server WebKitWebDriver. It stands in for Safari, which has the same engine. Both
browsers draw into a virtual display, with WebGL in software.
"""

import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

FIREFOX_NAMES = ("firefox-esr", "firefox")
"""Names of the program of Firefox."""

TIMEOUT = 120
"""Seconds that a start or a command may take on a busy machine."""

PATHS = {
    "Navigate": ("POST", "/url"),
    "ExecuteScript": ("POST", "/execute/sync"),
    "TakeScreenshot": ("GET", "/screenshot"),
    "PerformActions": ("POST", "/actions"),
    "SetWindowRect": ("POST", "/window/rect"),
    "DeleteSession": ("DELETE", ""),
}
"""Methods and paths of commands by HTTP."""


class WebDriver(ABC):
    """A session of a browser."""

    @abstractmethod
    def send(self, command: str, **parameters: Any) -> Any:
        """Send a command, by its name in the standard, and return its value.

        Raises:
            RuntimeError: The browser refuses the command.
        """

    def screenshot(self) -> bytes:
        """Return what the window shows, as a PNG file."""
        return base64.b64decode(self.send("TakeScreenshot"))

    def act(self, kind: str, steps: list[dict[str, Any]]) -> None:
        """Use a device.

        Args:
            kind: `key`, `pointer` or `wheel`.
            steps: Actions of the standard.
        """
        self.send("PerformActions", actions=[{"type": kind, "id": kind, "actions": steps}])


class Marionette(WebDriver):
    """A session of Firefox.

    Args:
        port: Port that Firefox listens on.
    """

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT)
        self._answers = self._socket.makefile("rb")
        self._count = 0
        self._receive()  # a greeting
        self.send("NewSession", capabilities={"alwaysMatch": {}})

    def send(self, command: str, **parameters: Any) -> Any:
        """Send a command and return its value."""
        self._count += 1
        if command == "TakeScreenshot":
            parameters["full"] = False  # what the window shows, not the whole page
        message = json.dumps([0, self._count, f"WebDriver:{command}", parameters]).encode()
        self._socket.sendall(b"%d:%s" % (len(message), message))
        _, _, error, result = self._receive()
        if error:
            raise RuntimeError(f"{command}: {error['error']}: {error['message']}")
        return result.get("value", result)

    def close(self) -> None:
        """End the connection."""
        self._answers.close()
        self._socket.close()

    def _receive(self) -> Any:
        length = b""
        while (character := self._answers.read(1)) != b":":
            if not character:
                raise RuntimeError("Firefox has ended")
            length += character
        return json.loads(self._answers.read(int(length)))


class WebDriverServer(WebDriver):
    """A session of a browser that has a server of its own.

    Args:
        address: URL of the server.
    """

    def __init__(self, address: str) -> None:
        self._address = f"{address}/session"
        session = self._request("POST", "", {"capabilities": {"alwaysMatch": {}}})
        self._address += f"/{session['sessionId']}"

    def send(self, command: str, **parameters: Any) -> Any:
        """Send a command and return its value."""
        method, path = PATHS[command]
        return self._request(method, path, parameters if method == "POST" else None)

    def _request(self, method: str, path: str, parameters: dict[str, Any] | None) -> Any:
        data = None if parameters is None else json.dumps(parameters).encode()
        request = urllib.request.Request(self._address + path, data, method=method)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{method} {path}: {error.read().decode()}") from error


@contextmanager
def start_firefox(folder: Path) -> Iterator[WebDriver]:
    """Start Firefox. Skip the test where it is absent.

    Args:
        folder: Folder for its profile and its log.
    """
    program = next(filter(None, map(shutil.which, FIREFOX_NAMES)), None)
    if program is None:
        pytest.skip("Firefox is not installed: apt-get install firefox-esr")
    profile = folder / "profile"
    profile.mkdir()
    (profile / "user.js").write_text('user_pref("marionette.port", 0);\n')  # any free port
    command = [program, "--marionette", "--no-remote", "--profile", str(profile)]
    with virtual_display() as display, _running(command, display, folder / "log.txt"):
        port_file = profile / "MarionetteActivePort"
        _wait_for(lambda: port_file.exists() and bool(port_file.read_text()), "Firefox starts")
        driver = Marionette(int(port_file.read_text()))
        yield driver
        driver.close()


@contextmanager
def start_webkit(folder: Path) -> Iterator[WebDriver]:
    """Start the MiniBrowser of WebKitGTK. Skip the test where it is absent.

    Args:
        folder: Folder for its log.
    """
    program = shutil.which("WebKitWebDriver")
    if program is None:
        pytest.skip("WebKit is not installed: apt-get install webkit2gtk-driver")
    port = _free_port()
    command = [program, f"--port={port}"]
    with virtual_display() as display, _running(command, display, folder / "log.txt"):
        _wait_for(lambda: _listens(port), "WebKitWebDriver starts")
        driver = WebDriverServer(f"http://127.0.0.1:{port}")
        yield driver
        driver.send("DeleteSession")


@contextmanager
def virtual_display() -> Iterator[str]:
    """Start Xvfb and yield the name of its display. Skip the test where it is absent."""
    program = shutil.which("Xvfb")
    if program is None:
        pytest.skip("Xvfb is not installed: apt-get install xvfb")
    command = [program, "-displayfd", "1", "-screen", "0", "1280x1024x24", "-nolisten", "tcp"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    try:
        number = process.stdout.readline().decode().strip()
        assert number, "Xvfb starts"
        yield f":{number}"
    finally:
        process.terminate()
        process.communicate()


@contextmanager
def _running(command: list[str], display: str, log: Path) -> Iterator[None]:
    """Run a program on a display. All its processes end with the block."""
    environment = {**os.environ, "DISPLAY": display, "LIBGL_ALWAYS_SOFTWARE": "1"}
    environment.pop("WAYLAND_DISPLAY", None)
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=environment, stdout=output, stderr=output, start_new_session=True
        )
        try:
            yield
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _wait_for(condition: Callable[[], bool], name: str) -> None:
    end = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < end, name
        time.sleep(0.1)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _listens(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0
