"""Depth by any network that comes as an ONNX file."""

import math
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.nn.functional import interpolate

from lift.depths import DepthEstimator, depths
from lift.depths.inverse import from_relative, resized
from lift.types import Depth


@depths.register("onnx")
class Onnx(DepthEstimator):
    """Any monocular depth network in an ONNX file, run by onnxruntime on the CPU.

    The picture is resized to the sides that the file fixes, or, where it leaves them open, to `size` along the longer side, keeping
    the aspect. Whether channels come first is read from the file. The licence is that of the network you give.

    path: the file.
    gives: what the output is: `depth`, `inverse_depth`, or `log_inverse_depth` (inverse depth is its exponential).
    metric: whether that is in metres (or in 1 / metres). If not, `depth` and `log_inverse_depth` are taken as known up to a factor, and
        `inverse_depth` up to scale and shift: then depth runs from 1 to `far`.
    white: the value of a white pixel in the network's eyes, before `mean` and `std`: 1 or 255.
    mean, std: subtracted and divided by, channel by channel, on the same scale as `white`.
    channels: order of the channels.
    size, multiple: longer side, and what both sides must be multiples of, for a network that leaves them open.
    far: depth of the farthest in units of the nearest, for affine-invariant inverse depth.
    input, output: names in the file, if it has several.
    """

    requires = ("onnxruntime",)
    extra = "onnx"
    licence = "that of the network"

    def __init__(
        self,
        path: Path,
        gives: Literal["depth", "inverse_depth", "log_inverse_depth"] = "inverse_depth",
        metric: bool = False,
        white: float = 1.0,
        mean: tuple[float, float, float] = (0.0, 0.0, 0.0),
        std: tuple[float, float, float] = (1.0, 1.0, 1.0),
        channels: Literal["rgb", "bgr"] = "rgb",
        size: int = 384,
        multiple: int = 32,
        far: float = 10.0,
        input: str | None = None,
        output: str | None = None,
    ) -> None:
        import onnxruntime

        if not Path(path).is_file():
            raise FileNotFoundError(
                f"depth.path is {path}, where there is no file; give the path of an ONNX file"
            )
        if not 1 < far < math.inf:
            raise ValueError(f"depth.far is {far}; choose a number above 1")
        if multiple < 1 or size < multiple:
            raise ValueError(
                f"depth.size is {size} and depth.multiple is {multiple}; choose 1 <= multiple <= size"
            )
        if min(std) <= 0:
            raise ValueError(f"depth.std is {std}; choose positive values")
        self.gives, self.metric, self.white, self.far = gives, metric, white, far
        self.mean, self.std, self.channels = torch.tensor(mean), torch.tensor(std), channels
        self.size, self.multiple = size, multiple
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # it warns of every unused constant
        try:
            self.network = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's own kinds have no common ancestor but Exception
            raise ValueError(
                f"depth.path is {path}, which onnxruntime cannot load: {' '.join(str(error).split())}"
            ) from error
        self.input = _named("input", input, self.network.get_inputs())
        self.output = _named("output", output, self.network.get_outputs()).name
        shape = self.input.shape
        if len(shape) != 4 or (shape[1] != 3 and shape[3] != 3):
            choices = "1 x 3 x H x W or 1 x H x W x 3"
            raise ValueError(
                f"depth.input {self.input.name!r} of {path} has the shape {shape}; choose one of {choices}"
            )
        self.channels_first = shape[1] == 3
        self.sides = shape[2:] if self.channels_first else shape[1:3]
        kinds = {
            "tensor(float)": torch.float32,
            "tensor(float16)": torch.float16,
            "tensor(uint8)": torch.uint8,
        }
        if self.input.type not in kinds:
            raise ValueError(
                f"depth.input {self.input.name!r} of {path} is {self.input.type}; it can be {', '.join(kinds)}"
            )
        self.kind = kinds[self.input.type]
        self.soft = 1000 / max(self._sides(self.size, self.size))  # some pixels of the network's

    def __call__(self, image: UInt8[Tensor, "height width 3"]) -> Depth:
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
        pixels = ((pixels * (self.white / 255)) - self.mean[:, None, None]) / self.std[
            :, None, None
        ]
        pixels = pixels if self.channels_first else pixels.permute(1, 2, 0)
        pixels = pixels.round().to(self.kind) if self.kind == torch.uint8 else pixels.to(self.kind)
        (given,) = self.network.run(
            [self.output], {self.input.name: pixels[None].contiguous().numpy()}
        )
        raw = torch.from_numpy(given).float().squeeze()
        if raw.ndim != 2:
            raise ValueError(
                f"depth.output {self.output!r} has the shape {given.shape}; choose one that is a single picture"
            )
        finite = raw.isfinite()
        if not finite.any():
            raise ValueError(
                f"depth.output {self.output!r} has no finite value; see depth.white, depth.mean and depth.std"
            )
        raw = resized(raw.where(finite, raw[finite].median()), width, height)
        valid = resized(finite.float(), width, height) > 0.99
        depth, kind = self._depth(raw)
        valid &= depth.isfinite() & (depth > 0)
        return Depth(depth.where(valid, 0).to(image.device), valid.to(image.device), kind)

    def _depth(self, raw: Tensor) -> tuple[Tensor, Literal["metric", "scale", "affine-invariant"]]:
        if self.gives == "inverse_depth" and not self.metric:
            return from_relative(raw, self.far), "affine-invariant"
        depth = {
            "depth": lambda: raw,
            "inverse_depth": lambda: 1 / raw,
            "log_inverse_depth": lambda: (-raw).exp(),
        }[self.gives]()
        return depth, "metric" if self.metric else "scale"

    def _sides(self, height: int, width: int) -> tuple[int, int]:
        """Height and width that the network gets."""
        factor = self.size / max(height, width)
        free = [
            max(round(side * factor / self.multiple), 1) * self.multiple for side in (height, width)
        ]
        return tuple(
            fixed if isinstance(fixed, int) and fixed > 0 else side
            for fixed, side in zip(self.sides, free, strict=True)
        )


def _named(what: str, name: str | None, choices: list):
    names = [choice.name for choice in choices]
    if name is None and len(choices) == 1:
        return choices[0]
    if name not in names:
        raise ValueError(f"depth.{what} is {name!r}; choose one of {', '.join(names)}")
    return choices[names.index(name)]
