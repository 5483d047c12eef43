"""Damaged and hostile files give a sane result or one line, and no reader hangs.

Case N of a format is always the same file. A failure names the format and the case, and keeps the
file in the temporary folder of the test.
"""

import gzip
import json
import os
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image, ImageCms, features

from lift.evaluation.datasets import datasets
from lift.io.cameras import read_cameras
from lift.io.capture import CaptureSettings, load_capture
from lift.io.image import load_picture, picture_size
from lift.io.points import read_points
from lift.io.splats import READABLE_FORMATS, read_ply, read_splats, write_ply
from lift.io.splats import encode as encode_splats
from lift.io.video import read_frames
from lift.io.video_writer import write_video
from lift.planners import planners
from lift.types import Cameras, Gaussians
from tests.helpers.dataset_samples import convert_to_binary
from tests.helpers.fuzzing import (
    limits,
    mutate_bytes,
    mutate_json,
    mutate_npy,
    mutate_npz,
    mutate_text,
    npy,
    one_line_errors,
)

FAST_CASES = 12
"""Cases of each format in the fast tests."""
ALL_CASES = 400
"""Cases of each format with LIFT_ALL_CASES=1."""
SLOW_CASES = ALL_CASES if os.environ.get("LIFT_ALL_CASES") else 60
"""Cases of each format in the slow tests."""
SLOW_VIDEO_CASES = 60 if os.environ.get("LIFT_ALL_CASES") else 20
"""Cases of videos, each of which starts ffmpeg."""
SIZE = (24, 16)


@dataclass(frozen=True)
class Format:
    """A valid sample, the mutation of its files, and the reader with checks of its result."""

    files: Callable[[], dict[str, bytes]]
    """Files of the sample by relative path."""
    targets: tuple[str, ...]
    """Files that are damaged, one of them a case."""
    mutate: Callable[[bytes, np.random.Generator], bytes]
    read: Callable[[Path], None]
    """Reads the folder of the sample."""


def pixels(count: int = 1) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, SIZE[1], SIZE[0], 3), dtype=np.uint8)


def picture(format: str, mode: str = "RGB", **options) -> bytes:
    stream = BytesIO()
    if mode == "I;16":
        image = Image.fromarray(pixels()[0, ..., 0].astype(np.uint16) * 257)
    else:
        image = Image.fromarray(pixels()[0]).convert(mode)
    image.save(stream, format, **options)
    return stream.getvalue()


def matrices(count: int = 3) -> np.ndarray:
    out = np.tile(np.eye(4), (count, 1, 1))
    out[:, 0, 3] = np.arange(count) / 10
    return out


def transforms() -> dict:
    frames = [
        {"file_path": f"images/{k}.png", "transform_matrix": matrix.tolist()}
        for k, matrix in enumerate(matrices())
    ]
    size = {"w": SIZE[0], "h": SIZE[1], "fl_x": 20.0, "fl_y": 21.0, "cx": 12.0, "cy": 8.0}
    lens = {"k1": 0.01, "k2": 0.0, "p1": 0.0, "p2": 0.0, "camera_model": "OPENCV"}
    world = {"ply_file_path": "points.ply", "applied_transform": np.eye(4)[:3].tolist()}
    return {**size, **lens, **world, "frames": frames}


def synthetic_transforms() -> dict:
    frames = transforms()["frames"]
    return {"camera_angle_x": 0.69, "camera_angle_y": 0.5, "frames": frames}


def camera_path() -> dict:
    cameras = [
        {"camera_to_world": matrix.ravel().tolist(), "fov": 50, "aspect": 1.5}
        for matrix in matrices()
    ]
    size = {"render_width": SIZE[0], "render_height": SIZE[1], "camera_type": "perspective"}
    return {**size, "default_fov": 50, "camera_path": cameras, "fps": 24, "seconds": 2}


def images() -> dict[str, bytes]:
    return {f"images/{k}.png": picture("PNG") for k in range(3)}


