"""COLMAP's feature extraction, matching and mapping, through pycolmap."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lift.geometry import rigid
from lift.io.image import save_image
from lift.types import Frames, Trajectory

MIN_TRIANGULATION_ANGLE = 0.5
"""Smallest angle in degrees between the rays of a point; generated motions are small."""
MIN_INITIAL_ANGLE = 4.0
"""Smallest angle in degrees between the rays of the initial pair's points."""
PLAN_TOLERANCES = (8.0, 1.0)
"""Factors on the allowed errors, one per round of triangulating with planned cameras."""


@dataclass(frozen=True)
class ColmapModel:
    """What COLMAP reconstructed, in a world of arbitrary pose and scale."""

    poses: dict[int, Float[Tensor, "4 4"]]
    """`world_to_camera` of each registered frame."""
    points: Float[Tensor, "point 3"]
    """Points in the world."""
    observations: dict[int, tuple[Float[Tensor, "observation 2"], list[int]]]
    """Pixels and point indices of each registered frame."""
    focals: dict[int, float] = field(default_factory=dict)
    """Focal length in pixels of each registered frame."""


class ColmapRunner:
    """Runs COLMAP on the frames of a trajectory.

    Args:
        folder: Empty folder for the database and the images.
        mappings: Mappings to try, one after another.
        shared_focal: Whether to estimate one focal length for all frames; else it is fixed.
        max_features: Largest number of SIFT features per frame.
        min_registered: Smallest fraction of frames that must be registered.
    """

    def __init__(
        self,
        folder: Path,
        mappings: Sequence[str],
        shared_focal: bool,
        max_features: int,
        min_registered: float,
    ) -> None:
        self.database = folder / "database.db"
        self.images = folder / "frames"
        self.folder = folder
        self.mappings = mappings
        self.shared_focal = shared_focal
        self.max_features = max_features
        self.min_registered = min_registered

    def run(
        self, frames: Frames, trajectory: Trajectory, pairs: Sequence[Sequence[int]]
    ) -> ColmapModel:
        """Reconstruct the frames.

        Args:
            frames: The frames, the input first.
            trajectory: The plan.
            pairs: Frame indices of the pairs to match.

        Returns:
            The largest model; models with the input are preferred.
        """
        import pycolmap

        pycolmap.set_random_seed(0)
        names = [f"{view:06d}.png" for view in range(len(frames))]
        self._extract(names, frames, trajectory)
        self._match([f"{names[a]} {names[b]}" for a, b in pairs])
        planned = dict(zip(names, trajectory.cameras.world_to_camera, strict=True))
        best = ColmapModel({}, torch.zeros(0, 3), {})
        for mapping in self.mappings:
            (self.folder / mapping).mkdir()
            model = self._largest_model(self._map(mapping, planned), names)
            if model is not None:
                best = max(best, model, key=lambda m: (0 in m.poses, len(m.poses)))
            if 0 in best.poses and len(best.poses) >= max(2, self.min_registered * len(names)):
                return best
            logging.getLogger(__name__).warning(
                "COLMAP's %s mapping registered %d of %d frames",
                mapping,
                len(model.poses) if model is not None else 0,
                len(names),
            )
        return best

    def _extract(self, names: list[str], frames: Frames, trajectory: Trajectory) -> None:
        """Save the frames and extract their features."""
        import pycolmap

        self.images.mkdir()
        for name, image in zip(names, frames.images, strict=True):
            save_image(self.images / name, image)
        extraction = pycolmap.FeatureExtractionOptions()
        extraction.use_gpu = False
        extraction.sift.max_num_features = self.max_features
        reader = pycolmap.ImageReaderOptions()
        reader.camera_model = "PINHOLE"
        modes = pycolmap.CameraMode
        mode = modes.SINGLE if self.shared_focal else modes.PER_IMAGE
        pycolmap.extract_features(self.database, self.images, names, mode, reader, extraction)
        intrinsics = dict(zip(names, trajectory.cameras.intrinsics, strict=True))
        _set_intrinsics(self.database, intrinsics)

    def _match(self, lines: list[str]) -> None:
        """Match and verify pairs of images; a line has two names."""
        import pycolmap

        matching = pycolmap.FeatureMatchingOptions()
        matching.use_gpu = False
        verification = pycolmap.TwoViewGeometryOptions()
        verification.ransac.random_seed = 0
        # Frames of a camera that stands still have no motion, but they are no overlays.
        verification.detect_watermark = False
        pairs = self.folder / "pairs.txt"
        pairs.write_text("\n".join(lines) + "\n", encoding="utf-8")
        pairing = pycolmap.ImportedPairingOptions()
        pairing.match_list_path = str(pairs)
        pycolmap.match_image_pairs(self.database, matching, pairing, verification)

    def _map(self, mapping: str, planned: dict[str, Float[Tensor, "4 4"]]) -> list[Any]:
        """Run one mapping; return COLMAP's models."""
        import pycolmap

        paths = (self.database, self.images, self.folder / mapping)
        if mapping == "global":
            global_options = pycolmap.GlobalPipelineOptions()
            global_options.random_seed = 0
            adjustment = global_options.mapper.bundle_adjustment
            adjustment.refine_focal_length = self.shared_focal
            adjustment.refine_extra_params = False
            return list(pycolmap.global_mapping(*paths, global_options).values())
        options = self._incremental_options()
        if mapping == "planned":
            return self._map_planned(planned, options)
        return list(pycolmap.incremental_mapping(*paths, options).values())

    def _incremental_options(self) -> Any:
        """Return options for small motions."""
        import pycolmap

        options = pycolmap.IncrementalPipelineOptions()
        options.random_seed = 0
        options.mapper.random_seed = 0
        options.triangulation.random_seed = 0
        options.ba_refine_focal_length = self.shared_focal
        options.ba_refine_extra_params = False
        options.mapper.abs_pose_refine_focal_length = False
        options.mapper.abs_pose_refine_extra_params = False
        options.extract_colors = False
        options.min_model_size = 2
        options.mapper.init_min_tri_angle = MIN_INITIAL_ANGLE
        options.mapper.filter_min_tri_angle = MIN_TRIANGULATION_ANGLE
        options.triangulation.min_angle = MIN_TRIANGULATION_ANGLE
        return options

    def _map_planned(self, planned: dict[str, Float[Tensor, "4 4"]], options: Any) -> list[Any]:
        """Triangulate points with the planned cameras and adjust everything, twice."""
        import pycolmap

        model = _planned_model(self.database, planned)
        # The plan may be wrong. Better cameras then give more and better points.
        for tolerance in PLAN_TOLERANCES:
            options.triangulation.create_max_angle_error = 2.0 * tolerance
            options.triangulation.continue_max_angle_error = 2.0 * tolerance
            options.triangulation.merge_max_reproj_error = 4.0 * tolerance
            options.triangulation.complete_max_reproj_error = 4.0 * tolerance
            options.mapper.filter_max_reproj_error = 4.0 * tolerance
            model = pycolmap.triangulate_points(
                model, self.database, self.images, self.folder / "planned", options=options
            )
            if not model.num_points3D():
                return []
            adjustment = pycolmap.BundleAdjustmentOptions()
            adjustment.refine_focal_length = self.shared_focal
            adjustment.refine_extra_params = False
            adjustment.print_summary = False
            pycolmap.bundle_adjustment(model, adjustment)
        return [model]

    @staticmethod
    def _largest_model(models: list[Any], names: list[str]) -> ColmapModel | None:
        """Return the largest model, preferably with the input; None if there is none."""
        if not models:
            return None
        with_input = [
            model
            for model in models
            if any(i.name == names[0] and i.has_pose for i in model.images.values())
        ]
        largest = max(with_input or models, key=lambda model: model.num_reg_images())
        return _convert_model(largest, names)


