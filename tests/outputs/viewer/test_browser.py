"""The viewer in a headless Chromium."""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

import lift
from lift.io.cameras import read_cameras
from lift.outputs.viewer import Viewer, run_content, start_viewer
from lift.outputs.viewer.panel import Panel
from lift.outputs.viewer.poses import covering_fov
from lift.types import Cameras
from tests.helpers.browser import Browser
from tests.helpers.commands import here

pytestmark = pytest.mark.slow

WIDTH = 480
HEIGHT = 320
TIMEOUT = 120_000
"""Milliseconds after which something that is awaited counts as missing."""

KNOWN = ("THREE.Clock", "computeBoundingSphere")
"""Messages of viser's own page, whatever it shows."""

ONLY_SCENE = "*{visibility:hidden!important} canvas{visibility:visible!important}"


@dataclass
class Open:
    """A viewer of a finished run that is open in a browser."""

    viewer: Viewer
    browser: Any
    """What `browser.open` returned."""

    @property
    def page(self) -> Any:
        """Playwright's page."""
        return self.browser.page

    @property
    def panel(self) -> Panel:
        """The controls of the browser."""
        return next(iter(self.viewer._panels.values()))

    def wait(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition holds."""
        for _ in range(TIMEOUT // 100):
            if condition():
                return
            self.page.wait_for_timeout(100)
        raise AssertionError(f"waited in vain; {self.browser.errors}")

    def drag(self, right: int, down: int) -> None:
        """Drag the mouse over the scene, in pixels."""
        self.page.mouse.move(100, 250)
        self.page.mouse.down()
        for step in range(1, 11):
            self.page.mouse.move(100 + right * step // 10, 250 + down * step // 10)
        self.page.mouse.up()
        self.page.wait_for_timeout(700)

    def press(self, name: str) -> None:
        """Click a button of the panel."""
        self.page.get_by_role("button", name=name, exact=True).first.click(timeout=TIMEOUT)

    def angles(self) -> tuple[float, float, float]:
        """Azimuth and elevation in degrees, and distance from the orbited point."""
        pose = self.panel.camera.pose
        assert self.panel.camera.limits is not None
        return self.panel.camera.limits._angles(pose.position - pose.look_at)


@pytest.fixture(scope="module")
def shown(finished_run: Path, browser_process: Any) -> Iterator[Open]:
    """The viewer of a small run in a browser, for all tests of this file."""
    pytest.importorskip("viser")
    viewer = start_viewer(run_content(lift.load(finished_run)), 0)
    browser = Browser(browser_process)
    try:
        opened = Open(viewer, browser.open(viewer.url, WIDTH, HEIGHT))
        opened.wait(lambda: len(viewer._panels) == 1)
        yield opened
    finally:
        browser.close_pages()
        viewer.stop()


@pytest.fixture
def opened(shown: Open) -> Iterator[Open]:
    """The viewer at the input view. After the test, its console has no error."""
    shown.press("Home")
    shown.wait(lambda: shown.panel.camera.pose.is_close(shown.panel.camera.home))
    yield shown
    unknown = [text for text in shown.browser.errors if not any(k in text for k in KNOWN)]
    assert unknown == [], "the console has no errors"
    assert all(url.startswith(shown.viewer.url) for url in shown.browser.requests), "offline"


def test_the_first_view_is_the_input_view(opened, finished_run):
    camera = opened.viewer.content.input_camera
    fov = covering_fov(camera, WIDTH / HEIGHT)
    focal = HEIGHT / 2 / math.tan(fov / 2)
    intrinsics = torch.tensor([[focal, 0, WIDTH / 2], [0, focal, HEIGHT / 2], [0, 0, 1]])
    window = Cameras(camera.world_to_camera, intrinsics[None], WIDTH, HEIGHT)
    expected = lift.load(finished_run).render(window).rgb[0].clamp(0, 1)
    style = opened.page.add_style_tag(content=ONLY_SCENE)
    values = []

    def is_alike() -> bool:
        error = (opened.browser.screenshot() - expected).square().mean()
        values.append(-10 * math.log10(float(error) + 1e-12))
        return values[-1] >= 25

    try:
        opened.wait(is_alike)  # new Gaussians fade in
    finally:
        print("PSNR in dB:", values[-1])
        style.evaluate("style => style.remove()")


def test_drags_end_within_the_limits_and_home_returns(opened):
    region = opened.viewer.content.region
    assert region is not None
    for right, down in ((150, 20), (-90, -200)):
        opened.drag(right, down)
        azimuth, elevation, distance = opened.angles()
        assert region.azimuth[0] - 0.6 <= azimuth <= region.azimuth[1] + 0.6
        assert region.elevation[0] - 0.6 <= elevation <= region.elevation[1] + 0.6
        assert abs(azimuth) + abs(elevation) > 0.5, "the view has moved"
    opened.page.mouse.wheel(0, 5000)
    opened.page.wait_for_timeout(700)
    assert opened.angles()[2] <= region.distance[1] * 1.02

    opened.press("Home")
    home = opened.panel.camera.home
    opened.wait(lambda: opened.panel.camera.pose.is_close(home))


def test_without_limits_the_camera_goes_anywhere(opened):
    region = opened.viewer.content.region
    assert region is not None
    box = opened.page.get_by_role("checkbox").first
    box.click(timeout=TIMEOUT)
    opened.wait(lambda: not opened.panel.camera.is_limited)
    opened.drag(150, 0)
    assert not region.azimuth[0] - 1 <= opened.angles()[0] <= region.azimuth[1] + 1

    box.click(timeout=TIMEOUT)  # the camera comes back
    opened.wait(lambda: region.azimuth[0] - 1 <= opened.angles()[0] <= region.azimuth[1] + 1)


def test_the_fly_through_plays_and_pauses(opened):
    opened.press("Play")
    opened.wait(lambda: opened.panel._playback.position > 0.5)
    opened.wait(lambda: not opened.panel.camera.pose.is_close(opened.panel.camera.home))
    opened.press("Pause")
    opened.wait(lambda: not opened.panel._playback.is_playing)
    position = opened.panel._playback.position
    opened.page.wait_for_timeout(300)
    assert opened.panel._playback.position == position


def test_a_thumbnail_goes_to_the_camera_of_its_frame(opened):
    opened.page.locator("button.lift-frame").nth(2).click(timeout=TIMEOUT)
    tab = opened.panel.frames_tab
    assert tab is not None
    opened.wait(lambda: "lift-compare" in tab._pictures.content)
    center = opened.viewer.content.cameras[2:3].centers[0].double().numpy()
    opened.wait(lambda: abs(opened.panel.camera.pose.position - center).max() < 1e-3)
    opened.page.locator(".lift-compare").wait_for(timeout=TIMEOUT)


def test_a_recorded_path_is_saved_and_rendered(opened, finished_run, tmp_path):
    opened.page.get_by_role("tab", name="Path").click(timeout=TIMEOUT)
    opened.drag(20, 5)
    opened.press("Add keyframe")
    opened.wait(lambda: len(opened.viewer.keyframes) == 1)
    seconds = opened.panel._path_tab._seconds
    opened.panel.call(setattr, seconds, "value", 1.0)
    opened.press("Save")
    path = finished_run / "paths" / "path.json"
    opened.wait(path.is_file)
    cameras = read_cameras(path)
    assert len(cameras) == 24 and json.loads(path.read_text())["frames"]
    start = opened.viewer.content.input_camera.world_to_camera
    assert torch.allclose(cameras.world_to_camera[:1], start, atol=1e-5)

    done = here("render", str(finished_run), "--path", str(path), "--to", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "out").glob("*.png"))) == 24
