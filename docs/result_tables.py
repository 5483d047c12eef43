"""Make the tables of results that the documentation shows.

No figure is typed by hand. Every table is read from a file of `benchmarks/results` or
`experiments/tables`, which the measuring program wrote.
"""

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = "benchmarks/results"
TABLES = "experiments/tables"
DIFFERENCE = "difference in PSNR"
KINDS = ("module", "all x 0.5", "all x 2", "camera", "warp", "objects")
KINDS += ("color", "blur", "texture", "bad")


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Format a Markdown table.

    Args:
        head: Titles of the columns.
        rows: Cells of each row. None becomes an empty cell.

    Returns:
        The lines of the table.
    """
    lines = [head, ["---"] * len(head)]
    lines += [["" if cell is None else str(cell) for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def result_tables() -> dict[str, str]:
    """Make all tables that pages name by a marker."""
    return {
        "generated-means": markdown_table(f"{RESULTS}/generated-gpu-384.md", "Means"),
        "generated-real": markdown_table(
            f"{RESULTS}/generated-gpu-384.md", "Against real frames of the same path"
        ),
        "photographs-cpu": photographs("cpu"),
        "photographs-gpu": photographs("gpu"),
        "depth": markdown_table(f"{RESULTS}/depth-cpu.md"),
        "fill": markdown_table(f"{RESULTS}/fill-cpu.md"),
        "border": markdown_table(f"{RESULTS}/border-cpu.md"),
        "grid": markdown_table(f"{TABLES}/grid/table.md"),
        "single": ablation("single", ("PSNR", "SSIM", "LPIPS", "PSNR, visible")),
        "method": ablation("method", ("PSNR", "SSIM", "rotation", "position", DIFFERENCE)),
        "losses": ablation("losses", ("PSNR", "SSIM", DIFFERENCE)),
        "prior-photographs": ablation("prior", ("PSNR", "LPIPS", DIFFERENCE), "photographs"),
        "prior-ray-cast": ablation("prior", ("PSNR", "LPIPS", DIFFERENCE)),
        "trajectory": ablation("trajectory", ("PSNR", "SSIM", "LPIPS", DIFFERENCE)),
        "generator-errors": markdown_table("docs/generator-errors.md", "Medians over clips"),
        "released-motion": markdown_table(
            f"{RESULTS}/released-paths-cpu.md", "Motion of MotionCtrl's clips"
        ),
        "released-chain": markdown_table(f"{RESULTS}/released-paths-cpu.md", "The whole chain"),
        "poses-photographs": poses(synthetic=False),
        "poses-ray-cast": poses(synthetic=True),
        "alignments": alignments(),
        "distortion-modules": distortion_modules(),
        "distortion-kinds": distortion_kinds(),
        "distortion-cost": distortion_cost(),
        "renderers": renderers(),
        "training-step": training_step(),
        "stages": stages(),
        "finished-batch": finished_batch(),
        "batch": batch(),
        "end-to-end": end_to_end(),
        "batch-overhead": batch_overhead(),
        "startup": startup(),
        "example-trainer": example_trainer(),
        "fits": fits(),
        "quality-preset": quality_preset(),
        "published-chain": published_chain(),
        "densification": densification(),
        "continued-fits": continued_fits(),
        "priors": priors(),
        "prior-clips": prior_clips(),
        "quality": quality(),
    }


def results(name: str) -> list[dict[str, Any]]:
    """Read the rows of a file in `benchmarks/results`."""
    return json.loads((ROOT / RESULTS / f"{name}.json").read_text(encoding="utf-8"))["rows"]


def markdown_table(
    source: str,
    section: str | None = None,
    columns: Sequence[str] | None = None,
    number: int = 0,
) -> str:
    """Cut a table out of a Markdown file.

    Args:
        source: The file, relative to the repository.
        section: Title of the section of the table. None: the whole file.
        columns: Columns to keep, by the start of their title. None: all.
        number: Index of the table within the section.

    Returns:
        The lines of the table.
    """
    text = (ROOT / source).read_text(encoding="utf-8")
    if section:
        text = re.split(rf"^## {re.escape(section)}$", text, maxsplit=1, flags=re.M)[1]
        text = re.split(r"^## ", text, maxsplit=1, flags=re.M)[0]
    found = re.findall(r"(?:^\|.*\|$\n?)+", text, re.M)[number]
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in found.splitlines()]
    if columns:
        head = [re.sub(r" \(\d+ fits\)", "", title) for title in lines[0]]
        chosen = [head.index(column) for column in columns]
        lines = [[line[k] if k < len(line) else "" for k in chosen] for line in lines]
        lines[0] = list(columns)
    return table(lines[0], lines[2:])


def photographs(preset: str) -> str:
    """Make the table of fits to photographs without the columns on memory."""
    columns = ("scene", "method", "PSNR", "SSIM", "LPIPS", "input PSNR", "registered", "s")
    return markdown_table(f"{RESULTS}/photographs-{preset}.md", columns=columns)


def ablation(name: str, columns: Sequence[str], section: str = "ray-cast") -> str:
    """Make the table of an ablation with fewer columns."""
    section = "photographs" if name == "single" else section
    return markdown_table(f"{TABLES}/{name}.md", section, ("settings", *columns))


def poses(synthetic: bool) -> str:
    """Make the table of camera errors, a column for each scene."""
    rows = results("poses-cpu")
    chosen = [row for row in rows if bool(re.match(r"(room|terrace) x", row["scene"])) == synthetic]
    scenes = list(dict.fromkeys(row["scene"] for row in chosen))
    names = list(dict.fromkeys(row["pose"] for row in chosen))
    cells = {(row["pose"], row["scene"]): _pose_cell(row) for row in chosen}
    if synthetic:
        body = [(scene, *(cells.get((pose, scene), "") for pose in names)) for scene in scenes]
        return table(("scene, severity", *(f"`{name}`" for name in names)), body)
    body = [(f"`{pose}`", *(cells.get((pose, scene), "") for scene in scenes)) for pose in names]
    return table(("pose", *scenes), body)


def _pose_cell(row: dict[str, Any]) -> str:
    if row.get("rotation") is None:
        return "fails"
    text = f"{row['rotation']:.2f}° / {100 * row['position']:.2f} %"
    if row["registered"] < 1:
        text += f", {round(row['registered'] * row['frames'])} of {row['frames']}"
    return text


def alignments() -> str:
    """Make the table that compares alignments of pair networks."""
    body = [
        (
            f"`{row['alignment']}`",
            row["width"],
            machine,
            f"{row['rotation']:.2f}°, {row['rotation_worst']:.2f}°",
            f"{100 * row['position']:.2f} %",
            f"{row['seconds']:.3g}",
            f"{row['peak_gib']:.2f}",
        )
        for name, machine in (("alignment-cuda", "H200"), ("alignment-cpu", "two cores"))
        for row in results(name)
    ]
    return table(
        ("alignment", "width", "machine", "rotation, worst", "position", "seconds", "GiB"), body
    )


def distortion_modules() -> str:
    """Make the table of distortion modules on clean and on corrupted frames."""
    source = f"{RESULTS}/distortion-table-cuda.md"
    first = _cells(markdown_table(source, columns=("module", "clean", "all x 1"), number=0))
    columns = ("module", "LPIPS", "depth error", "position error, px", "seconds", "restored")
    second = {row[0]: row[1:] for row in _cells(markdown_table(source, columns=columns, number=1))}
    body = [(*row, *second.get(row[0], ())) for row in first]
    return table(("module", "clean frames", "all corruptions", *columns[1:]), body)


def distortion_kinds() -> str:
    """Make the table of distortion modules by kind and size of the corruptions."""
    text = markdown_table(f"{RESULTS}/distortion-table-cuda.md", columns=KINDS)
    return table(KINDS, [row for row in _cells(text) if row[1]])


def _cells(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()[2:]]


def distortion_cost() -> str:
    """Make the table of the time of a training step with each distortion."""
    body = [
        (f"`{row['distortion']}`", f"{row['median']:.1f}", f"{row['ratio_to_as_released']:.2f}")
        for row in results("distortions-cuda")
    ]
    return table(("distortion", "ms per step", "fraction of `hexplane`, `as_released`"), body)


def renderers() -> str:
    """Make the table of forward and backward passes of each renderer."""
    cells = {}
    for name in ("cpu", "cuda"):
        for row in results(f"renderers-{name}"):
            times = [_median(row[which]) for which in ("forward", "backward")]
            key = (row["gaussians"], row["size"])
            cells.setdefault(key, {})[row["renderer"], name] = "{} / {}".format(
                *(f"{time:.1f}" if time < 100 else f"{time:.0f}" for time in times)
            )
    columns = (("numba", "cpu"), ("reference", "cpu"), ("gsplat", "cuda"), ("reference", "cuda"))
    body = [
        (f"{key[0] // 1000}k, {key[1]} x {key[1]}", *(row.get(column) for column in columns))
        for key, row in cells.items()
    ]
    titles = ("`numba`, CPU", "`reference`, CPU", "`gsplat`, GPU", "`reference`, GPU")
    return table(("Gaussians, pixels", *titles), [row for row in body if any(row[1:])])


def _median(value: Any) -> float:
    return value["median"] if isinstance(value, dict) else value


def training_step() -> str:
    """Make the table of whole training steps on a CPU."""
    cells: dict[str, dict[str, str]] = {}
    for row in results("training-step-cpu"):
        key = f"{row['gaussians'] // 1000}k, {row['size']} x {row['size']}"
        cells.setdefault(key, {})[row["renderer"]] = (
            f"{row.get('total') or _median(row['step']):.1f}"
        )
    body = [(key, row.get("numba"), row.get("reference")) for key, row in cells.items()]
    return table(("Gaussians, pixels", "`numba`, ms", "`reference`, ms"), body)


def stages() -> str:
    """Make the table of the stages of `make demo`."""
    body = [
        (row.get("stage", row.get("name")), f"{row['seconds']:.1f}", f"{row['peak_gib']:.2f}")
        for row in results("stages-cpu")[0]["stages"]
    ]
    return table(("stage", "seconds", "peak GiB"), body)


def finished_batch() -> str:
    """Make the table of batches that pass over finished pictures."""
    body = [(row["pictures"], f"{row['seconds']:.1f}") for row in results("finished-batch-cpu")]
    return table(("finished pictures", "seconds"), body)


def batch() -> str:
    """Make the table of pictures an hour by a batch and by a loop of runs."""
    body = [
        (
            settings,
            f"`{row['way']}`" if row["way"] == "lift batch" else "loop of `lift run`",
            f"{row['rounds']} of {row['pictures']} pictures",
            f"{row['seconds'] / row['pictures']:.1f}",
            f"{row['processor_seconds'] / row['pictures']:.1f}",
            f"{row['pictures_per_hour']:.0f}",
            f"{row['load']:.1f}",
        )
        for settings, name in (
            ("shortest, CPU", "batch-small-cpu"),
            ("default, CPU", "batch-default-cpu"),
            ("`experiment=fast`, one H200", "batch-gpu-1-cuda"),
        )
        for row in results(name)
    ]
    head = (
        "settings",
        "command",
        "rounds",
        "clock s a picture",
        "processor s a picture",
        "pictures an hour",
    )
    return table((*head, "load"), body)


def end_to_end() -> str:
    """Make the table of whole runs by stage, on a GPU and on a CPU."""
    parts = ("depth", "plan", "clip", "reconstruct", "fit", "delivery", "all")
    body = []
    files = ("end-to-end-gpu-cuda", "end-to-end-fast-cuda", "end-to-end-cpu")
    for row in [row for file in files for row in results(file)]:
        for title, key, preview in (
            ("first run", "first_seconds", "first_preview_seconds"),
            ("later runs", "seconds", "preview_seconds"),
        ):
            seconds = [*(row[key].get(part) for part in parts), row.get(preview)]
            seconds.append(row["gpu_gib"])
            cells = [None if value is None else f"{value:.1f}" for value in seconds]
            body.append((f"`{row['preset']}`, {title}", *cells))
    return table(("preset", *parts, "preview", "GPU, GiB"), body)


def batch_overhead() -> str:
    """Make the table of what a batch costs apart from the scenes."""
    body = [
        (
            f"{row['engine']}, {row['case']}",
            row["pictures"],
            f"{1e3 * row['seconds'] / row['pictures']:.2f}",
            f"{1e3 * row['processor_seconds'] / row['pictures']:.2f}",
            f"{row['base_mib']:.0f}",
            f"{row['peak_mib']:.0f}",
            f"{row['summary_bytes'] / row['pictures']:.0f}",
            f"{row['load']:.1f}",
        )
        for row in results("batch-overhead-cpu")
    ]
    head = ("engine and case", "pictures", "clock ms a picture", "processor ms a picture")
    memory = ("MiB before", "MiB at the peak", "bytes of summary a picture", "load")
    return table((*head, *memory), body)


def startup() -> str:
    """Make the table of the time that commands take to start, before and now."""
    cells: dict[str, list[str]] = {}
    for field in ("processor_seconds", "seconds"):
        for row in results("startup-cpu"):  # the older checkout comes first
            cells.setdefault(row["command"], []).append(f"{row[field]:.2f}")
    head = ("command", "processor s, before", "processor s, now", "clock s, before", "clock s, now")
    return table(head, [(f"`{name}`", *values) for name, values in cells.items()])


def example_trainer() -> str:
    """Make the table that compares training steps with gsplat's example trainer."""
    rows = [
        *((row, "") for row in results("example-trainer-cuda")),
        *((row, ", CUDA graphs") for row in results("example-trainer-quick-cuda")),
    ]
    body = [
        (
            f"{row['gaussians'] // 1000}k, {row['batch_size']}{how}",
            f"{_median(row['example']):.2f}",
            f"{_median(row['lift']):.2f}",
            *(f"{row[f'{name}_ratio_to_example']:.2f}" for name in ("lift", "rigid", "composed")),
        )
        for row, how in rows
    ]
    head = ("Gaussians, views", "example trainer, ms", "`identity`, ms", "ratio")
    return table((*head, "ratio, `rigid`", "ratio, `composed`"), body)


