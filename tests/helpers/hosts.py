"""Two hosts on one machine: network namespaces, joined by a cable that can be cut, that share a disk."""

import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Self

NAMES = ("host-a", "host-b")
ADDRESSES = ("10.99.0.1", "10.99.0.2")
"""Of networks that nothing outside the two namespaces can see."""


class TwoHosts:
    """`with TwoHosts() as hosts:` makes them, and takes them away with all that runs on them."""

    def __init__(self) -> None:
        self.spaces = [f"chexdist-{os.getpid()}-{name}" for name in NAMES]
        self._end = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as end:
            for space in self.spaces:
                _ip("netns", "add", space)
                end.callback(_ip, "netns", "delete", space)
            ends = [["name", "cable", "netns", space] for space in self.spaces]
            _ip("link", "add", *ends[0], "type", "veth", "peer", *ends[1])
            for space, address in zip(self.spaces, ADDRESSES, strict=True):
                _ip("-n", space, "address", "add", f"{address}/24", "dev", "cable")
                for device in ("lo", "cable"):
                    _ip("-n", space, "link", "set", device, "up")
            self._end = end.pop_all()
        return self

    def __exit__(self, *failure: object) -> None:
        self._end.close()

    def cable(self, state: str) -> None:
        """Set it "up" or "down", at the second host's end."""
        _ip("-n", self.spaces[1], "link", "set", "cable", state)

    def train(self, words: list[str], logs: Path, attempt: int) -> list[subprocess.Popen[bytes]]:
        """One rank of a world of two on each host. What rank N prints goes to `ATTEMPT-N` in `logs`."""
        ranks = []
        for rank, (space, name) in enumerate(zip(self.spaces, NAMES, strict=True)):
            world = {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": "0", "GROUP_RANK": str(rank)}
            rendezvous = {"MASTER_ADDR": ADDRESSES[0], "MASTER_PORT": "29500", "GLOO_SOCKET_IFNAME": "cable"}
            command = ["setpriv", "--pdeathsig", "KILL"]  # not longer than the test, however that ends
            command += ["ip", "netns", "exec", space, "unshare", "--uts", "sh", "-c"]
            command += [f'hostname {name} && exec "$@"', "sh", sys.executable, "-m", "chexdist", *words]
            with (logs / f"{attempt}-{rank}").open("wb") as log:
                process = subprocess.Popen(
                    command, env={**os.environ, **world, **rendezvous}, stdout=log, stderr=log
                )
            self._end.callback(_kill, process)
            ranks.append(process)
        return ranks


def missing() -> str:
    """Why there can be no such hosts here; empty when there can."""
    if os.geteuid() != 0:
        return "network namespaces need root, and this is not root"
    if not _works("ip", "-V") and os.environ.get("CHEXDIST_ALLOW_APT") == "1":
        _works("apt-get", "install", "--yes", "iproute2") or _works(
            "sh", "-c", "apt-get update && apt-get install --yes iproute2"
        )
    if not _works("ip", "-V"):
        return (
            "no `ip` here; with CHEXDIST_ALLOW_APT=1 `make test-slurm` runs: apt-get install --yes iproute2"
        )
    if not _works("unshare", "--uts", "true"):
        return "each host needs a name of its own, and this machine forbids namespaces"
    probe = f"chexdist-{os.getpid()}-probe"
    try:
        if not _works("ip", "netns", "add", probe) or not _works(
            *["ip", "-n", probe, "link", "add", "one", "type", "veth", "peer", "name", "two"]
        ):
            return "this machine forbids network namespaces or pairs of virtual Ethernet devices"
    finally:
        _works("ip", "netns", "delete", probe)
    return ""


def _works(*words: str) -> bool:
    try:
        return subprocess.run(words, capture_output=True, check=False, timeout=300).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, timeout=30)


def _kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
