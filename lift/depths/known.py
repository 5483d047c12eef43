"""Depth that comes with the picture."""

import importlib.util
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from lift.depths import DepthEstimator, depths
from lift.types import Cameras, Depth

_MOTORCYCLE = {
    "focal": 994.978,
    "cx": 311.193,
    "cy": 254.877,
    "offset": 31.086,
    "baseline": 0.193001,
}
"""Pixels and metres, of the 741 x 500 pair (Middlebury 2014, Scharstein et al., GCPR 2014)."""


@depths.register("known")
class Known(DepthEstimator):
    """The depth that comes with the picture: of `motorcycle_left`, of a built-in scene, or from a file.

    It is that of the input view, whatever picture is shown to it. Pixels without a measurement are not valid.

    path: a file with z-depth of the whole, upright picture: .npy, .npz or 16-bit .png, 0 or not finite where unknown. Of another size
        or aspect than the picture it is resized (nearest pixel) and cropped about its middle. Without it, the depth of the run's image.
    key: the array in an .npz; may be left out if it has only one.
    unit: metres that a value of 1 stands for: 0.001 for millimetres.
    """

    soft = 0.0

    def __init__(
        self,
        path: Path | None = None,
        key: str | None = None,
        unit: float = 1.0,
        *,
        image: str,
        camera: Cameras,
    ) -> None:
        if unit <= 0:
            raise ValueError(f"depth.unit is {unit}; choose a positive number")
        if path is None and image != "motorcycle_left":
            from lift.synthetic.scenes import SCENES

            if image not in SCENES:
                choices = ", ".join(["motorcycle_left", *SCENES])
                raise ValueError(
                    f"image is {image!r}, which comes without depth; set depth.path, or choose one of {choices}"
                )
        self.path, self.key, self.unit, self.image, self.camera = path, key, unit, image, camera

    def __call__(self, image: UInt8[Tensor, "height width 3"]) -> Depth:
        if tuple(image.shape[:2]) != (self.camera.height, self.camera.width):
            raise ValueError(
                f"the picture is {tuple(image.shape[:2])} pixels, its camera's {(self.camera.height, self.camera.width)}"
            )
        if self.path is not None:
            depth = self._from_file(Path(self.path))
        elif self.image == "motorcycle_left":
            depth = _motorcycle(self.camera)
        else:
            from lift.synthetic.scenes import render

            depth = render(self.image, self.camera).depth[0]
        valid = depth.isfinite() & (depth > 0)
        if not valid.any():
            raise ValueError(f"no pixel of the depth of {self.path or self.image} is known")
        return Depth(depth.where(valid, 0).to(image.device), valid.to(image.device), "metric")

    def _from_file(self, path: Path) -> Tensor:
        values = _read(path, self.key)
        if values.ndim != 2:
            raise ValueError(
                f"depth.path is {path}, an array of shape {values.shape}; choose one of height x width"
            )
        height, width = values.shape
        zoom = max(self.camera.width / width, self.camera.height / height)
        column = (np.arange(self.camera.width) + 0.5 - self.camera.width / 2) / zoom + width / 2
        row = (np.arange(self.camera.height) + 0.5 - self.camera.height / 2) / zoom + height / 2
        return torch.from_numpy(_sampled(values * self.unit, row, column))


def _motorcycle(camera: Cameras) -> Tensor:
    """z-depth in metres as the given camera sees it, which is the published one, resized and cropped."""
    package = importlib.util.find_spec("skimage")
    path = Path(package.submodule_search_locations[0]) / "data" / "motorcycle_disp.npz"
    if not path.is_file():
        raise FileNotFoundError(
            f"scikit-image has no {path.name}; choose another image, or another depth"
        )
    disparity = _read(path, None)
    depth = _MOTORCYCLE["focal"] * _MOTORCYCLE["baseline"] / (disparity + _MOTORCYCLE["offset"])
    known = np.isfinite(disparity)
    k = camera.intrinsics[0].double().numpy(force=True)
    column = (np.arange(camera.width) + 0.5 - k[0, 2]) / k[0, 0] * _MOTORCYCLE[
        "focal"
    ] + _MOTORCYCLE["cx"]
    row = (np.arange(camera.height) + 0.5 - k[1, 2]) / k[1, 1] * _MOTORCYCLE["focal"] + _MOTORCYCLE[
        "cy"
    ]
    return torch.from_numpy(_sampled(np.where(known, depth, 0), row, column))


def _sampled(values: np.ndarray, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    """The nearest pixel at each crossing of rows and columns (positions in pixels, centres at +0.5); never a mean of two depths."""
    i = np.floor(row).astype(int).clip(0, values.shape[0] - 1)
    j = np.floor(column).astype(int).clip(0, values.shape[1] - 1)
    return values[i[:, None], j].astype(np.float32)


def _read(path: Path, key: str | None) -> np.ndarray:
    if not path.is_file():
        raise FileNotFoundError(f"depth.path is {path}, where there is no file")
    suffix = path.suffix.lower()
    if suffix == ".npz":
        with np.load(path) as arrays:
            if key is None and len(arrays.files) == 1:
                key = arrays.files[0]
            if key not in arrays.files:
                raise ValueError(f"depth.key is {key!r}; choose one of {', '.join(arrays.files)}")
            return arrays[key].astype(np.float64)
    if suffix == ".npy":
        return np.load(path).astype(np.float64)
    if suffix == ".png":
        import cv2

        values = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if values is None or values.dtype != np.uint16:
            raise ValueError(f"depth.path is {path}, which is not a 16-bit PNG")
        return values.astype(np.float64)
    raise ValueError(f"depth.path is {path}; choose a file that ends in .npy, .npz or .png")
