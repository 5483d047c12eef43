"""Measure time and quality of a fit.

    python benchmarks/fitting.py --frames FOLDER [--name NAME] [--results FOLDER]
        [setting=value ...]

benchmarks/frames.py makes the frames. Settings are those of `lift run`, by default
`experiment=quality`. The time is that of the whole fit stage, from frames and reconstruction in
memory to the canonical scene on disk: initial Gaussians, start of Lightning, all steps,
checkpoints. It does not include compilation and evaluation. After each epoch the canonical scene is
evaluated: mean PSNR over held-out frames, and over true views from cameras of no frame. With
torchrun several processes fit one scene:

    torchrun --standalone --nproc-per-node 2 benchmarks/fitting.py --frames FOLDER trainer.devices=2
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from frames import load_frame_set
from measure import add_results_option, synchronize, write_results
from omegaconf import OmegaConf

from lift.config import compose_run, resolve_fit
from lift.distortions import distortions
from lift.evaluation.metrics import psnr
from lift.renderers import Renderer, renderers
from lift.runtime import distributed
from lift.runtime.session import plain_settings
from lift.training.fit import fit
from lift.training.initial import initial_gaussians
from lift.training.module import SceneModule
from lift.types import Cameras, Gaussians


@torch.no_grad()
def mean_psnr(
    renderer: Renderer, gaussians: Gaussians, cameras: Cameras, images: torch.Tensor
) -> float:
    """Compute the mean PSNR over views in dB."""
    return sum(
        psnr(renderer(gaussians, cameras[view]).rgb[0], images[view].float() / 255)
        for view in range(len(cameras))
    ) / len(cameras)


class EvaluatedModule(SceneModule):
    """A scene module that is evaluated after each epoch. The time of evaluation is not counted."""

    def set_evaluation(
        self, held_out: list[int], true_cameras: Cameras, true_images: torch.Tensor, start: float
    ) -> None:
        """Set what is evaluated.

        Args:
            held_out: Indices of the held-out frames.
            true_cameras: Cameras of the true views.
            true_images: The true views, uint8 [view, height, width, 3].
            start: Time at which the fit started, in seconds of `time.perf_counter`.
        """
        self.held_out = held_out
        self.true_cameras = true_cameras
        self.true_images = true_images
        self.start = start
        self.history: list[dict[str, Any]] = []

    def on_train_epoch_start(self) -> None:
        """Measure the time before the first epoch."""
        synchronize(self.device.type)
        now = time.perf_counter()
        if not self.history:
            self.setup_seconds = now - self.start

    def on_train_epoch_end(self) -> None:
        """Evaluate the scene and add a row to `history`."""
        synchronize(self.device.type)
        stop = time.perf_counter()
        gaussians = self.splats.gaussians()
        held_out = torch.tensor(self.held_out, device=self.device)
        record = {
            "step": self.step,
            "seconds": round(stop - self.start, 3),
            "gaussians": self.splats.count,
            "held_out_psnr": round(
                mean_psnr(self.renderer, gaussians, self.cameras(held_out), self.images[held_out]),
                3,
            ),
            "true_psnr": round(
                mean_psnr(
                    self.renderer,
                    gaussians,
                    self.true_cameras.to(self.device),
                    self.true_images.to(self.device),
                ),
                3,
            ),
        }
        self.history.append(record)
        if self.trainer.is_global_zero:
            print(record, flush=True)
        synchronize(self.device.type)
        self.start += time.perf_counter() - stop


def main() -> None:
    """Fit once and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=Path, required=True, help="a folder made by frames.py")
    parser.add_argument("--name", help="name of the result; without it nothing is written")
    add_results_option(parser)
    parser.add_argument("settings", nargs="*", metavar="setting=value")
    args = parser.parse_intermixed_args()  # settings may stand anywhere
    has_experiment = any(setting.startswith("experiment=") for setting in args.settings)
    experiment = [] if has_experiment else ["experiment=quality"]
    config = compose_run([*experiment, *args.settings, "image=room"])
    process = distributed.process_info()
    cuda = config.trainer.accelerator == "gpu"
    distributed.bind_device(process)
    distributed.connect(process, cuda)
    frame_set = load_frame_set(args.frames)
    reconstruction = frame_set.reconstruction
    cameras = reconstruction.cameras
    typical = float(reconstruction.depth[0].median())
    renderer = renderers.build(config.renderer, device=torch.device("cuda" if cuda else "cpu"))
    renderer.warm_up()

    start_time = time.perf_counter()
    torch.manual_seed(config.seed)
    distortion = distortions.build(
        plain_settings(config.distortion),
        num_views=len(frame_set.frames),
        extent=typical,
        size=(cameras.width, cameras.height),
        trajectory=frame_set.trajectory,
        points=reconstruction.points,
        multiview_consistent=False,
    )
    start = initial_gaussians(
        frame_set.frames, reconstruction, resolve_fit(config.fit), renderer.device
    )
    module = EvaluatedModule(
        start,
        distortion,
        renderer,
        frame_set.frames,
        reconstruction,
        config.fit,
        typical,
        config.seed,
    )
    training, held_out = frame_set.views
    module.set_evaluation(
        held_out, frame_set.true_cameras, frame_set.true_frames.images, start_time
    )
    trainer = OmegaConf.to_container(config.trainer, resolve=True) | {"limit_val_batches": 0}
    with tempfile.TemporaryDirectory() as folder:
        fit(module, sorted(training + held_out), Path(folder), config.fit, trainer, config.seed)
    synchronize("cuda" if cuda else "cpu")
    seconds = round(time.perf_counter() - module.start, 3)
    peak = torch.cuda.max_memory_allocated() if cuda else None
    if not module.trainer.is_global_zero:
        return
    summary = {
        "seconds": seconds,
        "setup_seconds": round(module.setup_seconds, 3),
        "peak_bytes": peak,
        "processes": module.trainer.world_size,
    }
    print(summary, flush=True)
    if args.name:
        rows = [
            {
                "settings": args.settings,
                "distortion": config.distortion.name,
                "fit": OmegaConf.to_container(config.fit),
                **summary,
                "history": module.history,
            }
        ]
        file = write_results(
            f"fitting-{args.name}",
            config.seed,
            "cuda" if cuda else "cpu",
            rows,
            unit="seconds, dB",
            folder=args.results,
        )
        print(file)


if __name__ == "__main__":
    main()
