from pathlib import Path

import pytest

from lift.config import compose_run
from lift.io.names import safe_name
from lift.runtime.run_folder import JOB, MULTIRUN, claim_run_folder, run_title, shared_run_folder


def test_without_a_multirun_nothing_is_claimed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(MULTIRUN, raising=False)
    claim_run_folder(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_folder_belongs_to_one_job_of_a_multirun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MULTIRUN, "first")
    monkeypatch.setenv(JOB, "0")
    claim_run_folder(tmp_path)
    claim_run_folder(tmp_path)
    monkeypatch.setenv(JOB, "1")
    with pytest.raises(ValueError, match="has the result of job 0 of this multirun"):
        claim_run_folder(tmp_path)
    monkeypatch.setenv(MULTIRUN, "second")
    claim_run_folder(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".multirun-second"]


@pytest.mark.parametrize(
    ("image", "title"),
    [
        ("coffee", "coffee"),
        ("a/photo (1).jpg", "photo (1)"),
        (("a/one.jpg", "two.jpg", "three.jpg"), "one-and-2-more"),
        ("...png", safe_name("..")),
        ("a/cache.png", safe_name("cache")),
    ],
)
def test_the_title_is_the_name_of_the_picture(image: str | tuple[str, ...], title: str) -> None:
    assert run_title(image) == title


def test_the_title_of_a_folder_is_its_name(tmp_path: Path) -> None:
    (tmp_path / "scene.v2").mkdir()
    assert run_title(f"{tmp_path}/scene.v2/") == "scene.v2"


@pytest.mark.parametrize(
    ("one", "two", "shared"),
    [
        (["name=x", "seed=1"], ["name=x", "seed=2"], True),
        (["name=x"], ["name=y"], False),
        (["seed=1"], ["seed=2"], False),
        (["export.film.fps=1"], ["export.film.fps=2"], True),
        (["deliver.keep=full"], ["deliver.keep=minimal"], True),
        (["trainer.devices=1"], ["trainer.devices=2"], True),
        (["name=x"], ["seed=0"], False),
        (["output=a"], ["output=b/../a"], True),
        (["prior=vace", "prior.batch_size=1"], ["prior=vace", "prior.batch_size=2"], True),
        (["prior=vace", "prior.prompt=a"], ["prior=vace", "prior.prompt=b"], False),
    ],
)
def test_what_decides_about_the_folder_of_a_run(
    one: list[str], two: list[str], shared: bool
) -> None:
    configs = [compose_run(["image=coffee", *settings]) for settings in (one, two)]
    found = shared_run_folder(configs)
    assert (found is not None) == shared
    assert found is None or found[0] == [0, 1]
