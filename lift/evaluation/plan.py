"""The evaluations of a command, their folders and their joint table."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lift.errors import format_error, is_user_error
from lift.evaluation.ablation.grid import Variant
from lift.evaluation.settings import Composed, compose_evaluation
from lift.registry import ComponentError
from lift.runtime.quick_import import quick_import

if TYPE_CHECKING:
    from lift.evaluation.evaluate import Evaluation


@dataclass(frozen=True)
class EvaluationPlan:
    """The evaluations of a command."""

    variants: list[Variant]
    """What distinguishes the rows of the joint table. A single evaluation has no factors."""
    settings: list[list[str]]
    """All settings of each evaluation."""
    name: str | None
    """Name of the joint table."""
    baseline: str | None
    """The row that the others are compared with."""

    @property
    def is_joint(self) -> bool:
        """Whether there is a joint table."""
        return bool(self.variants[0].factors)

    def compose(self) -> list[Composed]:
        """Compose the configuration of each evaluation.

        Raises:
            ComponentError: A setting is wrong. The message names the row.
        """
        composed = []
        for variant, settings in zip(self.variants, self.settings, strict=True):
            try:
                composed.append(compose_evaluation(settings))
            except Exception as error:
                if not self.is_joint or not is_user_error(error):
                    raise
                message = f"in the row {variant.label!r}: {format_error(error)}"
                raise ComponentError(message) from None
        return composed


def build_evaluations(plan: EvaluationPlan, configs: Sequence[Composed]) -> list["Evaluation"]:
    """Make the evaluations, which share what they can.

    Args:
        plan: The evaluations of a command.
        configs: Configuration of each one.

    Raises:
        ComponentError: Two evaluations have the same folder.
        FileNotFoundError: The dataset does not exist.
        ValueError: A setting is invalid.
    """
    with quick_import():
        from lift.evaluation.evaluate import Evaluation
    from lift.evaluation.resources import SharedResources
    from lift.evaluation.storage import evaluation_folder, folder_name

    shared = SharedResources()
    if not plan.is_joint:
        return [Evaluation(*config, shared) for config in configs]
    built = []
    for variant, (run_config, eval_config) in zip(plan.variants, configs, strict=True):
        folder = None
        if plan.name or (variant.is_named and len(variant.factors) == 1):
            name = folder_name(variant.label)
            folder = evaluation_folder(run_config.output, plan.name or "") / name
        built.append(Evaluation(run_config, eval_config, shared, folder, variant.label))
    for k, evaluation in enumerate(built):
        for other in built[:k]:
            if other.folder == evaluation.folder:
                raise ComponentError(
                    f"the rows {other.label!r} and {evaluation.label!r} have the same settings; "
                    "leave one out, or give each a name=NAME of its own"
                )
    return built


def joint_folder(plan: EvaluationPlan, evaluations: Sequence["Evaluation"]) -> Path:
    """Return the folder of the joint table, or of the only evaluation.

    Args:
        plan: The evaluations of a command.
        evaluations: The same, made.
    """
    from lift.evaluation.storage import evaluation_folder
    from lift.runtime.cache import hash_key

    first = evaluations[0]
    if not plan.is_joint:
        return first.folder
    keys = [[evaluation.label, evaluation.key] for evaluation in evaluations]
    name = plan.name or f"{first.eval_config.dataset.name}-{hash_key(keys)}"
    return evaluation_folder(first.config.output, name)
