"""Many processes as one: starting the process group, and the few collectives that jobs need.

On CPUs the group is gloo, on GPUs NCCL. DeepSpeed would compile a shared-memory transport for
CPUs first, which takes minutes and a compiler and brings nothing here, so it is told not to.
"""

import atexit
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from realign.engine.devices import need_promised_gpus

PATIENCE = timedelta(days=2)
INTERFACE = "GLOO_SOCKET_IFNAME"
ANYWHERE = "192.0.2.1"  # an address that no machine has, beyond this node's default route


@dataclass(frozen=True)
class World:
    """This process's place among all, and the device it works on."""

    rank: int
    size: int
    local_rank: int
    device: torch.device
    patient: Any = None  # a group of all processes for waits that may outlast a collective's limit

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """This process's part of `count` items; parts differ in length by one at most."""
        return shares(count, self.size)[self.rank]

    def gather_rows(self, rows: torch.Tensor, counts: Sequence[int]) -> torch.Tensor:
        """The rows of all processes in the order of their ranks; process r holds counts[r] of them."""
        if self.size == 1:
            return rows
        longest = max(counts)
        padded = rows.new_zeros(longest, *rows.shape[1:])
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(parts, padded)
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    def largest(self, number: float) -> float:
        """The largest of a number over all processes."""
        return self._reduce(number, dist.ReduceOp.MAX)

    def total(self, number: float) -> float:
        """The sum of a number over all processes."""
        return self._reduce(number, dist.ReduceOp.SUM)

    def any(self, fact: bool) -> bool:
        """Whether a fact holds on at least one process."""
        return self.largest(float(fact)) > 0

    def gather_objects(self, thing: Any) -> list[Any]:
        """A small object of every process, in the order of their ranks."""
        if self.size == 1:
            return [thing]
        things: list[Any] = [None] * self.size
        dist.all_gather_object(things, thing)
        return things

    def wait(self) -> None:
        """Go on when all processes have come here, however long one of them writes or reads before."""
        if self.size > 1:
            dist.barrier(self.patient)

    def _reduce(self, number: float, how: Any) -> float:
        if self.size == 1:
            return float(number)
        value = torch.tensor([number], dtype=torch.float64, device=self.device)
        dist.all_reduce(value, op=how)
        return float(value.item())


def shares(count: int, processes: int) -> list[slice]:
    """How `count` items are divided among processes: in order, lengths differing by one at most."""
    short, more = divmod(count, processes)
    ends = [short * (r + 1) + min(r + 1, more) for r in range(processes)]
    return [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]


@contextmanager
def joined(timeout_seconds: float = 1800.0, deepspeed: bool = True) -> Iterator[World]:
    """Join the process group that the launcher's variables describe; a lone process is one of its own.

    The group is destroyed on a clean exit only. NCCL's shutdown waits for all ranks, so a rank that
    fails would hang there while its peers hang in their collectives. It has to end its process instead,
    as `engine.worker.work` does: then the launcher ends the others.
    """
    world = _place()
    _choose_interface()
    if not dist.is_initialized():
        backend = "nccl" if world.device.type == "cuda" else "gloo"
        waiting = timedelta(seconds=timeout_seconds)
        if world.size == 1:
            dist.init_process_group(backend, rank=0, world_size=1, store=dist.HashStore(), timeout=waiting)
            atexit.register(_part)
        else:
            dist.init_process_group(backend, timeout=waiting)
    if world.size > 1:
        # While the first process writes a large checkpoint, the others would run into NCCL's time limit,
        # which is there to find processes that hang. A process that dies ends this wait in any case.
        world = replace(world, patient=dist.new_group(backend="gloo", timeout=PATIENCE))
    if deepspeed:
        _introduce_deepspeed(world)
    yield world
    # A lone process keeps its group for the next job: DeepSpeed can be introduced to one group only.
    if world.size > 1:
        _part()


def _part() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def _choose_interface() -> None:
    """Let gloo meet other nodes on the interface that leads to the first one.

    By default it takes the address of the node's own name, which /etc/hosts may map to loopback. The first
    node's own address may be loopback there, too: then its default route decides.
    """
    world = int(os.environ.get("WORLD_SIZE", 1))
    if INTERFACE in os.environ or world <= int(os.environ.get("LOCAL_WORLD_SIZE", world)):
        return
    for address in (os.environ["MASTER_ADDR"], ANYWHERE):
        if (name := interface_towards(address)) not in (None, "lo"):
            os.environ[INTERFACE] = str(name)
            return


def interface_towards(address: str) -> str | None:
    """The network interface of this node that leads to an address, if one does."""
    import psutil

    try:
        family, kind, _, _, place = socket.getaddrinfo(address, 9, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as probe:
            probe.connect(place)  # chooses a route and sends nothing
            own = probe.getsockname()[0]
    except OSError:  # no such name, or no route: gloo then chooses by itself
        return None
    for name, addresses in psutil.net_if_addrs().items():
        if any(known.address.partition("%")[0] == own.partition("%")[0] for known in addresses):
            return name
    return None


def _place() -> World:
    rank, size, local = (
        int(os.environ.get(name, default))
        for name, default in (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0))
    )
    need_promised_gpus()
    if torch.cuda.is_available():
        torch.cuda.set_device(local)
        return World(rank, size, local, torch.device("cuda", local))
    return World(rank, size, local, torch.device("cpu"))


def _introduce_deepspeed(world: World) -> None:
    """Tell DeepSpeed about the group that stands already."""
    if world.device.type == "cpu":
        os.environ["DS_ACCELERATOR"] = "cpu"
    for name, value in (("RANK", world.rank), ("WORLD_SIZE", world.size), ("LOCAL_RANK", world.local_rank)):
        os.environ.setdefault(name, str(value))
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    os.environ.setdefault("MASTER_PORT", "29500")  # read by DeepSpeed, never used: the group stands
    # One of its optimizers, which every ZeRO stage imports, would load torch's compiler: seconds for nothing.
    os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")
    import deepspeed.ops
    from deepspeed.utils import logger

    logger.setLevel("WARNING")
    if world.device.type == "cpu":
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    import deepspeed.comm

    deepspeed.comm.init_distributed(auto_mpi_discovery=False, verbose=False)
