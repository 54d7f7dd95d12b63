"""What NCCL, gloo and the store say of a failure is what the user reads, and where and when it was.

There is no NCCL on a CPU: its errors are raised with its own words, at the call that would raise them.
"""

import platform
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import jobs
from helpers.faults import STEP, Raises
from torch import distributed

from chexdist.distributed.backend import LONGEST, own_reason, reason
from chexdist.distributed.heartbeat import Heartbeat
from chexdist.distributed.world import World


def nccl(kind: str, name: str, sentence: str, last: str) -> distributed.DistBackendError:
    """As torch words it, with the frames that it adds when asked for C++ stack traces."""
    return distributed.DistBackendError(
        f"NCCL error in: /pytorch/torch/csrc/distributed/c10d/NCCLUtils.cpp:77, {kind} (run with "
        f"NCCL_DEBUG=WARN for details), NCCL version 2.27.5\n{name}: {sentence}\nLast error:\n{last}\n"
        "Exception raised from ncclCommInitRankConfig at NCCLUtils.cpp:77 (most recent call first):\n"
        "frame #0: c10::Error::Error(c10::SourceLocation, std::string) + 0x96 (0x7f in libc10.so)\n"
    )


USAGE = ("invalid usage", "ncclInvalidUsage", "This usually reflects invalid usage of NCCL library.")
SYSTEM = (
    "unhandled system error",
    "ncclSystemError",
    "System call (e.g. socket, malloc) or external library call failed or device error.",
)
REMOTE = (
    "remote process exited or there was a network error",
    "ncclRemoteError",
    "A call failed possibly due to a network error or a remote process exiting prematurely.",
)
DUPLICATE = "Duplicate GPU detected : rank 1 and rank 0 both on CUDA device 1000"
INTERFACE = "socketStartConnect: Connect to 10.0.0.1<1234> failed : Software caused connection abort"
VERSION = "Mismatched NCCL version detected : rank 1 version 22705 rank 0 version 22703"
CLOSED = "socketProgress: Connection closed by remote peer node-b<57557>"
UNSAID = "NCCL error, unhandled system error (run with NCCL_DEBUG=WARN for details), NCCL version 2.27.5"
IN_USE = (
    "The server socket has failed to listen on any local network address. port: 29500, useIpv6: false, "
    "code: -98, name: EADDRINUSE, message: address already in use"
)
UNREACHED = "The client socket has timed out after 6000ms while trying to connect to (10.0.0.1, 29500)."
KEY = (
    "[1] is setting up NCCL communicator and retrieving ncclUniqueId from [0] via c10d key-value store by "
    "key '0', but store->get('0') got error: wait timeout after 6000ms, keys: /default_pg/0//cuda//0"
)


@pytest.mark.parametrize(
    "error, own, expected",
    [
        (nccl(*USAGE, DUPLICATE), True, f"{DUPLICATE} (ncclInvalidUsage)"),
        (nccl(*USAGE, VERSION), True, f"{VERSION} (ncclInvalidUsage)"),
        (nccl(*SYSTEM, INTERFACE), True, f"{INTERFACE} (ncclSystemError)"),
        (
            nccl(*SYSTEM, ""),
            False,
            f"{UNSAID} ncclSystemError: {SYSTEM[2]}",
        ),
        (distributed.DistNetworkError(IN_USE), False, IN_USE),
        (distributed.DistNetworkError(UNREACHED), False, UNREACHED),
        (distributed.DistBackendError(KEY), False, KEY),
        (
            distributed.DistStoreError("Timed out after 7 seconds waiting for clients. 1/2 clients joined."),
            False,
            "Timed out after 7 seconds waiting for clients. 1/2 clients joined.",
        ),
        (
            RuntimeError("[/third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer"),
            False,
            "Connection closed by peer",
        ),
    ],
)
def test_the_reason_in_a_line(error: Exception, own: bool, expected: str) -> None:
    assert reason(error) == expected
    assert own_reason(error) == (expected if own else "")


def test_a_reason_has_an_end() -> None:
    found = reason(distributed.DistStoreError("wait timeout, keys: " + "/key, " * 1000))
    assert len(found) == LONGEST + 4 and found.endswith(" ...")


