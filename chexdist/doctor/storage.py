"""The run directory: whether every rank sees what any other writes there, who holds it, and whether
checkpoints fit.
"""

import fcntl
import os
import secrets
import shutil
import time
from pathlib import Path

from chexdist.config.tree import Checkpoint, Config
from chexdist.data.ahead import handed_over_bytes
from chexdist.data.decoded import is_kept
from chexdist.data.manifest import Manifest
from chexdist.doctor.finding import Note, amount, counted
from chexdist.doctor.peers import Peers
from chexdist.doctor.sizes import Sizes
from chexdist.run import layout

SECONDS_TO_SEE = 10.0
"""How long a rank looks for what others wrote; network file systems show it late."""


def check_shared(note: Note, path: Path, peers: Peers) -> bool:
    """Each rank writes a small file under run.dir and looks for those of all others. All ranks must call it.

    Only rank 0 makes directories, so that a rank whose run.dir is another one finds nothing. All of it is
    removed again. Returns whether this rank can work there."""
    token, main = peers.gather(secrets.token_hex(4))[0], peers.world.rank == 0 or peers.group is None
    folder = path / f".doctor-{token}"
    missing = [parent for parent in (path, *path.parents) if not os.path.lexists(parent)]
    failure = _made(folder) if main else ""
    failure = peers.gather(failure)[0]
    if failure:
        if main:
            _remove(folder, missing)
            note.fault(f"{path} can't be written: {failure}", "give --run.dir a directory that you may write")
        return False
    begun = time.monotonic()
    refusal = _wrote(folder / str(peers.world.rank), token)
    refused = peers.gather(refusal)
    unseen = _unseen(folder, [rank for rank in range(len(refused)) if not refused[rank]], token)
    waited = time.monotonic() - begun
    found = peers.gather(bool(refusal or unseen))  # and so, all have looked
    if main:
        _check_locks(note, path, folder)
        _remove(folder, missing)
    cure = "give --run.dir a directory on a disk that all nodes mount, under the same name"
    if refusal:
        note.fault(f"can't write under {path} as rank 0 made it: {refusal}", cure)
    elif unseen:
        ranks = ", ".join(f"{rank} on {peers.hosts[rank]}" for rank in unseen[:4])
        note.fault(f"{path} does not show what was written there by rank {ranks}", cure)
    elif any(found):
        pass  # the ranks that did not find it say so
    elif peers.size > 1:
        note.ok(
            f"what {counted(peers.size, 'rank')} wrote under {path} was seen by all within {waited:.1f} s"
        )
    else:
        note.ok(f"{path} can be written")
    return not refusal and not unseen


def _made(folder: Path) -> str:
    """Make a directory; returns why it can't be made, or nothing."""
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        return f"{error.strerror} ({error.filename})"
    return ""


def _wrote(file: Path, token: str) -> str:
    """Write a file into a directory that is there; returns why it can't be written, or nothing."""
    try:
        with file.open("x") as opened:
            opened.write(token)
            opened.flush()
            os.fsync(opened.fileno())
    except OSError as error:
        return f"{error.strerror} ({error.filename})"
    return ""


def _unseen(folder: Path, ranks: list[int], token: str) -> list[int]:
    """The ranks whose file can't be read. By name, since a cached listing may lag half a minute behind."""
    end = time.monotonic() + SECONDS_TO_SEE
    while True:
        ranks = [rank for rank in ranks if not _reads(folder / str(rank), token)]
        if not ranks or time.monotonic() > end:
            return ranks
        time.sleep(0.1)


def _reads(file: Path, token: str) -> bool:
    try:
        return file.read_text() == token
    except OSError:
        return False


