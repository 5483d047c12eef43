"""Settings that hold text are taken literally, whatever characters they have."""

from pathlib import Path
from typing import Any, Literal, Optional

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hypothesis import example, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from lift.config import (
    compose_eval,
    compose_run,
    config_to_yaml,
    escape_text,
    load_config,
    read_image_setting,
)
from lift.config.text import TextType, quote_text, quote_value, split_values, text_type, unquote
from lift.io.names import safe_name
from lift.registry import ALL_SLOTS, ComponentError, catalogue
from tests.helpers.commands import here

SPECIAL = st.text(alphabet="${}()[]\\'\"=,:#%~!&*|<>?@^ \t\n.-_+0189eExnaoyé😀", max_size=14)
LIKE_VALUES = st.sampled_from(
    [
        "2024_11_29",
        "1e3",
        "0x10",
        "1_000.5",
        "010",
        "1:30",
        "2001-01-01",
        "true",
        "No",
        "nan",
        ".inf",
        "~",
        "None",
        "???",
        "",
        " ",
        "a ",
        "[a",
        "{a: b}",
        "a,b",
        "a=b",
        "choice(a,b)",
        "glob(*)",
        "${seed}",
        "${",
        "$${a}",
        "\\${seed}",
        "\\\\${seed}\\",
        "${oc.env:HOME}",
        "'quoted'",
        '"',
        "\\",
        "# no comment",
        "- item",
        "key: value",
        "été",
        "😀",
        "\x85",
    ]
)
TEXT = st.text(max_size=10) | SPECIAL | LIKE_VALUES
WITHOUT_NUL = TEXT.filter(lambda text: "\0" not in text)  # settings refuse NUL

NUMBERED = TextType(single=True, optional=True, numbers=True)


def reads_as(kind: TextType, value: str, multirun: bool = False) -> Any:
    """What Hydra reads of a value that was prepared for it, with interpolations resolved."""
    override = OverridesParser.create().parse_override(f"key={quote_value(value, kind, multirun)}")
    if override.is_sweep_override():
        return list(override.sweep_iterator())
    read = OmegaConf.to_container(OmegaConf.create({"key": override.value()}), resolve=True)
    assert isinstance(read, dict)
    return read["key"]


@given(text=TEXT)
@settings(max_examples=400, deadline=None)
def test_a_quoted_text_is_read_unchanged(text: str) -> None:
    assert reads_as(TextType(single=True), text) == text
    override = OverridesParser.create().parse_override(f"key={quote_text(text)}")
    assert OmegaConf.create({"key": override.value()}).key == text


def is_list(text: str) -> bool:
    return text[:1] == "[" and text[-1:] == "]"


@given(
    image=WITHOUT_NUL.filter(lambda text: not is_list(text)),
    name=WITHOUT_NUL.map(safe_name).filter(lambda text: text != "null"),
    output=WITHOUT_NUL,
    prompt=WITHOUT_NUL.filter(lambda text: text != "???"),
)
@settings(max_examples=12, deadline=None)
@example(image="~/a${b}, (1).jpg", name="2024_11_29", output="été", prompt="a, b: [c] = 'd'")
@example(image="null", name="(a), [b]", output="", prompt="null")
@example(image="~0", name="a", output="~no user/b", prompt="~")
@pytest.mark.slow
def test_any_text_survives_the_composition(image: str, name: str, output: str, prompt: str) -> None:
    overrides = [f"image={image}", f"name={name}", f"output={output}", "prior=vace"]
    config = compose_run([*overrides, f"prior.prompt={prompt}"])
    values = (image, name, output, prompt)
    assert (config.image, config.name, config.output, config.prior.prompt) == values
    assert read_image_setting(config) == image
    again = OmegaConf.create(config_to_yaml(config))
    assert (again.image, again.name, again.output, again.prior.prompt) == values
    assert again.seed == 0 and again.fit.densify.stop == 0.7 and again.cameras is None


