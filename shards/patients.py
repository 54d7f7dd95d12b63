"""Which patient an image belongs to: by --patient-pattern, label file, DICOM's PatientID, or its own."""

import re
import sys
from collections.abc import Callable, Sequence

from shards.errors import UserError
from shards.sources import Source

NameReader = Callable[[Source], str]


def name_reader(pattern: str, images: Sequence[Source]) -> NameReader:
    """A function from image to patient by group 1 of `pattern` on the file's name, tried on every image.

    Raises UserError for a pattern that can't be compiled, has no group, or finds nothing in one of the names.
    """
    try:
        regex = re.compile(pattern)
    except re.error as error:
        raise UserError(f"--patient-pattern {pattern!r} is not a regular expression: {error}") from None
    if not regex.groups:
        raise UserError(f"--patient-pattern {pattern!r} has no group: put ( ) around the patient's part")

    def patient(source: Source) -> str:
        match = regex.search(source.name.rpartition("/")[2])
        if not match or not match[1]:
            raise UserError(
                f"--patient-pattern {pattern!r} finds no patient in the file name {source.name!r}"
            )
        return match[1]

    for image in images:
        patient(image)
    return patient


def find_patients(
    images: Sequence[Source],
    dicom_patients: Sequence[str | None],
    from_name: NameReader | None,
    from_labels: bool,
) -> tuple[str, list[str | None]]:
    """How patients are known ("pattern", "csv", "dicom", "file"), and each image's; None: it is alone.

    Raises UserError when PatientID is the same everywhere, as some anonymisers leave it.
    """
    if from_name:
        return "pattern", [from_name(image) for image in images]
    if from_labels:
        return "csv", [image.patient for image in images]
    if not any(dicom_patients):
        return "file", [None] * len(images)
    if len(images) > 1 and len(set(dicom_patients)) == 1:
        raise UserError(
            "all images have the same PatientID, so they can't be split by patient: "
            "give --patient-pattern ('(.+)' where each file is of another patient), or a patient column in "
            "--labels"
        )
    if alone := dicom_patients.count(None):
        print(f"{alone} images have no PatientID: each is taken as a patient of its own", file=sys.stderr)
    return "dicom", list(dicom_patients)
