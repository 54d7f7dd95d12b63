"""What `verify` checks: schema, files, digests, tar members, records, pixels, counts, one split a patient.

A fault that somebody made on purpose, and then mended every digest, is found as far as the tars and the
manifest say the same thing twice: labels, patients, clusters, counts and places.
"""

import hashlib
import io
import json
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from shards import manifest
from shards.appending.pending import noted
from shards.checking.records import FIRST_WITH_RECORDS, JsonCheck
from shards.content import pixel_digest, shards_digest
from shards.manifest import Manifest, Shard, Split, clusters_of_several
from shards.pixels.render import decode_png
from shards.progress import Progress

MOST_SHOWN = 20


def verify(folder: Path) -> int:
    """Check a shard directory, print where each fault is, and return the exit code: 0 sound, 1 not."""
    present = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    pending = noted(folder)  # between the two, as an append may end now
    content = manifest.read(folder)
    faults = [*_check_manifest(folder, content), *_check_files(folder, content, present, pending)]
    faults += [*_check_counts(content), *_check_splits(content)]
    total = sum(split.samples for split in content.splits.values())
    with Progress("verify", total, "images") as progress:
        for name, split in content.splits.items():
            pixels: list[str] = []
            for shard in split.shards:
                faults += _check_shard(folder, name, shard, content, pixels)
                progress.advance(shard.samples)
            faults += _check_content(name, split, content, pixels)
    show(faults)
    print(f"{folder}: {'DAMAGED' if faults else f'{total} images are sound'}")
    return 1 if faults else 0


def show(lines: list[str]) -> None:
    """Print the first MOST_SHOWN of the lines, and how many more there are."""
    for line in lines[:MOST_SHOWN]:
        print(line)
    if len(lines) > MOST_SHOWN:
        print(f"and {len(lines) - MOST_SHOWN} more")


def printable(name: str) -> str:
    """A file's name without what would control a terminal."""
    return name.encode("utf-8", "backslashreplace").decode() if name.isprintable() else ascii(name)


def _check_manifest(folder: Path, content: Manifest) -> Iterator[str]:
    """The manifest against its own digest, and byte for byte against the form in which it is written."""
    raw = (folder / manifest.FILE).read_bytes()
    document = json.loads(raw)
    if content.sha256 is None:
        if content.render["version"] >= FIRST_WITH_RECORDS:
            yield "manifest.json: it has no sha256 of itself"
    elif manifest.own_digest(document) != content.sha256:
        yield "manifest.json: its sha256 does not follow from its content, which was changed"
    elif raw != manifest.encoded(document) + b"\n":
        yield "manifest.json: its bytes are not those that were written"


def _check_files(
    folder: Path, content: Manifest, present: set[str], pending: dict[str, str]
) -> Iterator[str]:
    """Shards that are missing, listed twice or not listed, other files, and holes in the numbering.

    `present`: the files there. Those of an append that is not complete, `pending`, are no faults; a line says
    how many there are.
    """
    listed = [shard.file for split in content.splits.values() for shard in split.shards]
    waiting = 0
    for file in sorted(present - {manifest.FILE, *listed}):
        if file in pending and (not (folder / file).exists() or _is_whole(folder / file, pending[file])):
            waiting += 1
        else:
            yield f"{printable(file)}: is not in the manifest"
    if waiting:
        print(
            f"{waiting} shards are of an append that is running, or was stopped: until the same append is "
            "complete, they are not in the set"
        )
    for file in sorted(set(listed)):
        if not (folder / file).exists():
            yield f"{file}: is missing"
    for name, split in content.splits.items():
        expected = [f"{name}-{number:06d}.tar" for number in range(len(split.shards))]
        if [shard.file for shard in split.shards] != expected:
            yield f"manifest.json, splits/{name}: the shards are not numbered 0 to {len(expected) - 1}"


def _is_whole(path: Path, digest: str) -> bool:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() == digest


