"""What `verify --privacy` looks for, and where: the source's identifiers in all that the builder wrote.

Searched are the shard directory and what lies beside it under its name, and logs beside it: names of files,
headers and names of tar members, JSON, text in PNGs, any other text. Not searched are pixels (the compressed
data of the PNGs), numbers in JSON where the identifier has fewer than 8 digits, and the key file.

The quarantine list and DIR.work, of a build that has not ended well, name files of the source on purpose, and
are not for sharing: where nobody else can read them they are only mentioned (docs/privacy.md).
"""

import gzip
import io
import json
import os
import re
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

from shards import manifest
from shards.checking.identifiers import Identifiers, Matcher, Words, collect, decoded, words_of
from shards.checking.verify import printable, show
from shards.copies import linking
from shards.errors import UserError
from shards.manifest import Manifest
from shards.pixels import render
from shards.quarantine import Code

MOST_BYTES = 2**30  # of a file beside the shards
DIGITS_IN_NUMBERS = 8  # an id of fewer digits can't be distinguished from a size or an offset
DIGITS_IN_LOGS = 6  # nor from a count
SHARD_NAMES = re.compile(r"\b(train|val|test)-\d{6}\.tar\b")
QUARANTINE, KEY, WORK = ".quarantine.csv", ".key", ".work"
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
USTAR = b"ustar\x0000"  # an owner's name follows without a space
PIXELS = (b"IDAT", b"IHDR", b"IEND")


def check_privacy(folder: Path, sources: list[Path]) -> int:
    """Print where each identifier was found, masked, and what was not searched; returns the exit code."""
    for source in sources:
        if not source.exists():
            raise UserError(f"--privacy {source}: there is no such file or folder")
    content = manifest.read(folder)
    identifiers = collect(sources)
    matcher, written = identifiers.without(*_own_words(content))
    files = list(_files(folder, sources))
    faults: list[str] = []
    private: Counter[str] = Counter()
    for path in files:
        where = printable(os.path.relpath(path, folder.resolve().parent))
        hits = Counter(_search(path, where, matcher))
        own = _own_file(path, folder.resolve())
        if own and hits:
            if own.stat().st_mode & 0o077 == 0:
                private[printable(own.name)] += 1
            else:
                faults.append(
                    f"{where} names files of the source, and others can read it: chmod go= {own.name}"
                )
            continue
        faults += [
            f"{place}: {matcher.kinds[words]} {masked(words)}" + (f", {count} times" if count > 1 else "")
            for (place, words), count in sorted(hits.items())
        ]
    for name in sorted(private):
        print(f"{name} names files of the source, for yourself: don't share it")
    show(faults)
    _tell(identifiers, matcher, written, len(files), bool(faults))
    return 1 if faults else 0


def _own_file(path: Path, folder: Path) -> Path | None:
    """The quarantine list, or the folder of an unfinished build, that a file beside it belongs to."""
    work = Path(f"{folder}{WORK}")
    if work in path.parents:
        return work
    return path if path.name.endswith(QUARANTINE) and path.parent != folder else None


def masked(words: Words) -> str:
    """A value as far as it may be shown."""
    text = " ".join(words)
    return f"'{text[:2]}…' of {len(text)} characters"


def _tell(identifiers: Identifiers, matcher: Matcher, written: int, files: int, found: bool) -> None:
    print(
        f"privacy: {len(matcher.kinds)} names, ids, dates, UIDs, file names and cells of {identifiers.files} "
        f"source files, looked for in {files} files: {'FOUND' if found else 'none found'}"
    )
    left = [f"{identifiers.short} shorter than 4 letters and digits"] * bool(identifiers.short)
    left += [f"{written} that are names of classes or that the builder itself writes"] * bool(written)
    if left:
        print(f"not looked for: {' and '.join(left)}")
    if identifiers.unread:
        print(f"{identifiers.unread} source files could not be read: of those only the names")
    print("pixels were not searched: text burnt into them stays; `preview` lists pictures that may have some")
    print("the key file was not searched: keep it to yourself")


def _own_words(content: Manifest) -> tuple[list[Words], list[str]]:
    """Texts that the builder writes whatever the source, and the names that its user chose."""
    settings = content.render
    look = render.settings(
        settings["size"], settings["bits"], settings.get("fit", "pad"), settings.get("window", "auto")
    )
    package = resources.files("shards")
    texts: list[str] = [
        package.joinpath(name).read_text() for name in ("manifest.schema.json", "sample.schema.json")
    ]
    texts += [
        str(look),
        linking.METHOD,
        manifest.CREATED_BY,
        " ".join(Code),
        "root ustar json png manifest tar",
    ]
    labels = [content.build.get("labels"), content.build.get("appends")]
    return [words_of(text) for text in texts], [*content.classes, *map(str, _strings(labels))]


