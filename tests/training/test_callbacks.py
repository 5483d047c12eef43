"""Callbacks of the user: they see each step, count for the cache, and are named when they fail."""

import re
import sys
from pathlib import Path

import pytest
from pytorch_lightning.callbacks import Callback, EarlyStopping, LambdaCallback

from lift.errors import is_user_error
from lift.registry import ComponentError
from lift.training.callbacks import build_callbacks, callback_key, uses_batches
from lift.training.fit import fit
from lift.training.loggers import LogSettings
from tests.helpers.fits import KilledError, module, settings

CPU = {"accelerator": "cpu", "devices": 1}
PAGE = Path(__file__).parents[2] / "docs" / "loggers.md"
HERE = __name__


class Steps(Callback):
    """Record the step after each step."""

    def __init__(self, every: int = 1) -> None:
        self.every = every
        self.seen: list[tuple[int, int]] = []
        self.backward: list[int] = []

    def on_train_batch_end(self, trainer, pl_module, *_):
        if pl_module.step % self.every == 0:
            self.seen.append((pl_module.step, trainer.global_step))

    def on_after_backward(self, trainer, pl_module):
        self.backward.append(pl_module.step)

    def state_dict(self):
        return {"seen": list(self.seen)}

    def load_state_dict(self, state_dict):
        self.seen = state_dict["seen"]


class Foreign:
    """A class that is no callback."""


class Failing(Callback):
    def on_validation_end(self, trainer, pl_module):
        raise ValueError("no such\nvalue")


class Unreadable(Callback):
    def state_dict(self):
        return {"path": Path("x")}


def make_steps(every: int) -> Steps:
    return Steps(every)


def run(folder: Path, *callbacks: Callback, die_at: int | None = None, **changes):
    how = settings(**{"steps": 8, "checkpoint_every": 4, "test_every": 2, **changes})
    fitted = module(how)
    step = fitted.optimise

    def optimise(views):
        if fitted.step == die_at:
            raise KilledError
        return step(views)

    fitted.optimise = optimise
    fit(fitted, [1, 2, 3], folder, how, CPU, 0, logs=LogSettings(("csv",)), callbacks=callbacks)
    return fitted


def test_a_callback_sees_every_step_once(tmp_path):
    """The last epoch is longer than what is left to do."""
    (steps,) = build_callbacks([{"_target_": f"{HERE}.Steps"}])
    run(tmp_path, steps, checkpoint_every=5)
    assert steps.seen == [(step, step) for step in range(1, 9)]
    assert steps.backward == list(range(8))
    assert not (tmp_path / "callbacks").exists(), "it wrote no files"


def test_a_callback_does_not_change_the_result(tmp_path):
    first = run(tmp_path / "without")
    second = run(tmp_path / "with", Steps())
    for name, value in first.state_dict().items():
        assert value.equal(second.state_dict()[name]), name


def test_a_killed_fit_continues_the_state_of_callbacks(tmp_path):
    with pytest.raises(KilledError):
        run(tmp_path, Steps(2), die_at=6)
    steps = Steps(2)
    run(tmp_path, steps)
    assert steps.seen == [(2, 2), (4, 4), (6, 6), (8, 8)]


def test_a_stopped_fit_goes_on_in_the_next_epoch(tmp_path):
    class Stop(Steps):
        def on_train_batch_end(self, trainer, pl_module, *_):
            super().on_train_batch_end(trainer, pl_module)
            trainer.should_stop = pl_module.step == 2

    first, second = Stop(), Steps()
    assert run(tmp_path, first).step == 2
    run(tmp_path, second)
    assert [step for step, _ in second.seen] == list(range(3, 9))


def test_early_stopping_reads_the_curves(tmp_path):
    target = {
        "_target_": "pytorch_lightning.callbacks.EarlyStopping",
        "monitor": "val/held_out_psnr",
        "mode": "max",
        "min_delta": 100.0,
        "patience": 1,
    }
    (stopping,) = build_callbacks([target])
    assert isinstance(stopping, EarlyStopping) and not uses_batches([stopping])
    fitted = run(tmp_path, stopping, checkpoint_every=1)
    assert 2 <= fitted.step < 8


