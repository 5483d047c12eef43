"""`lift render`: films of a finished run."""

import argparse
from pathlib import Path
from typing import Any

from lift.cli.processes import add_command
from lift.config.film_schema import FILM_KINDS, FILM_PRESETS
from lift.io.formats import camera_formats

_OPTIONS = ("aspect", "seconds", "fps", "size", "kind", "motion")
"""Options of the command that are fields of `FilmOptions`."""


def add_parser(commands: Any) -> None:
    """Add the command to the command line.

    Args:
        commands: What `add_subparsers` returned.
    """
    parser = add_command(
        commands,
        "render",
        render,
        "render a film of a finished run, as a video, an animated picture or a folder of PNG",
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="the run's folder")
    parser.add_argument(
        "--to",
        type=Path,
        required=True,
        metavar="OUT",
        help="OUT.mp4, OUT.webm, OUT.gif, OUT.webp, or a folder for PNG files",
    )
    motion = parser.add_mutually_exclusive_group()
    motion.add_argument(
        "--preset",
        choices=FILM_PRESETS,
        default="fly-through",
        help="motion of the camera: a closed loop that stays where frames observed the scene "
        "(fly-through, that of the run)",
    )
    motion.add_argument(
        "--path",
        type=Path,
        help=f"cameras instead of a preset, one a frame: {camera_formats()}",
    )
    parser.add_argument(
        "--aspect",
        metavar="W:H",
        help="16:9, 1:1, 9:16 or another one, cut so that the subject stays (input: no cut)",
    )
    parser.add_argument("--seconds", type=float, help="duration (6)")
    parser.add_argument("--fps", type=int, help="frames per second (30)")
    parser.add_argument(
        "--size", type=int, help="shorter side in pixels, as in 1080p (that of the run's frames)"
    )
    parser.add_argument("--kind", choices=FILM_KINDS, help="what the pictures show (color)")
    parser.add_argument("--motion", type=float, help="factor on the preset's usual motion (1)")
    parser.add_argument("--renderer", help="another renderer than the run's")
    parser.add_argument(
        "--distortion-of",
        type=int,
        metavar="FRAME",
        help="deform the scene and change its pictures as in this frame (not at all)",
    )


def render(options: argparse.Namespace) -> int:
    """Render a film and print the name of the result.

    Args:
        options: What `add_parser` adds.

    Returns:
        The exit status.
    """
    from lift.api import load

    scene = load(options.run, options.renderer)
    film_options = {
        name: value for name in _OPTIONS if (value := getattr(options, name)) is not None
    }
    print(
        scene.save_film(
            options.to,
            options.preset,
            cameras=options.path,
            distortion_of=options.distortion_of,
            **film_options,
        )
    )
    return 0