def fits() -> str:
    """Make the table of whole fits on GPUs."""
    names = ("liftimage3d-h100", "liftimage3d", "composed", "identity-1", "identity-2")
    names += ("identity-4", "identity-1-equal", "identity-4-equal")
    body = []
    for name in names:
        row = results(f"fitting-{name}-cuda")[0]
        last, settings = row["history"][-1], " ".join(row["settings"])
        gpu = "H100" if "h100" in name else "H200"
        body.append(
            (
                f"`{row['distortion']}`" + (f" `{settings}`" if settings else ""),
                f"{row['processes']} {gpu}",
                f"{row['seconds']:.1f}",
                f"{last['held_out_psnr']:.1f}",
                f"{last['true_psnr']:.1f}",
            )
        )
    row = results("published-factored-cuda")[-1]
    body.append(
        (
            f"published recipe, rebuilt, {row['stage']} iteration {row['iteration']}",
            "1 H100",
            f"{row['seconds']:.0f}",
            f"{row['held_out_psnr']:.1f}",
            f"{row['true_psnr']:.1f}",
        )
    )
    return table(("distortion and settings", "GPUs", "seconds", "held-out, dB", "true, dB"), body)


def quality_preset() -> str:
    """Make the table of fits of experiment=quality with its settings of now and before."""
    body = []
    for steps in (1200, 800):
        row = results(f"fitting-quality-{steps}-cuda")[0]
        settings = row["fit"]
        psnr = row["history"][-1]["true_psnr"]
        body.append(
            (settings["steps"], settings["max_gaussians"], f"{row['seconds']:.1f}", f"{psnr:.1f}")
        )
    return table(("steps", "Gaussians at most", "seconds", "true, dB"), body)


