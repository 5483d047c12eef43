"""Contract of components that download published weights."""

from lift.contracts.subject import Subject, require
from lift.weights.collect import component_weights


def lists_its_published_weights(subject: Subject) -> None:
    """Return declarations of `lift.weights` from `required_weights`, on a CPU and on a GPU.

    Args:
        subject: The component.
    """
    for half in (False, True):
        for item in component_weights(subject.entry, subject.settings, half):
            require(
                item.setting.startswith(f"{subject.slot}.") and bool(item.licence),
                f"{item!r} needs a licence, and a setting of the slot {subject.slot}",
            )
