"""The report has every section, embeds what it shows, fetches nothing and escapes names."""

import base64
import re
from dataclasses import replace

import pytest
import torch

from lift.distortions import distortions
from lift.distortions.rigid import Rigid
from lift.io.splats import SPLAT_FORMATS
from lift.outputs.report.media import EmbeddedFilm, EmbeddedScene, script_hash
from lift.outputs.report.page import OUTPUT_FILES, frames_origin, stage_costs
from lift.priors import VideoPrior
from lift.types import Trajectory
from tests.helpers.reports import (
    FILM,
    NAME_WITH_MARKUP,
    PROVENANCE,
    SCENE_PAGE,
    SECTIONS,
    TRUTH,
    Page,
    build_result,
    frame_metrics,
    write_page,
)


@pytest.fixture(scope="module")
def written_page(tmp_path_factory) -> tuple[str, Page]:
    folder = tmp_path_factory.mktemp("run")
    return write_page(folder, build_result(folder), frame_metrics(), TRUTH)


def flat_text(page: Page) -> str:
    return " ".join(page.text.split())


def test_every_section_is_there_and_every_anchor_leads_somewhere(written_page):
    _, page = written_page
    ids = {attributes["id"] for _, attributes in page.seen if "id" in attributes}
    sections = {attributes.get("id") for attributes in page.all("section")}
    assert sections == SECTIONS | {"truth"}
    assert {a["href"][1:] for a in page.all("a") if a["href"].startswith("#")} <= ids


def test_it_fetches_nothing(written_page):
    text, page = written_page
    assert not page.all("link") and not re.search(r"url\(|@import|https?:", text)
    sources = [
        attributes[key]
        for _, attributes in page.seen
        for key in ("src", "href", "poster")
        if key in attributes
    ]
    assert sources and all(
        source.startswith(("data:image/jpeg;base64,", "data:video/mp4;base64,", "#"))
        or re.fullmatch(r"[\w./]+", source)
        for source in sources
    )


def test_pictures_are_inside_and_have_a_description(written_page):
    _, page = written_page
    pictures = [image for image in page.all("img") if "src" in image]
    assert len(pictures) > 20
    for image in pictures:
        assert image["alt"] and base64.b64decode(image["src"].split(",")[1]).startswith(b"\xff\xd8")


def test_the_film_is_inside(written_page):
    (video,) = written_page[1].all("video")
    assert base64.b64decode(video["src"].split(",")[1]) == FILM


def test_the_policy_allows_the_scripts_of_the_page_alone(written_page):
    text, page = written_page
    (policy,) = [m["content"] for m in page.all("meta") if "http-equiv" in m]
    own = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    inner = re.findall(r"<script>(.*?)</script>", SCENE_PAGE, re.DOTALL)
    assert len(own) == len(inner) == 1
    assert all(script_hash(script) in policy for script in own + inner)
    assert "default-src 'none'" in policy
    assert "http:" not in policy and "script-src 'unsafe-inline'" not in policy


def test_the_scene_comes_before_the_film_and_the_verdict(written_page):
    text, _ = written_page
    marks = ['id="scene"', 'id="film"', 'alt="input picture"', 'class="verdict poor"', "<nav"]
    places = [text.index(mark) for mark in marks]
    assert places == sorted(places)


def test_the_verdict_is_said_with_its_worst_reason(written_page):
    flat = flat_text(written_page[1])
    assert "POOR SCENE" in flat and "Compared with 8 true views: 27.1 dB." in flat
    assert "The canonical scene does not explain the input view (20.0 dB; 28 dB is good)." in flat


def test_a_warning_stands_beside_its_figure(written_page):
    text, _ = written_page
    cards = re.findall(r'<div class="figure[^"]*">.*?</div>\s*</div>', text, re.DOTALL)
    (card,) = [card for card in cards if "PSNR of the input view" in card]
    assert 'class="figure poor"' in card and "does not explain the input view" in card


def test_comparison_with_truth_and_agreement_are_kept_apart(written_page):
    flat = flat_text(written_page[1])
    truth = flat.index("Against true views")
    agreement = flat.index("Agreement with the generated frames")
    assert truth < flat.index("PSNR against 8 true views")
    assert agreement < flat.index("PSNR of the input view")


def test_a_good_scene_without_truth_is_good_by_its_own_frames(tmp_path):
    changed = {"verdict": "good", "reasons": [], "findings": [], "held_out_psnr": None}
    text, page = write_page(tmp_path, build_result(tmp_path), frame_metrics(), None, **changed)
    assert 'class="verdict good"' in text and "POOR" not in page.text
    assert "Good scene by its own frames" in page.text
    assert "Against a true photograph: not measured" in page.text


