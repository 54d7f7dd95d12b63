"""Where ranks wait for each other: every collective of the product, besides DDP's in the backward pass.

All of them run over a gloo group on the CPU, so none touches the device, and each is entered by all ranks for a reason that all
of them share: the batch number, or a value that an earlier meeting agreed on.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

from chexdist.distributed.world import World
from chexdist.errors import AgreedError, UserError, WorkError

T = TypeVar("T")


class Together:
    """The meetings of a world. Alone, each returns at once."""

    def __init__(self, world: World, timeout_seconds: int) -> None:
        self.world = world
        self.group: Any = None
        if world.size > 1:
            self.group = distributed.new_group(backend="gloo", timeout=timedelta(seconds=timeout_seconds))

    def sums(self, values: Tensor) -> Tensor:
        """The sum over ranks of float64 [k], on the CPU and the same bytes on every rank."""
        total = values.detach().to("cpu", torch.float64, copy=True)
        if self.group is not None:
            distributed.all_reduce(total, group=self.group)
        return total

    def sums_later(self, values: Tensor) -> Callable[[], Tensor]:
        """`sums` of what `values` hold now, to be asked for one batch later: until then neither device nor peers are waited for."""
        total = values.detach().to("cpu", torch.float64, non_blocking=True, copy=True)
        copied, work = torch.cuda.Event() if values.is_cuda else None, None
        if copied is not None:
            copied.record()
        elif self.group is not None:
            work = distributed.all_reduce(total, group=self.group, async_op=True)

        def result() -> Tensor:
            if copied is not None:
                copied.synchronize()
                return self.sums(total)
            if work is not None:
                work.wait()
            return total

        return result

    def rows(self, part: Tensor) -> Tensor:
        """The rows of all ranks in rank order, [n_0 + n_1 + ..., D] on the CPU; ranks may bring different numbers of rows."""
        if self.group is None:
            return part.cpu()
        parts: list[Any] = [None] * self.world.size
        distributed.all_gather_object(parts, part.cpu(), group=self.group)
        return torch.cat(parts)

    def from_main(self, value: T) -> T:
        """Rank 0's value, on every rank."""
        box = [value]
        if self.group is not None:
            distributed.broadcast_object_list(box, src=0, group=self.group)
        return box[0]

    def alike(self, value: str, what: str) -> None:
        """Make sure that all ranks have read the same.

        Raises:
            AgreedError: on all ranks, when one has not.
        """
        differ = torch.tensor([float(value != self.from_main(value))], dtype=torch.float64)
        if self.sums(differ).item():
            raise AgreedError(f"{what} is not the same on all ranks: was it replaced just now? Start again")

    def on_main(self, action: Callable[[], object]) -> None:
        """Let rank 0 do something that can fail, and let all ranks know of it.

        Raises:
            UserError: on all ranks, as `action` raised it on rank 0.
            AgreedError: on all ranks, where `action` raised `WorkError` or `OSError`.
        """
        failure: Exception | None = None
        if self.world.is_main:
            try:
                action()
            except UserError as error:
                failure = error
            except WorkError as error:
                failure = AgreedError(str(error))
            except OSError as error:
                failure = AgreedError(f"{error.filename or 'writing'}: {error.strerror or error}")
        failure = self.from_main(failure)
        if failure is not None:
            raise failure

    def share(self, rows: int) -> range:
        """This rank's part of `rows` independent rows, such that `rows()` puts them back in order."""
        return range(
            self.world.rank * rows // self.world.size, (self.world.rank + 1) * rows // self.world.size
        )
