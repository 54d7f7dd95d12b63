"""Decides how many files and sockets a rank may hold open: every process group connects each rank to all
others, and the usual limit of 1,024 ends at some hundreds of ranks.
"""

import resource

from chexdist.errors import UserError

SPARE = 100
"""For logs, shards, loader processes and what torch opens by itself: an allowance, not a count."""


def needed(ranks: int) -> int:
    """What rank 0, which holds the store and so the most, has open in a world of so many ranks.

    22 + 3 W was counted with two gloo groups, for W = 2, 6 and 12; other ranks have 13 + 2 W."""
    return 22 + 3 * ranks + SPARE


def hard_limit() -> float:
    """Up to which a process may raise its own limit; infinite where there is none."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return float("inf") if hard == resource.RLIM_INFINITY else hard


def raise_limit(ranks: int) -> None:
    """Let this process open what so many ranks need.

    Raises:
        UserError: its hard limit is below that.
    """
    held, (soft, hard) = needed(ranks), resource.getrlimit(resource.RLIMIT_NOFILE)
    if ranks == 1 or soft == resource.RLIM_INFINITY or soft >= held:
        return
    if hard_limit() < held:
        raise UserError(
            f"{ranks} ranks need up to {held:,} open files and sockets a process, but this one may have "
            f"{hard:,}: raise the hard limit (ulimit -Hn) on every node"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (held if hard == resource.RLIM_INFINITY else hard, hard))
