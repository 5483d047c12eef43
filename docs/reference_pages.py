"""Make the reference pages: the command line, the settings, the components and the presets."""

import argparse
import dataclasses
import inspect
import re
import typing
from functools import cache
from pathlib import Path
from typing import Any

from result_tables import ROOT, table

SETTING_COLUMNS = ("setting", "type", "default", "range", "meaning")
"""Columns of tables of settings."""

RAISES = re.compile(r"^Raises:\n(?:[ \t]+.*\n?|\n)*", re.M)


def command_line_page() -> str:
    """Describe every command by its own help."""
    from lift.cli import build_parser

    top = build_parser()
    commands = next(
        action for action in top._actions if isinstance(action, argparse._SubParsersAction)
    )
    helps = {action.dest: action.help or "" for action in commands._choices_actions}
    rows = [(f"[`lift {name}`](#lift-{name})", helps.get(name, "")) for name in commands.choices]
    parts = [
        "# Command line",
        "This page is generated from the parser. `lift COMMAND --help` prints the same text.",
        table(("command", "what it does"), rows),
    ]
    for name, command in commands.choices.items():
        text = _run_usage() if name == "run" else command.format_help().rstrip()
        parts += [f"## lift {name}", f"```text\n{text}\n```"]
    return "\n\n".join(parts) + "\n"


def _run_usage() -> str:
    return (
        "usage: lift run image=PATH [setting=value ...] [--config-dir DIR] [--help]\n"
        "                [--plan [--gpu-memory GIB]] [--cfg job] [-m]\n\n"
        "One image, a video or photographs to a scene. Hydra reads the settings.\n"
        "--config-dir DIR adds a folder with experiments of your own; it may be repeated.\n"
        "--plan says what a run would do, and with --gpu-memory which generators fit.\n"
        "-m runs one job for each comma-separated value.\n"
        "Options may stand anywhere. Settings that hold text are taken literally."
    )


def settings_page() -> str:
    """List the settings that belong to no component."""
    from lift import config

    parts = [
        "# Settings of a run",
        "This page is generated from `lift.config`. Change a setting with `key=value`: "
        "[Settings and experiments](../configuration.md) has the rules. "
        "`null` in a table stands for a value that is chosen for the run.",
        *_settings_of(config.Config),
        "## Settings of `lift eval`",
        "These come on top of all settings of `lift run`.",
        *_settings_of(config.EvalConfig),
    ]
    return "\n\n".join(parts) + "\n"


def _settings_of(node: type, prefix: str = "") -> list[str]:
    """One table for the plain fields of a dataclass, then one for each dataclass in it."""
    from lift.config.setting_docs import field_docs
    from lift.config.setting_types import setting_annotations
    from lift.registry import ALL_SLOTS
    from lift.registry.values import describe_range

    docs = field_docs(Path(inspect.getfile(node))).get(node.__name__, {})
    rows = []
    inner = []
    for field in dataclasses.fields(node):
        kind = setting_annotations(node)[field.name]
        key = f"{prefix}{field.name}"
        if dataclasses.is_dataclass(kind):
            inner.append((kind, key))
            continue
        text = _cell(docs.get(field.name, ""))
        default = _default(field)
        if field.name in ALL_SLOTS:
            text = f"{text} See [{field.name}]({field.name}.md).".lstrip()
        if key in component_defaults():
            default = f"`{component_defaults()[key]}`"
        rows.append((f"`{key}`", _type_name(kind), default, _cell(describe_range(kind)), text))
    summary = _sections(docs.get("", ""))
    parts = [f"## `{prefix.rstrip('.')}`"] if prefix else []
    parts += [_inline(summary)] if summary else []
    parts += [table(SETTING_COLUMNS, rows)] if rows else []
    for kind, key in inner:
        parts += _settings_of(typing.cast(type, kind), f"{key}.")
    return parts


@cache
def component_defaults() -> dict[str, str]:
    """Read the default of each slot from the Hydra files."""
    text = "".join((ROOT / f"configs/{name}.yaml").read_text() for name in ("lift", "eval"))
    return dict(re.findall(r"^  - (\w+): (\w+)$", text, re.M))


def slot_page(slot: str) -> str:
    """List the components of a slot with their settings."""
    from lift.registry import catalogue

    entries = {
        name: entry
        for name, entry in sorted(catalogue().entries[slot].items())
        if entry.module.startswith("lift.")
    }
    rows = [(f"[`{name}`](#{name})", _cell(entry.summary)) for name, entry in entries.items()]
    parts = [
        f"# Components: {slot}",
        f"This page is generated from the code. `lift show {slot} NAME` prints the same text. "
        f"[Extending: {slot}](../extending/{slot}.md) says how to add one.",
        table((slot, "what it does"), rows),
    ]
    for name, entry in entries.items():
        parts += [f"## {name}", *_component(slot, entry)]
    return "\n\n".join(parts) + "\n"


