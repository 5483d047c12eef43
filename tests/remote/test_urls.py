"""What is a URL, and what it is called on a local disk."""

from pathlib import Path

import pytest

from lift.batch.pictures import scene_titles
from lift.config import compose_run
from lift.registry import ComponentError
from lift.remote.urls import file_name, is_url, local_output, output_url, working_folder
from lift.runtime.run_folder import run_title


@pytest.mark.parametrize(
    "url", ["s3://b/a.jpg", "GS://b/a", "az://c/a", "https://h/a.jpg", "memory://a", "file:///a"]
)
def test_schemes_of_fsspec_are_urls(url):
    assert is_url(url)


@pytest.mark.parametrize(
    "name", ["a.jpg", "odd:name.jpg", "a:/b.jpg", "odd://name.jpg", "c://a", "./s3://b/a", "", None]
)
def test_other_names_are_local(name):
    assert not is_url(name)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("s3://bucket/in/my photo.jpg", "my photo.jpg"),
        ("https://host/a%20b.png?size=3&name=x.gif#top", "a b.png"),
        ("https://host/photo?id=3", "photo"),
        ("s3://bucket/a?b.jpg", "a?b.jpg"),
        ("https://host", "host"),
    ],
)
def test_the_name_of_an_object_stays_readable(url, name):
    assert file_name(url) == name
    assert run_title(url) == Path(name).stem


def test_names_that_are_no_folders_become_safe():
    assert "/" not in file_name("https://host/%2e%2e%2fa.jpg")
    assert not file_name("s3://bucket/.hidden.jpg").startswith(".")


def test_titles_of_urls_differ():
    images = ["s3://b/x/a.jpg", "s3://b/y/a.jpg", "s3://c/y/a.jpg", "https://h/c.png?v=1"]
    titles = scene_titles(images)
    assert len(set(titles)) == 4 and titles[3] == "c" and titles[0] == "x-a"
    same = scene_titles(["https://h/a.png?v=1", "https://h/a.png?v=2"])
    assert len(set(same)) == 2


def test_each_output_has_a_local_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = working_folder("s3://bucket/results/")
    assert folder == working_folder("s3://bucket/results") != working_folder("s3://c/results")
    assert folder.name.startswith("results-")
    assert working_folder("s3://bucket/results", "/scratch").parent == Path("/scratch")


def test_a_local_output_is_its_own_folder(tmp_path):
    config = compose_run(["image=coffee", "output=odd:out", f"cache.folder={tmp_path}"])
    assert local_output(config) == Path("odd:out") and output_url(config) is None
    config = compose_run(["image=coffee", "output=memory://out/", f"cache.folder={tmp_path}"])
    assert local_output(config).parent == tmp_path and output_url(config) == "memory://out"


def test_outputs_that_cannot_work_are_refused(tmp_path):
    with pytest.raises(ComponentError, match="web servers take no results"):
        compose_run(["image=coffee", "output=https://host/results"])
    (tmp_path / "file").write_text("")
    with pytest.raises(ComponentError, match="cache.folder is"):
        compose_run(["image=coffee", "output=memory://o", f"cache.folder={tmp_path / 'file'}"])
