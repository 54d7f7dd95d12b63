"""The other side of `exactness`: WebDataset (1.0) under Accelerate (1.15), as their documentation advises.

A pipeline is that of WebDataset's README, FAQ and examples: shards split by node and by worker, shuffled, a
shuffle buffer, decoded, batched in the loader's processes, then mixed between them and batched again
(`unbatched().shuffle().batched()`). WebDataset draws fresh seeds by default; here all are fixed, since
nothing could be repeated otherwise. What differs between the sides is how two nodes are served:

shards once         `split_by_node`, to the end of the shards.
shards, joined      the same under torch's `Join`, which is what Accelerate's `join_uneven_inputs` is on GPUs
                    (on CPUs it does nothing).
shards, with_epoch  the same, `.with_epoch(n)` with as many batches on each node as an epoch has: who is short
                    begins again.
resampled           `resampled=True` with `.with_epoch(n)`: shards drawn with replacement, which WebDataset
                    advises for many nodes.
prepared            no split by node: `accelerator.prepare(loader)`, whose default for such data is that rank
                    0 reads for all (`dispatch_batches`), and `split_batches`, with which a batch is the same
                    at every number of nodes.

To resume, Accelerate's guide has `save_state`, `load_state` and `skip_first_batches`; for a loader that
Accelerate does not know, that is reading the first batches again and dropping them. (torchdata's
StatefulDataLoader does no more for a dataset that has no state.) `resampled` skips nothing: WebDataset's
advice is that a restart then has the same statistics.
"""

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import webdataset
from accelerate import Accelerator, DataLoaderConfiguration
from accelerate.utils import set_seed
from torch import Tensor, nn
from torch.distributed.algorithms.join import Join
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from benchmarks.tally import Trained
from shards.files import replace_file

SEED = 0


@dataclass(frozen=True)
class Reading:
    """What is read: shards of `samples` pictures of `side` px, in global batches of `batch`.

    A checkpoint follows every `save` batches.
    """

    urls: tuple[str, ...]
    samples: int
    side: int
    batch: int
    workers: int
    buffer: int
    save: int


def train(name: str, reading: Reading, run: Path, rank: int, start: Path, kill_at: int | None) -> None:
    """An epoch on this rank, from the newest checkpoint in `run`."""
    set_seed(SEED)
    accelerator = Accelerator(cpu=True, dataloader_config=DataLoaderConfiguration(split_batches=True))
    model = nn.Sequential(nn.Flatten(), nn.Linear(reading.side**2, 1))
    model, optimizer = accelerator.prepare(model, torch.optim.Adam(model.parameters(), lr=1e-4))
    done = _newest(run)
    if done:
        accelerator.load_state(str(run / f"step_{done}"))
    trained = Trained(start, rank, kill_at)
    with _joined(name, model):
        for t, pixels in enumerate(batches(name, reading, accelerator, done), done):
            trained.before(t)
            loss = model(pixels.float() / 127.5 - 1).square().mean()
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
            trained.after(t, pixels.numpy())
            if (t + 1) % reading.save == 0:
                _save(accelerator, run, t + 1)
    accelerator.wait_for_everyone()
    accelerator.end_training()


def batches(name: str, reading: Reading, accelerator: Accelerator, done: int) -> Iterator[Tensor]:
    """This rank's part of each batch of the epoch after the first `done`: pixels, uint8 [n, side, side]."""
    share, epoch = reading.batch // accelerator.num_processes, reading.samples // reading.batch
    loader: Any
    if name == "prepared":
        loader = accelerator.prepare(
            DataLoader(_pictures(reading, node=None), batch_size=reading.batch, num_workers=reading.workers)
        )
        loader = accelerator.skip_first_batches(loader, done)
    else:
        dataset = _pictures(reading, node=webdataset.split_by_node, resampled=name == "resampled")
        loader = webdataset.WebLoader(dataset.batched(share), batch_size=None, num_workers=reading.workers)
        loader = loader.unbatched().shuffle(reading.buffer, seed=SEED).batched(share)
        if name == "resampled":
            loader = loader.with_epoch(epoch - done)
        elif name == "shards, with_epoch":
            loader = islice(loader.with_epoch(epoch), done, None)
        else:
            loader = islice(loader, done, None)
    return (torch.as_tensor(pixels) for (pixels,) in loader)


def _pictures(reading: Reading, node: Any, resampled: bool = False) -> webdataset.WebDataset:
    shuffled = False if resampled else len(reading.urls)
    dataset = webdataset.WebDataset(
        list(reading.urls), resampled=resampled, shardshuffle=shuffled, nodesplitter=node, seed=SEED
    )
    return dataset.shuffle(reading.buffer, seed=SEED).decode("l8").to_tuple("png")


def _joined(name: str, model: nn.Module) -> AbstractContextManager[object]:
    if name == "shards, joined" and isinstance(model, DistributedDataParallel):
        return Join([model])
    return nullcontext()


def _save(accelerator: Accelerator, run: Path, done: int) -> None:
    """Accelerate's checkpoint, then the file that says that it is complete."""
    accelerator.save_state(str(run / f"step_{done}"))
    if accelerator.is_main_process:
        replace_file(run / "newest.json", json.dumps(done))


def _newest(run: Path) -> int:
    newest = run / "newest.json"
    return int(json.loads(newest.read_text())) if newest.exists() else 0
