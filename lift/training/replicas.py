"""Replicas of one scene on several devices: each draws other views, and all take the same step."""

import os
import signal
import threading
from typing import Any

import pytorch_lightning as lightning
import torch
import torch.distributed
from pytorch_lightning.plugins.environments import (
    SLURMEnvironment,  # pyright: ignore[reportPrivateImportUsage]
    TorchElasticEnvironment,  # pyright: ignore[reportPrivateImportUsage]
)
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor, nn

BUCKET_BYTES = 32 * 2**20
"""Approximate size of a buffer of gradients.

Large buffers use the links well. Several buffers overlap with the backward pass.
"""

_ALIGNMENT = 64
"""Each gradient starts at a multiple of this number of elements.

So fused optimisers can load whole vectors.
"""


class ReplicaStrategy(DDPStrategy):
    """One process for each device. Gradients are averaged beside the backward pass.

    torch's DistributedDataParallel keeps the parameters that it received. When densification
    replaces one, it averages nothing, without an error. This strategy does not wrap the module. It
    checks the parameters before each backward pass, which must go through `manual_backward`.
    Everything else that changes parameters must be the same in all processes: a function of their
    values and of the step.
    """

    def __init__(self) -> None:
        started_by_srun = "RANK" not in os.environ and "SLURM_PROCID" in os.environ
        super().__init__(
            cluster_environment=SLURMEnvironment(auto_requeue=False)
            if started_by_srun
            else TorchElasticEnvironment()
        )
        self._average: GradientAverage | None = None

    @property
    def root_device(self) -> torch.device:
        """The device of this process."""
        assert self.parallel_devices is not None
        return self.parallel_devices[0]  # each process names only its own device

    def _configure_launcher(self) -> None:
        """Configure no launcher: all processes run already."""

    def configure_ddp(self) -> None:
        """Copy the parameters of the main process to all processes."""
        for parameter in self._parameters():
            torch.distributed.broadcast(parameter.data, src=0)

    def setup(self, trainer: lightning.Trainer) -> None:
        """Set up the strategy without Lightning's check for a termination signal.

        Before each step it would ask all processes, and the device would wait for the answer.

        Args:
            trainer: Lightning's trainer.
        """
        super().setup(trainer)
        trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None

    def on_train_start(self) -> None:
        """Restore the default answer to SIGTERM.

        Lightning's answer is a collective call, in which other processes may not take part.
        """
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def pre_backward(self, closure_loss: Tensor) -> None:
        """Prepare to average the gradients of the current parameters.

        Args:
            closure_loss: The loss.
        """
        parameters = self._parameters()
        if self._average is None or not self._average.matches(parameters):
            if self._average is not None:
                self._average.close()
            self._average = GradientAverage(parameters)
        self._average.start()

    def post_backward(self, closure_loss: Tensor) -> None:
        """Wait for the averaged gradients.

        Args:
            closure_loss: The loss.
        """
        assert self._average is not None
        self._average.finish()

    def teardown(self) -> None:
        """Remove all hooks."""
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


class GradientAverage:
    """Average the gradients of one backward pass over all processes, while the pass still runs.

    Gradients are copied into flat buckets as they arrive, and a full bucket is sent. The order of
    buckets follows that of `parameters`, the last first, because the backward pass reaches these
    first. It never depends on timing. A missing gradient counts as zero. Afterwards every parameter
    has a gradient: a view of its bucket, valid until the next pass.

    Args:
        parameters: The parameters.
        bucket_bytes: Approximate size of a bucket.
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
        self._bucket_of: dict[Tensor, _Bucket] = {
            parameter: bucket for bucket in self._buckets for parameter in bucket.views
        }
        self._sent = 0
        self._hooks = [
            parameter.register_post_accumulate_grad_hook(self._receive) for parameter in parameters
        ]

    def matches(self, parameters: list[nn.Parameter]) -> bool:
        """Return whether exactly these objects are averaged.

        Args:
            parameters: The parameters.
        """
        return len(parameters) == len(self.parameters) and all(
            a is b for a, b in zip(parameters, self.parameters, strict=True)
        )

    def start(self) -> None:
        """Prepare for a backward pass."""
        self._sent = 0
        for bucket in self._buckets:
            bucket.missing = set(bucket.views)

    @torch.no_grad()
    def _receive(self, parameter: Tensor) -> None:
        """Copy a gradient to its bucket, and send buckets that are full."""
        bucket = self._bucket_of[parameter]
        bucket.fill(parameter)
        bucket.missing.discard(parameter)
        while self._sent < len(self._buckets) and not self._buckets[self._sent].missing:
            self._send()

    @torch.no_grad()
    def finish(self) -> None:
        """Send the other buckets, and wait. On CUDA the stream waits, not the process."""
        while self._sent < len(self._buckets):
            bucket = self._buckets[self._sent]
            # Other processes may have these gradients, so this one has to take part.
            for parameter in bucket.missing:
                bucket.fill(parameter)
            self._send()
        for bucket in self._buckets:
            bucket.work.wait()
            for parameter, view in bucket.views.items():
                parameter.grad = view

    def close(self) -> None:
        """Remove the hooks from the parameters."""
        for hook in self._hooks:
            hook.remove()

    def _send(self) -> None:
        bucket = self._buckets[self._sent]
        bucket.flat.div_(torch.distributed.get_world_size())
        bucket.work = torch.distributed.all_reduce(bucket.flat, async_op=True)
        self._sent += 1


class _Bucket:
    """A flat buffer with the gradients of several parameters."""

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        sizes = [-(-p.numel() // _ALIGNMENT) * _ALIGNMENT for p in parameters]
        self.flat = torch.zeros(sum(sizes), dtype=parameters[0].dtype, device=parameters[0].device)
        self.views: dict[Tensor, Tensor] = {
            p: part[: p.numel()].view(p.shape)
            for p, part in zip(parameters, self.flat.split(sizes), strict=True)
        }
        """Part of the buffer for each parameter's gradient."""
        self.missing: set[Tensor] = set(parameters)
        """Parameters whose gradient has not arrived."""
        self.work: Any = None
        """The asynchronous all-reduce."""

    def fill(self, parameter: Tensor) -> None:
        """Copy the parameter's gradient to the buffer, or zeros if it has none."""
        if parameter.grad is None:
            self.views[parameter].zero_()
        else:
            self.views[parameter].copy_(parameter.grad)