@dataclass(frozen=True)
class FirstSum:
    """Some ranks get this from the first all-reduce of the default group, which is when NCCL is set up."""

    error: Exception
    ranks: tuple[int, ...]

    def __call__(self, rank: int) -> None:
        original = distributed.all_reduce

        def all_reduce(tensor: torch.Tensor, *rest: Any, **named: Any) -> Any:
            if named.get("group") is None and rank in self.ranks:
                raise self.error
            return original(tensor, *rest, **named)

        setattr(distributed, "all_reduce", all_reduce)  # noqa: B010


@dataclass(frozen=True)
class Rendezvous:
    """No rank finds the store."""

    error: Exception

    def __call__(self, rank: int) -> None:
        def refuse(*_: Any, **__: Any) -> None:
            raise self.error

        setattr(distributed, "rendezvous", refuse)  # noqa: B010


def failed(
    shards: Path, folder: Path, fault: Callable[[int], None], config: str = "vanilla"
) -> tuple[list[str], str]:
    """What two ranks say in which this goes wrong, and the cause in the status."""
    run = folder / "run"
    words = jobs.small(shards, run, config, "--control.timeout", "6")
    job = jobs.start(words, folder / "log", 2, fault)
    assert job.wait(120) == [1, 1], job.output
    assert "Traceback" not in job.output, job.output
    assert jobs.status(run)["state"] == "failed"
    return [line for line in job.output.splitlines() if line.startswith("chexdist")], jobs.status(run)[
        "cause"
    ]


def here(rank: int) -> str:
    return f"rank {rank} on {platform.node()} (cpu)"


@pytest.mark.parametrize(
    "error", [(*USAGE, DUPLICATE), (*SYSTEM, INTERFACE), (*USAGE, VERSION)], ids=lambda words: words[-1][:9]
)
def test_a_group_that_can_not_be_set_up(error: tuple[str, ...], shards: Path, tmp_path: Path) -> None:
    """Both ranks have the same reason: one line of rank 0."""
    lines, cause = failed(shards, tmp_path, FirstSum(nccl(*error), (0, 1)))
    said = "the gloo group of 2 ranks could not be set up"
    assert cause == f"{said}: {here(0)}, {here(1)}: {error[-1]} ({error[1]})"
    assert lines == [f"chexdist: {cause}"]


def test_one_rank_alone_knows_why(shards: Path, tmp_path: Path) -> None:
    """Rank 0 sees no more than that its all-reduce does not end: what rank 1 received is in its line."""
    lines, cause = failed(shards, tmp_path, FirstSum(nccl(*SYSTEM, INTERFACE), (1,)))
    assert re.search(rf"{re.escape(here(1))}(:| reports:) {re.escape(INTERFACE)} \(ncclSystemError\)", cause)
    assert "could not be set up" in cause and any(INTERFACE in line for line in lines)


@pytest.mark.parametrize(
    "error, said",
    [
        (distributed.DistNetworkError(UNREACHED), f"the 2 ranks did not all join within 6 s: {UNREACHED}"),
        (distributed.DistNetworkError(IN_USE), IN_USE),
    ],
    ids=["unreachable", "in use"],
)
def test_a_store_that_is_not_reached(error: Exception, said: str, shards: Path, tmp_path: Path) -> None:
    lines, cause = failed(shards, tmp_path, Rendezvous(error))
    assert cause == f"rank 0 on {platform.node()}: the group of 2 ranks could not be set up: {said}"
    assert sorted(lines)[1] == f"chexdist: {cause}" and len(lines) == 2


def test_a_group_that_is_lost(shards: Path, tmp_path: Path) -> None:
    """In the fifth step, on both ranks: not the network is named, but what NCCL has said."""
    lines, cause = failed(shards, tmp_path, Raises(STEP, 5, nccl(*REMOTE, CLOSED)))
    assert re.search(
        rf"^lost another rank: (at image \d+, rank [01] on .* reports: {re.escape(CLOSED)}|.* gave up too)",
        cause,
    )
    assert re.search(rf"; the group was lost, rank [01] on \S+ \(cpu\) reports: {re.escape(CLOSED)}", cause)
    assert len(lines) == 2 and all(CLOSED in line and "network between" not in line for line in lines)


def test_another_rank_s_own_reason_is_named(tmp_path: Path) -> None:
    """By one that knows none itself."""
    mine, its = (Heartbeat(tmp_path, World(rank, 2, rank, 0)) for rank in (0, 1))
    mine.seconds = its.seconds = 0.4
    its.at(32, "training")
    reported = f"{here(1)} reports: Cuda failure 'uncorrectable ECC error'"
    assert its.lost(reported)
    assert mine.lost() == f"at image 32, {reported}"
