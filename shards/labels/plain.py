"""The plain label file: `path,label[,patient]`, the path relative to a SOURCE folder, with forward slashes."""

import os

from shards.errors import UserError
from shards.labels.stated import Labels, Question, Stated
from shards.labels.table import Table
from shards.sources import class_name

COLUMNS = ("path", "label")


def read(table: Table, question: Question) -> Labels:
    """One class (and patient) for each path; rows that disagree are a conflict of that image.

    Raises UserError for a question about readers or findings, of which this form knows nothing.
    """
    for option, value in (("--label-rule", question.rule), ("--finding", question.finding)):
        if value is not None:
            raise UserError(
                f"{option} needs a label file with findings (VinBigData, NIH); "
                f"{table.path} gives each path its class"
            )
    has_patients = "patient" in table.columns
    rows: dict[str, set[tuple[str, ...]]] = {}
    for path, label, *patient in table.rows(*COLUMNS, *["patient"] * has_patients):
        rows.setdefault(os.path.normpath(path), set()).add((class_name(label), *patient))
    images = {path: _stated(rows[path]) for path in rows}
    classes = {image.label for image in images.values() if not image.conflict and image.label}
    return Labels(
        table.path, images, str, {"form": "plain"}, classes=sorted(classes), has_patients=has_patients
    )


def _stated(rows: set[tuple[str, ...]]) -> Stated:
    label, *patient = min(rows)
    conflict = f"rows disagree: {sorted(rows)}" if len(rows) > 1 else ""
    return Stated(label, patient[0] if patient else None, conflict)