def test_nothing_planned_is_shown_of_given_frames(tmp_path):
    result = build_result(tmp_path)
    still = result.trajectory.start
    placeholders = tuple(
        replace(clip, cameras=still[[0, 0, 0]]) for clip in result.trajectory.clips
    )
    confidence = torch.ones(7, 24, 32)
    confidence[6] = 0
    given = replace(
        result,
        trajectory=Trajectory(still, placeholders, "sequence"),
        reconstruction=replace(result.reconstruction, confidence=confidence),
    )
    found = [replace(finding, registered=finding.view != 6) for finding in frame_metrics()]
    text, page = write_page(tmp_path, given, found, None)
    assert "No camera path was planned" in flat_text(page)
    assert "Dotted: as planned" not in page.text and 'class="faint"' not in text
    assert "6 · not registered" in page.text and "continued along" not in page.text
    assert "Agreement with the recorded frames" in page.text


def test_names_are_text(written_page):
    text, page = written_page
    assert "<script>alert" not in text and "<b>up" not in text and "<i>assumed" not in text
    assert (
        NAME_WITH_MARKUP in page.text
        and "right/<b>up" in page.text
        and "focal length <i>assumed</i>" in page.text
    )


def test_clips_stand_folded_below_what_they_continue(written_page):
    text, page = written_page
    levels = re.findall(r"--level: (\d)", text)
    assert levels == ["0", "1"]
    assert all("open" not in details for details in page.all("details"))
    assert (
        "continues the input; frames 1–3" in page.text
        and "continues frame 3 of right; frames 4–6" in page.text
    )
    assert len([i for i in page.all("img") if re.fullmatch(r"frame \d", i["alt"])]) == 6


def test_input_best_median_and_worst_frame_are_compared(written_page):
    _, page = written_page
    alts = [image["alt"] for image in page.all("img")]
    for name in ("input", "best", "median", "worst"):
        assert {
            f"{name} {what}"
            for what in ("frame", "render", "difference", "depth", "depth of the scene")
        } <= set(alts)
    assert (
        "Best · frame 6 of right/<b>up · 26.0 dB · 27.0 dB with its distortion applied"
        in flat_text(page)
    )


def test_numbers_of_the_run_appear(written_page):
    flat = flat_text(written_page[1])
    assert (
        "by 1.00 dB on average" in flat
        and "camera turned by" in flat
        and "Nothing was learned as Gaussian motion or image change. "
        "Nothing was learned from held-out"
        in flat
    )
    assert (
        "27.12 dB" in flat
        and "Seconds and memory" in flat
        and "2 min 10 s" in flat
        and "512 MiB" in flat
    )
    assert "loss and its parts" in flat and "held out" in flat
    assert "lift run 'image=<script>" in flat and "Apache-2.0" in flat and "MIT" in flat


def test_commands_name_the_folder_of_the_run(written_page):
    _, page = written_page
    commands = [button["data-copy"] for button in page.all("button") if "data-copy" in button]
    assert "lift view 'outputs/my run'" in commands
    assert "lift export 'outputs/my run' scene.html" in commands
    assert "lift view 'outputs/my run'" in flat_text(page)


def test_nothing_is_drawn_where_nothing_was_learned(tmp_path):
    result = replace(build_result(tmp_path, "plain"), fit_folder=tmp_path / "nowhere")
    text, page = write_page(tmp_path, result, frame_metrics(0.0), None)
    section = text[text.index('id="distortion"') : text.index('id="training"')]
    assert "No distortion was learned for any frame" in flat_text(page)
    assert "<svg" not in section and "with the frame&#39;s distortion applied" not in text
    assert 'id="truth"' not in text and "left no curves" in text


def test_a_constant_number_of_gaussians_is_said_not_drawn(written_page):
    text, page = written_page
    assert "The number of Gaussians stayed at 40." in flat_text(page)
    assert 'aria-label="number of Gaussians"' not in text


def test_without_a_film_there_are_stills(tmp_path):
    _, page = write_page(tmp_path, build_result(tmp_path), frame_metrics(), None, film=None)
    assert not page.all("video") and "could not write the film" in page.text
    assert len([i for i in page.all("img") if i["alt"].startswith("film, still")]) == 4


def test_without_a_scene_there_is_a_command_for_it(tmp_path):
    text, page = write_page(tmp_path, build_result(tmp_path), frame_metrics(), None, scene_page="")
    assert 'id="open-scene"' not in text and 'id="scene-page"' not in text
    assert "lift export 'outputs/my run' scene.html makes a page to explore it" in flat_text(page)


