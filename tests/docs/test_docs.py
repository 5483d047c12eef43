"""The README and the pages of `docs`: links, commands, settings, examples and figures."""

import ast
import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, get_type_hints

import pytest

from lift.cli import build_parser
from lift.cli.engine_options import take_engine_options
from lift.cli.evaluate import plan_evaluations
from lift.config import Config, EvalConfig, compose_run
from lift.config.setting_docs import describe_group
from lift.distortions import Distortion
from lift.priors import VideoPrior
from lift.registry import ALL_SLOTS, PLUGIN_GROUP, catalogue
from tests.helpers.commands import lift
from tests.helpers.settings import TINY

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
sys.path.insert(0, str(DOCS))

import generate_reference  # noqa: E402
import result_tables  # noqa: E402

PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.rglob("*.md")])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
EXAMPLES = sorted((DOCS / "extending").glob("*.md"))
MAX_README_LINES = 150


def code_blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)


def inline_code(text: str) -> list[str]:
    text = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    return re.findall(r"`([^`\n]+)`", text)


def commands_of(page: Path) -> list[str]:
    text = page.read_text(encoding="utf-8")
    lines = [line for block in code_blocks(text, "") for line in block.splitlines()]
    starts = (
        r"lift (run|batch|eval|table|list|show|new|check|render|export|view|doctor)\b",
        r"python \S+\.py",
    )
    lines += [code for code in inline_code(text) if re.match(f"({'|'.join(starts)})", code)]
    return [line for line in lines if re.search(r"(^|[ /])(lift|python|make) ", line)]


def examples() -> dict[str, str]:
    """The plugins of the pages on extending, by the name of their module."""
    found = {}
    for page in EXAMPLES:
        text = page.read_text(encoding="utf-8")
        for name, code in re.findall(r"`(\w+)\.py`:\n\n```python\n(.*?)^```", text, re.M | re.S):
            found[name] = code
    return found


@pytest.fixture(scope="module")
def generated_pages() -> set[Path]:
    return {DOCS / page for page in generate_reference.pages()}


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_relative_links_resolve(page, generated_pages):
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?:|mailto:|#", target):
            continue
        path = Path(os.path.normpath(page.parent / target.partition("#")[0]))
        assert path.exists() or path in generated_pages, target


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_commands_parse(page):
    for command in commands_of(page):
        check_command(shlex.split(command, comments=True), command)


def check_command(words: list[str], command: str) -> None:
    plugin = any(word.startswith("LIFT_PLUGINS=") for word in words)
    for index, word in enumerate(words):
        if word == "lift" or word.endswith("/lift"):
            check_lift(words[index + 1 :], plugin)
            return
        if word == "python" and words[index + 1].endswith(".py"):
            assert (ROOT / words[index + 1]).is_file(), command
            return
        if word == "make":
            target = words[index + 1]
            assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.M), command
            return


def check_lift(words: list[str], plugin: bool) -> None:
    name, rest = words[0], words[1:]
    if not rest:
        assert re.search(rf"\b{name}\b", build_parser().format_help())
        return
    if plugin:
        names = "|".join(examples())
        slots = [match[1] for word in rest if (match := re.match(rf"(\w+)=(?:{names})$", word))]
        rest = [word for word in rest if word.split("=")[0].split(".")[0] not in slots]
        rest = [re.sub(rf",(?:{names})\b", "", word) for word in rest]  # values of a grid
    if "--config-dir" in " ".join(rest) and name in ("run", "batch", "eval"):
        # The folder is the reader's, and so are its experiments.
        rest = [word for word in rest if not re.match(r"--config-dir|conf$|experiment=", word)]
    if name in ("run", "batch"):
        settings = [word for word in rest if "=" in word and not word.startswith(("-", "hydra/"))]
        settings = [word for word in settings if not (name == "run" and is_sweep(word))]
        if not any(word.startswith("image=") for word in settings):
            settings.append("image=none")
        compose_run(settings)
    elif name == "download":
        compose_run(["image=none", *(word for word in rest if "=" in word)])
    elif name == "eval":
        take_engine_options(rest)
        plan_evaluations(rest).compose()
    elif name == "show" and rest[0] == "experiment":
        experiments = {path.stem for path in (ROOT / "configs/experiment").glob("*.yaml")}
        assert rest[1] in {*experiments, "NAME"} or "--config-dir" in rest
    elif name == "show" and len(rest) == 1:
        describe_group(*rest)
    elif name == "show" and rest != ["SLOT", "NAME"]:
        if "NAME" not in rest:
            catalogue()(*rest)
        else:
            assert rest[0] in ALL_SLOTS
    else:
        build_parser().parse_args(words)


def is_sweep(word: str) -> bool:
    """Whether a word gives several values for `-m`."""
    return "," in word.partition("=")[2] and "[" not in word


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_paths_and_modules_exist(page):
    for code in inline_code(page.read_text(encoding="utf-8")):
        if re.fullmatch(r"(lift|configs|benchmarks|experiments|tests|docs)/[\w./-]*", code):
            assert (ROOT / code).exists(), code
        elif re.fullmatch(r"lift(\.\w+)+", code):
            assert code == PLUGIN_GROUP or resolve_name(code), code


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_settings_exist(page):
    for code in inline_code(page.read_text(encoding="utf-8")):
        for word in code.split():
            key = word.partition("=")[0]
            if re.fullmatch(r"[a-z_]+(\.[a-z_0-9]+)+", key) and not key.endswith(FILES):
                assert setting_exists(key), key


FILES = (
    ".md",
    ".py",
    ".json",
    ".html",
    ".jpg",
    ".png",
    ".sog",
    ".mp4",
    ".ply",
    ".spz",
    ".npz",
    ".ckpt",
    ".yaml",
    ".safetensors",
)


