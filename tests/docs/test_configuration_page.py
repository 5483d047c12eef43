"""The examples of the page on settings and experiments work as they are printed."""

import re
from pathlib import Path

import pytest

from lift.config import compose_run
from lift.config.experiments import read_experiment
from lift.config.folders import use_config_folders

PAGE = (Path(__file__).parents[2] / "docs/configuration.md").read_text(encoding="utf-8")


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    """The folder `conf` of the page."""
    found = re.findall(r"`conf/(\w+/\w+)\.yaml`:\n\n```yaml\n(.*?)^```", PAGE, re.M | re.S)
    assert [name for name, _ in found] == ["experiment/small", "prior/garden"]
    rows = re.findall(r"^\| `conf/(\w+/\w+)\.yaml` \| (`[^|]*`) \|", PAGE, re.M)
    written = [(name, "\n".join(re.findall(r"`(.+?)`", content))) for name, content in rows]
    named = re.search(r"```yaml\n(# @package _global_\n# Names that .*?)^```", PAGE, re.M | re.S)
    assert named is not None
    for name, content in [*written, *found, ("experiment/named", named[1])]:
        path = tmp_path / f"{name}.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return tmp_path


def test_the_experiment_of_the_page_is_shown_with_its_reasons(conf: Path) -> None:
    with use_config_folders([f"--config-dir={conf}"]):
        experiment = read_experiment("small")
    assert experiment.description == "A first look: small pictures and few steps."
    reasons = {change.key: change.reason for change in experiment.changes}
    assert reasons["fit.steps"] == "enough to see the layout"
    assert reasons["distortion"] == "nothing to correct in a first look"


def test_the_files_of_the_page_can_be_chosen(conf: Path) -> None:
    chosen = ["experiment=[small,named]", "fit=fast", "trainer=two", "prior=garden", "seed=4"]
    config = compose_run(["image=photo.jpg", f"--config-dir={conf}", *chosen])
    assert (config.preprocess.size, config.fit.steps, config.name) == (192, 300, "x-4")
    assert (config.prior.name, config.prior.num_inference_steps) == ("vace", 30)
    assert (config.trainer.accelerator, config.trainer.devices) == ("gpu", 2)
