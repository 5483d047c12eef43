"""Cast rays at the shapes of depth_scenes.py on a GPU.

The kernel does the same as the numba kernel there, for a block of rays at a time.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 128


@triton.jit
def _safe(x):
    return tl.where(tl.abs(x) > 1e-9, x, 1e-9)


@triton.jit
def _box(x, y, z, u, v, w, near, best):
    a, b, c = 1 / _safe(u), 1 / _safe(v), 1 / _safe(w)
    enter = tl.maximum(tl.maximum(-x * a - tl.abs(a), -y * b - tl.abs(b)), -z * c - tl.abs(c))
    leave = tl.minimum(tl.minimum(-x * a + tl.abs(a), -y * b + tl.abs(b)), -z * c + tl.abs(c))
    t = tl.where(enter > near, enter, leave)
    return tl.where((enter <= leave) & (leave >= near), tl.minimum(t, best), best)


@triton.jit
def _ball(x, y, z, u, v, w, near, best):
    a, b, c = u * u + v * v + w * w, x * u + y * v + z * w, x * x + y * y + z * z - 1
    square = b * b - a * c
    root = tl.sqrt(tl.maximum(square, 0.0))
    t = (-b - root) / a
    t = tl.where(t > near, t, (-b + root) / a)
    return tl.where((square >= 0) & (t > near) & (t < best), t, best)


@triton.jit
def _cone(x, y, z, u, v, w, taper, near, best):
    p, q = (1 + taper) / 2, (taper - 1) / 2
    r, s = p + q * y, q * v
    a, b, c = u * u + w * w - s * s, x * u + z * w - r * s, x * x + z * z - r * r
    square = b * b - a * c
    root = tl.sqrt(tl.maximum(square, 0.0))
    sound = (square >= 0) & (tl.abs(a) > 1e-12)
    a = tl.where(sound, a, 1.0)
    for sign in tl.static_range(2):
        t = (-b + (2 * sign - 1) * root) / a
        high = y + t * v
        best = tl.where(
            sound & (t > near) & (t < best) & (tl.abs(high) <= 1) & (p + q * high >= 0), t, best
        )
    for side in tl.static_range(2):
        cap = 2 * side - 1
        t = (cap - y) / _safe(v)
        e, f, radius = x + t * u, z + t * w, p + q * cap
        best = tl.where(
            (tl.abs(v) > 1e-9) & (t > near) & (t < best) & (e * e + f * f <= radius * radius),
            t,
            best,
        )
    return best


@triton.jit
def _leaf(x, y, z, u, v, w, shape, near, best):
    t = -z / _safe(w)
    along, width_position = y + t * v, tl.abs(x + t * u)
    inside = tl.minimum(tl.maximum(along, 0.0), 1.0)
    narrow = tl.maximum(1 - inside, 1e-9)
    broad = 2.6 * tl.sqrt(inside) * tl.exp(1.2 * tl.log(narrow))
    half = tl.where(
        shape < 0.75,
        2 * tl.sqrt(inside * (1 - inside)),
        tl.where(shape < 2, 4 * inside * (1 - inside), broad),
    )
    met = (
        (tl.abs(w) > 1e-9)
        & (t > near)
        & (t < best)
        & (along > 0)
        & (along < 1)
        & (width_position < half)
    )
    return tl.where(met, t, best)


@triton.jit
def _cast(
    maps,
    kinds,
    tapers,
    balls,
    origins,
    directions,
    max_distance,
    distance,
    index,
    shapes,
    rays,
    BLOCK: tl.constexpr,  # noqa: N803
):
    ray = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    in_range = ray < rays
    ox, oy, oz = (
        tl.load(origins + 3 * ray, in_range, 0.0),
        tl.load(origins + 3 * ray + 1, in_range, 0.0),
        tl.load(origins + 3 * ray + 2, in_range, 0.0),
    )
    dx, dy, dz = (
        tl.load(directions + 3 * ray, in_range, 0.0),
        tl.load(directions + 3 * ray + 1, in_range, 0.0),
        tl.load(directions + 3 * ray + 2, in_range, 1.0),
    )
    square = dx * dx + dy * dy + dz * dz
    best, nearest_index = tl.load(max_distance + ray, in_range, 0.0), tl.full([BLOCK], -1, tl.int32)
    min_distance = 1e-4
    for k in range(shapes):
        cx, cy, cz, radius = (
            tl.load(balls + 4 * k) - ox,
            tl.load(balls + 4 * k + 1) - oy,
            tl.load(balls + 4 * k + 2) - oz,
            tl.load(balls + 4 * k + 3),
        )
        along, room = cx * dx + cy * dy + cz * dz, cx * cx + cy * cy + cz * cz - radius * radius
        close = in_range & ((room <= 0) | ((along >= 0) & (along * along >= room * square)))
        if tl.max(close.to(tl.int32), 0) > 0:
            m = maps + 12 * k
            a, b, c = tl.load(m), tl.load(m + 1), tl.load(m + 2)
            d, e, f = tl.load(m + 3), tl.load(m + 4), tl.load(m + 5)
            g, h, i = tl.load(m + 6), tl.load(m + 7), tl.load(m + 8)
            x, y, z = (
                a * ox + b * oy + c * oz + tl.load(m + 9),
                d * ox + e * oy + f * oz + tl.load(m + 10),
                g * ox + h * oy + i * oz + tl.load(m + 11),
            )
            u, v, w = a * dx + b * dy + c * dz, d * dx + e * dy + f * dz, g * dx + h * dy + i * dz
            kind, taper = tl.load(kinds + k), tl.load(tapers + k)
            t = best
            if kind == 0:
                t = _box(x, y, z, u, v, w, min_distance, best)
            elif kind == 1:
                t = _ball(x, y, z, u, v, w, min_distance, best)
            elif kind == 2:
                t = _cone(x, y, z, u, v, w, taper, min_distance, best)
            else:
                t = _leaf(x, y, z, u, v, w, taper, min_distance, best)
            met = close & (t < best)
            best, nearest_index = tl.where(met, t, best), tl.where(met, k, nearest_index)
    tl.store(distance + ray, best, in_range)
    tl.store(index + ray, nearest_index, in_range)


def cast(
    shapes: dict[str, Tensor], origins: Tensor, directions: Tensor, max_distance: Tensor
) -> tuple[Tensor, Tensor]:
    """Find the nearest shape along each ray. See `depth_scenes.cast`."""
    distance, index = (
        torch.empty_like(max_distance),
        torch.empty(len(max_distance), dtype=torch.int32, device=max_distance.device),
    )
    grid = (triton.cdiv(len(max_distance), BLOCK),)
    arrays = [shapes[key].contiguous() for key in ("map", "kind", "taper", "ball")]
    _cast[grid](
        *arrays,
        origins.contiguous(),
        directions.contiguous(),
        max_distance.contiguous(),
        distance,
        index,
        len(arrays[1]),
        len(max_distance),
        BLOCK,
    )
    return distance, index
