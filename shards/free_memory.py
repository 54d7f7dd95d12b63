"""How much memory this process and its children can still get, by the kernel and every control group."""

import re
from pathlib import Path


def free_memory() -> int | None:
    """Bytes of main memory that this process and its children can still get: the kernel's figure, and every
    limit of a control group.

    None where the kernel doesn't say.
    """
    table = Path("/proc/meminfo")
    found = re.search(r"^MemAvailable:\s+(\d+) kB", table.read_text() if table.exists() else "", re.MULTILINE)
    if not found:
        return None
    return min([int(found.group(1)) << 10, *_left_in_groups()])


def _left_in_groups() -> list[int]:
    """What each enclosing control group (version 2, or version 1's memory controller) leaves of its limit."""
    left = []
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, limit, used = Path("/sys/fs/cgroup"), "memory.max", "memory.current"
        elif "memory" in controllers.split(","):
            root, limit, used = (
                Path("/sys/fs/cgroup/memory"),
                "memory.limit_in_bytes",
                "memory.usage_in_bytes",
            )
        else:
            continue
        group = root / path.lstrip("/")
        for folder in (group, *group.parents):
            try:
                left.append(
                    int((folder / limit).read_text()) - int((folder / used).read_text()) + _cached(folder)
                )
            except (OSError, ValueError):
                continue  # no limit here
            if folder == root:
                break
    return left


def _cached(group: Path) -> int:
    """File pages that the kernel drops when a group needs memory."""
    found = re.search(r"^inactive_file (\d+)", (group / "memory.stat").read_text(), re.MULTILINE)
    return int(found.group(1)) if found else 0
