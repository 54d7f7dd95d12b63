"""Decides in which format a label file is written, by its columns, and reads the class of each image from it.

A new format is a file with COLUMNS and `read` (see `Format`), and a line in FORMATS. Its name in `--help`, in
the message for a file of no known format and in the manifest follows from that line. `build` calls
`read_labels`; this package imports `errors`, `sources` and `quarantine` at most.
"""

from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from shards.errors import UserError
from shards.labels.labels import LabelOptions, Labels
from shards.labels.table import Table, open_table, quoted

__all__ = ["FORMATS", "Format", "LabelOptions", "Labels", "read_labels"]


class Format(Protocol):
    """What the module of a format holds.

    OPTIONAL_COLUMNS may be there too: columns that it reads where a file has them.
    """

    COLUMNS: tuple[str, ...]
    """A file is of this format when its first line names all of these, in any order, and possibly more."""

    def read(self, table: Table, options: LabelOptions) -> Labels:
        """The labels of a file with these columns.

        Raises:
            UserError: a row can't be understood, or `options` ask for what this format does not hold.
        """


FORMATS = {
    "VinBigData": "shards.labels.vinbigdata",
    "NIH ChestX-ray14": "shards.labels.nih",
    "CheXpert": "shards.labels.chexpert",
    "MIMIC-CXR-JPG": "shards.labels.mimic",
    "PadChest": "shards.labels.padchest",
    "RSNA pneumonia": "shards.labels.rsna",
    "RSNA pneumonia, classes": "shards.labels.rsna_classes",
    "SIIM-ACR pneumothorax": "shards.labels.siim",
    "plain": "shards.labels.plain",
}
"""Name -> module, imported when a label file is read."""

SPLIT_COLUMNS = frozenset({"split", "splits", "subset", "set", "fold", "partition", "data_split"})
SHOWN = 3  # columns of a format in a message


def read_labels(path: Path, options: LabelOptions) -> Labels:
    """Read the label file `path` (CSV, which may be gzipped).

    Raises:
        UserError: the file is damaged, too large or of no known format, a row can't be understood, or
            `options` ask for what its format does not hold.
    """
    formats = {name: cast(Format, import_module(module)) for name, module in FORMATS.items()}
    with open_table(path) as table:
        fitting = [name for name, format in formats.items() if set(format.COLUMNS) <= set(table.columns)]
        if len(fitting) != 1:
            shown = {name: formats[name] for name in fitting or formats}
            known = "; ".join(f"{_columns(format)} ({name})" for name, format in shown.items())
            raise UserError(
                f"{path} has the columns {quoted(','.join(table.columns), 200)}, which fit "
                f"{'more than one format' if fitting else 'no format'} of label file\n"
                f"the first line has to name the columns of one: {known}"
            )
        labels = formats[fitting[0]].read(table, options)
        warnings = [*labels.warnings, *_split_notes(table.columns)]
    return replace(labels, settings={"form": fitting[0], **labels.settings}, warnings=warnings)


def _split_notes(columns: Sequence[str]) -> list[str]:
    """What to say of a column that gives each image its split."""
    return [
        f"the column {quoted(column)} is not read: --split divides by patient, so that nobody is in two "
        "splits; to keep a split that is given, build each of its parts with --split train=1"
        for column in columns
        if column.strip().lower().replace(" ", "_") in SPLIT_COLUMNS
    ]


def _columns(format: Format) -> str:
    """Its columns as a message shows them: `path,label[,patient]`."""
    optional = getattr(format, "OPTIONAL_COLUMNS", ())
    columns = format.COLUMNS if len(format.COLUMNS) < SHOWN else (*format.COLUMNS[:SHOWN], "...")
    return ",".join(columns) + "".join(f"[,{column}]" for column in optional)
