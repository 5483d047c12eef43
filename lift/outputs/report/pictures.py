"""Draw the pictures of the report: thumbnails, comparisons and depth maps."""

import base64
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import matplotlib
import matplotlib.colors
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from lift.io.image import encode_image
from lift.outputs.charts import format_number
from lift.outputs.quality import FrameMetrics, RunResult
from lift.renderers import Renderer
from lift.runtime.parallel import parallel_map

THUMBNAIL_SIDE = 168
"""Longer side of the pictures in filmstrips in pixels."""

PICTURE_SIDE = 480
"""Longer side of depth maps and differences in pixels."""

LARGE_SIDE = 960
"""Longer side of the pictures that are compared, and of the scene's poster, in pixels."""

STRIP_LENGTH = 5
"""Number of pictures for each clip."""

FULL_DIFFERENCE = 0.25
"""Mean absolute difference of the three channels that is shown at full brightness."""

MAX_LEVEL = 6
"""Level of the tree below which clips are not indented further."""

_DEPTH_QUANTILES = (0.02, 0.98)
"""Quantiles of the input's depth at the ends of the colour scale."""

_MAX_DEPTH_SAMPLES = 100_000


def encode_picture(
    image: UInt8[Tensor, "height width 3"] | Float[Tensor, "height width 3"],
    side: int = PICTURE_SIDE,
    quality: int = 82,
) -> str:
    """Encode a picture as a data URI of a JPEG.

    Args:
        image: The picture, uint8 or in [0, 1].
        side: Largest length of the longer side in pixels.
        quality: JPEG quality from 1 to 95.

    Returns:
        The data URI.
    """
    image = image.cpu().float() / 255 if image.dtype == torch.uint8 else image.cpu()
    height, width = image.shape[:2]
    if (factor := side / max(height, width)) < 1:
        size = (max(1, round(height * factor)), max(1, round(width * factor)))
        planes = image.permute(2, 0, 1)[None]
        planes = torch.nn.functional.interpolate(planes, size, mode="bilinear", antialias=True)
        image = planes[0].permute(1, 2, 0)
    data = base64.b64encode(encode_image(image, "jpeg", quality)).decode()
    return "data:image/jpeg;base64," + data


def apply_colormap(
    value: Float[Tensor, "height width"], valid: Bool[Tensor, "height width"], name: str
) -> Float[Tensor, "height width 3"]:
    """Map values to colours.

    Args:
        value: Values, clamped to [0, 1].
        valid: Pixels with a value. The others are grey.
        name: Name of a colormap of matplotlib.

    Returns:
        Colours in [0, 1].
    """
    colors = matplotlib.colormaps[name](value.clamp(0, 1).numpy())[..., :3]
    rgb = torch.from_numpy(colors).float()
    return torch.where(valid[..., None], rgb, torch.full_like(rgb, 0.5))


def clip_tree(result: RunResult, frame_metrics: list[FrameMetrics]) -> list[dict[str, Any]]:
    """Describe the clips, each after the clip that it continues.

    Args:
        result: The result of a run.
        frame_metrics: Measurements of each frame, the input first.

    Returns:
        For each clip its name, level in the tree, source, frames, mean PSNR and filmstrip.
    """
    clips = result.trajectory.clips
    spans = result.trajectory.spans
    parents = result.trajectory.parents
    thumbnails = _thumbnails(result, [view for span in spans for view in _strip(span)])
    entries: list[dict[str, Any]] = []
    stack = [(number, 0) for number in reversed(range(len(clips))) if parents[number] is None]
    while stack:
        number, level = stack.pop()
        clip = clips[number]
        span = spans[number]
        parent = parents[number]
        if parent is None:
            continues = "the input"
        else:
            continues = f"frame {clip.source} of {clips[parent].name}"
        entries.append(
            {
                "name": clip.name,
                "level": min(level, MAX_LEVEL),
                "source": clip.source,
                "continues": continues,
                "first": span[0] if len(span) else None,
                "last": span[-1] if len(span) else None,
                "psnr": _mean_psnr([frame_metrics[view] for view in span]),
                "strip": [
                    {
                        "view": view,
                        "image": thumbnails[view],
                        # Without a registered camera the value is meaningless.
                        "psnr": frame_metrics[view].psnr
                        if frame_metrics[view].registered
                        else None,
                    }
                    for view in _strip(span)
                ],
            }
        )
        stack += [
            (child, level + 1) for child in reversed(range(len(clips))) if parents[child] == number
        ]
    return entries


def _mean_psnr(frames: list[FrameMetrics]) -> float | None:
    """Return the mean PSNR of registered frames in dB, None without any."""
    values = [frame.psnr for frame in frames if frame.registered]
    return sum(values) / len(values) if values else None