def points_ply() -> bytes:
    rows = "".join(f"{k} 0.5 2 10 20 30\n" for k in range(4))
    names = "".join(f"property float {name}\n" for name in "xyz")
    colors = "".join(f"property uchar {name}\n" for name in ("red", "green", "blue"))
    head = f"ply\nformat ascii 1.0\nelement vertex 4\n{names}{colors}end_header\n"
    return (head + rows).encode()


def gaussians_ply(tmp: Path) -> bytes:
    count = 5
    generator = torch.Generator().manual_seed(0)
    write_ply(
        tmp,
        Gaussians(
            torch.randn(count, 3, generator=generator),
            torch.nn.functional.normalize(torch.randn(count, 4, generator=generator), dim=-1),
            torch.full((count, 3), 0.1),
            torch.full((count,), 0.5),
            torch.randn(count, 4, 3, generator=generator),
        ),
    )
    return tmp.read_bytes()


def realestate() -> bytes:
    rows = [f"{1000 * k} 0.9 1.2 0.5 0.5 0 0 1 0 0 {k / 10} 0 1 0 0 0 0 1 0" for k in range(3)]
    return "\n".join(["https://example.org/v", *rows, ""]).encode()


def colmap_text() -> dict[str, bytes]:
    images_txt = "".join(f"{k} 1 0 0 0 {k / 10} 0 0 1 {k}.png\n1 2 -1 3 4 7\n" for k in range(3))
    return {
        "cameras.txt": b"# cameras\n1 OPENCV 24 16 20 21 12 8 0.01 0 0 0\n",
        "images.txt": images_txt.encode(),
        "points3D.txt": b"1 0 0.5 2 10 20 30 0.1 1 2\n2 0 1 2 10 20 30 0.1\n",
    }


def colmap_binary(tmp: Path) -> dict[str, bytes]:
    tmp.mkdir()
    for name, data in colmap_text().items():
        lines = [line for line in data.decode().splitlines() if not line.startswith("#")]
        if name == "images.txt":
            lines = lines[::2]
        if name == "points3D.txt":
            lines = [" ".join(line.split()[:8]) for line in lines]
        (tmp / name).write_text("\n".join(lines) + "\n")
    convert_to_binary(tmp)
    return {file.name: file.read_bytes() for file in tmp.iterdir()}


def camera_arrays() -> bytes:
    stream = BytesIO()
    intrinsics = np.tile(np.array([[20.0, 0, 12], [0, 21, 8], [0, 0, 1]]), (3, 1, 1))
    np.savez(
        stream,
        w2c=matrices(),
        K=intrinsics,
        width=SIZE[0],
        height=SIZE[1],
        names=np.array(["0.png", "1.png", "2.png"]),
        k1_simple_radial=np.full(3, 0.01),
    )
    return stream.getvalue()


def sparse_arrays() -> bytes:
    stream = BytesIO()
    np.savez(stream, xyz=np.ones((4, 3)), rgb=np.full((4, 3), 100.0))
    return stream.getvalue()


def llff_poses() -> bytes:
    rows = []
    for k in range(3):
        pose = np.array([[0, 1, 0, k / 10, 16], [-1, 0, 0, 0, 24], [0, 0, 1, 0, 20]], float)
        rows.append([*pose.ravel(), 1.0, 10.0])
    return npy(np.array(rows))


def check_cameras(cameras: Cameras) -> None:
    assert len(cameras) >= 1 and min(cameras.width, cameras.height) >= 1
    assert max(cameras.width, cameras.height) <= 2**16
    assert cameras.world_to_camera.isfinite().all() and cameras.intrinsics.isfinite().all()
    assert (cameras.intrinsics[:, [0, 1], [0, 1]] > 0).all()
    rotations = cameras.world_to_camera[:, :3, :3].double()
    identity = torch.eye(3, dtype=torch.float64).expand_as(rotations)
    assert torch.allclose(rotations @ rotations.mT, identity, atol=1e-4)


def read_file_cameras(name: str) -> Callable[[Path], None]:
    return lambda folder: check_cameras(read_cameras(folder / name))


