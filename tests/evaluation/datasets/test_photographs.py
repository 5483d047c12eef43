"""Pictures of datasets: only inside of the folder, turned as their cameras, and some missing."""

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import ExifTags, Image

from lift.config import Protocol
from lift.evaluation.protocol import select_views
from lift.geometry import pinhole
from lift.io.colmap import write_colmap
from lift.io.nerfstudio import write_transforms
from lift.types import Cameras, PointCloud
from tests.helpers.dataset_samples import convert_to_binary, open_dataset


def cameras(count: int, width: int = 64, height: int = 48) -> Cameras:
    out = pinhole(width, height, 60.0).map(lambda v: v.expand(count, *v.shape[1:]).clone())
    out.world_to_camera[:, 0, 3] = torch.arange(count) / 20
    return out


def save(path: Path, orientation: int = 1, size: tuple[int, int] = (64, 48)) -> None:
    """A picture whose stored upper half is bright."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = orientation
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    pixels[: size[1] // 2] = 200
    Image.fromarray(pixels).save(path, exif=tags)


def write_scene(folder: Path, names: list[str], count: int = 4) -> Path:
    """A scene of transforms.json with pictures inside, some of them under other names."""
    inside = [f"images/{k}.png" for k in range(count)]
    for name in inside:
        save(folder / name)
    write_transforms(folder / "transforms.json", cameras(count), [*names, *inside[len(names) :]])
    return folder


def protocol_settings(**settings):
    return OmegaConf.merge(OmegaConf.structured(Protocol), settings)


def capture(name: str, path: Path, **settings):
    dataset, scenes = open_dataset(name, path, **settings)
    return dataset.capture(scenes[0])


@pytest.mark.parametrize(
    "name", ["../secret.png", "images/../../secret.png", "ABSOLUTE", "link.png"]
)
def test_pictures_outside_of_the_folder_are_refused(tmp_path, monkeypatch, name):
    save(tmp_path / "secret.png")
    scene = write_scene(
        tmp_path / "scene", [name.replace("ABSOLUTE", str(tmp_path / "secret.png"))]
    )
    (scene / "link.png").symlink_to(tmp_path / "secret.png")
    with monkeypatch.context() as patch:
        patch.setattr("lift.io.image.open_picture", lambda *_: pytest.fail("opened"))
        with pytest.raises(ValueError, match="outside of the dataset's folder.*allow_outside=true"):
            capture("folder", scene)
    assert len(capture("folder", scene, allow_outside=True).views) == 4


def test_models_of_colmap_may_not_name_pictures_outside(tmp_path):
    save(tmp_path / "secret.png")
    scene = tmp_path / "scene"
    for k in range(2):
        save(scene / "images" / f"{k}.png")
    write_colmap(scene / "sparse" / "0", cameras(3), ["0.png", "1.png", "../../secret.png"])
    for dataset in ("folder", "tanks_and_temples"):
        with pytest.raises(ValueError, match="'../../secret.png', which lies outside"):
            capture(dataset, scene)
        assert len(capture(dataset, scene, allow_outside=True).views) == 3


def test_points_outside_of_the_folder_are_refused(tmp_path):
    scene = write_scene(tmp_path / "scene", [])
    (tmp_path / "points.ply").write_text("ply\n")
    content = json.loads((scene / "transforms.json").read_text())
    content["ply_file_path"] = "../points.ply"
    (scene / "transforms.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="ply_file_path is '../points.ply', which lies outside"):
        capture("folder", scene)


def test_a_dataset_that_is_a_link_is_inside_of_itself(tmp_path):
    write_scene(tmp_path / "disk" / "scene", [])
    (tmp_path / "data").symlink_to(tmp_path / "disk")
    assert len(capture("folder", tmp_path / "data").views) == 4
    (tmp_path / "scene").symlink_to(tmp_path / "disk" / "scene")
    assert len(capture("folder", tmp_path / "scene" / "images").views) == 4


def write_model(folder: Path) -> None:
    """A scene of COLMAP with points."""
    for k in range(4):
        save(folder / "images" / f"{k}.png")
    points = PointCloud(torch.ones(1, 3), torch.ones(1, 3))
    write_colmap(folder / "sparse", cameras(4), [f"{k}.png" for k in range(4)], points)


def write_arrays(folder: Path) -> None:
    """A scene of cameras.npz with points."""
    for k in range(4):
        save(folder / "images" / f"{k}.png")
    views = cameras(4)
    np.savez(
        folder / "cameras.npz",
        names=[f"{k}.png" for k in range(4)],
        K=views.intrinsics.numpy(),
        w2c=views.world_to_camera.numpy(),
        width=64,
        height=48,
    )
    np.savez(folder / "sparse_points.npz", xyz=np.ones((1, 3)), rgb=np.ones((1, 3)))


@pytest.mark.parametrize(
    "entry",
    [
        *(".", "sparse", "sparse/cameras.txt", "sparse/images.txt", "sparse/points3D.txt"),
        *("transforms.json", "cameras.npz", "sparse_points.npz"),
    ],
)
def test_links_of_a_dataset_to_the_outside_are_refused(tmp_path, entry):
    scene = tmp_path / "data" / "scene"
    if entry == "transforms.json":
        write_scene(scene, [])
    else:
        scene.mkdir(parents=True)
        (write_arrays if entry.endswith("npz") else write_model)(scene)
    shutil.move(scene / entry if entry != "." else scene, tmp_path / "secret")
    (tmp_path / "data" / "scene" / entry).symlink_to(tmp_path / "secret")
    with pytest.raises(PermissionError, match="outside of the dataset's folder.*allow_outside"):
        capture("folder", tmp_path / "data")
    assert len(capture("folder", tmp_path / "data", allow_outside=True).views) == 4


@pytest.mark.parametrize("dataset", ["dl3dv", "llff", "realestate10k", "tanks_and_temples"])
def test_scenes_that_are_links_are_refused(tmp_path, dataset):
    data, scene = tmp_path / "data", tmp_path / "disk" / "scene"
    data.mkdir()
    if dataset == "dl3dv":
        write_scene(scene, [])
    else:
        write_model(scene)
        convert_to_binary(scene / "sparse")
    np.save(scene / "poses_bounds.npy", np.ones((4, 17)))
    (data / "scene").symlink_to(scene)
    if dataset == "realestate10k":
        (scene / "scene.txt").write_text("https://example.org\n")
        (data / "scene.txt").symlink_to(scene / "scene.txt")
    with pytest.raises(PermissionError, match="outside of the dataset's folder.*allow_outside"):
        capture(dataset, data)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_transforms_of_a_dataset_may_have_a_byte_order_mark(tmp_path, encoding):
    scene = write_scene(tmp_path, [])
    text = (scene / "transforms.json").read_text()
    (scene / "transforms.json").write_text(text, encoding=encoding)
    assert len(capture("folder", scene).views) == 4


def test_missing_pictures_are_left_out_with_a_note(tmp_path, caplog):
    scene = write_scene(tmp_path, [])
    (scene / "images" / "1.png").unlink()
    with caplog.at_level(logging.WARNING):
        found = capture("folder", scene)
    assert found.views == ("images/0.png", "images/2.png", "images/3.png")
    assert found.notes["left out"] == "1 of 4 pictures are missing: 1.png"
    assert torch.equal(found.cameras.world_to_camera, cameras(4).world_to_camera[[0, 2, 3]])
    assert "1.png is not there: 1 of 4 pictures are left out" in caplog.text


def test_a_split_lies_in_the_folder_of_the_dataset(tmp_path):
    scene = write_scene(tmp_path / "data" / "scene", [])
    split = tmp_path / "split.json"
    split.write_text(json.dumps({"targets": ["3.png"]}))
    settings = protocol_settings(input="first", targets=str(split))
    with pytest.raises(PermissionError, match="protocol.targets is .*allow_outside"):
        select_views(capture("folder", scene), settings)
    assert select_views(capture("folder", scene, allow_outside=True), settings) == (0, [3])


def test_a_split_by_numbers_needs_all_pictures(tmp_path):
    scene = write_scene(tmp_path, [])
    (scene / "images" / "1.png").unlink()
    found = capture("folder", scene)
    by_name = protocol_settings(input="0.png", targets="all")
    assert select_views(found, by_name) == (0, [1, 2])
    with pytest.raises(ValueError, match="numbers of views in .* shift: 1 of 4 pictures"):
        select_views(found, protocol_settings(input="1", targets="all"))
    with pytest.raises(ValueError, match="protocol.input is '1.png', no view of"):
        select_views(found, protocol_settings(input="1.png", targets="all"))


def test_too_many_missing_pictures_are_an_error(tmp_path):
    scene = write_scene(tmp_path, [])
    for name in ("1.png", "2.png", "3.png"):
        (scene / "images" / name).unlink()
    with pytest.raises(
        FileNotFoundError, match="images/1.png is not there: missing are 3 of the 4"
    ):
        capture("folder", scene)


@pytest.mark.parametrize("orientation", [1, 3, 4])
@pytest.mark.parametrize("size", [(64, 48), (48, 48)])
def test_cameras_describe_the_pixels_as_they_are_stored(tmp_path, orientation, size):
    for k in range(2):
        save(tmp_path / "images" / f"{k}.png", orientation, size)
    names = [f"images/{k}.png" for k in range(2)]
    write_transforms(tmp_path / "transforms.json", cameras(2, *size), names)
    assert upper_is_bright(capture("folder", tmp_path))


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_square_pictures_that_are_turned_stay_as_stored(tmp_path, orientation):
    for k in range(2):
        save(tmp_path / "images" / f"{k}.png", orientation, (48, 48))
    write_colmap(tmp_path / "sparse" / "0", cameras(2, 48, 48), ["0.png", "1.png"])
    for dataset in ("folder", "tanks_and_temples"):
        assert upper_is_bright(capture(dataset, tmp_path))


def test_cameras_of_upright_pictures_turn_the_pixels(tmp_path):
    for k in range(2):
        save(tmp_path / "images" / f"{k}.png", 6, (64, 48))  # upright: 48 wide, bright at the right
    names = [f"images/{k}.png" for k in range(2)]
    write_transforms(tmp_path / "transforms.json", cameras(2, 48, 64), names)
    found = capture("folder", tmp_path)
    frame = found.load_view(0, found.inner_camera(0, 32)).images[0].float()
    assert frame[:, -8:].mean() > 180 and frame[:, :8].mean() < 20


def test_pictures_that_fit_their_camera_in_no_turn_are_named(tmp_path):
    for k in range(2):
        save(tmp_path / "images" / f"{k}.png", 6, (64, 48))
    names = [f"images/{k}.png" for k in range(2)]
    write_transforms(tmp_path / "transforms.json", cameras(2, 100, 20), names)
    with pytest.raises(
        ValueError, match="images/0.png is 48 x 64 pixels, its camera's picture 100"
    ):
        capture("folder", tmp_path)


def test_frames_of_realestate_stay_as_stored(tmp_path):
    rows = [f"{1000 * k} 0.9 1.2 0.5 0.5 0 0 1 0 0 {k / 10} 0 1 0 0 0 0 1 0" for k in range(3)]
    (tmp_path / "a.txt").write_text("\n".join(["https://example.org", *rows]))
    for k in range(3):
        save(tmp_path / "a" / f"{1000 * k}.png", 6)
    found = capture("realestate10k", tmp_path)
    assert (found.cameras.width, found.cameras.height) == (64, 48) and upper_is_bright(found)


def test_realestate_may_lie_beside_a_folder_of_images(tmp_path):
    (tmp_path / "images").mkdir()
    rows = [f"{1000 * k} 0.9 1.2 0.5 0.5 0 0 1 0 0 {k / 10} 0 1 0 0 0 0 1 0" for k in range(2)]
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "a.txt").write_text("\n".join(["https://example.org", *rows]))
    for k in range(2):
        save(tmp_path / "0" / "a" / f"{1000 * k}.png")
    assert len(capture("realestate10k", tmp_path / "0").views) == 2


def upper_is_bright(found) -> bool:
    frame = found.load_view(0, found.inner_camera(0, 32)).images[0].float()
    rows = len(frame) // 3
    return bool(frame[:rows].mean() > 180 and frame[-rows:].mean() < 20)


@pytest.mark.parametrize("level", ["", "images", "sparse", "sparse/0"])
@pytest.mark.parametrize("dataset", ["folder", "tanks_and_temples"])
def test_a_project_of_colmap_is_found_from_any_level(tmp_path, level, dataset):
    names = ["0.png", "1.png"]
    for name in names:
        save(tmp_path / "project" / "images" / name)
    write_colmap(tmp_path / "project" / "sparse" / "0", cameras(2), names)
    found = capture(dataset, tmp_path / "project" / level)
    assert found.scene == "project" and found.views == ("0.png", "1.png")
    assert upper_is_bright(found)


@pytest.mark.parametrize("level", ["", "sparse", "sparse/0"])
def test_a_project_without_a_folder_of_pictures_is_found(tmp_path, level):
    names = ["0.png", "1.png"]
    for name in names:
        save(tmp_path / "project" / name)
    write_colmap(tmp_path / "project" / "sparse" / "0", cameras(2), names)
    assert capture("folder", tmp_path / "project" / level).views == ("0.png", "1.png")


def test_a_model_beside_its_pictures_is_a_scene(tmp_path):
    for k in range(2):
        save(tmp_path / f"{k}.png")
    write_colmap(tmp_path, cameras(2), ["0.png", "1.png"])
    assert len(capture("folder", tmp_path).views) == 2
    shutil.rmtree(tmp_path)


@pytest.mark.parametrize("entry", ["file_path", "ply_file_path", "applied_transform"])
def test_entries_of_transforms_that_cannot_be_are_named(tmp_path, entry):
    scene = write_scene(tmp_path, [])
    (scene / "sparse").mkdir()
    (scene / "sparse" / "points3D.txt").write_text("1 0 0 2 10 20 30 0.5\n")
    (scene / "sparse" / "cameras.txt").write_text("")
    content = json.loads((scene / "transforms.json").read_text())
    matrix = np.eye(4)
    matrix[3] = 5, 0, 0, 3
    value = matrix.tolist() if entry == "applied_transform" else "a" * 5000 + ".ply"
    (content["frames"][2] if entry == "file_path" else content)[entry] = value
    (scene / "transforms.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=rf"transforms\.json.*{entry} (is 'aaa|has the last)") as e:
        capture("folder", scene)
    assert len(str(e.value)) < 500
