"""A delivery works on several threads, and ends as if it worked on one."""

import errno
import threading
from pathlib import Path

import pytest

from lift.io import video_writer
from lift.outputs import delivery
from tests.helpers.commands import here
from tests.helpers.settings import TINY

pytestmark = pytest.mark.slow


def deliver(output: Path, *more: str):
    """Deliver the scene of `finished_run` again, to another folder."""
    command = ("run", "image=coffee", *TINY, f"output={output}", "name=again", "--redeliver")
    return here(*command, *more, cwd=output)


@pytest.fixture
def output(finished_run):
    """The output of `finished_run`. A test leaves neither a thread nor a draft."""
    before = set(threading.enumerate())
    folder = finished_run.parents[1]
    yield folder
    assert not [thread for thread in threading.enumerate() if thread not in before]
    assert not [path.name for path in (folder / "coffee").glob(".*draft*")]


def raiser(error):
    def fail(*_, **__):
        raise error

    return fail


@pytest.mark.parametrize(
    "part", ["write_scene_files", "encode_gaussians", "render_share_page", "evaluate_frames"]
)
def test_an_error_of_any_thread_ends_the_delivery_in_one_line(output, monkeypatch, part):
    error = OSError(errno.EACCES, "no permission for this test")
    monkeypatch.setattr(delivery, part, raiser(error))
    done = deliver(output, "name=broken")
    assert done.returncode != 0 and "no permission for this test" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (output / "coffee" / "broken").exists()


def test_an_interrupted_delivery_leaves_no_thread(output, monkeypatch):
    monkeypatch.setattr(delivery, "covered_region", raiser(KeyboardInterrupt()))
    done = deliver(output, "name=stopped")
    assert done.returncode != 0
    assert not (output / "coffee" / "stopped").exists()


def test_a_scene_that_the_page_cannot_hold_is_a_note(output, monkeypatch):
    monkeypatch.setattr(delivery, "encode_gaussians", raiser(ValueError("it is too small")))
    done = deliver(output)
    assert done.returncode == 0, done.stderr
    assert "note: the report has no interactive scene: it is too small" in done.stderr
    assert 'id="scene-page"' not in (output / "coffee/again/report.html").read_text()


def test_an_error_while_the_film_is_rendered_ends_its_encoder(output, monkeypatch):
    started = []
    start = video_writer.start_ffmpeg

    def remember(*arguments):
        started.append(start(*arguments))
        return started[-1]

    def few(self, plan, kind):
        yield from list(pictures(self, plan, kind))[:3]
        raise ValueError("no more pictures")

    pictures = delivery.FilmSource.pictures
    monkeypatch.setattr(delivery.FilmSource, "pictures", few)
    monkeypatch.setattr(video_writer, "start_ffmpeg", remember)
    done = deliver(output, "name=cut")
    assert done.returncode != 0 and "no more pictures" in done.stderr
    assert all(process.poll() is not None for process in started)


def test_deliveries_of_one_scene_are_the_same_to_the_byte(output):
    contents = []
    for _ in range(2):
        done = deliver(output)
        assert done.returncode == 0, done.stderr
        files = [path for path in (output / "coffee/again").rglob("*") if path.is_file()]
        contents.append({path.name: path.read_bytes() for path in files})
    assert contents[0].keys() == contents[1].keys()
    changed = {name for name, data in contents[0].items() if data != contents[1][name]}
    assert not changed, "the order of threads does not matter"
