"""Measure time and memory of MASt3R's network.

    python benchmarks/pair_network.py [--size 288 512] [--frames 24] [--device cuda]
        [--results FOLDER]

The network of the authors has full size (ViT-L, 689 million parameters) and random weights, on
which time and memory do not depend. Pictures are noise. The authors' network runs a pair at a time,
in both directions, as in LiftImage3D. Ours computes features once per frame and each pair once, in
half precision, in batches that fit the memory, and only the heads that are needed. Rows have
milliseconds, peak memory, and the error of half precision.
"""

import argparse
import math
import time
from typing import Any

import torch
from measure import add_results_option, synchronize, write_results

from lift.poses.mast3r import Mast3rNetwork, create_network

FULL_SIZE = {
    "pos_embed": "RoPE100",
    "img_size": (512, 512),
    "head_type": "catmlp+dpt",
    "output_mode": "pts3d+desc24",
    "depth_mode": ("exp", -math.inf, math.inf),
    "conf_mode": ("exp", 1, math.inf),
    "enc_embed_dim": 1024,
    "enc_depth": 24,
    "enc_num_heads": 16,
    "dec_embed_dim": 768,
    "dec_depth": 12,
    "dec_num_heads": 12,
    "two_confs": True,
    "desc_conf_mode": ("exp", 0, math.inf),
}
"""Settings of the authors' model ViTLarge_BaseDecoder_512_catmlpdpt_metric."""


def peak_gib(device: str) -> float:
    """Return the peak of the GPU memory in GiB, NaN on a CPU."""
    return torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else math.nan


def main() -> None:
    """Time both networks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, nargs=2, default=(288, 512))
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu"
    )
    add_results_option(parser)
    args = parser.parse_args()
    torch.manual_seed(0)
    device = torch.device(args.device)
    network = create_network(FULL_SIZE).eval().to(device)
    images = torch.randint(0, 256, (args.frames, *args.size, 3), dtype=torch.uint8)
    pairs = [(a, b) for a in range(args.frames) for b in range(a + 1, min(args.frames, a + 7))]
    rows: list[dict[str, Any]] = []
    ours = Mast3rNetwork(network, device)
    reset = torch.cuda.reset_peak_memory_stats if args.device == "cuda" else lambda: None

    def timed(name: str, count: int, work: Any) -> Any:
        work()  # warm up
        reset()
        synchronize(args.device)
        start = time.perf_counter()
        result = work()
        synchronize(args.device)
        rows.append(
            {
                "operation": name,
                "calls": count,
                "milliseconds_per_call": round(1e3 * (time.perf_counter() - start) / count, 2),
                "peak_gib": round(peak_gib(args.device), 2),
            }
        )
        print(rows[-1], flush=True)
        return result

    def run_authors() -> None:
        with torch.inference_mode():
            for a, b in pairs[:12]:
                for source, target in ((a, b), (b, a)):
                    views = [
                        {
                            "img": images[k : k + 1].to(device).permute(0, 3, 1, 2) / 127.5 - 1,
                            "instance": [str(k)],
                        }
                        for k in (source, target)
                    ]
                    for view in views:
                        view["true_shape"] = torch.tensor([args.size])
                    network(*views)

    features = timed(
        "features of a frame",
        args.frames,
        lambda: [
            feature for k in range(0, args.frames, 8) for feature in ours.encode(images[k : k + 8])
        ],
    )

    def run_pairs(both: bool) -> None:
        start = 0
        while start < len(pairs):
            pair_batch = pairs[start : start + max(1, ours.batch_size() if start else 1)]
            ours.predict(
                [features[a] for a, _ in pair_batch],
                [features[b] for _, b in pair_batch],
                both,
            )
            start += len(pair_batch)

    timed("points of the first frame and descriptors", len(pairs), lambda: run_pairs(False))
    timed("points of both frames", len(pairs), lambda: run_pairs(True))
    batch_size = ours.batch_size()
    timed("authors' network, both directions", 12, run_authors)
    half = ours.predict(features[:1], features[1:2], False)
    with torch.inference_mode():
        views = [
            {
                "img": images[k : k + 1].to(device).permute(0, 3, 1, 2) / 127.5 - 1,
                "instance": [str(k)],
                "true_shape": torch.tensor([args.size]),
            }
            for k in (0, 1)
        ]
        reference, second = network(*views)
    again = ours.predict(features[:1], features[1:2], False)
    errors = (half.points - reference["pts3d"]).norm(dim=-1) / reference["pts3d"].norm(dim=-1)
    cosine = (half.descriptors[1] * second["desc"]).sum(-1)
    rows.append(
        {
            "operation": "half against single precision",
            "points_relative_error_median": float(errors.median()),
            "descriptors_cosine_median": float(cosine.median()),
            "deterministic": bool(torch.equal(half.points, again.points)),
            "batch_size": batch_size,
            "feature_mib_per_frame": round(features[0][0].nbytes / 2**20, 2),
        }
    )
    print(rows[-1])
    print(write_results("pair-network", 0, args.device, rows, folder=args.results))


if __name__ == "__main__":
    main()
