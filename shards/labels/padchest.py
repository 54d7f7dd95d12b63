"""PadChest's label file, `PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv` (Bustos 2020).

A row is an image. `Labels` is a list as Python writes it, "['normal']"; the images are `ImageID`, 16-bit PNGs
anywhere under SOURCE. Images marked `exclude` or `suboptimal study` are left out; `unchanged` says nothing.
"""

import re

from shards.labels.findings import asked_classes, finding_settings, image_class, known_findings
from shards.labels.labels import NO_FINDING, NOTHING_SAID, ImageLabel, LabelOptions, Labels, check_options
from shards.labels.table import Table, quoted
from shards.labels.views import only_view, view_warnings
from shards.labels.vinbigdata import image_id

COLUMNS = ("ImageID", "PatientID", "Labels")
VIEW = "Projection"
OPTIONAL_COLUMNS = (VIEW,)
NORMAL = "normal"
SAYS_NOTHING = frozenset({"", "unchanged"})
UNUSABLE = frozenset({"exclude", "suboptimal study"})
LEFT_OUT = "excluded by the file"
ITEM = re.compile(r"""\s*(?:'([^'\\]*)'|"([^"\\]*)")\s*(?:,|$)""")


def read(table: Table, options: LabelOptions) -> Labels:
    """`finding` or `no_finding`, or the findings asked for, and the patient of each image.

    Raises UserError for --label-rule and --uncertain, a cell that is no list, and a finding that it has not.
    """
    takes = ("--finding", *(["--view"] if VIEW in table.columns else []))
    check_options(options, table.path, takes=takes)
    columns = [*COLUMNS, *([VIEW] if VIEW in table.columns else [])]
    rows: dict[str, set[tuple[frozenset[str], str]]] = {}
    views: dict[str, str] = {}
    for image, patient, labels, *view in table.rows(*columns, may_be_empty=("PatientID", "Labels", VIEW)):
        if "/" in image:
            raise table.error(f"ImageID {quoted(image)} is not a file's name")
        rows.setdefault(image_id(image), set()).add((_names(table, labels), patient))
        views[image_id(image)] = view[0] if view else ""
    known = {name for given in rows.values() for marked, _ in given for name in marked}
    asked = known_findings(options.findings, known - {NORMAL} - UNUSABLE)
    images = {
        image: only_view(_image_label(given, asked), views[image], options.view)
        for image, given in rows.items()
    }
    settings = {**finding_settings(asked), **({"view": options.view} if options.view else {})}
    return Labels(
        table.path,
        images,
        image_id,
        settings,
        ".png",
        classes=asked_classes(asked),
        has_patients=True,
        warnings=view_warnings(views.values(), options.view) if VIEW in columns else [],
    )


def _names(table: Table, cell: str) -> frozenset[str]:
    """The labels in a cell such as "['normal', ' copd signs']"; none for an empty one or nan."""
    if cell.lower() in ("", "nan"):
        return frozenset()
    names, position, inner = set(), 0, cell[1:-1].strip()
    if cell[0] != "[" or cell[-1] != "]" or len(cell) < 2:
        raise table.error(f"Labels {quoted(cell)} are not a list, such as ['normal']")
    while position < len(inner):
        item = ITEM.match(inner, position)
        if item is None:
            raise table.error(f"Labels {quoted(cell)} are not a list, such as ['normal']")
        names.add((item[1] or item[2] or "").strip().lower())
        position = item.end()
    return frozenset(names) - SAYS_NOTHING


def _image_label(rows: set[tuple[frozenset[str], str]], asked: list[str]) -> ImageLabel:
    if len(rows) > 1:
        listed = sorted(f"{', '.join(sorted(marked))} of patient {patient}" for marked, patient in rows)
        return ImageLabel(None, None, f"rows disagree: {'; '.join(listed)}")
    ((marked, patient),) = rows
    if marked & UNUSABLE:
        return ImageLabel(None, patient, left_out=LEFT_OUT)
    found = marked - {NORMAL}
    if found and NORMAL in marked:
        return ImageLabel(None, patient, f"normal and findings at once: {', '.join(sorted(marked))}")
    if not found:
        said = NORMAL in marked
        return ImageLabel(NO_FINDING if said else None, patient, left_out=NOTHING_SAID)
    label, left_out = image_class([found], "any", asked)
    return ImageLabel(label, patient, left_out=left_out)
