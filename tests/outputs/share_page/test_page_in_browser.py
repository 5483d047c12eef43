"""A share page in browsers. Most tests use one open page of each browser, which each resets."""

import html
import math
import time
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lift.api import Scene, load
from lift.outputs.films.rendering import limit_detail
from lift.outputs.share_page import render_share_page, share_content, write_share_page
from lift.types import Cameras
from tests.helpers.browser import PHONE, Browser, BrowserPage
from tests.helpers.page import TIMEOUT, Page
from tests.helpers.webdriver_page import WebDriverBrowser

pytestmark = pytest.mark.slow

STARTED = "document.documentElement.dataset.state != 'loading'"
SETTLED = "window.liftViewer && liftViewer.settled"
WIDTH = 420
HEIGHT = 360


def psnr(picture: Tensor, reference: Tensor) -> float:
    return -10 * math.log10(float(((picture - reference) ** 2).mean()) + 1e-10)


def settle(page: Page) -> Tensor:
    """Wait until nothing moves, and return the canvas."""
    page.wait_until(SETTLED)
    page.evaluate("document.getElementById('hint').style.display = 'none'")
    time.sleep(0.2)
    return page.screenshot("#canvas")


def render_without_needles(scene: Scene, camera: Cameras) -> Tensor:
    """Render one view as a film shows it."""
    wide = limit_detail(scene.gaussians, scene.cameras, camera)
    return scene.render_gaussians(wide, camera).rgb[0].clamp(0, 1)


def orbit(page: Page) -> dict[str, float]:
    return page.evaluate("liftViewer.orbit")


@pytest.fixture(scope="module")
def scene(finished_run: Path) -> Scene:
    return load(finished_run)


