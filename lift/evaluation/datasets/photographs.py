"""A photograph, its camera and its lens: what a pinhole camera at its place would have taken; and what datasets of photographs share."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import ExifTags, Image
from torch.nn.functional import grid_sample

from lift.evaluation.datasets import Capture, Dataset
from lift.io.cameras import LENS, PINHOLES, View, joined, natural, read_points
from lift.io.image import read_image
from lift.types import Cameras, Frames, PointCloud

PICTURES = (".png", ".jpg", ".jpeg")
_STRIP = 2_000_000
"""Samples that are taken at once, which bounds the memory that a large photograph takes."""
_UNEVEN = 0.02
"""How far a calibration's two focal lengths may differ whose pixels are square."""
_ZOOMS = 400
"""Tried for what the lens still sees, each 1.02 times the one before."""


def distorted(rays: Float[np.ndarray, "*ray 2"], lens: Sequence[float]) -> Float[np.ndarray, "*ray 2"]:
    """Where the lens puts what lies at x/z, y/z; both in focal lengths from the principal point.

    lens: OpenCV's k1 k2 p1 p2 k3 k4 k5 k6, as many as are not 0 (docs.opencv.org, "Camera Calibration and 3D Reconstruction").
    """
    k1, k2, p1, p2, k3, k4, k5, k6 = (*lens, *[0.0] * (len(LENS) - len(lens)))
    x, y = rays[..., 0], rays[..., 1]
    if not any(lens):
        return rays
    square = x * x + y * y
    radial = 1 + square * (k1 + square * (k2 + square * k3) if k2 or k3 else k1)
    if k4 or k5 or k6:
        radial /= 1 + square * (k4 + square * (k5 + square * k6))
    out = rays * radial[..., None]
    if p1 or p2:
        out[..., 0] += 2 * p1 * x * y + p2 * (square + 2 * x * x)
        out[..., 1] += p1 * (square + 2 * y * y) + 2 * p2 * x * y
    return out


