"""What faults fill and cut, without harm to the machine: a small disk, a small /dev/shm, two hosts."""

import ctypes
import os
import subprocess
from contextlib import suppress
from pathlib import Path

NEW_MOUNTS, NEW_NETWORK = 0x20000, 0x40000000
"""Of sched.h; `os` has them since Python 3.12 only."""


def leave_mounts() -> str:
    """Give this process and those it starts mounts of their own; says why not where it can't be done."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(NEW_MOUNTS):
        return f"mounts of its own: {os.strerror(ctypes.get_errno())} (needs root)"
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    return ""


def enter_network(namespace: str) -> None:
    """Let this process talk to others as from the host whose network namespace is so named."""
    with open(f"/run/netns/{namespace}") as file:
        if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), NEW_NETWORK):
            raise OSError(ctypes.get_errno(), f"setns {namespace}")


class Disk:
    """A file system of a few MiB at `path`, which can be filled to the last byte."""

    def __init__(self, path: Path, mib: int) -> None:
        self.path = path
        self._ballast = path / ".ballast"
        path.mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mib}m", "chaos", str(path)], check=True)

    def fill(self) -> None:
        """Leave no byte free."""
        with suppress(OSError), self._ballast.open("ab", buffering=0) as file:
            while True:
                file.write(bytes(1 << 16))
        with suppress(OSError), self._ballast.open("ab", buffering=0) as file:
            while True:
                file.write(b"\0")

    def free(self) -> None:
        """Undo `fill`."""
        self._ballast.unlink(missing_ok=True)

    def unmount(self) -> None:
        """Take it away with all that is on it."""
        subprocess.run(["umount", "--lazy", str(self.path)], check=True)
