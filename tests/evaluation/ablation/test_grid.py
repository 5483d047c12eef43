"""Grids of settings."""

import pytest

from lift.evaluation.ablation.grid import (
    Factor,
    Variant,
    check_labels,
    choose_references,
    make_factor,
    multiply,
    parse_grid,
)
from lift.registry import ComponentError


def labels(*grids: str) -> list[str]:
    return [variant.label for variant in multiply([parse_grid(grid) for grid in grids])]


@pytest.mark.parametrize(
    "grid, expected",
    [
        ("prior=warp,svd", [["prior=warp"], ["prior=svd"]]),
        ("fit.steps=5, 10", [["fit.steps=5"], ["fit.steps=10"]]),
        (
            "distortion.parts=[rigid],[rigid,blur]",
            [["distortion.parts=[rigid]"], ["distortion.parts=[rigid,blur]"]],
        ),
        ("a={x:[1,2],y:3},{}", [["a={x:[1,2],y:3}"], ["a={}"]]),
        ("""prior.prompt="a, b",it's""", [["prior.prompt=a, b"], ["prior.prompt=it's"]]),
        ("prior.prompt=a red house", [["prior.prompt=a red house"]]),
        (
            "distortion=identity|distortion=composed distortion.prune_after=0",
            [["distortion=identity"], ["distortion=composed", "distortion.prune_after=0"]],
        ),
        (
            "a=1 | a=2 b=3,4",
            [["a=1"], ["a=2", "b=3"], ["a=2", "b=4"]],
        ),
        ("a='x|y'", [["a=x|y"]]),
        ("a=", [["a="]]),
    ],
)
def test_grid_splits_outside_brackets_and_quotes(grid, expected):
    assert [list(factor.settings) for factor in parse_grid(grid)] == expected


@pytest.mark.parametrize(
    "grid, message",
    [
        ("prior", "'prior' is no setting; write KEY=VALUE"),
        ("prior=warp | svd", "'svd' is no setting"),
        ("a=[1,2", r"'\[' is not closed"),
        ("a=1)", r"has a '\)' that nothing opens"),
        ("a='x", '"\'" is not closed'),
        ("name=a,b prior=warp", "an alternative has one name, not 2"),
        ("protocol.seeds=[0],[1]", "all rows have the same seeds: choose --seeds N"),
        ("seed=0,1", "choose --seeds N"),
    ],
)
def test_wrong_grid_names_what_is_wrong(grid, message):
    with pytest.raises(ComponentError, match=message):
        parse_grid(grid)


def test_grids_are_multiplied_the_last_one_fastest():
    assert labels("d=i,r", "p=w,s") == ["d=i,p=w", "d=i,p=s", "d=r,p=w", "d=r,p=s"]
    with pytest.raises(ComponentError, match="has p twice; write it in one --grid"):
        labels("p=w", "d=i p=s")


def test_name_replaces_the_settings_in_a_label():
    assert labels("name=plain d=i | name=full d=c c=0", "p=w,s") == [
        "plain,p=w",
        "plain,p=s",
        "full,p=w",
        "full,p=s",
    ]
    assert Variant((make_factor([], "part"),)).label == "defaults"
    assert make_factor(["a=1", "name=x", "a=2"], "part") == Factor(("a=2",), "x")


def test_equal_labels_are_refused():
    with pytest.raises(ComponentError, match="two rows of the table are 'p=w'; give each a name"):
        check_labels(multiply([parse_grid("p=w,s,w")]))


def test_variant_survives_json():
    variant = multiply([parse_grid("name=full d=c c=0"), parse_grid("p=w")])[0]
    assert Variant.from_json(variant.to_json()) == variant
    assert variant.settings == {"d": "c", "c": "0", "p": "w"}


def test_complete_baseline_is_the_reference_of_all_rows():
    variants = multiply([parse_grid("d=i,r"), parse_grid("p=w,s")])
    assert list(choose_references(variants, None)) == [0, 0, 0, 0]
    for baseline in ("d=r,p=w", "p=w, d=r", "d=r p=w"):
        assert list(choose_references(variants, baseline)) == [2, 2, 2, 2]
    with pytest.raises(ComponentError, match="--baseline is 'p=x'; choose a row: d=i,p=w, d=i,p=s"):
        choose_references(variants, "p=x")


def test_partial_baseline_compares_rows_that_agree_otherwise():
    variants = multiply([parse_grid("name=no d=i | name=yes d=c c=0"), parse_grid("p=w,s")])
    assert list(choose_references(variants, "p=w")) == [0, 0, 2, 2]
    for baseline in ("no", "d=i"):
        assert list(choose_references(variants, baseline)) == [0, 1, 0, 1]
    uneven = [*variants, Variant((Factor(("p=w", "q=1")),))]
    assert list(choose_references(uneven, "p=w")) == [0, 0, 2, 2, 4]
