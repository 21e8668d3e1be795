"""One run in several processes, as `torchrun` starts them; in a single process all of it is idle.

    torchrun --nproc-per-node 2 -m minit2i train digits

Every process holds the whole model and draws the same joint batch, of which it takes its share;
gradients are averaged. The processes talk by gloo on CPUs and NCCL on GPUs.
"""

import os
import shlex
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn


def world() -> int:
    """The number of processes; 1 outside of `processes`."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """The number of this process, from 0."""
    return dist.get_rank() if world() > 1 else 0


def is_main() -> bool:
    """Whether this process is the one that writes and prints."""
    return rank() == 0


def wrap(model: nn.Module) -> nn.Module:
    """The model to call so that the gradients of all processes are averaged."""
    if world() == 1:
        return model
    device = next(model.parameters()).device
    return nn.parallel.DistributedDataParallel(
        model, device_ids=[device] if device.type == "cuda" else None
    )


def mean(x: Tensor) -> Tensor:
    """The mean of x over the processes, without gradient."""
    if world() == 1:
        return x.detach()
    total = x.detach().clone()
    dist.all_reduce(total)
    return total / world()


def collect(x: Any) -> list[Any]:
    """What each process passed, in order of rank; small things that live on the CPU."""
    if world() == 1:
        return [x]
    result = [None] * world()
    dist.all_gather_object(result, x)
    return result


def check_equal(what: str, value: Any) -> None:
    """Raises ValueError, on every process, unless all of them pass the same value."""
    values = collect(value)
    if odd := [k for k, other in enumerate(values) if other != values[0]]:
        raise ValueError(
            f"the processes must begin alike, but {what} of process {odd[0]} is not that of "
            f"process 0: seed torch and numpy alike before building the model and the data"
        )


@contextmanager
def first() -> Iterator[None]:
    """The first process goes through the block before the others: what it makes, they find."""
    if world() == 1:
        yield
        return
    store = dist.distributed_c10d._get_default_store()
    turn = f"first {store.add(f'turns of {rank()}', 1)}"
    while not is_main() and not store.check([turn]):  # a barrier would give up after minutes
        time.sleep(0.1)
    yield
    if is_main():
        store.set(turn, "done")


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.size = len(x)
        parts = [torch.empty_like(x) for _ in range(world())]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        total = grad.contiguous().clone()
        dist.all_reduce(total)
        return total[rank() * ctx.size : (rank() + 1) * ctx.size]


@torch.compiler.disable
def gather(x: Float[Tensor, "b ..."]) -> Float[Tensor, "joint ..."]:
    """The rows of all processes, in order of rank, equally many from each: for losses that compare
    samples, such as a contrastive one with in-batch negatives.

    Gradients flow back to the process that each row came from, summed over the processes; together
    with the mean that the training loop takes, every weight gets the gradient of the joint loss.
    So each process may return the whole joint loss, or the mean over its own rows against all.
    """
    return x if world() == 1 else _Gather.apply(x)


def started() -> bool:
    """Whether torchrun started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def local_device() -> str:
    """This process's own device: one GPU each where there are enough, or else the CPU.

    Raises ValueError where there are GPUs, but too few."""
    if not torch.cuda.is_available():
        return "cpu"
    mine, there = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if mine >= there:
        raise ValueError(
            f"each process takes one GPU, and process {mine + 1} of this machine finds {there}: "
            f"take --nproc-per-node {there}, or --device cpu"
        )
    return f"cuda:{mine}" if started() else "cuda"


def command() -> str:
    """The command line that started this run."""
    own = [word for word in sys.orig_argv[1:] if word != "-u"]
    if not started():
        return shlex.join(["python", *own])
    if os.environ.get("GROUP_WORLD_SIZE", "1") != "1":
        return "the same torchrun command on every machine"
    own = own[1:] if own[:1] == ["-m"] else own
    module = ["-m"] if "-m" in sys.orig_argv[1:3] else []
    return shlex.join(
        ["torchrun", "--nproc-per-node", os.environ["LOCAL_WORLD_SIZE"], *module, *own]
    )


@contextmanager
def processes(device: str = "cpu") -> Iterator[None]:
    """Joins the processes that torchrun started; without torchrun, nothing.

    device   what the run computes on: a GPU is taken for this process's own

    Where one process is killed or fails, or the run is stopped, the others end too, and one line on
    stderr tells by which command the run goes on.
    """
    if not started():
        yield
        return
    if on_gpu := device.startswith("cuda"):
        torch.cuda.set_device(device)
    store, number, count = next(dist.rendezvous("env://"))
    backend = "cpu:gloo,cuda:nccl" if on_gpu else "gloo"
    dist.init_process_group(backend, store=store, rank=number, world_size=count)
    ending = _Ending(store)
    try:
        yield
    except KeyboardInterrupt:
        ending.leave(130)
    except RuntimeError as error:
        if not _is_lost(error):
            raise
        ending.leave()
    finally:
        ending.close()
        dist.destroy_process_group()


def _is_lost(error: RuntimeError) -> bool:
    """Whether the error means that a process stopped answering."""
    return isinstance(error, dist.DistError) or any(w in str(error) for w in ("gloo", "NCCL"))


class _Ending:
    """Ends this process when the run cannot go on; the first process to notice says so.

    torchrun sends SIGTERM when another process has ended. This one may then be waiting for the
    network or a GPU, where Python's own handlers do not run: a thread waits for the signal instead.
    """

    def __init__(self, store: dist.Store):
        self.store = store
        self.reader, self.writer = socket.socketpair()
        self.writer.setblocking(False)
        self.before = signal.signal(signal.SIGTERM, lambda *_: None)
        signal.set_wakeup_fd(self.writer.fileno(), warn_on_full_buffer=False)
        threading.Thread(target=self._wait, daemon=True).start()

    def _wait(self) -> None:
        with self.reader:
            while byte := self.reader.recv(1):
                if byte[0] == signal.SIGTERM:
                    self.leave()

    def leave(self, code: int = 1) -> NoReturn:
        """Says how to go on, unless another process has, and ends this one."""
        try:
            first = self.store.add("said", 1) == 1
        except RuntimeError:  # the store has ended before
            first = True
        if first:
            print(
                "\nError: this run was stopped, or one of its processes has failed; it goes on "
                f"from the last saved step with: {command()}",
                file=sys.stderr,
                flush=True,
            )
        os._exit(code)

    def close(self) -> None:
        """Gives SIGTERM back."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, self.before)
        self.writer.close()
