"""Pieces of HTML of the viewer's panel. Texts are escaped here."""

import base64
import math
from collections.abc import Sequence
from html import escape

import cv2
import numpy as np
from jaxtyping import UInt8

JPEG_QUALITY = 85
"""Quality of pictures in the panel."""

_HIDDEN = '<style>div:has(> [id="{0}"]){{display:none}}</style>'


def jpeg_url(image: UInt8[np.ndarray, "height width 3"], width: int | None = None) -> str:
    """Return a picture as a data URL.

    Args:
        image: The picture.
        width: Largest width in pixels. None: that of the picture.
    """
    height, full_width = image.shape[:2]
    if width is not None and width < full_width:
        size = (width, max(1, round(height * width / full_width)))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    done, data = cv2.imencode(".jpg", np.ascontiguousarray(image[..., ::-1]), quality)
    assert done, "JPEG holds pictures of any size"
    return f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}"


def gallery(buttons: Sequence[str], pictures: Sequence[str], names: Sequence[str]) -> str:
    """Return thumbnails that press buttons of viser.

    viser has no pictures to click. So each one presses a button, which is hidden.

    Args:
        buttons: Ids of the buttons.
        pictures: URL of each picture.
        names: What each picture is called.
    """
    items = [
        f'<button type="button" class="lift-frame" title="{escape(name)}" '
        f"onclick=\"document.getElementById('{escape(button)}').click()\">"
        f'<img src="{escape(picture)}" alt="{escape(name)}"><span>{escape(name)}</span></button>'
        for button, picture, name in zip(buttons, pictures, names, strict=True)
    ]
    hidden = "".join(_HIDDEN.format(escape(button)) for button in buttons)
    return f'{hidden}{_GALLERY_STYLE}<div class="lift-frames">{"".join(items)}</div>'


def comparison(before: str, after: str, names: tuple[str, str]) -> str:
    """Return two pictures with a slider between them.

    Args:
        before: URL of the left picture.
        after: URL of the right picture, of the same size.
        names: What the pictures are called.
    """
    return (
        f"{_COMPARISON_STYLE}"
        f'<div class="lift-compare"><img src="{escape(after)}" alt="{escape(names[1])}">'
        f'<img class="lift-left" src="{escape(before)}" alt="{escape(names[0])}">'
        f'<span class="lift-l">{escape(names[0])}</span>'
        f'<span class="lift-r">{escape(names[1])}</span>'
        '<input type="range" min="0" max="100" value="50" aria-label="Compare the two pictures" '
        "oninput=\"this.parentNode.style.setProperty('--at', this.value + '%')\"></div>"
    )


def picture(url: str, caption: str) -> str:
    """Return a picture with a caption.

    Args:
        url: Its URL.
        caption: Text below it.
    """
    return (
        '<figure style="margin:0 0.6em 0.7em"><img style="width:100%;display:block;'
        f'border-radius:4px" src="{escape(url)}" alt="{escape(caption)}">'
        f'<figcaption style="font-size:0.75em;opacity:0.8">{escape(caption)}</figcaption></figure>'
    )


def command(text: str) -> str:
    """Return a command in a box, with a button that copies it.

    Args:
        text: The command.
    """
    return (
        '<div style="margin:0 0.6em 0.7em;position:relative"><pre style="margin:0;padding:0.6em;'
        "white-space:pre-wrap;word-break:break-all;font-size:0.75em;border-radius:4px;"
        f'background:rgba(128,128,128,0.2)">{escape(text)}</pre>'
        '<button type="button" style="font-size:0.75em;cursor:pointer;margin-top:0.3em" onclick="'
        "var t=this.previousElementSibling;var r=document.createRange();r.selectNodeContents(t);"
        "var s=getSelection();s.removeAllRanges();s.addRange(r);document.execCommand('copy');"
        "this.textContent='Copied'\">Copy</button></div>"
    )


def note(text: str) -> str:
    """Return a short text.

    Args:
        text: The text.
    """
    return f'<p style="margin:0 0.6em 0.7em;font-size:0.8em;opacity:0.85">{escape(text)}</p>'


def limit_controls(
    azimuth: tuple[float, float] | None, elevation: tuple[float, float], pan: float
) -> str:
    """Return HTML that limits what the mouse can do, so that the camera stops without a jump.

    viser has limits of the distance only. Its camera controls have the others, and a page that
    lacks them loses nothing but smoothness: the server moves the camera back. The camera must be
    at the input view when a page gets this first.

    Args:
        azimuth: Limits in degrees to the right of the input view. None: there are no limits.
        elevation: Limits in degrees up.
        pan: Largest shift of the orbited point along each axis, in the viewer's units.
    """
    if azimuth is None:
        body = (
            "c.minAzimuthAngle=-Infinity;c.maxAzimuthAngle=Infinity;c.minPolarAngle=0;"
            "c.maxPolarAngle=Math.PI;c.setBoundary();"
        )
    else:
        turns = [math.radians(value) for value in azimuth]
        climbs = [math.pi / 2 - math.radians(value) for value in reversed(elevation)]
        body = (
            f"c.minAzimuthAngle=h.a+{turns[0]!r};c.maxAzimuthAngle=h.a+{turns[1]!r};"
            f"c.minPolarAngle={climbs[0]!r};c.maxPolarAngle={climbs[1]!r};"
            f"var p={pan!r};c.setBoundary({{min:h.t.clone().subScalar(p),"
            "max:h.t.clone().addScalar(p)});"
        )
    script = (
        "(function(){var m=window.__viserMutable,c=m&&m.cameraControl;if(!c)return;"
        "var h=window.liftHome;if(!h){h=window.liftHome={a:c.azimuthAngle,"
        f"t:c.getTarget(c.camera.position.clone())}};}}{body}}})()"
    )
    return f'<style onload="{escape(script)}"></style>'


_GALLERY_STYLE = """<style>
.lift-frames{display:grid;grid-template-columns:repeat(auto-fill,minmax(72px,1fr));gap:4px;
  margin:0 0.6em 0.7em;max-height:17em;overflow-y:auto}
.lift-frame{padding:0;border:0;background:none;color:inherit;cursor:pointer;font-size:0.65em;
  text-align:left}
.lift-frame img{display:block;width:100%;border-radius:3px}
.lift-frame:hover img,.lift-frame:focus-visible img{outline:2px solid #4c8dff}
.lift-frame span{display:block;overflow:hidden;text-overflow:ellipsis;white-space:nowrap}
</style>"""

_COMPARISON_STYLE = """<style>
.lift-compare{--at:50%;position:relative;margin:0 0.6em 0.7em;user-select:none}
.lift-compare img{display:block;width:100%;border-radius:4px}
.lift-compare .lift-left{position:absolute;inset:0;height:100%;
  clip-path:inset(0 calc(100% - var(--at)) 0 0)}
.lift-compare::after{content:"";position:absolute;top:0;bottom:0;left:var(--at);width:2px;
  margin-left:-1px;background:#fff;box-shadow:0 0 3px #000;pointer-events:none}
.lift-compare input{position:absolute;inset:0;width:100%;height:100%;margin:0;opacity:0;
  cursor:ew-resize}
.lift-compare span{position:absolute;top:4px;padding:1px 5px;border-radius:3px;color:#fff;
  background:rgba(0,0,0,0.6);font-size:0.7em;pointer-events:none}
.lift-compare .lift-l{left:4px}
.lift-compare .lift-r{right:4px}
</style>"""
