"""Random scenes with exact depth, on which the built-in depth network is trained (train_depth.py).

A scene is a room, a street, hills, plants from close by, a table, figures or a heap. It has a few
dozen to a few thousand boxes, balls, cones and leaves with materials. `RandomScene.random` builds
one on the CPU from a seed. `render` casts rays, on a GPU with a kernel in Triton (scenes_triton.py)
and on a CPU with numba, and shades them in torch. The world is in metres with y up. Cameras are as
in `lift.types`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numba
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import avg_pool2d, normalize

BOX, BALL, CONE, LEAF = range(4)
PLAIN, STRIPES, CHECKS, BRICKS, WOOD, PHOTO, MARBLE, VEINS, FACADE = range(9)
FAMILY, FIRST, SECOND, SCALE, ASPECT, ANGLE, BUMP, GLOSS, GLOW, PICTURE, SEED = (
    0,
    1,
    4,
    7,
    8,
    9,
    10,
    11,
    12,
    13,
    14,
)
"""Columns of a material."""
COLUMNS = 15
FAR = 1e4
"""Distance of a ray that hits nothing."""
SHADOW_OFFSET = 1e-3
"""Distance from its surface at which a shadow ray starts, as a fraction of the depth."""

Array = np.ndarray
Vector = tuple[float, float, float] | Array


@dataclass
class RandomScene:
    """Shapes, camera and light of a scene.

    Each shape is a unit box, ball, cone (radius 1 at y = -1, `taper` at y = 1) or leaf (in z = 0,
    y from 0 to 1) under an affine map.
    """

    rng: np.random.Generator
    kind: list[Array] = field(default_factory=list)
    center: list[Array] = field(default_factory=list)
    axes: list[Array] = field(default_factory=list)
    """Half axes of the shapes as columns, [n, 3, 3]."""
    taper: list[Array] = field(default_factory=list)
    material: list[Array] = field(default_factory=list)
    eye: Array = field(default_factory=lambda: np.zeros(3))
    aim: Array = field(default_factory=lambda: np.array([0.0, 0, 1]))
    roll: float = 0.0
    fov: float = 55.0
    light: dict[str, Array] = field(default_factory=dict)
    pictures: int = 0
    """Number of photographs for materials."""

    def add(
        self, kind: int, center: Array, axes: Array, material: Array, taper: Array | float = 1.0
    ) -> None:
        """Add shapes of one kind.

        Args:
            kind: BOX, BALL, CONE or LEAF.
            center: Centres, [n, 3] or [3].
            axes: Half axes as columns, [n, 3, 3] or [3, 3].
            material: Materials, [n, column] or [column].
            taper: Radius of a cone at y = 1, or shape of a leaf.
        """
        center = np.atleast_2d(np.asarray(center, float))
        n = len(center)
        self.kind.append(np.full(n, kind))
        self.center.append(center)
        self.axes.append(np.broadcast_to(axes, (n, 3, 3)))
        self.taper.append(np.broadcast_to(np.asarray(taper, float), (n,)))
        self.material.append(np.broadcast_to(material, (n, COLUMNS)))

    def box(
        self, center: Vector, size: Vector, material: Array, yaw: float = 0.0, tilt: float = 0.0
    ) -> None:
        self.add(BOX, center, _turn(yaw, tilt) * (np.asarray(size) / 2), material)

    def ball(
        self,
        center: Vector,
        radii: Vector | float,
        material: Array,
        yaw: float = 0.0,
        tilt: float = 0.0,
    ) -> None:
        self.add(BALL, center, _turn(yaw, tilt) * np.broadcast_to(radii, 3), material)

    def cone(self, foot: Vector, tip: Vector, below: float, above: float, material: Array) -> None:
        foot, tip = np.asarray(foot, float), np.asarray(tip, float)
        along = (tip - foot) / 2
        if not np.linalg.norm(along) > 1e-9 or below <= 0:
            return
        side = _perpendicular(along)
        normal = np.cross(side, along / max(np.linalg.norm(along), 1e-9))
        self.add(
            CONE,
            (foot + tip) / 2,
            np.stack([side * below, along, normal * below], axis=1),
            material,
            above / max(below, 1e-6),
        )

    def leaves(
        self,
        foot: Array,
        along: Array,
        normal: Array,
        length: Array,
        width: Array,
        material: Array,
        outline: Array | float = 1.0,
    ) -> None:
        """Add leaves.

        Args:
            foot: Lower ends, [n, 3].
            along: Directions, [n, 3].
            normal: Normals, [n, 3].
            length: Lengths.
            width: Widths.
            material: Materials.
            outline: 0 round, 1 pointed at both ends, 3 broad below.
        """
        along = along / np.linalg.norm(along, axis=1, keepdims=True).clip(1e-9)
        side = np.cross(along, normal + 1e-3)
        side = np.where(
            np.linalg.norm(side, axis=1, keepdims=True) > 1e-6,
            side,
            np.cross(along, (0.31, 0.74, 0.6)),
        )
        side /= np.linalg.norm(side, axis=1, keepdims=True)
        axes = np.stack(
            [
                side * (np.broadcast_to(width, len(foot)) / 2)[:, None],
                along * np.broadcast_to(length, len(foot))[:, None],
                np.cross(side, along),
            ],
            axis=2,
        )
        self.add(LEAF, foot, axes, material, outline)

    @classmethod
    def random(cls, seed: int, pictures: int, name: str | None = None) -> "RandomScene":
        """Build a random scene.

        Args:
            seed: Random seed.
            pictures: Number of photographs for materials.
            name: Kind of the scene, a key of SCENE_KINDS. Default: any.
        """
        scene = cls(np.random.default_rng(seed), pictures=pictures)
        names = list(SCENE_KINDS)
        weights = np.array([SCENE_KINDS[n][1] for n in names], float)
        SCENE_KINDS[name or names[scene.rng.choice(len(names), p=weights / weights.sum())]][0](
            scene
        )
        return scene

    def pack(self) -> dict[str, Array]:
        """Return shapes and light as arrays in the camera's frame, sorted by kind."""
        kind, center, axes = (
            np.concatenate(self.kind),
            np.concatenate(self.center),
            np.concatenate(self.axes),
        )
        order = np.argsort(kind, kind="stable")
        taper, material = np.concatenate(self.taper)[order], np.concatenate(self.material)[order]
        kind, center, axes = kind[order], center[order], axes[order]
        turn = self._to_camera()
        center, axes = (center - self.eye) @ turn.T, turn @ axes
        inverse = np.linalg.inv(axes)
        offset = -(inverse @ center[:, :, None])
        radius = np.linalg.norm(axes, axis=1).max(1) * np.where(
            kind == BOX, 1.75, np.where(kind == CONE, 1.5 * np.maximum(1, taper), 1.2)
        )
        light = {
            key: (
                turn @ value
                if key in ("sun", "up")
                else turn @ (value - self.eye)
                if key == "lamp"
                else value
            )
            for key, value in self.light.items()
        }
        return {
            "map": np.concatenate([inverse.reshape(-1, 9), offset[:, :, 0]], axis=1),
            "kind": kind,
            "taper": taper,
            "material": material,
            "size": np.linalg.norm(axes, axis=1),
            "ball": np.concatenate([center, radius[:, None]], axis=1),
            **light,
        }

    def _to_camera(self) -> Array:
        z = self.aim - self.eye
        z = z / np.linalg.norm(z)
        x = np.cross(z, (0.0, 1, 0)) if abs(z[1]) < 0.999 else np.array([1.0, 0, 0])
        x = x / np.linalg.norm(x)
        x = x - z * (x @ z)
        c, s = math.cos(self.roll), math.sin(self.roll)
        y_axis = np.cross(z, x)
        x, y_axis = c * x + s * y_axis, c * y_axis - s * x
        return np.stack([x, y_axis, z])

    # Materials

    def color(
        self,
        light: tuple[float, float] = (0.08, 0.8),
        vivid: tuple[float, float] = (0.0, 0.7),
        hue: tuple[float, float] = (0.0, 1.0),
    ) -> Array:
        r = self.rng
        return _rgb(r.uniform(*hue) % 1.0, r.uniform(*vivid), r.uniform(*light))

    def make_material(
        self,
        family: int | None = None,
        base_color: Array | None = None,
        second: Array | None = None,
        scale: float | None = None,
        **more: float,
    ) -> Array:
        """Make a material. Properties that are not given are random."""
        r = self.rng
        if family is None:
            family = r.choice(
                [PLAIN, STRIPES, CHECKS, BRICKS, WOOD, PHOTO, MARBLE],
                p=[0.42, 0.06, 0.06, 0.06, 0.12, 0.2, 0.08],
            )
        if family == PHOTO and not self.pictures:
            family = MARBLE
        base_color = self.color() if base_color is None else base_color
        second = (
            np.clip(base_color * r.uniform(0.35, 1.5) + r.normal(0, 0.05, 3), 0.01, 0.95)
            if second is None
            else second
        )
        out = np.zeros(COLUMNS)
        out[FAMILY], out[FIRST : FIRST + 3], out[SECOND : SECOND + 3] = family, base_color, second
        out[SCALE] = scale if scale is not None else np.exp(r.uniform(np.log(0.05), np.log(0.8)))
        out[ASPECT], out[ANGLE] = (
            r.choice([1.0, 1.0, 2.0, 3.0, 6.0]),
            r.choice([0.0, math.pi / 2, r.uniform(0, math.pi)]),
        )
        out[BUMP], out[GLOSS] = (
            r.choice([0, 0, 0.3, 1.0]) * r.random(),
            r.choice([0, 0, 0.2, 0.8]) * r.random(),
        )
        out[PICTURE], out[SEED] = r.integers(max(1, self.pictures)), r.integers(4096)
        for key, value in more.items():
            out[
                {"aspect": ASPECT, "angle": ANGLE, "bump": BUMP, "gloss": GLOSS, "glow": GLOW}[key]
            ] = value
        return out

    def greens(self, n: int, family: int = VEINS) -> Array:
        """Make similar materials for n leaves."""
        r = self.rng
        hue, vivid, light = (
            r.choice([r.uniform(0.2, 0.38), r.uniform(0.05, 0.2)], p=[0.85, 0.15]),
            r.uniform(0.35, 0.85),
            r.uniform(0.1, 0.5),
        )
        out = np.tile(self.make_material(family, scale=1.0), (n, 1))
        for k in range(n):
            base_color = _rgb(
                (hue + r.normal(0, 0.02)) % 1,
                np.clip(vivid + r.normal(0, 0.08), 0, 1),
                np.clip(light * np.exp(r.normal(0, 0.25)), 0.02, 0.9),
            )
            out[k, FIRST : FIRST + 3], out[k, SECOND : SECOND + 3] = (
                base_color,
                np.clip(base_color * r.uniform(0.5, 1.6), 0, 0.95),
            )
        out[:, SEED] = r.integers(4096, size=n)
        return out

    # Light

    def set_sky(self) -> None:
        """Set a random sky with sun and clouds."""
        r = self.rng
        high = np.deg2rad(r.uniform(8, 75))
        turn = r.uniform(0, 2 * math.pi)
        warm = np.array([1.0, 0.93, 0.82]) if high > 0.5 else np.array([1.0, 0.75, 0.5])
        strength = r.choice([0.0, 0.3, 1.0, 1.0]) * r.uniform(0.8, 2.2)
        zenith = (
            _rgb(r.uniform(0.53, 0.64), r.uniform(0.1, 0.75), r.uniform(0.35, 0.9))
            if r.random() < 0.8
            else self.color()
        )
        horizon = np.clip(zenith * 0.4 + 0.6 * self.color((0.6, 1.0), (0, 0.25)), 0, 1)
        self.light = {
            "sun": np.array(
                [math.cos(high) * math.sin(turn), math.sin(high), math.cos(high) * math.cos(turn)]
            ),
            "up": np.array([0.0, 1, 0]),
            "lamp": np.zeros(3),
            "glare": warm * strength,
            "shine": np.zeros(3),
            "zenith": zenith,
            "horizon": horizon,
            "around": (0.5 * zenith + 0.5 * horizon) * r.uniform(0.5, 1.1),
            "haze": np.array([r.choice([0, 0, 0.3, 1]) * r.uniform(0, 0.06)]),
            "clouds": np.array([r.choice([0, 1]) * r.uniform(0.3, 1), r.integers(4096)]),
        }

    def set_lamp(self, at: Vector) -> None:
        """Set a lamp inside, with a little nearly white ambient light."""
        r = self.rng
        self.set_sky()
        warm = _rgb(r.uniform(0.05, 0.14), r.uniform(0, 0.45), 1.0)
        squared_distance = np.linalg.norm(np.asarray(at) - self.aim) ** 2 + 1
        self.light |= {
            "lamp": np.asarray(at, float),
            "glare": np.zeros(3),
            "shine": warm * r.uniform(0.3, 1.6) * squared_distance,
            "around": np.array([1.0, 0.97, 0.93]) * r.uniform(0.2, 0.8),
            "haze": np.zeros(1),
        }