def read_path(folder: Path) -> None:
    planner = planners.build({"name": "path", "path": str(folder / "path.json")})
    check_cameras(planner.cameras)


def read_model(folder: Path) -> None:
    check_cameras(read_cameras(folder))
    points = read_points(folder)
    if points is not None:
        assert points.points.isfinite().all() and points.colors.isfinite().all()
        assert len(points.points) == len(points.colors)


def read_gaussians(folder: Path) -> None:
    gaussians = read_ply(folder / "a.ply")
    assert len(gaussians) > 0
    for value in gaussians.tensors().values():
        assert len(value) == len(gaussians) and value.isfinite().all()


def read_splat_file(format: str) -> Callable[[Path], None]:
    def read(folder: Path) -> None:
        gaussians = read_splats(folder / f"a.{format}")
        assert len(gaussians) > 0
        for value in gaussians.tensors().values():
            assert len(value) == len(gaussians) and value.isfinite().all()

    return read


def read_point_file(folder: Path) -> None:
    points = read_points(folder / "a.ply")
    assert points is not None and points.points.isfinite().all()


def read_picture(folder: Path) -> None:
    width, height = picture_size(folder / "a.png")
    loaded = load_picture(str(folder / "a.png"), 32, 60.0)
    check_cameras(loaded.cameras)
    shape = loaded.frames.images.shape
    assert shape == (1, loaded.cameras.height, loaded.cameras.width, 3)
    assert min(width, height) >= 1 and max(shape) <= 64


def read_dataset(name: str) -> Callable[[Path], None]:
    def read(folder: Path) -> None:
        dataset = datasets.build({"name": name, "path": str(folder)})
        capture = dataset.capture(dataset.scenes()[0])
        check_cameras(capture.cameras)
        assert len(capture.views) == len(capture.cameras)
        camera = capture.inner_camera(0, 16)
        check_cameras(camera)
        frame = capture.load_view(0, camera)
        assert frame.images.shape == (1, camera.height, camera.width, 3)
        assert capture.points is None or capture.points.points.isfinite().all()

    return read


def read_capture(folder: Path) -> None:
    settings = CaptureSettings(32, 60.0, cameras=str(folder / "transforms.json"))
    capture = load_capture(str(folder / "images"), settings, lambda images: torch.zeros(3))
    check_cameras(capture.picture.cameras)
    assert len(capture.frames.images) == len(capture.names) == 3


def read_video(folder: Path) -> None:
    frames = read_frames(folder / "a.mp4").images
    assert len(frames) >= 1 and frames.shape[3] == 3


def read_depth(name: str) -> Callable[[Path], None]:
    from lift.depths.known import _read

    def read(folder: Path) -> None:
        array = _read(folder / name, None)
        assert isinstance(array, np.ndarray) and array.dtype == np.float64

    return read


def damage_json(data: bytes, rng: np.random.Generator) -> bytes:
    return mutate_json(json.loads(data), rng)


def encode(content: dict) -> bytes:
    return json.dumps(content).encode()


def display_p3() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def exif() -> Image.Exif:
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = 6
    tags.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.FocalLengthIn35mmFilm] = 28
    return tags


def scene(name: str, data: bytes, **more: bytes) -> Callable[[], dict[str, bytes]]:
    return lambda: {**images(), "points.ply": points_ply(), name: data, **more}


PICTURES = {
    "png": lambda: picture("PNG", icc_profile=display_p3()),
    "png-16": lambda: picture("PNG", "I;16"),
    "png-palette": lambda: picture("PNG", "P"),
    "png-alpha": lambda: picture("PNG", "RGBA"),
    "jpeg": lambda: picture("JPEG", exif=exif(), icc_profile=display_p3()),
    "jpeg-cmyk": lambda: picture("JPEG", "CMYK"),
    "webp": lambda: picture("WEBP", exif=exif()),
    "tiff": lambda: picture("TIFF", compression="tiff_lzw"),
    "tiff-plain": lambda: picture("TIFF", "LAB"),
    "bmp": lambda: picture("BMP"),
    "gif": lambda: picture("GIF"),
    "ppm": lambda: picture("PPM"),
}
SPLATS = tuple(name for name in READABLE_FORMATS if name != "ply")
"""Formats of Gaussians besides PLY."""
if features.check("avif"):
    PICTURES["avif"] = lambda: picture("AVIF")


