"""Depth from any network in an ONNX file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Interval
from jaxtyping import UInt8
from torch import Tensor
from torch.nn.functional import interpolate

from lift.depths import DepthEstimator, depths
from lift.depths.inverse import from_relative, resize
from lift.errors import summarize_error
from lift.io.sizing import round_to_multiple
from lift.registry.ranges import FarDepth, Number, PixelSize, Positive
from lift.runtime.kept_networks import files_stamp, load_once
from lift.types import Depth

_DTYPES = {
    "tensor(float)": torch.float32,
    "tensor(float16)": torch.float16,
    "tensor(uint8)": torch.uint8,
}
"""ONNX input types that can be fed."""


@depths.register("onnx")
class Onnx(DepthEstimator):
    """Run any monocular depth network from an ONNX file on the CPU.

    The picture is resized to the size that the file fixes. If the file leaves it open, the longer
    side becomes `size` and the aspect ratio stays. The channel axis is read from the file. The
    licence is that of the network.

    Args:
        path: The ONNX file.
        quantity: Meaning of the output. `log_inverse_depth` is the logarithm of inverse depth.
        metric: Whether the output is in metres (or 1 / metres). Otherwise `depth` and
            `log_inverse_depth` are known up to a factor, and `inverse_depth` up to scale and shift:
            then depth runs from 1 to `far`.
        white_level: Value of a white pixel before `mean` and `std` apply: 1 or 255.
        mean: Subtracted from each channel, on the scale of `white_level`.
        std: Divides each channel, on the scale of `white_level`, above 0.
        channels: Order of the channels.
        size: Longer side in pixels for a network with a free input size.
        multiple: Both sides are multiples of it, for a network with a free input size.
        far: Depth of the farthest pixel in units of the nearest, above 1. For inverse depth that is
            affine-invariant.
        input: Name of the input in the file. Optional if there is only one.
        output: Name of the output in the file. Optional if there is only one.

    Raises:
        ValueError: If onnxruntime cannot load the file, or its input is not a picture.
        FileNotFoundError: If there is no file.
    """

    requires = ("onnxruntime",)
    extra = "onnx"
    licence = "that of the network"
    example_settings = None
    """A test needs a network in a file."""

    def __init__(
        self,
        path: Path,
        quantity: Literal["depth", "inverse_depth", "log_inverse_depth"] = "inverse_depth",
        metric: bool = False,
        white_level: Positive = 1.0,
        mean: tuple[Number, Number, Number] = (0.0, 0.0, 0.0),
        std: tuple[Positive, Positive, Positive] = (1.0, 1.0, 1.0),
        channels: Literal["rgb", "bgr"] = "rgb",
        size: PixelSize = 384,
        multiple: Annotated[int, Interval(ge=1, le=1024)] = 32,
        far: FarDepth = 10.0,
        input: str | None = None,
        output: str | None = None,
    ) -> None:
        if not Path(path).is_file():
            raise FileNotFoundError(
                f"depth.path is {path}, where there is no file; give the path of an ONNX file"
            )
        if size < multiple:
            raise ValueError(
                f"depth.size is {size} and depth.multiple is {multiple}; "
                "choose 1 <= multiple <= size"
            )
        self.quantity = quantity
        self.metric = metric
        self.white_level = white_level
        self.far = far
        self.mean = torch.tensor(mean)
        self.std = torch.tensor(std)
        self.channels = channels
        self.size = size
        self.multiple = multiple
        self.network = load_once("depth", (type(self), files_stamp(path)), lambda: _load(path))
        self.input = _select("input", input, self.network.get_inputs())
        self.output = _select("output", output, self.network.get_outputs()).name
        self._read_input(path)
        # The network blurs steps over about 2.5 of its own pixels to each side.
        self.edge_width = 1000 / max(self._sides(self.size, self.size))

    def _read_input(self, path: Path) -> None:
        """Read layout, size and dtype of the network's input."""
        shape = self.input.shape
        if len(shape) != 4 or (shape[1] != 3 and shape[3] != 3):
            choices = "1 x 3 x H x W or 1 x H x W x 3"
            raise ValueError(
                f"depth.input {self.input.name!r} of {path} has the shape {shape}; "
                f"choose one of {choices}"
            )
        self.channels_first = shape[1] == 3
        self.sides = shape[2:] if self.channels_first else shape[1:3]
        if self.input.type not in _DTYPES:
            raise ValueError(
                f"depth.input {self.input.name!r} of {path} is {self.input.type}; "
                f"it can be {', '.join(_DTYPES)}"
            )
        self.dtype = _DTYPES[self.input.type]

    def __call__(self, image: UInt8[Tensor, "height width 3"]) -> Depth:
        """Estimate depth. See `DepthEstimator`.

        Raises:
            ValueError: If the output is not a single picture or has no finite value.
        """
        height, width = image.shape[:2]
        network_input = self._preprocess(image)
        outputs: list[Any] = self.network.run([self.output], {self.input.name: network_input})
        raw = torch.from_numpy(outputs[0]).float().squeeze()
        if raw.ndim != 2:
            raise ValueError(
                f"depth.output {self.output!r} has the shape {outputs[0].shape}; "
                "choose one that is a single picture"
            )
        finite = raw.isfinite()
        if not finite.any():
            raise ValueError(
                f"depth.output {self.output!r} has no finite value; "
                "see depth.white_level, depth.mean and depth.std"
            )
        raw = resize(raw.where(finite, raw[finite].median()), width, height)
        valid = resize(finite.float(), width, height) > 0.99
        depth, kind = self._depth(raw)
        valid &= depth.isfinite() & (depth > 0)
        return Depth(depth.where(valid, 0).to(image.device), valid.to(image.device), kind)

    def _preprocess(self, image: UInt8[Tensor, "height width 3"]) -> np.ndarray:
        """Resize and normalise the picture in the network's layout and dtype."""
        height, width = image.shape[:2]
        pixels = image.cpu().permute(2, 0, 1)[None].float()
        pixels = interpolate(
            pixels,
            size=self._sides(height, width),
            mode="bilinear",
            align_corners=False,
            antialias=True,
        )[0]
        pixels = pixels.flip(0) if self.channels == "bgr" else pixels
        pixels = pixels * (self.white_level / 255)
        pixels = (pixels - self.mean[:, None, None]) / self.std[:, None, None]
        pixels = pixels if self.channels_first else pixels.permute(1, 2, 0)
        pixels = (
            pixels.round().to(self.dtype) if self.dtype == torch.uint8 else pixels.to(self.dtype)
        )
        return pixels[None].contiguous().numpy()

    def _depth(self, raw: Tensor) -> tuple[Tensor, Literal["metric", "scale", "affine-invariant"]]:
        """Convert the network's output to z-depth and say what the values mean."""
        if self.quantity == "inverse_depth" and not self.metric:
            return from_relative(raw, self.far), "affine-invariant"
        depth = {
            "depth": lambda: raw,
            "inverse_depth": lambda: 1 / raw,
            "log_inverse_depth": lambda: (-raw).exp(),
        }[self.quantity]()
        return depth, "metric" if self.metric else "scale"

    def _sides(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the network's input for a picture."""
        factor = self.size / max(height, width)
        rows, columns = (
            fixed
            if isinstance(fixed, int) and fixed > 0
            else round_to_multiple(side * factor, self.multiple)
            for fixed, side in zip(self.sides, (height, width), strict=True)
        )
        return rows, columns


def _load(path: Path) -> Any:
    """Load an ONNX file for the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # it warns of every unused constant
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions have no other common base class
        raise ValueError(
            f"depth.path is {path}, which onnxruntime cannot load: {summarize_error(error)}"
        ) from error


def _select(setting: str, name: str | None, choices: Sequence[Any]) -> Any:
    """Select an input or output by name. The name is optional if there is only one."""
    names = [choice.name for choice in choices]
    if name is None and len(choices) == 1:
        return choices[0]
    if name not in names:
        raise ValueError(f"depth.{setting} is {name!r}; choose one of {', '.join(names)}")
    return choices[names.index(name)]
