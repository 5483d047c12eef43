"""The tables of an evaluation whose scenes several processes and commands measure."""

import json
import threading
import time
from pathlib import Path

import pytest

from lift.batch.records import Record, Summary
from lift.evaluation import results
from lift.evaluation.ablation.grid import Variant
from lift.evaluation.evaluate import Evaluation
from lift.evaluation.plan import EvaluationPlan, build_evaluations
from lift.evaluation.results import collect_results, record_settings, write_tables
from lift.evaluation.settings import compose_evaluation
from lift.evaluation.storage import write_row
from lift.io.image import save_image

NUMBERS = ("distance", "angle", "psnr", "ssim", "visible", "psnr_visible", "ssim_visible")
VIEW = {
    "view": "0",
    **dict.fromkeys((*NUMBERS, "psnr_input"), 0.5),
    **dict.fromkeys(("lpips", "dists", "lpips_visible")),
}


@pytest.fixture
def evaluation(tmp_path) -> Evaluation:
    arguments = ["dataset=ray_cast", "dataset.scenes=[plain,thin]", f"output={tmp_path}", "name=a"]
    return build_evaluations(plan(arguments), [compose_evaluation(arguments)])[0]


def plan(arguments: list[str]) -> EvaluationPlan:
    return EvaluationPlan([Variant(())], [arguments], "a", None)


def measure(evaluation: Evaluation, scene: str, key: str | None = None) -> Record:
    """Write the result of a scene, and return its record."""
    import torch

    evaluation.folder.mkdir(parents=True, exist_ok=True)
    file = evaluation.folder / f"{scene}-0.json"
    row = {
        **{"key": "k", "evaluation": key or evaluation.key, "scene": scene, "seed": 0, "run": "r"},
        **{"views": [VIEW], "depth": None, "cameras": None, "stages": {}, "missing": []},
        **{"notes": {}, "alignment": {"scale": 1.0}, "input": "0", "size": [8, 8], "typical": 1.0},
    }
    write_row(file, row, lambda draft: save_image(draft, torch.zeros(2, 2, 3)))
    return Record(f"{scene}, seed 0", f"{scene}, seed 0", "finished", result=str(file))


def failure(scene: str, cause: str, settings: list[str] | None = None) -> Record:
    title = f"{scene}, seed 0"
    return Record(title, title, "failed", settings or [], error=f"{cause}!", cause=cause)


def test_a_lost_worker_leaves_the_result_of_an_earlier_command(evaluation):
    plain, _ = measure(evaluation, "plain"), measure(evaluation, "thin")
    found = collect_results(evaluation, [plain, failure("thin", "transient")], [])
    assert [row["scene"] for row in found.rows] == ["plain", "thin"] and not found.failed
    found = collect_results(evaluation, [plain, failure("thin", "permanent")], [])
    assert [row["scene"] for row in found.rows] == ["plain"]
    assert found.failed == {"thin-0": "permanent!"}


def test_results_and_errors_of_other_settings_do_not_count(evaluation):
    measure(evaluation, "plain", key="other")
    other = failure("thin", "permanent", ["evaluation=other"])
    found = collect_results(evaluation, [], [other])
    assert found.unmeasured == ["plain-0", "thin-0"] and not found.rows and not found.failed
    same = failure("thin", "permanent", record_settings(evaluation))
    assert collect_results(evaluation, [], [same]).failed == {"thin-0": "permanent!"}


def test_a_shard_that_fails_completes_the_table(evaluation):
    its_plan = plan([])
    tables = write_tables(its_plan, [evaluation], [failure("plain", "permanent")], "lift eval")
    assert not tables.files and not tables.is_complete, "there is no result at all"
    tables = write_tables(its_plan, [evaluation], [measure(evaluation, "plain")], "lift eval")
    assert "Not measured yet, and in no mean: thin-0" in tables.files[0].read_text()
    tables = write_tables(its_plan, [evaluation], [failure("thin", "transient")], "lift eval")
    assert tables.is_complete and "thin-0 (transient!)" in tables.files[0].read_text()


def test_the_last_of_two_processes_writes_the_results_of_both(evaluation, monkeypatch):
    collected = threading.Event()
    collect = results.collect_results

    def collect_slowly(*arguments):
        found = collect(*arguments)
        if not collected.is_set():  # the other process has its result now, and wants to write
            collected.set()
            time.sleep(0.3)
        return found

    monkeypatch.setattr(results, "collect_results", collect_slowly)
    first = threading.Thread(
        target=write_tables,
        args=(plan([]), [evaluation], [measure(evaluation, "plain")], "lift eval"),
    )
    first.start()
    collected.wait()
    tables = write_tables(plan([]), [evaluation], [measure(evaluation, "thin")], "lift eval")
    first.join()
    content = json.loads((evaluation.folder / "table.json").read_text())
    assert tables.is_complete and len(content["rows"]) == 2 and not content["unmeasured"]


def test_errors_of_other_shards_are_read(evaluation):
    summary = Summary(evaluation.folder / "summary-1-of-2.jsonl")
    summary.add(failure("thin", "permanent", record_settings(evaluation)))
    summary.close()
    tables = write_tables(plan([]), [evaluation], [measure(evaluation, "plain")], "lift eval")
    content = json.loads((evaluation.folder / "table.json").read_text())
    assert content["failed"] == {"thin-0": "permanent!"} and tables.is_complete
    assert Path(tables.files[0]) == evaluation.folder / "table.md"