def published_chain() -> str:
    """Make the table of the stages of the published method on one GPU."""
    rows = {row["stage"]: row for row in results("published-chain-cuda")}
    clips = results("published-chain-clips-cuda")[-1]
    measured = {
        "depth": (rows["depth"], f"{rows['depth']['seconds']:.1f}"),
        f"a clip of 50 sampling steps, median of {clips['calls']}": (
            clips,
            f"{clips['median_seconds']:.1f}",
        ),
        "cameras and points, 480 pairs": (
            rows["reconstruct"],
            f"{rows['reconstruct']['seconds']:.0f}",
        ),
    }
    body = [(name, seconds, row["peak_gib"]) for name, (row, seconds) in measured.items()]
    fit = rows["fit"]
    body.append(
        (f"the first {fit['steps']:,} of 17,000 steps of the fit", f"{fit['seconds']:.0f}", None)
    )
    last = f"a step of the second stage with {fit['gaussians']:,} Gaussians"
    body.append((last, f"{fit['milliseconds_per_step'] / 1e3:.3f}", None))
    return table(("part", "seconds", "peak GPU memory, GiB"), body)


def densification() -> str:
    """Make the table of strategies of densification and of initial Gaussians."""
    body = []
    for name in ("mcmc", "mcmc-neighbours", "mcmc-input", "gradient", "gradient-input"):
        row = results(f"fitting-{name}-cpu")[0]
        chosen = [s for s in row["settings"] if s.startswith(("fit.densify.", "fit.init."))]
        last = row["history"][-1]
        body.append(
            (
                f"`{' '.join(chosen)}`" if chosen else "the defaults",
                str(last["gaussians"]),
                f"{last['held_out_psnr']:.1f}",
                f"{last['true_psnr']:.1f}",
            )
        )
    return table(("settings", "Gaussians at the end", "held-out, dB", "true, dB"), body)


