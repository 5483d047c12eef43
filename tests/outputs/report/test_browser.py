"""The report works in browsers: alone in a folder, without network, on a phone."""

import shutil
import time
from pathlib import Path

import pytest

import lift
from lift.evaluation.metrics import psnr
from tests.helpers.browser import PHONE
from tests.helpers.page import Page
from tests.helpers.reports import NAME_WITH_MARKUP, TRUTH, build_result, frame_metrics, write_page

pytestmark = pytest.mark.slow

CANVAS_BOX = """(() => {
  const frame = document.querySelector("#scene iframe").getBoundingClientRect();
  const canvas = frames[0].document.getElementById("canvas").getBoundingClientRect();
  return [frame.x + canvas.x, frame.y + canvas.y, canvas.width, canvas.height];
})()"""
"""Left, top, width and height of the canvas of the scene in pixels of the window."""

HIDE = "(element) => { element.style.display = 'none'; }"
"""Hides an element."""


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A report alone in its folder."""
    folder = tmp_path_factory.mktemp("run")
    write_page(folder, build_result(folder), frame_metrics(), TRUTH, film=None)
    alone = tmp_path_factory.mktemp("alone") / "report.html"
    shutil.copy(folder / "report.html", alone)
    return alone


@pytest.fixture(scope="module")
def mailed(finished_run, tmp_path_factory) -> Path:
    """The report of a run, alone in its folder."""
    report = tmp_path_factory.mktemp("mailed") / "report.html"
    shutil.copy(finished_run / "report.html", report)
    return report


def likeness_of_canvas(page: Page, scene: lift.Scene) -> float:
    """PSNR in dB between the canvas and a render of the input view."""
    left, top, width, height = (round(value) for value in page.evaluate(CANVAS_BOX))
    shown = page.screenshot()[top : top + height, left : left + width]
    camera = scene.cameras[:1].resized(shown.shape[1], shown.shape[0])
    render = scene.render(camera).rgb[0].clamp(0, 1)
    edge = 12  # the corners of the frame are round
    return psnr(render[edge:-edge, edge:-edge], shown[edge:-edge, edge:-edge])


def test_a_mailed_report_shows_its_scene(each_browser, finished_run, mailed):
    page = each_browser.open(mailed, width=1100, height=800)
    page.click("#open-scene")
    page.wait_until("document.querySelector('#scene iframe') !== null")
    state = "frames[0].document.documentElement.dataset.state"
    page.wait_until(f"{state} === 'ready' || {state} === 'failed'")
    assert page.evaluate(state) == "ready"
    page.evaluate(f"frames[0].document.querySelectorAll('#hint, #poster').forEach({HIDE})")
    page.scroll_to("#scene iframe")
    scene = lift.load(finished_run)
    likeness = 0.0
    end = time.monotonic() + 60  # a busy machine sorts the Gaussians some frames later
    while likeness < 25 and time.monotonic() < end:
        likeness = likeness_of_canvas(page, scene)
    assert likeness >= 25
    assert page.errors == []


def test_a_mailed_report_plays_its_film(each_browser, mailed):
    page = each_browser.open(mailed, width=1100, height=800)
    if page.evaluate("document.querySelector('#film') === null"):
        pytest.skip("the run has no film: no ffmpeg")
    if not page.evaluate("film.canPlayType('video/mp4; codecs=avc1.42E01E')"):
        pytest.skip("this browser cannot play H.264")
    page.wait_until("film.videoWidth > 0 && film.currentTime > 0")
    assert page.errors == []


def test_a_mailed_report_asks_the_network_for_nothing(each_browser, mailed):
    page = each_browser.open(mailed, width=1100, height=800)
    page.click("#open-scene")
    page.wait_until("document.querySelector('#scene iframe') !== null")
    time.sleep(0.5)
    assert [url for url in page.requests if url != page.address] == []


def test_the_slider_follows_pointer_and_keys(each_browser, report):
    page = each_browser.open(report, width=1100, height=800)
    split = "parseInt(document.querySelector('.pair').style.getPropertyValue('--split'))"
    page.scroll_to(".pair")
    _, _, width, _ = page.box(".pair")
    page.drag(".pair", round(-0.3 * width), 0, start=(0.5, 0.2))
    position = page.evaluate(split)
    assert abs(position - 20) <= 1
    page.press("ArrowRight")
    assert page.evaluate(split) == position + 1
    assert page.errors == []


def test_the_lightbox_opens_turns_and_closes_by_keys(each_browser, report):
    page = each_browser.open(report, width=1100, height=800)
    state = "[d => d.open, d => d.querySelector('img').alt].map(f => f(lightbox))"
    page.evaluate("document.querySelector('.row:not([hidden]) .aside img').focus()")
    page.press("Enter")
    assert page.evaluate(state) == [True, "input difference"]
    left, _, width, _ = page.box("#lightbox img")
    assert width > 900 and left >= 0 and left + width <= 1100
    page.press("ArrowRight")
    assert page.evaluate(state) == [True, "input depth"]
    page.press("Escape")
    page.wait_until("!lightbox.open")


def test_tabs_choose_the_compared_frame(each_browser, report):
    page = each_browser.open(report, width=1100, height=800)
    tab = "[...document.querySelectorAll('[role=tab]')].find(t => t.textContent == 'Worst')"
    page.evaluate(f"{tab}.click()")
    page.evaluate(f"{tab}.focus()")
    shown = "[...document.querySelectorAll('.row')].filter(r => !r.hidden).map(r => r.dataset.tab)"
    assert page.evaluate(shown) == ["Worst"]
    page.press("ArrowRight")
    assert page.evaluate(shown) == ["Input"]


def test_a_command_is_copied(each_browser, report):
    page = each_browser.open(report, width=1100, height=800)
    page.scroll_to(".copy")
    page.click(".copy")
    text = "document.querySelector('.copy').textContent"
    page.wait_until(f"{text} !== 'Copy'")
    assert page.evaluate(text) in ("Copied", "Selected")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_scrolls_in_one_direction(browser, report, scheme):
    page = browser.open(report, **PHONE, color_scheme=scheme)
    for details in page.page.locator("summary").all():
        details.click()
    root = "document.documentElement"
    assert page.page.evaluate(f"{root}.scrollWidth") == page.page.evaluate(f"{root}.clientWidth")
    background = page.page.evaluate("getComputedStyle(document.body).backgroundColor")
    is_dark = sum(int(part) for part in background[4:-1].split(",")) < 300
    assert is_dark == (scheme == "dark") and page.errors == []


def test_a_name_with_markup_is_shown_as_text(browser, report):
    page = browser.open(report)
    assert page.page.locator("h1").text_content() == NAME_WITH_MARKUP
    assert page.errors == []


def test_without_scripts_the_page_is_complete(browser, report):
    page = browser.open(report, java_script_enabled=False)
    assert page.page.locator(".row").count() == 4
    assert page.page.locator("#open-scene").is_hidden()
    assert page.page.locator(".pair img").first.is_visible()
    assert page.page.get_by_role("tab").count() == 0
