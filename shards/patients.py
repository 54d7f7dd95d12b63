"""Which patient an image belongs to: by --patient-pattern, label file, DICOM's PatientID or study, or its
own.
"""

import re
import sys
from collections import Counter
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
    headers: Sequence[tuple[str | None, str | None]],
    from_name: NameReader | None,
    from_labels: bool,
) -> tuple[str, list[str | None]]:
    """How patients are known ("pattern", "csv", "dicom", "file"), and each image's; None: it is alone.

    `headers`: each image's PatientID and StudyInstanceUID, where it has them. A study is of one patient, so
    its images are kept in one split where anonymisation has emptied PatientID.

    Raises UserError when PatientID is the same everywhere, as some anonymisers leave it.
    """
    if from_name:
        return "pattern", [from_name(image) for image in images]
    if from_labels:
        return "csv", [image.patient for image in images]
    dicom_patients = [patient for patient, _ in headers]
    if not any(patient or study for patient, study in headers):
        return "file", [None] * len(images)
    if len(images) > 1 and len(set(dicom_patients)) == 1 and dicom_patients[0]:
        raise UserError(
            "all images have the same PatientID, so they can't be split by patient: "
            "give --patient-pattern ('(.+)' where each file is of another patient), or a patient column in "
            "--labels"
        )
    of_study = _patients_of_studies(headers)
    patients = [patient or of_study.get(study or "") for patient, study in headers]
    unnamed = dicom_patients.count(None)
    if by_study := unnamed - patients.count(None):
        print(
            f"{by_study} images have no PatientID: those of one study (StudyInstanceUID) are taken as of one "
            "patient, who may have other studies; a patient column in --labels knows better",
            file=sys.stderr,
        )
    if alone := patients.count(None):
        print(f"{alone} images have no PatientID: each is taken as a patient of its own", file=sys.stderr)
    return ("dicom" if any(patients) else "file"), patients


def _patients_of_studies(headers: Sequence[tuple[str | None, str | None]]) -> dict[str, str]:
    """A patient for each study of several images: the PatientID that one of them has, else the study's."""
    images = Counter(study for _, study in headers if study)
    patients: dict[str, str] = {}
    for patient, study in headers:
        if study and images[study] > 1:
            patients[study] = patient or patients.get(study, f"study {study}")
    return patients