def continued_fits() -> str:
    """Make the table of continued fits beside fits in one go."""
    names = {"first": "first part alone", "continued": "continued", "whole": "in one go"}
    rows = [
        (
            f"{row['steps']} + {row['more_steps']}",
            *(f"{row[name]['held_out_psnr']:.1f}" for name in names),
            *(f"{row[name]['true_psnr']:.1f}" for name in ("continued", "whole")),
        )
        for row in results("continued-fits-cpu")
    ]
    head = ("steps", *names.values(), "continued, true views", "in one go, true views")
    return table(head, rows)


def priors() -> str:
    """Make the table of the time of a clip of Stable Video Diffusion."""
    body = [
        (row["mode"], row["clips"], f"{row['seconds_per_clip']:.1f}", f"{row['peak_gib']:.1f}")
        for row in results("priors-cuda")
    ]
    return table(("sampling", "clips", "seconds per clip", "peak GiB"), body)


def prior_clips() -> str:
    """Make the table of the time of a whole tree of clips."""
    rows = sorted(results("priors-tree-cuda"), key=lambda row: row["gpus"])
    body = [(row["gpus"], row["clips"], f"{row['seconds']:.0f}") for row in rows]
    return table(("GPUs", "clips", "seconds"), body)


def quality() -> str:
    """Make the table of the ray-cast room against its true views."""
    body = [
        (
            row["case"],
            f"`{' '.join(row['settings'])}`",
            f"{row['truth']['psnr']:.1f}",
            f"{row['truth']['ssim']:.2f}",
        )
        for row in results("quality-cpu")
        if row["case"] != "demo"
    ]
    return table(("case", "settings", "PSNR, true views", "SSIM"), body)
