"""What `inspect` shows: counts by split and class, sizes, render settings, quarantine."""

import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from shards import manifest
from shards.manifest import Manifest

PLAIN_WIDTH = 160  # columns, where the output is no terminal


def inspect(folder: Path) -> int:
    """Print the tables; returns the exit code 0."""
    content = manifest.read(folder)
    console = Console(
        width=None if sys.stdout.isatty() else PLAIN_WIDTH, highlight=False, markup=False, emoji=False
    )
    console.print(_splits(content))
    console.print(_settings("render", content.render))
    console.print(_settings("build", content.build))
    quarantine = content.quarantine
    console.print(_settings(f"quarantine: {quarantine['total']}", quarantine["codes"]))
    return 0


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


def _settings(title: str, settings: dict[str, object]) -> Table:
    table = Table(title=title, title_justify="left", show_header=False)
    for name, value in settings.items():
        text = (
            ", ".join(f"{key}={part}" for key, part in value.items())
            if isinstance(value, dict)
            else str(value)
        )
        table.add_row(name, text)
    return table
