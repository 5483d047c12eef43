"""The built-in scenes, for runs and tests that need ground truth.

For example, `image=room` starts a run with one. The world frame is the input camera's: the camera
is at the origin and looks along z. Lengths are in metres.
"""

import math

from lift.synthetic import raycast
from lift.synthetic.raycast import RayCastScene
from lift.synthetic.shapes import Ball, Box, Column, Shape
from lift.synthetic.textures import (
    books,
    bricks,
    frame,
    landscape,
    leaves,
    letters,
    marble,
    outdoors,
    planks,
    plaster,
    stripes,
    tiles,
    wood,
)
from lift.types import Cameras, Frames

_OAK = wood((0.55, 0.33, 0.16), (0.3, 0.16, 0.07))
_WALNUT = wood((0.3, 0.17, 0.09), (0.14, 0.07, 0.035))
_WHITE = plaster((0.82, 0.8, 0.75), 0.15)


def _table(
    x: float, z: float, floor: float, width: float, depth: float, height: float
) -> tuple[Box, ...]:
    """Build a table on the floor: a top and four legs."""
    top = Box((x, floor - height, z), (width, 0.06, depth), _OAK)
    legs = [
        Box(
            (x + a * (width / 2 - 0.08), floor - height / 2, z + b * (depth / 2 - 0.08)),
            (0.07, height, 0.07),
            _OAK,
        )
        for a in (-1, 1)
        for b in (-1, 1)
    ]
    return (top, *legs)


def _room_shell(floor: float) -> tuple[Shape, ...]:
    """Build walls, floor, rug, picture and window."""
    rug = stripes(((0.5, 0.1, 0.08), (0.1, 0.14, 0.3), (0.72, 0.58, 0.36)), 0.14)
    view = frame(outdoors(0.08), 1.1, 1.05, (0.85, 0.83, 0.78), 0.07, bars=True)
    return (
        Box((0, 0, 1.8), (5.0, 2.5, 6.6), plaster((0.66, 0.6, 0.47), 0.3), hollow=True),
        Box(
            (0, floor - 0.005, 1.8),
            (4.98, 0.02, 6.58),
            planks((0.5, 0.31, 0.17), (0.24, 0.13, 0.065)),
        ),
        Box((0, floor - 0.1, 5.085), (4.98, 0.16, 0.04), _WHITE),
        Box((2.49, floor - 0.1, 1.8), (0.04, 0.16, 6.58), _WHITE),
        Box((0.35, floor - 0.02, 3.3), (2.5, 0.02, 1.7), rug, yaw=8.0),
        Box(
            (-0.2, -0.32, 5.08),
            (1.25, 0.85, 0.05),
            frame(landscape(1.25, 0.85), 1.25, 0.85, (0.25, 0.15, 0.06), 0.06),
        ),
        Box((1.45, -0.28, 5.08), (1.1, 1.05, 0.05), view, glow=0.75),
    )


def _room_shelf(floor: float) -> tuple[Shape, ...]:
    """Build a shelf with four rows of books."""
    shelf_x = -1.62
    shelf_z = 4.3
    shelves = [
        Box((shelf_x, y, shelf_z), (0.98, 0.045, 0.36), _WALNUT)
        for y in (floor - 0.05, 0.72, 0.22, -0.28, -0.72)
    ]
    rows = [
        Box((shelf_x, y, shelf_z + 0.05), (0.86, 0.36, 0.24), books())
        for y in (0.98, 0.51, 0.02, -0.48)
    ]
    sides = [Box((shelf_x + a, 0.24, shelf_z), (0.05, 2.0, 0.36), _WALNUT) for a in (-0.49, 0.49)]
    return (*shelves, *rows, *sides)


def _room_objects() -> tuple[Shape, ...]:
    """Build the objects on the table and on the floor, and the floor lamp."""
    return (
        Ball((0.22, 0.365, 3.35), 0.175, marble((0.85, 0.82, 0.76), (0.25, 0.3, 0.33), 5.0)),
        Column(
            (0.72, 0.38, 3.6), 0.085, 0.3, stripes(((0.12, 0.3, 0.42), (0.72, 0.7, 0.62)), 0.05)
        ),
        Ball((0.72, 0.13, 3.6), 0.17, leaves((0.3, 0.5, 0.14), (0.03, 0.09, 0.02), 16.0)),
        Box(
            (1.0, 0.46, 3.3),
            (0.26, 0.14, 0.2),
            letters(0.07, (0.1, 0.12, 0.3), (0.8, 0.5, 0.14)),
            yaw=-24.0,
        ),
        Box(
            (1.72, 0.98, 3.9),
            (0.62, 0.5, 0.62),
            letters(0.2, (0.5, 0.12, 0.08), (0.62, 0.48, 0.3)),
            yaw=31.0,
        ),
        Ball(
            (-0.72, 1.0, 2.9),
            0.23,
            stripes(((0.75, 0.2, 0.08), (0.85, 0.8, 0.7), (0.12, 0.28, 0.5)), 0.1),
        ),
        Column((2.1, 0.45, 4.65), 0.03, 1.6, plaster((0.2, 0.19, 0.18))),
        Column((2.1, -0.4, 4.65), 0.2, 0.34, plaster((0.95, 0.84, 0.6), 0.15), glow=0.7),
    )


