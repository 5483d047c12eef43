"""One source of figures says which generators fit a GPU."""

from dataclasses import replace

import pytest

from lift.registry import catalogue
from lift.runtime.memory import (
    format_memory,
    list_fitting,
    peak_memory,
    required_memory,
    scale_working_memory,
    trained_shape,
)


@pytest.fixture
def entry():
    """A generator of which the memory without offloading was measured."""
    return replace(
        catalogue()("prior", "svd"),
        name="tried",
        weight_memory={"unet": 4.0, "vae": 1.0},
        working_memory=3.0,
        measured_memory={"none": 6.2},
        memory_note="",
    )


def test_measured_memory_replaces_the_estimate(entry):
    figures = peak_memory(entry)
    assert (figures["none"].gib, figures["none"].is_measured) == (6.2, True)
    assert (figures["model"].gib, figures["model"].is_measured) == (7.0, False)
    assert (figures["group"].gib, figures["group"].is_measured) == (4.5, False)


def test_measured_and_estimated_memory_are_told_apart(entry):
    text = "about 6* / 7 / 4 GiB of GPU memory with prior.offload=none / model / group"
    assert format_memory(entry) == f"{text} (* measured, others estimated)"
    assert format_memory(replace(entry, measured_memory={})).endswith("group (estimated)")


def test_memory_grows_with_pixels_frames_and_clips():
    trained = (8.0, (1024, 576), 16)
    assert scale_working_memory(*trained) == 8
    assert scale_working_memory(*trained, size=(1024, 768)) == pytest.approx(8 * 4 / 3)
    assert scale_working_memory(*trained, size=trained_shape((1024, 576), 512)) == 2
    assert scale_working_memory(*trained, frames=8) == 4
    assert scale_working_memory(*trained, batch_size=3) == 24


def test_what_fits_is_listed_by_offload(entry):
    lines = list_fitting([entry], 6.5).splitlines()
    assert lines[2].split() == ["tried", "6*", "7", "4", "none", "group"]
    assert list_fitting([entry], 4.0).splitlines()[2].split()[-1] == "no"


def test_the_star_is_explained_only_if_a_row_has_one(entry):
    assert "figures with * were measured" in list_fitting([entry], 6.5)
    estimated = list_fitting([replace(entry, measured_memory={})], 6.5)
    assert "*" not in estimated and "all figures are estimates" in estimated


def test_float8_halves_all_denoisers():
    parts = {"transformer": 4.0, "transformer_2": 2.0, "vae": 1.0}
    both = ("transformer", "transformer_2")
    assert required_memory(parts, 0.0, "none", "float8", both[:1]) == 5
    assert required_memory(parts, 0.0, "none", "float8", both) == 4


def test_every_prior_is_listed_with_figures_or_in_words():
    entries = catalogue().entries["prior"]
    lines = list_fitting(entries.values(), 24.0).splitlines()[2:-3]
    assert sorted(line.split()[0] for line in lines) == sorted(entries)
    for line in lines:
        name, *cells = line.split()
        is_known = bool(entries[name].weight_memory)
        assert is_known == all(cell != "-" for cell in cells[:3])
        assert is_known or "unknown: " in line or "needs no GPU" in line


def test_a_note_on_what_was_measured_is_shown(entry):
    noted = replace(entry, memory_note="16 frames took 5 GiB")
    assert format_memory(noted).endswith("; 16 frames took 5 GiB")
    assert "(16 frames took 5 GiB)" in list_fitting([noted], 8.0)
