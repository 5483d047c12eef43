"""Plugins that are named by their files."""

import sys

import pytest

from lift.registry import ComponentError
from lift.registry.module_files import (
    find_registering_file,
    import_module_or_file,
    is_file_path,
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A current folder. What tests import is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("mf_")]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("plugin", "expected"),
    [("mine.py", True), ("folder/mine", True), ("mine", False), ("my_package.mine", False)],
)
def test_a_plugin_is_a_file_by_its_suffix_or_its_folder(plugin, expected):
    assert is_file_path(plugin) == expected


def test_files_beside_an_imported_file_hide_no_package(folder):
    (folder / "mf_mine.py").write_text("import json as used\n")
    (folder / "wave.py").write_text("raise RuntimeError('imported')\n")
    before = list(sys.path)
    import_module_or_file("./mf_mine.py")
    assert sys.path == [*before, str(folder)]
    sys.modules.pop("wave", None)
    assert __import__("wave").Wave_read


def test_a_file_with_the_name_of_a_package_is_refused(folder):
    (folder / "wave.py").write_text("")
    with pytest.raises(ComponentError, match=r"wave.py has the name of another module, .*rename"):
        import_module_or_file("wave.py")


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("parts.py", '@priors.register("mine")\n', "parts.py"),
        ("parts.py", "@priors.register(\n    'mine'\n)\n", "parts.py"),
        ("mine.py", "@priors.register(NAME)\n", "mine.py"),
        ("mine.py", "print('a program')\n", None),
        ("parts.py", '@priors.register("mine2")\n', None),
    ],
)
def test_a_file_that_registers_a_name_is_found_unimported(folder, file, text, expected):
    (folder / file).write_text(f"raise RuntimeError\n{text}")
    assert find_registering_file("mine") == expected


def test_a_folder_that_cannot_be_read_has_no_file(folder, monkeypatch):
    def refuse():
        raise PermissionError

    monkeypatch.setattr("os.scandir", refuse)
    assert find_registering_file("mine") is None