def _room() -> RayCastScene:
    """Build the furnished room."""
    floor = 1.25
    return RayCastScene(
        shapes=(
            *_room_shell(floor),
            *_room_shelf(floor),
            *_table(0.55, 3.45, floor, 1.3, 0.75, 0.68),
            *_room_objects(),
        ),
        lamp=(-0.9, -1.15, 1.4),
        warmth=(1.25, 1.18, 1.05),
        ambient=0.42,
    )


_STONE = marble((0.78, 0.74, 0.66), (0.52, 0.47, 0.4), 2.2)


def _terrace_ground(floor: float) -> tuple[Shape, ...]:
    """Build sky, lawn, tiles, wall and hedges."""
    hedge = leaves((0.26, 0.42, 0.11), (0.03, 0.08, 0.02), 5.0)
    return (
        Ball((0, 0, 6), 40.0, outdoors(0.1), hollow=True, glow=1.0),
        Box(
            (0, floor + 0.5, 6),
            (70, 0.96, 70),
            leaves((0.33, 0.42, 0.15), (0.13, 0.2, 0.06), 0.9),
        ),
        Box(
            (0, floor + 0.25, 5.4),
            (7.4, 0.5, 9.6),
            tiles((0.62, 0.54, 0.44), (0.42, 0.36, 0.31), (0.2, 0.18, 0.15)),
        ),
        Box(
            (0, floor - 0.42, 10.1),
            (7.4, 0.84, 0.3),
            bricks((0.5, 0.24, 0.15), (0.36, 0.16, 0.1), (0.55, 0.52, 0.47), 0.44, 0.19),
        ),
        Box((0, floor - 0.87, 10.1), (7.5, 0.07, 0.42), _STONE),
        Box((-5.3, 0.5, 9.5), (1.6, 2.0, 7.0), hedge),
        Box((6.0, 0.35, 11.5), (1.8, 2.3, 9.0), hedge),
    )


def _terrace_pergola(floor: float) -> tuple[Shape, ...]:
    """Build the pillars and slats of the pergola."""
    pillars = [
        part
        for x, z in ((-2.5, 4.6), (-2.5, 7.4), (2.7, 5.4), (2.7, 8.4))
        for part in (
            Column((x, floor - 1.45, z), 0.2, 2.5, _STONE),
            Box((x, floor - 0.1, z), (0.6, 0.2, 0.6), _STONE),
            Box((x, floor - 2.75, z), (0.56, 0.16, 0.56), _STONE),
        )
    ]
    slats = [Box((0.1, floor - 3.09, 4.5 + 0.85 * k), (6.0, 0.12, 0.16), _OAK) for k in range(5)]
    return (*pillars, *slats)


def _terrace_trees(floor: float) -> tuple[Shape, ...]:
    """Build the trees behind the wall."""
    cypress = leaves((0.16, 0.3, 0.1), (0.02, 0.06, 0.02), 3.5)
    trees = [
        part
        for x, z, height in (
            (-4.4, 14.0, 4.6),
            (-2.2, 15.0, 3.9),
            (1.0, 14.4, 4.4),
            (3.6, 15.5, 5.2),
        )
        for part in (
            Column((x, floor - height / 2, z), 0.55, height, cypress),
            Ball((x, floor - height, z), 0.55, cypress),
        )
    ]
    return tuple(trees)


def _terrace_objects(floor: float) -> tuple[Shape, ...]:
    """Build the objects on the table and the potted plants."""
    pot = bricks((0.55, 0.25, 0.13), (0.42, 0.17, 0.09), (0.3, 0.15, 0.1), 0.4, 0.16)
    return (
        Ball((0.85, floor - 0.97, 5.15), 0.18, plaster((0.7, 0.3, 0.06), 0.4, 22.0)),
        Column(
            (0.2, floor - 0.94, 5.4),
            0.1,
            0.3,
            stripes(((0.12, 0.25, 0.5), (0.8, 0.78, 0.7)), 0.06),
        ),
        Box(
            (-0.85, floor - 0.25, 4.7),
            (0.5, 0.5, 0.5),
            letters(0.17, (0.12, 0.3, 0.24), (0.6, 0.5, 0.33)),
            yaw=25.0,
        ),
        Column((-1.35, floor - 0.24, 6.6), 0.27, 0.48, pot),
        Ball((-1.35, floor - 0.85, 6.6), 0.48, leaves((0.35, 0.5, 0.12), (0.04, 0.1, 0.02), 7.0)),
        Column((1.75, floor - 0.3, 7.7), 0.3, 0.6, pot),
        Ball((1.75, floor - 1.1, 7.7), 0.6, leaves((0.5, 0.2, 0.3), (0.05, 0.12, 0.04), 6.0)),
    )


