"""RSNA's pneumonia challenge, `stage_2_train_labels.csv` (Shih 2019).

A row is a box, or an image without one. `patientId` is the image's name, `PATIENTID.dcm`. Target 1 is an
opacity that may be pneumonia; of the images with 0 a third are normal and the others have something else,
which `stage_2_detailed_class_info.csv` tells apart (see `rsna_classes`). The images are NIH's, whose patients
neither file has.
"""

from shards.labels.findings import asked_classes, finding_settings, image_class, known_findings
from shards.labels.labels import ImageLabel, LabelOptions, Labels, check_options
from shards.labels.table import Table, quoted
from shards.labels.vinbigdata import image_id

COLUMNS = ("patientId", "x", "y", "width", "height", "Target")
OPACITY = "Lung Opacity"
TARGETS = {"0": frozenset[str](), "1": frozenset({OPACITY})}


def read(table: Table, options: LabelOptions) -> Labels:
    """`finding` where Target is 1, `no_finding` where it is 0.

    Raises UserError for all options but --finding, and for a Target that is neither 0 nor 1.
    """
    check_options(options, table.path, takes=("--finding",))
    asked = known_findings(options.findings, [OPACITY])
    rows: dict[str, set[str]] = {}
    for image, target in table.rows("patientId", "Target"):
        if "/" in image or target.removesuffix(".0") not in TARGETS:
            raise table.error(f"{quoted(image)} is not a file's name, or Target {quoted(target)} not 0 or 1")
        rows.setdefault(image_id(image), set()).add(target.removesuffix(".0"))
    images = {}
    for image, targets in rows.items():
        label, left_out = image_class([TARGETS[target] for target in targets], "any", asked)
        conflict = "Target is 0 and 1" if len(targets) > 1 else ""
        images[image] = ImageLabel(label, None, conflict, left_out)
    return Labels(
        table.path,
        images,
        image_id,
        finding_settings(asked),
        ".dcm",
        classes=asked_classes(asked),
        warnings=["Target 0 is not normal: stage_2_detailed_class_info.csv tells normal images apart"],
    )
