"""A finished run: its scene, its frames, and what can be done with them."""

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from omegaconf import OmegaConf
from safetensors.torch import load_file
from torch import Tensor

from lift.api.cameras import CamerasLike, as_cameras
from lift.api.films import registered_frames, save_film, training_frames
from lift.api.rendering import check_frame, render_view
from lift.config.files import load_config
from lift.distortions import Distortion, distortions
from lift.distortions.parameters.neighbours import infer_held_out
from lift.io.cameras import read_cameras
from lift.io.image import read_image
from lift.io.splats import read_splats
from lift.outputs.delivery import FLY_THROUGH, VIEW_REGION
from lift.outputs.films import FilmSource
from lift.outputs.storage import FRAMES, VIEWS, RunFiles, read_frames, read_views
from lift.outputs.verdict import Verdict
from lift.outputs.view_region import ViewRegion, covered_region
from lift.renderers import Renderer, renderers
from lift.runtime import kept_files
from lift.stages.fit import distortion_inputs
from lift.stages.views import Views
from lift.types import Cameras, Frames, Gaussians, Render, Trajectory


class Scene:
    """A finished run.

    `lift.run` and `lift.load` return it. All tensors are on the CPU. Lengths are in scene units.

    Args:
        folder: Folder of the run.
        renderer: Name of the renderer for `render`. None: that of the run.
    """

    def __init__(self, folder: Path, renderer: str | None = None) -> None:
        self.folder = folder
        """Folder of the run."""
        self.files = RunFiles(folder)
        """Reader of the run's files, each checked and all of one result."""
        self._renderer_name = renderer

    def __repr__(self) -> str:
        """Return the folder, the verdict and the most important numbers."""
        from lift.api.display import describe_scene

        return describe_scene(self.folder, self.metrics, self.cameras)

    @cached_property
    def keep(self) -> str:
        """What the run keeps, its setting `deliver.keep`: full, scene or minimal."""
        return kept_files.delivered_kind(self.folder)

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """Content of metrics.json: `verdict`, `reasons`, PSNR in dB, coverage and more."""
        return self.files.read_json("metrics.json")

    @property
    def verdict(self) -> Verdict:
        """Assessment of the scene: good, fair or poor, with reasons."""
        return Verdict.from_metrics(self.metrics)

    @cached_property
    def settings(self) -> dict[str, Any]:
        """All settings of the run, nested. `lift.run(**scene.settings)` repeats the run."""
        config = self.files.read("config.yaml", load_config)
        settings = OmegaConf.to_container(config, resolve=True)
        assert isinstance(settings, dict)
        return {str(key): value for key, value in settings.items()}

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """Content of provenance.json: versions, components, licences, stages and notes."""
        return self.files.read_json("provenance.json")

    @cached_property
    def gaussians(self) -> Gaussians:
        """The canonical scene, without distortion. With `deliver.keep=minimal` it is lossy."""
        return self.files.read(kept_files.scene_file(self.folder, self.keep), read_splats)

    @cached_property
    def cameras(self) -> Cameras:
        """Where the frames show the scene from, the input first.

        These are the estimated cameras with the corrections that the distortion learned.
        """
        return self.files.read("transforms.json", read_cameras)

    @property
    def estimated_cameras(self) -> Cameras:
        """The frames' cameras as the pose estimator found them, without learned corrections."""
        return self.views.reconstruction.cameras

    @cached_property
    def fly_through(self) -> Cameras:
        """The cameras of the fly-through, which video.mp4 shows by default."""
        return self.files.read(FLY_THROUGH, read_cameras)

    @cached_property
    def frames(self) -> Frames:
        """The frames that the scene was fitted to, the input first, without depth.

        Raises:
            FileNotFoundError: The run was told not to keep them. Depth, trajectory and distortion
                need them, too.
        """
        self.require(FRAMES, "pictures of the frames")
        return self.files.read(FRAMES, lambda path: read_frames(path.parent))

    @cached_property
    def input_image(self) -> UInt8[Tensor, "height width 3"]:
        """The input picture at the size of the frames. With `deliver.keep=minimal` it is a JPEG."""
        return self.files.read(kept_files.INPUT_PICTURES[self.keep], read_image)

    @property
    def depth(self) -> Float[Tensor, "frame height width"]:
        """z-depth of each frame, 0 where unknown. Its precision is three digits."""
        return self.views.reconstruction.depth

    @property
    def trajectory(self) -> Trajectory:
        """The clips of the frames with their planned cameras."""
        return self.views.trajectory

    @cached_property
    def view_region(self) -> ViewRegion:
        """Limits of a camera about the subject within which views show what frames observed."""
        if (self.folder / VIEW_REGION).is_file():
            return ViewRegion.from_dict(self.files.read_json(VIEW_REGION))
        source = self._film_source(None)
        return covered_region(
            source.renderer, source.gaussians, source.frames, source.typical_depth
        )

    @property
    def held_out(self) -> tuple[int, ...]:
        """Indices of the frames that were held out of the fit."""
        return tuple(self.files.read_json("split.json")["held_out"])

    @cached_property
    def views(self) -> Views:
        """The frames with their estimated cameras, depth and points, as the fit takes them."""
        self.require(VIEWS, "depth, distortions and more steps of the fit")
        frames = self.frames
        return self.files.read(VIEWS, lambda path: read_views(path.parent, frames)[1])

    @cached_property
    def distortion(self) -> Distortion:
        """The distortion of each frame that the fit learned.

        Raises:
            ComponentError: The component is not registered in this process.
            FileNotFoundError: The run was told not to keep it.
        """
        self.require("distortion.safetensors", "distortions of frames")
        built = distortions.build(
            self.settings["distortion"],
            device=torch.device("cpu"),
            image=str(self.settings["image"]),
            **distortion_inputs(self.views),
        )
        built.load_state_dict(self.files.read("distortion.safetensors", load_file))
        return built.eval().requires_grad_(False)

    @cached_property
    def renderer(self) -> Renderer:
        """The renderer of `render`, on a CUDA device if there is one."""
        name = self._renderer_name
        settings = self.settings["renderer"] if name is None else {"name": name}
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return renderers.build(settings, device=device)

    def render(
        self,
        cameras: CamerasLike | None = None,
        size: int | None = None,
        distortion_of: int | None = None,
    ) -> Render:
        """Render the scene over black.

        With the distortion of a frame, the Gaussians are deformed and the picture is changed as in
        that frame. Cameras are used as they are, because `cameras` has the corrections of cameras
        already. So `scene.render(scene.cameras[3], distortion_of=3)` is what the fit compared with
        frame 3.

        Args:
            cameras: Views in the scene's world, or their file. None: those of the fly-through.
            size: Longer side of the pictures in pixels, at least 16. None: that of the cameras.
            distortion_of: Index of a frame. None renders the canonical scene. That of a held-out
                frame is inferred from its neighbours.

        Returns:
            `rgb` in [0, 1] [view height width 3], `alpha` and z-depth `depth` [view height width].

        Raises:
            FileNotFoundError: The file of the cameras does not exist.
            ValueError: A value is out of range.
        """
        views = as_cameras(self.fly_through if cameras is None else cameras, size)
        check_frame(distortion_of, len(self.cameras))
        renders = [self._render(views[view], distortion_of) for view in range(len(views))]
        return Render(
            torch.cat([render.rgb for render in renders]),
            torch.cat([render.alpha for render in renders]),
            torch.cat([render.depth for render in renders]),
        )

    def save_film(
        self,
        path: str | os.PathLike[str],
        preset: str = "fly-through",
        *,
        cameras: CamerasLike | None = None,
        distortion_of: int | None = None,
        **options: Any,
    ) -> Path:
        """Render a film that stays where frames observed the scene, as a closed loop.

        Args:
            path: A name that ends with .mp4, .webm, .gif or .webp, or a folder for PNG files.
            preset: fly-through, orbit, swing, spiral, dolly, zoom or dolly-zoom.
            cameras: A path instead of the preset, as for `render`. One frame for each view.
            distortion_of: As for `render`.
            **options: Other fields of `lift.outputs.films.FilmOptions`, such as `aspect`,
                `seconds`, `fps` and `size` (the shorter side in pixels, as in 1080p).

        Returns:
            `path`.

        Raises:
            ValueError: A value is out of range, or the path cannot be a film.
        """
        path = Path(path)
        views = None if cameras is None else as_cameras(cameras)
        check_frame(distortion_of, len(self.cameras))
        return save_film(self._film_source(distortion_of), path, preset, views, options)

    def export(self, path: str | os.PathLike[str]) -> Path:
        """Write the scene to a file, and its cameras beside it. Read it back and compare.

        Args:
            path: The file. Its ending chooses the format: .ply, .compressed.ply, .splat, .ksplat,
                .spz (version 3), .v4.spz, .sog, .glb, or .html for a share page.

        Returns:
            `path`.

        Raises:
            ValueError: The ending is another one, or the format cannot hold the scene.
        """
        from lift.api.exporting import export_scene

        return export_scene(self, Path(path)).path

    def render_gaussians(self, gaussians: Gaussians, camera: Cameras) -> Render:
        """Render other Gaussians in this scene's world over black.

        Args:
            gaussians: The Gaussians.
            camera: One view.

        Returns:
            The picture on the CPU.
        """
        return render_view(self.renderer, gaussians.to(self.renderer.device), camera)

    def fit(self, more_steps: int, name: str | None = None, **settings: Any) -> "Scene":
        """Continue the fit, and deliver the result as a run of its own beside this one.

        The fit goes on from its checkpoint, with the state of the optimiser. Learning rates,
        densification, coarse to fine and distortions follow the fraction of all steps. So they go
        on where a fit of all these steps would be: 100 steps after 100 begin in its middle. A call
        that was interrupted continues when it is repeated, and a finished one is found again. The
        fit uses one device.

        Args:
            more_steps: Number of steps to add, at least 1.
            name: Name of the new run's folder. None: that of this run and the number of all steps.
            **settings: Settings to change, as in `lift.run`: of `device`, `renderer`, `trainer`,
                `logger`, `callbacks`, `export`, and of `fit` those that a fit can change midway.

        Returns:
            The new scene. This one stays as it is.

        Raises:
            FileNotFoundError: The run has no checkpoint, or no views.
            ValueError: A setting cannot be changed, or a folder of the name has another scene.
        """
        from lift.api.continuation import continue_scene

        return Scene(continue_scene(self, more_steps, name, settings), self._renderer_name)

    def show(self, port: int = 8080) -> None:
        """Show the scene: the fly-through in a notebook, else the viewer in a browser.

        The viewer runs until Ctrl-C.

        Args:
            port: Port of the viewer. 0 uses any free one.

        Raises:
            ImportError: There is no notebook, and the viewer is not installed.
        """
        from lift.api.display import show_scene

        show_scene(self.folder, lambda: self.view(port))

    def view(
        self, port: int = 8080, allowed_hosts: Sequence[str] = (), host: str = "127.0.0.1"
    ) -> None:
        """Serve the scene to a browser until Ctrl-C.

        Args:
            port: Port of the server. 0 uses any free one.
            allowed_hosts: Names by which the viewer may be reached besides those of this machine,
                such as that of a proxy.
            host: Address of the server. One that others reach needs the token of the printed URL.

        Raises:
            ImportError: viser is not installed.
            ValueError: A value cannot be used, such as a port that is in use.
        """
        from lift.outputs.viewer import run_content, serve

        serve(run_content(self), port, host, allowed_hosts)

    def require(self, name: str, purpose: str) -> Path:
        """Return a file of the run that `load` does not insist on.

        Args:
            name: Name of the file or folder.
            purpose: What needs it, in the plural, for the message.

        Raises:
            FileNotFoundError: It is not there.
            ValueError: It is damaged.
        """
        path = self.folder / name
        if not path.exists():
            raise FileNotFoundError(kept_files.describe_missing(self.folder, name, purpose))
        self.verify(name)
        return path

    def verify(self, *names: str) -> None:
        """Compare files with the checksums of the run, once.

        Args:
            *names: Names of files or folders of the run. One that is missing is ignored.

        Raises:
            ValueError: A file is damaged. The message names it.
        """
        for name in names:
            if os.path.lexists(self.folder / name):
                self.files.verify(name)

    @cached_property
    def _device_gaussians(self) -> Gaussians:
        return self.gaussians.to(self.renderer.device)

    @cached_property
    def _inferred_distortion(self) -> Distortion:
        """The distortion on the renderer's device, with that of held-out frames inferred."""
        inferred = infer_held_out(self.distortion, self.trajectory, set(self.held_out))
        return inferred.to(self.renderer.device)

    def _film_source(self, distortion_of: int | None) -> FilmSource:
        """Collect what films are made of."""
        registered = registered_frames(self)
        return FilmSource(
            self.renderer,
            self._device_gaussians,
            self.cameras[training_frames(len(self.cameras), self.held_out, registered)],
            self.fly_through,
            render=lambda gaussians, camera: self._render(camera, distortion_of, gaussians),
        )

    def _render(
        self, camera: Cameras, frame: int | None, gaussians: Gaussians | None = None
    ) -> Render:
        """Render one view, with the distortion of a frame if it is given, to the CPU."""
        gaussians = self._device_gaussians if gaussians is None else gaussians
        distortion = None if frame is None else self._inferred_distortion
        return render_view(self.renderer, gaussians, camera, distortion, frame)
