"""Checkpoints are verified, and the one before a damaged one is used."""

from pathlib import Path

import pytest
import torch

from lift.runtime.integrity import DamagedFileError
from lift.training import CHECKPOINT, PREVIOUS_CHECKPOINT
from lift.training.checkpoint import (
    AtomicCheckpointIO,
    read_progress,
    restore_checkpoint,
    verify_checkpoint,
)
from tests.helpers.damage import KINDS, damage


def state(step: int) -> dict:
    return {"epoch": step // 10, "step": step, "weights": torch.arange(1000.0) + step}


@pytest.fixture
def folder(tmp_path) -> Path:
    """Folder of a fit with checkpoints of steps 10 and 20."""
    for step in (10, 20):
        AtomicCheckpointIO().save_checkpoint(state(step), tmp_path / "fit" / CHECKPOINT)
    return tmp_path / "fit"


def test_the_checkpoint_before_is_kept(folder):
    assert {path.name for path in folder.iterdir()} == {CHECKPOINT, PREVIOUS_CHECKPOINT}
    assert read_progress(folder / CHECKPOINT) == (3, 20)
    assert read_progress(folder / PREVIOUS_CHECKPOINT) == (2, 10)


def test_every_flipped_bit_of_the_values_is_found(folder):
    good = (folder / CHECKPOINT).read_bytes()
    expected = torch.load(folder / CHECKPOINT, weights_only=True)["weights"]
    found = 0
    for bit in range(0, 8 * len(good), 251):
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        (folder / CHECKPOINT).write_bytes(bad)
        try:
            verify_checkpoint(folder / CHECKPOINT)
        except DamagedFileError:
            found += 1
        else:  # a bit that nobody reads, such as padding
            with (folder / CHECKPOINT).open("rb") as file:
                loaded = torch.load(file, weights_only=True)
            assert loaded["step"] == 20 and loaded["weights"].equal(expected)
    assert found > 8 * 4000 // 251, "each of the bits of the tensor, at least"


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "longer"])
def test_a_damaged_checkpoint_is_named_and_replaced(folder, kind):
    lines: list[str] = []
    damage(folder / CHECKPOINT, kind, seed=1)
    restore_checkpoint(folder, lines.append)
    assert read_progress(folder / CHECKPOINT) == (2, 10)
    assert [path.name for path in folder.iterdir()] == [CHECKPOINT]
    if kind != "missing":  # as after a kill between two renames
        assert len(lines) == 1 and str(folder / CHECKPOINT) in lines[0]
        assert (folder.parent / "fit.checkpoint.damaged-1").exists()


def test_without_a_good_checkpoint_the_fit_starts_anew(folder):
    lines: list[str] = []
    for name in (CHECKPOINT, PREVIOUS_CHECKPOINT):
        damage(folder / name, "half")
    restore_checkpoint(folder, lines.append)
    assert len(lines) == 2 and not list(folder.iterdir())


def test_good_checkpoints_stay_as_they_are(folder):
    lines: list[str] = []
    restore_checkpoint(folder, lines.append)
    assert not lines and read_progress(folder / CHECKPOINT) == (3, 20)


def test_reading_a_damaged_checkpoint_names_it(folder):
    damage(folder / CHECKPOINT, "garbage")
    with pytest.raises(DamagedFileError, match=CHECKPOINT):
        read_progress(folder / CHECKPOINT)