def _strip(span: range) -> list[int]:
    """Select evenly spaced frames of a clip."""
    if not len(span):
        return []
    last = max(1, STRIP_LENGTH - 1)
    return sorted({span[round(k * (len(span) - 1) / last)] for k in range(STRIP_LENGTH)})


def _thumbnails(result: RunResult, views: Sequence[int]) -> dict[int, str]:
    """Encode the thumbnails of some frames, by their index."""
    images = result.frames.images
    encoded = parallel_map(lambda view: encode_picture(images[view], THUMBNAIL_SIDE), views)
    return dict(zip(views, encoded, strict=True))


@torch.no_grad()
def comparison_rows(
    result: RunResult, renderer: Renderer, frame_metrics: list[FrameMetrics]
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Show the input and the best, median and worst frame beside renders of the canonical scene.

    Args:
        result: The result of a run.
        renderer: Renders on its own device.
        frame_metrics: Measurements of each frame, the input first.

    Returns:
        A row for each frame with pictures and depth maps, and the colour scale of the depth.
    """
    samples = result.depth.depth[result.depth.valid]
    samples = samples[:: max(1, samples.numel() // _MAX_DEPTH_SAMPLES)]
    near, far = (float(samples.quantile(fraction)) for fraction in _DEPTH_QUANTILES)

    def depth_picture(depth: Tensor, valid: Tensor) -> str:
        # Linear in inverse depth. Otherwise a far background would use up the colours.
        value = (1 / depth.clamp(min=1e-6) - 1 / far) / max(1 / near - 1 / far, 1e-9)
        return encode_picture(apply_colormap(value, valid, "turbo"))

    rows = []
    pictures: list[tuple[dict[str, Any], str, Callable[[], str]]] = []
    device = renderer.device
    for view, labels in _comparison_labels(frame_metrics).items():
        render = renderer(
            result.gaussians.to(device), result.reconstruction.cameras[view].to(device)
        )
        rgb = render.rgb[0].cpu().clamp(0, 1)
        frame = result.frames[view].rgb[0]
        depth = result.depth.depth if view == 0 else result.reconstruction.depth[view].cpu()
        valid = result.depth.valid if view == 0 else depth > 0
        render_depth, covered = render.depth[0].cpu(), render.alpha[0].cpu() > 0.5
        row = {"name": ", ".join(labels), "view": view, "metrics": frame_metrics[view]}
        rows.append(row)
        pictures += [
            (row, "frame", partial(encode_picture, frame, LARGE_SIDE)),
            (row, "render", partial(encode_picture, rgb, LARGE_SIDE)),
            (row, "difference", partial(_difference_picture, rgb, frame)),
            (row, "depth", partial(depth_picture, depth, valid)),
            (row, "render_depth", partial(depth_picture, render_depth, covered)),
        ]
    encoded = parallel_map(lambda picture: picture[2](), pictures)
    for (row, key, _), data in zip(pictures, encoded, strict=True):
        row[key] = data
    return rows, _depth_scale(near, far)


def _difference_picture(
    rgb: Float[Tensor, "height width 3"], frame: Float[Tensor, "height width 3"]
) -> str:
    """Encode the mean absolute difference of two pictures in colours."""
    difference = (rgb - frame).abs().mean(-1)
    everywhere = torch.ones_like(difference, dtype=torch.bool)
    return encode_picture(apply_colormap(difference / FULL_DIFFERENCE, everywhere, "inferno"))


def _comparison_labels(frame_metrics: list[FrameMetrics]) -> dict[int, list[str]]:
    """Select the input and the best, median and worst registered frame."""
    registered = [frame for frame in frame_metrics[1:] if frame.registered]
    order = sorted(registered, key=lambda frame: frame.psnr, reverse=True)
    labels: dict[int, list[str]] = {0: ["input"]}
    if order:
        selection = {"best": order[0], "median": order[len(order) // 2], "worst": order[-1]}
        for label, frame in selection.items():
            labels.setdefault(frame.view, []).append(label)
    return labels


def _depth_scale(near: float, far: float) -> dict[str, Any]:
    """Return the colours of the depth scale as CSS, and the depths at its marks."""
    colors = [
        matplotlib.colors.to_hex(matplotlib.colormaps["turbo"](1 - fraction))
        for fraction in torch.linspace(0, 1, 13).tolist()
    ]
    marks = []
    for fraction in torch.linspace(0, 1, 5).tolist():
        depth = 1 / (1 / near + fraction * (1 / far - 1 / near))
        marks.append("–" if depth != depth else format_number(depth))
    return {"colors": ", ".join(colors), "marks": marks}
