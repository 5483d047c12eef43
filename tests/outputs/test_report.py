"""The report has every section, embeds its pictures, fetches nothing and escapes names."""

import base64
import re
from dataclasses import replace

import pytest
import torch

from lift.distortions import distortions
from lift.distortions.rigid import Rigid
from lift.outputs.report import format_command, stage_costs
from lift.types import Trajectory
from tests.helpers.reports import (
    NAME_WITH_MARKUP,
    PROVENANCE,
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


def test_every_section_is_there_and_every_anchor_leads_somewhere(written_page):
    _, page = written_page
    ids = {attributes["id"] for _, attributes in page.seen if "id" in attributes}
    assert ids == SECTIONS | {"truth"}
    assert {a["href"][1:] for a in page.all("a") if a["href"].startswith("#")} <= ids


def test_it_fetches_nothing_and_runs_nothing(written_page):
    text, page = written_page
    assert (
        not page.all("script")
        and not page.all("link")
        and not re.search(r"url\(|@import|https?:", text)
    )
    sources = [
        attributes[key]
        for _, attributes in page.seen
        for key in ("src", "href", "poster")
        if key in attributes
    ]
    assert all(
        source.startswith(("data:image/jpeg;base64,", "#")) or re.fullmatch(r"[\w./]+", source)
        for source in sources
    )
    assert [video["src"] for video in page.all("video")] == ["video.mp4"]
    for image in page.all("img"):
        assert image["alt"] and base64.b64decode(image["src"].split(",")[1]).startswith(b"\xff\xd8")
    assert len(text) < 400_000


def test_the_verdict_and_its_numbers_come_first(written_page):
    text, page = written_page
    flat = " ".join(page.text.split())
    names = [
        "POOR SCENE",
        "PSNR of the input view",
        "PSNR of held-out frames",
        "coverage of the fly-through",
        "Number of coloured",
        "One picture",
        "fly-through of",
    ]
    places = [flat.index(name) for name in names]
    assert places == sorted(places) and 'class="verdict poor"' in text
    assert "The canonical scene does not explain the input view (20.0 dB; 28 dB is good)." in flat
    assert "In the worst view it is 95 %" in flat


def test_a_good_scene_is_called_good(tmp_path):
    changed = {"verdict": "good", "reasons": [], "held_out_psnr": None}
    text, page = write_page(tmp_path, build_result(tmp_path), frame_metrics(), None, **changed)
    assert (
        'class="verdict good"' in text and "POOR" not in page.text and "not measured" in page.text
    )


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
    assert "No camera path was planned" in " ".join(page.text.split())
    assert "Dotted: as planned" not in page.text and 'class="faint"' not in text
    assert "6 · not registered" in page.text and "continued along" not in page.text


def test_names_are_text(written_page):
    text, page = written_page
    assert "<script" not in text and "<b>up" not in text and "<i>assumed" not in text
    assert (
        NAME_WITH_MARKUP in page.text
        and "right/<b>up" in page.text
        and "focal length <i>assumed</i>" in page.text
    )


def test_clips_stand_below_what_they_continue(written_page):
    text, page = written_page
    levels = re.findall(r"--level: (\d)", text)
    assert levels == ["0", "1"]
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
        in " ".join(page.text.split())
    )


def test_numbers_of_the_run_appear(written_page):
    flat = " ".join(written_page[1].text.split())
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


def test_report_states_missing_truth_log_and_learning(tmp_path):
    result = replace(build_result(tmp_path, "plain"), fit_folder=tmp_path / "nowhere")
    text, page = write_page(tmp_path, result, frame_metrics(0.0), None)
    assert (
        "No distortion was learned for any frame" in " ".join(page.text.split())
        and "camera turned by" not in text
    )
    assert 'id="truth"' not in text and "left no curves" in text


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
    text = " ".join(
        write_page(tmp_path, replace(result, distortion=composed), frame_metrics(), TRUTH)[
            1
        ].text.split()
    )
    assert "rigid kept (41 %), blur dropped (0 %)." in text
    needless = distortions.build(
        {"name": "composed", "parts": ["rigid", "blur"]}, **supplied, multiview_consistent=True
    )
    text = " ".join(
        write_page(tmp_path, replace(result, distortion=needless), frame_metrics(), TRUTH)[
            1
        ].text.split()
    )
    assert "guarantees that its frames show one scene, so rigid, blur were not needed." in text


def test_a_run_without_clips_is_a_page_too(tmp_path):
    result = build_result(tmp_path)
    alone = replace(
        result, trajectory=Trajectory(result.trajectory.start, ()), frames=result.frames[0]
    )
    _, page = write_page(tmp_path, alone, frame_metrics()[:1], None)
    assert {a.get("id") for a in page.all("section")} == SECTIONS


def test_stages_of_one_name_are_summed():
    depth, clips, fit = stage_costs(PROVENANCE["stages"])
    assert (clips["seconds"], clips["count"], clips["cached"]) == (3.0, 2, 1)
    assert fit["fraction"] == 1.0 and depth["fraction"] == pytest.approx(0.5 / 130)


def test_the_command_can_be_typed():
    assert format_command(["lift run", "image=a b.jpg"]) == "lift run 'image=a b.jpg'"
    assert format_command(["/somewhere/bin/lift", "-m"]) == "lift -m"


def test_the_command_names_plugins_and_choices_of_python():
    command = format_command(["run.py"], {"LIFT_PLUGINS": "a b"}, ["experiment=mine"])
    assert command == "LIFT_PLUGINS='a b' run.py\nlift.run with experiment=mine"


def test_the_page_names_the_file_of_a_plugin(tmp_path):
    _, page = write_page(tmp_path, build_result(tmp_path), frame_metrics(), None)
    assert "plugin prior mine" in page.text and "/plugins/mine.py, SHA-256 f00d" in page.text