@pytest.fixture(scope="module")
def formats(tmp_path_factory) -> dict[str, Format]:
    tmp = tmp_path_factory.mktemp("samples")
    binary = colmap_binary(tmp / "colmap")
    gaussians = gaussians_ply(tmp / "a.ply")
    write_video(tmp / "a.mp4", torch.from_numpy(pixels(3)), 10.0)
    video = (tmp / "a.mp4").read_bytes()
    depth = np.linspace(1, 2, 40).reshape(5, 8)
    stream = BytesIO()
    np.savez_compressed(stream, depth=depth)
    depth_npz = stream.getvalue()

    def one(name: str, data: bytes, mutate: Callable, read: Callable[[Path], None]) -> Format:
        return Format(lambda: {name: data}, (name,), mutate, read)

    def of_scene(name: str, data: bytes, mutate: Callable, dataset: str, **more: bytes) -> Format:
        return Format(scene(name, data, **more), (name, *more), mutate, read_dataset(dataset))

    colmap_names = ("cameras", "images", "points3D")
    out = {
        "transforms": one("a.json", encode(transforms()), damage_json, read_file_cameras("a.json")),
        "transforms-angle": Format(
            lambda: {**images(), "a.json": encode(synthetic_transforms())},
            ("a.json",),
            damage_json,
            read_file_cameras("a.json"),
        ),
        "camera-path": one("path.json", encode(camera_path()), damage_json, read_path),
        "realestate": one("a.txt", realestate(), mutate_text, read_file_cameras("a.txt")),
        "colmap-text": Format(
            colmap_text, tuple(f"{name}.txt" for name in colmap_names), mutate_text, read_model
        ),
        "colmap-binary": Format(
            lambda: binary, tuple(f"{name}.bin" for name in colmap_names), mutate_bytes, read_model
        ),
        "npz": one("a.npz", camera_arrays(), mutate_npz, read_file_cameras("a.npz")),
        "gaussians": one("a.ply", gaussians, mutate_bytes, read_gaussians),
        "gaussians-header": one("a.ply", gaussians, damage_header, read_gaussians),
        "points": one("a.ply", points_ply(), mutate_text, read_point_file),
        "dataset-transforms": of_scene(
            "transforms.json", encode(transforms()), damage_json, "folder"
        ),
        "dataset-npz": of_scene(
            "cameras.npz",
            camera_arrays(),
            mutate_npz,
            "folder",
            **{"sparse_points.npz": sparse_arrays()},
        ),
        "dataset-llff": of_scene("poses_bounds.npy", llff_poses(), mutate_npy, "llff"),
        "dataset-picture": Format(
            scene("transforms.json", encode(transforms())),
            ("images/0.png",),
            mutate_bytes,
            read_dataset("folder"),
        ),
        "capture": Format(
            scene("transforms.json", encode(transforms())),
            ("transforms.json",),
            damage_json,
            read_capture,
        ),
        "depth-npz": one("a.npz", depth_npz, mutate_npz, read_depth("a.npz")),
        "depth-npy": one("a.npy", npy(depth), mutate_npy, read_depth("a.npy")),
        "depth-png": one("a.png", picture("PNG", "I;16"), mutate_bytes, read_depth("a.png")),
        "video": one("a.mp4", video, mutate_bytes, read_video),
    }
    splats = read_ply(tmp / "a.ply")
    for name in SPLATS:
        data = encode_splats(splats, name)
        out[name] = one(f"a.{name}", data, mutate_bytes, read_splat_file(name))
    glb = encode_splats(splats, "glb")
    out["glb-json"] = one("a.glb", glb, damage_glb, read_splat_file("glb"))
    sog = encode_splats(splats, "sog")
    out["sog-json"] = one("a.sog", sog, damage_sog, read_splat_file("sog"))
    out["sog-picture"] = one("a.sog", sog, damage_sog_picture, read_splat_file("sog"))
    spz = encode_splats(splats, "spz")
    out["spz-raw"] = one("a.spz", spz, damage_spz, read_splat_file("spz"))
    for name, make in PICTURES.items():
        out[name] = one("a.png", make(), mutate_bytes, read_picture)
    return out


