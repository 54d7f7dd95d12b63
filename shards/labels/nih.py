"""The label file of NIH ChestX-ray14, `Data_Entry_2017.csv` (Wang 2017): one row an image, findings by text mining.

The images lie anywhere under SOURCE (the set comes as images_001/images/ to images_012/images/).
"""

from shards.errors import UserError
from shards.labels.findings import classify, known_finding
from shards.labels.stated import NO_FINDING, Labels, Question, Stated
from shards.labels.table import Table, shown
from shards.sources import class_name

COLUMNS = ("Image Index", "Finding Labels", "Patient ID")


def read(table: Table, question: Question) -> Labels:
    """`finding` or `no_finding` and the patient of each image, by its file's name.

    Raises UserError for --label-rule, as there are no readers, and for a finding that the file has not.
    """
    if question.rule is not None:
        raise UserError(
            f"--label-rule needs several readers an image (VinBigData); {table.path} has one verdict for each"
        )
    rows: dict[str, set[tuple[frozenset[str], str]]] = {}
    for image, findings, patient in table.rows(*COLUMNS):
        marked = frozenset(part.strip() for part in findings.split("|"))
        if "/" in image or "" in marked:
            raise table.error(
                f"{shown(image)} is not a file's name, or {shown(findings)} not findings with | between"
            )
        rows.setdefault(image, set()).add((marked, patient))
    names = {name: class_name(name) for stated in rows.values() for marked, _ in stated for name in marked}
    finding = known_finding(question.finding, [name for name in names if names[name] != NO_FINDING])
    images = {image: _stated(stated, names, finding) for image, stated in rows.items()}
    settings = {"form": "NIH ChestX-ray14"} | ({"finding": finding} if finding else {})
    return Labels(table.path, images, file_name, settings, has_patients=True)


def file_name(name: str) -> str:
    """The key of a file: its name without the folders."""
    return name.rpartition("/")[2]


def _stated(rows: set[tuple[frozenset[str], str]], names: dict[str, str], finding: str | None) -> Stated:
    marked, patient = next(iter(rows))
    found = [name for name in marked if names[name] != NO_FINDING]
    if len(rows) > 1:
        said = sorted(f"{'|'.join(sorted(marked))} of patient {patient}" for marked, patient in rows)
        return Stated(None, None, f"rows disagree: {'; '.join(said)}")
    if found and len(found) < len(marked):
        return Stated(None, None, f"no finding and findings at once: {'|'.join(sorted(marked))}")
    return Stated(classify([found], "any", finding), patient)
