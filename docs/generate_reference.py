"""Write the pages of the documentation that follow from the code and from measured results.

`mkdocs.yml` names this module as a hook. The hook adds the pages of `pages()` to the site and puts
a table where a page has a marker such as `<!-- table: renderers -->`. The same functions serve
`tests/docs/test_docs.py`. `reference_pages.py` makes
the reference and `result_tables.py` makes the tables.
"""

import posixpath
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
for folder in (str(ROOT), str(ROOT / "docs")):
    if folder not in sys.path:
        sys.path.insert(0, folder)

from reference_pages import (  # noqa: E402
    camera_formats,
    command_line_page,
    presets_page,
    settings_page,
    slot_page,
    video_generators,
)
from result_tables import RESULTS, TABLES, result_tables  # noqa: E402

COPIED_FOLDERS = (RESULTS, TABLES)
COPIED_FILES = {"lift/depths/lite.md": "networks", "lift/warping/fill.md": "networks"}
"""Markdown files outside `docs` that become pages, and the folder of the page."""

MARKER = re.compile(r"<!-- table: ([\w-]+) -->")
LINK = re.compile(r"\]\(((?:\.\./)+[^)#\s]+\.md)(#[^)]*)?\)")
API_PACKAGES = (
    "training",
    "outputs",
    "io",
    "evaluation",
    "runtime",
    "weights",
    "multiview",
    "synthetic",
)


def tables() -> dict[str, str]:
    """Make all tables that pages name by a marker."""
    return result_tables() | {
        "camera-formats": camera_formats(),
        "video-generators": video_generators(),
    }


def pages() -> dict[str, str]:
    """Generate all pages.

    Returns:
        The Markdown text of each page, by its path below `docs`.
    """
    from lift.registry import ALL_SLOTS

    made = {
        "reference/command-line.md": command_line_page(),
        "reference/settings.md": settings_page(),
        "reference/presets.md": presets_page(),
    }
    made |= {f"reference/{slot}.md": slot_page(slot) for slot in ALL_SLOTS}
    made |= copied_pages()
    return made | api_pages()


def copied_pages() -> dict[str, str]:
    """Make pages of the result tables and of the notes on the networks."""
    return {
        page: _as_page((ROOT / source).read_text(encoding="utf-8"), source)
        for source, page in copied_sources().items()
    }


def copied_sources() -> dict[str, str]:
    """Map Markdown files outside `docs` to pages of the site."""
    made = {}
    for folder in COPIED_FOLDERS:
        for path in sorted((ROOT / folder).glob("*.md")):
            made[f"{folder}/{path.name}"] = f"tables/{path.name}"
    for source, folder in COPIED_FILES.items():
        if (ROOT / source).is_file():
            made[source] = f"{folder}/{Path(source).name}"
    return made


def _as_page(text: str, source: str) -> str:
    """Name the source below the title, and keep mkdocs from following its relative links."""
    title, _, rest = text.partition("\n")
    rest = re.sub(r"\[([^\]]+)\]\((?!https?:)[^)]+\)", r"\1", rest)
    return f"{title}\n\nSource: `{source}`.\n{rest}"


def api_pages() -> dict[str, str]:
    """Make pages with directives of mkdocstrings."""
    from lift.registry import ALL_SLOTS

    groups = {
        "pipeline": ("The pipeline", ["lift.pipeline", *_modules_of("lift.stages")]),
        "types": ("Types and geometry", ["lift.types", "lift.geometry"]),
        "registry": ("The registry", _modules_of("lift.registry")),
        "config": ("The configuration", _modules_of("lift.config")),
    }
    slots = [f"lift.{package}" for package in ALL_SLOTS.values()]
    bases = [f"{name}.base" for name in slots if _module_file(f"{name}.base")]
    groups["slots"] = ("Base classes of the slots", sorted([*slots, *bases]))
    for package in API_PACKAGES:
        groups[package] = (f"`lift.{package}`", _modules_of(f"lift.{package}"))
    return {
        f"api/{name}.md": f"# API: {title}\n\n" + "\n\n".join(f"::: {module}" for module in modules)
        for name, (title, modules) in groups.items()
    }


def _module_file(name: str) -> Path | None:
    path = ROOT.joinpath(*name.split("."))
    for file in (path.with_suffix(".py"), path / "__init__.py"):
        if file.is_file():
            return file
    return None


def _modules_of(package: str) -> list[str]:
    """Name a module, or a package and its public modules and packages; nothing for neither."""
    if _module_file(package) is None:
        return []
    folder = ROOT.joinpath(*package.split("."))
    names = [path.stem for path in sorted(folder.glob("*.py")) if not path.stem.startswith("_")]
    packages = [path.parent.name for path in sorted(folder.glob("*/__init__.py"))]
    inner = [name for part in packages for name in _modules_of(f"{package}.{part}")]
    return [package, *(f"{package}.{name}" for name in names), *inner]


# The hook of mkdocs


def replace_tables(text: str, made: dict[str, str]) -> str:
    """Put tables where a page has markers.

    Args:
        text: Markdown of a page.
        made: Tables by name.

    Returns:
        The text with tables.

    Raises:
        KeyError: A marker names no table.
    """
    return MARKER.sub(lambda match: made[match[1]], text)


def replace_links(text: str, page: str) -> str:
    """Turn links to Markdown files outside `docs` into links to their pages.

    Args:
        text: Markdown of a page.
        page: Path of the page below `docs`.

    Returns:
        The text with links that mkdocs resolves.
    """
    sources = copied_sources()
    folder = posixpath.dirname(page)

    def replaced(match: re.Match) -> str:
        source = posixpath.normpath(posixpath.join("docs", folder, match[1]))
        if source not in sources:
            return match[0]
        target = posixpath.relpath(sources[source], folder or ".")
        return f"]({target}{match[2] or ''})"

    return LINK.sub(replaced, text)


_tables: dict[str, str] = {}


def on_files(files: Any, config: Any) -> Any:
    """Add the generated pages to the site."""
    from mkdocs.structure.files import File

    _tables.clear()
    _tables.update(tables())
    for path, text in pages().items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Fill in tables and links."""
    return replace_links(replace_tables(markdown, _tables), page.file.src_uri)


if __name__ == "__main__":
    for name, text in (pages() | {f"table {key}": t for key, t in tables().items()}).items():
        print(f"===== {name}\n{text}\n")
