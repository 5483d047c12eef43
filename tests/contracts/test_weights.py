"""The contract of components that download published weights."""

import pytest

from lift.contracts.subject import ContractError, Subject
from lift.contracts.weights import lists_its_published_weights
from lift.depths import DepthEstimator
from lift.registry import ComponentError, catalogue
from lift.weights import HubFiles


def check(monkeypatch, tmp_path, made) -> None:
    """Run the check for a component that returns `made`."""

    class Made(DepthEstimator):
        @classmethod
        def required_weights(cls, settings, half):
            return made

    entry = catalogue()("depth", "ramp")
    monkeypatch.setattr(entry, "import_class", lambda: Made)
    monkeypatch.setattr(entry, "load", lambda: Made)
    lists_its_published_weights(Subject("depth", "ramp", tmp_path))


def test_declarations_of_the_slot_pass(monkeypatch, tmp_path):
    check(monkeypatch, tmp_path, (HubFiles("depth.model", "a/b", ("w",), "MIT"),))
    check(monkeypatch, tmp_path, ())


def test_other_values_are_named(monkeypatch, tmp_path):
    with pytest.raises(
        ComponentError, match="depth 'ramp' returns 'owner/model'; return values of"
    ):
        check(monkeypatch, tmp_path, ("owner/model",))


def test_setting_of_another_slot_is_refused(monkeypatch, tmp_path):
    with pytest.raises(ContractError, match="a setting of the slot depth"):
        check(monkeypatch, tmp_path, (HubFiles("pose.model", "a/b", ("w",), "MIT"),))
