"""Time Stable Video Diffusion as a prior, and as the pipeline of diffusers.

    python benchmarks/priors.py [--clips 4] [--frames 16] [--steps 25]
        [--modes pipeline unguided single batched compiled 'compiled unguided'] [--results FILE]

The model has its real size and random weights. Clips have --frames frames of 1024 x 576. Rows have
seconds per clip and peak memory. The modes are:

- `pipeline`: StableVideoDiffusionPipeline, one clip per call.
- `single`: the prior, one clip at a time, guided by the warp.
- `unguided`: the same without guidance by the warp.
- `batched`: the prior, four clips at a time.
- `compiled`: `batched` with torch.compile. The warm-up is not counted.
- `compiled unguided`: the same without guidance by the warp.

    torchrun --nproc-per-node N benchmarks/priors.py --tree [--steps 25]

This times the 4 + 12 clips of a run, on N processes with a GPU each, from an empty cache. Loading
the model is not counted.
"""

import argparse
import json
import math
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from lift.runtime import distributed

if "--tree" in sys.argv:
    distributed.bind_device(distributed.process_info())  # before numba is imported

from lift.geometry import pinhole  # noqa: E402
from lift.priors import ClipRequest  # noqa: E402
from lift.priors.svd import StableVideoDiffusion  # noqa: E402
from lift.runtime.machine import machine_info  # noqa: E402
from lift.synthetic.scenes import render  # noqa: E402
from lift.types import Cameras, Clip, Depth, Frames  # noqa: E402

MODES = {
    "pipeline": None,
    "unguided": {"warp_guidance": "none"},
    "single": {},
    "batched": {"batch_size": 4},
    "compiled": {"batch_size": 4, "compile": True},
    "compiled unguided": {"batch_size": 4, "compile": True, "warp_guidance": "none"},
}


def random_pipeline(device: torch.device) -> Any:
    """Build the pipeline with random weights.

    Sizes are those of config.json of stabilityai/stable-video-diffusion-img2vid-xt.
    """
    from diffusers import (
        AutoencoderKLTemporalDecoder,
        EulerDiscreteScheduler,
        StableVideoDiffusionPipeline,
        UNetSpatioTemporalConditionModel,
    )
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

    with torch.device("meta"):
        unet = UNetSpatioTemporalConditionModel(
            sample_size=96
        )  # its defaults are the published sizes
        vae = AutoencoderKLTemporalDecoder(
            block_out_channels=(128, 256, 512, 512),
            down_block_types=("DownEncoderBlock2D",) * 4,
            layers_per_block=2,
            sample_size=768,
        )
        vision = CLIPVisionModelWithProjection(
            CLIPVisionConfig(
                hidden_size=1280,
                intermediate_size=5120,
                projection_dim=1024,
                num_hidden_layers=32,
                num_attention_heads=16,
                image_size=224,
                patch_size=14,
            )
        )
    scheduler = EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        sigma_max=700.0,
        sigma_min=0.002,
        steps_offset=1,
        timestep_spacing="leading",
        timestep_type="continuous",
        use_karras_sigmas=True,
    )
    rng = torch.Generator(device).manual_seed(0)
    for part in (unet, vae, vision):
        part.to_empty(device=device).half().eval()
        for name, parameter in part.named_parameters():
            fan = parameter[0].numel() if parameter.dim() > 1 else 1
            value = (
                torch.randn(parameter.shape, generator=rng, device=device) / fan**0.5
                if parameter.dim() > 1
                else torch.full(parameter.shape, float("norm" in name), device=device)
            )
            parameter.data.copy_(value)
    for name, buffer in vision.named_buffers():
        if name.endswith("position_ids"):
            buffer.copy_(torch.arange(buffer.shape[-1], device=device)[None])
    return StableVideoDiffusionPipeline(vae, vision, unet, scheduler, CLIPImageProcessor())


def make_requests(frames: int, clips: int) -> tuple[list[ClipRequest], Depth]:
    """Make requests of clips to the left and right of a ray-cast view, and its depth."""
    camera = pinhole(1024, 576, 900.0)
    rendered = render("room", camera)
    requests = []
    for seed in range(clips):
        world = camera.world_to_camera.repeat(frames - 1, 1, 1)
        world[:, 0, 3] += (1 - 2 * (seed % 2)) * torch.linspace(0, 0.4, frames)[1:]
        path = Cameras(world, camera.intrinsics.expand(frames - 1, -1, -1).clone(), 1024, 576)
        requests.append(
            ClipRequest(Frames(rendered.images), camera, Clip(f"clip {seed}", 0, path), seed)
        )
    return requests, Depth(rendered.depth[0], rendered.depth[0] > 0, "metric")


