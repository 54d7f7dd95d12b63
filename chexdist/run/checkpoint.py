"""What a checkpoint holds, how it is written and read: `checkpoints/images-N/` is complete when its last file
exists.

A checkpoint holds both networks, the averaged generator and both optimizers as safetensors files, which can't
run code when they are loaded, and `State`: how far it is, what must not change, the losses not logged yet,
and the digest of each file. There is no random state to hold, since `distributed.noise` is a function."""

import hashlib
import json
import os
import shutil
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor

from chexdist.errors import UserError, WorkError
from chexdist.run import layout
from chexdist.run.full_disk import naming
from shards.files import flush_to_disk

SCHEMA = 1


class UnreadableError(WorkError):
    """A checkpoint that may be whole: its disk does not answer, or another version of chexdist wrote it. It
    is neither passed over nor deleted.
    """


Tensors = dict[str, dict[str, Tensor]]
"""Tensors by file and name."""


@dataclass(frozen=True)
class State:
    """What resuming needs besides the tensors.

    `t` batches are done; `settings` must not change; `manifest` is the digest of the shards' manifest,
    `classes` its training samples by class, so that images can be drawn without the shards; `machine` is the
    hardware and the versions on which bitwise equality depends. `unlogged` holds each rank's sums of the
    losses of the batches after `since`, which are not in the log yet. `started_from` says with which
    checkpoint of another run the networks began. `early`: written for a stop, not by the schedule."""

    t: int
    images: int
    settings: dict[str, Any]
    manifest: str
    classes: dict[str, int]
    machine: dict[str, Any]
    since: int = 0
    unlogged: list[list[float]] = field(default_factory=list)
    started_from: dict[str, str] | None = None
    early: bool = False


def snapshot(tensors: Tensors) -> Tensors:
    """A copy on the CPU: training may continue while it is written."""
    return {
        file: {
            # contiguous, since safetensors takes nothing else
            key: value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
            for key, value in named.items()
        }
        for file, named in tensors.items()
    }


def save(run: Path, tensors: Tensors, state: State) -> Path:
    """Write a checkpoint under a temporary name, flush it, and rename it. Returns its directory.

    Raises:
        WorkError: the disk is full or can't be written; what was there before is untouched.
    """
    final = layout.checkpoint(run, state.images)
    partial = layout.partial(final)
    needed = sum(tensor.nbytes for named in tensors.values() for tensor in named.values())
    with naming(final, needed, "; the checkpoint before it is untouched"):
        try:
            _save(final, partial, tensors, state)
        except OSError:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    return final


def _save(final: Path, partial: Path, tensors: Tensors, state: State) -> None:
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    digests = {name: _write(partial / name, to_bytes(content)) for name, content in tensors.items()}
    document = {"schema": SCHEMA, **asdict(state), "files": digests}
    _write(partial / layout.STATE, json.dumps(document, indent=1).encode())
    # only a damaged one can be in the way: a run never trains again over a valid one
    shutil.rmtree(final, ignore_errors=True)
    partial.rename(final)
    flush_to_disk(final.parent)


def newest(run: Path) -> tuple[Path | None, list[str]]:
    """The newest complete checkpoint of a run, and a line for each newer one that is damaged and was passed
    over.

    Raises:
        UnreadableError: a newer one may be whole.
    """
    problems: list[str] = []
    for path in layout.checkpoints(run):
        try:
            read_state(path, verify=True)
            return path, problems
        except UnreadableError:
            raise
        except WorkError as error:
            problems.append(f"{error}; passed over")
    return None, problems


def find(path: Path) -> Path:
    """The checkpoint that a path means: itself, or the newest complete one of a run directory.

    Raises:
        UserError: there is none.
        WorkError: it is a checkpoint, and damaged.
    """
    if (path / layout.STATE).is_file():
        read_state(path, verify=True)
        return path
    found, problems = newest(path)
    if found is None:
        damaged = "".join(f"; {line}" for line in problems)
        raise UserError(f"{path} is no checkpoint and no run directory with a complete one{damaged}")
    return found


def read_state(path: Path, verify: bool = False) -> State:
    """What a checkpoint says of itself.

    Args:
        verify: also compare the digest of every file.

    Raises:
        UnreadableError: it can't be read, or another version wrote it.
        WorkError: it is damaged.
    """
    try:
        document = json.loads((path / layout.STATE).read_bytes())
        files, schema = document.pop("files"), document.pop("schema")
        unknown = sorted(document.keys() - {each.name for each in fields(State)})
        if schema != SCHEMA or unknown:
            what = f"schema {schema}" if schema != SCHEMA else f"the field {unknown[0]}"
            raise UnreadableError(
                f"checkpoint {path} has {what}, which this version of chexdist does not know: resume it with "
                "the version that wrote it, or choose another run.dir"
            )
        for name, digest in files.items() if verify else ():
            if hashlib.sha256((path / name).read_bytes()).hexdigest() != digest:
                raise ValueError(f"{name} has another digest than {layout.STATE} says")
        return State(**document)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise WorkError(f"checkpoint {path} is damaged: {error}") from None
    except OSError as error:
        raise UnreadableError(
            f"checkpoint {path} can't be read: {error}; the same command tries again"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WorkError(f"checkpoint {path} is damaged: {error}") from None


def load(path: Path, tensors: Tensors) -> None:
    """Copy a checkpoint's values into `tensors`, those of networks and optimizers.

    Raises:
        WorkError: a file can't be read.
        UserError: the tensors are those of other networks.
    """
    for name, live in tensors.items():
        try:
            stored = load_file(path / name)
        except (OSError, SafetensorError) as error:
            raise WorkError(f"checkpoint {path}, {name}: {error}") from None
        difference = _first_difference(stored, live)
        if difference:
            raise UserError(
                f"checkpoint {path}, {name}: holds other networks than the configuration describes: "
                f"{difference}"
            )
        with torch.no_grad():
            for key, tensor in live.items():
                tensor.copy_(stored[key])


def _first_difference(stored: dict[str, Tensor], live: dict[str, Tensor]) -> str:
    """The first tensor, by name, that is of another shape in a checkpoint than in the networks."""
    for key in sorted(stored.keys() | live.keys()):
        there, here = (list(named[key].shape) if key in named else "missing" for named in (stored, live))
        if there != here:
            return f"{key} is {there} there, {here} here"
    return ""


def _write(path: Path, content: bytes) -> str:
    """Write, flush to the disk, and return the SHA-256."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return hashlib.sha256(content).hexdigest()
