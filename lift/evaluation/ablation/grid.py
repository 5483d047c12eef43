"""Grids of settings: the rows of an ablation, and what distinguishes them.

A grid such as `distortion=identity,rigid` is a list of alternatives. Several grids are multiplied:
a row has one alternative of each.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from lift.registry import ComponentError

_CLOSING = {"[": "]", "{": "}", "(": ")"}
"""Closing bracket of each opening one."""

_BEFORE_QUOTE = "=,|:[{( \t"
"""Characters after which a quotation mark begins a quoted text. Elsewhere it is an apostrophe."""

_NEXT_SETTING = r"\s+(?=[\w.]+=)"
"""Spaces between two settings. Other spaces belong to a value."""


@dataclass(frozen=True)
class Factor:
    """The alternative of one grid that a row has."""

    settings: tuple[str, ...]
    """KEY=VALUE of each setting."""
    name: str | None = None
    """Name of the alternative."""

    @property
    def label(self) -> str:
        """The name, or the settings separated by commas."""
        return self.name or ",".join(self.settings)

    def matches(self, text: str) -> bool:
        """Whether a text is the name or one of the settings.

        Args:
            text: A name or KEY=VALUE.
        """
        return text == self.name or text in self.settings


@dataclass(frozen=True)
class Variant:
    """What distinguishes a row of a joint table from the others: a factor for each grid."""

    factors: tuple[Factor, ...]
    """An alternative of each grid."""

    @property
    def label(self) -> str:
        """Title of the row, such as `distortion=rigid,prior=warp`."""
        return ",".join(factor.label for factor in self.factors if factor.label) or "defaults"

    @property
    def is_named(self) -> bool:
        """Whether a part of the label is a name."""
        return any(factor.name for factor in self.factors)

    @property
    def arguments(self) -> list[str]:
        """All settings as KEY=VALUE."""
        return [setting for factor in self.factors for setting in factor.settings]

    @property
    def settings(self) -> dict[str, str]:
        """Values by the names of the settings."""
        return dict(setting.split("=", 1) for setting in self.arguments)

    def to_json(self) -> list[dict[str, Any]]:
        """Convert to JSON-like values."""
        return [{"name": f.name, "settings": list(f.settings)} for f in self.factors]

    @classmethod
    def from_json(cls, factors: Sequence[Mapping[str, Any]]) -> "Variant":
        """Read the result of `to_json`.

        Args:
            factors: The factors.
        """
        return cls(tuple(Factor(tuple(f["settings"]), f["name"]) for f in factors))


def parse_grid(text: str) -> list[Factor]:
    """Read the alternatives of a grid.

    `|` separates alternatives. An alternative has one or more settings, separated by spaces. A
    setting with several values, separated by commas, stands for an alternative with each of them.
    Nothing is split within brackets or quotes. `name=NAME` names an alternative.

    Args:
        text: A grid, such as `prior=warp,svd`, or
            `distortion=identity | distortion=composed distortion.prune_after=0,0.3`.

    Returns:
        The alternatives.

    Raises:
        ComponentError: The text is not a grid.
    """
    factors = []
    for alternative in _split(text, r"\|", text):
        settings = [
            _parse_values(setting, text)
            for setting in _split(alternative.strip(), _NEXT_SETTING, text)
        ]
        factors += [make_factor(choice, f"--grid {text!r}") for choice in product(*settings)]
    return factors


def _parse_values(setting: str, grid: str) -> list[str]:
    """Return KEY=VALUE for each value of a setting."""
    from lift.config.text import unquote  # with Hydra, which `lift --help` does not need

    key, equals, values = setting.partition("=")
    key = key.strip()
    if not equals or not key:
        raise ComponentError(
            f"--grid {grid!r}: {setting.strip()!r} is no setting; write KEY=VALUE,VALUE,... and "
            "`|` between alternatives of several settings"
        )
    out = [f"{key}={unquote(value)}" for value in _split(values, ",", grid)]
    if key == "name" and len(out) > 1:
        raise ComponentError(f"--grid {grid!r}: an alternative has one name, not {len(out)}")
    return out


def make_factor(settings: Sequence[str], source: str) -> Factor:
    """Make an alternative of settings, of which one may be its name.

    Args:
        settings: KEY=VALUE of each setting, with or without `name=NAME`. The last one counts if a
            setting is there twice.
        source: The part of the command line that it comes from, for messages.

    Returns:
        The alternative.

    Raises:
        ComponentError: A setting cannot differ between the rows of a table.
    """
    by_key = {setting.partition("=")[0]: setting for setting in settings}
    for key in ("seed", "protocol.seeds"):
        if key in by_key:
            raise ComponentError(
                f"{source} has {by_key[key]!r}; all rows have the same seeds: choose --seeds N"
            )
    name = by_key.pop("name", "=").partition("=")[2] or None
    return Factor(tuple(by_key.values()), name)


def multiply(grids: Sequence[Sequence[Factor]]) -> list[Variant]:
    """Combine each alternative of each grid with those of all others. The last one varies fastest.

    Args:
        grids: Alternatives of each grid.

    Returns:
        The rows.

    Raises:
        ComponentError: Two grids have the same setting.
    """
    variants = [Variant(factors) for factors in product(*grids)]
    for variant in variants:
        keys = [setting.partition("=")[0] for setting in variant.arguments]
        if repeated := [key for k, key in enumerate(keys) if key in keys[:k]]:
            raise ComponentError(
                f"the row {variant.label!r} has {repeated[0]} twice; write it in one --grid"
            )
    return variants


def check_labels(variants: Sequence[Variant]) -> None:
    """Check that all rows have different labels.

    Args:
        variants: The rows.

    Raises:
        ComponentError: Two rows have the same label.
    """
    labels = [variant.label for variant in variants]
    if repeated := [label for k, label in enumerate(labels) if label in labels[:k]]:
        raise ComponentError(
            f"two rows of the table are {repeated[0]!r}; give each a name=NAME of its own"
        )


def choose_references(variants: Sequence[Variant], baseline: str | None) -> Sequence[int | None]:
    """Choose the row with which each row is compared.

    Args:
        variants: The rows.
        baseline: Label of a row, or some of its names and settings, separated by commas. If
            several rows have these, each row is compared with the one that equals it in all other
            factors. None is the first row.

    Returns:
        The index of a row for each row. None if there is nothing to compare it with.

    Raises:
        ComponentError: No row has the settings of the baseline.
    """
    if baseline is None:
        return [0] * len(variants)
    labels = [variant.label for variant in variants]
    if baseline in labels:
        return [labels.index(baseline)] * len(variants)
    pieces = [piece.strip() for piece in _split(baseline, r"[,\s]+(?=[\w.]+=)|,", baseline)]
    candidates = [
        k
        for k, variant in enumerate(variants)
        if all(any(factor.matches(piece) for factor in variant.factors) for piece in pieces)
    ]
    if not candidates:
        raise ComponentError(f"--baseline is {baseline!r}; choose a row: {', '.join(labels)}")
    if len(candidates) == 1:
        return candidates * len(variants)
    rest = [_remaining_factors(variant, pieces) for variant in variants]
    references: list[int | None] = []
    for variant in variants:
        equal = [
            k
            for k in candidates
            if len(variant.factors) == len(variants[k].factors)
            and all(variant.factors[position] == factor for position, factor in rest[k].items())
        ]
        references.append(equal[0] if len(equal) == 1 else None)
    return references


def _remaining_factors(variant: Variant, pieces: Sequence[str]) -> dict[int, Factor]:
    """Return the factors that no piece of a baseline matches, by position."""
    return {
        position: factor
        for position, factor in enumerate(variant.factors)
        if not any(factor.matches(piece) for piece in pieces)
    }


def _split(text: str, separator: str, whole: str) -> list[str]:
    """Split a text at a regular expression, outside of brackets and quotes.

    Args:
        text: The text.
        separator: The regular expression.
        whole: What the user typed, for messages.
    """
    pattern = re.compile(separator)
    parts = []
    start = 0
    for position in _outside_brackets(text, whole):
        match = pattern.match(text, position) if position >= start else None
        if match:
            parts.append(text[start:position])
            start = match.end()
    return [*parts, text[start:]]


def _outside_brackets(text: str, whole: str) -> Iterator[int]:
    """Yield the positions of all characters that are in no brackets and no quotes."""
    open_brackets: list[str] = []
    quote = ""
    for position, character in enumerate(text):
        if quote:
            if character == quote and text[position - 1] != "\\":
                quote = ""
        elif character in "'\"" and text[:position][-1:] in ("", *_BEFORE_QUOTE):
            quote = character
        elif character in _CLOSING:
            open_brackets.append(character)
        elif open_brackets and character == _CLOSING[open_brackets[-1]]:
            open_brackets.pop()
        elif character in _CLOSING.values():
            raise ComponentError(f"{whole!r} has a {character!r} that nothing opens; quote it")
        elif not open_brackets:
            yield position
    if quote or open_brackets:
        raise ComponentError(f"{whole!r}: {(quote or open_brackets[-1])!r} is not closed")
