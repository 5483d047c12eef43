"""The report works in a browser: alone in a folder, without network, on a phone."""

import shutil
import time
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import lift
from lift.evaluation.metrics import psnr
from tests.helpers.browser import PHONE
from tests.helpers.reports import NAME_WITH_MARKUP, TRUTH, build_result, frame_metrics, write_page

pytestmark = pytest.mark.slow


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


def likeness_of_canvas(frame: Any, scene: lift.Scene) -> float:
    """PSNR in dB between the canvas and a render of the input view."""
    with Image.open(BytesIO(frame.locator("#canvas").screenshot())) as picture:
        shown = torch.from_numpy(np.array(picture.convert("RGB"))) / 255
    camera = scene.cameras[:1].resized(shown.shape[1], shown.shape[0])
    render = scene.render(camera).rgb[0].clamp(0, 1)
    edge = 12  # the corners of the frame are round
    return psnr(render[edge:-edge, edge:-edge], shown[edge:-edge, edge:-edge])


def test_a_mailed_report_shows_its_scene(browser, finished_run, mailed):
    page = browser.open(mailed, width=1100, height=800)
    page.page.click("#open-scene")
    page.wait_until("document.querySelector('#scene iframe') !== null")
    frame = page.page.frames[1]
    end = time.monotonic() + 120
    while frame.evaluate("document.documentElement.dataset.state") == "loading":
        assert time.monotonic() < end, "the scene does not load"
        page.page.wait_for_timeout(200)
    assert frame.evaluate("document.documentElement.dataset.state") == "ready"
    hide = "for (const e of document.querySelectorAll('#hint, #poster')) e.style.display = 'none'"
    frame.evaluate(hide)
    scene = lift.load(finished_run)
    likeness = 0.0
    end = time.monotonic() + 60  # a busy machine sorts the Gaussians some frames later
    while likeness < 25 and time.monotonic() < end:
        likeness = likeness_of_canvas(frame, scene)
    assert likeness >= 25
    assert page.errors == []


def test_a_mailed_report_plays_its_film(browser, mailed):
    page = browser.open(mailed, width=1100, height=800)
    if page.page.locator("#film").count() == 0:
        pytest.skip("the run has no film: no ffmpeg")
    if not page.page.evaluate("film.canPlayType('video/mp4; codecs=avc1.42E01E')"):
        pytest.skip("this Chromium cannot play H.264")
    page.wait_until("film.videoWidth > 0 && film.currentTime > 0")
    assert page.errors == []


def test_a_mailed_report_asks_the_network_for_nothing(browser, mailed):
    page = browser.open(mailed, width=1100, height=800)
    page.page.click("#open-scene")
    page.wait_until("document.querySelector('#scene iframe') !== null")
    page.page.wait_for_timeout(500)
    assert [url for url in page.requests if url != mailed.as_uri()] == []


def test_the_slider_follows_pointer_and_keys(browser, report):
    page = browser.open(report, width=1100, height=800)
    split = "document.querySelector('.pair').style.getPropertyValue('--split')"
    pair = page.page.locator(".pair").first
    pair.scroll_into_view_if_needed()
    box = pair.bounding_box()
    page.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 10)
    page.page.mouse.down()
    page.page.mouse.move(box["x"] + box["width"] * 0.2, box["y"] + 10)
    page.page.mouse.up()
    assert page.page.evaluate(split) == "20%"
    page.page.keyboard.press("ArrowRight")
    assert page.page.evaluate(split) == "21%"
    assert page.errors == []


def test_the_lightbox_opens_turns_and_closes_by_keys(browser, report):
    page = browser.open(report, width=1100, height=800)
    state = "[d => d.open, d => d.querySelector('img').alt].map(f => f(lightbox))"
    page.page.locator(".row:not([hidden]) .aside img").first.focus()
    page.page.keyboard.press("Enter")
    assert page.page.evaluate(state) == [True, "input difference"]
    box = page.page.locator("#lightbox img").bounding_box()
    assert box["width"] > 900 and box["x"] >= 0 and box["x"] + box["width"] <= 1100
    page.page.keyboard.press("ArrowRight")
    assert page.page.evaluate(state) == [True, "input depth"]
    page.page.keyboard.press("Escape")
    assert page.page.evaluate(state)[0] is False


def test_tabs_choose_the_compared_frame(browser, report):
    page = browser.open(report, width=1100, height=800)
    page.page.get_by_role("tab", name="Worst").click()
    shown = "[...document.querySelectorAll('.row')].filter(r => !r.hidden).map(r => r.dataset.tab)"
    assert page.page.evaluate(shown) == ["Worst"]
    page.page.keyboard.press("ArrowRight")
    assert page.page.evaluate(shown) == ["Input"]


def test_a_command_is_copied(browser, report):
    page = browser.open(report, width=1100, height=800)
    button = page.page.locator(".copy").first
    button.click()
    page.wait_until("document.querySelector('.copy').textContent !== 'Copy'")
    assert button.text_content() in ("Copied", "Selected")


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
