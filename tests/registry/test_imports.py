"""Imports of what a setting names by its path."""

import sys

import pytest

from lift.registry import ComponentError
from lift.registry.imports import import_object, is_installed

MODULE = """
class Mine:
    class Inner:
        pass

number = 3
"""


@pytest.fixture
def modules(tmp_path, monkeypatch):
    """A current folder with modules. What tests import is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    (tmp_path / "of_mine.py").write_text(MODULE)
    (tmp_path / "of_syntax.py").write_text("def f(:\n")
    (tmp_path / "of_import.py").write_text("import no_such_package\n")
    (tmp_path / "of_error.py").write_text("1 / 0\n")
    (tmp_path / "of_package").mkdir()
    (tmp_path / "of_package" / "__init__.py").write_text("")
    (tmp_path / "of_package" / "inner.py").write_text(MODULE)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("of_"):
            del sys.modules[name]


@pytest.mark.parametrize(
    "path", ["of_mine.Mine", "of_mine.Mine.Inner", "of_package.inner.Mine", "os.path.join"]
)
def test_modules_of_the_current_folder_are_found(modules, path):
    assert import_object(path, "callbacks").__name__ == path.split(".")[-1]


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("Mine", "give an import path such as my_module.MyClass"),
        ("of mine.Mine", "give an import path"),
        ("of_nothing.Mine", "there is no module 'of_nothing', neither in the current folder"),
        ("of_mine.Min", "'of_mine' has no 'Min'; did you mean Mine?"),
        ("of_mine.Other", "'of_mine' has no 'Other'; it has Mine"),
        ("of_package.other.Mine", "'of_package' has no 'other'"),
        ("of_mine.number", "which is a int; name a class"),
        ("of_syntax.Mine", "the import of 'of_syntax' fails: SyntaxError: invalid syntax"),
        ("of_import.Mine", "fails: ModuleNotFoundError: No module named 'no_such_package'"),
        ("of_error.Mine", "fails: ZeroDivisionError: division by zero"),
    ],
)
def test_an_error_names_the_path_and_the_reason(modules, path, reason):
    with pytest.raises(ComponentError) as caught:
        import_object(path, "callbacks")
    assert str(caught.value).startswith(f"callbacks names {path!r}")
    assert reason in str(caught.value)


def test_a_folder_of_logs_is_no_package(modules):
    (modules / "of_logs" / "run").mkdir(parents=True)
    sys.path.insert(0, "")
    assert not is_installed("of_logs") and not is_installed("of_nothing")
    assert is_installed("of_mine") and is_installed("torch")
