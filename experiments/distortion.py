"""Which distortion module restores most of what corrupted frames take from the scene?

    python experiments/distortion.py --quick
        one small scene on a CPU, about ten minutes
    python experiments/distortion.py --quick distortion=mine
        your module beside `identity`; --modules adds others
    python experiments/distortion.py --device cuda --results FILE
        all scenes, corruptions, severities and seeds
    python experiments/distortion.py --show --results FILE
        print the tables of the results in FILE

Frames of scenes with ground truth are corrupted in known ways (`lift.synthetic.worlds`). Each
module is fitted to them. The canonical scene is then compared with true views from cameras that no
fit got. No alignment is needed. The input view is correct, and its depth or the scene's points fix
the world.

Fits that are in FILE already are not repeated, so an interrupted run goes on. A row holds its
settings and a hash of its fit and distortion, defaults included. Rows of other defaults stay in
FILE, but are not used.

Further arguments are settings of `lift run` (`fit.`, `trainer.`) for all fits. Fits with such
settings have a table of their own. `distortion=...` adds a row of that name.

Scenes are four ray-cast ones, and photographs with cameras if LIFT_SHARED (default ../shared) has
them. LPIPS is measured if its weights are there. The sizes of warp, colour, blur and camera errors
are those that were measured on generated clips (`experiments/generator_errors.py`). The sizes of
false texture, moving objects, focal length and bad frames are chosen, and so is the growth of all
errors with the distance from the input.
"""

import argparse
import json
import math
import os
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from distortion_table import (
    Row,
    defaults_of,
    read_results,
    tables,
    write_page,
    write_results,
)
from distortion_trials import (
    DEVICES,
    FITS,
    MODULES,
    PHOTOGRAPHS,
    RAY_CAST,
    SETTING_ERRORS,
    SHARED,
    Trial,
    compose,
    config_hash,
    corruption_cases,
    run_trials,
)
from filelock import FileLock, Timeout
from omegaconf import OmegaConf

from lift.distortions import validate_settings
from lift.errors import format_error
from lift.geometry import pinhole
from lift.runtime.machine import machine_info
from lift.synthetic.worlds import CORRUPTION_KINDS

DESCRIPTION = (__doc__ or "").strip()


@dataclass(frozen=True)
class Options:
    """The command line, checked and completed with defaults."""

    scenes: list[str]
    cases: dict[str, dict[str, float]]
    """Size of each kind of corruption by the name of the case."""
    seeds: int
    modules: dict[str, list[str]]
    """Settings of each row."""
    fit_settings: list[str]
    """Settings that all fits have in common."""
    chosen: frozenset[str]
    """Which of scenes, cases, seeds, modules and fit_settings the command line names."""
    device: str
    workers: int
    quick: bool
    results: Path
    show: bool


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    parser = argparse.ArgumentParser(
        description=DESCRIPTION.splitlines()[0], epilog="python experiments/distortion.py --quick"
    )
    add = parser.add_argument
    add(
        "--quick",
        action="store_true",
        help="the room at 128 x 96, short fits, one seed, no kind of corruption alone",
    )
    add("--scenes", nargs="+", metavar="SCENE", help=", ".join((*RAY_CAST, *PHOTOGRAPHS)))
    add("--modules", nargs="+", metavar="MODULE", help=", ".join(MODULES))
    add(
        "--severities",
        nargs="+",
        metavar="SEVERITY",
        help="of all corruptions together (default: 1 0.5 2; with --quick: 1)",
    )
    add(
        "--cases",
        nargs="+",
        metavar="CASE",
        help="only these: clean, 'all x 1', ..., " + ", ".join(CORRUPTION_KINDS),
    )
    add("--seeds", type=_positive, help="number of seeds (default: 3; with --quick: 1)")
    add("--device", default="cpu", choices=tuple(DEVICES))
    add(
        "--workers",
        type=_positive,
        default=1,
        help="processes that share the GPUs; start nvidia-cuda-mps-control -d first",
    )
    add(
        "--results",
        type=Path,
        metavar="FILE",
        help="JSON file that rows are added to (default: outputs/distortion.json; with --quick: "
        "outputs/distortion-quick.json)",
    )
    add("--show", action="store_true", help="print the tables of the results, and fit nothing")
    add("settings", nargs="*", metavar="setting=value")
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"is {text!r}; choose a number of at least 1")
    return int(text)


