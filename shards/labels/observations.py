"""From CheXpert's fourteen observations (Irvin 2019, table 2) to a class; MIMIC-CXR-JPG has the same ones.

Each cell is 1 (positive), 0 (negative), -1 (uncertain) or empty (not mentioned). No Finding is 1 where no
pathology is positive or uncertain; Support Devices is no pathology. --uncertain says what -1 is taken as:
`drop` leaves the image out where its class depends on it, `finding` and `no_finding` are U-Ones and U-Zeroes.
"""

from collections.abc import Collection, Mapping, Sequence

from shards.labels.findings import image_class
from shards.labels.labels import (
    FINDING,
    NO_FINDING,
    NOTHING_SAID,
    UNCERTAIN,
    ImageLabel,
)
from shards.labels.table import Table, quoted

NO_FINDING_COLUMN = "No Finding"
SUPPORT_DEVICES = "Support Devices"
FINDINGS = (
    *("Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema", "Consolidation"),
    *("Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture"),
    SUPPORT_DEVICES,
)
COLUMNS = (NO_FINDING_COLUMN, *FINDINGS)
POSITIVE, NEGATIVE, MAYBE = "1", "0", "-1"
EMPTY = frozenset({"", "nan"})
DEFAULT_RULE = "drop"


def read_cells(table: Table, cells: Sequence[str]) -> dict[str, str]:
    """The cells of COLUMNS that say something, by column: "1", "0" or "-1" for 1.0, 0.0 and -1.0."""
    said = {}
    for column, cell in zip(COLUMNS, cells, strict=True):
        if cell.lower() in EMPTY:
            continue
        value = cell.replace(",", ".").removesuffix(".0")
        if value not in (POSITIVE, NEGATIVE, MAYBE):
            raise table.error(f"{column} is {quoted(cell)}, not 1, 0, -1 or empty")
        said[column] = value
    return said


def label_of(said: Mapping[str, str], patient: str | None, asked: Sequence[str], rule: str) -> ImageLabel:
    """The class of an image by its observations, for the findings `asked` for and --uncertain `rule`."""
    marked = {name for name in FINDINGS if said.get(name) == POSITIVE}
    unsure = {name for name in FINDINGS if said.get(name) == MAYBE}
    nothing = said.get(NO_FINDING_COLUMN) == POSITIVE
    contradicting = marked - {SUPPORT_DEVICES}
    if nothing and contradicting:
        return ImageLabel(None, patient, f"No Finding and {', '.join(sorted(contradicting))}")
    if rule == FINDING:
        marked |= unsure
    if rule == NO_FINDING:
        nothing = nothing or bool(unsure - {SUPPORT_DEVICES})
    if rule != DEFAULT_RULE:
        unsure = set()
    label, reason = _class(marked, unsure, nothing, asked)
    return ImageLabel(label, patient, left_out=reason)


def _class(
    marked: Collection[str], unsure: Collection[str], nothing: bool, asked: Sequence[str]
) -> tuple[str | None, str]:
    pathologies = {name for name in marked if name != SUPPORT_DEVICES or name in asked}
    doubts = {name for name in unsure if name != SUPPORT_DEVICES or name in asked}
    if pathologies:
        label, reason = image_class([pathologies], "any", asked)
        if doubts.intersection(asked) and (len(asked) > 1 or label is None):
            return None, UNCERTAIN
        return label, reason
    if doubts:
        return None, UNCERTAIN
    return (NO_FINDING, "") if nothing else (None, NOTHING_SAID)


def settings(asked: Sequence[str], rule: str, view: str | None) -> dict[str, str]:
    """The options in force, for the manifest."""
    return {
        **({"finding": "|".join(asked)} if asked else {}),
        "uncertain": rule,
        **({"view": view} if view else {}),
    }
