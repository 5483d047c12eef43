"""Networks of the published method at real size, with random weights and true answers.

A plugin for `LIFT_PLUGINS`: `prior=random_motionctrl`, `depth=random_depth_anything` and
`pose=random_mast3r`. Each one runs the real network on the real inputs. Then it replaces the
network's answer by that of a ray-cast scene, so that later stages have ordinary work. Time and
memory of a network do not depend on its weights. The seconds of the replacement are written to the
folder of the environment variable TRUTH_FOLDER, to be subtracted.
"""

import hashlib
import json
import math
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from lift.camera_paths import scale_motion
from lift.depths import depths
from lift.depths.depth_anything import DepthAnything
from lift.evaluation.pairs import Oracle
from lift.io.image import resize_images
from lift.poses import poses
from lift.poses.mast3r import Mast3r
from lift.poses.sfm.correspondence import PairMaps
from lift.poses.sfm.padding import Padding
from lift.priors import ClipRequest, priors
from lift.priors.motionctrl import MotionCtrl
from lift.runtime.devices import cpu_cores
from lift.synthetic.scenes import render
from lift.types import Cameras, Depth, Frames, Reconstruction, Trajectory

SCENE = "room"
"""The ray-cast scene that is shown."""


def truth_folder() -> Path:
    """Return the folder of the true cameras and depth maps, shared by all processes."""
    folder = Path(os.environ["TRUTH_FOLDER"])
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def truth_file(picture: Tensor) -> Path:
    """Return the file with the truth of a picture [height, width, 3], by its hash."""
    digest = hashlib.sha256(picture.cpu().contiguous().numpy().tobytes()).hexdigest()
    return truth_folder() / f"{digest}.pt"


def save_truth(frames: Frames, cameras: Cameras) -> None:
    """Remember the cameras and the depth of frames."""
    assert frames.depth is not None
    for index in range(len(frames)):
        camera = cameras[index]
        content = {
            "world_to_camera": camera.world_to_camera,
            "intrinsics": camera.intrinsics,
            "depth": frames.depth[index].clone(),
        }
        torch.save(content, truth_file(frames.images[index]))


def load_truth(pictures: Tensor) -> tuple[Cameras, Tensor]:
    """Return the true cameras and the depth of pictures [frame, height, width, 3]."""
    rows = [torch.load(truth_file(picture), weights_only=True) for picture in pictures]
    height, width = pictures.shape[1:3]
    cameras = Cameras(
        torch.cat([row["world_to_camera"] for row in rows]),
        torch.cat([row["intrinsics"] for row in rows]),
        width,
        height,
    )
    return cameras, torch.stack([row["depth"] for row in rows])