def _check_locks(note: Note, path: Path, folder: Path) -> None:
    """Whether a live job holds the run directory, and whether its file system takes locks at all."""
    held = path / layout.LOCK
    try:
        file = (held if held.exists() else folder / layout.LOCK).open("a+")
    except OSError as error:
        note.fault(
            f"{error.filename} can't be opened: {error.strerror}",
            "give it back its owner, or choose another run.dir",
        )
        return
    with file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            holder = held.read_text().strip()
            note.fault(
                f"{path} is in use by a live job ({holder})", "stop that one, or choose another run.dir"
            )
        except OSError as error:
            note.fault(
                f"the file system of {path} takes no locks: {error.strerror}",
                "mount it with locks (Lustre: -o flock), or choose another run.dir",
            )


def _remove(folder: Path, missing: list[Path]) -> None:
    """Take away what was made, and the parents that were not there before."""
    shutil.rmtree(folder, ignore_errors=True)
    for parent in missing:
        try:
            parent.rmdir()
        except OSError:
            return


def check_disk(note: Note, path: Path, settings: Checkpoint, sizes: Sizes) -> None:
    """Free bytes under run.dir against those of the newest and the best checkpoint, and of the next, written
    before one is removed.
    """
    folder = next(parent for parent in (path, *path.absolute().parents) if parent.is_dir())
    disk = os.statvfs(folder)
    free = disk.f_bavail * disk.f_frsize
    there = sum(file.stat().st_size for file in (path / layout.CHECKPOINTS).glob("*/*"))
    kept = f"{settings.keep}{'' if settings.best == 'none' else ' + the best'} + 1"
    needed = (settings.keep + (settings.best != "none") + 1) * sizes.checkpoint - there
    text = (
        f"{amount(free)} are free under {folder}; {kept} checkpoints of {amount(sizes.checkpoint)} need "
        f"{amount(max(0, needed))}" + (" more" if there else "")
    )
    if needed > free:
        note.fault(text, f"free {amount(needed - free)}, lower checkpoint.keep, or choose another run.dir")
    else:
        note.ok(text)


def check_cache(note: Note, manifest: Manifest) -> None:
    """Free bytes where the shards of a remote directory are kept, against what they will take there."""
    cache = manifest.cache
    if cache is None:
        return
    every = sum(size for split in manifest.splits.values() for size in split.shard_bytes)
    needed = min(cache.limit, every)
    folder = next(
        parent for parent in (cache.directory, *cache.directory.absolute().parents) if parent.is_dir()
    )
    disk = os.statvfs(folder)
    free = disk.f_bavail * disk.f_frsize
    held = (
        sum(file.stat().st_size for file in cache.directory.glob("*.tar")) if folder == cache.directory else 0
    )
    text = (
        f"{amount(free)} are free under {folder}, besides {amount(held)} of shards there; they will take up "
        f"to {amount(needed)} (of {amount(every)}; data.cache_gib {cache.limit / 2**30:g})"
    )
    if needed > free + held:
        note.fault(text, "lower data.cache_gib, or give --data.cache a directory on a larger disk")
    else:
        note.ok(text)


def check_loaders(note: Note, config: Config, manifest: Manifest | None, share: int, here: int) -> None:
    """Free bytes of /dev/shm, through which loader processes hand over batches; containers often have 64
    MiB.
    """
    folder = Path("/dev/shm")
    if not config.data.workers or not folder.is_dir():
        return
    disk = os.statvfs(folder)
    free = disk.f_bavail * disk.f_frsize
    bits = manifest.bits if manifest else 16
    kept = manifest is not None and is_kept(manifest, "train", config.data.memory)
    needed = here * handed_over_bytes(share, config.model.size, bits, config.data.workers, kept)
    text = (
        f"{amount(free)} are free in {folder}; up to {amount(needed)} of batches wait there, for "
        f"{counted(here * config.data.workers, 'loader')} on this node and {counted(share, 'image')} a batch"
    )
    if needed > free:
        note.fault(text, "make it larger (containers: --shm-size), lower data.workers, or set data.workers 0")
    else:
        note.ok(text)