def parse_options(parser: argparse.ArgumentParser) -> Options:
    """Parse and check the command line.

    Raises:
        ValueError: If a value is wrong. The message says what to choose.
    """
    args = parser.parse_intermixed_args()
    names = {key: getattr(args, key) or [] for key in ("scenes", "modules", "cases", "severities")}
    # A list of names takes in settings that stand behind it.
    behind = [word for words in names.values() for word in words if "=" in word]
    settings = [*args.settings, *behind]
    given = {key: [word for word in words if "=" not in word] for key, words in names.items()}
    for setting in settings:
        if not setting.lstrip("+~").startswith(("distortion=", "distortion.", "fit.", "trainer.")):
            raise ValueError(
                f"{setting} changes nothing here; choose settings of distortion, fit and trainer, "
                "and --device for the renderer"
            )
    distortion_settings = [word for word in settings if word.lstrip("+~").startswith("distortion")]
    other_settings = sorted(word for word in settings if word not in distortion_settings)
    fit_settings = [*FITS["quick" if args.quick else "full"], *DEVICES[args.device]]
    modules = _choose_modules(given["modules"], distortion_settings)
    chosen = {
        "scenes": args.scenes,
        "cases": given["cases"] or given["severities"],
        "seeds": args.seeds,
        "modules": args.modules or distortion_settings,
        "fit_settings": other_settings,
    }
    file_name = "distortion-quick.json" if args.quick else "distortion.json"
    options = Options(
        _choose_scenes(given["scenes"], args.quick),
        _choose_cases(given["cases"], given["severities"], args.quick),
        args.seeds or (1 if args.quick else 3),
        modules,
        [*fit_settings, *other_settings],
        frozenset(key for key, value in chosen.items() if value),
        args.device,
        args.workers,
        args.quick,
        args.results or Path("outputs", file_name),
        args.show,
    )
    if options.device == "cuda" and not options.show and not torch.cuda.is_available():
        raise ValueError("--device is cuda, but torch sees no CUDA device; choose cpu")
    return options


def _choose_scenes(names: list[str], quick: bool) -> list[str]:
    for name in names:
        if name not in (*RAY_CAST, *PHOTOGRAPHS):
            choices = ", ".join((*RAY_CAST, *PHOTOGRAPHS))
            raise ValueError(f"scene {name!r} is not known; choose among {choices}")
        if name in PHOTOGRAPHS and not (SHARED / "data" / name).is_dir():
            raise ValueError(
                f"scene {name!r} is not in {SHARED / 'data'}; set LIFT_SHARED (now {SHARED}) to "
                "the folder that has it"
            )
    available = [name for name in PHOTOGRAPHS if (SHARED / "data" / name).is_dir()]
    return names or (["room"] if quick else [*RAY_CAST, *available])


def _choose_cases(
    names: list[str], severities: list[str], quick: bool
) -> dict[str, dict[str, float]]:
    try:
        numbers = [float(text) for text in severities]
    except ValueError:
        numbers = [math.nan]
    if not all(0 < number < math.inf for number in numbers):
        raise ValueError(
            f"--severities are {' '.join(severities)}; choose numbers above 0; 1 is the severity "
            "of the prior synthetic"
        )
    cases = corruption_cases(numbers or ([1.0] if quick else [1.0, 0.5, 2.0]), not quick)
    for name in names:
        if name not in cases:
            raise ValueError(f"case {name!r} is not known; choose among {', '.join(cases)}")
    return {name: sizes for name, sizes in cases.items() if name in names or not names}


def _choose_modules(names: list[str], distortion_settings: list[str]) -> dict[str, list[str]]:
    for name in names:
        if name not in MODULES:
            raise ValueError(f"module {name!r} is not known; choose among {', '.join(MODULES)}")
    if any(setting.startswith("distortion=") for setting in distortion_settings):
        modules = {name: MODULES[name] for name in ["identity", *names]}
        return modules | {" ".join(distortion_settings): distortion_settings}
    return {
        " ".join([name, *distortion_settings]): [*MODULES[name], *distortion_settings]
        for name in names or MODULES
    }


def check_modules(options: Options) -> dict[str, str]:
    """Compose the configuration of each module and check it.

    Returns:
        The hash of each module's configuration.

    Raises:
        ValueError: If settings are wrong.
    """
    hashes = {}
    for name, settings in options.modules.items():
        try:
            config = compose(options.fit_settings, settings)
            distortion: Any = OmegaConf.to_container(config.distortion)
            validate_settings(distortion, pinhole(64, 48, 60.0))
        except SETTING_ERRORS as error:
            raise ValueError(f"{name}: {format_error(error)}") from None
        hashes[name] = config_hash(config)
    return hashes


def select_rows(rows: list[Row], options: Options) -> list[Row]:
    """Select the rows that the command line names; all that it leaves open."""
    tests = {
        "scenes": lambda row: row["scene"] in options.scenes,
        "cases": lambda row: row["case"] in options.cases,
        "seeds": lambda row: row["seed"] < options.seeds,
        "modules": lambda row: row["module"] in ("identity", *options.modules),
        "fit_settings": lambda row: row["fit_settings"] == options.fit_settings,
    }
    return [row for row in rows if all(tests[key](row) for key in options.chosen)]