def render_fast(cameras: Cameras) -> Frames:
    """Render the scene at half the width and height, on all cores, and enlarge it.

    Args:
        cameras: One camera for each frame.
    """
    small = cameras.resized(cameras.width // 2, cameras.height // 2)
    views = [small[index] for index in range(len(small))]
    with ThreadPoolExecutor(cpu_cores()) as pool:
        frames = Frames.cat(list(pool.map(lambda view: render(SCENE, view), views)))
    assert frames.depth is not None
    size = (cameras.height, cameras.width)
    depth = interpolate(frames.depth[:, None], size, mode="nearest-exact")[:, 0]
    return Frames(resize_images(frames.images, cameras.width, cameras.height), depth)


@contextmanager
def substitution(stage: str) -> Iterator[None]:
    """Write down the seconds that a replacement takes."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = time.perf_counter()
    yield
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    row = {"stage": stage, "process": os.getpid(), "seconds": time.perf_counter() - start}
    with (truth_folder() / "substitutions.jsonl").open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(row) + "\n")


@priors.register("random_motionctrl")
class RandomMotionCtrl(MotionCtrl):
    """Run MotionCtrl, then return frames of a ray-cast scene along a fraction of the motion.

    Args:
        motion_scale: Fraction of the requested motion that the frames show, above 0 to 1.
        model: As in `motionctrl`.
        weights: As in `motionctrl`.
    """

    def __init__(self, motion_scale: float = 0.1, *, depth: Depth, device: torch.device, **shared):
        super().__init__(depth=depth, device=device, **shared)
        self.motion_scale = motion_scale

    def generate_batch(self, requests: Sequence[ClipRequest]) -> list[Frames]:
        """Generate clips with the network, and replace them."""
        super().generate_batch(requests)
        with substitution("generate"):
            return [self._replace(request) for request in requests]

    def _replace(self, request: ClipRequest) -> Frames:
        path = scale_motion(request.cameras[0], request.clip.cameras, self.motion_scale)
        rendered = render_fast(path)
        save_truth(rendered, path)
        return Frames(rendered.images)


@depths.register("random_depth_anything")
class RandomDepthAnything(DepthAnything):
    """Run Depth Anything, then return the true depth of the picture.

    Args:
        model: As in `depth_anything`.
        size: As in `depth_anything`.
        far: As in `depth_anything`.
        camera: Camera of the input picture.
    """

    def __init__(
        self,
        model: str,
        size: int = 518,
        far: float = 10.0,
        *,
        camera: Cameras,
        device: torch.device,
    ) -> None:
        super().__init__(model, size, far, device=device)
        self.camera = camera

    def __call__(self, image: Tensor) -> Depth:
        """Estimate depth with the network, and replace it."""
        estimate = super().__call__(image)
        with substitution("depth" if not truth_file(image).exists() else "reconstruct"):
            if not truth_file(image).exists():  # the input picture
                truth = render(SCENE, self.camera)
                save_truth(Frames(image[None], truth.depth), self.camera)
            depth = load_truth(image[None])[1][0].to(estimate.depth)
            return Depth(depth, depth > 0, estimate.kind)


class TrueMaps:
    """Answers of a pair network from the truth.

    Args:
        network: The pair network, which runs first.
        oracle: The answers.
    """

    def __init__(self, network: Any, oracle: Oracle) -> None:
        self.network = network
        self.oracle = oracle
        self.has_descriptors = network.has_descriptors

    def encode(self, images: Tensor) -> list[Any]:
        """Encode frames with the network, and number them."""
        features = self.network.encode(images)
        return list(zip(features, self.oracle.encode(images), strict=True))

    def predict(self, first: Sequence[Any], second: Sequence[Any], both: bool) -> PairMaps:
        """Predict pairs with the network, and replace the maps."""
        self.network.predict([f for f, _ in first], [f for f, _ in second], both)
        with substitution("reconstruct"):
            return self.oracle.predict([k for _, k in first], [k for _, k in second], both)

    def padding(self, height: int, width: int) -> Padding:
        """Return the padding of the network."""
        return self.network.padding(height, width)

    def batch_size(self) -> int:
        """Return the number of pairs at a time."""
        return self.network.batch_size()


@poses.register("random_mast3r")
class RandomMast3r(Mast3r):
    """Run MASt3R, then use maps of the true scene with the errors of `Oracle`.

    Args:
        model: As in `mast3r`.
    """

    def __call__(self, frames: Frames, trajectory: Trajectory) -> Reconstruction:
        """Estimate poses from true maps with errors."""
        with substitution("reconstruct"):
            cameras, depth = load_truth(frames.images)
            scale = self.size / max(cameras.width, cameras.height)
            sides = [
                self.multiple * max(1, round(side * scale / self.multiple))
                for side in (cameras.width, cameras.height)
            ]
            cameras = cameras.resized(*sides)
            depth = interpolate(depth[:, None], (sides[1], sides[0]), mode="nearest-exact")[:, 0]
            oracle = Oracle(
                cameras.to(self.device),
                depth.to(self.device),
                has_descriptors=self.network.has_descriptors,
            )
        network = self.network
        self.network = TrueMaps(network, oracle)  # pyright: ignore[reportAttributeAccessIssue]
        try:
            return super().__call__(frames, trajectory)
        finally:
            self.network = network


def make_weights(folder: Path, device: torch.device) -> None:
    """Write folders with random weights: motionctrl, mast3r and depth_anything.

    Args:
        folder: Where to write. Folders that exist are kept.
        device: Device that draws the weights.
    """
    torch.manual_seed(0)
    for name, make in {
        "motionctrl": _make_motionctrl,
        "mast3r": _make_mast3r,
        "depth_anything": _make_depth_anything,
    }.items():
        if not (folder / name).exists():
            draft = folder / f"{name}.draft"
            draft.mkdir(parents=True, exist_ok=True)
            make(draft, device)
            draft.rename(folder / name)


def _make_motionctrl(folder: Path, device: torch.device) -> None:
    """Write Stable Video Diffusion's folder and MotionCtrl's checkpoint, in half precision."""
    from priors import random_pipeline

    from lift.priors.diffusion.motionctrl_network import CameraUNet, checkpoint_names

    random_pipeline(device).save_pretrained(folder)
    with torch.device("meta"):
        unet = CameraUNet.from_config(CameraUNet.load_config(folder, subfolder="unet"))
    state = unet.state_dict()
    drawn = {}
    for name, published in checkpoint_names(unet).items():
        shape = state[name].shape
        if len(shape) > 1:
            value = torch.randn(shape, device=device) / math.prod(shape[1:]) ** 0.5
        else:
            value = torch.full(shape, float("norm" in name and name.endswith("weight")))
        drawn[published] = value.half().cpu()
    torch.save({"state_dict": drawn}, folder / "motionctrl_svd.ckpt")


def _make_mast3r(folder: Path, device: torch.device) -> None:
    """Write MASt3R's folder: config.json and model.safetensors, in single precision."""
    from pair_network import FULL_SIZE
    from safetensors.torch import save_file

    from lift.poses.mast3r import create_network

    with device:
        network = create_network(FULL_SIZE)
    state = {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}
    save_file(state, folder / "model.safetensors")
    settings = {
        key: [str(v) if isinstance(v, float) and math.isinf(v) else v for v in value]
        if isinstance(value, tuple)
        else value
        for key, value in FULL_SIZE.items()
    }
    (folder / "config.json").write_text(json.dumps(settings), encoding="utf-8")


def _make_depth_anything(folder: Path, device: torch.device) -> None:
    """Write the folder of Depth Anything V2 Large."""
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config

    backbone = Dinov2Config(
        hidden_size=1024,
        num_hidden_layers=24,
        num_attention_heads=16,
        image_size=518,
        patch_size=14,
        out_indices=[5, 12, 18, 24],
        apply_layernorm=True,
        reshape_hidden_states=False,
    )
    config = DepthAnythingConfig(
        backbone_config=backbone,
        reassemble_hidden_size=1024,
        neck_hidden_sizes=[256, 512, 1024, 1024],
        fusion_hidden_size=256,
    )
    with device:
        network = DepthAnythingForDepthEstimation(config)
    network.cpu().save_pretrained(folder)
