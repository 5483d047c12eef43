"""The loss of a step's pictures and its gradients, replayed as one CUDA graph.

What follows the rasteriser is the same operations in every step: distortions of the picture, terms
of the loss, and the gradients of both. Launched one by one they take longer than they run.
"""

import logging
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from lift.runtime.cuda_graphs import capture
from lift.types import Render

EAGER_STEPS = 2
"""Steps of one kind before one is captured. They compile kernels and set up libraries."""


@dataclass
class PictureTerms:
    """What the pictures of a step add to the loss."""

    render: Render
    """Renders with their distortions."""
    total: Tensor
    """The loss with the penalty, without regularisers of the Gaussians. A scalar."""
    penalty: Tensor | float
    """The penalty of the distortion."""
    terms: dict[str, Tensor]
    """Terms of the loss by name, unweighted."""
    differences: Tensor
    """Mean absolute difference of each view [view]."""
    targets: Any = None
    """What the renders were compared with. A replay reads its memory, so it stays."""


class PictureGraph:
    """Computes the terms of a step, and replays them while steps are of one kind.

    Args:
        function: Computes the terms from the renders without distortion, the indices of the frames
            and the relative weight of the depth term, a number or a scalar tensor.
        module: Its parameters are those that the terms depend on, besides the renders.
    """

    def __init__(
        self,
        function: Callable[[Render, Tensor, Any], PictureTerms],
        module: nn.Module,
    ) -> None:
        self.function = function
        self.module = module
        self._kind: Hashable = None
        self._count = 0
        self._graph: _PictureReplay | None = None
        self._fails = False
        self.captures = 0
        """Number of graphs so far."""

    def __call__(
        self, kind: Hashable, render: Render, views: Tensor, depth_ratio: float
    ) -> PictureTerms:
        """Compute the terms of a step.

        Args:
            kind: What the operations and the sizes of the step depend on. None: it cannot be
                replayed.
            render: Renders without distortion.
            views: Indices of the frames [view].
            depth_ratio: Weight of the depth term, relative to its setting.

        Returns:
            The terms. Those of a replay are overwritten by the next one, all but `total`.
        """
        if kind is None or kind != self._kind:
            self.release()
            self._kind = kind
        self._count += 1
        # The weights of mixed precision are converted anew in every step.
        is_plain = kind is None or self._fails or torch.is_autocast_enabled("cuda")
        if is_plain or self._count <= EAGER_STEPS:
            return self.function(render, views, depth_ratio)
        if self._graph is None:
            try:
                self._graph = _PictureReplay(self.function, self.module, render, views)
                self.captures += 1
            except torch.OutOfMemoryError:
                self._count = 0  # this step may fit without a graph, and a later one with it
                return self.function(render, views, depth_ratio)
            except Exception as error:  # such as a part that reads a tensor
                self._fails = True
                logging.getLogger(__name__).warning(
                    "the fit runs without CUDA graphs, which takes longer: %s: %s",
                    type(error).__name__,
                    error,
                )
                return self.function(render, views, depth_ratio)
        return self._graph(render, views, depth_ratio)

    def release(self) -> None:
        """Drop the graph and its memory."""
        self._graph = None
        self._kind = None
        self._count = 0