def _files(folder: Path, sources: list[Path]) -> Iterator[Path]:
    """The files of the directory, and those beside it that are called after it, or are logs."""
    folder = folder.resolve()
    apart = [source.resolve() for source in sources]
    inside = sorted(path for path in folder.rglob("*") if path.is_file())
    beside = sorted(
        path
        for path in folder.parent.iterdir()
        if path.is_file()
        and (path.name.startswith((f"{folder.name}.", f".{folder.name}.")) or path.suffix == ".log")
    )
    yield from inside
    unfinished = sorted(path for path in Path(f"{folder}{WORK}").rglob("*") if path.is_file())
    for path in [*beside, *unfinished]:
        if not any(path == source or source in path.parents for source in apart) and path.suffix != KEY:
            yield path


def _search(path: Path, where: str, matcher: Matcher) -> Iterator[tuple[str, Words]]:
    """(where, value) of each value found in a file's name or content."""
    own = SHARD_NAMES.sub(" ", path.name)
    yield from ((f"{where}, its name", words) for words in matcher.find(own))
    with open(path, "rb") as file:
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise UserError(f"{path} is larger than {MOST_BYTES} bytes: it can't be searched")
    if path.suffix == ".tar":
        yield from _search_tar(data, where, matcher)
        return
    if path.suffix == ".gz":
        data = gzip.GzipFile(fileobj=io.BytesIO(data)).read(MOST_BYTES)
    if data.startswith(PNG_MAGIC):
        data = _beside_pixels(data)
    yield from _search_text(data, where, matcher)


def _search_text(data: bytes, where: str, matcher: Matcher) -> Iterator[tuple[str, Words]]:
    text = decoded(data)
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        fewest = 0 if where.endswith((".csv", "names and headers")) else DIGITS_IN_LOGS
        yield from ((where, words) for words in matcher.find(SHARD_NAMES.sub(" ", text), fewest))
        return
    seen = set()
    for string in _strings(document):
        for words in matcher.find(SHARD_NAMES.sub(" ", string)):
            seen.add(words)
            yield where, words
    raw = matcher.find(SHARD_NAMES.sub(" ", text), DIGITS_IN_NUMBERS)
    yield from ((where, words) for words in set(raw) - seen)


def _strings(document: Any) -> Iterator[str]:
    """All strings of a JSON document, names of entries as well."""
    waiting = [document]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, dict):
            waiting += [*item.keys(), *item.values()]
        elif isinstance(item, list):
            waiting += item


def _search_tar(data: bytes, where: str, matcher: Matcher) -> Iterator[tuple[str, Words]]:
    """Each member's content, and all the bytes between: names, owners, extended headers, padding."""
    between, end = [], 0
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
            members = [(member.name, member.offset_data, member.size) for member in archive]
    except tarfile.TarError:  # `verify` says what is wrong with it
        members = []
    for name, start, size in members:
        between.append(data[end:start])
        end = start + size
        content = data[start:end]
        if content.startswith(PNG_MAGIC):
            content = _beside_pixels(content)
        yield from _search_text(content, f"{where}, {printable(name)}", matcher)
    between.append(data[end:])
    headers = b" ".join(between).replace(USTAR, b" ")
    yield from _search_text(headers, f"{where}, names and headers", matcher)


def _beside_pixels(png: bytes) -> bytes:
    """The chunks of a PNG but its header and pixels, compressed text unpacked, and what follows its end."""
    found, position = [], len(PNG_MAGIC)
    while position + 12 <= len(png):
        size, kind = int.from_bytes(png[position : position + 4], "big"), png[position + 4 : position + 8]
        chunk = png[position + 8 : position + 8 + size]
        if kind not in PIXELS:
            found.append(chunk)
            found += _unpacked(chunk)
        position += 12 + size
        if kind == b"IEND":
            break
    return b" ".join([*found, png[position:]])


def _unpacked(chunk: bytes) -> list[bytes]:
    """The compressed text in a zTXt or iTXt chunk, wherever it starts."""
    for start in range(min(len(chunk), 200)):
        if chunk[start] & 0x0F == 8:
            try:
                return [zlib.decompressobj().decompress(chunk[start:], 2**20)]
            except zlib.error:
                continue
    return []
