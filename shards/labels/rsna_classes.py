"""RSNA's pneumonia challenge, `stage_2_detailed_class_info.csv` (Shih 2019).

`no_finding` is Normal; Lung Opacity, and No Lung Opacity / Not Normal, are the findings. See `rsna`.
"""

from shards.labels.findings import asked_classes, finding_settings, image_class, known_findings
from shards.labels.labels import ImageLabel, LabelOptions, Labels, check_options
from shards.labels.rsna import OPACITY
from shards.labels.table import Table, quoted
from shards.labels.vinbigdata import image_id

COLUMNS = ("patientId", "class")
NOT_NORMAL = "No Lung Opacity / Not Normal"
NORMAL = "Normal"


def read(table: Table, options: LabelOptions) -> Labels:
    """`no_finding` for Normal, else `finding`, or the finding asked for.

    Raises UserError for all options but --finding, and for a class that is none of the three.
    """
    check_options(options, table.path, takes=("--finding",))
    asked = known_findings(options.findings, [OPACITY, NOT_NORMAL])
    rows: dict[str, set[str]] = {}
    for image, name in table.rows(*COLUMNS):
        if "/" in image or name not in (OPACITY, NOT_NORMAL, NORMAL):
            raise table.error(
                f"{quoted(image)} is not a file's name, or class {quoted(name)} none of RSNA's three"
            )
        rows.setdefault(image_id(image), set()).add(name)
    images = {}
    for image, names in rows.items():
        label, left_out = image_class([names - {NORMAL}], "any", asked)
        conflict = f"rows disagree: {', '.join(sorted(names))}" if len(names) > 1 else ""
        images[image] = ImageLabel(label, None, conflict, left_out)
    return Labels(table.path, images, image_id, finding_settings(asked), ".dcm", classes=asked_classes(asked))
