"""Decides when a checkpoint is complete: `checkpoints/images-N/` is one when its last file, `state.json`, names every digest.

A checkpoint holds both networks, the averaged generator, both optimizers and the batch number. There is no random state to
hold, since `noise` is a function. Tensors are safetensors files, so nothing that is loaded can run code.
"""

import hashlib
import json
import os
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor

from chexdist.errors import UserError, WorkError
from chexdist.training.networks import Gan

SCHEMA = 1
LAST_FILE = "state.json"
FOLDER = "checkpoints"


@dataclass(frozen=True)
class State:
    """What goes on where it stopped.

    `t` batches are done; `settings` must not change; `manifest` is the digest of the shards' manifest, `classes` its training samples by
    class, so that images can be drawn without the shards; `machine` decides rounding. Where the log has no line yet of the losses since
    batch `since`, `unlogged` holds each rank's sums of them.
    """

    t: int
    images: int
    settings: dict[str, Any]
    manifest: str
    classes: dict[str, int]
    machine: dict[str, Any]
    since: int = 0
    unlogged: list[list[float]] = field(default_factory=list)


Snapshot = dict[str, dict[str, Tensor]]
"""Tensors by file and name."""


def snapshot(gan: Gan) -> Snapshot:
    """A copy on the CPU of all that a checkpoint holds: training may go on while it is written."""
    return {
        file: {
            # contiguous, since safetensors takes nothing else
            key: value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
            for key, value in tensors.items()
        }
        for file, tensors in state_tensors(gan).items()
    }


def save(run: Path, tensors: Snapshot, state: State) -> Path:
    """Write a checkpoint under a temporary name, flush it, and rename it. Returns its directory.

    Raises:
        WorkError: the disk is full or can't be written; what was there before is untouched.
    """
    final = run / FOLDER / f"images-{state.images}"
    partial = final.with_name(f".partial-{final.name}")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        digests = {name: _write(partial / name, to_bytes(content)) for name, content in tensors.items()}
        document = {"schema": SCHEMA, **asdict(state), "files": digests}
        _write(partial / LAST_FILE, json.dumps(document, indent=1).encode())
        shutil.rmtree(
            final, ignore_errors=True
        )  # only a damaged one can be in the way: a run never goes back over a valid one
        partial.rename(final)
        _flush(final.parent)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise WorkError(f"checkpoint {final}: {error.strerror}; the one before it is untouched") from None
    return final


def newest(run: Path) -> tuple[Path | None, list[str]]:
    """The newest complete checkpoint of a run, and a line for each newer one that is damaged and was passed over."""
    problems: list[str] = []
    for path in _by_age(run):
        try:
            read_state(path, verify=True)
            return path, problems
        except WorkError as error:
            problems.append(f"{error}; passed over")
    return None, problems


def read_state(path: Path, verify: bool = False) -> State:
    """What a checkpoint says of itself.

    Args:
        verify: also compare the digest of every file.

    Raises:
        WorkError: it is damaged, or of another schema.
    """
    try:
        document = json.loads((path / LAST_FILE).read_bytes())
        files, schema = document.pop("files"), document.pop("schema")
        if schema != SCHEMA:
            raise ValueError(f"schema {schema}, this version reads {SCHEMA}")
        for name, digest in files.items() if verify else ():
            if hashlib.sha256((path / name).read_bytes()).hexdigest() != digest:
                raise ValueError(f"{name} has another digest than {LAST_FILE} says")
        return State(**document)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise WorkError(f"checkpoint {path} is damaged: {error}") from None


def load(path: Path, gan: Gan) -> None:
    """Put a checkpoint's tensors into networks and optimizers.

    Raises:
        WorkError: a file can't be read.
        UserError: the tensors are those of other networks.
    """
    target = state_tensors(gan)
    for name, tensors in target.items():
        try:
            stored = load_file(path / name)
        except (OSError, SafetensorError) as error:
            raise WorkError(f"checkpoint {path}, {name}: {error}") from None
        if {key: value.shape for key, value in stored.items()} != {
            key: value.shape for key, value in tensors.items()
        }:
            raise UserError(
                f"checkpoint {path}, {name}: holds other networks than the configuration describes"
            )
        with torch.no_grad():
            for key, tensor in tensors.items():
                tensor.copy_(stored[key])


def prune(run: Path, keep: int, best: int | None = None) -> None:
    """Delete all but the newest `keep` whole checkpoints and that of `best` images, and what an interrupted save left."""
    for path in (run / FOLDER).glob(".partial-*"):
        shutil.rmtree(path)
    kept = 0
    for path in _by_age(run):
        if (kept < keep or path.name == f"images-{best}") and _is_whole(path):
            kept += 1
        else:
            # killed in between, this leaves no directory without a last file, which nobody would ever delete
            shutil.rmtree(path.rename(path.with_name(f".partial-{path.name}")))


def _is_whole(path: Path) -> bool:
    try:
        read_state(path, verify=True)
    except WorkError:
        return False
    return True


def _by_age(run: Path) -> list[Path]:
    """Complete checkpoints, newest first."""
    found = [path.parent for path in (run / FOLDER).glob(f"images-*/{LAST_FILE}")]
    return sorted((path for path in found if path.name[7:].isdecimal()), key=lambda path: -int(path.name[7:]))


def state_tensors(gan: Gan) -> Snapshot:
    """Every tensor of the training state, alive."""
    files: Snapshot = {
        f"{name}.safetensors": dict(network.named_parameters())
        for name, network in (("generator", gan.generator), ("critic", gan.critic), ("ema", gan.ema))
    }
    for name, network, optimizer in (
        ("generator", gan.generator, gan.generator_optimizer),
        ("critic", gan.critic, gan.critic_optimizer),
    ):
        files[f"{name}_optimizer.safetensors"] = {
            f"{parameter_name}.{key}": value
            for parameter_name, parameter in network.named_parameters()
            for key, value in adam_state(optimizer, parameter).items()
        }
    return files


def adam_state(optimizer: torch.optim.Adam, parameter: Tensor) -> dict[str, Tensor]:
    """Adam's moments and step count of one parameter, made as Adam makes them if it has not stepped yet."""
    state = optimizer.state[parameter]
    if not state:
        state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
        for moment in ("exp_avg", "exp_avg_sq"):
            state[moment] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
    return state


def _write(path: Path, content: bytes) -> str:
    """Write, flush to the disk, and return the SHA-256."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return hashlib.sha256(content).hexdigest()


def _flush(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