def measure(function: Callable[[], Any], device: torch.device) -> tuple[float, float]:
    """Return seconds and peak memory in GiB of a call."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
    start = time.perf_counter()
    function()
    if device.type != "cuda":
        return time.perf_counter() - start, math.nan
    torch.cuda.synchronize(device)
    seconds = time.perf_counter() - start
    return seconds, torch.cuda.max_memory_allocated(device) / 2**30


def tree(frames: int, steps: int, model: Path | None) -> dict[str, Any]:
    """Time the stage `generate` of a run on all processes.

    Args:
        frames: Frames per clip.
        steps: Denoising steps.
        model: Folder of the model. None: a model with random weights.

    Returns:
        A row of the results.
    """
    from hydra import compose, initialize_config_module

    from lift import pipeline
    from lift.config import store_schemas
    from lift.depths import depths
    from lift.io.image import load_picture
    from lift.priors import priors
    from lift.runtime.session import Session

    process = distributed.process_info()
    store_schemas()
    folder = Path(tempfile.gettempdir()) / f"lift-priors-{process.world_size}"
    is_temporary = model is None
    model = model or Path(tempfile.gettempdir()) / "lift-priors-model"
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with initialize_config_module("lift.configs", version_base=None):
        config = compose(
            "lift",
            [
                f"image={folder / 'room.png'}",
                "prior=svd",
                f"prior.model={model}",
                f"prior.frames={frames}",
                f"prior.num_inference_steps={steps}",
                f"prior.size={1024 if device == 'cuda' else 64}",
                "depth=ramp",
                f"preprocess.size={1024 if device == 'cuda' else 128}",
                "motion_limit.on_exceed=ignore",
                f"trainer={'gpu' if device == 'cuda' else 'cpu'}",
                f"output={folder}",
            ],
        )
    if process.rank == 0:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        Image.fromarray(render("room", pinhole(1024, 576, 900.0)).images[0].numpy()).save(
            folder / "room.png"
        )
        if is_temporary and not (model / "model_index.json").exists():
            random_pipeline(torch.device("cuda", torch.cuda.current_device())).save_pretrained(
                model
            )
    session = Session(config)
    with distributed.main_process_first(process):
        pass
    picture = load_picture(config.image, config.preprocess.size, config.preprocess.field_of_view)
    estimator = session.build(depths, camera=picture.cameras)
    depth, key = pipeline.estimate_depth(session, picture, estimator)
    prior = session.build(priors, depth=depth, camera=picture.cameras, estimator=estimator)
    planner = pipeline.build_planner(session, picture)
    trajectory, key = pipeline.plan(session, picture, depth, planner, prior, key)
    # A first clip, so that loading is not timed.
    steps = prior.num_inference_steps
    prior.num_inference_steps = 1
    prior.generate_batch([ClipRequest(picture.frames, picture.cameras, trajectory.clips[0], 0)])
    prior.num_inference_steps = steps
    with distributed.main_process_first(process):
        pass
    seconds, gib = measure(
        lambda: pipeline.generate(session, picture, depth, prior, trajectory, key), prior.device
    )
    return {
        "mode": "tree",
        "gpus": process.world_size,
        "clips": len(trajectory.clips),
        "frames": frames,
        "steps": prior.num_inference_steps,
        "seconds": round(seconds, 2),
        "peak_gib": round(gib, 2),
    }


def write_results(rows: list[dict[str, Any]], results: Path) -> None:
    """Print the last row, and write all rows and the machine."""
    print(json.dumps(rows[-1]), flush=True)
    results.parent.mkdir(parents=True, exist_ok=True)
    machine = machine_info("cuda" if torch.cuda.is_available() else "cpu")
    record = {"benchmark": "priors", "rows": rows, "machine": machine}
    results.write_text(json.dumps(record, indent=1) + "\n")


def main() -> None:
    """Time the modes, or a tree of clips."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=4)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--modes", nargs="+", choices=tuple(MODES), default=list(MODES))
    parser.add_argument("--results", type=Path, default=Path("outputs/priors.json"), metavar="FILE")
    parser.add_argument("--tree", action="store_true")
    parser.add_argument("--model", type=Path, help="folder of the model, with --tree")
    options = parser.parse_args()
    results = options.results
    rows = json.loads(results.read_text())["rows"] if results.exists() else []
    if options.tree:
        row = tree(options.frames, options.steps, options.model)
        if int(os.environ.get("RANK", 0)) == 0:
            write_results([*rows, row], results)
        return
    device = torch.device("cuda", 0)
    pipe = random_pipeline(device)
    requests, depth = make_requests(options.frames, options.clips)
    for mode in options.modes:
        settings = MODES[mode]
        if settings is None:
            pipe.set_progress_bar_config(disable=True)
            picture = Image.fromarray(requests[0].frames.images[0].numpy())

            def generate(batch: list[ClipRequest], steps: int) -> None:
                for request in batch:
                    rng = torch.Generator().manual_seed(request.seed)
                    pipe(
                        picture,  # noqa: B023
                        576,
                        1024,
                        options.frames,
                        num_inference_steps=steps,
                        decode_chunk_size=4,
                        generator=rng,
                        output_type="np",
                    )
        else:
            prior = StableVideoDiffusion(
                frames=options.frames,
                num_inference_steps=options.steps,
                depth=depth,
                device=device,
                **settings,
            )
            prior.__dict__["pipe"] = prior._configure(pipe)

            def generate(
                batch: list[ClipRequest], steps: int, prior: StableVideoDiffusion = prior
            ) -> None:
                prior.num_inference_steps = steps
                prior.generate_batch(batch)

        batch = requests[: max(1, (settings or {}).get("batch_size", 1))]
        first, _ = measure(lambda generate=generate, batch=batch: generate(batch, 2), device)
        seconds, gib = measure(lambda generate=generate: generate(requests, options.steps), device)
        rows.append(
            {
                "mode": mode,
                "gpus": 1,
                "clips": options.clips,
                "frames": options.frames,
                "steps": options.steps,
                "warm_up": round(first, 1),
                "seconds": round(seconds, 2),
                "seconds_per_clip": round(seconds / options.clips, 2),
                "peak_gib": round(gib, 2),
            }
        )
        write_results(rows, results)


if __name__ == "__main__":
    main()