@dataclass(frozen=True)
class Photograph:
    """A picture file as it was taken. camera: one view, of any picture size; the file's own may be another. lens: as `distorted` wants it."""

    path: Path
    camera: Cameras
    lens: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if len(self.camera) != 1 or len(self.lens) > len(LENS):
            raise ValueError(f"{self.path} has {len(self.camera)} cameras and {len(self.lens)} coefficients of its lens; expected 1 and at most {len(LENS)}")

    def inner(self, longer: int) -> Cameras:
        """The pinhole camera at its pose with its aspect, square pixels and the principal point in the middle that sees as much as can be without seeing
        the photograph's border. longer: pixels of the longer side. Raises ValueError if there is none: the principal point lies outside."""
        if longer < 1:
            raise ValueError(f"the longer side is {longer}; choose at least 1 pixel")
        width, height = self.camera.width, self.camera.height
        stretch = float(self.camera.intrinsics[0, 0, 0] / self.camera.intrinsics[0, 1, 1])
        across, down = width, height * (stretch if abs(stretch - 1) > _UNEVEN else 1)
        size = (longer, max(1, round(longer * down / across))) if across >= down else (max(1, round(longer * across / down)), longer)
        along = np.linspace(-0.5, 0.5, 65)
        edges = np.concatenate([np.stack([along, np.full(65, side)], -1) for side in (-0.5, 0.5)])
        border = np.concatenate([edges, edges[:, ::-1]]) * size

        def seen(pixels: np.ndarray) -> np.ndarray:
            """Whether the lens sees the whole border of targets whose pixels are so large, in focal lengths. Past the angle where a lens's polynomial
            turns back it would seem to see all again."""
            rays = pixels[:, None, None] * border
            with np.errstate(all="ignore"):  # where a lens's denominator is 0, nothing is seen
                at, further = distorted(rays, self.lens), distorted(1.001 * rays, self.lens)
            growing = (further * further).sum(-1) > (at * at).sum(-1)
            places = self._pixels(at)
            return (growing & (places >= 0).all(-1) & (places <= (width, height)).all(-1)).all(-1)

        widest = 4 * max(width, height) / float(self.camera.intrinsics[0, [0, 1], [0, 1]].min()) / min(size)
        tried = np.geomspace(widest / 1000, widest, _ZOOMS)
        last = int(np.argmin(np.append(seen(tried), False)))  # the first that sees too much; those after it may only seem not to
        if last == 0:
            raise ValueError(f"{self.path}: the camera's principal point lies outside of its picture, or at its very border")
        small, large = tried[last - 1], tried[min(last, _ZOOMS - 1)]
        for _ in range(50):
            middle = (small + large) / 2
            small, large = (middle, large) if seen(np.array([middle]))[0] else (small, middle)
        intrinsics = torch.tensor([[1 / small, 0, size[0] / 2], [0, 1 / small, size[1] / 2], [0, 0, 1]], dtype=torch.float64)
        return Cameras(self.camera.world_to_camera, intrinsics[None].to(self.camera.intrinsics), *size)

    def look(self, camera: Cameras) -> Frames:
        """What a pinhole camera at its pose takes, one frame without depth: means over its pixels, of the photograph interpolated linearly. The border is
        repeated where it sees beyond. Raises ValueError for a camera at another pose."""
        own = self.camera.world_to_camera
        if len(camera) != 1 or not torch.allclose(camera.world_to_camera, own.to(camera.world_to_camera), rtol=1e-4, atol=1e-4):
            raise ValueError(f"{self.path} was taken from elsewhere: a photograph shows what one camera at its own pose sees")
        image = read_image(self.path)
        source = image.permute(2, 0, 1)[None].float()
        lens, asked = self.camera.intrinsics[0].double().numpy(), camera.intrinsics[0].double().numpy()
        shrink = (lens[[0, 1], [0, 1]] / asked[[0, 1], [0, 1]] / (self.camera.width, self.camera.height) * image.shape[1::-1]).max()
        fine = max(1, math.ceil(shrink - 1e-4))  # samples a pixel and axis: none of the photograph's is left out
        x = ((np.arange(fine * camera.width) + 0.5) / fine - asked[0, 2]) / asked[0, 0]
        rows, strip = [], max(1, _STRIP // (fine * fine * camera.width))
        for top in range(0, camera.height, strip):
            bottom = min(top + strip, camera.height)
            y = ((np.arange(fine * top, fine * bottom) + 0.5) / fine - asked[1, 2]) / asked[1, 1]
            at = self._pixels(distorted(np.stack(np.meshgrid(x, y), axis=-1), self.lens))
            grid = torch.from_numpy(2 * at / (self.camera.width, self.camera.height) - 1).float()[None]
            found = grid_sample(source, grid, "bilinear", "border", align_corners=False)
            rows.append(found.view(3, bottom - top, fine, camera.width, fine).mean((2, 4)))
        return Frames(torch.cat(rows, 1).permute(1, 2, 0).round().clamp(0, 255).to(torch.uint8)[None])

    def _pixels(self, at: Float[np.ndarray, "*ray 2"]) -> Float[np.ndarray, "*ray 2"]:
        lens = self.camera.intrinsics[0].double().numpy()
        return at * lens[[0, 1], [0, 1]] + lens[:2, 2]


class Photographs(Dataset):
    """path: the folder of the dataset, or of a single scene.
    scenes: names of those to take, which are their folders'; None: all."""

    licence = "see its page"
    source = ""
    """Where to get it."""
    expected = ""
    """What makes a folder a scene, in words."""

    def __init__(self, path: Path, scenes: tuple[str, ...] | None = None) -> None:
        self.path, self.asked = Path(path).expanduser(), scenes

    def holds(self, folder: Path) -> bool:
        """Whether it is a scene's."""
        raise NotImplementedError

    def found(self) -> dict[str, Path]:
        """Every scene that is there, asked for or not, and where it lies."""
        if not self.path.is_dir():
            return {}
        if self.holds(self.path):
            return {self.path.resolve().name: self.path}
        return {child.name: child for child in sorted(self.path.iterdir(), key=lambda child: natural(child.name)) if child.is_dir() and self.holds(child)}

    def places(self) -> dict[str, Path]:
        """The scenes to take. Raises FileNotFoundError or ValueError, as `scenes` does."""
        if not self.path.exists():
            raise FileNotFoundError(f"dataset.path is {self.path}, which is not there; expected {self.expected}")
        if not (found := self.found()):
            raise FileNotFoundError(f"{self.path} holds no scene: expected {self.expected}, in it or in a folder for each scene")
        for name in self.asked or ():
            if name not in found:
                lacking = f" (its folder is there, but not {self.expected})" if (self.path / name).is_dir() else ""
                raise ValueError(f"dataset.scenes has {name!r}, which is not in {self.path}{lacking}; there are {', '.join(found)}")
        return {name: found[name] for name in self.asked or found}

    def scenes(self) -> list[str]:
        return list(self.places())

    def place(self, scene: str) -> Path:
        places = self.places()
        if scene not in places:
            raise ValueError(f"there is no scene {scene!r} in {self.path}; there are {', '.join(places)}")
        return places[scene]

    def captured(
        self, scene: str, folder: Path, views: Sequence[View], pictures: Sequence[Path], points: PointCloud | None, notes: Mapping[str, str] | None = None
    ) -> Capture:
        """A capture of views, with a picture each, of whatever size the files have: cameras are scaled to it. Raises FileNotFoundError or ValueError."""
        if not views:
            raise ValueError(f"{folder} holds no cameras")
        if missing := [picture for picture in pictures if not picture.is_file()]:
            raise FileNotFoundError(f"{missing[0]} is not there: missing are {len(missing)} of the {len(pictures)} pictures that the scene's cameras took")
        for view, picture in zip(views, pictures, strict=True):
            if view.model not in ("", *PINHOLES):
                raise ValueError(f"{picture} was taken by a camera of the model {view.model}; known are {', '.join(PINHOLES)}")
            if not np.isfinite(view.lens).all():
                raise ValueError(f"{picture} was taken by a lens with a distortion that is not finite: {view.lens}")
        width, height = size = picture_size(pictures[0])
        for view, picture in zip(views, pictures, strict=True):
            if (other := picture_size(picture)) != size:
                raise ValueError(f"{picture} is {other[0]} x {other[1]} pixels, {pictures[0]} {width} x {height}; pictures of a scene have one size")
            if min(view.size) < 1 or abs(height - width * view.size[1] / view.size[0]) > 1 + 0.01 * height:
                raise ValueError(f"{picture} is {width} x {height} pixels, its camera's picture {view.size[0]} x {view.size[1]}; expected the same aspect")
        cameras = joined([view.resized(width, height) for view in views], str(folder))
        taken = [Photograph(picture, cameras[k], view.lens) for k, (view, picture) in enumerate(zip(views, pictures, strict=True))]
        return Capture(
            scene=scene,
            views=tuple(view.name or picture.name for view, picture in zip(views, pictures, strict=True)),
            cameras=cameras,
            inner=lambda view, longer: taken[view].inner(longer),
            look=lambda view, camera: taken[view].look(camera),
            points=points if points is not None and len(points) else None,
            folder=folder,
            notes={"licence": self.licence, "source": self.source} | dict(notes or {}),
        )


def picture_size(path: Path) -> tuple[int, int]:
    """Width and height of a picture file as `read_image` reads it, without decoding it. Raises ValueError if it is none."""
    try:
        with Image.open(path) as image:
            lying = image.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
            return (image.height, image.width) if lying else (image.width, image.height)
    except (OSError, SyntaxError) as error:
        raise ValueError(f"{path} is no picture that can be read: {error}") from None


def folder_of_pictures(folder: Path, factor: int | None, preferred: Sequence[int]) -> Path:
    """`images_4` and the like in a scene's folder (`images` for 1): that of `factor`, or the first of those preferred. Raises FileNotFoundError."""
    if factor is not None and factor < 1:
        raise ValueError(f"dataset.factor is {factor}; choose 1 for images, 4 for images_4 and so on")
    names = [f"images_{k}" if k > 1 else "images" for k in ([factor] if factor else preferred)]
    for name in names:
        if (folder / name).is_dir():
            return folder / name
    there = ", ".join(sorted(child.name for child in folder.glob("images*") if child.is_dir())) or "no other"
    raise FileNotFoundError(f"there is no folder of pictures {' or '.join(names)} in {folder}; there is {there}")


def picture(named: str, *folders: Path) -> Path:
    """The file of a picture, whose suffix may be another, in the first folder that has it; else where it was expected first.

    Raises ValueError for a camera that names none."""
    if not named:
        raise ValueError(f"a camera of the scene names no picture; expected names of files in {folders[0]}")
    for folder in folders:
        if (folder / named).is_file():
            return folder / named
    for folder in folders:
        for suffix in PICTURES:
            for path in ((folder / named).with_suffix(suffix), (folder / named).with_suffix(suffix.upper())):
                if path.is_file():
                    return path
    return folders[0] / named


def model_of(folder: Path, places: Sequence[str]) -> Path | None:
    """The first of the places in a scene's folder where a COLMAP model lies, whole or not."""
    files = [f"{part}.{form}" for part in ("cameras", "images") for form in ("txt", "bin")]
    return next((folder / place for place in places if any((folder / place / file).is_file() for file in files)), None)


def points_beside(file: Path, content: Mapping, models: Sequence[str]) -> PointCloud | None:
    """Of nerfstudio's transforms.json (its content): the PLY file it names, which lies in the world of its cameras, or COLMAP's points, which do not until
    `applied_transform` [3 4] is applied. Raises ValueError."""
    if (named := content.get("ply_file_path")) and (points := read_points(file.parent / named)) is not None:
        return points
    points = next((found for model in models if (found := read_points(file.parent / model)) is not None), None)
    if points is None:
        return None
    try:
        applied = np.array(content.get("applied_transform", np.eye(4)[:3]), dtype=np.float64)
    except ValueError:
        applied = np.zeros(0)
    if applied.shape not in ((3, 4), (4, 4)):
        raise ValueError(f"{file}: applied_transform is of shape {applied.shape}; expected 3 rows of 4")
    rotation, moved = torch.from_numpy(applied[:3, :3]), torch.from_numpy(applied[:3, 3])
    return replace(points, points=(points.points.double() @ rotation.mT + moved).float())
