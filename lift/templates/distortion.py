"""The distortion `new_distortion`."""

from dataclasses import replace
from typing import Annotated

import torch
from annotated_types import Interval
from jaxtyping import Float, Int
from torch import Tensor, nn

from lift.distortions import Distortion, distortions
from lift.types import Render


@distortions.register("new_distortion")
class NewDistortion(Distortion):
    """Learn a gain and a bias of the colours of each frame.

    Args:
        learning_rate: Learning rate of gain and bias, from 1e-6 to 1.
        weight: Weight of their mean square in the loss, from 0 to 100.
    """

    steps = 1000
    """In longer fits the learning rate is lowered, so that values move equally far in total."""

    def __init__(
        self,
        learning_rate: Annotated[float, Interval(ge=1e-6, le=1)] = 1e-3,
        weight: Annotated[float, Interval(ge=0, le=100)] = 0.1,
        *,
        num_views: int,
    ) -> None:
        super().__init__()
        self.learning_rate = learning_rate
        self.weight = weight
        # Zero is the identity. A chain along the clips: lift.distortions.parameters.chain.PerFrame.
        self.log_gain = nn.Parameter(torch.zeros(num_views, 3))
        self.bias = nn.Parameter(torch.zeros(num_views, 3))

    def image(self, render: Render, view: Int[Tensor, "view"]) -> Render:
        """Change the colours of renders. See `Distortion`.

        Override `cameras` to correct where frames were taken, and `gaussians` to deform the scene.

        Args:
            render: Renders of the scene, one a view.
            view: Indices of the frames; 0 is the input.
        """
        # The input, view 0, stays exactly as it is. It ties the scene to the picture.
        is_generated = (view > 0)[:, None]
        gain = self.log_gain[view].where(is_generated, 0.0).exp()[:, None, None]
        bias = self.bias[view].where(is_generated, 0.0)[:, None, None]
        return replace(render, rgb=render.rgb * gain + bias)

    def penalty(self) -> Float[Tensor, ""]:
        """Return the weighted mean square of all values, so that the scene explains the rest."""
        return self.weight * (self.log_gain.square().mean() + self.bias.square().mean())
