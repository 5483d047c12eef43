"""Settings of numba in the current folder."""

import pytest

from lift.registry import ComponentError
from lift.runtime.folder_settings import NUMBA_SETTINGS, check_current_folder
from tests.helpers.commands import here


def test_a_folder_with_settings_of_numba_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check_current_folder()
    (tmp_path / NUMBA_SETTINGS).write_text("cache_dir: ./evil\n", encoding="utf-8")
    with pytest.raises(ComponentError, match="numba_config.yaml"):
        check_current_folder()


def test_every_command_refuses_such_a_folder(tmp_path):
    (tmp_path / NUMBA_SETTINGS).write_text("cache_dir: ./evil\n", encoding="utf-8")
    for command in (("list",), ("run", "image=coffee", "--plan")):
        done = here(*command, cwd=tmp_path)
        assert done.returncode == 2 and NUMBA_SETTINGS in done.stderr
