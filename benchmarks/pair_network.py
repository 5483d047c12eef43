"""What MASt3R's network takes: python benchmarks/pair_network.py [--size 512] [--frames 24]
[--device cuda]

The authors' network at full size (ViT-L, 689 million parameters) with random weights, which time
and memory do not depend on; pictures of noise. Side by side in one
run: the authors' own `inference` a pair at a time, both ways, as LiftImage3D calls it; and ours,
with features once a frame, each pair once, half precision, batches that suit the memory, and only
the heads that are asked for. Milliseconds a pair, peak memory; and how far half precision is from
single.
"""

import argparse
import math
import time
from typing import Any

import torch
from measure import finish, write

from lift.poses.mast3r import Mast3rNetwork, create_network

FULL = {
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
"""As of the model that the authors call ViTLarge_BaseDecoder_512_catmlpdpt_metric."""


def peak(device: str) -> float:
    return torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else math.nan


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, nargs=2, default=(288, 512))
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu"
    )
    args = parser.parse_args()
    torch.manual_seed(0)
    device = torch.device(args.device)
    network = create_network(FULL).eval().to(device)
    images = torch.randint(0, 256, (args.frames, *args.size, 3), dtype=torch.uint8)
    pairs = [(a, b) for a in range(args.frames) for b in range(a + 1, min(args.frames, a + 7))]
    rows: list[dict[str, Any]] = []
    ours = Mast3rNetwork(network, device)
    reset = torch.cuda.reset_peak_memory_stats if args.device == "cuda" else lambda: None

    def timed(name: str, count: int, work: Any) -> Any:
        work()  # warm
        reset()
        finish(args.device)
        began = time.perf_counter()
        out = work()
        finish(args.device)
        rows.append(
            {
                "what": name,
                "count": count,
                "ms_each": round(1e3 * (time.perf_counter() - began) / count, 2),
                "peak_gib": round(peak(args.device), 2),
            }
        )
        print(rows[-1], flush=True)
        return out

    def authors() -> None:
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

    encode_seconds = timed(
        "features, a frame",
        args.frames,
        lambda: [
            feature for k in range(0, args.frames, 8) for feature in ours.encode(images[k : k + 8])
        ],
    )
    batch = ours.batch_size()

    def run_all(both: bool) -> None:
        at = 0
        while at < len(pairs):
            pair_batch = pairs[at : at + max(1, ours.batch_size() if at else 1)]
            ours.predict(
                [encode_seconds[a] for a, _ in pair_batch],
                [encode_seconds[b] for _, b in pair_batch],
                both,
            )
            at += len(pair_batch)

    timed("a pair, points of the first and descriptors", len(pairs), lambda: run_all(False))
    timed("a pair, points of both", len(pairs), lambda: run_all(True))
    batch = ours.batch_size()
    timed("authors', a pair both ways", 12, authors)
    half = ours.predict(encode_seconds[:1], encode_seconds[1:2], False)
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
    again = ours.predict(encode_seconds[:1], encode_seconds[1:2], False)
    errors = (half.points - reference["pts3d"]).norm(dim=-1) / reference["pts3d"].norm(dim=-1)
    alike = (half.descriptors[1] * second["desc"]).sum(-1)
    rows.append(
        {
            "what": "half beside single precision",
            "points_off_median": float(errors.median()),
            "descriptors_cosine_median": float(alike.median()),
            "same_twice": bool(torch.equal(half.points, again.points)),
            "pairs_at_once": batch,
            "features_mib_a_frame": round(encode_seconds[0][0].nbytes / 2**20, 2),
        }
    )
    print(rows[-1])
    print(write("pair-network", 0, args.device, rows))


if __name__ == "__main__":
    main()