def _check_counts(content: Manifest) -> Iterator[str]:
    """Totals that don't follow from the index of the shards."""
    labels = range(len(content.classes))
    keys: set[str] = set()
    for name, split in content.splits.items():
        for shard in split.shards:
            where = f"manifest.json, {shard.file}"
            if any(len(column) != shard.samples for column in vars(shard.index).values()):
                yield f"{where}: the columns of the index differ in length from samples = {shard.samples}"
            if [shard.index.label.count(label) for label in labels] != shard.classes:
                yield f"{where}: classes = {shard.classes} does not follow from the labels"
            if sum(shard.classes) != shard.samples:
                yield f"{where}: a label is outside the {len(content.classes)} classes"
            for key in shard.index.key:
                if key in keys:
                    yield f"{where}: key {key} occurs twice"
                keys.add(key)
        whole = all(len(shard.classes) == len(labels) for shard in split.shards)
        if whole and Split.of(split.shards, len(labels), split.content_sha256) != split:
            yield f"manifest.json, splits/{name}: the totals do not follow from the shards"
    several = clusters_of_several(content.splits)
    if content.build["part"]["count"] == 1 and content.build["duplicates"]["clusters"] != several:
        yield f"manifest.json, build/duplicates: {several} clusters follow from the index"
    if sum(content.quarantine["codes"].values()) != content.quarantine["total"]:
        yield "manifest.json, quarantine: total does not follow from the codes"


def _check_splits(content: Manifest) -> Iterator[str]:
    """Patients and near-duplicate clusters in more than one split."""
    for column in ("patient", "cluster"):
        where: dict[str, str] = {}
        for name, split in content.splits.items():
            for value in sorted({value for shard in split.shards for value in getattr(shard.index, column)}):
                if where.setdefault(value, name) != name:
                    yield f"{column} {value} is in {where[value]} and in {name}"


def _check_content(name: str, split: Split, content: Manifest, pixels: list[str]) -> Iterator[str]:
    """The digest of the split against its samples; `pixels` are theirs, fewer where a fault was found."""
    indexes = [shard.index for shard in split.shards]
    lengths = {
        sum(len(column) for column in columns)
        for columns in zip(*((index.label, index.patient, index.cluster) for index in indexes), strict=True)
    }
    if split.content_sha256 is None or lengths - {len(pixels)}:
        return
    size, bits = content.render["size"], content.render["bits"]
    if shards_digest(content.classes, size, bits, pixels, split.shards) != split.content_sha256:
        yield f"manifest.json, splits/{name}: content_sha256 does not follow from the samples"


def _check_shard(
    folder: Path, split: str, shard: Shard, content: Manifest, pixels: list[str]
) -> Iterator[str]:
    """The bytes of one tar against its entry in the manifest, then each member.

    `pixels` gets the digests of its pictures.
    """
    try:
        data = (folder / shard.file).read_bytes()
    except FileNotFoundError:
        return
    except OSError as error:
        yield f"{shard.file}: {error.strerror}"
        return
    if len(data) != shard.bytes:
        yield f"{shard.file}: {len(data)} bytes, not {shard.bytes}"
    elif hashlib.sha256(data).hexdigest() != shard.sha256:
        yield f"{shard.file}: its SHA-256 is not the manifest's"
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
            members = [(member.name, member.offset_data, member.size) for member in archive]
    except tarfile.TarError as error:
        yield f"{shard.file}: {error}"
        return
    index = shard.index
    expected = [f"{key}.{end}" for key in index.key for end in ("png", "json")]
    if [name for name, _, _ in members] != expected:
        yield f"{shard.file}: the members are not those of the index, in its order"
        return
    check_json = JsonCheck(content, split)
    columns = (index.key, index.label, index.patient, index.cluster, index.offset, index.size, index.crc32)
    for row, (key, label, patient, cluster, offset, size, crc) in enumerate(zip(*columns, strict=False)):
        png, text = (data[start : start + length] for _, start, length in members[2 * row : 2 * row + 2])
        where = f"{shard.file}: {key}"
        if (offset, size) != members[2 * row][1:]:
            yield f"{where}.png: it is not at the offset and size of the index"
        levels = None
        if zlib.crc32(png) != crc:
            yield f"{where}.png: its CRC-32 is not the index's"
        else:
            try:
                levels = decode_png(png, content.render["size"], content.render["bits"])
                pixels.append(pixel_digest(levels))
            except ValueError as fault:
                yield f"{where}.png: {fault}"
        if label < len(content.classes):
            wrong = check_json(text, label, patient, cluster, levels)
            yield from [f"{where}.json: {wrong}"] if wrong else []
