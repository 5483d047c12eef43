"""The experiment on distortions: measures, tables, resumption and errors."""

import json
import sys
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from lift.registry import catalogue
from lift.renderers import renderers
from lift.synthetic.worlds import CORRUPTION_KINDS, World, corrupt_world, ray_cast_world
from tests.helpers.commands import start_python

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "experiments"))
import distortion  # noqa: E402
import distortion_table  # noqa: E402
import distortion_trials  # noqa: E402
from distortion_trials import ORACLE  # noqa: E402

SMALL = ["fit.steps=20", "fit.initial_gaussians=300", "fit.max_gaussians=400"]


@pytest.fixture
def command(tmp_path) -> list[str]:
    """A small run of the experiment. Its results are in `results.json` of `tmp_path`."""
    scenes = ["--scenes", "plain", "--severities", "1"]
    results = ["--results", str(tmp_path / "results.json")]
    return ["experiments/distortion.py", "--quick", *scenes, *results]


@pytest.fixture(scope="module")
def small_world() -> World:
    return ray_cast_world("plain", (48, 36), frames=2)


@pytest.fixture
def run(monkeypatch, capsys, small_world):
    """Run the experiment in this process, on few small pictures. Return what it prints."""
    monkeypatch.setattr(distortion_trials, "ray_cast_world", lambda *_: small_world)

    def run_command(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", list(arguments))
        distortion.main()
        return capsys.readouterr().out

    return run_command


def row(module: str, psnr: float, case: str = "all x 1", seed: int = 0, **values) -> dict:
    label = {"scene": "room", "case": case, "seed": seed, "module": module}
    settings = {"fit_settings": [], "module_settings": distortion_trials.MODULES[module]}
    return {**label, **settings, "psnr": psnr, **values}


def present_hash(module: str) -> str:
    settings = distortion_trials.MODULES[module]
    return distortion_trials.config_hash(distortion_trials.compose([], settings))


@pytest.mark.slow
def test_composed_is_between_identity_and_the_oracle():
    world = ray_cast_world("room", (64, 48), frames=2)
    corrupted = corrupt_world(world, dict.fromkeys(CORRUPTION_KINDS, 2.0), 0)
    renderer = renderers.build({"name": "numba"}, device=torch.device("cpu"))
    small = ["fit.steps=700", "fit.initial_gaussians=2000", "fit.max_gaussians=2800"]
    found = {}
    for module in ("identity", "composed", ORACLE):
        config = distortion_trials.compose(small, distortion_trials.MODULES[module])
        found[module], *_ = distortion_trials.fit_and_measure(
            world, corrupted, config, renderer, 0, oracle=module == ORACLE
        )
    assert found["composed"]["psnr"] > found["identity"]["psnr"] + 1.0
    assert found[ORACLE]["psnr"] > found["composed"]["psnr"] + 1.0
    errors = ("position_error_px", "rotation_error_deg", "translation_error")
    errors += ("log_focal_error", "log_color_error")
    assert all(found[ORACLE][name] < 1e-3 for name in errors), found[ORACLE]
    for name, factor in (
        ("position_error_px", 0.8),
        ("log_color_error", 0.7),
        ("log_focal_error", 0.7),
    ):
        assert found["composed"][name] < factor * found["composed"][f"{name}_identity"], name
    assert found["identity"]["position_error_px"] == found["identity"]["position_error_px_identity"]


def test_tables_show_gain_and_restored_fraction():
    rows = [row("identity", 30.0, "clean"), row("identity", 20.0), row("composed", 25.0)]
    rows += [row("identity", 31.0, "clean", 1), row("identity", 21.0, seed=1)]
    rows[2]["position_error_px"] = 0.25
    psnr, measures = distortion_table.tables(rows).split("\n\n")[::2]
    assert "| module | clean (2 fits) | all x 1 (2 fits) |" in psnr
    assert "| identity | 30.50 | 20.50 |" in psnr
    assert "| composed |  | 25.00 (+5.00) [1] |" in psnr
    assert "| module | PSNR | position error, px | restored | fits |" in measures
    assert "| composed | 25 | 0.25 | 50 % | 1 |" in measures


def test_config_hash_depends_on_defaults_of_parts(monkeypatch):
    before = present_hash("rigid")
    assert before == present_hash("rigid") != present_hash("blur")
    entry = catalogue()("distortion", "rigid")
    name, parameter = next(iter(entry.settings.items()))
    monkeypatch.setitem(entry.settings, name, parameter.replace(default=12.5))
    assert present_hash("rigid") != before


def test_settings_that_change_nothing_leave_old_rows_valid():
    compose, config_hash = distortion_trials.compose, distortion_trials.config_hash
    plain = config_hash(compose([], []))
    assert config_hash(compose(["fit.canonical_steps=0", "fit.adam.eps=1e-15"], [])) == plain
    assert config_hash(compose(["fit.densify.gradient.reset_every=7"], [])) == plain
    assert config_hash(compose(["fit.canonical_steps=5"], [])) != plain
    gradient = ["fit.densify.strategy=gradient"]
    other = [*gradient, "fit.densify.gradient.reset_every=7"]
    assert config_hash(compose(gradient, [])) not in (plain, config_hash(compose(other, [])))


def test_rows_with_other_defaults_are_recognised():
    current = row("identity", 20.0, config_hash=present_hash("identity"))
    assert distortion_table.defaults_of(current) == "present"
    assert distortion_table.defaults_of({**current, "config_hash": "01234567"}) == "other"
    assert distortion_table.defaults_of(row("identity", 20.0)) == "unknown"
    invalid = {**current, "fit_settings": ["fit.no_such_setting=1"]}
    assert distortion_table.defaults_of(invalid) == "other"


@pytest.mark.slow
def test_show_tells_of_rows_with_other_or_unknown_defaults(tmp_path, run):
    rows = [
        row("identity", 20.0, config_hash=present_hash("identity")),
        row("identity", 21.0, "clean"),
        row("composed", 22.0, config_hash="01234567"),
    ]
    file = tmp_path / "results.json"
    file.write_text(json.dumps({"machines": [], "rows": rows}))
    shown = run("distortion.py", "--show", "--results", str(file))
    present, unknown = shown.split("The defaults of these fits are unknown.")
    assert "| identity | 20.00 |" in present and "21.00" not in present
    assert "| identity | 21.00 |" in unknown and "22" not in shown
    assert f"1 rows of {file} were made with other defaults" in unknown


@pytest.mark.slow
def test_finished_fits_are_not_repeated(tmp_path, command, run):
    assert run(*command, "--modules", "identity", *SMALL).count(" dB, ") == 2
    # Settings may stand before options, too.
    more = [*command, "--workers", "2", *SMALL, "--modules", "identity", "rigid"]
    finished = start_python(*more, cwd=ROOT).finish()
    assert finished.returncode == 0, finished.stderr
    file = tmp_path / "results.json"
    assert finished.stdout.count(" dB, ") == 2
    assert f"2 of 4 fits are in {file} already (commit " in finished.stdout
    record = json.loads(file.read_text())
    rows = record["rows"]
    assert [row["machine"] for row in rows] == [0, 0, 1, 1]
    assert record["machines"][1]["workers"] == 2
    assert len({(row["case"], row["module"]) for row in rows}) == len(rows) == 4
    assert "| rigid |" in finished.stdout and "(+" in finished.stdout.replace("(-", "(+")
    assert "| rigid |" in (tmp_path / "results.md").read_text()
    assert "| rigid |" in run(*command, "--show")
    assert json.loads(file.read_text()) == record


@pytest.mark.slow
def test_fits_with_other_defaults_are_repeated(tmp_path, command, run):
    arguments = [*command, "--modules", "identity", "--cases", "clean", *SMALL]
    run(*arguments)
    file = tmp_path / "results.json"
    record = json.loads(file.read_text())
    record["rows"][0]["config_hash"] = "01234567"
    file.write_text(json.dumps(record))
    shown = run(*arguments)
    assert f"1 fits are in {file} with other or unknown defaults" in shown
    assert shown.count(" dB, ") == 1 and len(json.loads(file.read_text())["rows"]) == 2


@pytest.mark.slow
def test_a_distortion_of_the_command_line_is_a_row(tmp_path, command, run, capsys):
    shown = run(*command, "distortion=rigid", *SMALL)
    assert shown.count(" dB, ") == 4
    assert "| distortion=rigid |" in shown and "| identity |" in shown
    results = ["--results", str(tmp_path / "results.json")]
    assert "| distortion=rigid |" in run("distortion.py", "--show", *results)
    with pytest.raises(SystemExit):
        run(*command, "--show", "distortion=blur")
    assert "no such results" in capsys.readouterr().err


def test_ctrl_c_within_a_compiled_loop_stops_the_run(command, run, monkeypatch):
    def interrupted(*_):
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            raise SystemError("returned a result with an exception set")  # noqa: B904  as numba's loops do

    monkeypatch.setattr(distortion_trials.TrialRunner, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(*command, "distortion=blur", *SMALL)


def test_results_of_another_run_are_locked(tmp_path, command, run, capsys):
    with FileLock(tmp_path / ".results.json.lock"), pytest.raises(SystemExit):
        run(*command, "--modules", "identity", *SMALL)
    assert "another run of this experiment adds to" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("fit.stepz=1", "stepz"),
        ("image=x", "changes nothing"),
        ("--scenes=nowhere", "choose among room"),
        ("--modules=nothing", "choose among identity"),
        ("--seeds=0", "at least 1"),
        ("--severities=nan", "above 0"),
        ("--cases=no", "choose among clean"),
        ("--results={folder}/other.json", "choose another file"),
        ("--results={folder}", "choose another file"),
    ],
)
def test_wrong_arguments_are_named(tmp_path, command, run, capsys, argument, message):
    (tmp_path / "other.json").write_text('{"rows": [{}]}')
    with pytest.raises(SystemExit) as stop:
        run(*command, argument.format(folder=tmp_path))
    assert stop.value.code == 2 and message in capsys.readouterr().err
