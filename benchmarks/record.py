"""How results are kept: a table on the terminal, JSON with all that was measured, Markdown made from it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.alternate import Comparison, compare
from chexdist.errors import UserError
from shards.files import replace_file

COLUMNS = ("chexdist", "other", "ratio", "least to greatest")


@dataclass(frozen=True)
class Result:
    """What one benchmark measured: `rates` in `unit` by side, round by round."""

    benchmark: str
    unit: str
    settings: dict[str, Any]
    notes: tuple[str, ...]
    comparisons: list[Comparison]
    rates: dict[str, list[float]]

    def document(self, about: dict[str, Any]) -> dict[str, Any]:
        """Everything, as it is written; `about` says when, where and how."""
        return {
            "benchmark": self.benchmark,
            **about,
            "unit": self.unit,
            "settings": self.settings,
            "rows": [compare(comparison, self.rates) for comparison in self.comparisons],
            "notes": list(self.notes),
            "rates": self.rates,
        }


def write(document: dict[str, Any], out: Path) -> Path:
    """`out/BENCHMARK-DATE.json`, under its name only when it is whole."""
    name = f"{document['benchmark']}-{document['date'].replace(':', '').replace('+0000', 'Z')}.json"
    try:
        out.mkdir(parents=True, exist_ok=True)
        replace_file(out / name, json.dumps(document, indent=1) + "\n")
    except OSError as error:
        raise UserError(f"--out {out}: {error.strerror}") from None
    return out / name


def write_picture(picture: str, document: Path) -> Path:
    """An SVG beside the document, under its name."""
    path = document.with_suffix(".svg")
    replace_file(path, picture)
    return path


def read(path: Path) -> dict[str, Any]:
    """A document that `write` wrote.

    Raises:
        UserError: the file can't be read or is none.
    """
    try:
        document = json.loads(path.read_text())
        (
            heading(document),
            _columns(document),
            [_cells(row) for row in document["rows"]],
            document["notes"][:0],
        )
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is no benchmark's result ({type(error).__name__}: {error})") from None
    return document


def heading(document: dict[str, Any]) -> str:
    """Benchmark, unit, rounds, machine, settings, date and commit in one line."""
    about = document["machine"]
    rates = document.get("rates")  # what is counted, not timed, has none
    rounds = f", median of {min(map(len, rates.values()))} rounds" if rates else ""
    device = about["gpu"] or f"{about['cpu']}, {about['cores']} cores"
    settings = ", ".join(f"{name} {value}" for name, value in document["settings"].items())
    busy = f", BUSY MACHINE ({about['load']:.1f} cores in use at the start)" if document["busy"] else ""
    return (
        f"{document['benchmark']}, {document['unit']}{rounds}: {device}, {about['threads']} threads, "
        f"torch {about['torch']}, {settings}, {document['date'][:10]}, commit {document['commit']}{busy}"
    )


def _columns(document: dict[str, Any]) -> tuple[str, ...]:
    return document["benchmark"], *document.get("columns", COLUMNS)


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    if "cells" in row:
        return row["name"], *row["cells"]
    ours, theirs = (
        f"{row[side]:,.0f}" if row[side] >= 100 else f"{row[side]:.1f}" for side in ("ours", "theirs")
    )
    return row["name"], ours, theirs, f"{row['ratio']:.2f}", f"{row['low']:.2f} to {row['high']:.2f}"


def show(document: dict[str, Any], console: Console) -> None:
    """The table and its notes."""
    table = Table(title=heading(document), title_justify="left")
    for column in _columns(document):
        table.add_column(column, justify="left" if column == document["benchmark"] else "right")
    for row in document["rows"]:
        table.add_row(*_cells(row))
    console.print(table)
    for note in document["notes"]:
        console.print(note, highlight=False)


def markdown(document: dict[str, Any]) -> str:
    """The same as Markdown."""
    lines = [
        heading(document),
        "",
        f"| {' | '.join(_columns(document))} |",
        f"|---|{'--:|' * (len(_columns(document)) - 1)}",
    ]
    lines += [f"| {' | '.join(_cells(row))} |" for row in document["rows"]]
    return "\n".join([*lines, "", *(f"- {note}" for note in document["notes"]), ""])
