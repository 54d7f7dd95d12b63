"""The world that the doctor is in: the one asked for against the one got, its process group, and how fast
ranks sum.
"""

import os
import platform
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from chexdist.config.tree import Config
from chexdist.distributed.launcher import check_launcher
from chexdist.distributed.world import World, check_asked_world
from chexdist.doctor.finding import Note, counted, listed
from chexdist.errors import WorkError

if TYPE_CHECKING:
    import torch

SECONDS_TO_FORM = 120
SUMMED = 2**23
"""Bytes in the all-reduce that is timed."""
REPEATS = 5


@dataclass
class Peers:
    """The ranks that answer. After a group could not be formed, or was lost, what is gathered is this rank's
    own.
    """

    world: World
    device: "torch.device"
    group: Any = None
    hosts: list[str] = field(default_factory=lambda: [platform.node()])

    @property
    def size(self) -> int:
        return len(self.hosts)

    @property
    def on_this_node(self) -> int:
        """Ranks that share this machine's memory and cores."""
        return self.hosts.count(platform.node())

    def gather(self, value: Any) -> list[Any]:
        """Every rank's value, in rank order. All ranks must call it.

        Raises:
            WorkError: another rank is gone; from then on this one is alone.
        """
        if self.group is None:
            return [value]
        from torch import distributed

        box: list[Any] = [None] * self.world.size
        try:
            distributed.all_gather_object(box, value, group=self.group)
        except RuntimeError as error:
            self.leave()
            raise WorkError(
                f"lost another rank: {str(error).splitlines()[0]}; what it printed says why"
            ) from None
        return box

    def leave(self) -> None:
        """Continue as the only rank."""
        self.group, self.hosts = None, [platform.node()]


def check_variables(note: Note, config: Config | None) -> bool:
    """What the launcher asks for besides a world; raises `UserError` where training would refuse it."""
    check_launcher(config)
    note.ok("asks for nothing but a world")
    return True


def form_group(note: Note, peers: Peers) -> None:
    """Form the process group as training does, over the device that Accelerate chooses."""
    import torch
    from torch import distributed

    from chexdist.distributed.collectives import Collectives
    from chexdist.distributed.process_group import make_accelerator

    world = peers.world
    try:
        peers.device = make_accelerator(world, SECONDS_TO_FORM).device
        peers.group = Collectives(world, SECONDS_TO_FORM).group
        peers.hosts = peers.gather(platform.node())
    except (RuntimeError, ValueError) as error:
        peers.leave()
        address = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        note.fault(
            f"rank {world.rank} of {world.size} could not form a group with the others at {address}: "
            f"{str(error).splitlines()[0]}",
            "start all ranks at once, at a port that is free; let every node reach it (firewall, host "
            "names); name the network by GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME",
        )
        return
    available = [
        name
        for name, there in (
            ("gloo", distributed.is_gloo_available()),
            ("nccl", distributed.is_nccl_available()),
        )
        if there
    ]
    used = distributed.get_backend() if world.size > 1 else "none needed by one process"
    note.ok(f"{', '.join(available) or 'none'} available, used here: {used}")
    if "gloo" not in available or torch.cuda.is_available() and "nccl" not in available:
        missing = "nccl" if "gloo" in available else "gloo"
        note.fault(f"this torch has no {missing}", "install a torch that has it: pip install torch, on Linux")


def describe_world(note: Note, peers: Peers) -> None:
    """How many ranks on which nodes; raises `UserError` where another world was asked for."""
    nodes = sorted(set(peers.hosts))
    note.ok(f"{counted(peers.size, 'rank')} on {counted(len(nodes), 'node')} ({listed(nodes)})")
    check_asked_world(peers.world)


def time_all_reduce(note: Note, peers: Peers) -> float | None:
    """Bytes/s with which a ring all-reduce moves gradients, from one of 8 MiB; None alone. All ranks must
    call it.

    Of B bytes a rank sends and receives 2 (W - 1) / W B (Patarasuk and Yuan 2009, "Bandwidth optimal
    all-reduce algorithms for clusters of workstations")."""
    if peers.group is None:
        return None
    import torch
    from torch import distributed

    world, seconds = peers.size, []
    for _ in range(REPEATS):
        values = torch.full((SUMMED // 4,), float(peers.world.rank), device=peers.device)
        distributed.barrier(group=peers.group)
        begun = time.perf_counter()
        distributed.all_reduce(values)
        total = values[-1].item()
        seconds.append(time.perf_counter() - begun)
        if total != world * (world - 1) / 2:
            note.fault(
                f"an all-reduce over {world} ranks summed to {total}, not {world * (world - 1) / 2}",
                "the network or its driver corrupts data: try NCCL_P2P_DISABLE=1 or other nodes",
            )
    middle = sorted(seconds)[REPEATS // 2]
    bandwidth = 2 * (world - 1) / world * SUMMED / middle
    note.ok(f"8 MiB summed over {world} ranks in {middle * 1e3:.1f} ms, {bandwidth / 1e6:,.0f} MB/s each way")
    return bandwidth