def _rgb(hue: float, vivid: float, light: float) -> Array:
    k = (np.array([5.0, 3, 1]) + hue * 6) % 6
    return light - light * vivid * np.clip(np.minimum(k, 4 - k), 0, 1)


def _turn(yaw: float, tilt: float = 0.0) -> Array:
    """Return a rotation about the vertical axis, after a tilt about the shape's z axis."""
    c, s, a, b = math.cos(yaw), math.sin(yaw), math.cos(tilt), math.sin(tilt)
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]) @ np.array(
        [[a, -b, 0], [b, a, 0], [0, 0, 1]]
    )


def _perpendicular(along: Array) -> Array:
    side = np.cross(
        along, (0.0, 0, 1) if abs(along[2]) < 0.9 * np.linalg.norm(along) else (1.0, 0, 0)
    )
    return side / max(np.linalg.norm(side), 1e-9)


def _random_direction(rng: np.random.Generator, n: int, up: float = 0.0) -> Array:
    """Draw random directions with an upward bias."""
    out = rng.normal(size=(n, 3)) + (0, up, 0)
    return out / np.linalg.norm(out, axis=1, keepdims=True).clip(1e-9)


# Objects at a position on the ground, with a height of about `tall`


def _plant(p: RandomScene, at: Vector, tall: float) -> None:
    """Add a plant with stems and leaves, sometimes in a pot."""
    r, at = p.rng, np.asarray(at, float)
    if r.random() < 0.5:
        p.cone(at, at + (0, 0.3 * tall, 0), 0.12 * tall, 0.17 * tall, p.make_material())
        at, tall = at + (0, 0.28 * tall, 0), 0.8 * tall
    _sprig(p, at, tall, int(r.integers(4, 12)), r.uniform(0.1, 0.35) * tall)


