"""CUDA kernels of the raw parameters: their physical values, and Adam."""

# pyright: reportGeneralTypeIssues=false
import torch
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from lift.runtime.jit import cdiv, triton_jit

_GAUSSIANS = tl.constexpr(256)
"""Gaussians in a program."""
_STEP = tl.constexpr(1024)
"""Numbers in a program of Adam."""


def activate(scales: Tensor, quats: Tensor, opacities: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Compute `lift.training.splats.activate` on CUDA.

    Args:
        scales: Logarithms of standard deviations, float32 [gaussian 3].
        quats: Quaternions of any length, float32 [gaussian 4].
        opacities: Logits of opacities, float32 [gaussian].

    Returns:
        Standard deviations, unit quaternions and opacities.
    """
    return _Activate.apply(scales.contiguous(), quats.contiguous(), opacities.contiguous())


class Adam(torch.optim.Adam):
    """Adam (Kingma and Ba, 2015) for a few large float32 parameters on CUDA.

    Each parameter takes one launch and nothing else. torch's fused Adam spends a millisecond of a
    slow processor on lists. There is no weight decay and no closure. The state is that of
    `torch.optim.Adam`.
    """

    @torch.no_grad()
    def step(self) -> None:
        """Update all parameters that have a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None or parameter.numel() == 0:
                    continue
                state = self.state[parameter]
                if not state:
                    state["step"] = torch.zeros(())
                    state["exp_avg"] = torch.zeros_like(parameter)
                    state["exp_avg_sq"] = torch.zeros_like(parameter)
                elif state["step"].is_cuda:  # torch's fused Adam keeps it there
                    state["step"] = state["step"].cpu()
                state["step"] += 1
                beta1, beta2 = group["betas"]
                number = float(state["step"])
                count = parameter.numel()
                _adam[cdiv(count, _STEP),](
                    parameter,
                    parameter.grad.contiguous(),
                    state["exp_avg"],
                    state["exp_avg_sq"],
                    count,
                    group["lr"] / (1 - beta1**number),
                    (1 - beta2**number) ** -0.5,
                    beta1,
                    beta2,
                    group["eps"],
                )


class _Activate(torch.autograd.Function):
    @staticmethod
    def forward(ctx, scales, quats, opacities):
        physical = torch.empty_like(scales), torch.empty_like(quats), torch.empty_like(opacities)
        if count := len(opacities):
            _activate[cdiv(count, _GAUSSIANS),](scales, quats, opacities, *physical, count)
        ctx.save_for_backward(quats, *physical)
        return physical

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads):
        quats, *physical = ctx.saved_tensors
        gradients = [torch.empty_like(value) for value in physical]
        if count := len(quats):
            grads = [value.contiguous() for value in grads]
            _activate_gradient[cdiv(count, _GAUSSIANS),](
                quats, *physical, *grads, *gradients, count
            )
        return tuple(gradients)


@triton_jit
def _activate(scales, quats, opacities, to_scales, to_quats, to_opacities, count):
    """Write standard deviations, unit quaternions and opacities."""
    n = tl.program_id(0) * _GAUSSIANS + tl.arange(0, _GAUSSIANS)
    inside = n < count
    for k in tl.static_range(3):
        tl.store(to_scales + 3 * n + k, tl.exp(tl.load(scales + 3 * n + k, inside, 0.0)), inside)
    square = tl.zeros([_GAUSSIANS], tl.float32)
    for k in tl.static_range(4):
        q = tl.load(quats + 4 * n + k, inside, 0.0)
        square += q * q
    length = tl.maximum(tl.sqrt(square), 1e-12)
    for k in tl.static_range(4):
        tl.store(to_quats + 4 * n + k, tl.load(quats + 4 * n + k, inside, 0.0) / length, inside)
    tl.store(to_opacities + n, 1.0 / (1.0 + tl.exp(-tl.load(opacities + n, inside, 0.0))), inside)


@triton_jit
def _activate_gradient(
    quats,
    scales,
    units,
    opacities,
    grad_scales,
    grad_units,
    grad_opacities,
    d_scales,
    d_quats,
    d_opacities,
    count,
):
    """Write the gradients by the raw parameters."""
    n = tl.program_id(0) * _GAUSSIANS + tl.arange(0, _GAUSSIANS)
    inside = n < count
    for k in tl.static_range(3):
        at = 3 * n + k
        tl.store(
            d_scales + at,
            tl.load(grad_scales + at, inside, 0.0) * tl.load(scales + at, inside, 0.0),
            inside,
        )
    square = tl.zeros([_GAUSSIANS], tl.float32)
    dot = tl.zeros([_GAUSSIANS], tl.float32)
    for k in tl.static_range(4):
        q = tl.load(quats + 4 * n + k, inside, 0.0)
        square += q * q
        dot += tl.load(units + 4 * n + k, inside, 0.0) * tl.load(
            grad_units + 4 * n + k, inside, 0.0
        )
    length = tl.maximum(tl.sqrt(square), 1e-12)
    for k in tl.static_range(4):
        at = 4 * n + k
        tl.store(
            d_quats + at,
            (tl.load(grad_units + at, inside, 0.0) - dot * tl.load(units + at, inside, 0.0))
            / length,
            inside,
        )
    opacity = tl.load(opacities + n, inside, 0.0)
    tl.store(
        d_opacities + n,
        tl.load(grad_opacities + n, inside, 0.0) * opacity * (1.0 - opacity),
        inside,
    )


@triton_jit
def _adam(parameter, gradient, mean, square, count, rate, correction, beta1, beta2, eps):
    """Update one parameter and its moments. `rate` and `correction` correct the bias."""
    i = tl.program_id(0).to(tl.int64) * _STEP + tl.arange(0, _STEP)
    inside = i < count
    g = tl.load(gradient + i, inside, 0.0)
    m = beta1 * tl.load(mean + i, inside, 0.0) + (1.0 - beta1) * g
    v = beta2 * tl.load(square + i, inside, 0.0) + (1.0 - beta2) * g * g
    tl.store(mean + i, m, inside)
    tl.store(square + i, v, inside)
    tl.store(
        parameter + i,
        tl.load(parameter + i, inside, 0.0) - rate * m / (tl.sqrt(v) * correction + eps),
        inside,
    )
