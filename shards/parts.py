"""How one set is built by several machines: each scans a part, and a merge plans and writes the whole.

A part is the journal of its images: `part.json`, with the options and which part it is, and the folder of the
scan. A merge is a build that finds everything in its journal already; what changed since, it scans itself. So
the sources have to be there for it, and the bytes are those of one build.
"""

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from shards.build import build, list_sources
from shards.errors import UserError
from shards.files import flush_to_disk, replace_file
from shards.gather import first_draw, scan_options
from shards.journal import SUFFIX, scan_folder, work_folder
from shards.memory import check_memory, memory_there
from shards.options import Options
from shards.quarantine import Entry
from shards.refusals import check_address, check_empty
from shards.scan import scan
from shards.upload import Publish
from shards.workers import Workers

FILE = "part.json"
PATHS = ("sources", "out", "labels", "key_file")
OWN = ("out", "workers", "part")
"""Options in which the parts of a set may differ."""


def build_part(options: Options) -> int:
    """Scan one part into the folder `options.out`; returns the exit code 0.

    What is set aside counts when the parts are merged. Raises UserError and WorkError, as `build` does.
    """
    assert options.part
    check_address(options.out)
    out = Path(os.path.abspath(options.out))
    check_empty(out)
    _, listing = list_sources(options)
    index, count = options.part
    (batch, _) = first_draw(listing, options)
    images = sorted(batch, key=lambda image: image.identity)[index - 1 :: count]
    check_memory(images, options.workers, memory_there())
    out.parent.mkdir(parents=True, exist_ok=True)
    with work_folder(out) as work:
        folder = scan_folder(work, scan_options(options))
        with Workers(options.workers) as workers:
            results = scan(workers, images, folder, scan_options(options), f"scan part {index}/{count}")
        whole = work / "part"
        shutil.rmtree(whole, ignore_errors=True)
        whole.mkdir(mode=0o700)
        replace_file(whole / FILE, json.dumps(_as_json(options)), mode=0o600, flush=True)
        os.rename(folder, whole / folder.name)
        os.rename(whole, out)
        flush_to_disk(out.parent)
        shutil.rmtree(work)
    aside = sum(isinstance(result, Entry) for result in results)
    print(f"{out}: part {index} of {count}, {len(images)} images, {aside} of them to be set aside")
    print(f"next, with all parts: chexdist-shards merge {out.parent}/PART... --out DIR")
    return 0


def merge(
    parts: Sequence[Path],
    out: Path,
    workers: int,
    overrides: dict[str, Any],
    publish: Publish | None = None,
) -> int:
    """Build the set whose parts these folders are; returns the exit code of `build`.

    `overrides`: of the options allow_quarantine, allow_missing and key_file, those that are given. `publish`:
    see `build`.

    Raises UserError where they are no parts, not all parts, or parts of different sets.
    """
    read = [_read(part) for part in parts]
    first = read[0]
    for part, options in zip(parts, read, strict=True):
        for field in fields(Options):
            if field.name not in OWN and getattr(options, field.name) != getattr(first, field.name):
                raise UserError(
                    f"{part} was made with another --{field.name.replace('_', '-')} than {parts[0]}: "
                    "make it again"
                )
    found = sorted(options.part for options in read if options.part)
    count = first.part[1] if first.part else 0
    if found != [(number + 1, count) for number in range(count)]:
        given = ", ".join(f"{index}/{count}" for index, count in found)
        raise UserError(f"given are the parts {given}: each of 1/{count} to {count}/{count} is needed, once")
    options = replace(first, part=None, out=out, workers=workers, **overrides)
    out = Path(os.path.abspath(out))
    if not Path(f"{out}.work").exists():
        check_empty(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with work_folder(out) as work:
        folder = scan_folder(work, scan_options(options))
        for part in parts:
            for file in sorted((part / folder.name).glob(f"*{SUFFIX}")):
                _link(file, folder / file.name)
    return build(options, publish)


def _link(file: Path, target: Path) -> None:
    """The same file under another name, or a copy on another disk."""
    if target.exists():
        return
    try:
        os.link(file, target)
    except OSError:
        temporary = target.with_suffix(".partial")
        shutil.copyfile(file, temporary)
        os.rename(temporary, target)


def _as_json(options: Options) -> dict[str, Any]:
    """The options, paths absolute."""

    def plain(name: str, value: Any) -> Any:
        if name not in PATHS or value is None:
            return value
        several = value if isinstance(value, list) else [value]
        texts = [os.path.abspath(path) for path in several]
        return texts if isinstance(value, list) else texts[0]

    return {name: plain(name, value) for name, value in vars(options).items()}


def _read(part: Path) -> Options:
    """The options of a part."""
    try:
        values = json.loads((part / FILE).read_bytes())
        for name in PATHS:
            value = values[name]
            if value is not None:
                values[name] = [Path(path) for path in value] if isinstance(value, list) else Path(value)
        values["part"] = tuple(values["part"])
        return Options(**values)
    except OSError:
        raise UserError(f"{part} is no part of a set: it has no {FILE} (build --part makes it)") from None
    except (ValueError, TypeError, KeyError):
        raise UserError(f"{part / FILE} is not of this release: make the part again") from None
