"""Depth that comes with the picture."""

import importlib.util
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from lift.depths import DepthEstimator, depths
from lift.io.decoding import decode_picture
from lift.io.files import read_file
from lift.io.numpy_files import load_npy, load_npz, npz_names
from lift.io.parsing import PARSE_ERRORS, describe_error
from lift.registry.ranges import Positive
from lift.types import Cameras, Depth

_MOTORCYCLE = {
    "focal": 994.978,
    "cx": 311.193,
    "cy": 254.877,
    "offset": 31.086,
    "baseline": 0.193001,
}
"""Calibration in pixels and metres of the 741 x 500 pair.

Reference: Middlebury 2014, Scharstein et al., GCPR 2014.
"""


@depths.register("known")
class KnownDepth(DepthEstimator):
    """Use measured depth: of `motorcycle_left`, a built-in scene, or a file.

    The depth is that of the input view, whichever picture is passed. Pixels without a measurement
    are not valid.

    Args:
        path: A file with z-depth of the whole, upright picture: .npy, .npz or 16-bit .png. 0, NaN
            and infinite values are unknown. A file of another size or aspect is resized (nearest
            pixel) and cropped about its centre. Default: the depth of the run's image.
        key: Name of the array in an .npz file. Optional if there is only one.
        unit: Metres per unit of the file, for example 0.001 for millimetres.
        image: The run's `image` setting.
        camera: The input camera, one view.
    """

    edge_width = 0.0
    example_settings = None
    """It knows one picture, and the contract tests use several."""

    def __init__(
        self,
        path: Path | None = None,
        key: str | None = None,
        unit: Positive = 1.0,
        *,
        image: str,
        camera: Cameras,
    ) -> None:
        if path is None and image != "motorcycle_left":
            from lift.synthetic.scenes import SCENES

            if image not in SCENES:
                choices = ", ".join(["motorcycle_left", *SCENES])
                raise ValueError(
                    f"image is {image!r}, which comes without depth; "
                    f"set depth.path, or choose one of {choices}"
                )
        self.path = path
        self.key = key
        self.unit = unit
        self.image = image
        self.camera = camera

    def __call__(self, image: UInt8[Tensor, "height width 3"]) -> Depth:
        """Return the depth of the input view. See `DepthEstimator`.

        Raises:
            ValueError: If the picture's size differs from the camera's, or no pixel has a depth.
        """
        if tuple(image.shape[:2]) != (self.camera.height, self.camera.width):
            raise ValueError(
                f"the picture is {tuple(image.shape[:2])} pixels, "
                f"its camera's {(self.camera.height, self.camera.width)}"
            )
        if self.path is not None:
            depth = self._from_file(Path(self.path))
        elif self.image == "motorcycle_left":
            depth = _motorcycle(self.camera)
        else:
            from lift.synthetic.scenes import render

            rendered_depth = render(self.image, self.camera).depth
            assert rendered_depth is not None
            depth = rendered_depth[0]
        valid = depth.isfinite() & (depth > 0)
        if not valid.any():
            raise ValueError(f"no pixel of the depth of {self.path or self.image} is known")
        return Depth(depth.where(valid, 0).to(image.device), valid.to(image.device), "metric")

    def _from_file(self, path: Path) -> Tensor:
        """Read, resize and crop the file."""
        values = _read(path, self.key)
        if values.ndim != 2:
            raise ValueError(
                f"depth.path is {path}, an array of shape {values.shape}; "
                "choose one of height x width"
            )
        height, width = values.shape
        zoom = max(self.camera.width / width, self.camera.height / height)
        column = (np.arange(self.camera.width) + 0.5 - self.camera.width / 2) / zoom + width / 2
        row = (np.arange(self.camera.height) + 0.5 - self.camera.height / 2) / zoom + height / 2
        return torch.from_numpy(_sample_nearest(values * self.unit, row, column))


def _motorcycle(camera: Cameras) -> Tensor:
    """Resize and crop the published z-depth in metres for a camera."""
    package = importlib.util.find_spec("skimage")
    assert package is not None and package.submodule_search_locations is not None
    path = Path(package.submodule_search_locations[0]) / "data" / "motorcycle_disp.npz"
    if not path.is_file():
        raise FileNotFoundError(
            f"scikit-image has no {path.name}; choose another image, or another depth"
        )
    disparity = _read(path, None)
    depth = _MOTORCYCLE["focal"] * _MOTORCYCLE["baseline"] / (disparity + _MOTORCYCLE["offset"])
    k = camera.intrinsics[0].double().numpy(force=True)
    x = (np.arange(camera.width) + 0.5 - k[0, 2]) / k[0, 0]
    y = (np.arange(camera.height) + 0.5 - k[1, 2]) / k[1, 1]
    column = x * _MOTORCYCLE["focal"] + _MOTORCYCLE["cx"]
    row = y * _MOTORCYCLE["focal"] + _MOTORCYCLE["cy"]
    return torch.from_numpy(
        _sample_nearest(np.where(np.isfinite(disparity), depth, 0), row, column)
    )


def _sample_nearest(values: np.ndarray, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    """Sample the nearest pixel at each crossing of rows and columns.

    A mean of two depths would lie on neither surface.

    Args:
        values: The map, [height, width].
        row: Positions in pixels. Pixel centres are at +0.5.
        column: Positions in pixels.

    Returns:
        The samples, [row, column].
    """
    i = np.floor(row).astype(int).clip(0, values.shape[0] - 1)
    j = np.floor(column).astype(int).clip(0, values.shape[1] - 1)
    return values[i[:, None], j].astype(np.float32)


def _read(path: Path, key: str | None) -> np.ndarray:
    """Read an array from .npz, .npy or 16-bit .png."""
    if not path.is_file():
        raise FileNotFoundError(f"depth.path is {path}, where there is no file")
    suffix = path.suffix.lower()
    if suffix in (".npz", ".npy"):
        data = read_file(path)
        try:
            if suffix == ".npy":
                return load_npy(data).astype(np.float64)
            names = npz_names(data)
            if key is None and len(names) == 1:
                key = names[0]
            if key not in names:
                raise ValueError(f"depth.key is {key!r}; choose one of {', '.join(names)}")
            return load_npz(data, [key])[key].astype(np.float64)
        except PARSE_ERRORS as error:
            raise ValueError(f"depth.path is {path}: {describe_error(error)}") from None
    if suffix == ".png":
        return _read_png(path)
    raise ValueError(f"depth.path is {path}; choose a file that ends in .npy, .npz or .png")


def _read_png(path: Path) -> np.ndarray:
    """Read a 16-bit grey PNG."""
    image, _, _ = decode_picture(read_file(path), str(path), None, [])
    # Some versions of Pillow open 16-bit PNG files in mode I.
    if image.format != "PNG" or not (image.mode.startswith("I;16") or image.mode == "I"):
        raise ValueError(f"depth.path is {path}, which is not a 16-bit PNG")
    return np.asarray(image).astype(np.float64)