@given(texts=st.lists(TEXT, max_size=4))
@settings(max_examples=200, deadline=None)
def test_texts_in_quotes_are_the_items_of_a_list(texts: list[str]) -> None:
    quoted = [QuotedString(text, Quote.single).with_quotes() for text in texts]
    assert reads_as(TextType(several=True), f"[{', '.join(quoted)}]") == texts


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ("[a.jpg,b.jpg]", ("a.jpg", "b.jpg")),
        ("[a.jpg, b c (1).jpg ,d[2].jpg]", ("a.jpg", "b c (1).jpg", "d[2].jpg")),
        ("['a, b.jpg',\"c.jpg\"]", ("a, b.jpg", "c.jpg")),
        ("[it's.jpg,${b}.jpg,]", ("it's.jpg", "${b}.jpg")),
        ("[1.jpg,2024_11_29]", ("1.jpg", "2024_11_29")),
        ("[a.jpg]", "a.jpg"),
        ("['[a].jpg']", "[a].jpg"),
        ("[a].jpg", "[a].jpg"),
    ],
)
def test_brackets_hold_a_list_of_pictures(value: str, names: Any) -> None:
    assert read_image_setting(compose_run([f"image={value}"])) == names


TEXT_SETTINGS = {
    (slot, name): texts
    for slot in ALL_SLOTS
    for name, entry in catalogue().entries[slot].items()
    if (
        texts := [
            key
            for key, parameter in entry.settings.items()
            if parameter.annotation in (str, Path, str | None, Path | None)
        ]
    )
}


@pytest.mark.parametrize(("slot", "name"), TEXT_SETTINGS)
def test_every_text_setting_of_a_component_is_literal(slot: str, name: str) -> None:
    text = "~/a, b: [${c}] (d) = 'e' \"f\" \\ 2024_11_29 #"
    texts = TEXT_SETTINGS[slot, name]
    settings = [f"{slot}={name}", *(f"{slot}.{key}={text}" for key in texts)]
    compose = compose_eval if slot == "dataset" else compose_run
    config = compose(settings if slot == "dataset" else ["image=none", *settings])
    assert {key: str(config[slot][key]) for key in texts} == dict.fromkeys(texts, text)


def test_numbers_bools_and_null_keep_their_types() -> None:
    settings = ["fit.steps=5", "fit.learning_rate.scales=1e-2", "frames.ordered=true", "input=null"]
    config = compose_run(["image=none", *settings, "export.formats=[ply,spz]", "edges.width=2"])
    assert (config.fit.steps, config.fit.learning_rate.scales) == (5, 0.01)
    assert (config.frames.ordered, config.input, config.edges.width) == (True, None, 2.0)
    assert list(config.export.formats) == ["ply", "spz"]


def test_settings_of_parts_are_literal() -> None:
    override = "++distortion.settings.blur.max_sigma=2.5"
    config = compose_run(["image=none", override, "distortion.parts=[rigid,blur]"])
    assert config.distortion.settings.blur.max_sigma == 2.5
    assert list(config.distortion.parts) == ["rigid", "blur"]


@pytest.mark.parametrize(
    ("annotation", "kind"),
    [
        (str, TextType(single=True)),
        (Path, TextType(single=True)),
        (Optional[Path], TextType(single=True, optional=True)),  # noqa: UP045
        (str | None, TextType(single=True, optional=True)),
        (Literal["a", "b"], TextType(single=True)),
        (list[str], TextType(several=True)),
        (tuple[Path, ...], TextType(several=True)),
        (tuple[str, ...] | None, TextType(several=True, optional=True)),
        (str | list[str], TextType(single=True, several=True)),
        (str | int | None, NUMBERED),
        (str | bool, TextType(single=True, bools=True)),
        (int, None),
        (list[float], None),
        (dict[str, str], None),
        (Literal[1, 2], None),
        (str | list[float], None),
        (Any, None),
    ],
)
def test_text_settings_are_known_by_their_annotation(annotation: Any, kind: Any) -> None:
    assert text_type(annotation) == kind


