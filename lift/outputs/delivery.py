"""Write the results of a finished run: scene, cameras, fly-through, measurements and report."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from jaxtyping import Float, UInt8
from omegaconf import OmegaConf
from torch import Tensor

from lift.config.delivery_schema import MINIMAL
from lift.config.files import config_to_yaml
from lift.evaluation.metrics import camera_errors
from lift.evaluation.truth import planned_loop, truth_of
from lift.io.image import save_image
from lift.io.nerfstudio import write_transforms
from lift.outputs.contact_sheet import contact_sheet
from lift.outputs.coverage import Coverage
from lift.outputs.films import FilmOptions, FilmSource
from lift.outputs.films.delivered import (
    film_options,
    film_stills,
    finish_run_film,
    start_run_film,
)
from lift.outputs.fly_through import FlyThrough, frame_times, make_fly_through
from lift.outputs.publication import publish_run
from lift.outputs.quality import (
    FrameMetrics,
    RunResult,
    compare_with_truth,
    corrected_cameras,
    evaluate_frames,
    held_out_frames,
    registered_frames,
    summarize,
)
from lift.outputs.report import EmbeddedScene, embed_scene, write_report
from lift.outputs.scene_files import write_scene_files
from lift.outputs.share_page import ShareContent, encode_gaussians, render_share_page
from lift.outputs.verdict import Verdict
from lift.outputs.view_region import CoverageMeasure, ViewRegion, covered_region
from lift.renderers import Renderer, renderers
from lift.runtime.background import Background, BackgroundTask, background, finished_task
from lift.runtime.finished import REDELIVER
from lift.runtime.profiling import span
from lift.runtime.session import Session, write_json
from lift.stages.logs import tell_upload
from lift.types import Cameras

FLY_THROUGH = "fly_through.json"
"""File of the fly-through's cameras."""
CONTACT_SHEET = "fly_through.jpg"
"""File of the fly-through's contact sheet."""
VIEW_REGION = "view_region.json"
"""File of the region in which views stay covered."""
SHEET_SIZE = 160
"""Shorter side in pixels of a view in the contact sheet of `deliver.keep=minimal`."""

MAX_TRUE_VIEWS = 8
"""Approximate number of true views for comparison, if every view is known."""


def deliver(
    session: Session,
    result: RunResult,
    folder: Path | None = None,
    record: Mapping[str, Any] | None = None,
    request: str | None = None,
) -> Path:
    """Write all results of a run, the report last, and print the verdict.

    Args:
        session: The run, on its main process.
        result: The results of the stages.
        folder: Folder of the results. None: `<output>/<picture>/<name>`.
        record: More entries of provenance.json.
        request: What the run was asked for. See `publish_run`.

    Returns:
        The run's folder.
    """
    folder = folder or _run_folder(session, result)
    keep = session.config.deliver.keep
    with publish_run(folder, session.stages[-1].key, session.say, request, keep) as draft:
        session.say("delivering")
        with span("delivery"):
            metrics = _write_results(session, result, draft, folder, record)
    for line in Verdict.from_metrics(metrics).lines:
        session.say(line)
    tell_upload(session, folder)
    return folder


