"""The plain label file: `path,label[,patient]`; paths relative to a SOURCE folder, forward slashes."""

import os
import sys
from collections import Counter
from collections.abc import Sequence

from shards.errors import UserError
from shards.labels.labels import ImageLabel, LabelOptions, Labels
from shards.labels.table import Table
from shards.sources import class_name

COLUMNS = ("path", "label")
OPTIONAL_COLUMNS = ("patient",)
PATIENT_COLUMNS = ("patient", "patientid", "patid", "ptid", "subject", "subjectid", "person", "mrn")
"""What the patient's column may be called, whatever its case, spaces and underscores."""


def read(table: Table, options: LabelOptions) -> Labels:
    """One class (and patient) for each path; rows that disagree are a conflict of that image.

    Raises UserError for options about readers or findings, which this format does not have, and for several
    columns of patients.
    """
    for option, value in (("--label-rule", options.rule), ("--finding", options.finding)):
        if value is not None:
            raise UserError(
                f"{option} needs a label file with findings; {table.path} gives each path its class"
            )
    patients = patient_columns(table.columns)
    if len(patients) > 1:
        raise UserError(f"{table.path} has several columns of patients, {' and '.join(patients)}: leave one")
    rows: dict[str, set[tuple[str, ...]]] = {}
    written: Counter[str] = Counter()
    for path, label, *patient in table.rows(*COLUMNS, *patients, may_be_empty=patients):
        written[label] += 1
        rows.setdefault(os.path.normpath(path), set()).add((class_name(label), *patient))
    whole = {cell for cells in rows.values() for _, *patient in cells for cell in patient if cell.isdigit()}
    images = {
        path: _image_label(
            {(label, *(_one_form(cell, whole) for cell in patient)) for label, *patient in cells}
        )
        for path, cells in rows.items()
    }
    classes = {image.label for image in images.values() if not image.conflict and image.label}
    return Labels(
        table.path,
        images,
        str,
        {},
        classes=sorted(classes),
        has_patients=bool(patients),
        written=written,
    )


def _one_form(patient: str, whole: set[str]) -> str:
    """`1000` for `1000.0` where the column holds 1000 too, as tables with missing cells are written."""
    number = patient.removesuffix(".0")
    return number if number in whole else patient


def patient_columns(columns: Sequence[str]) -> list[str]:
    """Those that name patients. Where none does, columns that may have been meant are named on stderr."""
    plain = {column: "".join(filter(str.isalnum, column.lower())) for column in columns}
    found = [column for column in columns if plain[column] in PATIENT_COLUMNS]
    meant = [column for column, name in plain.items() if "patient" in name or "subject" in name]
    if meant and not found:
        print(
            f"not read: the columns {', '.join(meant)}; a column of patients is called patient, patient_id, "
            "subject or subject_id, and without one the split may divide a patient's images",
            file=sys.stderr,
        )
    return found


def _image_label(rows: set[tuple[str, ...]]) -> ImageLabel:
    label, *patient = min(rows)
    conflict = f"rows disagree: {sorted(rows)}" if len(rows) > 1 else ""
    return ImageLabel(label, patient[0] if patient else None, conflict)
