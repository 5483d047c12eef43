"""Errors of the hub's library become one line that says what to do."""

from huggingface_hub import errors

from lift.errors import model_not_loaded_error
from lift.weights.problems import hub_problem


class Response:
    """What the errors read of a response."""

    headers = {}  # noqa: RUF012
    request = None
    url = "https://huggingface.co/owner/model"
    text = ""

    def __init__(self, status: int) -> None:
        self.status_code = status


def raised(kind: type[Exception], status: int) -> Exception:
    return kind("refused", response=Response(status))


def test_gated_weights_name_licence_page_and_login():
    error = raised(errors.GatedRepoError, 403)
    text = str(model_not_loaded_error("prior.model", "owner/model", error))
    assert "accept the licence at https://huggingface.co/owner/model" in text
    assert "hf auth login" in text and "HF_TOKEN" in text and "\n" not in text


def test_gated_error_is_found_behind_that_of_a_library():
    try:
        try:
            raise raised(errors.GatedRepoError, 401)
        except errors.GatedRepoError as cause:
            raise OSError("You are trying to access a gated repo.") from cause
    except OSError as error:
        assert "accept the licence" in hub_problem(error, "owner/model")


def test_missing_repository_asks_for_name_or_login():
    problem = hub_problem(raised(errors.RepositoryNotFoundError, 401), "owner/model")
    assert "no https://huggingface.co/owner/model, or it is private" in problem
    assert "hf auth login" in problem


def test_missing_file_names_the_repository():
    problem = hub_problem(raised(errors.RemoteEntryNotFoundError, 404), "owner/model")
    assert "https://huggingface.co/owner/model has no such file" in problem


def test_offline_names_variable_cache_and_command(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for kind in (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled):
        problem = hub_problem(kind("not there"), "owner/model")
        assert "HF_HUB_OFFLINE=1 is set" in problem and "lift download" in problem
        assert str(constants.HF_HUB_CACHE) in problem


def test_unreachable_hub_asks_for_the_network(monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    for error in (errors.LocalEntryNotFoundError("not there"), ConnectionError("refused")):
        assert "check the network" in hub_problem(error, "owner/model")


def test_wrong_names_are_told_from_missing_ones():
    problem = hub_problem(errors.HFValidationError("bad"), "a/b/c")
    assert problem == (
        "it is neither a folder nor the name of a model on the hub, which is OWNER/NAME"
    )


def test_downloads_are_advised_only_where_they_can_work(monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)

    def text(error: Exception, name: str = "owner/model") -> str:
        return str(model_not_loaded_error("prior.model", name, error))

    advice = "hf download owner/model --local-dir FOLDER where there is a network"
    assert advice in text(errors.LocalEntryNotFoundError("not there"))
    assert "hf download" not in text(raised(errors.RepositoryNotFoundError, 401))
    wrong = text(errors.HFValidationError("bad"), "a/b/c")
    assert wrong.count("a/b/c") == 1 and wrong.count("folder") == 1 and "hf download" not in wrong


def test_other_errors_are_not_explained():
    assert hub_problem(RuntimeError("size mismatch"), "owner/model") is None
    text = str(model_not_loaded_error("depth.model", "owner/model", RuntimeError("size\nmismatch")))
    assert "RuntimeError: size mismatch" in text and "depth.model=FOLDER" in text