def setting_exists(key: str) -> bool:
    first, *rest = key.split(".")
    if first not in {field.name for field in (*fields(Config), *fields(EvalConfig))}:
        return True  # another thing with a dot, such as a file or a module
    if first == "trainer":
        return True
    if first in ALL_SLOTS:
        return any(
            rest[0] in entry.settings or rest[0] in ("learning_rate",)
            for entry in catalogue().entries[first].values()
        )
    node: Any = Config if first in get_type_hints(Config) else EvalConfig
    for part in key.split("."):
        hints = get_type_hints(node) if is_dataclass(node) else {}
        if part not in hints:
            return False
        node = hints[part]
    return True


def test_the_table_of_components_is_complete():
    text = (DOCS / "concepts.md").read_text(encoding="utf-8").partition("## Components")[2]
    for slot, entries in catalogue().entries.items():
        row = re.search(rf"^\| `{slot}` \|(.*)\|$", text, re.M)
        built_in = {name for name, entry in entries.items() if entry.module.startswith("lift.")}
        assert row, slot
        assert not built_in - set(re.findall(r"`(\w+)`", row[1])), slot


def test_the_reference_names_every_setting():
    made = generate_reference.pages()
    for slot, entries in catalogue().entries.items():
        for entry in entries.values():
            for key in entry.settings:
                assert f"`{slot}.{key}`" in made[f"reference/{slot}.md"]
    assert "`fit.robust.frames`" in made["reference/settings.md"]


def test_every_table_is_shown():
    tables = generate_reference.tables()
    text = "".join(page.read_text(encoding="utf-8") for page in DOCS.rglob("*.md"))
    assert set(generate_reference.MARKER.findall(text)) == set(tables) - {"generator-errors"}
    assert all(table.count("\n") > 1 for table in tables.values())


def test_the_ablation_is_the_output_of_its_command():
    text = (DOCS / "evaluation.md").read_text(encoding="utf-8").partition("## Ablations")[2]
    content = json.loads((ROOT / result_tables.TABLES / "grid/table.json").read_text())
    command = code_blocks(text, "")[0].strip()
    assert shlex.split(command) == shlex.split(content["command"])
    assert re.search(r"<!-- table: (\w+) -->", text)[1] == "grid"
    assert [len(content["variants"]), content["variants"][0]["n"]] == [6, 6]


def test_the_readme_is_short():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= MAX_README_LINES


def test_figures_of_the_readme_are_measured():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    file = ROOT / result_tables.RESULTS / "photographs-cpu.json"
    figures = [row["held_out"]["psnr"] for row in json.loads(file.read_text())["rows"]]
    means = result_tables.markdown_table(
        f"{result_tables.RESULTS}/generated-gpu-384.md", "Means"
    ).splitlines()
    figures += [float(means[row].split("|")[-2]) for row in (2, 3)]
    single = (ROOT / result_tables.TABLES / "single.md").read_text(encoding="utf-8")
    figures += [float(re.search(r"^\| lite, network \| ([\d.]+)", single, re.M)[1])]
    method = (ROOT / result_tables.TABLES / "method.md").read_text(encoding="utf-8")
    for row in ("as published", "ours"):
        figures.append(float(re.search(rf"^\| {row} \| ([\d.]+)", method, re.M)[1]))
    shown = [float(cell) for cell in re.findall(r"\| (\d\d\.\d)(?= [|(])", text)]
    assert sorted(shown) == sorted(round(figure, 1) for figure in figures)


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_imports_of_examples_resolve(page):
    for code in code_blocks(page.read_text(encoding="utf-8"), "python"):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                exec(ast.unparse(node), {})


@pytest.mark.parametrize(("slot", "base"), [("prior", VideoPrior), ("distortion", Distortion)])
def test_members_of_base_classes_exist(slot, base):
    text = (DOCS / f"extending/{slot}.md").read_text(encoding="utf-8")
    members = re.findall(r"^\| (`\w+.*?) \|", text, re.M)
    assert members
    for name in re.findall(r"`(\w+)", " ".join(members)):
        assert hasattr(base, name), name


def test_examples_are_valid_plugins(tmp_path):
    for name, code in examples().items():
        ast.parse(code)
        (tmp_path / f"{name}.py").write_text(code, encoding="utf-8")
    listed = lift("list", cwd=tmp_path, LIFT_PLUGINS=",".join(examples()))
    assert listed.returncode == 0 and "broken plugin" not in listed.stdout, listed.stdout
    for name in examples():
        assert re.search(rf"^  {name} ", listed.stdout, re.M)


@pytest.mark.slow
def test_examples_keep_the_contracts(tmp_path):
    for name, code in examples().items():
        (tmp_path / f"{name}.py").write_text(code, encoding="utf-8")
    chosen = " or ".join(f"[{name}" for name in examples())
    tested = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "tests/test_contracts.py", "-k", chosen],
        cwd=ROOT,
        env={**os.environ, "LIFT_PLUGINS": ",".join(examples()), "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert tested.returncode == 0, tested.stdout


@pytest.mark.slow
def test_the_custom_distortion_runs_as_written(tmp_path):
    (tmp_path / "exposure.py").write_text(examples()["exposure"], encoding="utf-8")
    finished = lift(
        "run",
        "image=coffee",
        *TINY,
        "distortion=exposure",
        "distortion.learning_rate=0.02",
        f"output={tmp_path / 'out'}",
        cwd=tmp_path,
        LIFT_PLUGINS="exposure",
    )
    assert finished.returncode == 0, finished.stderr
    assert "exposure" in finished.stdout
    assert Path(finished.stdout.strip(), "gaussians.ply").exists()
