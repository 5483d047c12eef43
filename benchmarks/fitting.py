"""How long a fit takes, and how good it is: python benchmarks/fitting.py --frames FOLDER [--name
NAME] [setting=value ...]

FOLDER is made by benchmarks/frames.py; settings are those of `lift run`, `experiment=quality` to
begin with. Timed is the whole fit stage, from frames and reconstruction in memory to the canonical
scene on disk: initial Gaussians, Lightning's start, every step, checkpoints. Left out are
compiling, and the evaluations that give the curve: mean PSNR of the canonical scene, after each
epoch, over held-out frames and over true views from cameras that no frame was generated for. Under
torchrun all its processes fit the one scene:

    torchrun --standalone --nproc-per-node 2 benchmarks/fitting.py --frames FOLDER trainer.devices=2
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from frames import load_frame_set
from measure import finish, write
from omegaconf import OmegaConf

from lift.config import compose_run, resolve_fit
from lift.distortions import distortions
from lift.evaluation.metrics import psnr
from lift.renderers import Renderer, renderers
from lift.runtime import distributed
from lift.training.fit import fit
from lift.training.module import SceneModule
from lift.training.splats import initialise
from lift.types import Cameras, Gaussians


@torch.no_grad()
def score(
    renderer: Renderer, gaussians: Gaussians, cameras: Cameras, images: torch.Tensor
) -> float:
    """Mean PSNR over views, dB."""
    return sum(
        psnr(renderer(gaussians, cameras[view]).rgb[0], images[view].float() / 255)
        for view in range(len(cameras))
    ) / len(cameras)


class Watched(SceneModule):
    """Looks at itself after each epoch, the clock stopped."""

    def watch(
        self, held_out: list[int], true_cameras: Cameras, true_images: torch.Tensor, started: float
    ) -> None:
        self.held_out, self.true_cameras, self.true_images, self.started = (
            held_out,
            true_cameras,
            true_images,
            started,
        )
        self.history: list[dict[str, Any]] = []

    def on_train_epoch_start(self) -> None:
        finish(self.device.type)
        now = time.perf_counter()
        if not self.history:
            self.setting_up = now - self.started

    def on_train_epoch_end(self) -> None:
        finish(self.device.type)
        stop = time.perf_counter()
        gaussians = self.splats.gaussians()
        held_out = torch.tensor(self.held_out, device=self.device)
        record = {
            "step": self.step,
            "seconds": round(stop - self.started, 3),
            "gaussians": self.splats.count,
            "held_out_psnr": round(
                score(self.renderer, gaussians, self.cameras(held_out), self.images[held_out]), 3
            ),
            "true_psnr": round(
                score(
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
        finish(self.device.type)
        self.started += time.perf_counter() - stop


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0].rstrip(":.") + ".")
    parser.add_argument("--frames", type=Path, required=True, help="a folder made by frames.py")
    parser.add_argument("--name", help="of the result; without one nothing is written")
    parser.add_argument("settings", nargs="*", metavar="setting=value")
    args = parser.parse_intermixed_args()  # settings may stand anywhere
    settings_text = (
        args.settings
        if any(s.startswith("experiment=") for s in args.settings)
        else ["experiment=quality", *args.settings]
    )
    config = compose_run([*settings_text, "image=room"])
    process, cuda = distributed.process_info(), config.trainer.accelerator == "gpu"
    distributed.bind_device(process)
    distributed.connect(process, cuda)
    frame_set = load_frame_set(args.frames)
    reconstruction = frame_set.reconstruction
    cameras, unit = reconstruction.cameras, float(reconstruction.depth[0].median())
    renderer = renderers.build(config.renderer, device=torch.device("cuda" if cuda else "cpu"))
    renderer.warm_up()

    started = time.perf_counter()
    torch.manual_seed(config.seed)
    distortion = distortions.build(
        config.distortion,
        num_views=len(frame_set.frames),
        extent=unit,
        size=(cameras.width, cameras.height),
        trajectory=frame_set.trajectory,
        points=reconstruction.points,
        multiview_consistent=False,
    )
    start = initialise(
        reconstruction,
        config.fit.initial_gaussians,
        resolve_fit(config.fit).sh_degree,
        renderer.device,
    )
    module = Watched(
        start, distortion, renderer, frame_set.frames, reconstruction, config.fit, unit, config.seed
    )
    training, held_out = frame_set.views
    module.watch(held_out, frame_set.true_cameras, frame_set.true_frames.images, started)
    trainer = OmegaConf.to_container(config.trainer, resolve=True) | {"limit_val_batches": 0}
    with tempfile.TemporaryDirectory() as folder:
        fit(module, sorted(training + held_out), Path(folder), config.fit, trainer, config.seed)
    finish("cuda" if cuda else "cpu")
    seconds = round(time.perf_counter() - module.started, 3)
    peak = torch.cuda.max_memory_allocated() if cuda else None
    if not module.trainer.is_global_zero:
        return
    summary = {
        "seconds": seconds,
        "setting_up": round(module.setting_up, 3),
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
        print(
            write(
                f"fitting-{args.name}",
                config.seed,
                "cuda" if cuda else "cpu",
                rows,
                unit="seconds, dB",
            )
        )


if __name__ == "__main__":
    main()
