from lift.registry import parse_docstring

GOOGLE = """Warp each frame.

The warp is smooth.

Args:
    grid: Control points
        per side.
    rate (float): Learning rate.

    *parts: Names: any.

Reference:
    A paper.
"""


def test_the_first_line_is_the_summary() -> None:
    assert parse_docstring(GOOGLE).summary == "Warp each frame."


def test_the_description_leaves_out_the_arguments() -> None:
    description = "Warp each frame.\n\nThe warp is smooth.\n\nReference:\n    A paper."
    assert parse_docstring(GOOGLE).description == description


def test_arguments_are_described_in_one_line_each() -> None:
    assert parse_docstring(GOOGLE).arguments == {
        "grid": "Control points per side.",
        "rate": "Learning rate.",
        "parts": "Names: any.",
    }


def test_joined_docstrings_keep_the_first_description() -> None:
    base = "Base.\n\nArgs:\n    grid: Another.\n    seed: Of noise."
    parsed = parse_docstring(f"{GOOGLE}\n\n{base}")
    assert parsed.arguments["grid"] == "Control points per side."
    assert parsed.arguments["seed"] == "Of noise."
    assert parsed.description.endswith("Base.")


def test_an_empty_docstring_has_no_parts() -> None:
    parsed = parse_docstring("")
    assert (parsed.summary, parsed.description, parsed.arguments) == ("", "", {})