@pytest.mark.parametrize(
    ("value", "read"),
    [("5", 5), ("-1.5e3", -1500.0), ("2024_11_29", "2024_11_29"), ("null", None), ("a,b", "a,b")],
)
def test_a_setting_of_text_or_numbers_reads_numbers(value: str, read: Any) -> None:
    assert reads_as(NUMBERED, value) == read


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("a,b", ["a", "b"]),
        ("2024_11_29, 1e3", ["2024_11_29", "1e3"]),
        ('\'a, b\',"c\\"d"', ["a, b", 'c"d']),
        ("'a, b'", "a, b"),
        ("a${b}.jpg,(c).jpg", ["a${b}.jpg", "(c).jpg"]),
        ("it's,fine", ["it's", "fine"]),
        ("choice(2024_11_29,'b,c')", ["2024_11_29", "b,c"]),
        (" a ", " a "),
        ("", ""),
    ],
)
def test_commas_separate_the_values_of_a_multirun(value: str, read: Any) -> None:
    override = OverridesParser.create().parse_override(
        f"key={quote_value(value, TextType(single=True), multirun=True)}"
    )
    values = override.value()
    if override.is_sweep_override():
        values = [
            OverridesParser.create().parse_override(f"key={text}").value()
            for text in override.sweep_string_iterator()
        ]
    assert OmegaConf.to_container(OmegaConf.create({"key": values}), resolve=True) == {"key": read}


def test_lists_are_values_of_a_multirun() -> None:
    kind = TextType(single=True, several=True)
    assert quote_value("[a,b[1]],[c],d", kind, multirun=True) == "['a','b[1]'],['c'],'d'"


def test_pieces_in_quotes_keep_commas() -> None:
    assert split_values('a, \'b,c\' ,"d,\\"e"') == ["a", " 'b,c' ", '"d,\\"e"']
    assert [unquote(piece) for piece in split_values("a, 'b,c' ,\"d\\\\\"")] == ["a", "b,c", "d\\"]


@given(text=TEXT)
@settings(max_examples=120, deadline=None)
def test_a_saved_configuration_reads_the_same(text: str) -> None:
    config = OmegaConf.create({"a": {"b": [escape_text(text)], "c": 1e-7, "d": None, "e": "yes"}})
    saved = config_to_yaml(config)
    again = OmegaConf.create(saved)
    assert again.a.b[0] == text
    assert OmegaConf.to_container(again, resolve=True) == OmegaConf.to_container(
        config, resolve=True
    )
    assert yaml.safe_load(saved)["a"]["e"] == "yes"


def test_a_saved_configuration_has_no_interpolations(tmp_path: Path) -> None:
    config = OmegaConf.create({"seed": 3, "name": "run-${seed}", "path": Path("a b")})
    (tmp_path / "config.yaml").write_text(config_to_yaml(config))
    assert load_config(tmp_path / "config.yaml") == {"seed": 3, "name": "run-3", "path": "a b"}
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(ValueError, match="list.yaml holds no settings"):
        load_config(tmp_path / "list.yaml")


def test_the_word_null_is_no_value_where_there_may_be_none() -> None:
    assert compose_run(["image=null"]).image == "null"
    assert compose_run(["image=none", "cameras=null"]).cameras is None


def test_a_name_that_is_no_folder_is_refused() -> None:
    with pytest.raises(ComponentError, match="name is ''; choose the name of one folder"):
        compose_run(["image=none", "name="])


@pytest.mark.parametrize(
    "name",
    ["photo (1).png", "a=b.png", "a[1].png", "it's.png", "a#b,c.png", 'ü "x".png', "\\a${b}.png"],
)
def test_the_command_prints_the_literal_name(tmp_path: Path, name: str) -> None:
    done = here("run", f"image={name}", "--cfg", "job", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert OmegaConf.create(done.stdout).image == name
