"""One scene on several processes: real ones, gloo on CPUs, NCCL on as many GPUs as there are."""

from pathlib import Path

import pytest
import torch
import torch.distributed
from torch import nn

from lift.runtime.serialization import load
from lift.training.checkpoint import CheckpointCallback
from lift.training.fit import CHECKPOINT, fit
from lift.training.replicas import GradientAverage
from tests.helpers.fits import KilledError, module, settings
from tests.helpers.workers import on_each


def alike(tensor: torch.Tensor) -> bool:
    """Whether a tensor is the same on all processes, bit for bit."""
    shapes = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(shapes, (tuple(tensor.shape), tensor.dtype))
    if len(set(shapes)) > 1:
        return False
    parts = [torch.empty_like(tensor) for _ in shapes]
    torch.distributed.all_gather(parts, tensor.detach().contiguous())
    return all(part.equal(tensor) for part in parts)


def trainer(device: torch.device) -> dict:
    return {"accelerator": "gpu" if device.type == "cuda" else "cpu", "devices": "auto"}


def check_average(rank: int, world: int, device: torch.device) -> None:
    """Average gradients of parameters in small buckets.

    Each process uses another order, and one parameter is used on process 0 alone.
    """
    parameters = [nn.Parameter(torch.full((n,), 1.0 + n, device=device)) for n in (3, 70, 1, 9)]
    for replaced in (False, True):
        if replaced:
            parameters[1] = nn.Parameter(torch.full((80,), 2.0, device=device))
        average = GradientAverage(parameters, bucket_bytes=100)
        assert average.matches(parameters) and not average.matches(
            [*parameters[:3], nn.Parameter(torch.ones(9, device=device))]
        )
        # The second backward pass adds to the gradients of the first. The third starts anew.
        for repeat in (1, 2, 1):
            for parameter in parameters if repeat == 1 else ():
                parameter.grad = None
            average.start()
            order = parameters if rank % 2 else parameters[::-1]
            loss = sum(
                ((rank + 1) * p.square()).sum() for p in order[:-1] if p is not parameters[2]
            )
            if rank == 0:
                loss = loss + parameters[2].sum()
            last = order[-1]
            (
                loss + (rank + 1) * last.square().sum() if last is not parameters[2] else loss
            ).backward()
            average.finish()
            mean = sum(r + 1 for r in range(world)) / world
            for parameter in parameters:
                expected = (
                    torch.full_like(parameter, 1 / world)
                    if parameter is parameters[2]
                    else 2 * mean * parameter.detach()
                )
                torch.testing.assert_close(parameter.grad, repeat * expected)
                assert parameter.grad.is_contiguous() and parameter.grad.data_ptr() % 16 == 0
        average.close()
        for parameter in parameters:
            parameter.grad = None
    order_free = nn.Parameter(torch.ones(4, device=device))
    order_free.sum().backward()  # a closed average leaves others' gradients alone
    assert order_free.grad.equal(torch.ones(4, device=device))


def check_joint_batch(rank: int, world: int, device: torch.device, folder: Path) -> None:
    """The first gradients equal those of one process that draws all views.

    So do the moments of the optimiser.
    """
    how = settings(steps=world, checkpoint_every=world, test_every=0)
    seen: dict[str, torch.Tensor] = {}
    fitted = module(how)
    drawn: list[int] = []
    inner_backward, inner_optimise = fitted.manual_backward, fitted.optimise

    def manual_backward(loss, *arguments, **named):
        inner_backward(loss, *arguments, **named)
        seen.update({name: p.grad.clone() for name, p in fitted.named_parameters() if p.numel()})

    def optimise(views):
        drawn.extend(views.tolist())
        return inner_optimise(views)

    fitted.manual_backward, fitted.optimise = manual_backward, optimise
    fit(fitted, [1, 2, 3], folder, how, trainer(device), 0)
    assert fitted.step == world and len(drawn) == 1
    everyone = [None] * world
    torch.distributed.all_gather_object(everyone, drawn[0])

    single = module(how).to(device)
    background = torch.rand(
        3, generator=torch.Generator(device).manual_seed(7 * 1_000_003), device=device
    )
    for view in everyone:
        views = torch.tensor([view], device=device)
        (
            (single.loss(single.render(views, background), views)[0] + single.distortion.penalty())
            / world
        ).backward()
    for name, parameter in single.named_parameters():
        if parameter.numel():
            torch.testing.assert_close(seen[name], parameter.grad, rtol=1e-3, atol=1e-5)


