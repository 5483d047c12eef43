"""`lift run`: one image, a video or photographs to a scene."""

import gc
import os
import sys
import tempfile
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lift.cli.multirun import check_jobs
from lift.cli.processes import error_message, take_memory, take_redeliver
from lift.registry import ComponentError
from lift.runtime.quick_import import pause_collector, quick_import

if TYPE_CHECKING:
    from omegaconf import DictConfig

PROFILE = "--profile"
"""Option of `lift run`."""
GPU_MEMORY = "--gpu-memory"
"""Option of `--plan`: memory in GiB of the GPU to plan for."""


@dataclass(frozen=True)
class DryRun:
    """Options of `lift run --plan`."""

    gpu_memory: float | None
    """Memory in GiB of the GPU to plan for. None: that of this machine."""


@dataclass(frozen=True)
class RunMode:
    """What is done with a configuration."""

    dry_run: DryRun | None
    """None: run it."""
    is_profiled: bool
    """Whether a run writes where its time goes."""


def add_parser(commands: Any) -> None:
    """Add the command to `lift --help`; Hydra parses its arguments.

    Args:
        commands: What `add_subparsers` returned.
    """
    commands.add_parser(
        "run",
        help="one image to a scene: lift run image=PATH [setting=value ...]; "
        "lift run --plan [--gpu-memory GIB] ... says what it would do; lift run --profile ... "
        "measures where the time goes; lift run --help",
        add_help=False,
    )


def run(arguments: list[str]) -> int:
    """Run `lift run`. Hydra handles overrides, --cfg, --help, and -m with launchers and sweepers.

    Args:
        arguments: Arguments after the command's name.

    Returns:
        The exit status.
    """
    resume_collector = gc.enable if gc.isenabled() else gc.disable
    with pause_collector():  # until the settings are composed
        return _run(arguments, resume_collector)


def _run(arguments: list[str], resume_collector: Callable[[], None]) -> int:
    """Run `lift run`, and call a function when all settings are composed."""
    from lift.config.compose import prepare_overrides, store_schemas
    from lift.config.folders import split_config_folders, use_config_folders
    from lift.config.overrides import check_dashes
    from lift.config.text import quote_text
    from lift.runtime.execution import COMPOSED, join_run
    from lift.runtime.run_folder import MULTIRUN

    store_schemas()
    if arguments[:1] == [COMPOSED]:
        resume_collector()
        join_run(Path(arguments[1]), arguments[2:])
        return 0
    arguments = take_redeliver(arguments)
    check_dashes(arguments)
    arguments, dry_run = _take_dry_run(arguments)
    if is_profiled := PROFILE in arguments:
        os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # read when torch is imported
        arguments = ["redeliver=true", *(word for word in arguments if word != PROFILE)]
    folders, rest = split_config_folders(arguments)
    options, config_name, overrides = split_options(rest)
    multirun = "--multirun" in options or "hydra.mode=MULTIRUN" in overrides
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors reach `main`, which prints one line
    with use_config_folders(folders), tempfile.TemporaryDirectory(prefix="lift-") as scratch:
        prepared = prepare_overrides(overrides, config_name, multirun)
        if multirun:
            check_jobs(prepared, config_name)
            prepared.append(f"+hydra.job.env_set.{MULTIRUN}={uuid.uuid4().hex}")
        if multirun and dry_run:  # a plan leaves no files
            prepared.append(f"hydra.sweep.dir={quote_text(scratch)}")
        typed = [word for word in arguments if word != "redeliver=true"]
        errors = _run_hydra(
            [*options, *prepared], typed, RunMode(dry_run, is_profiled), resume_collector
        )
    for error in errors[:-1]:
        print(error_message(error), file=sys.stderr)
    if errors:
        raise errors[-1]
    return 0