def _component(slot: str, entry: Any) -> list[str]:
    from lift.registry.values import describe_range
    from lift.runtime.memory import format_memory

    documented = entry.docstring.arguments
    text = _sections(entry.docstring.description)
    facts = [f"Licence: {entry.licence}."]
    if entry.trained_frames and entry.trained_size:
        width, height = entry.trained_size
        facts.append(f"Frames of a clip: {entry.trained_frames}, of {width} x {height} pixels.")
        facts.append(f"Control: {entry.control}.")
        text = format_memory(entry)
        facts.append(f"{text[0].upper()}{text[1:]}.")
    if entry.extra or entry.install:
        how = entry.install or f"pip install 'lift[{entry.extra}]'"
        facts.append(f"Install: `{how}`.")
    rows = [
        (
            f"`{slot}.{key}`",
            _type_name(parameter.annotation),
            "must be set" if parameter.default is parameter.empty else f"`{parameter.default!r}`",
            _cell(describe_range(parameter.annotation)),
            _cell(documented.get(key, "")),
        )
        for key, parameter in entry.settings.items()
    ]
    parts = [_inline(text), f"`{entry.module}.{entry.qualname}`. {' '.join(facts)}"]
    return parts + ([table(SETTING_COLUMNS, rows)] if rows else [])


def camera_formats() -> str:
    """Table of the file formats of camera paths."""
    from lift.io.formats import CAMERA_FORMATS

    return table(("format", "content"), CAMERA_FORMATS.items())


def video_generators() -> str:
    """Make the table of video diffusion models."""
    from lift.registry import catalogue
    from lift.runtime.memory import peak_memory

    rows = []
    for name, entry in catalogue().entries["prior"].items():
        if not entry.trained_size:
            continue
        memory = " / ".join(str(figure) for figure in peak_memory(entry).values())
        rows.append(
            (
                f"[`{name}`](reference/prior.md#{name})",
                entry.trained_frames,
                " or ".join(f"{width} x {height}" for width, height in _sizes(entry))
                + ("" if entry.trained_sizes else ", any shape"),
                entry.control,
                memory or "as the model's",
                entry.licence,
            )
        )
    return table(("prior", "frames", "pixels", "control", "GiB", "licence of the weights"), rows)


def _sizes(entry: Any) -> tuple[tuple[int, int], ...]:
    """Return the sizes that a generator was trained with, the usual one first."""
    return entry.trained_sizes or (entry.trained_size,)


def presets_page() -> str:
    """List the built-in experiments, with what each changes and why."""
    from lift.config.experiments import read_experiment
    from lift.config.folders import use_config_folders

    parts = [
        "# Presets",
        "`experiment=NAME` sets several settings at once. "
        "Settings on the command line win over those of a preset. "
        "`lift show experiment NAME` prints the same text. "
        "[Settings and experiments](../configuration.md#experiments-of-your-own) says how to write "
        "one.",
    ]
    with use_config_folders([]):
        names = [path.stem for path in sorted((ROOT / "configs/experiment").glob("*.yaml"))]
        experiments = [read_experiment(name) for name in names]
    for experiment in experiments:
        name = experiment.file.name
        parts += [f"## `experiment={name}`", _inline(experiment.description)]
        rows = [
            (f"`{change.key}`", f"`{change.before}`", f"`{change.after}`", _cell(change.reason))
            for change in experiment.changes
        ]
        parts += [table(("setting", "default", name, "reason"), rows)] if rows else []
        if experiment.repeated:
            keys = ", ".join(f"`{key}`" for key in experiment.repeated)
            parts.append(f"Set to their defaults: {keys}.")
    return "\n\n".join(parts) + "\n"


def _type_name(annotation: Any) -> str:
    from lift.registry.values import format_annotation

    text = format_annotation(annotation).replace("|", "\\|")
    return f"`{text}`" if "\\|" not in text else text


def _default(field: Any) -> str:
    if field.default is not dataclasses.MISSING:
        value = field.default
    elif field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    else:
        return "must be set"
    if value == "???":
        return "must be set"
    return f"`{'null' if value is None else value}`"


def _cell(text: str) -> str:
    return _inline(" ".join(text.split())).replace("|", "\\|")


def _sections(text: str) -> str:
    """Drop the section `Raises:` of a docstring and write `Reference:` as a paragraph."""
    text = RAISES.sub("", text)
    return re.sub(r"^Reference:\n +", "Reference: ", text, flags=re.M).strip()


def _inline(text: str) -> str:
    """Escape what Markdown would take for markup outside inline code."""
    parts = re.split(r"(`[^`]*`)", text)
    parts[::2] = [re.sub(r"([<\[*])", r"\\\1", part) for part in parts[::2]]
    return "".join(parts)