@pytest.fixture(scope="module")
def page_file(scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_share_page(scene, tmp_path_factory.mktemp("share") / "scene.html")


@pytest.fixture(scope="module")
def open_page(each_browser: Browser | WebDriverBrowser, page_file: Path) -> Page:
    """The page in each browser, opened as a file by double click."""
    page = each_browser.open(page_file, WIDTH, HEIGHT)
    page.wait_until(STARTED)
    return page


@pytest.fixture
def page(open_page: Page) -> Page:
    """The page at the input view."""
    open_page.wait_until("window.liftViewer")
    open_page.evaluate("liftViewer.reset()")
    open_page.wait_until(SETTLED)
    return open_page


def test_first_view_is_the_render_of_the_input_camera(page, scene):
    picture = settle(page)
    height, width, _ = picture.shape
    render = render_without_needles(scene, scene.cameras[:1].resized(width, height))
    assert abs(width * 64 - height * 96) <= 96 and psnr(picture, render) >= 30


def test_nothing_is_requested_and_no_error_logged(page):
    assert page.requests == [page.address]
    assert page.errors == []


@pytest.mark.parametrize("right, down", [(800, 800), (-800, -800)])
def test_drag_stays_within_the_region(page, scene, right, down):
    page.drag("#stage", right, down)
    page.wait_until(SETTLED)
    region = scene.view_region
    found = orbit(page)
    # A drag to the right turns the camera to its left, a drag down moves it up.
    assert found["azimuth"] == pytest.approx(region.azimuth[0 if right > 0 else 1], abs=0.01)
    assert found["elevation"] == pytest.approx(region.elevation[1 if down > 0 else 0], abs=0.01)


@pytest.mark.parametrize("turn", [-5000, 5000])
def test_wheel_stays_within_the_region(page, scene, turn):
    for _ in range(20):
        page.turn_wheel("#stage", turn)
    page.wait_until(SETTLED)
    low, high = scene.view_region.distance
    assert low - 1e-6 <= orbit(page)["distance"] <= high + 1e-6
    assert (orbit(page)["distance"] < scene.view_region.input_distance) == (turn < 0)


def test_view_after_a_drag_is_a_render_of_that_camera(page, scene):
    page.drag("#stage", 30, 20)
    picture = settle(page)
    found = {key: torch.tensor([value]) for key, value in orbit(page).items()}
    height, width, _ = picture.shape
    camera = scene.view_region.cameras(scene.cameras[:1], **found).resized(width, height)
    assert psnr(picture, render_without_needles(scene, camera)) >= 30


def test_drag_beside_the_picture_turns_the_camera(page):
    page.drag("#stage", 60, 0, start=(0.006, 0.5))
    page.wait_until(SETTLED)
    assert orbit(page)["azimuth"] < -1


def test_reset_shows_the_first_picture_again(page):
    first = settle(page)
    page.drag("#stage", 100, 50)
    assert psnr(settle(page), first) < 45
    page.click("#reset")
    assert psnr(settle(page), first) > 45


def test_reset_ends_a_motion_at_the_input_view(page, scene):
    page.drag("#stage", 200, 50)
    page.evaluate("liftViewer.reset()")
    page.wait_until(SETTLED)
    expected = {"azimuth": 0, "elevation": 0, "distance": scene.view_region.input_distance}
    assert orbit(page) == pytest.approx(expected, abs=1e-6)


def test_button_plays_and_pauses_the_fly_through(page):
    first = settle(page)
    page.click("#play")
    page.wait_until("liftViewer.flyTime > 1")
    end = time.monotonic() + TIMEOUT
    while psnr(page.screenshot("#canvas"), first) >= 45:  # a loop also passes the first view
        assert time.monotonic() < end, "the picture does not change"
    page.click("#play")
    paused = page.evaluate("liftViewer.flyTime")
    settle(page)
    assert page.evaluate("liftViewer.flyTime") == paused


def test_drag_takes_over_from_the_fly_through(page, scene):
    page.press(" ")
    page.wait_until("liftViewer.flyTime > 1")
    page.drag("#stage", 800, 0)
    page.wait_until(SETTLED)
    assert orbit(page)["azimuth"] == pytest.approx(scene.view_region.azimuth[0], abs=0.01)


def test_keys_turn_move_and_reset(page):
    start = orbit(page)
    for key in ("ArrowRight", "ArrowUp", "-"):
        page.press(key)
    page.wait_until(SETTLED)
    moved = orbit(page)
    assert all(moved[name] > start[name] for name in start)
    page.press("r")
    page.wait_until(SETTLED)
    assert orbit(page) == pytest.approx(start, abs=1e-3)


def test_picture_of_a_frames_size_is_the_render_of_the_scene(browser, scene, page_file):
    camera = scene.cameras[:1]
    page = browser.open(page_file, camera.width, 300)
    page.wait_until(SETTLED)
    page.page.evaluate("liftViewer.setFill(false)")
    picture = settle(page)
    assert picture.shape == (camera.height, camera.width, 3)
    assert psnr(picture, scene.render(camera).rgb[0].clamp(0, 1)) >= 30


def test_phone_shows_all_and_turns_by_touch(browser, page_file):
    page = browser.open(page_file, **PHONE)
    page.wait_until(SETTLED)
    box = page.page.locator("#stage").bounding_box()
    touch = page.page.context.new_cdp_session(page.page)

    def send(kind: str, *points: float) -> None:
        y = box["y"] + box["height"] / 2
        where = [{"x": x, "y": y, "id": number} for number, x in enumerate(points)]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": where})

    send("touchStart", 200)
    send("touchMove", 150)
    send("touchMove", 100)
    send("touchEnd")
    page.wait_until(SETTLED)
    assert orbit(page)["azimuth"] > 0.1
    sizes = page.page.evaluate(
        "[...document.querySelectorAll('button:not([hidden])')].map((button) => {"
        "const box = button.getBoundingClientRect();"
        "const { width, height, left, right, bottom } = box;"
        "return [width, height, left, innerWidth - right, innerHeight - bottom]})"
    )
    assert all(min(size[:2]) >= 44 and min(size[2:]) >= 0 for size in sizes)
    assert page.errors == []


def test_upright_phone_starts_filled_until_it_is_turned(browser, page_file):
    page = browser.open(page_file, **PHONE)
    page.wait_until(SETTLED)
    assert page.page.get_attribute("#fill", "aria-pressed") == "true"
    page.page.set_viewport_size({"width": 844, "height": 390})
    page.wait_until("!liftViewer.fill")
    page.page.click("#fill")
    page.page.set_viewport_size(PHONE["viewport"])
    page.page.click("#fill")
    page.page.set_viewport_size({"width": 391, "height": 844})
    page.wait_until(SETTLED)
    assert not page.page.evaluate("liftViewer.fill")


def test_page_works_in_a_frame_of_another_page(browser, scene, tmp_path):
    text = html.escape(render_share_page(share_content(scene), embedded=True))
    outer = tmp_path / "outer.html"
    outer.write_text(f'<iframe srcdoc="{text}" width=300 height=250></iframe>', encoding="utf-8")
    page = browser.open(outer, WIDTH, HEIGHT)
    page.wait_until("frames[0].document.documentElement.dataset.state == 'ready'")
    assert page.errors == []


def test_without_webgl_the_poster_and_a_message_stay(browser_process, page_file):
    context = browser_process.new_context()
    context.add_init_script("HTMLCanvasElement.prototype.getContext = () => null")
    page = BrowserPage(context, context.new_page())
    page.open(page_file.resolve().as_uri())
    page.wait_until(STARTED)
    assert "WebGL 2" in page.page.inner_text("#message")
    assert page.page.is_visible("#poster")
    assert page.errors == []
    page.close()
