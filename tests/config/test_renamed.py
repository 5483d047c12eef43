from pathlib import Path

import pytest

from lift.config import check_setting_name
from lift.registry import ComponentError, catalogue
from lift.renamed import (
    RENAMED_COMPONENT_SETTINGS,
    RENAMED_SETTINGS,
    renamed_component_setting,
    renamed_setting,
)
from tests.helpers.commands import here

RENAMED_IN_COMPONENTS = [
    (slot, old, new)
    for slot, settings in RENAMED_COMPONENT_SETTINGS.items()
    for old, names in settings.items()
    for new in names
]


@pytest.mark.parametrize(("old", "new"), RENAMED_SETTINGS.items())
def test_an_old_setting_is_refused_with_its_new_name(old: str, new: str) -> None:
    check_setting_name(new)
    with pytest.raises(ComponentError, match=f"^{old} has a new name; use {new}(; its value.*)?$"):
        check_setting_name(old)


def test_a_changed_unit_is_told() -> None:
    with pytest.raises(
        ComponentError, match=r"seconds; .* the number of frames / export.film.fps$"
    ):
        check_setting_name("export.video_frames")


@pytest.mark.parametrize(("slot", "old", "new"), RENAMED_IN_COMPONENTS)
def test_a_component_has_only_the_new_name(slot: str, old: str, new: str) -> None:
    owners = [entry for entry in catalogue().entries[slot].values() if new in entry.settings]
    renamed = [
        entry
        for entry in owners
        if renamed_component_setting(slot, old, entry.settings) == new and old not in entry.settings
    ]
    assert renamed
    with pytest.raises(ComponentError, match=f"^{slot}.{old} has a new name; use {slot}.{new}$"):
        renamed[0].check({old: 1})


def test_settings_of_a_renamed_group_keep_their_names() -> None:
    assert renamed_setting("intake.size") == "preprocess.size"
    assert renamed_setting("fit.coarse.until") == "fit.coarse_to_fine.until"
    assert renamed_setting("fit.coarse.sizes") == "fit.coarse_to_fine.scales"
    assert renamed_setting("fit.steps") is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("run", "image=coffee", "intake.size=96"),
            "intake.size has a new name; use preprocess.size",
        ),
        (
            ("run", "image=coffee", "+fit.trust.frames=0"),
            "fit.trust.frames has a new name; use fit.robust.frames",
        ),
        (
            ("run", "image=coffee", "prior=svd", "prior.at_once=2"),
            "prior.at_once has a new name; use prior.batch_size",
        ),
        (
            ("run", "image=coffee", "++distortion.settings.blur.most=2"),
            "in distortion.parts: distortion.most has a new name; use distortion.max_sigma",
        ),
        (
            ("run", "image=coffee", "prior.at_once=2"),
            "prior.at_once is not a setting of 'warp'; its new name is prior.batch_size, of prior=",
        ),
        (("batch", "coffee", "fit.held_out=4"), "fit.held_out has a new name; use fit.test_every"),
        (
            ("batch", "coffee", "pose=matching", "pose.least=4"),
            "pose.least has a new name; use pose.min_registered",
        ),
        (
            ("eval", "dataset=ray_cast", "protocol.most=2"),
            "protocol.most has a new name; use protocol.max_targets",
        ),
        (
            ("eval", "dataset=ray_cast", "deliver.fps=12"),
            "deliver.fps has a new name; use export.film.fps",
        ),
    ],
)
def test_commands_name_the_new_setting(
    tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    result = here(*arguments, f"output={tmp_path / 'out'}", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr.startswith(f"lift: {message}") and result.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("intake:\n  size: 96\n", "in mine: intake has a new name; use preprocess"),
        (
            "fit:\n  trust:\n    frames: 0\n",
            "in mine: fit.trust has a new name; use fit.robust",
        ),
        ("distortion:\n  sift: 0\n", "distortion.sift has a new name; use distortion.prune_after"),
    ],
)
def test_a_yaml_file_with_an_old_name_is_refused(
    tmp_path: Path, settings: str, message: str
) -> None:
    (tmp_path / "mine.yaml").write_text(f"defaults:\n  - lift\n  - _self_\n{settings}")
    result = here(
        "run", f"--config-dir={tmp_path}", "--config-name=mine", "image=coffee", cwd=tmp_path
    )
    assert result.returncode == 2
    assert result.stderr == f"lift: {message}\n"
