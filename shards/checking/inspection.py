"""What `inspect` shows: counts by split and class, sizes, how pictures were rendered, quarantine."""

import json
import sys
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from shards import manifest
from shards.errors import WorkError
from shards.manifest import Manifest

MOST_JSON_BYTES = 2**20
PLAIN_WIDTH = 160  # columns, where the output is no terminal


RECORDED = ("source", "bits", "modality", "voi", "function", "inverted", "level", "orientation", "burned_in")
"""Of the records of rendering, what is counted."""


def inspect(folder: Path, as_json: bool = False) -> int:
    """Print the tables, or the same as JSON; returns the exit code 0."""
    content = manifest.read(folder)
    rendered = count_records(folder, content)
    if as_json:
        print(json.dumps(summary(content, rendered), indent=1, ensure_ascii=False))
        return 0
    console = Console(
        width=None if sys.stdout.isatty() else PLAIN_WIDTH, highlight=False, markup=False, emoji=False
    )
    console.print(_splits(content))
    console.print(_settings("render", content.render))
    if rendered:
        console.print(_settings("rendered", rendered))
    console.print(_settings("build", content.build))
    quarantine = content.quarantine
    console.print(_settings(f"quarantine: {quarantine['total']}", quarantine["codes"]))
    return 0


def summary(content: Manifest, rendered: dict[str, dict[str, int]]) -> dict[str, Any]:
    """All that the tables show."""
    return {
        "schema": content.schema,
        "created_by": content.created_by,
        "classes": content.classes,
        "splits": {
            name: {
                "images": split.samples,
                "classes": dict(zip(content.classes, split.classes, strict=True)),
                "patients": split.patients,
                "clusters": len({cluster for shard in split.shards for cluster in shard.index.cluster}),
                "shards": len(split.shards),
                "bytes": sum(shard.bytes for shard in split.shards),
                "content_sha256": split.content_sha256,
            }
            for name, split in content.splits.items()
        },
        "render": content.render,
        "rendered": rendered,
        "build": content.build,
        "quarantine": content.quarantine,
    }


def count_records(folder: Path, content: Manifest) -> dict[str, dict[str, int]]:
    """How many pictures were rendered in which way, by their records; {} where there are none.

    Raises WorkError for a shard that is missing or damaged.
    """
    counts: dict[str, Counter[str]] = {name: Counter() for name in (*RECORDED, "not square")}
    for split in content.splits.values():
        for shard in split.shards:
            for record in _records(folder / shard.file):
                for name in RECORDED:
                    if name in record:
                        counts[name][str(record[name]).lower()] += 1
                counts["not square"].update(["pixels"] if record.get("aspect", 1) != 1 else [])
    return {name: dict(sorted(count.items())) for name, count in counts.items() if count}


def _records(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                if member.name.endswith(".json") and member.size <= MOST_JSON_BYTES:
                    file = archive.extractfile(member)
                    sample = json.loads(file.read()) if file else None
                    record = sample.get("render") if isinstance(sample, dict) else None
                    if isinstance(record, dict):
                        yield record
    except (OSError, tarfile.TarError, ValueError, RecursionError) as error:
        raise WorkError(f"can't read {path}: {error}: `chexdist-shards verify` lists all faults") from None


def _splits(content: Manifest) -> Table:
    table = Table("split", title=f"{content.created_by}, schema {content.schema}", title_justify="left")
    for heading in ("images", *content.classes, "patients", "clusters", "shards", "MB"):
        table.add_column(heading, justify="right")
    for name, split in content.splits.items():
        clusters = {cluster for shard in split.shards for cluster in shard.index.cluster}
        megabytes = sum(shard.bytes for shard in split.shards) / 1e6
        numbers = [
            split.samples,
            *split.classes,
            split.patients,
            len(clusters),
            len(split.shards),
            f"{megabytes:.1f}",
        ]
        table.add_row(name, *map(str, numbers))
    return table


def _settings(title: str, settings: Mapping[str, object]) -> Table:
    table = Table(title=title, title_justify="left", show_header=False)
    for name, value in settings.items():
        text = (
            ", ".join(f"{key}={part}" for key, part in value.items())
            if isinstance(value, dict)
            else str(value)
        )
        table.add_row(name, text)
    return table
