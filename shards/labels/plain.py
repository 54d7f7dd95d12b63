"""The plain label file: `path,label[,patient]`; paths as in `paths`. 0, 1 and -1 as CheXpert has them."""

import os
import re
import sys
from collections import Counter
from collections.abc import Sequence

from shards.errors import UserError
from shards.labels.labels import UNCERTAIN, ImageLabel, LabelOptions, Labels, check_options
from shards.labels.table import Table, quoted
from shards.sources.classes import nearly_equal
from shards.sources.listing import WHOLE_NUMBER, class_name
from shards.sources.unknown import SPREADSHEET_ERRORS

COLUMNS = ("path", "label")
OPTIONAL_COLUMNS = ("patient",)
PATIENT_COLUMNS = (
    *(
        "patient",
        "patients",
        "patientid",
        "patientnumber",
        "patientno",
        "patientnr",
        "patientids",
        "patid",
        "ptid",
        "pid",
        "caseid",
    ),
    *("subject", "subjects", "subjectid", "subjectnumber", "person", "personid", "participant"),
    *("participantid", "mrn"),
)
"""What the patient's column may be called, whatever its case, spaces and underscores."""
MINUS_ONE = "-1"
MISSING = frozenset({"nan", "<na>", "na", "n/a", "null"})
ROUNDED = re.compile(r"\d([.,]\d+)?E\+\d+", re.IGNORECASE)
UNCERTAIN_AS = {"drop": None, "finding": "1", "no_finding": "0"}


def read(table: Table, options: LabelOptions) -> Labels:
    """One class (and patient) for each path; rows that disagree are a conflict of that image.

    Raises UserError for options about readers, findings or views, which this format does not have, for
    several columns of patients or one whose name looks mistyped, and for -1 where it isn't clear what it is.
    """
    if options.rule is not None:
        raise UserError(
            f"--label-rule needs a label file with findings; {table.path} gives each path its class"
        )
    check_options(options, table.path, takes=("--uncertain",))
    patients = patient_columns(table.columns)
    if len(patients) > 1:
        raise UserError(f"{table.path} has several columns of patients, {' and '.join(patients)}: leave one")
    rows: dict[str, set[tuple[str, ...]]] = {}
    written: Counter[str] = Counter()
    for path, label, *patient in table.rows(*COLUMNS, *patients, may_be_empty=patients):
        _check_cells(table, label, patient)
        written[label] += 1
        rows.setdefault(os.path.normpath(path), set()).add((label, *patient))
    rule = uncertain_rule(table, written, options.uncertain)
    whole = {
        cell.lstrip("0")
        for cells in rows.values()
        for _, *patient in cells
        for cell in patient
        if cell.isdigit()
    }
    images = {
        path: _image_label(
            {(label, *(_one_form(cell, whole) for cell in patient)) for label, *patient in cells}, rule
        )
        for path, cells in rows.items()
    }
    classes = {image.label for image in images.values() if not image.conflict and image.label}
    return Labels(
        table.path,
        images,
        str,
        {"uncertain": rule} if rule else {},
        classes=sorted(classes),
        has_patients=bool(patients),
        written=Counter({name: count for name, count in written.items() if not (rule and _is_minus(name))}),
        by_path=True,
    )


def _check_cells(table: Table, label: str, patient: Sequence[str]) -> None:
    """Refuse what programs write in place of a label that is missing, or of an id that is too long."""
    if label.lower() in MISSING or label.upper() in SPREADSHEET_ERRORS:
        raise table.error(
            f"the label {quoted(label)} says that there is none: write a class, or remove the row"
        )
    for cell in patient:
        if ROUNDED.fullmatch(cell):
            raise table.error(
                f"the patient {quoted(cell)} was rounded by a spreadsheet, so that several may look like "
                "one: save the column as text"
            )


def uncertain_rule(table: Table, written: Counter[str], asked: str | None) -> str | None:
    """The rule for labels of -1, `drop` unless asked otherwise; None where there are none.

    Raises UserError where -1 may be "no" instead (there is no 0), or an uncertain label is asked for in vain.
    """
    uncertain = sum(count for name, count in written.items() if _is_minus(name))
    if not uncertain:
        check_options(LabelOptions(uncertain=asked), table.path, takes=())
        return None
    if asked is None and not any(class_name(name) == "0" for name in written):
        raise UserError(
            f"{table.path}: is the label -1 of {uncertain} rows uncertain, as in CheXpert, or no finding? "
            "Give --uncertain drop, finding or no_finding, or write names of classes"
        )
    rule = asked or "drop"
    says = {"drop": "left out", "finding": "taken as 1", "no_finding": "taken as 0"}[rule]
    print(
        f"{table.path}: the label -1 of {uncertain} rows is uncertain: {says} (--uncertain)", file=sys.stderr
    )
    return rule


def _is_minus(label: str) -> bool:
    return label.startswith(MINUS_ONE) and class_name(label) == class_name(MINUS_ONE)


def _one_form(patient: str, whole: set[str]) -> str:
    """`1000` for `1000.0` and `'1000` where the column holds 1000 too, as tables with missing cells and those
    of spreadsheets are written.
    """
    number = WHOLE_NUMBER.sub(r"\1", patient.removeprefix("'"))
    return number if number.lstrip("0") in whole else patient


def patient_columns(columns: Sequence[str]) -> list[str]:
    """Those that name patients. Where none does, columns that may have been meant are named on stderr.

    Raises UserError with the nearest name for a column that is nearly called like one of patients.
    """
    plain = {column: "".join(filter(str.isalnum, column.lower())) for column in columns}
    found = [column for column in columns if plain[column] in PATIENT_COLUMNS]
    if found:
        return found
    for column, name in plain.items():
        if name.startswith(("patient", "subject")):
            continue  # of what: patient_sex
        if near := [known for known in PATIENT_COLUMNS if nearly_equal(name, known)]:
            raise UserError(
                f"the column {column!r} is nearly called {near[0]!r}: is it of patients? Call it patient, or "
                "give it another name"
            )
    meant = [column for column, name in plain.items() if "patient" in name or "subject" in name]
    if meant:
        print(
            f"not read: the columns {', '.join(meant)}; a column of patients is called patient, patient_id, "
            "subject or subject_id, and without one the split may divide a patient's images",
            file=sys.stderr,
        )
    return []


def _image_label(rows: set[tuple[str, ...]], rule: str | None) -> ImageLabel:
    classes = {
        (UNCERTAIN if rule and _is_minus(label) else class_name(label), *patient) for label, *patient in rows
    }
    label, *patient = min(classes)
    conflict = f"rows disagree: {sorted(classes)}" if len(classes) > 1 else ""
    named = patient[0] if patient else None
    if label == UNCERTAIN and rule:
        return ImageLabel(UNCERTAIN_AS[rule], named, conflict, left_out=UNCERTAIN)
    return ImageLabel(label, named, conflict)
