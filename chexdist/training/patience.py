"""Decides how long a rank waits for a batch from its loader processes."""

from dataclasses import dataclass

from chexdist.config.tree import Config
from chexdist.data.manifest import Manifest
from chexdist.distributed.stop_request import StopRequest
from chexdist.errors import WorkError

SECONDS_TO_STOP = 20
"""A requested stop waits so long for a batch: the schedulers that ask for it kill after 30 seconds."""


@dataclass(frozen=True)
class Patience:
    """Called with the seconds that a batch has been waited for."""

    config: Config
    manifest: Manifest
    stop: StopRequest

    def __call__(self, seconds: float) -> None:
        """Return where it is to be waited on.

        Raises:
            WorkError: a stop is requested and no batch comes, after which ranks would agree on it; or local
                shards gave no batch within `control.timeout`. Remote shards have limits of their own.
        """
        if self.stop.requested and seconds > SECONDS_TO_STOP:
            raise WorkError(
                f"stopped as requested, but without a save: no batch came from the loader for {seconds:.0f} s"
            )
        limit = self.config.control.timeout
        if self.manifest.cache is None and seconds > limit:
            raise WorkError(
                f"no batch came from the loader for {seconds:.0f} s (control.timeout {limit}): "
                f"{self.manifest.directory} does not answer, or a loader process is stuck; --data.workers 0 "
                "reads without any"
            )