class _PictureReplay:
    """A captured step: its inputs, its terms, and its gradients."""

    def __init__(
        self,
        function: Callable[[Render, Tensor, Any], PictureTerms],
        module: nn.Module,
        render: Render,
        views: Tensor,
    ) -> None:
        self.pictures = [_leaf(value) for value in (render.rgb, render.alpha, render.depth)]
        self.views = views.clone()
        self.depth_ratio = torch.ones((), device=views.device)
        self.parameters = [value for value in module.parameters() if value.requires_grad]
        self._ratio = 1.0
        with _aliased(module) as aliases:

            def compute() -> tuple[PictureTerms, tuple[Tensor | None, ...]]:
                rgb, alpha, depth = self.pictures
                terms = function(Render(rgb, alpha, depth), self.views, self.depth_ratio)
                _check_parameters(terms.total, self.parameters)
                inputs = [value for value in self.pictures if value.requires_grad]
                return terms, torch.autograd.grad(
                    terms.total, [*inputs, *aliases], allow_unused=True
                )

            self.graph, (terms, results) = capture(compute)
        gradients = iter(results)
        self.gradients = [
            *(next(gradients) if value.requires_grad else None for value in self.pictures),
            *gradients,
        ]
        self.terms = PictureTerms(
            Render(
                terms.render.rgb.detach(), terms.render.alpha.detach(), terms.render.depth.detach()
            ),
            terms.total.detach(),
            terms.penalty.detach() if isinstance(terms.penalty, Tensor) else terms.penalty,
            {name: value.detach() for name, value in terms.terms.items()},
            terms.differences.detach(),
            terms.targets,
        )

    def __call__(self, render: Render, views: Tensor, depth_ratio: float) -> PictureTerms:
        """Replay the step."""
        if depth_ratio != self._ratio:
            self.depth_ratio.fill_(depth_ratio)
            self._ratio = depth_ratio
        pictures = render.rgb, render.alpha, render.depth
        total = _Replay.apply(self, views, *pictures, *self.parameters)
        terms = self.terms
        return PictureTerms(terms.render, total, terms.penalty, terms.terms, terms.differences)

    def replay(self, views: Tensor, pictures: tuple[Tensor, ...]) -> Tensor:
        """Replay the step, and return its total."""
        self.views.copy_(views)
        for target, value in zip(self.pictures, pictures, strict=True):
            target.copy_(value)
        self.graph.replay()
        return self.terms.total.clone()


class _Replay(torch.autograd.Function):
    """The gradients are computed beside the loss, because nothing but its factor is missing."""

    @staticmethod
    def forward(ctx, graph: _PictureReplay, views: Tensor, *tensors: Tensor) -> Tensor:
        ctx.graph = graph
        return graph.replay(views, tensors[: len(graph.pictures)])

    @staticmethod
    @once_differentiable
    def backward(ctx, outer: Tensor) -> tuple[Tensor | None, ...]:
        gradients = ctx.graph.gradients
        return None, None, *(None if g is None else g * outer for g in gradients)


@contextmanager
def _aliased(module: nn.Module) -> Iterator[list[Tensor]]:
    """Replace the parameters of a module by others that share their memory.

    Autograd would wait for the stream on which a parameter's gradient was summed before, which a
    capture does not allow.

    Yields:
        Those that gradients are computed for.
    """
    plain = [dict(part._parameters) for part in module.modules()]
    aliases: dict[int, nn.Parameter] = {}
    try:
        for part in module.modules():
            for name, value in part._parameters.items():
                if value is not None:
                    alias = nn.Parameter(value.detach(), value.requires_grad)
                    part._parameters[name] = aliases.setdefault(id(value), alias)
        yield [alias for alias in aliases.values() if alias.requires_grad]
    finally:
        for part, values in zip(module.modules(), plain, strict=True):
            part._parameters.update(values)


def _check_parameters(total: Tensor, parameters: Sequence[Tensor]) -> None:
    """Raise RuntimeError if a parameter was read other than through its module.

    Then its gradient would be missing from the replay.
    """
    waiting: list[Any] = [total.grad_fn]
    visited = set()
    while waiting:
        node = waiting.pop()
        if node is None or node in visited:
            continue
        visited.add(node)
        if any(getattr(node, "variable", None) is parameter for parameter in parameters):
            raise RuntimeError("a distortion keeps a parameter in a list or a dictionary")
        waiting += [function for function, _ in node.next_functions]


def _leaf(value: Tensor) -> Tensor:
    """Return a copy that gradients are computed for if they are for the value."""
    return value.detach().clone().requires_grad_(value.requires_grad)
