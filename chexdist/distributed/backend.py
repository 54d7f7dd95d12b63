"""What a backend (NCCL, gloo, or the store of the rendezvous) says of a failure, and the first
all-reduce, by which it is known to work.
"""

import platform
import re
from dataclasses import dataclass

import torch
from torch import distributed

from chexdist.distributed.collectives import Collectives
from chexdist.distributed.world import World
from chexdist.errors import AgreedError

LONGEST = 400
"""Characters of a reason; what is longer is a list of frames or of keys."""
SHOWN = 3


def own_reason(error: Exception) -> str:
    """What NCCL puts after "Last error:", with its name of the error, in one line; empty without that."""
    found = re.search(r"\b(nccl[A-Z]\w+):.*?Last error:\s*(\S.*)", _without_frames(error), re.DOTALL)
    return _line(f"{found[2].rstrip()} ({found[1]})") if found else ""


def reason(error: Exception) -> str:
    """The backend's message in one line: its own reason, or else all but places in torch's sources."""
    text = _without_frames(error).partition("Last error:")[0]
    return own_reason(error) or _line(re.sub(r"^\[\S+:\d+\] *|(?<=NCCL error) in: \S+(?=,)", "", text))


def _without_frames(error: Exception) -> str:
    return re.split(r"Exception raised from |\nframe #", str(error))[0]


def _line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONGEST else f"{line[:LONGEST]} ..."


def place(world: World, device: torch.device) -> str:
    """This rank, its node and its device."""
    return f"rank {world.rank} on {platform.node()} ({'cpu' if device.type == 'cpu' else device})"


def is_of_backend(error: Exception, world: World) -> bool:
    """Whether this is what a rank gets when another, or its launcher, is gone, or they can't reach each
    other.
    """
    return isinstance(error, distributed.DistError) or (world.size > 1 and "gloo" in str(error).lower())


@dataclass(frozen=True)
class Answer:
    """What one rank got from the first all-reduce; `failure` is empty where it worked."""

    place: str
    failure: str


def first_all_reduce(collectives: Collectives, device: torch.device) -> None:
    """All-reduce once over the group that gradients will use, which NCCL sets up only now; all ranks call it.

    Raises:
        AgreedError: on all ranks, with the backend's reason on each rank where that failed.
        RuntimeError: the backend's, where other ranks do not report theirs.
    """
    world = collectives.world
    if world.size == 1:
        return
    failure: RuntimeError | None = None
    try:
        total = torch.ones(1, device=device)
        distributed.all_reduce(total)
        total.item()
    except RuntimeError as error:
        failure = error
    try:
        answers = collectives.gather(Answer(place(world, device), reason(failure) if failure else ""))
    except RuntimeError as error:
        raise failure or error from None
    failed = [answer for answer in answers if answer.failure]
    if failed:
        raise AgreedError(f"{not_set_up(world)}: {_listed(failed)}")


def not_set_up(world: World) -> str:
    """What is said of a group in which no all-reduce has worked yet."""
    backend = f"{distributed.get_backend()} " if distributed.is_initialized() else ""
    return f"the {backend}group of {world.size} ranks could not be set up"


def _listed(failed: list[Answer]) -> str:
    """The reasons, each with the ranks that have it."""
    places: dict[str, list[str]] = {}
    for answer in failed:
        places.setdefault(answer.failure, []).append(answer.place)
    parts = []
    for failure, of in list(places.items())[:SHOWN]:
        more = f" and {len(of) - SHOWN} more" if len(of) > SHOWN else ""
        parts.append(f"{', '.join(of[:SHOWN])}{more}: {failure}")
    return "; ".join(parts)
