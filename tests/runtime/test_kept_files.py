"""What a run keeps is found out from its folder, and what is missing is named."""

import pytest

from lift.runtime.integrity import MANIFEST, write_manifest
from lift.runtime.kept_files import (
    KEPT,
    REQUIRED,
    delivered_kind,
    describe_missing,
    has_scene,
    missing_files,
    scene_file,
)


def write_run(folder, kind, scene="gaussians.ply"):
    """Write the files of a run, without content but for its settings and its manifest."""
    for name in (*REQUIRED[kind], scene):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    (folder / "config.yaml").write_text(f"deliver:\n  keep: {kind}\n")
    write_manifest(folder, {"scene": "one", KEPT: kind})


@pytest.mark.parametrize("kind", ["full", "scene", "minimal"])
def test_a_complete_folder_lacks_nothing(tmp_path, kind):
    write_run(tmp_path, kind)
    assert delivered_kind(tmp_path) == kind
    assert missing_files(tmp_path) == [] and has_scene(tmp_path)
    (tmp_path / REQUIRED[kind][0]).unlink()
    assert missing_files(tmp_path) == [REQUIRED[kind][0]]


@pytest.mark.parametrize("damaged", [MANIFEST, "config.yaml"])
def test_one_damaged_record_is_enough_to_know_the_kind(tmp_path, damaged):
    write_run(tmp_path, "minimal")
    for content in (b"{", b"\xff\xfe", b"deliver: [1, 2]", b"deliver: {keep: all}", b"- 1"):
        (tmp_path / damaged).write_bytes(content)
        assert delivered_kind(tmp_path) == "minimal"
    (tmp_path / damaged).unlink()
    assert delivered_kind(tmp_path) == "minimal"


def test_an_older_run_or_no_run_is_full(tmp_path):
    assert delivered_kind(tmp_path / "nowhere") == "full"
    (tmp_path / "config.yaml").write_text("seed: 0\n")
    write_manifest(tmp_path, {"scene": "one"})
    assert delivered_kind(tmp_path) == "full"
    assert scene_file(tmp_path) == "gaussians.ply" and not has_scene(tmp_path)


def test_only_a_minimal_run_has_its_scene_in_another_file(tmp_path):
    write_run(tmp_path, "minimal", "gaussians.sog")
    assert scene_file(tmp_path) == "gaussians.sog"
    (tmp_path / "gaussians.sog").rename(tmp_path / "gaussians.compressed.ply")
    assert scene_file(tmp_path) == "gaussians.compressed.ply"
    (tmp_path / "gaussians.compressed.ply").unlink()
    assert missing_files(tmp_path) == ["gaussians.sog"]
    (tmp_path / "gaussians.sog").touch()
    assert scene_file(tmp_path, "full") == scene_file(tmp_path, "scene") == "gaussians.ply"


def test_a_missing_part_is_told_with_the_setting_that_keeps_it(tmp_path):
    write_run(tmp_path, "scene")
    text = describe_missing(tmp_path, "views", "depths")
    assert text.startswith(f"{tmp_path} has no views, which depths need; deliver.keep=scene leaves")
    assert "deliver.keep=full" in text and "\n" not in text
    write_run(tmp_path, "full")
    assert "--redeliver" in describe_missing(tmp_path, "views", "depths")
