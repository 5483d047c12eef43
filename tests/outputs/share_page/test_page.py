"""The text of share pages, without a browser."""

import base64
import hashlib
import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import lift.outputs.share_page
from lift.geometry import pinhole, project
from lift.io.splats import decode
from lift.outputs.share_page import ShareContent, render_share_page, share_content
from lift.outputs.share_page.content import DETAIL_SCALE
from lift.outputs.view_region import ViewRegion
from lift.renderers import EPS2D
from lift.types import Cameras, Gaussians

FOLDER = Path(lift.outputs.share_page.__file__).parent
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)> \"'&"


class Elements(HTMLParser):
    """The elements of a page with their texts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.text: dict[str, str] = {}
        self._name = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._name = dict(attrs).get("id") or tag
        self.names.append(self._name)

    def handle_data(self, data: str) -> None:
        self.text[self._name] = self.text.get(self._name, "") + data


def make_content(**changes) -> ShareContent:
    """A scene of few Gaussians, seen by a camera that is not at the origin."""
    generator = torch.Generator().manual_seed(0)
    count = 20
    eye = torch.tensor([[1.0, 0.5, -2.0], [1.2, 0.5, -2.0]])
    poses = torch.eye(4).repeat(2, 1, 1)
    poses[:, :3, 3] = -eye
    cameras = replace(Cameras.cat([pinhole(96, 64, 90.0)] * 2), world_to_camera=poses)
    gaussians = Gaussians(
        means=torch.rand(count, 3, generator=generator) * 2,
        quats=torch.nn.functional.normalize(torch.randn(count, 4, generator=generator), dim=-1),
        scales=torch.full((count, 3), 0.1),
        opacities=torch.full((count,), 0.5),
        sh_coeffs=torch.rand(count, 1, 3, generator=generator),
    )
    region = ViewRegion((1.0, 0.5, 2.0), 4.0, (-10.0, 20.0), (-5.0, 6.0), (3.0, 5.0), 0.9)
    poster = torch.zeros(64, 96, 3, dtype=torch.uint8)
    values = {"title": "title", "caption": "caption", "source": "photo.jpg", **changes}
    return ShareContent(gaussians, cameras[:1], cameras, cameras, region, poster, **values)


def test_texts_cannot_leave_their_elements():
    page = Elements(render_share_page(make_content(title=HOSTILE, caption=HOSTILE, source=HOSTILE)))
    plain = Elements(render_share_page(make_content()))
    assert page.names == plain.names
    assert page.text["h1"] == HOSTILE and page.text["b"].startswith(HOSTILE)


def test_empty_caption_has_no_element():
    with_caption = Elements(render_share_page(make_content())).names
    without = Elements(render_share_page(make_content(caption=""))).names
    assert with_caption.count("p") == without.count("p") + 1


def test_page_adds_at_most_2_mb_to_the_scene():
    html = render_share_page(make_content())
    assert len(html.encode()) - len(Elements(html).text["gaussians"]) < 2e6


def page_gaussians(content: ShareContent) -> Gaussians:
    """Decode the Gaussians of a page."""
    return decode(base64.b64decode(Elements(render_share_page(content)).text["gaussians"]), "spz")


def test_page_holds_the_gaussians():
    content = make_content()
    assert torch.allclose(page_gaussians(content).means, content.gaussians.means, atol=1e-3)


def test_gaussians_are_not_thinner_than_the_frames_show():
    content = make_content()
    means = content.gaussians.means * torch.tensor([1.0, 0, 1]) + torch.tensor([0, 0.5, 0])
    thin = replace(content.gaussians, means=means, scales=torch.full((20, 3), 1e-4))
    _, depth = project(thin.means, content.frames)
    focal = float(content.frames.intrinsics[0, 0, 0])
    least = depth.min(0).values * (EPS2D * (1 - 1 / DETAIL_SCALE**2)) ** 0.5 / focal
    # SPZ rounds the logarithm of scales to 1 / 16.
    found = page_gaussians(replace(content, gaussians=thin)).scales
    assert torch.allclose(found.log(), least[:, None].log().expand(20, 3), atol=0.04)


def test_input_camera_is_the_origin_of_the_viewer():
    settings = json.loads(Elements(render_share_page(make_content())).text["settings"])
    poses = torch.tensor(settings["flyThrough"]["poses"])
    assert torch.allclose(poses[0], torch.tensor([0.0, 0, 0, 0, 0, 0, 1]), atol=1e-5)
    assert poses[1, :3].tolist() == pytest.approx([0.2, 0, 0], abs=1e-5)
    # SPZ files have y up and z back, so the target of the region is there at (1, -0.5, -2).
    transform = torch.tensor(settings["splats"]["fileToInput"]).view(4, 4)
    target = transform @ torch.tensor([1.0, -0.5, -2.0, 1.0])
    assert target[:3].tolist() == pytest.approx([0, 0, -4], abs=1e-5)


def run_on(image: str | list[str]) -> SimpleNamespace:
    """What `share_content` reads of a finished run on these pictures."""
    content = make_content()
    return SimpleNamespace(
        settings={"image": image},
        gaussians=content.gaussians,
        cameras=content.input_camera,
        fly_through=content.fly_through,
        view_region=content.region,
        input_image=content.poster,
    )


@pytest.mark.parametrize(
    ("image", "title", "source"),
    [
        ("photos/x.jpg", "x", "x.jpg"),
        (["photos/x.jpg"], "x", "x.jpg"),
        (["photos/x.jpg", "photos/y.jpg"], "x-and-1-more", "x.jpg and 1 more"),
    ],
)
def test_title_and_source_name_the_input(image, title, source):
    found = share_content(run_on(image))
    assert (found.title, found.source) == (title, source)


def test_default_title_has_blanks_for_underscores():
    run = run_on("old_house_.jpg")
    found = share_content(run)
    assert (found.title, found.source) == ("old house", "old_house_.jpg")
    assert share_content(run, title="old_house").title == "old_house"


def test_source_breaks_after_underscores():
    page = render_share_page(make_content(source="old_<b>_house.jpg"))
    assert "old_<wbr>&lt;b&gt;_<wbr>house.jpg" in page


def test_embedded_page_says_so():
    assert 'class="embedded"' in render_share_page(make_content(), embedded=True)
    assert 'class="embedded"' not in render_share_page(make_content())


def test_bundle_is_built_from_these_sources():
    digest = hashlib.sha256()
    for name in ("viewer.js", "package.json", "build.mjs"):
        digest.update((FOLDER / "web" / name).read_bytes())
    assert (FOLDER / "assets" / "SOURCES.sha256").read_text().strip() == digest.hexdigest()


def test_licences_name_the_bundled_versions():
    notices = (FOLDER / "assets" / "LICENSES.txt").read_text(encoding="utf-8")
    packages = json.loads((FOLDER / "web" / "package.json").read_text())["dependencies"]
    assert all(f"{name} {version} (MIT)" in notices for name, version in packages.items())
