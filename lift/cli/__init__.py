"""The command line: lift run | batch | eval | list | show | render | export | view | doctor."""

import argparse
import os
import re
import sys
import traceback
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from pathlib import Path

from lift import __version__
from lift.errors import is_interrupt, is_users, one_line
from lift.registry import ALL_SLOTS, ComponentError, catalogue
from lift.runtime import distributed

USAGE_ERROR = 2


def main(arguments: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        if arguments[:1] == ["run"]:
            return run(arguments[1:])
        if arguments[:1] == ["batch"] and not {"-h", "--help"} & set(arguments):
            return batch(arguments[1:])
        if arguments[:1] == ["eval"] and not {"-h", "--help"} & set(arguments):
            return evaluate(arguments[1:])
        options = parser().parse_args(arguments)
        return options.command(options)
    except BrokenPipeError:  # `lift list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (KeyboardInterrupt, Exception) as error:
        interrupted, ended = is_interrupt(error), isinstance(error, distributed.WorkerError)
        told = interrupted or ended or (is_users(error) and not os.environ.get("LIFT_DEBUG"))
        if not told and not distributed.launched():
            raise
        status = 130 if interrupted else error.status if ended else USAGE_ERROR if told else 1
        if interrupted:
            line = "lift: stopped; run the same command again to go on"
        else:
            line = _said(error) if told else "".join(traceback.format_exception(error)).rstrip()
        if distributed.launched():
            distributed.fail(line, status, expected=told)
        print(line, file=sys.stderr)
        return status


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="lift",
        description="Turn one image into a 3D Gaussian scene by way of a video generator.",
    )
    top.add_argument("--version", action="version", version=f"lift {__version__}")
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, function, help: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=help, description=help[0].upper() + help[1:] + ".")
        made.set_defaults(command=function)
        return made

    commands.add_parser(
        "run",
        help="one image to a scene: lift run image=PATH [setting=value ...]; lift run --plan ... says what it would do; lift run --help",
        add_help=False,
    )
    many = command(
        "batch",
        batch,
        "many images, each to a scene, spread over processes; one that fails does not hold up the others",
    )
    many.usage = "lift batch PICTURE [PICTURE ...] [setting=value ...] [--processes N]"
    many.epilog = "N: processes of this machine (its number of GPUs, else 1), each with a GPU of its own. Run again, it goes on where it ended."
    measured = command(
        "eval",
        evaluate,
        "scenes of a dataset, each lifted from one view and measured by the others, spread over processes",
    )
    measured.usage = "lift eval [dataset=NAME dataset.path=FOLDER] [protocol.KEY=VALUE ...] [setting=value ...] [-- SETTINGS -- SETTINGS ...] [--processes N]"
    measured.epilog = (
        "dataset=NAME: `lift list dataset`. protocol.input, targets, most, align (none, median_depth, similarity, sweep), bins, seeds, reference, weights: see the README. All settings of `lift run`, image "
        "aside. Writes OUTPUT/eval/NAME: table.md, table.json, and of each scene its figures and a sheet of pictures. Run again, it goes on where it ended. After `--` come settings of one of several evaluations, which "
        "are made beside one another (what they share once), each with a table of its own: lift eval dataset=ray_cast -- distortion=identity name=without -- distortion=field name=field."
    )
    command("list", list_components, "list every component of every slot").add_argument(
        "slot", nargs="?", metavar="SLOT"
    )
    show = command("show", show_component, "show what a component does and its settings")
    show.add_argument("slot", metavar="SLOT")
    show.add_argument("name", metavar="NAME")
    render = command(
        "render",
        render_path,
        "render a camera path out of a finished run, as a video or a folder of PNG",
    )
    render.add_argument("run", type=Path, metavar="RUN", help="the run's folder")
    render.add_argument(
        "--path",
        type=Path,
        help="cameras: npz, transforms.json, RealEstate10K text, COLMAP folder (the run's fly-through)",
    )
    render.add_argument(
        "--to", type=Path, required=True, metavar="OUT", help="OUT.mp4, or a folder for PNG files"
    )
    render.add_argument("--size", type=int, help="long side in pixels (the run's)")
    render.add_argument("--fps", type=int, default=24)
    render.add_argument("--renderer", help="another renderer than the run's")
    export = command(
        "export", export_scene, "write a finished scene in another format, read back and compared"
    )
    export.add_argument("source", type=Path, metavar="RUN_OR_PLY")
    export.add_argument(
        "to", type=Path, metavar="OUT", help="the suffix chooses the format: .ply .splat .spz"
    )
    view = command(
        "view", view_scene, "look at a finished scene in a browser; serves this machine only"
    )
    view.add_argument("source", type=Path, metavar="RUN_OR_PLY")
    view.add_argument("--port", type=int, default=8080)
    check_up = command(
        "doctor",
        doctor,
        "say what is installed, what each extra would add, and which devices there are",
    )
    check_up.add_argument(
        "--compile",
        action="store_true",
        help="compile the CPU's loops now, so that the first run need not",
    )
    return top