def _sprig(
    p: RandomScene,
    at: Array,
    tall: float,
    stems: int,
    leaf: float,
    up: float = 1.2,
    feathered: bool | None = None,
) -> None:
    """Add stems that bend outwards, with leaves along them: bushes, house plants, ferns."""
    r = p.rng
    feathered = bool(r.random() < 0.4) if feathered is None else feathered
    shape, slender, bend = r.choice([0.0, 1.0, 1.0, 3.0]), r.uniform(0.15, 0.7), r.uniform(0.1, 1.2)
    foot, along, normal, length, width = [], [], [], [], []
    bark = p.make_material(PLAIN, _rgb(r.uniform(0.08, 0.3), 0.5, r.uniform(0.1, 0.4)))
    for _ in range(stems):
        out = _random_direction(r, 1, up)[0]
        number = int(r.integers(10, 28)) if feathered else int(r.integers(2, 9))
        t = np.linspace(0.15, 1, number)[:, None]
        max_length = tall * r.uniform(0.6, 1.1)
        path = at + max_length * (t * out + bend * t**2 * (out * (1, 0, 1) * 0.6 - (0, 0.45, 0)))
        p.cone(at, path[number // 2], 0.012 * tall, 0.008 * tall, bark)
        p.cone(path[number // 2], path[-1], 0.008 * tall, 0.003 * tall, bark)
        flow = np.gradient(path, axis=0)
        flow /= np.linalg.norm(flow, axis=1, keepdims=True).clip(1e-9)
        side = np.cross(flow, (0, 1.0, 0.01))
        side /= np.linalg.norm(side, axis=1, keepdims=True).clip(1e-9)
        for sign in (-1, 1):
            foot.append(path)
            along.append(
                sign * side + 0.5 * flow + r.normal(0, 0.12 if feathered else 0.5, path.shape)
            )
            normal.append(
                np.cross(side, flow) + r.normal(0, 0.15 if feathered else 0.4, path.shape)
            )
            grown = leaf * ((1.15 - t[:, 0]) * 1.2 if feathered else r.uniform(0.6, 1.2, number))
            length.append(grown)
            width.append(grown * slender)
    foot, along, normal, length, width = (
        np.concatenate(a) for a in (foot, along, normal, length, width)
    )
    p.leaves(foot, along, normal, length, width, p.greens(len(foot)), shape)


def _palm(p: RandomScene, at: Array, tall: float) -> None:
    """Add a crown of feathered fronds on a short trunk, as of cycads, tree ferns and palms.

    The fronds rise, arch outwards on all sides and hang down. Those towards the camera hide those
    behind the trunk.
    """
    r = p.rng
    trunk = tall * r.choice([0.03, r.uniform(0.1, 0.4)])
    p.cone(
        at,
        at + (0, trunk, 0),
        0.07 * tall,
        0.06 * tall,
        p.make_material(WOOD, scale=0.05 * tall, bump=1.0),
    )
    crown, fronds, number = (
        at + (0, trunk, 0),
        int(r.integers(10, 34)),
        int(r.choice([14, 24, 36, 50])),
    )
    long, sag, leaf = tall * r.uniform(0.6, 1.1), r.uniform(0.2, 1.1), r.uniform(0.06, 0.16)
    t = np.linspace(0, 1, number)[:, None]
    foot, along, normal, length = [], [], [], []
    for k, turn in enumerate(
        np.arange(fronds) * 2.4 + r.normal(0, 0.2, fronds)
    ):  # at the golden angle, old fronds are lowest
        rise = np.interp(
            k / fronds, (0, 1), (r.uniform(-0.2, 0.6), r.uniform(1.2, 1.55))
        ) + r.normal(0, 0.12)
        angle = rise - sag * (0.5 + r.random()) * t[:-1, 0]
        step = np.stack(
            [np.cos(angle) * math.cos(turn), np.sin(angle), np.cos(angle) * math.sin(turn)], axis=1
        )
        leaf_length = long * r.uniform(0.75, 1.1)
        path = crown + np.concatenate([np.zeros((1, 3)), np.cumsum(step, axis=0)]) * leaf_length / (
            number - 1
        )
        stem = p.make_material(PLAIN, _rgb(r.uniform(0.12, 0.3), 0.5, r.uniform(0.15, 0.4)))
        for a, b in zip(
            path[: -number // 3 : number // 3], path[number // 3 :: number // 3], strict=False
        ):
            p.cone(a, b, 0.012 * tall, 0.007 * tall, stem)
        flow = np.gradient(path, axis=0)
        flow /= np.linalg.norm(flow, axis=1, keepdims=True).clip(1e-9)
        side = np.array([-math.sin(turn), 0.0, math.cos(turn)])
        for sign in (-1, 1):
            foot.append(path[1:])
            along.append(
                (sign * side + 0.45 * flow + r.normal(0, 0.06, path.shape) - (0, 0.15, 0))[1:]
            )
            normal.append(np.cross(flow, sign * side)[1:] + r.normal(0, 0.1, (number - 1, 3)))
            length.append(
                leaf_length * leaf * np.sin(math.pi * np.clip(0.12 + 0.83 * t[1:, 0], 0, 1)) ** 0.7
            )
    foot, along, normal, length = (np.concatenate(a) for a in (foot, along, normal, length))
    p.leaves(
        foot,
        along,
        normal,
        length,
        length * r.uniform(0.1, 0.3),
        p.greens(len(foot)),
        r.choice([0.0, 1.0]),
    )


def _flower(p: RandomScene, at: Array, toward: Array, size: float, petals: Array) -> None:
    """Add a blossom that faces `toward`."""
    r = p.rng
    toward = toward / np.linalg.norm(toward)
    side = _perpendicular(toward)
    rings, number = int(r.integers(1, 4)), int(r.integers(5, 14))
    for ring in range(rings):
        angle = np.linspace(0, 2 * math.pi, number, endpoint=False) + ring * 0.4
        out = np.cos(angle)[:, None] * side + np.sin(angle)[:, None] * np.cross(toward, side)
        lift = r.uniform(-0.1, 0.5) + 0.45 * ring
        along = out + lift * toward
        p.leaves(
            np.tile(at, (number, 1)) + 0.1 * size * out,
            along,
            toward - lift * out + r.normal(0, 0.1, out.shape),
            size * (1 - 0.25 * ring),
            size * r.uniform(0.35, 0.8),
            petals,
            r.choice([0.0, 0.5, 1.0]),
        )
    p.ball(
        at + 0.08 * size * toward,
        0.2 * size,
        p.make_material(PLAIN, p.color((0.3, 0.9), (0.4, 1.0), (0.05, 0.18)), bump=1.0),
    )


def _tree(p: RandomScene, at: Vector, tall: float) -> None:
    """Add a tree."""
    r, at = p.rng, np.asarray(at, float)
    bark = p.make_material(
        WOOD, _rgb(r.uniform(0.04, 0.11), 0.4, r.uniform(0.1, 0.4)), scale=0.1 * tall
    )
    trunk = at + (r.normal(0, 0.03 * tall), tall * r.uniform(0.3, 0.55), r.normal(0, 0.03 * tall))
    p.cone(at - (0, 0.1, 0), trunk, 0.035 * tall, 0.022 * tall, bark)
    if r.random() < 0.25:  # a conifer
        leaf = p.greens(1, PLAIN)[0]
        leaf[SCALE] = 0.04 * tall
        leaf[BUMP] = 1.5
        for k in range(5):
            low = tall * (0.2 + 0.16 * k)
            p.cone(
                at + (0, low, 0),
                at + (0, low + 0.28 * tall, 0),
                tall * 0.04 * (6 - k),
                0.002 * tall,
                leaf,
            )
        return
    crown, wide = at + (0, 0.7 * tall, 0), tall * r.uniform(0.2, 0.42)
    for _ in range(int(r.integers(2, 6))):
        p.cone(
            trunk,
            crown + _random_direction(r, 1, 0.2)[0] * wide * 0.7,
            0.02 * tall,
            0.006 * tall,
            bark,
        )
    body = p.greens(9, PLAIN)
    body[:, SCALE], body[:, BUMP] = 0.05 * tall, 2.0
    body[:, FIRST : FIRST + 3] *= 0.6
    spots = crown + _random_direction(r, 9, 0.2) * wide * r.uniform(0.3, 0.75, (9, 1))
    for spot, green in zip(spots, body, strict=False):
        p.ball(spot, wide * r.uniform(0.35, 0.55, 3), green)
    number = int(r.choice([0, 80, 250]))
    if number:
        spot = spots[r.integers(9, size=number)] + _random_direction(r, number) * wide * r.uniform(
            0.4, 0.62, (number, 1)
        )
        p.leaves(
            spot,
            _random_direction(r, number),
            _random_direction(r, number, 0.8),
            wide * 0.16,
            wide * 0.11,
            p.greens(number),
            r.choice([0.0, 1.0]),
        )


def _table(p: RandomScene, at: Vector, tall: float) -> tuple[Array, float]:
    """Add a table. Return the centre of its top and half of its depth."""
    r, at = p.rng, np.asarray(at, float)
    wide, deep, yaw, material = (
        tall * r.uniform(0.8, 2.2),
        tall * r.uniform(0.7, 1.3),
        r.uniform(-0.5, 0.5),
        p.make_material(),
    )
    p.box(at + (0, tall, 0), (wide, 0.05 * tall, deep), material, yaw)
    turn = _turn(yaw)
    for a in (-1, 1):
        for b in (-1, 1):
            p.box(
                at + turn @ (a * 0.45 * wide, 0.48 * tall, b * 0.45 * deep),
                (0.06 * tall, 0.96 * tall, 0.06 * tall),
                material,
                yaw,
            )
    return at + (0, 1.025 * tall, 0), 0.4 * deep


def _chair(p: RandomScene, at: Vector, tall: float) -> None:
    r, at, yaw, material = p.rng, np.asarray(at, float), p.rng.uniform(0, 6.3), p.make_material()
    turn, seat, wide = _turn(yaw), 0.5 * tall, 0.45 * tall
    soft = r.random() < 0.35
    p.box(at + (0, seat, 0), (wide, tall * (0.2 if soft else 0.05), wide), material, yaw)
    p.box(
        at + turn @ (0, 0.75 * tall, -0.48 * wide),
        (wide, 0.5 * tall, tall * (0.15 if soft else 0.04)),
        p.make_material() if r.random() < 0.3 else material,
        yaw,
    )
    for a in (-1, 1):
        if soft:
            p.box(
                at + turn @ (a * 0.5 * wide, 0.55 * tall, 0),
                (0.12 * tall, 0.35 * tall, wide),
                material,
                yaw,
            )
        for b in (-1, 1):
            p.box(
                at + turn @ (a * 0.44 * wide, 0.25 * tall, b * 0.44 * wide),
                (0.05 * tall, 0.5 * tall, 0.05 * tall),
                material,
                yaw,
            )


def _shelf(p: RandomScene, at: Vector, tall: float, yaw: float = 0.0) -> None:
    r, at, material = p.rng, np.asarray(at, float), p.make_material()
    wide, deep, rows, turn = (
        tall * r.uniform(0.35, 0.9),
        tall * 0.16,
        int(r.integers(2, 6)),
        _turn(yaw),
    )
    p.box(at + turn @ (0, tall / 2, -deep / 2), (wide, tall, 0.02 * tall), material, yaw)
    for a in (-1, 1):
        p.box(at + turn @ (a * wide / 2, tall / 2, 0), (0.03 * tall, tall, deep), material, yaw)
    for k in range(rows + 1):
        p.box(at + turn @ (0, tall * k / rows, 0), (wide, 0.025 * tall, deep), material, yaw)
        x = -0.45 * wide
        while k < rows and x < 0.42 * wide:
            thick, high = tall * r.uniform(0.015, 0.06), tall / rows * r.uniform(0.4, 0.85)
            if r.random() < 0.8:
                p.box(
                    at + turn @ (x, tall * k / rows + high / 2, 0),
                    (thick, high, deep * r.uniform(0.4, 0.9)),
                    p.make_material(PLAIN),
                    yaw,
                )
            x += thick * r.choice([1.02, 1.02, 2.0])


def _vessel(p: RandomScene, at: Vector, tall: float) -> None:
    """Add a bottle, cup, vase or bowl made of cones."""
    r, at, material = p.rng, np.asarray(at, float), p.make_material(gloss=p.rng.uniform(0, 1))
    radius, low = [tall * r.uniform(0.1, 0.35)], 0.0
    for fraction in np.diff(np.sort(np.concatenate([[0, 1], r.random(int(r.integers(1, 4)))]))):
        radius.append(
            float(np.clip(radius[-1] * np.exp(r.normal(0, 0.4)), 0.05 * tall, 0.45 * tall))
        )
        p.cone(
            at + (0, low * tall, 0),
            at + (0, (low + fraction) * tall, 0),
            radius[-2],
            radius[-1],
            material,
        )
        low += fraction


def _fruit(p: RandomScene, at: Vector, tall: float) -> None:
    r, material = (
        p.rng,
        p.make_material(
            PLAIN, p.color((0.2, 0.9), (0.4, 0.95)), gloss=p.rng.uniform(0, 0.8), scale=0.3 * tall
        ),
    )
    for _ in range(int(r.integers(1, 6))):
        radius = tall / 2 * r.uniform(0.7, 1.2)
        spot = np.asarray(at) + (r.normal(0, tall * 0.7), radius, r.normal(0, tall * 0.7))
        p.ball(spot, radius * r.uniform(0.85, 1.15, 3), material, r.uniform(0, 6), r.normal(0, 0.4))
        if r.random() < 0.3:
            p.cone(
                spot + (0, 0.8 * radius, 0),
                spot + (r.normal(0, 0.2) * radius, 1.4 * radius, 0),
                0.06 * radius,
                0.04 * radius,
                p.make_material(PLAIN),
            )


def _pile(p: RandomScene, at: Vector, tall: float) -> None:
    """Add a pile of books, boxes or bricks."""
    r, low = p.rng, 0.0
    wide = tall * r.uniform(0.6, 1.6)
    for _ in range(int(r.integers(1, 7))):
        high = tall * r.uniform(0.06, 0.5)
        p.box(
            np.asarray(at) + (r.normal(0, 0.03 * wide), low + high / 2, r.normal(0, 0.03 * wide)),
            (wide * r.uniform(0.6, 1.1), high, wide * r.uniform(0.4, 1.0)),
            p.make_material(),
            r.uniform(-0.6, 0.6),
        )
        low += high


def _figure(p: RandomScene, at: Vector, tall: float) -> None:
    """Add a person, statue or animal made of balls and cones."""
    r, at, yaw = p.rng, np.asarray(at, float), p.rng.normal(0, 1.2) + math.pi
    turn, skin, cloth, legs = (
        _turn(yaw),
        p.make_material(
            PLAIN, _rgb(r.uniform(0.02, 0.12), r.uniform(0.2, 0.6), r.uniform(0.15, 0.85))
        ),
        p.make_material(),
        p.make_material(),
    )
    if r.random() < 0.3:
        cloth = legs = skin
    if r.random() < 0.35:  # on four legs
        long = tall * r.uniform(0.7, 1.3)
        p.ball(
            at + (0, 0.6 * tall, 0), np.array([0.22 * tall, 0.24 * tall, 0.55 * long]), skin, yaw
        )
        head = at + turn @ (0, tall * r.uniform(0.75, 1.0), 0.65 * long)
        p.cone(at + turn @ (0, 0.65 * tall, 0.4 * long), head, 0.14 * tall, 0.1 * tall, skin)
        p.ball(head, np.array([0.13, 0.14, 0.2]) * tall, skin, yaw)
        for a in (-1, 1):
            p.leaves(
                (head + turn @ (a * 0.1 * tall, 0.08 * tall, 0))[None],
                (turn @ (a * 0.4, 1, 0))[None],
                (turn @ (0, 0, 1.0))[None],
                np.array([0.16 * tall]),
                np.array([0.1 * tall]),
                skin,
            )
            for b in (-1, 1):
                p.cone(
                    at + turn @ (a * 0.13 * tall, 0, b * 0.4 * long),
                    at + turn @ (a * 0.12 * tall, 0.55 * tall, b * 0.38 * long),
                    0.05 * tall,
                    0.08 * tall,
                    skin,
                )
        return
    p.cone(
        at + (0, 0.42 * tall, 0),
        at + (0, 0.82 * tall, 0),
        tall * 0.1,
        tall * r.uniform(0.1, 0.15),
        cloth,
    )
    p.ball(at + (0, 0.8 * tall, 0), tall * np.array([0.15, 0.06, 0.09]), cloth, yaw)
    p.ball(
        at + (0, 0.92 * tall, 0),
        tall * np.array([0.065, 0.085, 0.075]) * r.uniform(0.9, 1.6),
        skin,
        yaw,
    )
    if r.random() < 0.8:
        p.ball(
            at + turn @ (0, 0.955 * tall, -0.02 * tall),
            tall * np.array([0.078, 0.07, 0.085]) * r.uniform(0.9, 1.5),
            p.make_material(PLAIN, p.color((0.03, 0.6), (0.0, 0.6)), bump=1.0),
            yaw,
        )
    if r.random() < 0.3:
        p.cone(at, at + (0, 0.5 * tall, 0), tall * r.uniform(0.12, 0.3), 0.1 * tall, legs)
    for a in (-1, 1):
        p.cone(
            at + turn @ (a * 0.07 * tall, 0, r.normal(0, 0.08) * tall),
            at + turn @ (a * 0.06 * tall, 0.48 * tall, 0),
            0.045 * tall,
            0.07 * tall,
            legs,
        )
        hand = at + turn @ (
            a * tall * r.uniform(0.15, 0.35),
            tall * r.uniform(0.4, 1.0),
            tall * r.uniform(-0.1, 0.3),
        )
        elbow = (hand + at + turn @ (a * 0.3 * tall, 0.68 * tall, 0)) / 2
        p.cone(
            at + turn @ (a * 0.15 * tall, 0.79 * tall, 0), elbow, 0.04 * tall, 0.035 * tall, cloth
        )
        p.cone(elbow, hand, 0.035 * tall, 0.025 * tall, cloth if r.random() < 0.5 else skin)
        p.ball(hand, 0.035 * tall, skin)


def _car(p: RandomScene, at: Vector, tall: float) -> None:
    at, yaw = np.asarray(at, float), p.rng.choice([0.0, math.pi / 2]) + p.rng.normal(0, 0.1)
    turn, paint, glass = (
        _turn(yaw),
        p.make_material(PLAIN, p.color((0.05, 0.9), (0, 0.8)), gloss=1.0),
        p.make_material(PLAIN, np.full(3, 0.06), gloss=1.0),
    )
    p.box(at + (0, 0.4 * tall, 0), (1.15 * tall, 0.45 * tall, 2.9 * tall), paint, yaw)
    p.box(at + (0, 0.8 * tall, 0), (1.0 * tall, 0.38 * tall, 1.5 * tall), glass, yaw)
    p.box(at + (0, 1.0 * tall, 0), (0.98 * tall, 0.04 * tall, 1.4 * tall), paint, yaw)
    for a in (-1, 1):
        for b in (-1, 1):
            hub = at + turn @ (a * 0.5 * tall, 0.22 * tall, b * 0.9 * tall)
            p.cone(
                hub,
                hub + turn @ (a * 0.1 * tall, 0, 0),
                0.22 * tall,
                0.22 * tall,
                p.make_material(PLAIN, np.full(3, 0.03)),
            )


def _heap(p: RandomScene, at: Vector, tall: float) -> None:
    """Add an object of random shapes."""
    r, at, material = p.rng, np.asarray(at, float), p.make_material()
    for _ in range(int(r.integers(2, 9))):
        spot, size = (
            at + (r.normal(0, 0.25) * tall, r.uniform(0.1, 0.8) * tall, r.normal(0, 0.25) * tall),
            tall * r.uniform(0.08, 0.4, 3),
        )
        item_material = material if r.random() < 0.6 else p.make_material()
        choice = r.integers(3)
        if choice == 0:
            p.box(spot, 1.6 * size, item_material, r.uniform(0, 6), r.normal(0, 0.5))
        elif choice == 1:
            p.ball(spot, size, item_material, r.uniform(0, 6), r.normal(0, 0.5))
        else:
            p.cone(
                spot,
                spot + _random_direction(r, 1)[0] * size.sum(),
                size[0] * 0.6,
                size[1] * 0.6,
                item_material,
            )


SMALL: tuple[Callable, ...] = (_vessel, _fruit, _pile, _heap, _plant, _figure)


def _litter(
    p: RandomScene,
    center: Vector,
    wide: float,
    number: int,
    tall: tuple[float, float],
    builders: tuple[Callable, ...] = SMALL,
) -> None:
    """Add objects around `center`, each where there is room."""
    r, occupied = p.rng, []
    for _ in range(number):
        size = np.exp(r.uniform(*np.log(tall)))
        spot = np.array([r.uniform(-wide, wide), 0, r.uniform(-wide, wide)])
        if all(
            np.linalg.norm(spot - position) > 0.4 * (size + room) for position, room in occupied
        ):
            occupied.append((spot, size))
            builders[r.integers(len(builders))](p, np.asarray(center) + spot, size)


def _wall(
    p: RandomScene, distance: float, wide: float, high: float, material: Array, yaw: float = 0.0
) -> None:
    """Add a wall across the view at some distance, rotated a little."""
    p.box(_turn(yaw) @ (0, high / 2, distance), (wide, high, 0.1), material, yaw)


# Scenes


def _room(p: RandomScene) -> None:
    r = p.rng
    wide, deep, high = r.uniform(2.5, 8), r.uniform(3, 12), r.uniform(2.2, 3.6)
    floor = p.make_material(
        r.choice([WOOD, BRICKS, CHECKS, PLAIN, PHOTO]), scale=r.uniform(0.1, 0.5)
    )
    walls = [
        p.make_material(
            r.choice([PLAIN, PLAIN, PLAIN, STRIPES, BRICKS, PHOTO]),
            p.color((0.25, 0.95), (0, 0.4)),
            scale=r.uniform(0.15, 1),
        )
        for _ in range(2)
    ]
    p.box((0, -0.05, 0), (wide, 0.1, deep), floor)
    p.box(
        (0, high + 0.05, 0),
        (wide, 0.1, deep),
        p.make_material(PLAIN, p.color((0.6, 0.95), (0, 0.1))),
    )
    for sign in (-1, 1):
        p.box((sign * (wide / 2 + 0.05), high / 2, 0), (0.1, high, deep), walls[0])
        p.box(
            (0, high / 2, sign * (deep / 2 + 0.05)),
            (wide, high, 0.1),
            walls[1] if r.random() < 0.5 else walls[0],
        )
        p.box((sign * (wide / 2 - 0.02), 0.06, 0), (0.04, 0.12, deep), p.make_material(PLAIN))
    for _ in range(int(r.integers(0, 7))):  # windows, doors and pictures
        size, glow = (
            (r.uniform(0.4, 1.6), r.uniform(0.4, 1.4)),
            r.choice([0.0, 1.0]) * r.uniform(0.3, 1.2),
        )
        side, along, up = r.integers(4), r.uniform(-0.4, 0.4), r.uniform(0.9, high - 0.6)
        if r.random() < 0.3:
            size, up, glow = (0.9, 2.0), 1.0, 0.0
        hung = p.make_material(
            PHOTO if r.random() < 0.7 else None, scale=max(size) * 0.8, glow=glow
        )
        spot = (
            (along * wide, up, (1 - 2 * (side % 2)) * (deep / 2 - 0.01))
            if side < 2
            else ((1 - 2 * (side % 2)) * (wide / 2 - 0.01), up, along * deep)
        )
        extent = (size[0], size[1], 0.05) if side < 2 else (0.05, size[1], size[0])
        p.box(
            spot,
            np.array(extent) * (1.08, 1.08, 1.0)
            if side < 2
            else np.array(extent) * (1.0, 1.08, 1.08),
            p.make_material(PLAIN),
        )
        p.box(
            spot,
            np.array(extent) * (1, 1, 1.6) if side < 2 else np.array(extent) * (1.6, 1, 1),
            hung,
        )
    if r.random() < 0.5:
        p.box(
            (r.normal(0, 0.3), 0.01, r.normal(0, 0.5)),
            (wide * 0.5, 0.02, deep * 0.35),
            p.make_material(scale=0.3),
            r.normal(0, 0.2),
        )
    for _ in range(int(r.integers(1, 4))):
        top, half = _table(
            p, (r.uniform(-0.3, 0.3) * wide, 0, r.uniform(-0.3, 0.4) * deep), r.uniform(0.4, 0.85)
        )
        _litter(p, top, half, int(r.integers(0, 6)), (0.08, 0.35))
    for _ in range(int(r.integers(0, 6))):
        _chair(
            p,
            (r.uniform(-0.45, 0.45) * wide, 0, r.uniform(-0.35, 0.45) * deep),
            r.uniform(0.75, 1.1),
        )
    for _ in range(int(r.integers(0, 4))):
        if r.random() < 0.5:
            _shelf(
                p, (r.uniform(-0.4, 0.4) * wide, 0, deep / 2 - 0.25), r.uniform(0.8, 2.1), math.pi
            )
        else:
            _shelf(
                p,
                (-wide / 2 + 0.2, 0, r.uniform(-0.3, 0.4) * deep),
                r.uniform(0.8, 2.1),
                math.pi / 2,
            )
    for _ in range(int(r.integers(0, 3))):
        (_plant, _figure, _pile, _heap)[r.integers(4)](
            p, (r.uniform(-0.42, 0.42) * wide, 0, r.uniform(-0.3, 0.42) * deep), r.uniform(0.5, 1.7)
        )
    if r.random() < 0.5:
        _cupboard(p, (r.choice([-1, 1]) * (wide / 2 - 0.3), 0, r.uniform(-0.2, 0.45) * deep))
    p.eye = np.array(
        [r.uniform(-0.35, 0.35) * wide, r.uniform(0.7, 1.8), -deep * r.uniform(0.25, 0.48)]
    )
    p.aim = np.array([r.uniform(-0.4, 0.4) * wide, r.uniform(0.2, 1.6), deep * r.uniform(0, 0.45)])
    if r.random() < 0.2:
        p.aim = p.eye + (_random_direction(r, 1) * (1, 0.4, 1))[0]
    p.fov = r.uniform(45, 80)
    p.set_lamp((r.uniform(-0.4, 0.4) * wide, high - 0.2, r.uniform(-0.4, 0.4) * deep))


def _cupboard(p: RandomScene, at: Vector) -> None:
    r, at, body = p.rng, np.asarray(at, float), p.make_material()
    wide, high, deep = r.uniform(0.6, 2.5), r.uniform(0.8, 2.2), r.uniform(0.4, 0.7)
    p.box(at + (0, high / 2, 0), (deep, high, wide), body)
    rows, columns = int(r.integers(1, 5)), int(r.integers(1, 5))
    front = p.make_material(base_color=body[FIRST : FIRST + 3] * r.uniform(0.7, 1.3))
    for i in range(rows):
        for j in range(columns):
            spot = at + (0, high * (i + 0.5) / rows, wide * ((j + 0.5) / columns - 0.5))
            p.box(spot, (deep + 0.03, 0.92 * high / rows, 0.94 * wide / columns), front)
            p.box(spot, (deep + 0.08, 0.02, 0.1), p.make_material(PLAIN, gloss=1.0))
    _litter(p, at + (0, high, 0), 0.2, int(r.integers(0, 3)), (0.1, 0.4))


def _street(p: RandomScene) -> None:
    r = p.rng
    half = r.uniform(3, 9)
    p.box(
        (0, -0.5, 0),
        (2000, 1, 2000),
        p.make_material(PLAIN, p.color((0.15, 0.5), (0, 0.2)), scale=2.0),
    )
    p.box(
        (0, -0.45, 100),
        (half * 1.3, 1, 400),
        p.make_material(
            r.choice([PLAIN, BRICKS, MARBLE]), p.color((0.08, 0.35), (0, 0.1)), scale=0.4
        ),
    )
    for sign in (-1, 1):
        if r.random() < 0.15:
            continue
        z, style = -20.0, p.make_material(FACADE, scale=r.uniform(2, 4))
        while z < 140:
            wide, high, deep = r.uniform(6, 22), r.uniform(5, 26), r.uniform(6, 15)
            if r.random() < 0.7:
                style = p.make_material(
                    r.choice([FACADE, FACADE, BRICKS, PLAIN]),
                    p.color((0.15, 0.9), (0, 0.5)),
                    p.color((0.02, 0.4), (0, 0.3)),
                    scale=r.uniform(1.5, 4),
                )
            x = sign * (half + 2 + deep / 2 + r.uniform(0, 3))
            p.box((x, high / 2, z + wide / 2), (deep, high, wide), style)
            if r.random() < 0.5:  # a roof
                p.add(
                    BOX,
                    (x, high, z + wide / 2),
                    _turn(0, math.pi / 4) * (np.array([deep * 0.36, deep * 0.36, wide * 0.51])),
                    p.make_material(BRICKS, p.color((0.1, 0.5), (0.2, 0.7), (0, 0.1))),
                )
            for _ in range(int(r.integers(0, 4))):
                p.box(
                    (
                        x - sign * deep / 2,
                        r.uniform(0.8, min(high, 6)),
                        z + r.uniform(0.1, 0.9) * wide,
                    ),
                    (r.uniform(0.2, 1.6), r.uniform(0.2, 2), r.uniform(0.5, 3)),
                    p.make_material(),
                )
            z += wide * r.choice([1.0, 1.0, 1.3])
    for _ in range(int(r.integers(2, 14))):
        side, z = r.choice([-1, 1]), np.exp(r.uniform(np.log(4), np.log(90)))
        choice = r.integers(5)
        if choice == 0:
            _tree(p, (side * (half + 0.5), 0, z), r.uniform(3, 9))
        elif choice == 1:
            _car(p, (side * half * r.uniform(0.4, 0.9), 0.05, z), r.uniform(1.3, 2))
        elif choice == 2:
            post = r.uniform(2.5, 7)
            p.cone(
                (side * (half + 0.3), 0, z),
                (side * (half + 0.3), post, z),
                0.08,
                0.05,
                p.make_material(PLAIN),
            )
            p.box((side * (half + 0.3), post, z), r.uniform(0.2, 0.9, 3), p.make_material())
        elif choice == 3:
            _figure(p, (side * r.uniform(0, half + 1), 0, z), r.uniform(1.5, 1.9))
        else:
            _heap(p, (side * (half + 0.5), 0, z), r.uniform(0.5, 1.6))
    if r.random() < 0.4:  # closed at the end
        _wall(
            p,
            r.uniform(25, 120),
            80,
            r.uniform(6, 30),
            p.make_material(FACADE, scale=r.uniform(2, 4)),
            r.normal(0, 0.2),
        )
    p.eye = np.array([r.uniform(-0.6, 0.6) * half, np.exp(r.uniform(np.log(1.2), np.log(6))), 0])
    p.aim = p.eye + (r.normal(0, 0.35), r.normal(-0.03, 0.12), 1)
    p.fov = r.uniform(40, 75)
    p.set_sky()


def _square(p: RandomScene) -> None:
    """Build a building across a lawn or a square: a castle, church or house."""
    r = p.rng
    distance, wide = r.uniform(12, 50), r.uniform(8, 40)
    p.box(
        (0, -0.5, 0),
        (2000, 1, 2000),
        p.make_material(
            r.choice([PLAIN, BRICKS, CHECKS]),
            p.color((0.1, 0.6), (0, 0.5), (0.1, 0.35)),
            scale=r.uniform(0.3, 2),
        ),
    )
    if r.random() < 0.6:
        p.box(
            (r.normal(0, 3), -0.48, distance / 2),
            (r.uniform(2, 8), 1, distance),
            p.make_material(PLAIN, p.color((0.4, 0.8), (0, 0.3))),
            r.normal(0, 0.2),
        )
    yaw, style = (
        r.normal(0, 0.35),
        p.make_material(
            FACADE, p.color((0.4, 0.9), (0, 0.4)), p.color((0.03, 0.3)), scale=r.uniform(2, 4)
        ),
    )
    roof, turn = p.make_material(BRICKS, p.color((0.08, 0.5), (0.1, 0.7)), scale=0.4), _turn(yaw)
    for part in range(int(r.integers(1, 6))):
        size = np.array([wide * r.uniform(0.2, 0.8), r.uniform(5, 18), r.uniform(6, 14)])
        spot = np.array([0, 0, distance]) + turn @ (
            wide * r.normal(0, 0.35) * (part > 0),
            size[1] / 2,
            7 + r.normal(0, 3) * (part > 0),
        )
        p.box(spot, size, style, yaw)
        top = spot + (0, size[1] / 2, 0)
        if r.random() < 0.6:
            p.add(
                BOX,
                top,
                (_turn(yaw) @ _turn(math.pi / 2) @ _turn(0, math.pi / 4))
                * np.array([size[2] * 0.36, size[2] * 0.36, size[0] * 0.51]),
                roof,
            )
        elif r.random() < 0.5:
            p.cone(top, top + (0, size[0] * r.uniform(0.4, 1), 0), size[0] * 0.5, 0.05, roof)
    for _ in range(int(r.integers(2, 12))):
        spot = (r.normal(0, 0.5 * wide), 0, distance * r.uniform(0.15, 1.3))
        (_tree, _figure, _heap, _plant, _car)[r.choice(5, p=[0.4, 0.2, 0.15, 0.15, 0.1])](
            p, spot, r.choice([1.7, 1.2, 5.0, 9.0])
        )
    p.eye, p.aim = (
        np.array([r.normal(0, 3), r.uniform(1.2, 3), 0.0]),
        np.array([r.normal(0, 3), r.uniform(1, 7), distance]),
    )
    p.fov = r.uniform(40, 75)
    p.set_sky()


def _hills(p: RandomScene) -> None:
    r = p.rng
    grass = (
        p.greens(1, PLAIN)[0]
        if r.random() < 0.7
        else p.make_material(PLAIN, p.color((0.2, 0.9), (0, 0.4), (0.05, 0.15)))
    )
    grass[SCALE], grass[BUMP] = r.uniform(0.3, 3), r.uniform(0.3, 1.5)
    p.box((0, -0.5, 0), (8000, 1, 8000), grass)
    for _ in range(int(r.integers(0, 12))):  # hills and mountains
        z = np.exp(r.uniform(np.log(15), np.log(1500)))
        wide = z * r.uniform(0.2, 1.2)
        hill_material = (
            grass.copy()
            if r.random() < 0.5
            else p.make_material(r.choice([PLAIN, MARBLE]), p.color((0.1, 0.6), (0, 0.4)), bump=1.5)
        )
        hill_material[SCALE] = wide * r.uniform(0.02, 0.2)
        p.ball(
            (r.normal(0, z), -0.3 * wide * r.random(), z),
            (wide, wide * r.uniform(0.15, 0.6), wide * r.uniform(0.5, 1)),
            hill_material,
            r.uniform(0, 6),
        )
    if r.random() < 0.3:  # water or a path
        p.box(
            (r.normal(0, 10), -0.47, 60),
            (r.uniform(2, 60), 1, r.uniform(20, 110)),
            p.make_material(PLAIN, p.color((0.1, 0.7), (0, 0.5), (0.5, 0.65)), gloss=1.0),
            r.normal(0, 0.5),
        )
    for _ in range(int(r.integers(0, 16))):
        z = np.exp(r.uniform(np.log(3), np.log(150)))
        spot = (r.normal(0, 0.5) * z, 0, z)
        (_tree, _rock, _bush, _figure)[r.choice(4, p=[0.5, 0.2, 0.24, 0.06])](
            p, spot, r.uniform(1.2, 2) if z < 12 and r.random() < 0.5 else r.uniform(2, 12)
        )
    number = int(r.choice([0, 300, 900]))
    if number:  # grass
        z = np.exp(r.uniform(np.log(0.6), np.log(9), number))
        foot = np.stack([r.normal(0, 0.6, number) * z, np.zeros(number), z], axis=1)
        tall = r.uniform(0.05, 0.5)
        p.leaves(
            foot,
            _random_direction(r, number, 2.5),
            _random_direction(r, number),
            tall * r.uniform(0.5, 1.2, number),
            tall * 0.08,
            p.greens(number),
            1.0,
        )
        for k in range(int(r.choice([0, 12]))):
            _flower(
                p,
                foot[k] + (0, tall, 0),
                _random_direction(r, 1, 1.0)[0],
                0.15 * tall,
                p.make_material(VEINS, p.color((0.4, 1), (0.3, 1)), scale=1.0),
            )
    p.eye = np.array([0, np.exp(r.uniform(np.log(0.3), np.log(12))), 0.0])
    p.aim = p.eye + (r.normal(0, 0.2), r.normal(-0.05, 0.15), 1)
    p.fov = r.uniform(35, 75)
    p.set_sky()


def _rock(p: RandomScene, at: Vector, tall: float) -> None:
    r, rock_material = p.rng, p.make_material(PLAIN, p.color((0.15, 0.7), (0, 0.25)), bump=1.5)
    for _ in range(int(r.integers(1, 5))):
        p.ball(
            np.asarray(at) + (r.normal(0, 0.4) * tall, 0.1 * tall, r.normal(0, 0.4) * tall),
            tall * r.uniform(0.2, 0.6, 3),
            rock_material,
            r.uniform(0, 6),
            r.normal(0, 0.4),
        )


def _bush(p: RandomScene, at: Vector, tall: float) -> None:
    r, number = p.rng, int(p.rng.integers(40, 300))
    at, wide = np.asarray(at, float), tall * np.array([0.6, 0.5, 0.6])
    dark = p.greens(1, PLAIN)[0]
    dark[FIRST : FIRST + 3] *= 0.4
    p.ball(at + (0, 0.4 * tall, 0), 0.85 * wide, dark)
    out = _random_direction(r, number)
    leaf = tall * r.uniform(0.06, 0.2)
    p.leaves(
        at + (0, 0.4 * tall, 0) + out * wide * r.uniform(0.75, 1.05, (number, 1)),
        out + _random_direction(r, number),
        out + 0.5 * _random_direction(r, number),
        leaf,
        leaf * r.uniform(0.3, 0.8),
        p.greens(number),
        r.choice([0.0, 1.0, 3.0]),
    )


def _garden(p: RandomScene) -> None:
    """Build leaves, ferns and flowers from close by, sometimes from above.

    Behind them are more plants, a wall or an open landscape.
    """
    r = p.rng
    distance = np.exp(r.uniform(np.log(0.25), np.log(1.5)))
    behind = distance * np.exp(r.uniform(np.log(1.4), np.log(12)))
    p.box(
        (0, -0.05, 0),
        (60, 0.1, 60),
        p.make_material(
            PLAIN, p.color((0.05, 0.5), (0, 0.6), (0.05, 0.35)), scale=0.1 * distance, bump=1.5
        ),
    )
    choice = r.random()
    if choice < 0.35:  # a hedge, a bed
        number = int(r.integers(250, 900))
        foot = np.stack(
            [
                r.uniform(-1.2, 1.2, number) * behind,
                r.uniform(0, 1.6, number) * behind,
                behind * r.uniform(0.85, 1.25, number),
            ],
            axis=1,
        )
        leaf = behind * r.uniform(0.06, 0.25)
        p.leaves(
            foot,
            _random_direction(r, number),
            _random_direction(r, number) + (0, 0.6, -0.8),
            leaf * r.uniform(0.6, 1.3, number),
            leaf * r.uniform(0.3, 0.9),
            p.greens(number),
            r.choice([0.0, 1.0, 3.0]),
        )
        _wall(
            p,
            1.35 * behind,
            8 * behind,
            5 * behind,
            p.greens(1, PLAIN)[0] * np.where(np.arange(COLUMNS) < SCALE, 0.5, 1),
        )
    elif choice < 0.7:
        _wall(
            p, behind, 8 * behind, 5 * behind, p.make_material(scale=0.4 * behind), r.normal(0, 0.3)
        )
        for _ in range(int(r.integers(0, 5))):
            p.box(
                (
                    r.normal(0, 0.7) * behind,
                    r.uniform(0, 1.5) * behind,
                    behind * r.uniform(0.7, 0.95),
                ),
                behind * r.uniform(0.05, 0.6, 3),
                p.make_material(),
                r.normal(0, 0.3),
            )
    else:
        for _ in range(int(r.integers(1, 7))):
            (_tree, _bush, _rock)[r.integers(3)](
                p,
                (r.normal(0, 0.8) * 3 * behind, 0, 3 * behind * r.uniform(0.6, 2)),
                behind * r.uniform(0.5, 3),
            )
    height = distance * r.uniform(0.3, 1.2)
    kind = r.random()
    center = np.array([r.normal(0, 0.1) * distance, 0, distance])
    if kind < 0.5:  # ferns and bushes
        for k in range(int(r.integers(1, 5))):
            spot = center + (k > 0) * np.array(
                [r.normal(0, 0.5) * distance, 0, abs(r.normal(0, 0.5)) * (behind - distance)]
            )
            _sprig(
                p,
                spot + (0, 0.3 * height * r.random(), 0),
                distance * r.uniform(0.4, 1.0),
                int(r.integers(6, 18)),
                distance * r.uniform(0.06, 0.25),
                r.uniform(0.3, 1.5),
            )
    else:
        petals = p.make_material(VEINS, p.color((0.35, 1.0), (0.1, 1.0)), scale=1.0)
        stem = p.greens(1, PLAIN)[0]
        for k in range(int(r.integers(1, 9))):
            spot = center + (k > 0) * np.array(
                [r.normal(0, 0.4) * distance, 0, r.normal(0.2, 0.35) * distance]
            )
            top = spot + (0, height * r.uniform(0.8, 1.2), 0)
            p.cone(spot, top, 0.012 * distance, 0.008 * distance, stem)
            _flower(
                p,
                top,
                np.array([0, 0.6, -1]) + r.normal(0, 0.5, 3),
                distance * r.uniform(0.06, 0.3),
                petals,
            )
            if r.random() < 0.6:
                _sprig(
                    p,
                    spot,
                    height * 0.9,
                    int(r.integers(2, 7)),
                    distance * r.uniform(0.08, 0.3),
                    1.5,
                )
    if r.random() < 0.35:  # something before everything
        number = int(r.integers(3, 25))
        foot = (
            np.stack(
                [
                    r.normal(0, 0.35, number),
                    height / distance + r.normal(0, 0.35, number),
                    r.uniform(0.3, 0.7, number),
                ],
                axis=1,
            )
            * distance
        )
        p.leaves(
            foot,
            _random_direction(r, number),
            _random_direction(r, number) + (0, 0.3, -1),
            0.2 * distance,
            0.1 * distance,
            p.greens(number),
            1.0,
        )
    pitch = r.choice([r.uniform(-0.2, 0.5), r.uniform(0.5, 1.4)], p=[0.75, 0.25])
    p.aim = center + (0, height * r.uniform(0.5, 1.0), 0)
    p.eye = p.aim + distance * r.uniform(0.8, 1.1) * np.array(
        [r.normal(0, 0.15), math.sin(pitch), -math.cos(pitch)]
    )
    p.eye[1] = max(p.eye[1], 0.03)
    p.fov = r.uniform(28, 65)
    p.set_sky() if choice > 0.5 or r.random() < 0.6 else p.set_lamp(
        (r.normal(0, distance), 2.5 * height + distance, r.normal(0, distance))
    )


def _thicket(p: RandomScene) -> None:
    """Build a picture full of leaves, with whorls, fronds and blossoms.

    Gaps show soil or shade. The lower part of the picture is far as often as near, as in a flower
    bed from a path, or a hedge from within.
    """
    r = p.rng
    distance = np.exp(r.uniform(np.log(0.3), np.log(2.5)))
    slope, swell = r.normal(0, 0.35, 2), r.uniform(0.03, 0.25)
    waves, phases = r.normal(0, 2.2, (4, 2)), r.uniform(0, 2 * math.pi, 4)

    def on(n: int, deep: float = 0.06, wide: float = 0.8) -> Array:
        """Draw points on the tilted, wavy sheet of leaves in front of the camera."""
        flat = r.uniform(-wide, wide, (n, 2))
        relief = (
            slope[0] * flat[:, 0]
            + slope[1] * flat[:, 1]
            + swell * np.sin(flat @ waves.T + phases).mean(1) * 2
            + r.normal(0, deep, n)
        )
        return distance * np.stack([flat[:, 0], flat[:, 1], np.maximum(1 + relief, 0.25)], axis=1)

    facing = np.array([slope[0], slope[1], -1.0])
    facing /= np.linalg.norm(facing)
    side = _perpendicular(facing)
    behind = distance * r.uniform(1.25, 2.2)
    ground = (
        p.make_material(
            PLAIN, p.color((0.01, 0.18), (0, 0.6), (0.05, 0.35)), scale=0.1 * distance, bump=1.5
        )
        if r.random() < 0.8
        else p.make_material(scale=0.3 * distance)
    )
    p.add(
        BOX,
        (0, 0, behind),
        np.stack([side, np.cross(side, facing), facing], axis=1)
        * (20 * behind, 20 * behind, 0.02 * distance),
        ground,
    )
    shape, slender, leaf = (
        r.choice([0.0, 1.0, 1.0, 3.0]),
        r.uniform(0.15, 0.8),
        distance * r.uniform(0.08, 0.35),
    )
    for spot in on(int(r.integers(12, 110))):  # whorls
        number = int(r.integers(3, 11))
        direction = facing + r.normal(0, 0.45, 3)
        direction /= np.linalg.norm(direction)
        axis = _perpendicular(direction)
        angle = (
            np.linspace(0, 2 * math.pi, number, endpoint=False)
            + r.uniform(0, 6)
            + r.normal(0, 0.2, number)
        )
        out = np.cos(angle)[:, None] * axis + np.sin(angle)[:, None] * np.cross(direction, axis)
        long = leaf * r.uniform(0.6, 1.2, number)
        p.leaves(
            np.tile(spot, (number, 1)),
            out + r.uniform(-0.3, 0.6) * direction,
            direction + r.normal(0, 0.2, out.shape),
            long,
            long * slender,
            p.greens(number),
            shape,
        )
        p.cone(
            spot - 0.6 * leaf * direction,
            spot,
            0.03 * leaf,
            0.02 * leaf,
            p.make_material(PLAIN, _rgb(r.uniform(0.05, 0.3), 0.5, r.uniform(0.05, 0.3))),
        )
    number = int(r.choice([0, 100, 400]))
    if number:
        long = leaf * r.uniform(0.3, 1.0, number)
        p.leaves(
            on(number, 0.12),
            _random_direction(r, number),
            facing + _random_direction(r, number),
            long,
            long * slender,
            p.greens(number),
            shape,
        )
    for spot in on(int(r.choice([0, 0, 2, 6])), 0.15):
        _sprig(
            p,
            spot,
            distance * r.uniform(0.3, 0.7),
            int(r.integers(4, 14)),
            distance * r.uniform(0.04, 0.15),
            r.uniform(-0.8, 1.0),
            bool(r.random() < 0.7),
        )
    petals, size = (
        p.make_material(VEINS, p.color((0.4, 1.0), (0.1, 1.0)), scale=1.0),
        distance * r.uniform(0.05, 0.25),
    )
    for spot in on(int(r.choice([0, 1, 1, 3, 8])), 0.02, 0.45):
        spot = spot * (1 - r.uniform(0.05, 0.3))
        heads = int(r.choice([1, 5, 11]))
        for _ in range(heads):
            out = facing + (heads > 1) * _random_direction(r, 1)[0] * 0.9
            _flower(p, spot + (heads > 1) * size * 1.2 * out, out, size, petals)
    for _ in range(int(r.choice([0, 0, 0, 1, 4]))):  # twigs, near and across
        a, b = on(2, 0.3)
        p.cone(
            a * r.uniform(0.6, 1),
            b * r.uniform(0.6, 1),
            0.012 * distance,
            0.008 * distance,
            p.make_material(WOOD, scale=0.05 * distance),
        )
    p.eye, p.aim = np.zeros(3), np.array([r.normal(0, 0.1), r.normal(0, 0.1), 1.0])
    p.roll, p.fov = r.normal(0, 0.1), r.uniform(35, 70)
    p.set_sky()


def _planter(p: RandomScene) -> None:
    """Build another scene with a big plant in the foreground.

    The plant is in a trough, in a pot or on the floor.
    """
    r = p.rng
    (_room, _room, _street, _square, _hills)[r.integers(5)](p)
    if p.eye[1] > 2:
        p.eye[1] = r.uniform(0.8, 2)
    ahead = (p.aim - p.eye) * (1, 0, 1)
    ahead /= max(np.linalg.norm(ahead), 1e-6)
    distance, side_axis = r.uniform(0.8, 2.8), np.cross((0, 1.0, 0), ahead)
    tall = distance * r.uniform(0.45, 1.1)
    low = max(0.0, p.eye[1] - tall * r.uniform(0.3, 0.9))
    foot = p.eye + distance * ahead + r.normal(0, 0.15) * distance * side_axis
    foot[1] = low
    if low > 0.05:
        if r.random() < 0.7:  # a trough that may run on to one side
            wide, shift = (
                distance * np.exp(r.uniform(np.log(0.3), np.log(3))),
                r.choice([0, -0.4, 0.4]),
            )
            yaw = math.atan2(ahead[0], ahead[2]) + r.normal(0, 0.35)
            p.box(
                foot + wide * shift * side_axis - (0, low / 2, 0),
                (wide, low, distance * r.uniform(0.25, 0.7)),
                p.make_material(),
                yaw,
            )
        else:
            p.cone(
                foot - (0, low, 0),
                foot,
                distance * r.uniform(0.06, 0.15),
                distance * r.uniform(0.1, 0.25),
                p.make_material(),
            )
    if r.random() < 0.5:
        p.cone(
            foot,
            foot + (0, 0.3 * tall, 0),
            0.06 * tall,
            0.04 * tall,
            p.make_material(WOOD, scale=0.05 * tall),
        )
    for k in range(int(r.integers(1, 4))):
        spot = (
            foot
            + (k > 0)
            * (r.normal(0, 0.45) * distance * side_axis + r.normal(0, 0.2) * distance * ahead)
            + (0, 0.25 * tall * r.random(), 0)
        )
        leaf_height = tall * (r.uniform(0.3, 0.7) if k else r.uniform(0.7, 1.0))
        if not k and r.random() < 0.5:
            _palm(p, spot, leaf_height)
            continue
        _sprig(
            p,
            spot,
            leaf_height,
            int(r.integers(8, 32)),
            leaf_height * r.uniform(0.08, 0.3),
            r.uniform(0.1, 1.3),
            bool(r.random() < 0.65),
        )
    p.aim = p.eye + distance * (ahead + r.normal(0, 0.12) * side_axis)
    p.aim[1] = low + tall * r.uniform(0.15, 0.8)
    p.fov = r.uniform(40, 70)


def _still(p: RandomScene) -> None:
    """Build objects on a table, from the front to straight above."""
    r = p.rng
    size = np.exp(r.uniform(np.log(0.15), np.log(0.8)))
    p.box(
        (0, -0.05 * size, 0),
        (size * r.uniform(4, 20), 0.1 * size, size * r.uniform(3, 12)),
        p.make_material(scale=size * r.uniform(0.3, 2)),
        r.uniform(-0.7, 0.7),
    )
    p.box((0, -1.2, 0), (60, 0.1, 60), p.make_material())
    back = size * r.uniform(3, 14)
    if r.random() < 0.7:
        _wall(p, back, 50, 30, p.make_material(scale=0.5 * back), r.normal(0, 0.4))
        for _ in range(int(r.integers(0, 7))):
            p.box(
                (r.normal(0, 0.5) * back, r.uniform(-0.3, 0.8) * back, back * r.uniform(0.6, 0.97)),
                back * r.uniform(0.05, 0.6, 3),
                p.make_material(),
                r.normal(0, 0.4),
            )
    else:
        _litter(
            p,
            (0, -1.15, 2.5 * back),
            2 * back,
            10,
            (0.3 * back, 1.5 * back),
            (_heap, _chair, _pile, _plant),
        )
    if r.random() < 0.3:
        p.cone(
            (0, 0, 0),
            (0, 0.03 * size, 0),
            size * r.uniform(0.5, 1),
            size,
            p.make_material(gloss=0.6),
        )
    builders = SMALL if r.random() < 0.6 else (SMALL[r.integers(len(SMALL))],)
    _litter(
        p,
        (0, 0, 0),
        size * r.uniform(0.3, 1.6),
        int(r.integers(1, 16)),
        (0.25 * size, size),
        builders,
    )
    pitch = r.choice([r.uniform(0.02, 0.5), r.uniform(0.5, 1.55)], p=[0.5, 0.5])
    p.aim = np.array([r.normal(0, 0.15), r.uniform(0, 0.5), r.normal(0, 0.15)]) * size
    p.eye = p.aim + size * r.uniform(1.3, 3.5) * np.array(
        [r.normal(0, 0.1), math.sin(pitch), -math.cos(pitch)]
    )
    p.fov = r.uniform(28, 60)
    p.set_lamp(
        np.array([r.normal(0, 2), r.uniform(1.5, 4), r.normal(-1, 1.5)]) * size
    ) if r.random() < 0.7 else p.set_sky()


def _portrait(p: RandomScene) -> None:
    """Build one or a few figures in front of a wall, a landscape or a street."""
    r = p.rng
    scale = r.choice([0.3, 1.0, 1.0])
    draw = r.random()
    if draw < 0.35:
        _wall(
            p,
            scale * r.uniform(1.5, 8),
            60,
            40,
            p.make_material(scale=scale * r.uniform(0.3, 3)),
            r.normal(0, 0.3),
        )
        p.box((0, -0.5, 0), (500, 1, 500), p.make_material(scale=scale * r.uniform(0.2, 1)))
    elif draw < 0.7:
        _hills(p)
    else:
        _street(p)
    for k in range(int(r.choice([1, 1, 2, 4]))):
        _figure(
            p,
            ((k > 0) * r.normal(0, 0.9) * scale, 0, scale * (2.2 + (k > 0) * r.uniform(0, 2))),
            1.7 * scale * r.uniform(0.85, 1.1),
        )
    if r.random() < 0.4:
        _litter(p, (0, 0, 2.5 * scale), 1.5 * scale, 5, (0.2 * scale, 0.9 * scale))
    p.eye = np.array([r.normal(0, 0.3), r.uniform(0.6, 1.8), r.uniform(-0.5, 1.0)]) * scale
    p.aim = np.array([r.normal(0, 0.2), r.uniform(0.7, 1.6), 2.3]) * scale
    p.fov = r.uniform(28, 60)
    if draw < 0.35 and r.random() < 0.5:
        p.set_lamp(np.array([r.normal(0, 1.5), r.uniform(2, 4), r.uniform(-1, 1)]) * scale)
    else:
        p.set_sky()


def _clutter(p: RandomScene) -> None:
    """Build shapes of all sizes in the air. Their depth does not depend on their position."""
    r = p.rng
    _wall(p, 30, 200, 200, p.make_material(PHOTO, scale=20.0)) if r.random() < 0.7 else None
    for _ in range(int(r.integers(5, 40))):
        z = np.exp(r.uniform(np.log(0.8), np.log(25)))
        _heap(p, (r.normal(0, 0.5) * z, r.normal(0, 0.4) * z + 1, z), z * r.uniform(0.1, 0.6))
    p.eye, p.aim = np.array([0.0, 1, 0]), np.array([0.0, 1, 1])
    p.roll = r.uniform(-0.5, 0.5)
    p.fov = r.uniform(35, 70)
    p.set_sky()


SCENE_KINDS: dict[str, tuple[Callable[[RandomScene], None], float]] = {
    "room": (_room, 0.18),
    "street": (_street, 0.11),
    "square": (_square, 0.07),
    "hills": (_hills, 0.08),
    "garden": (_garden, 0.11),
    "thicket": (_thicket, 0.12),
    "planter": (_planter, 0.16),
    "still": (_still, 0.13),
    "portrait": (_portrait, 0.08),
    "clutter": (_clutter, 0.04),
}
"""Functions that build scenes, and their probabilities."""


# Rays

_compiled = numba.njit(fastmath=True, cache=True, error_model="numpy")


@_compiled
def _hit(kind, m, taper, ox, oy, oz, dx, dy, dz, min_distance, max_distance):
    """Find the nearest hit of a ray with a shape.

    Args:
        m: The map from world to shape, twelve numbers.

    Returns:
        A distance between `min_distance` and `max_distance`. `max_distance` for a miss.
    """
    x, y, z = (
        m[0] * ox + m[1] * oy + m[2] * oz + m[9],
        m[3] * ox + m[4] * oy + m[5] * oz + m[10],
        m[6] * ox + m[7] * oy + m[8] * oz + m[11],
    )
    u, v, w = (
        m[0] * dx + m[1] * dy + m[2] * dz,
        m[3] * dx + m[4] * dy + m[5] * dz,
        m[6] * dx + m[7] * dy + m[8] * dz,
    )
    if kind == 0:
        a, b, c = (
            1 / (u if abs(u) > 1e-9 else 1e-9),
            1 / (v if abs(v) > 1e-9 else 1e-9),
            1 / (w if abs(w) > 1e-9 else 1e-9),
        )
        enter = max(-x * a - abs(a), -y * b - abs(b), -z * c - abs(c))
        leave = min(-x * a + abs(a), -y * b + abs(b), -z * c + abs(c))
        if enter > leave or leave < min_distance:
            return max_distance
        t = enter if enter > min_distance else leave
        return min(t, max_distance)
    if kind == 1:
        a, b, c = u * u + v * v + w * w, x * u + y * v + z * w, x * x + y * y + z * z - 1
        root = b * b - a * c
        if root < 0:
            return max_distance
        root = np.sqrt(root)
        t = (-b - root) / a
        t = t if t > min_distance else (-b + root) / a
        return t if min_distance < t < max_distance else max_distance
    if kind == 2:
        # The side: x x + z z = r r with r = p + q y; caps at y = -1 and 1.
        p, q = (1 + taper) / 2, (taper - 1) / 2
        r, s = p + q * y, q * v
        a, b, c = u * u + w * w - s * s, x * u + z * w - r * s, x * x + z * z - r * r
        best = max_distance
        root = b * b - a * c
        if root >= 0 and abs(a) > 1e-12:
            root = np.sqrt(root)
            for sign in (-1.0, 1.0):
                t = (-b + sign * root) / a
                if min_distance < t < best and abs(y + t * v) <= 1 and p + q * (y + t * v) >= 0:
                    best = t
        if abs(v) > 1e-9:
            for cap in (-1.0, 1.0):
                t = (cap - y) / v
                if min_distance < t < best:
                    e, f, radius = x + t * u, z + t * w, p + q * cap
                    if e * e + f * f <= radius * radius:
                        best = t
        return best
    if abs(w) < 1e-9:
        return max_distance
    t = -z / w
    if not min_distance < t < max_distance:
        return max_distance
    along, width_position = y + t * v, abs(x + t * u)
    if not 0 < along < 1:
        return max_distance
    return t if width_position < _outline(along, taper) else max_distance


@_compiled
def _outline(along, shape):
    """Return half of a leaf's width: round (0), pointed at both ends (1) or broad below (3)."""
    if shape < 0.75:
        return 2 * np.sqrt(along * (1 - along))
    if shape < 2:
        return 4 * along * (1 - along)
    return 2.6 * np.sqrt(along) * (1 - along) ** 1.2


@numba.njit(parallel=True, fastmath=True, cache=True, error_model="numpy")
def _cast(maps, kinds, tapers, balls, origins, directions, max_distance, distance, index):
    for ray in numba.prange(len(directions)):
        ox, oy, oz = origins[ray, 0], origins[ray, 1], origins[ray, 2]
        dx, dy, dz = directions[ray, 0], directions[ray, 1], directions[ray, 2]
        square, best, nearest_index = dx * dx + dy * dy + dz * dz, max_distance[ray], -1
        for k in range(len(kinds)):
            cx, cy, cz = balls[k, 0] - ox, balls[k, 1] - oy, balls[k, 2] - oz
            along, room = (
                cx * dx + cy * dy + cz * dz,
                cx * cx + cy * cy + cz * cz - balls[k, 3] * balls[k, 3],
            )
            if room > 0 and (along < 0 or along * along < room * square):
                continue
            t = _hit(kinds[k], maps[k], tapers[k], ox, oy, oz, dx, dy, dz, np.float32(1e-4), best)
            if t < best:
                best, nearest_index = t, k
        distance[ray], index[ray] = best, nearest_index


def cast(
    shapes: dict[str, Tensor],
    origins: Float[Tensor, "ray 3"],
    directions: Float[Tensor, "ray 3"],
    max_distance: Float[Tensor, "ray"],
) -> tuple[Tensor, Tensor]:
    """Find the nearest shape along each ray.

    Args:
        shapes: Arrays of `RandomScene.pack`.
        origins: Origins of the rays.
        directions: Directions of any length above 0.
        max_distance: Largest distances.

    Returns:
        Distances in lengths of the directions, and indices of the shapes. `max_distance` and -1
        for a miss.
    """
    if origins.is_cuda:
        from scenes_triton import cast as on_gpu

        return on_gpu(shapes, origins, directions, max_distance)
    distance, index = np.empty(len(origins), np.float32), np.empty(len(origins), np.int32)
    _cast(
        *(shapes[key].numpy() for key in ("map", "kind", "taper", "ball")),
        origins.numpy(),
        directions.numpy(),
        max_distance.numpy(),
        distance,
        index,
    )
    return torch.from_numpy(distance), torch.from_numpy(index)


# Shading


class Pictures:
    """Small square photographs as materials."""

    def __init__(self, images: UInt8[Tensor, "picture side side 3"]) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __call__(self, index: Tensor, u: Tensor, v: Tensor) -> Tensor:
        """Sample colours at u and v. A picture covers 0 to 1 and is mirrored beyond."""
        side = self.images.shape[1]
        u, v = (side * (1 - ((c % 2) - 1).abs()) - 0.5 for c in (u, v))
        i, j = v.floor(), u.floor()
        a, b = (v - i)[:, None], (u - j)[:, None]
        flat, at = self.images.view(-1, 3), index.long() * side * side

        def pixel(di: int, dj: int) -> Tensor:
            return flat[
                at + (i + di).clamp(0, side - 1).long() * side + (j + dj).clamp(0, side - 1).long()
            ].float()

        return (
            torch.lerp(
                torch.lerp(pixel(0, 0), pixel(0, 1), b), torch.lerp(pixel(1, 0), pixel(1, 1), b), a
            )
            / 255
        )


def _noise(u: Tensor, v: Tensor, seed: Tensor) -> Tensor:
    """Evaluate smooth noise in [0, 1] with one random value at each integer point."""
    i, j = u.floor(), v.floor()
    a, b = u - i, v - j
    a, b = a * a * (3 - 2 * a), b * b * (3 - 2 * b)
    i, j, seed = i.int(), j.int(), seed.int()

    def corner(di: int, dj: int) -> Tensor:
        x = (i + di) * 374761393 + (j + dj) * 668265263 + seed * 974711
        x = (x ^ ((x >> 13) & 0x7FFFF)) * 1274126177
        return ((x ^ ((x >> 16) & 0xFFFF)) & 0xFFFFFF).float() / 0x1000000

    return torch.lerp(
        torch.lerp(corner(0, 0), corner(0, 1), b), torch.lerp(corner(1, 0), corner(1, 1), b), a
    )


def _fractal(u: Tensor, v: Tensor, seed: Tensor, octaves: int = 4) -> Tensor:
    total = sum(0.5**k * _noise(2**k * u + 17 * k, 2**k * v + 31 * k, seed) for k in range(octaves))
    return total / (2 - 0.5 ** (octaves - 1))


def _paint(material: Tensor, u: Tensor, v: Tensor, pictures: Pictures) -> Tensor:
    """Compute colours of surfaces at coordinates in metres."""
    family, seed = material[:, FAMILY], material[:, SEED]
    color_a, color_b = material[:, FIRST : FIRST + 3], material[:, SECOND : SECOND + 3]
    angle = material[:, ANGLE]
    c, s = angle.cos(), angle.sin()
    scale = material[:, SCALE].clamp(min=1e-4)
    x, y = (c * u + s * v) / scale, (c * v - s * u) / scale
    fine = _fractal(4 * x, 4 * y, seed)
    aspect = material[:, ASPECT]
    cell = (y / aspect).floor()
    shifted = x / 1.0 + 0.5 * (cell % 2)
    edge = torch.minimum(shifted - shifted.floor(), 1.0 * (y / aspect - cell)).clamp(max=0.5)
    grain = _fractal(x / 6, 8 * y, seed, 3)
    mix = torch.zeros_like(x)
    mix = torch.where(family == PLAIN, (2.5 * (fine - 0.5) + 0.3).clamp(0, 1) * 0.5, mix)
    mix = torch.where(family == STRIPES, ((x % 1) < 0.5).float(), mix)
    mix = torch.where(family == CHECKS, ((x.floor() + y.floor()) % 2), mix)
    brick = _noise(shifted.floor() + 0.5, cell + 0.5, seed) * 0.45 + 0.3 * (fine - 0.5)
    mix = torch.where(family == BRICKS, torch.where(edge < 0.06, 1.0, brick.clamp(0, 0.6)), mix)
    mix = torch.where(
        family == WOOD, ((3 * grain + 0.3 * x) % 1 * 0.7 + 0.5 * (grain - 0.5)).clamp(0, 1), mix
    )
    mix = torch.where(family == MARBLE, (0.5 + 0.5 * (3 * x + 9 * fine).sin()) ** 2, mix)
    vein = (u.abs() < 0.04) | (((v * 7 - u.abs() * 3) % 1) < 0.12)
    mix = torch.where(family == VEINS, (0.6 * fine + 0.35 * vein).clamp(0, 1), mix)
    pane = ((x % 1 - 0.5).abs() < 0.26) & ((y % 1 - 0.5).abs() < 0.32)
    mix = torch.where(family == FACADE, torch.where(pane, 1.0, 0.25 * fine), mix)
    color = torch.lerp(color_a, color_b, mix[:, None])
    is_photo = family == PHOTO
    if len(pictures) and is_photo.any():
        color = torch.where(
            is_photo[:, None],
            pictures(
                material[:, PICTURE], u / material[:, SCALE] / 2, v / material[:, SCALE] / 2
            ).square(),
            color,
        )
    return color


@torch.no_grad()
def render(
    scenes: list[RandomScene], width: int, height: int, pictures: Pictures, seed: int = 0
) -> tuple[UInt8[Tensor, "place height width 3"], Float[Tensor, "place height width"]]:
    """Render scenes.

    Args:
        scenes: The scenes.
        width: Width in pixels.
        height: Height in pixels.
        pictures: Materials. Their device renders.
        seed: Seed of the camera effects.

    Returns:
        Pictures, and inverse depth in 1 / metre, 0 for the sky.
    """
    device = pictures.images.device
    images = [
        _render_scene(scene, width, height, pictures, torch.Generator(device).manual_seed(seed + k))
        for k, scene in enumerate(scenes)
    ]
    return torch.stack([a for a, _ in images]), torch.stack([b for _, b in images])


def _render_scene(
    scene: RandomScene, width: int, height: int, pictures: Pictures, rng: torch.Generator
) -> tuple[Tensor, Tensor]:
    device = pictures.images.device
    packed = {
        k: torch.as_tensor(np.ascontiguousarray(v), dtype=torch.float32).to(device)
        for k, v in scene.pack().items()
    }
    packed["kind"] = packed["kind"].int()
    focal = 0.5 * max(width, height) / math.tan(math.radians(scene.fov) / 2)
    y, x = torch.meshgrid(
        torch.arange(height, device=device) + 0.5,
        torch.arange(width, device=device) + 0.5,
        indexing="ij",
    )
    toward = torch.stack(
        [(x - width / 2) / focal, (y - height / 2) / focal, torch.ones_like(x)], dim=-1
    ).view(-1, 3)
    max_distance = torch.full_like(toward[:, 0], FAR)
    depth, index = cast(packed, torch.zeros_like(toward), toward, max_distance)
    hit_mask = index >= 0
    at = toward * depth[:, None]
    shape_index = index.clamp(min=0).long()
    matrix = packed["map"][shape_index]
    local = (matrix[:, :9].view(-1, 3, 3) @ at[:, :, None])[..., 0] + matrix[:, 9:]
    kind, size, material, taper = (
        packed["kind"][shape_index],
        packed["size"][shape_index],
        packed["material"][shape_index],
        packed["taper"][shape_index],
    )
    u, v, normal = _surface(kind, local, size, taper)
    normal = normalize((matrix[:, :9].view(-1, 3, 3).mT @ normal[:, :, None])[..., 0], dim=1)
    normal = torch.where((normal * toward).sum(1, keepdim=True) > 0, -normal, normal)
    # Bumps: the normal follows the slope of noise.
    bump, scale = material[:, BUMP], material[:, SCALE].clamp(min=1e-4)
    e = 0.02
    base = _fractal(2 * u / scale, 2 * v / scale, material[:, SEED], 3)
    slope = (
        torch.stack(
            [
                _fractal(2 * u / scale + e, 2 * v / scale, material[:, SEED], 3) - base,
                _fractal(2 * u / scale, 2 * v / scale + e, material[:, SEED], 3) - base,
            ],
            1,
        )
        / e
    )
    side = normalize(
        torch.linalg.cross(
            normal, torch.tensor([0.31, 0.74, 0.6], device=device).expand_as(normal)
        ),
        dim=1,
    )
    normal = normalize(
        normal
        - 0.6
        * bump[:, None]
        * (slope[:, :1] * side + slope[:, 1:] * torch.linalg.cross(normal, side)),
        dim=1,
    )
    albedo = _paint(material, u, v, pictures)

    up, sun, lamp = packed["up"], packed["sun"], packed["lamp"]
    light = (
        packed["around"]
        * (0.65 + 0.35 * (normal @ up))[:, None]
        * _ambient_visibility(
            torch.where(hit_mask, 1 / depth.clamp(min=1e-6), 0.0).view(height, width)
        ).reshape(-1, 1)
    )
    lift = at + normal * (SHADOW_OFFSET * depth)[:, None]
    view = normalize(toward, dim=1)
    shiny = torch.zeros_like(albedo)
    for strength, direction, radius in (
        (packed["glare"], sun.expand_as(at), max_distance),
        (packed["shine"], lamp - at, torch.ones_like(max_distance)),
    ):
        if not strength.any():
            continue
        distance = direction.norm(dim=1, keepdim=True)
        facing = (normal * direction / distance).sum(1, keepdim=True).clamp(min=0)
        lit = (cast(packed, lift, direction.contiguous(), radius)[1] < 0)[:, None] & (facing > 0)
        fall = 1 if radius is max_distance else 1 / (1 + distance.square())
        light = light + lit * facing * strength * fall
        half = normalize(direction / distance - view, dim=1)
        shiny = (
            shiny
            + lit
            * material[:, GLOSS, None]
            * (normal * half).sum(1, keepdim=True).clamp(min=0) ** 40
            * strength
            * fall
        )
    color = albedo * light + shiny + material[:, GLOW, None] * albedo
    sky = _sky(view, packed)
    haze = 1 - (-packed["haze"] * depth).exp()
    color = torch.where(
        hit_mask[:, None], torch.lerp(color, packed["horizon"].expand_as(color), haze[:, None]), sky
    )
    inverse = torch.where(hit_mask, 1 / depth, 0.0).view(height, width)
    return _photograph(color.view(height, width, 3), inverse, rng), inverse


def _surface(
    kind: Tensor, local: Tensor, size: Tensor, taper: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute texture coordinates in metres, and normals in the shape's space."""
    x, y, z = local.unbind(1)
    sx, sy, sz = size.unbind(1)
    face = local.abs().argmax(1)
    box_u, box_v = torch.where(face == 0, z * sz, x * sx), torch.where(face == 1, z * sz, y * sy)
    box_normal = torch.nn.functional.one_hot(face, 3) * local.sign()
    angle = torch.atan2(x, z)
    mean = (sx + sz) / 2
    side = y.abs() < 0.999
    slope = (1 - taper) / 2
    cone_normal = torch.where(
        side[:, None],
        torch.stack([x, slope * (x.square() + z.square()).sqrt(), z], 1),
        torch.stack([0 * x, y.sign(), 0 * z], 1),
    )
    ball, cone, leaf = kind == BALL, kind == CONE, kind == LEAF
    cap = cone & ~side
    u = torch.where(
        cap, x * sx, torch.where(ball | cone, angle * mean, torch.where(leaf, x, box_u))
    )
    v = torch.where(
        cap,
        z * sz,
        torch.where(
            ball, y.clamp(-1, 1).asin() * sy, torch.where(cone, y * sy, torch.where(leaf, y, box_v))
        ),
    )
    # Leaves are slightly curved.
    leaf_normal = torch.stack([-0.7 * x, 0.5 * (y - 0.5), torch.ones_like(z)], 1)
    normal = torch.where(
        ball[:, None],
        local,
        torch.where(
            cone[:, None], cone_normal, torch.where(leaf[:, None], leaf_normal, box_normal)
        ),
    )
    return u, v, normal


def _ambient_visibility(inverse: Tensor) -> Tensor:
    """Approximate ambient occlusion from inverse depth, so that corners are dark."""
    w, shade = inverse[None, None], 0.0
    for size in (5, 13, 33):
        around = avg_pool2d(w, size, 1, size // 2, count_include_pad=False)
        nearer = (around - w) / w.clamp(min=1e-6)
        shade = shade + (nearer.clamp(0, 0.3) * 2.0 * (nearer < 0.8)).clamp(max=0.35)
    return (1 - shade)[0, 0].clamp(0.2, 1)


def _sky(view: Tensor, light: dict[str, Tensor]) -> Tensor:
    high = (view @ light["up"]).clamp(min=0)
    color = torch.lerp(
        light["horizon"].expand_as(view),
        light["zenith"].expand_as(view),
        (high[:, None] * 1.6).clamp(0, 1).sqrt(),
    )
    amount, seed = light["clouds"][0], light["clouds"][1].expand(len(view))
    flat = view / (high[:, None] + 0.15)
    cloud = ((_fractal(flat[:, 0] * 2, flat[:, 2] * 2, seed, 5) - 0.45) * 4).clamp(0, 1) * amount
    glow = (view @ light["sun"]).clamp(min=0) ** 200 * (light["glare"].sum() > 0)
    return torch.lerp(color, torch.ones_like(color), cloud[:, None]) + glow[:, None]


def _photograph(color: Tensor, inverse: Tensor, rng: torch.Generator) -> Tensor:
    """Apply exposure, lens blur, vignette, tone curve and noise of a random camera. uint8."""

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(shape or (1,), generator=rng, device=color.device)

    color = color.clamp(min=0)
    color = color / color.mean(-1).quantile(0.7).clamp(min=1e-3) * uniform(0.35, 0.75)
    if float(uniform(0, 1)) < 0.35:  # focused on something in the picture
        height, width = inverse.shape
        i, j = int(uniform(0.3, 0.9) * height), int(uniform(0.25, 0.75) * width)
        typical = (
            inverse[inverse > 0].median().clamp(min=1e-6)
            if (inverse > 0).any()
            else inverse.new_ones(())
        )
        blurred = (
            uniform(0.5, 6) * (inverse - inverse[i, j]).abs() / typical * max(height, width) / 384
        )
        color = _defocus(color, blurred.clamp(max=8 * max(height, width) / 384))
    y, x = torch.meshgrid(
        torch.linspace(-1, 1, color.shape[0], device=color.device),
        torch.linspace(-1, 1, color.shape[1], device=color.device),
        indexing="ij",
    )
    color = color * (1 - uniform(0, 0.35) * (x * x + y * y) / 2)[..., None] * uniform(0.85, 1.15, 3)
    color = color / (1 + color * uniform(0, 0.6)) if float(uniform(0, 1)) < 0.7 else color
    color = color.clamp(0, 1) ** (1 / uniform(1.7, 2.5))
    color = (
        color + torch.randn(color.shape, generator=rng, device=color.device) * uniform(0, 0.03)
    ).clamp(0, 1)
    return (color * 255).round().byte()


def _defocus(color: Tensor, sigma: Tensor) -> Tensor:
    """Blur with a varying standard deviation in pixels, by a mixture of blurred pictures."""
    levels, picture = [0.0, 1.0, 2.0, 4.0, 8.0], color.permute(2, 0, 1)[None]
    stack = [picture]
    for level in levels[1:]:
        size = 2 * int(round(level * 1.7)) + 1
        stack.append(
            avg_pool2d(
                avg_pool2d(picture, size, 1, size // 2, count_include_pad=False),
                size,
                1,
                size // 2,
                count_include_pad=False,
            )
        )
    out = torch.zeros_like(picture)
    for k, level in enumerate(levels):
        lower = levels[k - 1] if k else -1.0
        upper = levels[k + 1] if k + 1 < len(levels) else 1e9
        weight = torch.minimum(
            ((sigma - lower) / (level - lower)).clamp(0, 1),
            ((upper - sigma) / (upper - level)).clamp(0, 1),
        )
        out = out + weight * stack[k]
    return out[0].permute(1, 2, 0)
