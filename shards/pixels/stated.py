"""What a DICOM header says of what is shown: a lateral view, another part of the body, text burnt in.

Only what the header states is seen: most headers leave these out, and some are wrong.
"""

from typing import TYPE_CHECKING

from shards.quarantine import Code

if TYPE_CHECKING:
    from pydicom import Dataset

LATERAL, NOT_CHEST, BURNED_IN = "lateral", "not-chest", "burned-in"
REFUSABLE = {
    LATERAL: (Code.LATERAL, "the header says that the view is lateral"),
    NOT_CHEST: (Code.NOT_CHEST, "the header names another part of the body"),
    BURNED_IN: (Code.BURNED_IN, "BurnedInAnnotation is YES, so text may be burnt into the pixels"),
}
"""What `--refuse` can name: the code, and what is said of it."""
LATERAL_POSITIONS = {"LL", "RL", "LAT", "LATERAL", "LLAT", "RLAT"}  # LLD and RLD, decubitus, are frontal
FRONTAL_POSITIONS = {"AP", "PA", "LLD", "RLD", "FRONTAL"}
LATERAL_CODES = {"R-10232", "R-10236", "399198007", "399173006", "R-10228", "399067008"}
"""Right, left and plain lateral, of SRT and SNOMED CT (PS3.16, CID 4010)."""
CHEST = ("CHEST", "THORA", "TORAX", "TÓRAX", "LUNG", "PULM", "BRUST", "POUMON")


def stated(dataset: "Dataset") -> tuple[str, ...]:
    """Which of REFUSABLE the header states."""
    return tuple(
        name
        for name, is_so in (
            (LATERAL, _is_lateral(dataset)),
            (NOT_CHEST, _is_not_chest(dataset)),
            (BURNED_IN, _text(dataset, "BurnedInAnnotation") == "YES"),
        )
        if is_so
    )


def _is_lateral(dataset: "Dataset") -> bool:
    """By ViewPosition, else the view's code, else the direction of the rows (PS3.3 C.7.6.1.1.1)."""
    position = _text(dataset, "ViewPosition")
    if position in LATERAL_POSITIONS | FRONTAL_POSITIONS:
        return position in LATERAL_POSITIONS
    for item in dataset.get("ViewCodeSequence") or ():
        if _text(item, "CodeValue"):
            return _text(item, "CodeValue") in LATERAL_CODES
    return _text(dataset, "PatientOrientation")[:1] in ("A", "P")


def _is_not_chest(dataset: "Dataset") -> bool:
    part = _text(dataset, "BodyPartExamined")
    return bool(part) and not any(name in part for name in CHEST)


def _text(dataset: "Dataset", name: str) -> str:
    """The first value, upper case; "" when there is none."""
    value = dataset.get(name)
    if value is None or isinstance(value, str):
        return str(value or "").strip().upper()
    values = list(value)
    return str(values[0]).strip().upper() if values else ""