def run(arguments: list[str]) -> int:
    """Hands over to Hydra: overrides, --cfg, --help, -m and its launchers and sweepers are its own."""
    import hydra

    from lift.config import check, store_schemas

    store_schemas()
    if arguments[:1] == [COMPOSED]:
        return _join_run(Path(arguments[1]), arguments[2:])
    only_planned = "--plan" in arguments
    given = arguments = [argument for argument in arguments if argument != "--plan"]
    arguments = [_quoted(argument) for argument in arguments]
    check_names(arguments)
    os.environ["HYDRA_FULL_ERROR"] = (
        "1"  # errors come to `main`, which prints the one line that matters
    )

    failed: list[Exception] = []  # kept from Hydra, which would print a line of its own about it
    here = os.getpid()

    @hydra.main(version_base="1.3", config_path="pkg://lift.configs", config_name="lift")
    def job(config) -> None:
        try:
            check(config)
            if only_planned:
                from lift.runtime.dry_run import forecast

                print(forecast(config))
            elif (
                distributed.place().world > 1
            ):  # torchrun's or srun's processes: how many there are is theirs to say
                _run(config, None)
            elif len(devices := distributed.devices(config.trainer)) > 1:
                _launch_run(config, given, len(devices))
            else:
                _run(config, devices)
        except Exception as error:
            if os.getpid() != here:  # in a process of one of Hydra's launchers, which hands it back
                raise
            failed.append(error)

    before = sys.argv
    sys.argv = ["lift run", *arguments]
    try:
        job()
    finally:
        sys.argv = before
    for error in failed[:-1]:
        print(_said(error), file=sys.stderr)
    if failed:
        raise failed[-1]
    return 0


COMPOSED = "--composed"
"""Before the file of a run's configuration, in the arguments of the processes that make it together."""


def _launch_run(config, arguments: list[str], count: int) -> None:
    import tempfile

    from omegaconf import OmegaConf

    with tempfile.TemporaryDirectory(prefix="lift-") as folder:
        file = Path(folder) / "config.yaml"
        OmegaConf.save(config, file, resolve=True)
        distributed.launch(["run", COMPOSED, str(file), *arguments], count)


def _join_run(file: Path, arguments: list[str]) -> int:
    from omegaconf import OmegaConf

    sys.argv = ["lift run", *arguments]
    config = OmegaConf.load(file)
    _run(config, distributed.devices(config.trainer))
    return 0


def _run(config, devices: list[int] | None) -> None:
    distributed.settle(distributed.place(), devices)
    from lift.pipeline import run as lift

    if (folder := lift(config)) is not None:  # one process speaks
        print(folder, flush=True)


