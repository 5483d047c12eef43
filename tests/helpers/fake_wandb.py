"""A stand-in for the package wandb that records what Lightning's WandbLogger calls."""

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest


class Config(dict):
    """Hyperparameters of a run."""

    def update(self, values: dict, allow_val_change: bool = False) -> None:
        super().update(values)


class Run:
    """A run, with all that was logged."""

    def __init__(self, module: ModuleType, mode: str, **arguments: Any) -> None:
        self.module, self.arguments = module, arguments
        self.id = arguments["id"]
        self.settings = SimpleNamespace(mode=mode)
        self.url = f"https://wandb.test/{self.id}"
        self.config = Config()
        self.rows: list[dict] = []
        self.exit_code: int | None = None

    def define_metric(self, name: str, **options: Any) -> None:
        pass

    def log(self, values: dict) -> None:
        self.rows.append(values)

    def finish(self, exit_code: int = 0) -> None:
        self.exit_code = exit_code
        self.module.run = None

    def steps(self, name: str) -> list[int]:
        return [row["trainer/global_step"] for row in self.rows if name in row]


class FakeWandb(ModuleType):
    """The module."""

    class Error(Exception):
        """Base of wandb's errors."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self.__spec__ = ModuleSpec("wandb", None, origin="a fake")
        self.run: Run | None = None
        self.runs: list[Run] = []
        self.has_key = True
        self.logins = 0
        self.mode = "online"

    def setup(self) -> SimpleNamespace:
        return SimpleNamespace(settings=SimpleNamespace(mode=self.mode))

    def login(self) -> None:
        self.logins += 1
        if not self.has_key:
            raise self.Error("No API key configured. Use `wandb login` to log in.")

    def init(self, mode: str | None = None, **arguments: Any) -> Run:
        self.run = Run(self, mode or self.mode, **arguments)
        self.runs.append(self.run)
        return self.run

    def Image(self, picture: Any, **options: Any) -> Any:  # noqa: N802
        return picture


def install(monkeypatch: pytest.MonkeyPatch) -> FakeWandb:
    """Replace the package wandb."""
    fake = FakeWandb()
    library = ModuleType("wandb.sdk.lib")
    library.RunDisabled = type("RunDisabled", (), {})
    runs = ModuleType("wandb.wandb_run")
    runs.Run = Run
    modules = {
        "wandb": fake,
        "wandb.sdk": ModuleType("wandb.sdk"),
        "wandb.sdk.lib": library,
        "wandb.wandb_run": runs,
    }
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr("pytorch_lightning.loggers.wandb._WANDB_AVAILABLE", True)
    return fake
