"""A whole run that a viewer follows."""

import os
import subprocess
import sys
import time

import pytest

from lift.outputs.live_view import LiveScene, find_job
from lift.runtime.live_job import PREVIEW_SHEET
from tests.helpers.settings import TINY


@pytest.mark.slow
def test_a_viewer_follows_a_run_from_its_preview_to_its_end(finished_run, tmp_path):
    # The run of the fixture has compiled what the preview's colours need.
    run = tmp_path / "coffee" / "live"
    process = subprocess.Popen(
        [sys.executable, "-m", "lift", "run", "image=coffee", *TINY, "preview=true"]
        + ["name=live", f"output={tmp_path}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ.copy(),
    )
    statuses: list[str] = []
    scenes = []
    has_sheet = False
    scene = None
    while process.poll() is None or (scene and not scene.is_over):
        job = run.with_name(".live.running")
        if scene is None and (found := find_job(run)):
            scene = LiveScene(found)
        if scene is not None:
            gaussians, is_new = scene.poll()
            scenes += [] if gaussians is None else [len(gaussians)]
            statuses += [scene.status] if is_new else []
            has_sheet |= (job / PREVIEW_SHEET).is_file()
            assert not (run / "gaussians.ply").exists() or scene.state.stage != "preview"
        time.sleep(0.05)
    assert process.stderr is not None
    messages = process.stderr.read()
    assert process.returncode == 0, messages
    assert "lift view" in messages and "before the fit" in messages
    assert scene is not None and scene.run_folder == run and (run / "gaussians.ply").is_file()
    assert statuses[-1] == "finished"
    assert "preview, before the fit" in statuses
    assert any("of 30 of the fit" in status for status in statuses)
    assert scenes[0] > 96 * 64, "one Gaussian a pixel, and a second layer"
    assert 0 < scenes[-1] <= 4000, "those of the fit"
    assert has_sheet
