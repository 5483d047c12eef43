"""Say in words why files of the Hugging Face Hub could not be had, and what to do."""

import os
from collections.abc import Iterator

HUB = "https://huggingface.co"
"""Address of the hub, where licences are accepted."""

_TRUE = ("1", "on", "yes", "true")
"""Values of HF_HUB_OFFLINE that turn the network off, in lower case."""

_NETWORK_ERRORS = ("ConnectError", "ConnectTimeout", "ReadTimeout", "ReadError", "ProxyError")
"""Classes of the HTTP libraries for a network that fails, by name: the libraries change."""


def is_offline() -> bool:
    """Whether HF_HUB_OFFLINE or a setting of the library turns the network off."""
    from huggingface_hub import constants

    variable = os.environ.get("HF_HUB_OFFLINE", "").lower() in _TRUE
    return variable or bool(constants.HF_HUB_OFFLINE)


def hub_problem(error: BaseException, repository: str) -> str | None:
    """Explain an error of the hub's library, or of a library that wraps it.

    Args:
        error: The exception. Its causes count, too.
        repository: Name of the repository: OWNER/NAME.

    Returns:
        What is wrong and what to do. None: another kind of error.
    """
    from huggingface_hub import constants, errors

    chain = list(_chain(error))

    def has(*kinds: type[BaseException]) -> bool:
        return any(isinstance(item, kinds) for item in chain)

    if has(errors.HFValidationError):
        return "it is neither a folder nor the name of a model on the hub, which is OWNER/NAME"
    status = {_status(item) for item in chain}
    page = f"{HUB}/{repository}"
    if has(errors.GatedRepoError) or 403 in status:
        return (
            f"access to its weights must be granted; accept the licence at {page} and log in with "
            "that account (`hf auth login`, or the variable HF_TOKEN)"
        )
    if has(errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) and is_offline():
        return (
            f"HF_HUB_OFFLINE=1 is set and {repository} is not complete in the cache "
            f"({constants.HF_HUB_CACHE}); fetch it where there is a network: lift download with "
            "the settings of this run"
        )
    if has(errors.RepositoryNotFoundError) or 401 in status:
        return (
            f"there is no {page}, or it is private; check the name, "
            "or log in with an account that may read it (`hf auth login`, or HF_TOKEN)"
        )
    if has(errors.RemoteEntryNotFoundError):
        return f"{page} has no such file ({_first_line(error)}); check the name of the model"
    if is_network_problem(error):
        return (
            f"the hub cannot be reached, and {repository} is not complete in the cache "
            f"({constants.HF_HUB_CACHE}); check the network"
        )
    return None


def is_network_problem(error: BaseException) -> bool:
    """Whether files are missing because the network is turned off or the hub cannot be reached.

    Args:
        error: The exception of the hub's library, or of a library that wraps it.
    """
    from huggingface_hub import errors

    chain = list(_chain(error))
    answers = (
        errors.HFValidationError,
        errors.RepositoryNotFoundError,
        errors.RemoteEntryNotFoundError,
    )
    if any(isinstance(item, answers) or _status(item) in (401, 403) for item in chain):
        return False
    silent = (
        errors.LocalEntryNotFoundError,
        errors.OfflineModeIsEnabled,
        ConnectionError,
        TimeoutError,
    )
    return any(isinstance(item, silent) or type(item).__name__ in _NETWORK_ERRORS for item in chain)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and what caused it."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _status(error: BaseException) -> int | None:
    """Return the HTTP status of an error of the hub's library."""
    response = getattr(error, "response", None)
    return getattr(response, "status_code", None)


def _first_line(error: BaseException) -> str:
    """Return the first words of an error."""
    return " ".join(str(error).split())[:120]
