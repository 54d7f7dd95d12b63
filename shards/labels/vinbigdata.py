"""The label file of VinBigData's training set (Nguyen 2022): a row per reader and box or "No finding".

The images are `IMAGE_ID.dicom` anywhere under SOURCE, or converted ones of that name (.dcm, .png, .jpg).
"""

import os

from shards.labels.findings import asked_classes, finding_settings, image_class, known_findings
from shards.labels.labels import NO_FINDING, ImageLabel, LabelOptions, Labels, check_options
from shards.labels.table import Table, quoted
from shards.sources.listing import DICOM_SUFFIXES, RASTER_SUFFIXES, class_name

COLUMNS = ("image_id", "class_name", "class_id", "rad_id")
NO_FINDING_ID = 14
READERS = 3

Marks = dict[str, set[str]]  # reader -> classes that the reader gave the image


def read(table: Table, options: LabelOptions) -> Labels:
    """`finding` or `no_finding` of each image, by --label-rule over its readers; the file knows no patients.

    Raises UserError for a class that contradicts its number, and for a finding that the file has not.
    """
    check_options(options, table.path, takes=("--label-rule", "--finding"))
    marks: dict[str, Marks] = {}
    numbers: dict[str, int] = {}
    repeated = 0
    for image, name, number, reader in table.rows(*COLUMNS):
        _check(table, numbers, image, name, number)
        given = marks.setdefault(image, {}).setdefault(reader, set())
        repeated += name in given and numbers[name] == NO_FINDING_ID
        given.add(name)
    nothing = {name for name in numbers if numbers[name] == NO_FINDING_ID}
    rule = options.rule or "any"
    asked = known_findings(options.findings, numbers.keys() - nothing)
    images = {image: _image_label(readers, nothing, rule, asked) for image, readers in marks.items()}
    return Labels(
        table.path,
        images,
        image_id,
        {"rule": rule, **finding_settings(asked)},
        ".dicom",
        classes=asked_classes(asked),
        warnings=_warnings(marks, repeated),
    )


def image_id(name: str) -> str:
    """The key of a file: its name without the folders and an image's ending."""
    stem, suffix = os.path.splitext(name.rpartition("/")[2])
    return stem if suffix.lower() in DICOM_SUFFIXES | RASTER_SUFFIXES else stem + suffix


def _check(table: Table, numbers: dict[str, int], image: str, name: str, number: str) -> None:
    """Raise UserError when the row's cells can't be right; adds a new class to `numbers`."""
    if "/" in image:
        raise table.error(f"image_id {quoted(image)} is not a file's name")
    if not (number.isascii() and number.isdigit() and len(number) < 9):
        raise table.error(f"class_id {quoted(number)} is not a whole number")
    if name not in numbers:
        if (int(number) == NO_FINDING_ID) != (class_name(name) == NO_FINDING):
            raise table.error(
                f"class_id {number} and class_name {quoted(name)}: 14 and only 14 is No finding"
            )
        if int(number) != NO_FINDING_ID and int(number) in numbers.values():
            raise table.error(f"class_id {number} is {quoted(name)} here, another class in an earlier line")
    if numbers.setdefault(name, int(number)) != int(number):
        raise table.error(
            f"class {quoted(name)} has class_id {number} here, {numbers[name]} in an earlier line"
        )


def _image_label(readers: Marks, nothing: set[str], rule: str, asked: list[str]) -> ImageLabel:
    for reader, given in readers.items():
        if nothing & given and given - nothing:
            return ImageLabel(None, None, f"reader {reader} gave {', '.join(sorted(given))}")
    label, left_out = image_class([given - nothing for given in readers.values()], rule, asked)
    return ImageLabel(label, left_out=left_out)


def _warnings(marks: dict[str, Marks], repeated: int) -> list[str]:
    unusual = [image for image, readers in marks.items() if len(readers) != READERS]
    warnings = []
    if unusual:
        count = len(marks[unusual[0]])
        warnings.append(
            f"{len(unusual)} images do not have {READERS} readers (the first: {quoted(unusual[0])} has "
            f"{count}); --label-rule counts those they have"
        )
    if repeated:
        warnings.append(f"{repeated} rows repeat another row of the same reader and image; each counts once")
    return warnings
