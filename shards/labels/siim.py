"""The SIIM-ACR pneumothorax challenge, `train-rle.csv` (2019).

A row is a mask, or -1 for an image without one. `ImageId` is the SOPInstanceUID and the file's name,
`IMAGEID.dcm`, anywhere under SOURCE. A mask is written as run lengths, pairs of whole numbers; here -1 is
"no pneumothorax", not an uncertain label.
"""

import re

from shards.labels.findings import asked_classes, finding_settings, image_class, known_findings
from shards.labels.labels import ImageLabel, LabelOptions, Labels, check_options
from shards.labels.table import Table, quoted
from shards.labels.vinbigdata import image_id

COLUMNS = ("ImageId", "EncodedPixels")
PNEUMOTHORAX = "Pneumothorax"
NO_MASK = "-1"
RUNS = re.compile(r"\d{1,9}(?: +\d{1,9})*")


def read(table: Table, options: LabelOptions) -> Labels:
    """`finding` for an image with a mask, `no_finding` for one without.

    Raises UserError for all options but --finding, and for a cell that is neither -1 nor run lengths.
    """
    check_options(options, table.path, takes=("--finding",))
    asked = known_findings(options.findings, [PNEUMOTHORAX])
    rows: dict[str, set[bool]] = {}
    for image, pixels in table.rows(*COLUMNS):
        marked = pixels.removesuffix(".0") != NO_MASK
        if "/" in image or (marked and not _is_mask(pixels)):
            raise table.error(
                f"{quoted(image)} is not a file's name, or {quoted(pixels)} neither -1 nor run lengths"
            )
        rows.setdefault(image_id(image), set()).add(marked)
    images = {}
    for image, marks in rows.items():
        label, left_out = image_class([{PNEUMOTHORAX} if True in marks else set()], "any", asked)
        images[image] = ImageLabel(label, None, "a mask, and none" if len(marks) > 1 else "", left_out)
    return Labels(table.path, images, image_id, finding_settings(asked), ".dcm", classes=asked_classes(asked))


def _is_mask(text: str) -> bool:
    return bool(RUNS.fullmatch(text)) and len(text.split()) % 2 == 0
