"""The label files of CheXpert, `train.csv` and `valid.csv` (Irvin 2019): an image a row, 14 observations.

Paths begin with `CheXpert-v1.0-small/train/`; SOURCE may be any of these folders (see `paths`). The patient
is in the path, the view in `Frontal/Lateral`.
"""

import os
import re

from shards.labels import observations
from shards.labels.findings import asked_classes, known_findings
from shards.labels.labels import ImageLabel, LabelOptions, Labels, check_options
from shards.labels.table import Table
from shards.labels.views import only_view, view_warnings

COLUMNS = ("Path", *observations.COLUMNS)
VIEW = "Frontal/Lateral"
OPTIONAL_COLUMNS = (VIEW,)
PATIENT = re.compile(r"(?:^|[/\\])(patient\d+)[/\\]")
VIEW_IN_NAME = re.compile(r"_(frontal|lateral)\.\w+$")


def read(table: Table, options: LabelOptions) -> Labels:
    """The class, by `observations.label_of`, and the patient of each path.

    Raises UserError for --label-rule, a cell that is no observation, and a finding that the file has not.
    """
    check_options(options, table.path, takes=("--finding", "--uncertain", "--view"))
    rule = options.uncertain or observations.DEFAULT_RULE
    asked = known_findings(options.findings, observations.FINDINGS)
    columns = [*COLUMNS, VIEW] if VIEW in table.columns else list(COLUMNS)
    images: dict[str, ImageLabel] = {}
    views: dict[str, str] = {}
    for path, *cells in table.rows(*columns, may_be_empty=columns[1:]):
        key = os.path.normpath(path)
        patient, in_name = PATIENT.search(path), VIEW_IN_NAME.search(path)
        said = observations.read_cells(table, cells[: len(observations.COLUMNS)])
        label = observations.label_of(said, patient[1] if patient else "", asked, rule)
        views[key] = cells[-1] if VIEW in columns else in_name[1] if in_name else ""
        label = only_view(label, views[key], options.view)
        if images.setdefault(key, label) != label:
            images[key] = ImageLabel(None, label.patient, "rows disagree")
    return Labels(
        table.path,
        images,
        str,
        observations.settings(asked, rule, options.view),
        classes=asked_classes(asked),
        has_patients=any(image.patient for image in images.values()),
        warnings=view_warnings(views.values(), options.view),
        by_path=True,
    )