def show(options: Options, rows: list[Row]) -> None:
    """Print the tables of results, one for each set of settings of the fit.

    Raises:
        ValueError: If there are no such results.
    """
    rows = select_rows(rows, options)
    compared = [row for row in rows if row["module"] != "identity"]
    if not (compared or (rows and ("modules" not in options.chosen or len(options.modules) == 1))):
        raise ValueError(
            f"{options.results} has no such results; choose another file with --results, or "
            "measure them without --show"
        )
    defaults = [defaults_of(row) for row in rows]
    for kind, note in (("present", ""), ("unknown", "\n\nThe defaults of these fits are unknown.")):
        chosen = [row for row, value in zip(rows, defaults, strict=True) if value == kind]
        for settings in {json.dumps(row["fit_settings"]): None for row in chosen}:
            group = [row for row in chosen if json.dumps(row["fit_settings"]) == settings]
            print(f"{' '.join(json.loads(settings))}{note}\n\n{tables(group)}\n")
    _report_other_defaults(rows, options.results)


def _report_other_defaults(rows: list[Row], results: Path) -> None:
    if count := sum(defaults_of(row) == "other" for row in rows):
        print(
            f"{count} rows of {results} were made with other defaults of the fit or the "
            "distortion. They are not used."
        )


def run(options: Options, record: dict[str, Any], hashes: dict[str, str], worlds: Path) -> None:
    """Run the trials that the results do not have, and print the tables.

    Args:
        options: The command line.
        record: The results so far. New rows are added and written to the file.
        hashes: Hash of each module's configuration.
        worlds: Folder for rendered scenes.
    """
    trials = [
        Trial(
            scene,
            case,
            seed,
            module,
            sizes,
            options.fit_settings,
            settings,
            hashes[module],
            options.quick,
            worlds,
        )
        for case, sizes in options.cases.items()
        for scene in options.scenes
        for seed in range(options.seeds)
        for module, settings in options.modules.items()
    ]
    rows = record["rows"]
    machines = record["machines"]
    keys = trials[0].label.keys()
    stored = {json.dumps({key: row.get(key) for key in keys}): row for row in rows}
    missing = [trial for trial in trials if json.dumps(trial.label) not in stored]
    _report_stored(options, [stored.get(json.dumps(trial.label)) for trial in trials], machines)
    _report_repeated(options, missing, rows)
    if missing:
        machines.append({**machine_info(options.device), "workers": options.workers})
    finished = 0
    for row in run_trials(missing, options.device, options.workers):
        finished += 1
        rows.append({**row, "machine": len(machines) - 1})
        write_results(record, options.results)
        text = "{scene}, {case}, seed {seed}, {module}: {psnr:.2f} dB, {seconds:.0f} s"
        print(text.format(**row), flush=True)
    shown = [row for row in rows if row["fit_settings"] == options.fit_settings]
    shown = [row for row in shown if defaults_of(row) == "present"]
    if shown:
        print(tables(shown))
        write_page(shown, options.results, DESCRIPTION)
    if failed := len(missing) - finished:
        raise SystemExit(
            f"{failed} of {len(trials)} fits failed; run the same command again to repeat them"
        )


def _report_stored(options: Options, rows: list[Row | None], machines: list[Any]) -> None:
    stored = [row for row in rows if row is not None]
    if stored:
        commits = {machines[row["machine"]]["commit"] for row in stored if "machine" in row}
        print(
            f"{len(stored)} of {len(rows)} fits are in {options.results} already (commit "
            f"{', '.join(sorted(map(str, commits)))}); choose another file with --results to "
            "repeat them"
        )


def _report_repeated(options: Options, missing: list[Trial], rows: list[Row]) -> None:
    """Say which fits are repeated because the results have them with other defaults only."""

    def key(label: Row) -> str:
        return json.dumps([value for name, value in label.items() if name != "config_hash"])

    if not missing:
        return
    names = missing[0].label
    stored = {key({name: row.get(name) for name in names}) for row in rows}
    if count := sum(key(trial.label) in stored for trial in missing):
        print(
            f"{count} fits are in {options.results} with other or unknown defaults of the fit or "
            "the distortion; they are repeated"
        )


def open_results(options: Options, stack: ExitStack) -> dict[str, Any]:
    """Read the results, and lock them unless they are only shown.

    Raises:
        ValueError: If the file cannot be used.
    """
    path = options.results
    try:
        if not options.show:
            path.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(FileLock(path.with_name(f".{path.name}.lock")).acquire(timeout=0))
        return read_results(path)
    except Timeout:
        if not os.access(path.parent, os.W_OK):
            problem = f"{path.parent} cannot be written to; choose"
        else:
            problem = f"another run of this experiment adds to {path}; wait for it, or choose"
        raise ValueError(f"{problem} another file with --results") from None
    except OSError as error:
        raise ValueError(str(error)) from None


def main() -> None:
    """Run the trials that are missing, or show the results."""
    parser = build_parser()
    with ExitStack() as stack:
        try:
            options = parse_options(parser)
            hashes = check_modules(options)
            record = open_results(options, stack)
            if options.show:
                show(options, record["rows"])
                return
        except ValueError as error:
            parser.error(str(error))
        run(options, record, hashes, Path(stack.enter_context(TemporaryDirectory())))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit("stopped; run the same command again to go on") from None
