"""Replicas of one scene on several devices: each draws views of its own, and all take the same step."""

import os
import signal
import threading
from typing import Any

import pytorch_lightning as lightning
import torch
import torch.distributed
from pytorch_lightning.plugins.environments import SLURMEnvironment, TorchElasticEnvironment
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor, nn

BUCKET_BYTES = 32 * 2**20
"""Gradients travel in flat buffers of about this size: large ones use the links well, several overlap with the backward pass."""

_ALIGNED = 64
"""Elements: each gradient starts at a multiple of it, so that fused optimisers can load whole vectors."""


class Replicas(DDPStrategy):
    """A process a device, each with the whole module, which is not wrapped; gradients are averaged beside the backward pass.

    torch's DistributedDataParallel holds on to the parameters it was given, and averages nothing, without an error, once densification
    has replaced one. Here the parameters are looked at before each backward pass (`manual_backward` of the module goes through it).
    All else is the module's part: whatever it does to parameters has to be the same everywhere, a function of their values and the step.
    """

    def __init__(self) -> None:
        by_srun = "RANK" not in os.environ and "SLURM_PROCID" in os.environ
        super().__init__(
            cluster_environment=SLURMEnvironment(auto_requeue=False)
            if by_srun
            else TorchElasticEnvironment()
        )
        self._average: Average | None = None

    @property
    def root_device(self) -> torch.device:
        assert self.parallel_devices is not None
        return self.parallel_devices[0]  # each process names its own alone

    def _configure_launcher(self) -> None:
        """None: `lift.runtime.distributed`, torchrun or srun has started all."""

    def configure_ddp(self) -> None:
        for parameter in self._parameters():
            torch.distributed.broadcast(parameter.data, src=0)

    def setup(self, trainer: lightning.Trainer) -> None:
        super().setup(trainer)
        # Before each step Lightning asks all processes whether one was told to end, and has the device wait for the answer.
        trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None

    def on_train_start(self) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(
                signal.SIGTERM, signal.SIG_DFL
            )  # Lightning's answer is a collective call that may meet nobody

    def pre_backward(self, closure_loss: Tensor) -> None:
        parameters = self._parameters()
        if self._average is None or not self._average.holds(parameters):
            if self._average is not None:
                self._average.close()
            self._average = Average(parameters)
        self._average.start()

    def post_backward(self, closure_loss: Tensor) -> None:
        assert self._average is not None
        self._average.finish()

    def teardown(self) -> None:
        if self._average is not None:
            self._average.close()
            self._average = None
        super().teardown()

    def _parameters(self) -> list[nn.Parameter]:
        assert self.model is not None
        return [
            parameter
            for parameter in self.model.parameters()
            if parameter.requires_grad and parameter.numel()
        ]


class Average:
    """The mean over all processes of the gradients of one backward pass, on its way while the pass is still running.

    Gradients are copied into flat buckets as they arrive, and a bucket is sent when it is full, in an order that is fixed by that of
    `parameters` (last ones first: the backward pass comes to them first), never by who was quicker. A gradient that a process does not
    have counts as zero there, and every parameter has one afterwards: a view of its bucket, valid until the next pass.
    """

    def __init__(self, parameters: list[nn.Parameter], bucket_bytes: int = BUCKET_BYTES) -> None:
        self.parameters = parameters
        self._buckets: list[_Bucket] = []
        pending: list[nn.Parameter] = []
        for parameter in reversed(parameters):
            size = sum(p.numel() * p.element_size() for p in (*pending, parameter))
            if pending and (
                size > bucket_bytes
                or (parameter.dtype, parameter.device) != (pending[0].dtype, pending[0].device)
            ):
                self._buckets.append(_Bucket(pending))
                pending = []
            pending.append(parameter)
        if pending:
            self._buckets.append(_Bucket(pending))
        self._bucket_of = {
            parameter: bucket for bucket in self._buckets for parameter in bucket.views
        }
        self._sent = 0
        self._hooks = [
            parameter.register_post_accumulate_grad_hook(self._arrived) for parameter in parameters
        ]

    def holds(self, parameters: list[nn.Parameter]) -> bool:
        """Whether these very objects are what is averaged."""
        return len(parameters) == len(self.parameters) and all(
            a is b for a, b in zip(parameters, self.parameters, strict=True)
        )

    def start(self) -> None:
        """Call before the backward pass."""
        self._sent = 0
        for bucket in self._buckets:
            bucket.missing = set(bucket.views)

    @torch.no_grad()
    def _arrived(self, parameter: Tensor) -> None:
        bucket = self._bucket_of[parameter]
        bucket.views[parameter].copy_(parameter.grad)
        bucket.missing.discard(parameter)
        while self._sent < len(self._buckets) and not self._buckets[self._sent].missing:
            self._send()

    @torch.no_grad()
    def finish(self) -> None:
        """Call after the backward pass. On CUDA it makes the stream wait, not the process."""
        while self._sent < len(self._buckets):
            bucket = self._buckets[self._sent]
            for parameter in bucket.missing:  # on whatever other processes have, all have to wait
                bucket.views[parameter].zero_() if parameter.grad is None else bucket.views[
                    parameter
                ].copy_(parameter.grad)
            self._send()
        for bucket in self._buckets:
            bucket.work.wait()
            for parameter, view in bucket.views.items():
                parameter.grad = view

    def close(self) -> None:
        for hook in self._hooks:
            hook.remove()

    def _send(self) -> None:
        bucket = self._buckets[self._sent]
        bucket.flat.div_(torch.distributed.get_world_size())
        bucket.work = torch.distributed.all_reduce(bucket.flat, async_op=True)
        self._sent += 1


class _Bucket:
    def __init__(self, parameters: list[nn.Parameter]) -> None:
        sizes = [-(-p.numel() // _ALIGNED) * _ALIGNED for p in parameters]
        self.flat = torch.zeros(sum(sizes), dtype=parameters[0].dtype, device=parameters[0].device)
        self.views = {
            p: part[: p.numel()].view(p.shape)
            for p, part in zip(parameters, self.flat.split(sizes), strict=True)
        }
        self.missing: set[Tensor] = set(parameters)
        self.work: Any = None