def _take_dry_run(arguments: list[str]) -> tuple[list[str], DryRun | None]:
    """Separate `--plan` and its option from the other arguments."""
    is_dry = "--plan" in arguments
    remaining = [argument for argument in arguments if argument != "--plan"]
    gpu_memory = take_memory(remaining, GPU_MEMORY)
    if gpu_memory is not None and not is_dry:
        raise ComponentError(f"{GPU_MEMORY} is {gpu_memory:g}, but it only plans; add --plan")
    return remaining, DryRun(gpu_memory) if is_dry else None


def split_options(arguments: list[str]) -> tuple[list[str], str, list[str]]:
    """Separate Hydra's options, which may stand anywhere, from the settings.

    Args:
        arguments: Arguments of the command line, without folders of configuration files.

    Returns:
        The options, each as one word; the name of the primary configuration; and the settings.
    """
    from hydra._internal.utils import get_args_parser

    from lift.config.compose import RUN_CONFIG

    parser = get_args_parser()
    parser.prog = "lift run"
    given = parser.parse_intermixed_args(arguments)
    options = []
    for action in parser._actions:
        value = getattr(given, action.dest, None)
        if action.option_strings and value not in (None, False):
            option = action.option_strings[0]
            options.append(option if value is True else f"{option}={value}")
    return options, given.config_name or RUN_CONFIG, given.overrides


def _run_hydra(
    words: list[str],
    arguments: list[str],
    mode: RunMode,
    resume_collector: Callable[[], None],
) -> list[Exception]:
    """Let Hydra compose the configuration of each job, and run the jobs.

    Args:
        words: Options and overrides for Hydra.
        arguments: Arguments that the user typed.
        mode: What is done with each configuration.
        resume_collector: Called before the work of a job. Launchers of Hydra pickle it.

    Returns:
        Errors of the jobs. Hydra would print lines of its own about them.
    """
    import hydra

    from lift.config import validate_config

    errors: list[Exception] = []
    main_pid = os.getpid()

    @hydra.main(version_base="1.3", config_path="pkg://lift.configs", config_name="lift")
    def job(config: "DictConfig") -> None:
        try:
            validate_config(config)
            resume_collector()
            sys.argv = ["lift run", *arguments]  # what provenance.json records
            _name_job()
            _run_job(config, arguments, mode)
        except Exception as error:
            if os.getpid() != main_pid:  # a process of a Hydra launcher returns its error
                raise
            errors.append(error)

    argv = sys.argv
    sys.argv = ["lift run", *words]
    try:
        job()
    finally:
        sys.argv = argv
    return errors


def _name_job() -> None:
    """Let the processes of this job know its number in a multirun."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    from lift.runtime.run_folder import JOB

    job = HydraConfig.get().job
    if not OmegaConf.is_missing(job, "num"):  # it is a job of a multirun
        os.environ[JOB] = str(job.num)


def _run_job(config: "DictConfig", arguments: list[str], mode: RunMode) -> None:
    """Run one configuration, or print what a run would do; print the run's folder."""
    if mode.dry_run:
        with quick_import():
            from lift.runtime.dry_run import dry_run as describe_run

        print(describe_run(config, mode.dry_run.gpu_memory))
        return
    from lift.runtime.execution import execute_run

    command = ["lift run", *arguments]
    folder = _profile(config, command) if mode.is_profiled else execute_run(config, command)
    if folder is not None:
        print(folder, flush=True)


def _profile(config: "DictConfig", command: list[str]) -> "Path | str | None":
    """Run one configuration, write where its time went, and return the run's folder."""
    from lift.remote.urls import is_url
    from lift.runtime.devices import check_one_process
    from lift.runtime.execution import execute_run
    from lift.runtime.profiling import profile_run

    check_one_process(PROFILE, config.trainer)
    if is_url(config.output):
        raise ComponentError(f"{PROFILE}: output is {config.output!r}; choose a local folder")
    with profile_run() as profile:
        folder = execute_run(config, command)
    if folder is not None:
        target = profile.write(Path(folder))
        print(profile.table(), f"trace: {target}", sep="\n", file=sys.stderr, flush=True)
    return folder
