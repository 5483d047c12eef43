"""Settings of loggers and callbacks."""

import pytest

from lift.config import compose_run
from lift.config.loggers import read_callbacks, read_loggers
from lift.registry import ComponentError

OTHER = "{_target_: pytorch_lightning.loggers.MLFlowLogger, experiment_name: a}"


def compose(*overrides: str):
    return compose_run(["image=coffee", *overrides])


@pytest.mark.parametrize(
    ("setting", "loggers"),
    [
        ("tensorboard", ["tensorboard"]),
        ("csv", ["csv"]),
        ("[tensorboard,csv]", ["tensorboard", "csv"]),
        ("none", []),
        ("[none]", []),
        (OTHER, [{"_target_": "pytorch_lightning.loggers.MLFlowLogger", "experiment_name": "a"}]),
        ("null", []),
        ("my_module.Mine", [{"_target_": "my_module.Mine"}]),
        (
            f"[csv,{OTHER}]",
            [
                "csv",
                {"_target_": "pytorch_lightning.loggers.MLFlowLogger", "experiment_name": "a"},
            ],
        ),
    ],
)
def test_one_or_several_loggers_are_chosen(setting, loggers):
    assert read_loggers(compose(f"logger={setting}")) == loggers


def test_tensorboard_is_the_default():
    assert read_loggers(compose()) == ["tensorboard"] and read_callbacks(compose()) == []


@pytest.mark.parametrize(
    ("setting", "callbacks"),
    [
        ("a.B", [{"_target_": "a.B"}]),
        ("[a.B,c.d.E]", [{"_target_": "a.B"}, {"_target_": "c.d.E"}]),
        ("[{_target_: a.B, every: 10}]", [{"_target_": "a.B", "every": 10}]),
        ("{_target_: a.B, every: 10}", [{"_target_": "a.B", "every": 10}]),
        ("null", []),
    ],
)
def test_callbacks_have_paths_and_arguments(setting, callbacks):
    assert read_callbacks(compose(f"callbacks={setting}")) == callbacks


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "logger=tensorbord",
            "logger is 'tensorbord'; choose one or several of tensorboard, wandb",
        ),
        ("logger=[none,csv]", "logger is 'none' (none stands alone)"),
        ("logger=[csv,csv]", "logger names csv twice"),
        ("logger=[{save_dir: x}]", "logger has {'save_dir': 'x'}, which names no class"),
        ("callbacks=[{every: 10}]", "callbacks has {'every': 10}, which names no class"),
        ("callbacks=3", "callbacks has 3, which names no class"),
        ("wandb.mode=off", "wandb.mode is 'off'; choose one of online, offline, disabled"),
        ("wandb.projct=x", "did you mean wandb.project?"),
        ("+wandb.options.group=x", "wandb.options.group is a setting of its own; use wandb.group"),
        ("+wandb.options.id=x", "wandb.options.id cannot be set"),
        ("+trainer.logger=false", "trainer.logger cannot be set; use logger=tensorboard, wandb"),
        ("trainer.logger=false", "trainer.logger cannot be set; use logger=tensorboard, wandb"),
        ("trainer.callbacks=[a.B]", "trainer.callbacks cannot be set; use callbacks=[my_module."),
        ("fit.log_images_every=-1", "fit.log_images_every is -1"),
    ],
)
def test_a_wrong_setting_says_what_to_use(override, message):
    with pytest.raises(ComponentError) as caught:
        compose(override)
    assert message in str(caught.value)