def batch(arguments: list[str]) -> int:
    """`lift run` of many pictures; the settings are composed by Hydra once."""
    from lift.runtime.batch import read_arguments, run_all

    given = list(arguments)
    count = _processes(arguments)
    images, settings = read_arguments(arguments)
    composed = _composed([*settings, "image=none"])

    def configure(image: str):
        config = composed.copy()
        config.image = image
        return config

    if _launched_many("batch", given, count, lambda: len(images), [composed]):
        return 0
    _all_made(run_all(images, configure), "pictures")
    return 0


def evaluate(arguments: list[str]) -> int:
    """Lifts and measures the scenes of a dataset, with one list of settings, or with several beside one another: what stands before the first `--` is for all."""
    from lift.runtime.batch import spread

    given = list(arguments)
    count = _processes(arguments)
    asked = [_to_evaluate(own) for own in _split(arguments)]

    @cache
    def evaluations():
        from lift.evaluation.evaluate import (
            Evaluation,
        )  # with numba, which is to know its number of threads before

        made = [Evaluation(*one) for one in asked]
        if twice := [
            one.folder
            for k, one in enumerate(made)
            if one.folder in [other.folder for other in made[:k]]
        ]:
            raise ComponentError(
                f"two of the evaluations are {twice[0]}; give each a name=NAME of its own"
            )
        return made

    if _launched_many(
        "eval",
        given,
        count,
        lambda: sum(len(one.tasks) for one in evaluations()),
        [composed for composed, _ in asked],
    ):
        return 0
    tasks = [(one, task) for one in evaluations() for task in one.tasks]
    leads = distributed.place().rank == 0  # asked now: each makes its scenes as if it were alone
    names = [
        f"{one.folder.name}: {task.name}" if len(asked) > 1 else task.name for one, task in tasks
    ]
    outcomes = spread(names, lambda index: str(tasks[index][0].make(tasks[index][1])))
    for one in evaluations() if leads else ():
        own = [outcome for outcome, (whose, _) in zip(outcomes, tasks, strict=True) if whose is one]
        if any(outcome.made for outcome in own):
            path = one.write(own)
            print(path.read_text(encoding="utf-8"), file=sys.stderr)
            print(path, flush=True)
    _all_made(outcomes, "scenes")
    return 0


def _split(arguments: list[str]) -> list[list[str]]:
    """A list of settings for each `--`, all with what stands before the first; without one, a single list."""
    parts: list[list[str]] = [[]]
    for argument in arguments:
        if argument == "--":
            parts.append(list(parts[0]))
        else:
            parts[-1].append(argument)
    return parts[1:] or parts


def _to_evaluate(arguments: list[str]):
    """The configuration of the runs, and that of their evaluation."""
    from hydra import compose, initialize_config_module

    from lift.config import check_eval

    for argument in arguments:
        key, equals, _ = argument.partition("=")
        if not key or not equals:
            raise ComponentError(
                f"{argument!r} is no setting; lift eval takes dataset=NAME, dataset.path=FOLDER, protocol.KEY=VALUE and the settings of lift run"
            )
        if key[0] in "+~":  # by which Hydra adds and takes away
            raise ComponentError(
                f"{argument!r}: lift eval takes KEY=VALUE; leave out {argument[: -len(argument.lstrip('+~'))]!r}"
            )
        if key in ("image", "seed"):
            raise ComponentError(
                f"{argument!r}: {'the dataset has the pictures' if key != 'seed' else 'choose protocol.seeds=[...]'}"
            )
    own = [argument for argument in arguments if re.match(r"(dataset|protocol)[.=]", argument)]
    composed = _composed(
        [*(argument for argument in arguments if argument not in own), "image=none"]
    )
    check_names(own)
    with initialize_config_module("lift.configs", version_base="1.3"):
        asked = compose("eval", [_quoted(argument) for argument in own])
    check_eval(asked)
    return composed, asked


