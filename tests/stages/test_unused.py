"""What the user is told about components that take no part in a run."""

from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from lift.config import compose_run
from lift.config.fit_schema import Densify
from lift.io.image import load_picture, save_image
from lift.registry import catalogue
from lift.runtime.dry_run import dry_run
from lift.runtime.session import Session
from lift.stages.inputs import read_input
from lift.stages.plan import build_planner
from lift.stages.unused import planner_is_used, unused_densify_message


@pytest.fixture
def views(tmp_path: Path) -> Path:
    """A folder of three pictures."""
    folder = tmp_path / "views"
    folder.mkdir()
    rng = torch.Generator().manual_seed(0)
    for index in range(3):
        image = torch.randint(0, 256, (48, 64, 3), generator=rng, dtype=torch.uint8)
        save_image(folder / f"{index}.png", image)
    return folder


@pytest.fixture
def path_file(tmp_path: Path) -> Path:
    """A file with a camera path."""
    (tmp_path / "path").mkdir()
    settings = catalogue()("planner", "path").example_settings(tmp_path / "path")
    assert settings
    return Path(settings["path"])


def generated_elsewhere(views: Path, *settings: str) -> DictConfig:
    return compose_run(
        [
            f"image={views / '0.png'}",
            "prior=frames",
            f"prior.path={views}",
            f"output={views.parent}",
            *settings,
        ]
    )


def capture(views: Path, *settings: str) -> DictConfig:
    return compose_run([f"image={views}", f"output={views.parent}", *settings])


@pytest.mark.parametrize(
    "settings", [("planner=orbit",), ("planner=articulated", "planner.levels=3")]
)
def test_a_chosen_planner_that_is_not_used_is_noted(views: Path, settings: tuple[str, ...]) -> None:
    session = Session(generated_elsewhere(views, *settings))
    read_input(session)
    message = f"{settings[0]} is not used, because prior=frames has its frames already"
    assert [message in note and "planner=path" in note for note in session.notes].count(True) == 1
    assert session.unused_slots == ("planner",)


def test_the_default_planner_that_is_not_used_is_printed(
    views: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    session = Session(generated_elsewhere(views))
    read_input(session)
    assert not [note for note in session.notes if "not used" in note]
    assert "planner=articulated is not used" in capsys.readouterr().err


def test_a_path_is_a_hint_for_frames_that_exist(
    views: Path, path_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    session = Session(generated_elsewhere(views, "planner=path", f"planner.path={path_file}"))
    picture, _ = read_input(session)
    assert session.unused_slots == () and "not used" not in capsys.readouterr().err
    assert build_planner(session, picture) is not None


def test_components_decide_whether_a_plan_is_used(
    views: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = compose_run([f"image={views / '0.png'}", "prior=warp", "planner=orbit"])
    assert planner_is_used(config)
    monkeypatch.setattr(catalogue()("prior", "warp"), "has_recorded_frames", True)
    assert not planner_is_used(config)
    monkeypatch.setattr(catalogue()("planner", "orbit"), "hints_recorded_frames", True)
    assert planner_is_used(config)


def test_no_file_of_an_unused_planner_is_read(views: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue()("planner", "path"), "hints_recorded_frames", False)
    config = generated_elsewhere(views, "planner=path", "planner.path=missing.json")
    picture = load_picture(config.image, 64, 55.0)
    assert build_planner(Session(config), picture) is None


def test_the_dry_run_names_the_unused_planner(views: Path) -> None:
    report = dry_run(generated_elsewhere(views, "planner=orbit"))
    plan = next(line for line in report.splitlines() if line.startswith("plan "))
    assert "planner=orbit is not used" in plan and "planner=path" in plan
    assert "1 clip, 3 frames with the input" in plan


def test_the_dry_run_plans_a_hint_with_the_clips_of_the_prior(views: Path, path_file: Path) -> None:
    config = generated_elsewhere(
        views, "prior.length=2", "planner=path", f"planner.path={path_file}"
    )
    assert "path (Apache-2.0); 2 clips, 5 frames with the input" in dry_run(config)


@pytest.mark.parametrize("setting", ["planner=orbit", "prior=synthetic"])
def test_components_that_a_capture_does_not_use_are_noted(views: Path, setting: str) -> None:
    session = Session(capture(views, setting))
    read_input(session)
    assert [setting in note and "are not used" in note for note in session.notes].count(True) == 1
    assert setting in dry_run(session.config)


def test_defaults_that_a_capture_does_not_use_are_printed(
    views: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    session = Session(capture(views))
    read_input(session)
    assert not [note for note in session.notes if "not used" in note]
    assert "planner=articulated and prior=warp are not used" in capsys.readouterr().err


def test_a_camera_file_in_the_planner_of_a_capture_is_an_error(
    views: Path, path_file: Path
) -> None:
    config = capture(views, "planner=path", f"planner.path={path_file}")
    for act in (lambda: read_input(Session(config)), lambda: dry_run(config)):
        with pytest.raises(ValueError, match="planner=path has nothing to plan; .*cameras=FILE"):
            act()


def test_frames_for_a_capture_are_an_error(views: Path) -> None:
    config = capture(views, "prior=frames", f"prior.path={views}")
    for act in (lambda: read_input(Session(config)), lambda: dry_run(config)):
        with pytest.raises(ValueError, match="so prior=frames has none to add"):
            act()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, None),
        ({"strategy": "gradient", "gradient": {"reset_every": 5}}, None),
        (
            {"gradient": {"reset_every": 5}},
            "fit.densify.gradient.reset_every is not used, because fit.densify.strategy is mcmc; "
            "gradient uses it",
        ),
        (
            {"strategy": "gradient", "noise_scale": 1.0, "growth_until": 0.4},
            "fit.densify.growth_until, fit.densify.noise_scale are not used, because "
            "fit.densify.strategy is gradient; mcmc uses them",
        ),
    ],
)
def test_settings_of_the_other_densification_are_named(settings, message):
    densify = OmegaConf.merge(OmegaConf.structured(Densify), settings)
    assert unused_densify_message(densify) == message