MCMC = {"densify": {"start": 3, "every": 3, "noise_scale": 0.01, "min_opacity": 0.02}}
GRADIENT = {
    "canonical_steps": 12,
    "densify": {
        "strategy": "gradient",
        "stop": 0.8,
        "min_opacity": 0.001,
        "gradient": {"grow_grad2d": 1e-3, "reset_every": 18},
    },
}


def check_growth(rank: int, world: int, device: torch.device, folder: Path, changes: dict) -> None:
    """After densification, parameters and optimiser states are equal on all processes.

    Only rank 0 writes files.
    """
    how = settings(steps=40, checkpoint_every=10, **changes)
    fitted = module(how)
    optimisers = []
    inner = fitted.configure_optimizers
    fitted.configure_optimizers = lambda: optimisers.extend(made := inner()) or made
    fit(fitted, [1, 2, 3], folder / str(rank), how, trainer(device), 0)
    assert 100 < fitted.splats.count <= 130 and 40 <= fitted.step < 40 + world
    for name, parameter in fitted.named_parameters():
        assert alike(parameter.data.to(device)), name
    assert fitted.distortion.motions.values.any(), "the distortion has learned, too"
    held = {id(p) for p in fitted.parameters()}
    for optimiser in optimisers:
        assert all(id(p) in held for group in optimiser.param_groups for p in group["params"])
        for state in optimiser.state.values():
            for value in state.values():
                if isinstance(value, torch.Tensor):
                    assert alike(value.to(device))
    written = (
        (folder / str(rank) / "split.json").exists(),
        (folder / str(rank) / CHECKPOINT).exists(),
    )
    assert written == (rank == 0, rank == 0)


def fit_until(
    rank: int, world: int, device: torch.device, folder: Path, epochs: int | None, until: int
) -> None:
    """Fit, optionally stopped after some epochs. `until` is the expected step count then."""
    how = settings(steps=41, checkpoint_every=10)
    fitted = module(how)

    def killed(self, trainer, module):
        kept(self, trainer, module)
        if trainer.current_epoch + 1 == epochs:
            raise KilledError

    kept = CheckpointCallback.on_train_epoch_end
    CheckpointCallback.on_train_epoch_end = killed
    try:
        fit(fitted, [1, 2, 3], folder, how, trainer(device), 0)
        assert epochs is None
    except KilledError:
        pass
    finally:
        CheckpointCallback.on_train_epoch_end = kept
    assert until <= fitted.step < until + world


def everything(rank: int, world: int, device: torch.device, folder: Path) -> None:
    check_average(rank, world, device)
    check_joint_batch(rank, world, device, folder / f"joint{rank}")
    check_growth(rank, world, device, folder / "mcmc", MCMC)
    check_growth(rank, world, device, folder / "gradient", GRADIENT)


@pytest.mark.slow
def test_processes_take_the_same_steps_and_grow_alike(tmp_path):
    on_each(everything, 2, "cpu", tmp_path)


@pytest.mark.gpu
def test_gpus_take_the_same_steps_and_grow_alike(cuda, tmp_path):
    if torch.cuda.device_count() < 2:
        pytest.skip("one GPU has nobody to agree with")
    on_each(everything, torch.cuda.device_count(), "cuda", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("first, then", [(2, 1), (1, 2)])
def test_a_fit_goes_on_on_another_number_of_processes(tmp_path, first, then):
    for world, epochs, until in ((first, 2, 20), (then, None, 41)):
        if world == 1:
            fit_until(0, 1, torch.device("cpu"), tmp_path, epochs, until)
        else:
            on_each(fit_until, world, "cpu", tmp_path, epochs, until)
    assert 100 < len(load(tmp_path)["gaussians"]) <= 130
