"""The input and the targets of a scene as they are compared."""

import hashlib
import json
import math
from dataclasses import dataclass, replace
from typing import Any

from jaxtyping import Float, UInt8
from torch import Tensor

from lift.evaluation.alignment import check_alignment
from lift.evaluation.datasets import CalibratedCapture
from lift.evaluation.protocol import select_views, sparse_depth, triangulate_depth
from lift.io.sizing import MULTIPLE, ShapeChoice, cropped_size, working_size
from lift.runtime.parallel import parallel_map
from lift.types import Cameras, Depth, Frames


@dataclass(frozen=True)
class Case:
    """A scene's input and targets. Lengths are in the dataset's unit."""

    capture: CalibratedCapture
    """The scene."""
    notes: dict[str, str]
    """Facts that belong into a table."""
    input_view: int
    """Index of the view that is lifted."""
    targets: list[int]
    """Indices of the views that are compared."""
    camera: Cameras
    """Camera of the input, one view."""
    image: UInt8[Tensor, "height width 3"]
    """The input."""
    true_depth: Float[Tensor, "height width"]
    """z-depth of the input, 0 where unknown."""
    dense: bool
    """Whether the depth is measured in every pixel."""
    target_cameras: Cameras
    """Cameras of the targets."""
    truth: Frames
    """The targets."""

    @classmethod
    def load(
        cls,
        capture: CalibratedCapture,
        protocol: Any,
        size: int,
        choose_shape: ShapeChoice | None = None,
    ) -> "Case":
        """Load the pictures of a scene at the size of a run.

        Args:
            capture: The scene.
            protocol: The settings `protocol`.
            size: Largest length of the longer side in pixels. Photographs are not enlarged.
            choose_shape: Chooses the shape that input and targets are cropped to. None: their own.

        Returns:
            The case.

        Raises:
            FileNotFoundError: A file does not exist.
            ValueError: A setting is invalid, or the scene cannot be aligned.
        """
        longer_side = size
        if capture.image is None:
            longer_side = min(size, max(capture.cameras.width, capture.cameras.height))
        input_view, targets = select_views(capture, protocol)
        camera = crop_to_multiple(capture.inner_camera(input_view, longer_side))
        notes = dict(capture.notes)
        shape, note = choose_shape(camera.width, camera.height) if choose_shape else (None, "")
        if shape is not None:
            camera = crop_to_shape(camera, shape)
            notes["cropped input and targets"] = note
        target_cameras = Cameras.cat(
            [crop_to_multiple(capture.inner_camera(view, longer_side), camera) for view in targets]
        )
        image = capture.load_view(input_view, camera)
        pictures = parallel_map(
            lambda k: capture.load_view(targets[k], target_cameras[k]).images, range(len(targets))
        )
        truth = Frames.cat([Frames(images) for images in pictures])
        dense = image.depth is not None
        true_depth = image.depth[0] if image.depth is not None else sparse_depth(capture, camera)
        if not (true_depth > 0).any():
            true_depth = triangulate_depth(camera, image.images[0], target_cameras, truth.images)
            notes["what is known of the input's depth"] = (
                "matches with the targets, triangulated by the true cameras"
            )
        check_alignment(protocol.align, true_depth, capture.scene)
        return cls(
            capture,
            notes,
            input_view,
            targets,
            camera,
            image.images[0],
            true_depth,
            dense,
            target_cameras,
            truth,
        )

    def digest(self, reference: Depth | None) -> str:
        """Hash all pictures, cameras and depths.

        Args:
            reference: Estimated depth of the input, if it is used.

        Returns:
            The SHA-256.
        """
        header = json.dumps([self.input_view, self.targets, self.capture.views])
        digest = hashlib.sha256(header.encode())
        parts = [
            *self.camera.tensors().values(),
            *self.target_cameras.tensors().values(),
            self.image,
            self.true_depth,
            self.truth.images,
        ]
        if reference is not None:
            parts += [reference.depth, reference.valid]
        for part in parts:
            digest.update(part.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()


def crop_to_shape(camera: Cameras, shape: tuple[int, int]) -> Cameras:
    """Crop a camera's picture about its centre to another aspect ratio.

    Args:
        camera: The camera, one view.
        shape: Width and height, of which only the ratio counts.

    Returns:
        The camera with the principal point at the centre. Both sides are multiples of those that a
        run works in.
    """
    columns, rows = cropped_size(camera.width, camera.height, shape)
    width, height, _ = working_size(round(columns), round(rows), round(max(columns, rows)), [])
    return crop_to_multiple(camera, replace(camera, width=width, height=height))


def crop_to_multiple(camera: Cameras, like: Cameras | None = None) -> Cameras:
    """Crop a camera's picture about its centre.

    Args:
        camera: The camera, one view.
        like: Camera with the size of the result. None crops both sides to multiples of those that
            a run works in. A smaller picture is enlarged until it covers the size.

    Returns:
        The camera with the principal point at the centre.
    """
    if like is not None:
        width = like.width
        height = like.height
    else:
        width = camera.width // MULTIPLE * MULTIPLE
        height = camera.height // MULTIPLE * MULTIPLE
    intrinsics = camera.intrinsics.clone()
    if like is not None and (camera.width < width or camera.height < height):
        intrinsics[:, :2] *= max(width / camera.width, height / camera.height)
    intrinsics[:, 0, 2] = width / 2
    intrinsics[:, 1, 2] = height / 2
    return replace(camera, intrinsics=intrinsics, width=width, height=height)


def field_of_view(camera: Cameras) -> float:
    """Compute a camera's field of view.

    Args:
        camera: The camera, one view.

    Returns:
        Degrees along the longer side.
    """
    focal = float(camera.intrinsics[0, 0, 0])
    return math.degrees(2 * math.atan(0.5 * max(camera.width, camera.height) / focal))


def typical_depth(case: Case, lifted: Tensor, scale: float, notes: dict[str, str]) -> float:
    """Compute the median depth of the input in the dataset's unit.

    Args:
        case: The scene.
        lifted: Depth of the lifted scene, used if the dataset has none.
        scale: Factor from the dataset's lengths to the lifted scene's.
        notes: Receives a sentence if the lifted scene's depth is used.

    Returns:
        The median depth.
    """
    if (case.true_depth > 0).any():
        return float(case.true_depth[case.true_depth > 0].median())
    notes["distances and what is visible"] = (
        "by the lifted scene's own depth: the dataset knows none of the input"
    )
    return float(lifted[lifted > 0].median()) / scale
