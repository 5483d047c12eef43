"""Write share pages: a template, the bundled viewer and the content, all in one file."""

import base64
import os
import re
from io import BytesIO
from pathlib import Path
from typing import Any

import jinja2
from jaxtyping import UInt8
from markupsafe import Markup, escape
from PIL import Image
from torch import Tensor

from lift import __version__
from lift.outputs.share_page.content import (
    ShareContent,
    encode_gaussians,
    share_content,
    viewer_settings,
)
from lift.runtime.atomic_io import publish

POSTER_SIZE = 1280
"""Largest side of the poster in pixels."""

POSTER_QUALITY = 85
"""JPEG quality of the poster."""

_FOLDER = Path(__file__).parent
_ASSETS = _FOLDER / "assets"


def write_share_page(
    scene: Any,
    path: str | os.PathLike[str],
    title: str | None = None,
    caption: str | None = None,
) -> Path:
    """Write a finished run as one HTML file that opens offline in any current browser.

    Args:
        scene: The finished run, such as a `lift.Scene`.
        path: The file. Its folder exists.
        title: Title of the page. None: the name of the input without its suffix, with blanks for
            underscores.
        caption: Text below the title. None: no text.

    Returns:
        `path`.

    Raises:
        OSError: The file cannot be written.
        ValueError: The page's format cannot hold the scene.
    """
    path = Path(path)
    text = render_share_page(share_content(scene, title, caption))
    publish(path, lambda draft: draft.write_text(text, encoding="utf-8"))
    return path


def render_share_page(
    content: ShareContent, embedded: bool = False, encoded: bytes | None = None
) -> str:
    """Make the text of a share page. All texts in it are escaped.

    Args:
        content: What the page shows.
        embedded: The page is shown in an `<iframe>` of another one. It has no title, and it leaves
            the mouse's wheel and vertical swipes to the page around it.
        encoded: What `encode_gaussians` returned for this content. None: it is called here.

    Returns:
        HTML.

    Raises:
        ValueError: The page's format cannot hold the scene.
    """
    if encoded is None:
        encoded = encode_gaussians(content.gaussians, content.frames)
    return _load_template().render(
        title=content.title,
        caption=content.caption,
        source=_breakable(content.source),
        version=__version__,
        embedded=embedded,
        poster=_poster(content.poster),
        settings=viewer_settings(content),
        gaussians=_base64(encoded),
        licences=Markup((_ASSETS / "LICENSES.txt").read_text(encoding="utf-8")),
        viewer=_base64((_ASSETS / "viewer.js.gz").read_bytes()),
        boot=Markup((_FOLDER / "page.js").read_text(encoding="utf-8")),
    )


def _load_template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    return environment.get_template("page.html")


def _breakable(name: str) -> Markup:
    """Let lines break after underscores and hyphens, so that they do not break inside words."""
    return Markup("<wbr>").join(escape(part) for part in re.split("(?<=[_-])(?=[^_-])", name))


def _poster(picture: UInt8[Tensor, "height width 3"]) -> str:
    """Encode a picture as the address of a JPEG."""
    image = Image.fromarray(picture.cpu().numpy())
    image.thumbnail((POSTER_SIZE, POSTER_SIZE), Image.Resampling.LANCZOS)
    buffer = BytesIO()
    image.save(buffer, "JPEG", quality=POSTER_QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{_base64(buffer.getvalue())}"


def _base64(data: bytes) -> Markup:
    return Markup(base64.b64encode(data).decode("ascii"))
