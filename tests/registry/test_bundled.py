"""Modules inside other installed packages."""

import sys

from lift.registry.bundled import add_bundled, find_bundled, is_available


def test_bundled_modules_are_found_without_importing_the_package(tmp_path, monkeypatch):
    inner = tmp_path / "bundling_package" / "third_party" / "net" / "bundled_module"
    inner.mkdir(parents=True)
    (inner / "__init__.py").write_text("value = 7")
    (tmp_path / "bundling_package" / "__init__.py").write_text("raise ImportError('heavy')")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    folders = ("absent_package/net", "bundling_package/third_party/net")
    assert find_bundled("bundled_module", folders) == inner.parent
    assert find_bundled("other_module", folders) is None
    add_bundled(("bundled_module", "other_module"), folders)
    import bundled_module  # pyright: ignore[reportMissingImports]

    assert bundled_module.value == 7 and sys.path[-1] == str(inner.parent)


def test_modules_of_their_own_come_before_bundled_ones(tmp_path, monkeypatch):
    for folder in ("own", "bundling/net"):
        (tmp_path / folder / "twice_installed").mkdir(parents=True)
        (tmp_path / folder / "twice_installed" / "__init__.py").touch()
    (tmp_path / "bundling" / "__init__.py").touch()
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path), str(tmp_path / "own")])
    before = list(sys.path)
    add_bundled(("twice_installed",), ("bundling/net",))
    assert sys.path == before


def test_modules_are_available_in_either_place(tmp_path, monkeypatch):
    (tmp_path / "bundling" / "net" / "held_inside").mkdir(parents=True)
    (tmp_path / "bundling" / "net" / "held_inside" / "__init__.py").touch()
    (tmp_path / "bundling" / "__init__.py").touch()
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    assert is_available("held_inside", ("bundling/net",))
    assert not is_available("held_inside", ()) and is_available("json", ())
