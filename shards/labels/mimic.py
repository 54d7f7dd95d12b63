"""The label files of MIMIC-CXR-JPG, `mimic-cxr-2.0.0-chexpert.csv` and `-negbio.csv` (Johnson 2019).

A row is a study, whose images are `.../pSUBJECT/sSTUDY/DICOM_ID.jpg`, so all of them are of its class. Joined
to `mimic-cxr-2.0.0-metadata.csv`, a row is an image, with `dicom_id` and, for --view, `ViewPosition`.
"""

import os
import re
from collections.abc import Callable

from shards.labels import observations
from shards.labels.findings import asked_classes, known_findings
from shards.labels.labels import ImageLabel, LabelOptions, Labels, check_options
from shards.labels.table import Table, quoted
from shards.labels.views import only_view, view_warnings

COLUMNS = ("subject_id", "study_id", *observations.COLUMNS)
IMAGE, VIEW = "dicom_id", "ViewPosition"
OPTIONAL_COLUMNS = (IMAGE, VIEW)
STUDY_FOLDER = re.compile(r"(?:^|/)s(\d+)/[^/]*$")


def read(table: Table, options: LabelOptions) -> Labels:
    """The class, by `observations.label_of`, and the patient of each study, or of each image.

    Raises UserError for --label-rule, for --view without ViewPosition, a cell that is no observation or id,
    and a finding that the file has not.
    """
    optional = [column for column in OPTIONAL_COLUMNS if column in table.columns]
    takes = ("--finding", "--uncertain", *(["--view"] if optional == [IMAGE, VIEW] else []))
    check_options(options, table.path, takes=takes)
    rule = options.uncertain or observations.DEFAULT_RULE
    asked = known_findings(options.findings, observations.FINDINGS)
    images: dict[str, ImageLabel] = {}
    views: dict[str, str] = {}
    columns = (*COLUMNS, *optional)
    for subject, study, *cells in table.rows(*columns, may_be_empty=(*observations.COLUMNS, VIEW)):
        said = observations.read_cells(table, cells[: len(observations.COLUMNS)])
        more = dict(zip(optional, cells[len(observations.COLUMNS) :], strict=True))
        key = more.get(IMAGE, f"s{_digits(table, study)}")
        label = observations.label_of(said, _digits(table, subject), asked, rule)
        views[key] = more.get(VIEW, "")
        label = only_view(label, views[key], options.view)
        if images.setdefault(key, label) != label:
            images[key] = ImageLabel(None, label.patient, "rows disagree")
    file_key: Callable[[str], str] = image_stem if IMAGE in optional else study_of
    return Labels(
        table.path,
        images,
        file_key,
        observations.settings(asked, rule, options.view),
        suffix=".jpg" if IMAGE in optional else "/",
        classes=asked_classes(asked),
        has_patients=True,
        warnings=view_warnings(views.values(), options.view),
        many_files=IMAGE not in optional,
    )


def study_of(name: str) -> str:
    """The key of a file: the folder of its study, sSTUDY; its whole name where it is in none."""
    study = STUDY_FOLDER.search(name)
    return f"s{study[1]}" if study else name


def image_stem(name: str) -> str:
    """The key of a file: its name without folders and ending, which is the dicom_id."""
    return os.path.splitext(name.rpartition("/")[2])[0]


def _digits(table: Table, text: str) -> str:
    """An id as digits, without the `.0` that a table with empty cells puts behind it."""
    number = text.removesuffix(".0")
    if not number.isdigit():
        raise table.error(f"{quoted(text)} is not a number of subject or study")
    return number
