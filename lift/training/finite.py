"""Stop a fit that becomes NaN or infinite, before that reaches a checkpoint."""

from torch import Tensor, nn

from lift.registry import ComponentError


class NonFiniteError(ComponentError):
    """The loss or the result of a fit is NaN or infinite.

    Args:
        what: What is NaN or infinite, such as `the loss`.
        when: When that was noticed, such as `at step 3 of the fit`.
        parameter: Name of a parameter of the distortion that is NaN or infinite, too.
        views: Indices of the frames of that step.
    """

    def __init__(
        self, what: str, when: str, parameter: str | None = None, views: Tensor | None = None
    ) -> None:
        also = f", and so is distortion.{parameter}" if parameter else ""
        super().__init__(
            f"{what} is NaN or infinite {when}{also}; choose smaller learning rates or another "
            f"distortion{' (`lift check` tests the gradients of your own)' if parameter else ''}"
        )
        self.what = what
        self.when = when
        self.parameter = parameter
        self.views = views

    def with_cause(self, cause: str) -> ComponentError:
        """Return an error that names the component at fault.

        Args:
            cause: What a component returned, in words.
        """
        return ComponentError(f"{self.what} is NaN or infinite {self.when}: {cause}")


class LossCheck:
    """Checks the losses of a fit.

    To read a number from a GPU is to wait for it. So the losses of several steps are added there,
    and the sum is read now and then.
    """

    def __init__(self) -> None:
        self._sum: Tensor | None = None
        self._checked_step: int | None = None

    def update(
        self, loss: Tensor, views: Tensor, step: int, distortion: nn.Module, is_due: bool
    ) -> None:
        """Add the loss of a step. Read the sum at the first step, and when it is due.

        Args:
            loss: The loss with the penalty, a scalar.
            views: Indices of the frames of the step.
            step: Number of steps that are done.
            distortion: The distortion.
            is_due: Whether to read the sum.

        Raises:
            NonFiniteError: A loss since the last check is NaN or infinite.
        """
        loss = loss.detach()
        self._sum = loss if self._sum is None else self._sum + loss
        if self._checked_step is not None and not is_due:
            return
        if not self._sum.isfinite():
            first = step if self._checked_step is None else self._checked_step
            when = f"at step {step + 1}" if first == step else f"at steps {first + 1} to {step + 1}"
            parameter = invalid_parameter(distortion)
            raise NonFiniteError("the loss", f"{when} of the fit", parameter, views)
        self._sum = None
        self._checked_step = step + 1


def check_parameters(distortion: nn.Module, step: int) -> None:
    """Check the parameters of a distortion before they are kept in a checkpoint.

    Args:
        distortion: The distortion.
        step: Number of steps that are done.

    Raises:
        NonFiniteError: A parameter is NaN or infinite.
    """
    if parameter := invalid_parameter(distortion):
        raise NonFiniteError(f"distortion.{parameter}", f"after {step} steps of the fit")


def invalid_parameter(distortion: nn.Module) -> str | None:
    """Return the name of the first parameter that is NaN or infinite, if there is one.

    Args:
        distortion: The distortion.
    """
    for name, value in distortion.named_parameters():
        if not value.isfinite().all():
            return name
    return None
