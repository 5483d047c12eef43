"""Settings in a run's folder, which somebody else may have written."""

import warnings

import pytest

from lift.api.continuation import without_imports


def test_callbacks_and_loggers_by_import_path_are_dropped():
    stored = {
        "callbacks": [{"_target_": "os.system", "command": "true"}],
        "logger": ["csv", {"_target_": "evil.Logger"}],
        "wandb": {"project": "mine", "settings": {"base_url": "http://elsewhere"}},
    }
    with pytest.warns(UserWarning, match="not taken from the run's folder"):
        settings = without_imports(stored)
    assert settings == {"callbacks": None, "logger": ["csv"], "wandb": {"project": "mine"}}


@pytest.mark.parametrize("logger", ["tensorboard", "none", ["tensorboard", "csv"]])
def test_built_in_loggers_stay_without_a_warning(logger):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        settings = without_imports({"callbacks": None, "logger": logger, "seed": 1})
    assert settings == {"callbacks": None, "logger": logger, "seed": 1}
