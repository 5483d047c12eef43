"""Configuration folders of the user and of plugins, in all commands that compose settings."""

import re
from pathlib import Path

import pytest

from lift.api.running import compose_settings
from lift.config import compose_eval, compose_run
from lift.config.folders import config_files, split_config_folders, use_config_folders
from lift.registry import ComponentError
from tests.helpers.commands import here, lift
from tests.helpers.own_configs import install_package, write_experiment, write_group_file

BUILT_IN = "demo, fast, gpu, laptop, liftimage3d, quality, synthetic"


def settings_of(*arguments: str, cwd: Path) -> str:
    """What `lift run --cfg job` prints."""
    done = here("run", "image=coffee", "--cfg", "job", *arguments, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("--config-dir=my conf", "experiment=tiny"),
        ("experiment=tiny", "--config-dir", "my conf"),
        ("-cd", "my conf", "experiment=tiny"),
        ("experiment=tiny", "--config-dir={cwd}/my conf"),
        ("--config-dir=~/my conf", "experiment=tiny"),
        ("experiment=tiny", "hydra.searchpath=[file://my conf]"),
        ("experiment=tiny", "hydra.searchpath=[file://{cwd}/my conf]"),
        ("experiment=tiny", "hydra.searchpath=['file://my conf',other]"),
        ("experiment=tiny", "--config-dir=other", "--config-dir=my conf"),
    ],
)
def test_an_experiment_of_an_own_folder_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write_experiment(tmp_path / "my conf", "tiny")
    (tmp_path / "other").mkdir()
    shown = settings_of(*(word.format(cwd=tmp_path) for word in arguments), cwd=tmp_path)
    assert "steps: 20" in shown and "name: identity" in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config-dir", "no conf"], "--config-dir is 'no conf', but the folder"),
        (["--config-dir=nowhere"], "/nowhere' does not exist"),
        (["hydra.searchpath=[file://nowhere]"], "hydra.searchpath is 'file://nowhere', but"),
        (["hydra.searchpath=[pkg://nowhere.x]"], "but there is no package nowhere.x"),
        (["--config-dir=file.yaml"], "file.yaml' is a file; give its folder"),
        (["--config-dir"], "--config-dir names no folder; give --config-dir FOLDER"),
        (["--config-dir="], "--config-dir names no folder"),
    ],
)
@pytest.mark.parametrize(
    "command", [("run", "image=coffee"), ("batch", "coffee"), ("eval", "dataset=ray_cast")]
)
def test_a_missing_folder_is_named(
    tmp_path: Path, command: tuple[str, ...], arguments: list[str], message: str
) -> None:
    (tmp_path / "file.yaml").touch()
    done = here(*command, *arguments, cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert message in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["file.yaml"]


def test_an_unknown_experiment_lists_all_choices(tmp_path: Path) -> None:
    conf = write_experiment(tmp_path / "conf", "tiny")
    write_experiment(conf, "nested/one")
    for command in (("run", "image=coffee"), ("batch", "coffee"), ("eval", "dataset=ray_cast")):
        done = here(*command, "--config-dir", "conf", "experiment=tin", cwd=tmp_path)
        assert done.returncode == 2 and done.stderr.count("\n") == 1
        choices = "demo, fast, gpu, laptop, liftimage3d, nested/one, quality, synthetic, tiny"
        assert f"experiment is 'tin'; choose one of {choices}" in done.stderr


def test_a_misplaced_experiment_is_told(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text("fit:\n  steps: 20\n")
    with pytest.raises(ComponentError, match=r"\(put .*/tiny.yaml into the folder .*experiment\)"):
        compose_run(["image=none", f"--config-dir={tmp_path}", "experiment=tiny"])


def test_an_experiment_without_its_package_is_told(tmp_path: Path) -> None:
    write_experiment(tmp_path, "tiny", "# Small.\n# @package _global_\nfit:\n  steps: 20\n")
    with pytest.raises(ComponentError, match="tiny.yaml has to begin with the line '# @package"):
        compose_run(["image=none", f"--config-dir={tmp_path}", "experiment=tiny"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fit: [\n", "tiny.yaml is no valid YAML: while parsing"),
        ("- fit\n", "tiny.yaml holds no settings; give KEY: VALUE"),
        (
            "fit:\n  steps: many\n",
            "in experiment/tiny: fit.steps is 'many'; choose a whole number, 1 to",
        ),
    ],
)
def test_a_file_that_is_not_valid_is_told(tmp_path: Path, text: str, message: str) -> None:
    write_experiment(tmp_path, "tiny", f"# @package _global_\n{text}")
    for command in ("run", "image=coffee", "experiment=tiny"), ("show", "experiment", "tiny"):
        done = here(*command, f"--config-dir={tmp_path}", cwd=tmp_path)
        assert done.returncode == 2 and done.stderr.count("\n") == 1
        assert re.search(message, done.stderr)


def test_an_empty_experiment_changes_nothing(tmp_path: Path) -> None:
    write_experiment(tmp_path, "tiny", "# @package _global_\n# Nothing.\n")
    config = compose_run(["image=none", f"--config-dir={tmp_path}", "experiment=tiny"])
    assert config == compose_run(["image=none"])


def test_experiments_are_known_only_where_the_folder_is_named(tmp_path: Path) -> None:
    write_experiment(tmp_path, "tiny")
    assert compose_run(["image=a", f"--config-dir={tmp_path}", "experiment=tiny"]).fit.steps == 20
    with pytest.raises(ComponentError, match=f"choose one of {BUILT_IN}$"):
        compose_run(["image=none", "experiment=tiny"])


def test_an_own_experiment_of_a_built_in_name_wins(tmp_path: Path) -> None:
    write_experiment(tmp_path, "demo")
    config = compose_run(["image=none", f"--config-dir={tmp_path}", "experiment=demo"])
    assert (config.fit.steps, config.image) == (20, "none")


def test_several_experiments_can_be_chosen(tmp_path: Path) -> None:
    write_experiment(tmp_path, "tiny")
    write_experiment(tmp_path, "one", "# @package _global_\nseed: 5\n")
    config = compose_run(["image=none", f"--config-dir={tmp_path}", "experiment=[tiny,one]"])
    assert (config.fit.steps, config.seed) == (20, 5)
    with pytest.raises(ComponentError, match="experiment is 'two'"):
        compose_run(["image=none", f"--config-dir={tmp_path}", "experiment=[tiny,two]"])


def test_files_of_other_groups_are_accepted(tmp_path: Path) -> None:
    write_group_file(tmp_path, "fit", "fast", "# Fast.\nsteps: 7\nloss:\n  ssim: 0\n")
    write_group_file(tmp_path, "fit/robust", "off", "frames: 0\n")
    write_group_file(tmp_path, "trainer", "two", "accelerator: cpu\ndevices: 1\nmax_time: null\n")
    own = "defaults:\n  - vace\n  - _self_\nprompt: a garden\nnum_inference_steps: 3\n"
    write_group_file(tmp_path, "prior", "garden", own)
    chosen = ["fit=fast", "fit/robust=off", "trainer=two", "prior=garden", "fit.loss.depth=0"]
    config = compose_run(["image=none", f"--config-dir={tmp_path}", *chosen])
    assert (config.fit.steps, config.fit.loss.ssim, config.fit.loss.depth) == (7, 0, 0)
    assert config.fit.robust.frames == 0 and "max_time" in config.trainer
    prior = config.prior
    assert (prior.name, prior.prompt, prior.num_inference_steps) == ("vace", "a garden", 3)
    literal = compose_run(
        ["image=none", f"--config-dir={tmp_path}", "prior=garden", "prior.prompt=a, ${b}"]
    )
    assert literal.prior.prompt == "a, ${b}"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("prior=gardn", "prior is 'gardn'; choose one of cosmos, diffusers, easyanimate, frames, "),
        ("prior=gardn", "garden"),
        ("fit=slow", "fit is 'slow', but it is a group of settings; choose one of fast, or set"),
        ("fit=slow", "such as fit.steps=VALUE"),
        ("frames=3", "frames is '3', but it is a group of settings; set one of them, such as"),
    ],
)
def test_a_wrong_choice_of_a_group_lists_its_files(
    tmp_path: Path, override: str, message: str
) -> None:
    write_group_file(tmp_path, "fit", "fast", "steps: 7\n")
    write_group_file(tmp_path, "prior", "garden", "defaults:\n  - vace\n")
    with pytest.raises(ComponentError) as error:
        compose_run(["image=none", f"--config-dir={tmp_path}", override])
    assert message in str(error.value)


def test_a_file_with_the_name_of_a_component_is_refused(tmp_path: Path) -> None:
    write_group_file(tmp_path, "prior", "warp", "edge_threshold: 2\n")
    with pytest.raises(ComponentError, match="warp.yaml has the name of the prior 'warp'; rename"):
        compose_run(["image=none", f"--config-dir={tmp_path}"])


def test_an_evaluation_takes_own_datasets_and_experiments(tmp_path: Path) -> None:
    own = "defaults:\n  - ray_cast\n  - _self_\nscenes: [room]\n"
    write_group_file(tmp_path, "dataset", "rooms", own)
    config = compose_eval([f"--config-dir={tmp_path}", "dataset=rooms"])
    assert (config.dataset.name, list(config.dataset.scenes)) == ("ray_cast", ["room"])


def test_a_function_call_takes_own_folders(tmp_path: Path) -> None:
    write_experiment(tmp_path / "a b", "tiny")
    config = compose_settings("x.jpg", {"experiment": "tiny"}, tmp_path / "a b")
    assert config.fit.steps == 20
    with pytest.raises(ComponentError, match="--config-dir is .*nowhere"):
        compose_settings("x.jpg", {}, "nowhere")


def test_arguments_are_separated_from_folders(tmp_path: Path) -> None:
    folder = f"--config-dir={tmp_path}"
    split = split_config_folders(["a=1", "--config-dir", str(tmp_path), "hydra.searchpath=[]", "b"])
    assert split == ([folder], ["a=1", "b"])
    assert split_config_folders([f"+hydra.searchpath=[{tmp_path},{tmp_path}]"])[0] == [folder] * 2
    assert split_config_folders(["--config-dir=pkg://tests.config"])[0][0].endswith("tests/config")


def test_nested_blocks_add_their_folders(tmp_path: Path) -> None:
    write_experiment(tmp_path / "one", "tiny")
    write_experiment(tmp_path / "two", "other")
    with (
        use_config_folders([f"--config-dir={tmp_path / 'one'}"]),
        use_config_folders([f"--config-dir={tmp_path / 'two'}"]),
    ):
        files = config_files("experiment")
        assert files["tiny"].origin == str(tmp_path / "one") and "other" in files
    assert "tiny" not in config_files("experiment")


@pytest.mark.slow
def test_a_batch_and_its_processes_use_an_own_folder(tmp_path: Path) -> None:
    write_experiment(tmp_path / "my conf", "tiny")
    small = ("planner.levels=1", "planner.num_frames=3", "fit.initial_gaussians=500")
    done = lift(
        *("batch", "coffee", "astronaut", "--config-dir", "my conf", "experiment=tiny", *small),
        *("export.film.seconds=0.05", "--processes", "2"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    configs = sorted((tmp_path / "outputs").glob("*/*/config.yaml"))
    assert len(configs) == 2
    assert all("steps: 20" in config.read_text() for config in configs)


class TestPlugins:
    """Experiments in packages of plugins."""

    @pytest.mark.slow
    def test_an_entry_point_names_a_folder(self, tmp_path: Path) -> None:
        package = install_package(
            tmp_path / "site", "garden_tools", "[lift.configs]\nmine = garden_tools:presets\n"
        )
        (package / "__init__.py").write_text("raise RuntimeError('is not imported')")
        write_experiment(package / "presets", "garden")
        path = {"PYTHONPATH": str(tmp_path / "site")}
        listed = lift("list", "experiment", cwd=tmp_path, **path)
        assert "garden           A small run for tests.  (garden_tools:presets)" in listed.stdout
        assert "broken" not in listed.stdout
        done = lift(
            "run", "image=coffee", "experiment=garden", "--cfg", "job", cwd=tmp_path, **path
        )
        assert "steps: 20" in done.stdout, done.stderr
        wrong = lift("batch", "coffee", "experiment=x", cwd=tmp_path, **path)
        assert "choose one of demo, fast, garden, gpu" in wrong.stderr

    def test_a_package_itself_can_be_the_folder(self, tmp_path: Path) -> None:
        points = "[lift.configs]\nmine = garden_tools\n"
        package = install_package(tmp_path / "site", "garden_tools", points)
        write_experiment(package, "garden")
        listed = lift("list", "experiment", cwd=tmp_path, PYTHONPATH=str(tmp_path / "site"))
        assert "garden           A small run for tests.  (garden_tools)" in listed.stdout

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            ("garden_tools:nowhere", "there is no folder"),
            ("no_package:presets", "there is no package 'no_package'"),
        ],
    )
    def test_a_folder_that_is_missing_is_a_broken_plugin(
        self, tmp_path: Path, value: str, message: str
    ) -> None:
        install_package(tmp_path / "site", "garden_tools", f"[lift.configs]\nmine = {value}\n")
        path = {"PYTHONPATH": str(tmp_path / "site")}
        listed = lift("list", "experiment", cwd=tmp_path, **path)
        assert f"broken plugin {value}: " in listed.stdout and message in listed.stdout
        wrong = lift("run", "image=coffee", "experiment=garden", cwd=tmp_path, **path)
        assert f"(plugin '{value}' is broken" in wrong.stderr and wrong.stderr.count("\n") == 1

    def test_a_package_of_components_has_a_folder_configs(self, tmp_path: Path) -> None:
        points = "[lift.plugins]\nmine = garden_tools.parts\n"
        package = install_package(tmp_path / "site", "garden_tools", points)
        (package / "parts.py").write_text("")
        write_experiment(package / "configs", "garden")
        listed = lift("list", "experiment", cwd=tmp_path, PYTHONPATH=str(tmp_path / "site"))
        assert "garden           A small run for tests.  (garden_tools.parts)" in listed.stdout

    def test_a_listed_module_names_its_folder(self, tmp_path: Path) -> None:
        (tmp_path / "one.py").write_text("LIFT_CONFIGS = 'presets'\n")
        (tmp_path / "two.py").write_text("LIFT_CONFIGS = 'nowhere'\n")
        (tmp_path / "three.py").write_text("")
        write_experiment(tmp_path / "presets", "garden")
        write_experiment(tmp_path / "configs", "stranger")
        listed = lift("list", "experiment", cwd=tmp_path, LIFT_PLUGINS="one,two,three")
        assert "garden           A small run for tests.  (one)" in listed.stdout
        assert "LIFT_CONFIGS is 'nowhere', but there is no folder" in listed.stdout
        assert "stranger" not in listed.stdout

    def test_a_built_in_experiment_wins_over_that_of_a_plugin(self, tmp_path: Path) -> None:
        (tmp_path / "one.py").write_text("LIFT_CONFIGS = 'presets'\n")
        write_experiment(tmp_path / "presets", "demo")
        command = ("run", "experiment=demo", "--cfg", "job")
        done = lift(*command, cwd=tmp_path, LIFT_PLUGINS="one")
        assert "steps: 600" in done.stdout, done.stderr

    def test_experiments_that_are_not_used_are_listed(self, tmp_path: Path) -> None:
        for name in ("one", "two"):
            (tmp_path / f"{name}.py").write_text(f"LIFT_CONFIGS = 'presets_{name}'\n")
            write_experiment(tmp_path / f"presets_{name}", "garden")
        write_experiment(tmp_path / "presets_two", "demo")
        listed = lift("list", "experiment", cwd=tmp_path, LIFT_PLUGINS="two,one")
        assert "A small run for tests.  (two; not used: that of one)" in listed.stdout
        (demo,) = (line for line in listed.stdout.splitlines() if line.startswith("  demo "))
        assert demo.endswith("  (not used: that of two)")