def test_a_scene_that_is_too_large_is_named_with_its_command(tmp_path, monkeypatch):
    scene = EmbeddedScene("", 9_000_000, ())
    monkeypatch.setattr("tests.helpers.reports.embed_scene", lambda page: scene)
    text, page = write_page(tmp_path, build_result(tmp_path), frame_metrics(), None)
    assert "too large for this page (9.0 MB): lift export" in flat_text(page)
    assert 'id="open-scene"' not in text and "film and the scene" not in flat_text(page)


def test_a_film_that_is_too_large_is_named(tmp_path, monkeypatch):
    film = EmbeddedFilm("video.mp4", 9_000_000, False)
    monkeypatch.setattr("lift.outputs.report.page.embed_film", lambda folder: film)
    _, page = write_page(tmp_path, build_result(tmp_path), frame_metrics(), None)
    assert [video["src"] for video in page.all("video")] == ["video.mp4"]
    assert "A film of the scene, 9.0 MB in the file video.mp4 in the run's folder." in flat_text(
        page
    )
    assert "but not the film" in flat_text(page)


def test_report_lists_distortion_parts_and_verdicts(tmp_path):
    result = build_result(tmp_path)
    supplied = {
        "num_views": 7,
        "extent": 3.5,
        "size": (32, 24),
        "trajectory": result.trajectory,
        "points": result.reconstruction.points,
    }
    composed = distortions.build({"name": "composed", "parts": ["rigid", "blur"]}, **supplied)
    composed.progress = 0.5
    composed.prune(
        lambda: torch.tensor(
            [1 - 0.41 * any(isinstance(part, Rigid) for part in composed.active_parts())]
        )
    )
    _, page = write_page(tmp_path, replace(result, distortion=composed), frame_metrics(), TRUTH)
    assert "rigid kept (41 %), blur dropped (0 %)." in flat_text(page)
    needless = distortions.build(
        {"name": "composed", "parts": ["rigid", "blur"]}, **supplied, multiview_consistent=True
    )
    _, page = write_page(tmp_path, replace(result, distortion=needless), frame_metrics(), TRUTH)
    text = flat_text(page)
    assert "guarantees that its frames show one scene, so rigid, blur were not needed." in text


def test_a_run_without_clips_is_a_page_too(tmp_path):
    result = build_result(tmp_path)
    alone = replace(
        result, trajectory=Trajectory(result.trajectory.start, ()), frames=result.frames[0]
    )
    _, page = write_page(tmp_path, alone, frame_metrics()[:1], None)
    assert {a.get("id") for a in page.all("section")} == SECTIONS


def test_every_format_of_the_scene_has_a_description():
    assert {f"gaussians.{name}" for name in SPLAT_FORMATS} <= set(OUTPUT_FILES)


def test_the_size_of_the_file_is_told(tmp_path):
    result = build_result(tmp_path)
    known = replace(result, picture=replace(result.picture, full_size=(64, 48)))
    _, page = write_page(tmp_path, known, frame_metrics(), None)
    assert "One picture of 64 × 48 pixels, worked on at 32 × 24, continued" in flat_text(page)
    _, page = write_page(tmp_path, result, frame_metrics(), None)
    assert "One picture worked on at 32 × 24 pixels, continued" in flat_text(page)


def test_held_out_frames_are_counted_apart(written_page):
    flat = flat_text(written_page[1])
    assert "40 Gaussians from 6 generated frames and the input; 1 held out." in flat


def test_only_the_table_of_files_has_links(written_page):
    text, _ = written_page
    assert not re.search(r'<a href="[^#]', text.split("<summary><b>Files</b>")[0])
    assert "The links work if this page lies in the run" in text


def test_a_poor_scene_gets_advice(tmp_path, written_page):
    assert "For a better scene, start a new run" in flat_text(written_page[1])
    _, page = write_page(
        tmp_path, build_result(tmp_path), frame_metrics(), None, verdict="good", findings=[]
    )
    assert "For a better scene" not in flat_text(page)


def test_the_maker_of_the_frames_is_named(written_page):
    assert "by moving the pixels of the photograph by its depth" in flat_text(written_page[1])
    assert frames_origin("svd") == frames_origin("gone") == VideoPrior.origin


def test_stages_of_one_name_are_summed():
    depth, clips, fit = stage_costs(PROVENANCE["stages"])
    assert (clips["seconds"], clips["count"], clips["cached"]) == (3.0, 2, 1)
    assert fit["fraction"] == 1.0 and depth["fraction"] == pytest.approx(0.5 / 130)


def test_the_page_names_the_file_of_a_plugin(written_page):
    _, page = written_page
    assert "plugin prior mine" in page.text and "/plugins/mine.py, SHA-256 f00d" in page.text
