"""Make a film of a scene: plan its cameras, render its pictures and write them."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from rich.console import Console
from rich.progress import track

from lift.geometry import project
from lift.io.film_writer import check_film_path, check_film_size, write_film_file
from lift.outputs.coverage import Coverage
from lift.outputs.films.options import FilmOptions
from lift.outputs.films.plan import FilmPlan, frame_of, plan_film
from lift.outputs.films.rendering import RenderFunction, film_frames
from lift.outputs.view_region import CoverageMeasure
from lift.renderers import Renderer
from lift.types import Cameras, Gaussians


@dataclass(frozen=True)
class FilmSource:
    """The scene that films are made of."""

    renderer: Renderer
    """Renders the scene's depth, to measure coverage."""
    gaussians: Gaussians
    """The canonical scene, on the renderer's device."""
    frames: Cameras
    """Cameras of the training frames, the input first."""
    fly_through: Cameras
    """Cameras of the fly-through."""
    coverage: CoverageMeasure | None = None
    """Measures coverage. None: made when a motion is planned."""
    render: RenderFunction | None = None
    """Renders one view for the film, such as with a distortion. None: the renderer."""

    @cached_property
    def measure(self) -> CoverageMeasure:
        """Measure of coverage."""
        return self.coverage or Coverage(self.renderer, self.gaussians, self.frames)

    @property
    def typical_depth(self) -> float:
        """Median depth of the Gaussians in front of the input camera, in scene units."""
        _, depth = project(self.gaussians.means.cpu(), self.frames[:1].to("cpu"))
        in_front = depth[depth > 0]
        return float(in_front.median()) if len(in_front) else 1.0

    def plan(self, options: FilmOptions) -> FilmPlan:
        """Plan the cameras of a preset.

        Args:
            options: Preset, aspect, duration and size.
        """
        return plan_film(
            options, self.frames[:1], self.fly_through, self.measure, self.typical_depth
        )

    def frame_path(self, options: FilmOptions, cameras: Cameras) -> FilmPlan:
        """Cut the views of a path to the aspect and size. Their motion stays.

        Args:
            options: Aspect and size. The others have no effect.
            cameras: The path.
        """
        measure = self.measure if options.aspect != "input" else None
        return FilmPlan(frame_of(options, cameras[:1], measure).cut(cameras))

    def pictures(self, plan: FilmPlan, kind: str) -> Iterator[UInt8[np.ndarray, "height width 3"]]:
        """Render the pictures one after the other, with a progress bar on a terminal.

        Args:
            plan: The cameras.
            kind: color, depth or normal.
        """
        device = self.renderer.device
        render = self.render or (lambda scene, camera: self.renderer(scene, camera.to(device)))
        frames = film_frames(render, self.gaussians, plan.cameras, self.frames, kind)
        console = Console(stderr=True)
        yield from track(
            frames,
            "rendering",
            len(plan.cameras),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )


def write_film(
    path: Path,
    source: FilmSource,
    options: FilmOptions,
    cameras: Cameras | None = None,
) -> FilmPlan:
    """Make a film. An interrupted one leaves no file.

    Args:
        path: A name that ends with .mp4, .webm, .gif or .webp, or a folder for PNG files.
        source: The scene.
        options: What the film shows.
        cameras: A path instead of the preset.

    Returns:
        The plan of the film.

    Raises:
        ValueError: `path` has another suffix, cannot be written, or is a folder with other files.
            Or it is a WebP film whose pictures are too large or do not fit into memory.
        VideoToolError: ffmpeg is missing or fails.
        OSError: The output cannot be written.
    """
    check_film_path(path, options.fps)
    plan = source.plan(options) if cameras is None else source.frame_path(options, cameras)
    size = (plan.cameras.width, plan.cameras.height)
    check_film_size(path, size, len(plan.cameras))
    shown = asdict(options)
    if cameras is not None:  # a path has no preset
        shown = {name: shown[name] for name in ("aspect", "fps", "size", "kind")}
    write_film_file(path, source.pictures(plan, options.kind), size, options.fps, shown)
    return plan
