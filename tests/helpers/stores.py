"""Finished runs in object stores, without the work of making them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from lift.config import compose_run
from lift.config.text import escape_text
from lift.remote.results import upload_run
from lift.remote.urls import join
from lift.runtime.finished import REQUEST, Request
from lift.runtime.integrity import write_manifest

FILES = {
    "metrics.json": '{"input_psnr": 30.0, "verdict": "good"}',
    "provenance.json": '{"stages": [], "notes": []}',
    "frames/000000.png": "a picture",
}
"""Files of a run, and their content."""


def make_run(folder: Path, request: str, files: Mapping[str, str] | None = None) -> Path:
    """Write the folder of a finished run. Its manifest is whole, its files are no scene."""
    for name, content in (FILES if files is None else files).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    write_manifest(folder, {REQUEST: request, "scene": "0"})
    return folder


def upload_finished(
    work: Path, output: str, images: Sequence[str], titles: Sequence[str], settings: Sequence[str]
) -> None:
    """Upload a finished run of each picture to an output."""
    config = compose_run([*settings, "image=none", f"output={escape_text(output)}"])
    request = Request(config)
    for image, title in zip(images, titles, strict=True):
        key = request.key(image)
        assert key is not None
        run = make_run(work / title / "run", key)
        upload_run(run, join(output, title, "run"))