def damage_header(data: bytes, rng: np.random.Generator) -> bytes:
    end = data.index(b"end_header")
    return mutate_text(data[:end], rng) + data[end:]


def damage_glb(data: bytes, rng: np.random.Generator) -> bytes:
    """Change values in the JSON of a glb file, and keep its sizes right."""
    size = int.from_bytes(data[12:16], "little")
    text = mutate_json(json.loads(data[20 : 20 + size]), rng)
    return data[:12] + struct.pack("<II", len(text), 0x4E4F534A) + text + data[20 + size :]


def damage_sog(data: bytes, rng: np.random.Generator) -> bytes:
    """Change values in meta.json of a SOG file, and keep the archive whole."""
    stream = BytesIO()
    with zipfile.ZipFile(BytesIO(data)) as old, zipfile.ZipFile(stream, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, damage_json(content, rng) if name == "meta.json" else content)
    return stream.getvalue()


def damage_sog_picture(data: bytes, rng: np.random.Generator) -> bytes:
    """Damage one picture of a SOG file, and keep the archive whole."""
    stream = BytesIO()
    with zipfile.ZipFile(BytesIO(data)) as old, zipfile.ZipFile(stream, "w") as new:
        chosen = rng.choice([name for name in old.namelist() if name != "meta.json"])
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, mutate_bytes(content, rng) if name == chosen else content)
    return stream.getvalue()


def damage_spz(data: bytes, rng: np.random.Generator) -> bytes:
    """Damage the content of SPZ, and compress it."""
    return gzip.compress(mutate_bytes(gzip.decompress(data), rng), 1)


NAMES = (
    *("transforms", "transforms-angle", "camera-path", "realestate", "colmap-text"),
    *("colmap-binary", "npz", "gaussians", "gaussians-header", "points", "dataset-transforms"),
    *("dataset-npz", "dataset-llff", "dataset-picture", "capture"),
    *("depth-npz", "depth-npy", "depth-png", *PICTURES),
    *(*SPLATS, "glb-json", "sog-json", "sog-picture", "spz-raw"),
)


def run_cases(name: str, format: Format, cases: range, folder: Path) -> None:
    """Read the mutated samples of some cases. The folder keeps the files of a failed case."""
    files = format.files()
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    format.read(folder)  # the sample itself is valid
    for case in cases:
        rng = np.random.default_rng([case, *name.encode()])
        target = format.targets[int(rng.integers(len(format.targets)))]
        (folder / target).write_bytes(format.mutate(files[target], rng))
        try:
            with limits(), one_line_errors():
                format.read(folder)
        except BaseException as error:
            raise AssertionError(
                f"case {case} of {name!r} ({folder / target}): {type(error).__name__}: {error}"
            ) from error
        (folder / target).write_bytes(files[target])


@pytest.mark.parametrize("name", NAMES)
def test_damaged_files_give_a_result_or_one_line(name, formats, tmp_path):
    run_cases(name, formats[name], range(FAST_CASES), tmp_path)


def test_all_cases_of_all_formats_are_12_000():
    assert len(set(NAMES)) * ALL_CASES >= 12_000  # with 8,000 of settings they are 20,000


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_many_damaged_files_give_a_result_or_one_line(name, formats, tmp_path):
    count = int(os.environ.get("LIFT_FUZZ_CASES", SLOW_CASES))
    run_cases(name, formats[name], range(FAST_CASES, FAST_CASES + count), tmp_path)


@pytest.mark.slow
def test_damaged_videos_give_frames_or_one_line(formats, tmp_path):
    run_cases("video", formats["video"], range(SLOW_VIDEO_CASES), tmp_path)