def _terrace() -> RayCastScene:
    """Build the terrace."""
    floor = 1.5
    return RayCastScene(
        shapes=(
            *_terrace_ground(floor),
            *_terrace_pergola(floor),
            *_terrace_trees(floor),
            Box((-2.5, floor - 2.93, 6.0), (0.4, 0.2, 3.6), _STONE),
            Box((2.7, floor - 2.93, 6.9), (0.4, 0.2, 3.8), _STONE),
            *_table(0.5, 5.3, floor, 1.5, 1.0, 0.76),
            *_terrace_objects(floor),
        ),
        lamp=(-26.0, -30.0, -14.0),
        warmth=(1.5, 1.4, 1.2),
        ambient=0.36,
    )


def _thin() -> RayCastScene:
    """Build the room of thin structures."""
    floor = 1.25
    steel = plaster((0.62, 0.64, 0.66), 0.35, 8.0)
    poles = [
        Column(
            (-1.7 + 0.42 * k, 0.1, 3.1 + 0.5 * math.sin(2.1 * k)),
            0.022 + 0.012 * (k % 3),
            2.3,
            steel,
        )
        for k in range(9)
    ]
    slats = [Box((-1.15 + 0.23 * k, 0.35, 4.3), (0.05, 1.8, 0.05), _OAK) for k in range(6)]
    rails = [Box((-0.57, -0.45 + 0.4 * k, 4.36), (1.4, 0.05, 0.05), _OAK) for k in range(5)]
    rungs = [
        Box((1.35, 1.0 - 0.32 * k, 3.7), (0.5, 0.035, 0.05), _WALNUT, yaw=-20.0) for k in range(7)
    ]
    sides = [
        Box((1.35 + a * 0.235, 0.1, 3.7 + a * 0.0855), (0.04, 2.3, 0.06), _WALNUT, yaw=-20.0)
        for a in (-1, 1)
    ]
    return RayCastScene(
        shapes=(
            Box(
                (0, 0, 1.9),
                (5.0, 2.5, 6.8),
                bricks((0.6, 0.56, 0.5), (0.46, 0.42, 0.37), (0.36, 0.34, 0.31), 0.6, 0.25),
                hollow=True,
            ),
            Box(
                (0, floor - 0.005, 1.9),
                (4.98, 0.02, 6.78),
                tiles((0.5, 0.44, 0.36), (0.3, 0.28, 0.26), (0.14, 0.13, 0.12), 0.5),
            ),
            Box(
                (0.2, -0.3, 5.27),
                (1.6, 1.1, 0.05),
                frame(landscape(1.6, 1.1), 1.6, 1.1, (0.6, 0.45, 0.2), 0.06),
            ),
            *poles,
            *slats,
            *rails,
            *rungs,
            *sides,
            Ball((0.35, 1.0, 3.5), 0.24, stripes(((0.15, 0.3, 0.55), (0.8, 0.75, 0.65)), 0.09)),
        ),
        lamp=(0.8, -1.15, 1.2),
        warmth=(1.25, 1.2, 1.1),
        ambient=0.45,
    )


def _plain() -> RayCastScene:
    """Build the room with little texture."""
    floor = 1.25
    wall = plaster((0.74, 0.74, 0.72), 0.05, 0.8)
    return RayCastScene(
        shapes=(
            Box((0, 0, 1.9), (5.0, 2.5, 6.8), wall, hollow=True),
            Box((0, floor - 0.005, 1.9), (4.98, 0.02, 6.78), plaster((0.5, 0.47, 0.44), 0.08, 0.7)),
            Box(
                (-0.8, 0.65, 3.9), (0.9, 1.2, 0.7), plaster((0.65, 0.3, 0.22), 0.06, 0.9), yaw=22.0
            ),
            Box((0.9, 0.9, 3.3), (0.7, 0.7, 0.7), plaster((0.24, 0.38, 0.5), 0.06, 0.9), yaw=-15.0),
            Ball((0.85, 0.25, 3.3), 0.3, plaster((0.8, 0.68, 0.34), 0.05, 0.9)),
            Column((0.1, 0.7, 4.6), 0.25, 1.1, plaster((0.35, 0.5, 0.36), 0.06, 0.9)),
        ),
        lamp=(-1.2, -1.1, 1.0),
        warmth=(1.2, 1.18, 1.12),
        ambient=0.45,
    )


SCENES: dict[str, RayCastScene] = {
    "room": _room(),
    "terrace": _terrace(),
    "thin": _thin(),
    "plain": _plain(),
}
"""The scenes by name.

room: furnished, richly textured. terrace: outdoors, near objects and a distant sky. thin: poles, a
lattice and a ladder. plain: little texture for matching.
"""


def render(name: str, cameras: Cameras) -> Frames:
    """Render a built-in scene with exact z-depth.

    The pictures are antialiased and bit-identical in every call.

    Args:
        name: Name of the scene, a key of `SCENES`.
        cameras: The cameras, on any device.

    Returns:
        Frames with depth, on the CPU.

    Raises:
        ValueError: If there is no such scene.
    """
    if name not in SCENES:
        raise ValueError(f"scene is {name!r}; choose one of {', '.join(SCENES)}")
    return raycast.render(SCENES[name], cameras)
