"""What the evaluations of one process share."""

import pytest
import torch
from omegaconf import OmegaConf

from lift.config import EvalConfig
from lift.evaluation import resources
from lift.evaluation.datasets.ray_cast import RayCast
from lift.evaluation.measures import Measures
from lift.evaluation.resources import SharedResources

CPU = torch.device("cpu")
WARP = {"name": "warp"}
PLAIN = {"name": "ray_cast", "scenes": ["plain", "thin"], "size": [64, 64]}


def protocol(**changes):
    return OmegaConf.merge(OmegaConf.structured(EvalConfig).protocol, {"input": "first"}, changes)


def test_a_scene_is_read_once_for_equal_protocols(monkeypatch):
    captured = []
    capture = RayCast.capture
    monkeypatch.setattr(
        RayCast, "capture", lambda self, scene: captured.append(scene) or capture(self, scene)
    )
    monkeypatch.setattr(resources, "MAX_CASES", 2)
    shared = SharedResources()
    few = protocol(max_targets=2)
    case = shared.case(PLAIN, "plain", few, 64, WARP)
    assert shared.case(dict(PLAIN), "plain", protocol(max_targets=2, bins=[0.3]), 64, WARP) is case
    assert captured == ["plain"]
    assert len(shared.case(PLAIN, "plain", protocol(max_targets=3), 64, WARP).targets) == 3
    shared.case(PLAIN, "thin", few, 64, WARP)
    assert captured == ["plain", "plain", "thin"], "the first case has made room"
    assert shared.case(PLAIN, "plain", few, 64, WARP) is not case


def test_networks_and_their_failures_are_shared(monkeypatch):
    loads = []

    def load(weights, device, unavailable):
        loads.append((weights, dict(unavailable)))
        return Measures(None, None, ["LPIPS: no network", "DISTS: no network"])

    monkeypatch.setattr(Measures, "load", load)
    shared = SharedResources()
    assert shared.measures(None, CPU) is shared.measures(None, CPU)
    shared.measures("folder", CPU)
    shared.measures(None, torch.device("meta"))
    failures = {"LPIPS": "no network", "DISTS": "no network"}
    assert loads == [(None, {}), ("folder", failures), (None, failures)]


def test_reference_is_estimated_once_an_input(monkeypatch):
    built = []
    build = resources.depths.build
    monkeypatch.setattr(
        resources.depths, "build", lambda *args, **kw: built.append(args) or build(*args, **kw)
    )
    shared = SharedResources()
    case = shared.case(PLAIN, "plain", protocol(max_targets=1), 64, WARP)
    assert shared.reference(case, "ramp", CPU) is shared.reference(case, "ramp", CPU)
    assert len(built) == 1
    shared.reference(case, "lite", CPU)
    assert len(built) == 2


def test_a_prior_with_a_shape_of_its_own_has_its_own_case():
    pytest.importorskip("diffusers")
    shared = SharedResources()
    few = protocol(max_targets=1)
    whole = shared.case(PLAIN, "plain", few, 64, WARP)
    svd = {"name": "svd", "resize_mode": "crop"}
    cropped = shared.case(PLAIN, "plain", few, 64, svd)
    assert (whole.camera.height, cropped.camera.height) == (64, 32)
    assert shared.case(PLAIN, "plain", few, 64, {"name": "svd", "resize_mode": "pad"}) is not whole