def _composed(settings: list[str]):
    """A run's configuration."""
    from hydra import compose, initialize_config_module

    from lift.config import check, store_schemas

    store_schemas()
    check_names(settings)
    with initialize_config_module("lift.configs", version_base="1.3"):
        composed = compose("lift", [_quoted(setting) for setting in settings])
    check(composed)
    return composed


def _launched_many(
    command: str, given: list[str], count: int | None, most: Callable[[], int], configs: list
) -> bool:
    """Whether others have done it all: starts as many processes as asked for, or as there are GPUs, unless this is one of several already. Else this one takes its place."""
    for config in configs:
        if len(distributed.devices(config.trainer)) > 1:
            raise ComponentError(
                f"trainer.devices is {config.trainer.devices!r}; lift {command} makes each scene in one process, choose 1"
            )
    here = distributed.place()
    if here.world == 1:
        if count is None:
            import torch

            count = torch.cuda.device_count() or 1
        if (count := min(count, most()) if count > 1 else 1) > 1:
            distributed.launch([command, *given], count)
            return True
    elif count is not None and not distributed.launched():
        raise ComponentError(
            f"--processes is {count}, but {here.world} processes have been started already; leave it out"
        )
    distributed.settle(here)
    return False


def _all_made(outcomes, what: str) -> None:
    """Raises WorkerError if one was not."""
    if failed := [outcome for outcome in outcomes if outcome.error]:
        lines = [f"  {outcome.name}: {outcome.error}" for outcome in failed]
        raise distributed.WorkerError(
            "\n".join([f"lift: {len(failed)} of {len(outcomes)} {what} failed:", *lines]), 1
        )


def _processes(arguments: list[str]) -> int | None:
    """Takes `--processes N` out of the arguments."""
    for index, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name == "--processes":
            value = (
                value if equals else (arguments[index + 1] if index + 1 < len(arguments) else "")
            )
            del arguments[index : index + (1 if equals else 2)]
            if not value.isdecimal() or int(value) < 1:
                raise ComponentError(f"--processes is {value!r}; choose a number of at least 1")
            return int(value)
    return None


def _quoted(argument: str) -> str:
    """Quotes a file's name for Hydra's grammar, which has its own idea of brackets, commas and other alphabets."""
    key, equals, value = argument.partition("=")
    if not equals and not argument.startswith("-") and Path(argument).exists():
        raise ComponentError(f"{argument!r} is not a setting; did you mean image={argument}?")
    if key in ("image", "cameras", "input") or key.endswith((".path", ".targets", ".weights")):
        if value[:1] not in ("'", '"') and (
            Path(value).expanduser().exists() or (key == "input" and re.search(r"[^\w.,/-]", value))
        ):
            return f"{key}={_in_quotes(value)}"
        if key == "image" and value[:1] == "[" and value[-1:] == "]":
            return f"{key}={_quoted_list(value)}"
    if key == "protocol.input" and not value.startswith(("'", '"')):
        escaped = value.replace('"', '\\"')
        return f'{key}="{escaped}"'
    return argument


def _in_quotes(value: str) -> str:
    escaped = value.replace('"', '\\"')
    return f'"{escaped}"'


def _quoted_list(value: str) -> str:
    """Quotes the files' names in a list for Hydra's grammar, commas and brackets in them included."""
    parts = value[1:-1].split(",")
    names: list[str] = []
    start = 0
    while start < len(parts):
        ends = range(len(parts), start, -1)
        joined = {end: ",".join(parts[start:end]).strip() for end in ends}
        end = next((end for end in ends if Path(joined[end]).expanduser().is_file()), None)
        if end is None:
            return value  # Hydra's own syntax, or a file that is not there: loading it says so
        names.append(_in_quotes(joined[end]))
        start = end
    return f"[{','.join(names)}]"


