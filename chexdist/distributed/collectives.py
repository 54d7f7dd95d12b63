"""Every place where ranks wait for each other; the collectives of training are below.

They run over a gloo group on copies on the CPU. Each is entered by all ranks for a reason
that all of them share: the batch number, or a value that an earlier collective agreed on. Ranks wait
elsewhere too:

- in the rendezvous: `process_group.make_accelerator`, and the new group below
- in the first all-reduce of the group that gradients use: `backend.first_all_reduce`
- in DDP: its construction in `training.networks`, its all-reduce in the backward passes of `training.step`
- in the doctor, which has collectives of its own: `doctor.peers`
- for files: `heartbeat.lost` for other ranks' beats, `doctor.storage` for other ranks' test files, and the
  ranks of one node in `data.cache` for the lock and the room of a shard, in `data.once` for the manifest

The lock of a run directory is no such place: rank 0 tries once.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, distributed

from chexdist.distributed.world import World
from chexdist.errors import AgreedError, UserError, WorkError

T = TypeVar("T")


class Pending:
    """An all-reduce of float64 [k] that has begun. Until `result` is called, neither device nor other ranks
    are waited for.
    """

    def __init__(self, values: Tensor, group: Any) -> None:
        self._total = values.detach().to("cpu", torch.float64, non_blocking=True, copy=True)
        self._group, self._work = group, None
        self._copied = torch.cuda.Event() if values.is_cuda else None
        if self._copied is not None:
            self._copied.record()
        elif group is not None:
            self._work = distributed.all_reduce(self._total, group=group, async_op=True)

    def result(self) -> Tensor:
        """The sum over ranks, on the CPU and the same bytes on every rank. To be called once, by all ranks in
        the same order.
        """
        if self._copied is not None:
            self._copied.synchronize()
            if self._group is not None:
                distributed.all_reduce(self._total, group=self._group)
        elif self._work is not None:
            self._work.wait()
        return self._total


class Collectives:
    """Collective operations over all ranks; with one rank they return at once.

    Each raises RuntimeError, as torch does, when another rank is gone or `timeout_seconds` have passed.
    """

    def __init__(self, world: World, timeout_seconds: int) -> None:
        self.world = world
        self.group: Any = None
        if world.size > 1:
            self.group = distributed.new_group(backend="gloo", timeout=timedelta(seconds=timeout_seconds))

    def all_reduce(self, values: Tensor) -> Tensor:
        """The sum over ranks of float64 [k], on the CPU and the same bytes on every rank."""
        return Pending(values, self.group).result()

    def all_reduce_async(self, values: Tensor) -> Pending:
        """Start an all-reduce of a copy of `values` [k]; its result is asked for a batch later."""
        return Pending(values, self.group)

    def all_gather(self, part: Tensor) -> Tensor:
        """The rows of all ranks in rank order, [n_0 + n_1 + ..., D] on the CPU; ranks may bring different
        numbers of rows.
        """
        return torch.cat(self.gather(part.cpu()))

    def gather(self, value: T) -> list[T]:
        """Every rank's value, in rank order."""
        values: list[Any] = [value] * self.world.size
        if self.group is not None:
            distributed.all_gather_object(values, value, group=self.group)
        return values

    def broadcast(self, value: T) -> T:
        """Rank 0's value, on every rank."""
        box = [value]
        if self.group is not None:
            distributed.broadcast_object_list(box, src=0, group=self.group)
        return box[0]

    def check_same(self, value: str, what: str) -> None:
        """Make sure that all ranks have read the same.

        Raises:
            AgreedError: on all ranks, when one has not.
        """
        differ = torch.tensor([float(value != self.broadcast(value))], dtype=torch.float64)
        if self.all_reduce(differ).item():
            raise AgreedError(f"{what} is not the same on all ranks: was it replaced just now? Start again")

    def run_on_main(self, action: Callable[[], object]) -> None:
        """Let rank 0 do something that can fail, and let all ranks know of it; raises as `from_main` does."""

        def run() -> None:
            action()

        self.from_main(run)

    def from_main(self, action: Callable[[], T]) -> T:
        """What `action` returns on rank 0, which alone calls it, on every rank.

        Raises:
            UserError: on all ranks, as `action` raised it on rank 0.
            AgreedError: on all ranks, where `action` raised `WorkError` or `OSError`.
        """
        found: T | None = None
        failure: Exception | None = None
        if self.world.is_main:
            try:
                found = action()
            except UserError as error:
                failure = error
            except WorkError as error:
                failure = AgreedError(str(error))
            except OSError as error:
                failure = AgreedError(f"{error.filename or 'writing'}: {error.strerror or error}")
        found, failure = self.broadcast((found, failure))
        if failure is not None:
            raise failure
        return cast(T, found)

    def share(self, count: int, part: Callable[[int], T]) -> list[T]:
        """part(0), ..., part(count - 1) on every rank, of which each computes every W-th."""
        rank, size = self.world.rank, self.world.size
        ranks = self.gather([part(number) for number in range(rank, count, size)])
        return [ranks[number % size][number // size] for number in range(count)]

    def rows_of_rank(self, rows: int) -> range:
        """This rank's part of `rows` independent rows, such that `all_gather` puts them back in order."""
        rank, size = self.world.rank, self.world.size
        return range(rank * rows // size, (rank + 1) * rows // size)