def _planned_model(database: Path, planned: dict[str, Float[Tensor, "4 4"]]) -> Any:
    """Create a model with the planned cameras and no points."""
    import pycolmap

    model = pycolmap.Reconstruction()
    with pycolmap.Database.open(str(database)) as opened:
        for camera in opened.read_all_cameras():
            model.add_camera_with_trivial_rig(camera)
        for image in opened.read_all_images():
            pose = planned[image.name].double().cpu().numpy()
            model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(pose[:3]))
    return model


def _set_intrinsics(database: Path, intrinsics: dict[str, Float[Tensor, "3 3"]]) -> None:
    """Set the intrinsics of all images and mark their focal lengths as measured."""
    import pycolmap

    with pycolmap.Database.open(str(database)) as opened:
        for image in opened.read_all_images():
            matrix = intrinsics[image.name]
            camera = opened.read_camera(image.camera_id)
            camera.params = np.array(  # pyright: ignore[reportAttributeAccessIssue]
                [matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2]], dtype=np.float64
            )
            camera.has_prior_focal_length = True
            opened.update_camera(camera)


def _convert_model(model: Any, names: list[str]) -> ColmapModel:
    """Convert COLMAP's model to tensors."""
    numbers = {number: index for index, number in enumerate(sorted(model.points3D))}
    points = torch.from_numpy(
        np.array([model.points3D[number].xyz for number in numbers]).reshape(-1, 3)
    )
    poses = {}
    observations = {}
    focals = {}
    for image in model.images.values():
        if image.has_pose:
            view = names.index(image.name)
            pose = torch.from_numpy(image.cam_from_world().matrix().copy())
            poses[view] = rigid(pose[:, :3], pose[:, 3])
            focals[view] = float(image.camera.params[0])
            tracked = [
                point
                for point in image.points2D
                if point.has_point3D() and point.point3D_id in numbers
            ]
            pixels = torch.from_numpy(np.array([point.xy for point in tracked]).reshape(-1, 2))
            observations[view] = (pixels, [numbers[point.point3D_id] for point in tracked])
    return ColmapModel(poses, points, observations, focals)


@contextmanager
def quiet_colmap() -> Iterator[None]:
    """Silence COLMAP's log of every step on standard error."""
    import pycolmap

    level = pycolmap.logging.minloglevel
    pycolmap.logging.minloglevel = pycolmap.logging.FATAL.value
    try:
        yield
    finally:
        pycolmap.logging.minloglevel = level
