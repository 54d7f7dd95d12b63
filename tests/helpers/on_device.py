"""What ranks of the device's tests do and tell: jobs for `run_world`, and a fault that only watches."""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed

from chexdist.data.manifest import read_manifest
from chexdist.data.reader import SampleReader
from chexdist.distributed.collectives import Pending
from chexdist.distributed.noise import Draw
from chexdist.distributed.process_group import make_accelerator
from chexdist.distributed.replica_check import digests
from chexdist.distributed.world import World
from chexdist.run import checkpoint
from chexdist.training.step import Step
from helpers.cases import Case
from helpers.training import default_dtype, start

COLLECTIVES = (
    "all_reduce",
    "all_gather_object",
    "broadcast_object_list",
    "all_gather",
    "broadcast",
    "barrier",
)


def on_the_cpu(world: World, job: Callable[..., Any], *arguments: Any) -> Any:
    """The job on a rank that leaves its GPU alone."""
    os.environ["ACCELERATE_USE_CPU"] = "true"
    return job(world, *arguments)


def _step(world: World, shards: Path, case: Case) -> tuple[Step, Iterator[tuple[Tensor, Tensor]]]:
    accelerator = make_accelerator(world, timeout_seconds=60)
    reader = SampleReader(read_manifest(str(shards)), "train", memory_mib=64)
    return start(world, shards, reader, accelerator, case, 1)


def places_of_tensors(world: World, shards: Path, cases: list[Case]) -> list[dict[str, set[str]]]:
    """Kinds of devices of everything that two steps of each case have used or made, by what it is."""
    with default_dtype(torch.float32):
        return [_places(*_step(world, shards, case)) for case in cases]


def _places(step: Step, data: Iterator[tuple[Tensor, Tensor]]) -> dict[str, set[str]]:
    for t in range(2):
        step(t, *next(data))
    found = {name: {each.device.type for each in named.values()} for name, named in step.gan.state().items()}
    losses = step.losses
    sums = (losses.critic, losses.penalty, losses.generator, losses.not_finite, losses.health.values)
    found["losses"] = {each.device.type for each in sums}
    found["latents"] = {step.normal(Draw.CRITIC_LATENT, 0, step.parts[0]).device.type}
    return found


def stored_again(world: World, shards: Path, case: Case, written: Path, again: Path) -> None:
    """Load the newest checkpoint of `written` and write what was loaded to `again`."""
    with default_dtype(torch.float32):
        step, _ = _step(world, shards, case)
        path, _ = checkpoint.newest(written)
        assert path is not None
        checkpoint.load(path, step.gan.state())
        checkpoint.save(again, checkpoint.snapshot(step.gan.state()), checkpoint.read_state(path))


def arithmetic(world: World) -> dict[str, object]:
    """Which switches a rank computes under once it has its device."""
    accelerator = make_accelerator(world, timeout_seconds=60)
    return {
        "device": accelerator.device.type,
        "backend": distributed.get_backend() if world.size > 1 else "",
        "current": torch.cuda.current_device() if accelerator.device.type == "cuda" else None,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "convolutions": torch.backends.cudnn.conv.fp32_precision,
        "products": torch.backends.cuda.matmul.fp32_precision,
        "cublas": os.environ.get("CUBLAS_WORKSPACE_CONFIG", ""),
    }


def sums_and_digests(world: World) -> dict[str, Any]:
    """A sum that was read late, of values that have changed since; digests of tensors, and of one with a bit
    less.
    """
    device = make_accelerator(world, timeout_seconds=60).device
    draw = torch.Generator().manual_seed(0)
    values = torch.rand(9, generator=draw, dtype=torch.float64).to(device)
    busy = torch.rand(1500, 1500, generator=draw).to(device)
    for _ in range(4):  # so that a copy that nobody waits for would come too late
        busy = busy @ busy / 1500
    late = values + 0 * busy[0, 0].double()
    pending = Pending(late, None)
    late.zero_()
    tensors = [torch.rand(33, 7, generator=draw).to(device), torch.arange(5.0, device=device)]
    whole = digests(tensors)
    tensors[0].view(torch.int32)[3, 3] ^= 1
    return {
        "late": pending.result().numpy(),
        "expected": values.numpy(force=True),
        "digests": whole.numpy(),
        "flipped": digests(tensors).numpy(),
    }


@dataclass(frozen=True)
class Watched:
    """Each rank notes its collectives, where its images are and whether its batches are pinned, in
    `DIR/RANK.json`.
    """

    directory: Path

    def __call__(self, rank: int) -> None:
        from chexdist.training import trainer

        seen: dict[str, list[Any]] = {"collectives": [], "images": [], "pinned": []}

        def note(name: str, value: Any) -> None:
            if value not in seen[name]:
                seen[name].append(value)
                (self.directory / f"{rank}.json").write_text(json.dumps(seen))

        def watch(name: str) -> None:
            original = getattr(distributed, name)

            def watched(*positional: Any, **named: Any) -> Any:
                group = named.get("group")
                kind = next((each.device.type for each in positional if isinstance(each, Tensor)), "objects")
                note("collectives", [name, kind, distributed.get_backend(group), group is None])
                return original(*positional, **named)

            setattr(distributed, name, watched)

        for name in COLLECTIVES:
            watch(name)
        read, train = trainer.batches, Step.__call__

        def batches(*positional: Any, **named: Any) -> Any:
            note("pinned", named["pin"])
            for pixels, labels in read(*positional, **named):
                note("pinned", pixels.is_pinned())
                yield pixels, labels

        def trained(step: Step, t: int, images: Tensor, labels: Tensor) -> None:
            note("images", [images.device.type, labels.device.type])
            train(step, t, images, labels)

        setattr(trainer, "batches", batches)  # noqa: B010
        setattr(Step, "__call__", trained)  # noqa: B010

    def seen(self, rank: int) -> dict[str, list[Any]]:
        """What the rank noted."""
        return dict(json.loads((self.directory / f"{rank}.json").read_text()))
