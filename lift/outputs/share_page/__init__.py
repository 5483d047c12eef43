"""A scene as one HTML file that opens offline in any current browser."""

from lift.outputs.share_page.content import ShareContent, encode_gaussians, share_content
from lift.outputs.share_page.page import render_share_page, write_share_page

__all__ = [
    "ShareContent",
    "encode_gaussians",
    "render_share_page",
    "share_content",
    "write_share_page",
]
