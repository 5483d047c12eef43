"""The picture that a run starts from."""

from pathlib import Path

import pytest

from lift.config import compose_run
from lift.runtime.dry_run import dry_run
from lift.runtime.session import Session
from lift.stages.inputs import read_input

pytest.importorskip("diffusers")

SETTINGS = ["image=coffee", "preprocess.size=128", "prior=svd"]


def test_a_run_crops_its_picture_to_the_shape_of_the_prior(tmp_path: Path) -> None:
    session = Session(compose_run([*SETTINGS, f"output={tmp_path}"]))
    picture, _ = read_input(session)
    assert (picture.cameras.width, picture.cameras.height) == (128, 72)
    assert any("the middle of the picture" in note for note in session.notes)
    assert "128x72" in dry_run(session.config) or "128 x 72" in dry_run(session.config)


def test_a_padded_picture_stays_whole(tmp_path: Path) -> None:
    settings = [*SETTINGS, "prior.resize_mode=pad", f"output={tmp_path}"]
    session = Session(compose_run(settings))
    picture, _ = read_input(session)
    assert (picture.cameras.width, picture.cameras.height) == (128, 88)
    assert any("borders the rest" in note for note in session.notes)