def check_names(arguments: list[str]) -> None:
    """Unknown names of components and settings get our message, which has the choices on one line."""
    from lift.config import check_key

    for argument in arguments:
        key, equals, value = argument.partition("=")
        if (
            equals
            and re.fullmatch(r"\w+(\.\w+)*", key)
            and key.split(".")[0] not in ("hydra", "experiment")
        ):
            check_key(key)
        if equals and key == "experiment" and not set("(*$,") & set(value):
            names = sorted(
                path.name[:-5]
                for path in (files("lift.configs") / "experiment").iterdir()
                if path.name.endswith(".yaml")
            )
            if value not in (*names, "null"):
                raise ComponentError(f"experiment is {value!r}; choose one of {', '.join(names)}")
        if (
            equals and key in ALL_SLOTS and not set("(*$") & set(value)
        ):  # Hydra's own functions and patterns
            for name in value.split(","):
                catalogue()(key, name.strip().strip("'\""))


def list_components(options: argparse.Namespace) -> int:
    known = catalogue()
    if options.slot and options.slot not in ALL_SLOTS:
        known(options.slot, "")
    for slot in [options.slot] if options.slot else ALL_SLOTS:
        print(slot)
        for name, entry in sorted(known.entries[slot].items()):
            how = f"`lift show {slot} {name}` says how" if entry.install else entry.how
            missing = f"  [not installed: {how}]" if entry.missing else ""
            origin = "" if entry.module.startswith("lift.") else f"  ({entry.module})"
            print(f"  {name:<16} {entry.summary}{origin}{missing}")
    for plugin, error in known.broken.items():
        print(f"broken plugin {plugin}: {type(error).__name__}: {one_line(error)}")
    return 0


def show_component(options: argparse.Namespace) -> int:
    from lift.runtime.memory import told

    entry = catalogue()(options.slot, options.name)
    print(f"{entry.slot} {entry.name}   {entry.module}.{entry.qualname}   licence: {entry.licence}")
    if entry.missing:
        print(f"not installed: {entry.how}")
    if entry.clip:
        print(
            f"{entry.clip} frames a clip, the one it continues included, of {entry.size[0]}x{entry.size[1]} pixels; follows {entry.follows}"
        )
        print(told(entry.parts, entry.working))
    print(f"\n{entry.doc}\n")
    for key, parameter in entry.settings.items():
        annotation = getattr(parameter.annotation, "__name__", None)
        kind = (
            annotation
            if annotation and not getattr(parameter.annotation, "__args__", ())
            else str(parameter.annotation)
        )
        default = (
            "(must be given)"
            if parameter.default is parameter.empty
            else f"= {parameter.default!r}"
        )
        print(f"  {entry.slot}.{key:<20} {kind.replace('typing.', ''):<24} {default}")
    return 0


def render_path(options: argparse.Namespace) -> int:
    from lift.outputs.delivery import render_run

    print(
        render_run(
            options.run, options.to, options.path, options.size, options.fps, options.renderer
        )
    )
    return 0


def export_scene(options: argparse.Namespace) -> int:
    from lift.io.splats import export

    source = _scene_file(options.source)
    options.to.parent.mkdir(parents=True, exist_ok=True)
    export(source, options.to)
    print(options.to)
    return 0


def view_scene(options: argparse.Namespace) -> int:
    from lift.outputs.viewer import serve

    serve(_scene_file(options.source), options.port)
    return 0


def doctor(options: argparse.Namespace) -> int:
    from lift.cli.doctor import compile_loops, report

    if options.compile:
        compile_loops()
    print(report())
    return 0


def _scene_file(source: Path) -> Path:
    """The PLY file of a run's folder, or the file itself."""
    path = source / "gaussians.ply" if source.is_dir() else source
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no finished scene at {source}: give a run's folder or a PLY file"
        )
    return path


def _said(error: BaseException) -> str:
    return str(error) if isinstance(error, distributed.WorkerError) else f"lift: {one_line(error)}"
