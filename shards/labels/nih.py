"""The label file of NIH ChestX-ray14, `Data_Entry_2017.csv` (Wang 2017): an image a row, text-mined findings.

The images lie anywhere under SOURCE (the set comes as images_001/images/ to images_012/images/).
"""

from shards.labels.findings import asked_classes, finding_settings, image_class, known_findings
from shards.labels.labels import NO_FINDING, OTHER_VIEWS, ImageLabel, LabelOptions, Labels, check_options
from shards.labels.table import Table, quoted
from shards.labels.views import view_of
from shards.sources.listing import class_name

COLUMNS = ("Image Index", "Finding Labels", "Patient ID")
VIEW = "View Position"
OPTIONAL_COLUMNS = (VIEW,)


def read(table: Table, options: LabelOptions) -> Labels:
    """`finding` or `no_finding` and the patient of each image, by its file's name.

    Raises UserError for --label-rule, as there are no readers, and for a finding that the file has not.
    """
    views = [VIEW] if VIEW in table.columns else []
    check_options(options, table.path, takes=("--finding", *(["--view"] if views else [])))
    rows: dict[str, set[tuple[frozenset[str], str]]] = {}
    other_views = set()
    for image, findings, patient, *view in table.rows(*COLUMNS, *views, may_be_empty=views):
        if view and options.view and view_of(view[0]) != options.view:
            other_views.add(image)
        marked = frozenset(part.strip() for part in findings.split("|"))
        if "/" in image or "" in marked:
            raise table.error(
                f"{quoted(image)} is not a file's name, or {quoted(findings)} not findings with | between"
            )
        rows.setdefault(image, set()).add((marked, patient))
    names = {name: class_name(name) for given in rows.values() for marked, _ in given for name in marked}
    asked = known_findings(options.findings, [name for name in names if names[name] != NO_FINDING])
    images = {
        image: ImageLabel(None, left_out=OTHER_VIEWS)
        if image in other_views
        else _image_label(given, names, asked)
        for image, given in rows.items()
    }
    return Labels(
        table.path,
        images,
        file_name,
        {**finding_settings(asked), **({"view": options.view} if options.view else {})},
        classes=asked_classes(asked),
        has_patients=True,
    )


def file_name(name: str) -> str:
    """The key of a file: its name without the folders."""
    return name.rpartition("/")[2]


def _image_label(
    rows: set[tuple[frozenset[str], str]], names: dict[str, str], asked: list[str]
) -> ImageLabel:
    marked, patient = next(iter(rows))
    found = [name for name in marked if names[name] != NO_FINDING]
    if len(rows) > 1:
        listed = sorted(f"{'|'.join(sorted(marked))} of patient {patient}" for marked, patient in rows)
        return ImageLabel(None, None, f"rows disagree: {'; '.join(listed)}")
    if found and len(found) < len(marked):
        return ImageLabel(None, None, f"no finding and findings at once: {'|'.join(sorted(marked))}")
    label, left_out = image_class([found], "any", asked)
    return ImageLabel(label, patient, left_out=left_out)
