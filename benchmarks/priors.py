"""Stable Video Diffusion at its real size, with random weights: the pipeline of diffusers, called clip by clip, beside the prior, side by side in one run.

    python benchmarks/priors.py [--clips 4] [--frames 16] [--steps 25] [--how pipeline single batched compiled] [--to FILE]

Clips of --frames frames at 576x1024. `pipeline` calls StableVideoDiffusionPipeline once a clip; `single` has the prior make one clip at a time, steered
by the warp or, `plain`, not; `batched` --at-once together; `compiled` that with torch.compile, whose warm-up is not counted. Seconds of a clip, and peak memory.
With torchrun, every process makes its share of the clips on a GPU of its own, and the slowest counts.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from PIL import Image

from lift.geometry import pinhole
from lift.machine import machine
from lift.priors import Asked
from lift.priors.svd import StableVideoDiffusion
from lift.scenes import render
from lift.types import Cameras, Clip, Depth, Frames

HOWS = {
    "pipeline": None,
    "plain": {"steer": "none"},
    "single": {},
    "batched": {"at_once": 4},
        "compiled": {"at_once": 4, "compile": True},
}


def random_pipeline(device: torch.device) -> Any:
    """The published sizes (config.json of stabilityai/stable-video-diffusion-img2vid-xt), random weights."""
    from diffusers import AutoencoderKLTemporalDecoder, EulerDiscreteScheduler, StableVideoDiffusionPipeline, UNetSpatioTemporalConditionModel
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

    with torch.device("meta"):
        unet = UNetSpatioTemporalConditionModel(sample_size=96)  # its defaults are the published ones
        vae = AutoencoderKLTemporalDecoder(
            block_out_channels=(128, 256, 512, 512), down_block_types=("DownEncoderBlock2D",) * 4, layers_per_block=2, sample_size=768
        )
        vision = CLIPVisionModelWithProjection(
            CLIPVisionConfig(
                hidden_size=1280, intermediate_size=5120, projection_dim=1024, num_hidden_layers=32, num_attention_heads=16, image_size=224, patch_size=14
            )
        )
    scheduler = EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type="v_prediction", sigma_max=700.0, sigma_min=0.002, steps_offset=1,
        timestep_spacing="leading", timestep_type="continuous", use_karras_sigmas=True,
    )  # fmt: skip
    rng = torch.Generator(device).manual_seed(0)
    for part in (unet, vae, vision):
        part.to_empty(device=device).half().eval()
        for name, parameter in part.named_parameters():
            fan = parameter[0].numel() if parameter.dim() > 1 else 1
            value = torch.randn(parameter.shape, generator=rng, device=device) / fan**0.5 if parameter.dim() > 1 else torch.full(parameter.shape, float("norm" in name), device=device)
            parameter.data.copy_(value)
    for name, buffer in vision.named_buffers():
        if name.endswith("position_ids"):
            buffer.copy_(torch.arange(buffer.shape[-1], device=device)[None])
    return StableVideoDiffusionPipeline(vae, vision, unet, scheduler, CLIPImageProcessor())


def asked(frames: int, clips: int) -> tuple[list[Asked], Depth]:
    camera = pinhole(1024, 576, 900.0)
    seen = render("room", camera)
    out = []
    for seed in range(clips):
        world = camera.world_to_camera.repeat(frames - 1, 1, 1)
        world[:, 0, 3] += (1 - 2 * (seed % 2)) * torch.linspace(0, 0.4, frames)[1:]
        path = Cameras(world, camera.intrinsics.expand(frames - 1, -1, -1).clone(), 1024, 576)
        out.append(Asked(Frames(seen.images), camera, Clip(f"clip {seed}", 0, path), seed))
    return out, Depth(seen.depth[0], seen.depth[0] > 0, "metric")


def timed(make: Callable[[], Any], device: torch.device) -> tuple[float, float]:
    """Seconds of the slowest process, and GiB at the peak."""
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    if dist.is_initialized():
        dist.barrier()
    began = time.perf_counter()
    make()
    torch.cuda.synchronize(device)
    seconds = torch.tensor(time.perf_counter() - began, device=device)
    if dist.is_initialized():
        dist.all_reduce(seconds, dist.ReduceOp.MAX)
    return float(seconds), torch.cuda.max_memory_allocated(device) / 2**30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=4)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--how", nargs="+", choices=tuple(HOWS), default=list(HOWS))
    parser.add_argument("--to", type=Path, default=Path("outputs/priors.json"))
    options = parser.parse_args()
    world, rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("LOCAL_RANK", 0))
    device = torch.device("cuda", rank)
    torch.cuda.set_device(device)
    if world > 1:
        dist.init_process_group("nccl")
    pipe = random_pipeline(device)
    wanted, depth = asked(options.frames, options.clips)
    mine = wanted[rank::world]
    rows = []
    for how in options.how:
        settings = HOWS[how]
        if settings is None:
            pipe.set_progress_bar_config(disable=True)
            picture = Image.fromarray(wanted[0].frames.images[0].numpy())

            def make(some: list[Asked], steps: int) -> None:
                for one in some:
                    pipe(
                        picture, 576, 1024, options.frames, num_inference_steps=steps, decode_chunk_size=4, generator=torch.Generator().manual_seed(one.seed), output_type="np"
                    )
        else:
            prior = StableVideoDiffusion(frames=options.frames, steps=options.steps, depth=depth, device=device, **settings)
            prior.__dict__["pipe"] = prior._placed(pipe)

            def make(some: list[Asked], steps: int, prior: StableVideoDiffusion = prior) -> None:
                prior.steps = steps
                prior.many(some)

        first, _ = timed(lambda make=make: make(mine[: max(1, (settings or {}).get("at_once", 1))], 2), device)
        seconds, gib = timed(lambda make=make: make(mine, options.steps), device)
        row = {"how": how, "gpus": world, "clips": options.clips, "frames": options.frames, "steps": options.steps, "warm_up": round(first, 1),
               "seconds": round(seconds, 2), "seconds_a_clip": round(seconds / options.clips, 2), "peak_gib": round(gib, 2)}  # fmt: skip
        rows.append(row)
        if rank == 0:
            print(json.dumps(row), flush=True)
            options.to.parent.mkdir(parents=True, exist_ok=True)
            options.to.write_text(json.dumps({"benchmark": "priors", "rows": rows, "machine": machine("cuda")}, indent=1) + "\n")
    if world > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