def _write_results(
    session: Session,
    result: RunResult,
    folder: Path,
    run_folder: Path,
    record: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Write all results to an empty folder, and return the content of `metrics.json`.

    `run_folder` is where the folder will be when it is published.
    """
    if not result.fit_folder.is_dir():
        raise FileNotFoundError(
            f"{result.fit_folder} was removed from the cache meanwhile; run it again"
        )
    renderer = session.build(renderers)
    cameras = corrected_cameras(result)
    with background() as tasks:
        files, encoded = _start_scene_files(session, result, folder, renderer, cameras, tasks)
        train_cameras = cameras[_train_frames(result)]
        coverage = Coverage(renderer, result.gaussians, train_cameras)
        options = film_options(session.config.export.film, cameras)
        with span("fly-through"):
            fly_through = plan_fly_through(renderer, result, cameras, options.count, coverage)
        gaussians = result.gaussians.to(renderer.device)
        source = FilmSource(renderer, gaussians, train_cameras, fly_through.cameras, coverage)
        with span("film"):
            stills, film = _start_film(session, folder, source, options, tasks)
        files.raise_error()
        write_transforms(folder / FLY_THROUGH, fly_through.cameras, [""] * options.count)
        with span("view region"):
            region = covered_region(
                renderer, gaussians, train_cameras, result.depth.typical, coverage, cameras[:1]
            )
        write_json(folder / VIEW_REGION, region.to_dict())
        content = _share_content(result, cameras, fly_through, region)
        page = encoded and tasks.start("share page", partial(_embed_page, content, encoded))
        with span("measurements"):
            frame_metrics = evaluate_frames(renderer, result)
            metrics = _measure(session, renderer, result, frame_metrics, fly_through, cameras)
        write_json(folder / "metrics.json", metrics)
        with span("waiting for other threads"):
            finish_run_film(film, session.note)
            files.result()
        provenance = _write_settings(session, result, folder, record)
        if page:
            facts = result, renderer, frame_metrics, metrics, provenance, stills, run_folder
            with span("report"):
                write_report(folder, *facts, scene=partial(_finish_page, session, page))
    return metrics


def _start_scene_files(
    session: Session,
    result: RunResult,
    folder: Path,
    renderer: Renderer,
    cameras: Cameras,
    tasks: Background,
) -> tuple[BackgroundTask[None], BackgroundTask[bytes] | None]:
    """Write the files of the scene, and encode it for the report, while other results are made.

    Minimal: only the files, at once, because they need renders.
    """
    write = partial(
        write_scene_files, folder, session.config, result, renderer, cameras, session.note
    )
    if session.config.deliver.keep == MINIMAL:
        with span("scene files"):
            write()
        return finished_task(None), None
    files = tasks.start("scene files", write)
    encode = partial(encode_gaussians, result.gaussians, cameras)
    return files, tasks.start("scene of the page", encode)


def _start_film(
    session: Session, folder: Path, source: FilmSource, options: FilmOptions, tasks: Background
) -> tuple[list[UInt8[Tensor, "height width 3"]], BackgroundTask[None]]:
    """Render the film, which another thread writes, and make a sheet of its stills.

    Minimal: only a small sheet.
    """
    if session.config.deliver.keep == MINIMAL:
        small = replace(options, size=min(options.size or SHEET_SIZE, SHEET_SIZE))
        stills, film = film_stills(source, small), finished_task(None)
    else:
        stills, film = start_run_film(folder, source, options, session.note, tasks)
    save_image(folder / CONTACT_SHEET, contact_sheet(stills, columns=4))
    return stills, film


def _write_settings(
    session: Session, result: RunResult, folder: Path, record: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Write the settings, and the content of `provenance.json`, which is returned."""
    config = session.config
    OmegaConf.update(config, REDELIVER, False, force_add=True)  # a wish for this once
    (folder / "config.yaml").write_text(config_to_yaml(config), encoding="utf-8")
    provenance = session.provenance() | dict(record or {})
    if result.capture:
        provenance["source"] = {
            "kind": result.capture.kind,
            "hint": result.trajectory.hint,
            "frames": list(result.capture.names),
        }
    write_json(folder / "provenance.json", provenance)
    return provenance


def _embed_page(content: ShareContent, encoded: BackgroundTask[bytes]) -> EmbeddedScene:
    """Make the page of the interactive scene, and compress it for the report."""
    return embed_scene(render_share_page(content, embedded=True, encoded=encoded.result()))


def _finish_page(session: Session, page: BackgroundTask[EmbeddedScene]) -> EmbeddedScene | None:
    """Wait for the page of the interactive scene. None if no format holds the scene."""
    with span("share page"):
        try:
            return page.result()
        except ValueError as error:
            session.note(f"the report has no interactive scene: {error}")
            return None


def _share_content(
    result: RunResult, cameras: Cameras, fly_through: FlyThrough, region: ViewRegion
) -> ShareContent:
    """Collect what the page of the interactive scene shows."""
    return ShareContent(
        gaussians=result.gaussians,
        input_camera=cameras[:1],
        frames=cameras,
        fly_through=fly_through.cameras,
        region=region,
        poster=result.frames.images[0],
        title=result.picture.name,
    )


def _run_folder(session: Session, result: RunResult) -> Path:
    """Return the folder of a run's results."""
    config = session.config
    source_name = result.capture.kind if result.capture else config.prior.name
    name = config.name or f"{source_name}-{config.distortion.name}-{session.stages[-1].key}"
    return session.output / result.picture.name / name


def plan_fly_through(
    renderer: Renderer,
    result: RunResult,
    cameras: Cameras,
    count: int,
    coverage: CoverageMeasure | None = None,
) -> FlyThrough:
    """Plan the path of the video among the registered frames.

    Args:
        renderer: Renders the scene to measure its coverage.
        result: The results of the stages.
        cameras: The frames' corrected cameras, the input first.
        count: Number of views.
        coverage: Measures the coverage of the scene's views. None: made from the frames.

    Returns:
        The path, its coverage and the factor on its motion.
    """
    registered = registered_frames(result)
    times = frame_times(result.trajectory)
    if times is not None:
        times = [times[index] for index in registered]
    measure = coverage or Coverage(renderer, result.gaussians, cameras[_train_frames(result)])
    return make_fly_through(cameras[registered], times, result.depth.typical, count, measure)


def input_coverage(
    renderer: Renderer, result: RunResult, cameras: Cameras, fly_through: FlyThrough
) -> Float[Tensor, "view"] | None:
    """Measure how much of the fly-through the input picture alone observed.

    Args:
        renderer: Renders the scene to measure its coverage.
        result: The results of the stages.
        cameras: The frames' corrected cameras, the input first.
        fly_through: The path.

    Returns:
        Coverage of the measured views in [0, 1]. None if no frames were generated.
    """
    if not result.is_generated or len(cameras) < 2:
        return None
    return Coverage(renderer, result.gaussians, cameras[:1])(fly_through.measured_cameras)


def _train_frames(result: RunResult) -> list[int]:
    """List the frames that the fit was trained on, the input first."""
    held_out = held_out_frames(result)
    return [index for index in registered_frames(result) if index not in held_out]


def _measure(
    session: Session,
    renderer: Renderer,
    result: RunResult,
    frame_metrics: list[FrameMetrics],
    fly_through: FlyThrough,
    cameras: Cameras,
) -> dict[str, Any]:
    """Compute the content of `metrics.json`."""
    config = session.config
    if result.trajectory.hint in ("planned", "known"):
        path = planned_loop(result.trajectory, result.depth.typical, MAX_TRUE_VIEWS)
    else:
        path = fly_through.cameras
    truth = truth_of(session.image, result.picture, path[:: max(1, len(path) // MAX_TRUE_VIEWS)])
    truth_metrics = compare_with_truth(renderer, result, truth) if truth else None
    metrics = summarize(
        result,
        frame_metrics,
        fly_through,
        config.fit.max_gaussians,
        truth_metrics,
        input_coverage(renderer, result, cameras, fly_through),
    )
    if result.true_cameras is not None:
        with suppress(ValueError):  # no similarity aligns positions on one line
            metrics["cameras"] = camera_errors(cameras, result.true_cameras, result.depth.typical)
    return metrics
