"""The plain label file: `path,label[,patient]`; paths relative to a SOURCE folder, forward slashes."""

import os

from shards.errors import UserError
from shards.labels.labels import ImageLabel, LabelOptions, Labels
from shards.labels.table import Table
from shards.sources import class_name

COLUMNS = ("path", "label")
OPTIONAL_COLUMNS = ("patient",)


def read(table: Table, options: LabelOptions) -> Labels:
    """One class (and patient) for each path; rows that disagree are a conflict of that image.

    Raises UserError for options about readers or findings, which this format does not have.
    """
    for option, value in (("--label-rule", options.rule), ("--finding", options.finding)):
        if value is not None:
            raise UserError(
                f"{option} needs a label file with findings; {table.path} gives each path its class"
            )
    has_patients = "patient" in table.columns
    rows: dict[str, set[tuple[str, ...]]] = {}
    for path, label, *patient in table.rows(*COLUMNS, *["patient"] * has_patients):
        rows.setdefault(os.path.normpath(path), set()).add((class_name(label), *patient))
    images = {path: _image_label(rows[path]) for path in rows}
    classes = {image.label for image in images.values() if not image.conflict and image.label}
    return Labels(table.path, images, str, {}, classes=sorted(classes), has_patients=has_patients)


def _image_label(rows: set[tuple[str, ...]]) -> ImageLabel:
    label, *patient = min(rows)
    conflict = f"rows disagree: {sorted(rows)}" if len(rows) > 1 else ""
    return ImageLabel(label, patient[0] if patient else None, conflict)
