"""A finished run: its scene, its frames, and what can be done with them."""

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from omegaconf import OmegaConf
from rich.console import Console
from rich.progress import track
from safetensors.torch import load_file
from torch import Tensor

from lift.config.files import load_config
from lift.distortions import Distortion, distortions
from lift.distortions.parameters.neighbours import infer_held_out
from lift.io.cameras import read_cameras
from lift.io.splats import export as export_gaussians
from lift.io.splats import read_ply
from lift.outputs.delivery import FLY_THROUGH, to_bytes, write_pictures
from lift.outputs.storage import FRAMES, VIEWS, RunFiles, read_frames, read_views
from lift.outputs.verdict import Verdict
from lift.renderers import Renderer, renderers
from lift.stages.fit import distortion_inputs
from lift.stages.views import Views
from lift.types import Cameras, Frames, Gaussians, Render, Trajectory

CamerasLike: TypeAlias = Cameras | str | os.PathLike[str]
"""Cameras, or the file or folder that `lift.io.cameras.read_cameras` reads."""

MIN_SIZE = 16
"""Smallest longer side of a render in pixels."""


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
        numbers = [f"{name} {_decibels(self.metrics[key])}" for name, key in _NUMBERS.items()]
        cameras = self.cameras
        return (
            f"<lift.Scene {str(self.folder)!r}: {self.metrics['verdict']}, "
            f"{self.metrics['gaussians']:,} Gaussians, {len(cameras)} frames of "
            f"{cameras.width} x {cameras.height} pixels, PSNR of {', '.join(numbers)}>"
        )

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """Content of metrics.json: `verdict`, `reasons`, PSNR in dB, coverage and more."""
        return self.files.read_json("metrics.json")

    @property
    def verdict(self) -> Verdict:
        """Assessment of the scene: good, fair or poor, with reasons."""
        return Verdict(self.metrics["verdict"], tuple(self.metrics["reasons"]))

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
        """The canonical scene, without distortion."""
        return self.files.read("gaussians.ply", read_ply)

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
        """The cameras of video.mp4."""
        return self.files.read(FLY_THROUGH, read_cameras)

    @cached_property
    def frames(self) -> Frames:
        """The frames that the scene was fitted to, the input first, without depth."""
        return self.files.read(FRAMES, lambda path: read_frames(path.parent))

    @property
    def depth(self) -> Float[Tensor, "frame height width"]:
        """z-depth of each frame, 0 where unknown. Its precision is three digits."""
        return self.views.reconstruction.depth

    @property
    def trajectory(self) -> Trajectory:
        """The clips of the frames with their planned cameras."""
        return self.views.trajectory

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
        """
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
        views = self._cameras(cameras, size)
        self._check_frame(distortion_of)
        renders = [self._render(views[view], distortion_of) for view in range(len(views))]
        return Render(
            torch.cat([render.rgb for render in renders]),
            torch.cat([render.alpha for render in renders]),
            torch.cat([render.depth for render in renders]),
        )

    def save_renders(
        self,
        path: str | os.PathLike[str],
        cameras: CamerasLike | None = None,
        size: int | None = None,
        distortion_of: int | None = None,
        fps: int = 24,
    ) -> Path:
        """Render the scene to a video or to PNG files, one view after the other.

        Args:
            path: A file name that ends with .mp4, or a folder for PNG files.
            cameras: As for `render`.
            size: As for `render`.
            distortion_of: As for `render`.
            fps: Frames per second of a video.

        Returns:
            `path`.

        Raises:
            ValueError: `path` has another suffix or is a file, or another value is out of range.
        """
        path = Path(path)
        if path.suffix not in ("", ".mp4"):
            raise ValueError(
                f"the output is {str(path)!r}; choose a name that ends with .mp4, or a folder "
                "without a suffix"
            )
        if path.is_file() and not path.suffix:
            raise ValueError(
                f"the output is {str(path)!r}, a file; choose a folder, or a name that ends with "
                ".mp4"
            )
        views = self._cameras(cameras, size)
        self._check_frame(distortion_of)
        numbers = track(
            range(len(views)), "rendering", console=Console(stderr=True), transient=True
        )
        pictures = [to_bytes(self._render(views[view], distortion_of).rgb[0]) for view in numbers]
        write_pictures(path, torch.stack(pictures), fps)
        return path

    def export(self, path: str | os.PathLike[str]) -> Path:
        """Write the Gaussians to a file, read it back and compare.

        Args:
            path: The file. Its suffix chooses the format: .ply, .splat or .spz.

        Returns:
            `path`.

        Raises:
            ValueError: The suffix is another one, or the format cannot hold the scene.
        """
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        export_gaussians(self.gaussians, path)
        return path

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

        show_scene(self.folder, port)

    def view(self, port: int = 8080, allowed_hosts: Sequence[str] = ()) -> None:
        """Serve the scene to a browser on this machine until Ctrl-C.

        Args:
            port: Port of the server. 0 uses any free one.
            allowed_hosts: Names by which the viewer may be reached besides those of this machine,
                such as that of a proxy.

        Raises:
            ImportError: viser is not installed.
            ValueError: The port is in use.
        """
        from lift.outputs.viewer import serve

        self.verify("gaussians.ply", "transforms.json")
        serve(self.folder / "gaussians.ply", port, allowed_hosts)

    def require(self, name: str, purpose: str) -> Path:
        """Return a file of the run that `load` does not insist on.

        Args:
            name: Name of the file or folder.
            purpose: What needs it, for the message.

        Raises:
            FileNotFoundError: It is not there.
            ValueError: It is damaged.
        """
        path = self.folder / name
        if not path.exists():
            raise FileNotFoundError(
                f"{self.folder} has no {name}, which {purpose} need; run it again, its stages are "
                "found in the cache"
            )
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

    def _cameras(self, cameras: CamerasLike | None, size: int | None) -> Cameras:
        """Return the cameras to render, for pictures of the size."""
        if cameras is None:
            cameras = self.fly_through
        elif not isinstance(cameras, Cameras):
            cameras = read_cameras(Path(cameras))
        if size is None:
            return cameras
        if size < MIN_SIZE:
            raise ValueError(f"size is {size}; choose at least {MIN_SIZE} pixels")
        factor = size / max(cameras.width, cameras.height)
        return cameras.resized(round(cameras.width * factor), round(cameras.height * factor))

    def _check_frame(self, frame: int | None) -> None:
        """Raise ValueError if `distortion_of` is no index of a frame."""
        count = len(self.cameras)
        if frame is not None and not 0 <= frame < count:
            raise ValueError(
                f"distortion_of is {frame}; the run has {count} frames, 0 to {count - 1}"
            )

    @cached_property
    def _device_gaussians(self) -> Gaussians:
        return self.gaussians.to(self.renderer.device)

    @cached_property
    def _inferred_distortion(self) -> Distortion:
        """The distortion on the renderer's device, with that of held-out frames inferred."""
        inferred = infer_held_out(self.distortion, self.trajectory, set(self.held_out))
        return inferred.to(self.renderer.device)

    @torch.no_grad()
    def _render(self, camera: Cameras, frame: int | None) -> Render:
        """Render one view, with the distortion of a frame if it is given, to the CPU."""
        renderer = self.renderer
        gaussians = self._device_gaussians
        camera = camera.to(renderer.device)
        if frame is None:
            render = renderer(gaussians, camera)
        else:
            view = torch.tensor([frame], device=renderer.device)
            distortion = self._inferred_distortion
            render = renderer(distortion.gaussians(gaussians, view), camera)
            render = distortion.image(render, view)
        return Render(render.rgb.cpu(), render.alpha.cpu(), render.depth.cpu())


_NUMBERS = {"the input": "input_psnr", "held-out frames": "held_out_psnr"}
"""Description of a number -> its key in metrics.json."""


def _decibels(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.1f} dB"