def test_arguments_and_functions_are_allowed():
    steps, made = build_callbacks(
        [
            {"_target_": f"{HERE}.Steps", "every": 3},
            {"_target_": f"{HERE}.make_steps", "every": 4},
        ]
    )
    assert (steps.every, made.every) == (3, 4)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ({"_target_": "Steps"}, "callbacks names 'Steps'; give an import path"),
        ({"_target_": f"{HERE}.Step"}, "has no 'Step'; did you mean Steps?"),
        ({"_target_": "nowhere.Steps"}, "there is no module 'nowhere'"),
        ({"_target_": f"{HERE}.Steps", "evry": 2}, "an unexpected keyword argument 'evry'; it"),
        ({"_target_": f"{HERE}.make_steps"}, "missing a required argument: 'every'"),
        ({"_target_": f"{HERE}.Foreign"}, "gives a Foreign; derive it from Callback of pytorch_"),
        ({"_target_": "builtins.len", "obj": ()}, "positional"),
    ],
)
def test_a_wrong_target_is_one_line(target, message):
    with pytest.raises(ComponentError) as caught:
        build_callbacks([target])
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_the_other_lightning_is_named(monkeypatch):
    """The package `lightning` has classes of the same names."""
    other = type("Callback", (), {"__module__": "lightning.pytorch.callbacks.callback"})
    monkeypatch.setattr(sys.modules[HERE], "Foreign", type("Mine", (other,), {}))
    with pytest.raises(ComponentError, match="not from that of 'lightning'"):
        build_callbacks([{"_target_": f"{HERE}.Foreign"}])


def test_the_callback_that_fails_is_named(tmp_path):
    with pytest.raises(RuntimeError, match="^callback Failing.on_validation_end failed") as caught:
        run(tmp_path, Steps(), Failing())
    assert str(caught.value).endswith("ValueError: no such value")
    assert isinstance(caught.value.__cause__, ValueError)
    assert not is_user_error(caught.value), "its traceback is printed"


def test_a_state_that_cannot_be_read_back_is_an_error(tmp_path):
    with pytest.raises(ComponentError, match="callback Unreadable: its state_dict cannot be read"):
        run(tmp_path, Unreadable())


def test_the_key_has_path_arguments_and_source(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)

    def key(name: str, **arguments) -> list:
        return callback_key([{"_target_": f"{name}.Mine", **arguments}])

    text = "from pytorch_lightning import Callback\nclass Mine(Callback):\n    number = 1\n"
    (tmp_path / "key_first.py").write_text(text)
    first = key("key_first")
    assert first == key("key_first") != key("key_first", every=2)
    (tmp_path / "key_first.py").write_text(text.replace("1", "2"))
    assert key("key_first") != first
    (tmp_path / "key_second.py").write_text(text)
    assert key("key_second") != first, "another path"
    nested = {"_target_": f"{HERE}.Steps", "inner": [{"_target_": "key_first.Mine"}]}
    before = callback_key([nested])
    (tmp_path / "key_first.py").write_text(text)
    assert callback_key([nested]) != before, "the source of an argument"


def test_the_code_of_a_notebook_counts(monkeypatch):
    def key(body: str) -> list:
        space = {"__name__": HERE, "Callback": Callback}
        exec(f"class Live(Callback):\n    def on_train_end(self, *_):\n        {body}\n", space)
        monkeypatch.setattr(sys.modules[HERE], "Live", space["Live"], raising=False)
        return callback_key([{"_target_": f"{HERE}.Live"}])

    assert key("return 1") == key("return 1") != key("return 2")


def test_only_hooks_on_batches_make_batches_small():
    assert uses_batches([Steps()])
    assert uses_batches([LambdaCallback(on_train_batch_end=print)])
    assert not uses_batches([Callback(), Failing(), LambdaCallback(on_train_end=print)])


def test_the_callback_of_the_docs_works_as_written(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    text = PAGE.read_text(encoding="utf-8")
    (code,) = re.findall(r"`my_callbacks\.py`:\n\n```python\n(.*?)^```", text, re.M | re.S)
    (tmp_path / "my_callbacks.py").write_text(code, encoding="utf-8")
    target = {"_target_": "my_callbacks.CountGaussians", "every": 4}
    fitted = run(tmp_path / "fit", *build_callbacks([target]))
    counts = (tmp_path / "fit" / "callbacks" / "counts.txt").read_text().splitlines()
    assert [line.split()[0] for line in counts] == ["4", "8"]
    assert counts[-1] == f"8 {fitted.splats.count}"
    assert "opacity" in (tmp_path / "fit" / "csv" / "metrics.csv").read_text().splitlines()[0]
