from pathlib import Path

import pytest

from tests.helpers.commands import here


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        (("fit",), ("fit.steps", "int | None", "(1 to 10000000)")),
        (("fit.loss",), ("fit.loss.ssim", "float", "(0 to 1)")),
        (("run",), ("device", "str", "(auto, cpu or cuda)")),
        (
            ("protocol",),
            ("protocol.seeds", "list[int]", "(1 to 1000 values, each 0 to 2147483647)"),
        ),
        (("planner", "articulated"), ("planner.levels", "int", "(1 to 5)")),
        (("depth", "onnx"), ("depth.std", "tuple[float, float, float]", "(each 1e-06 to 1000000)")),
    ],
)
def test_the_range_is_printed_beside_the_setting(
    words: tuple[str, ...], lines: tuple[str, ...], tmp_path: Path
) -> None:
    done = here("show", *words, cwd=tmp_path)
    key, kind, values = lines
    row = next(row for row in done.stdout.splitlines() if row.split()[:1] == [key])
    assert done.returncode == 0 and kind in row and row.endswith(values)


def test_settings_of_a_run_leave_out_its_groups(tmp_path: Path) -> None:
    done = here("show", "run", cwd=tmp_path)
    assert "  seed" in done.stdout and "fit.steps" not in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("planner",), "which planner? `lift list planner` names them"),
        (("fitt",), "there are no settings 'fitt'; choose one of run, preprocess"),
        (("experiment",), "which experiment?"),
    ],
)
def test_a_missing_or_unknown_name_is_one_line(
    words: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    done = here("show", *words, cwd=tmp_path)
    assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1


def test_descriptions_of_base_classes_are_left_out(tmp_path: Path) -> None:
    done = here("show", "prior", "diffusers", cwd=tmp_path)
    assert done.stdout.count("`batch_size` has no effect") == 1
    assert "Base class of" not in done.stdout
    assert "Denoising steps." in done.stdout  # a setting that a base class describes
