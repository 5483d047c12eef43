"""The prior of docs/extending/prior.md generates clips with a pipeline of random weights."""

import re
from pathlib import Path

import pytest
import torch

from lift.geometry import pinhole
from lift.priors import ClipRequest
from lift.stages.checks import check_clips
from lift.types import Cameras, Clip, Frames
from tests.helpers.commands import lift

PAGE = Path(__file__).parents[2] / "docs/extending/prior.md"
CAMERA = pinhole(64, 48, 60.0)


def read_code() -> str:
    """The module `pipeline_prior.py` of the page."""
    text = PAGE.read_text(encoding="utf-8")
    code = re.search(r"`pipeline_prior\.py`:\n\n```python\n(.*?)^```", text, re.M | re.S)
    assert code
    return code[1]


@pytest.fixture
def prior(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("diffusers")
    from lift.registry import catalogue
    from tests.helpers.tiny.svd import svd

    entries = catalogue().entries
    monkeypatch.setitem(entries, "prior", dict(entries["prior"]))
    names: dict = {"__name__": "pipeline_prior"}
    exec(read_code(), names)
    model = svd(tmp_path / "model")
    return names["PipelinePrior"](
        str(model), frames=3, size=64, num_inference_steps=1, device=torch.device("cpu")
    )


@pytest.mark.slow
def test_the_pipeline_makes_the_frames_of_a_clip(prior):
    images = torch.randint(0, 256, (1, 48, 64, 3), generator=torch.Generator().manual_seed(0))
    clip = Clip("right", 0, Cameras.cat([CAMERA] * prior.clip_length))
    request = ClipRequest(Frames(images.to(torch.uint8)), CAMERA, clip, 3)
    first, again = (prior.generate_batch([request]) for _ in range(2))
    assert check_clips(prior, first, [request])[0].images.equal(again[0].images)
    assert len(first[0]) == 2
    prior.release()


@pytest.mark.slow
def test_the_page_says_how_to_check_the_pipeline(tmp_path):
    pytest.importorskip("diffusers")
    from tests.helpers.tiny.svd import svd

    (tmp_path / "pipeline_prior.py").write_text(read_code(), encoding="utf-8")
    svd(tmp_path / "FOLDER")
    command = re.search(
        r"^lift (check pipeline_prior\.py .*)$", PAGE.read_text(encoding="utf-8"), re.M
    )
    assert command
    done = lift(*command[1].split(), cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "5 passed, 0 failed, 1 skipped"
