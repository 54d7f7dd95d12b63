"""Which patient an image belongs to: by --patient-pattern, label file, DICOM's PatientID or study, or its
own. Placeholders such as ANONYMOUS are no patients (see `unknown`).
"""

import re
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

from shards.errors import UserError
from shards.identity import Names
from shards.limits import open_plain
from shards.sources.listing import HEAD_BYTES, Source, starts_like_dicom
from shards.sources.unknown import known

NameReader = Callable[[Source], str]
UNKNOWN = "an unknown patient"
HEADERS_READ = ("PatientID", "StudyInstanceUID")
DEFLATED = b"1.2.840.10008.1.2.1.99"  # can unpack to any size, so it isn't read before the scan


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


def name_alone(names: Names, identity: Sequence[bytes], study: str | None) -> str:
    """The keyed name of the patient of an image that is alone: its study's, of which more may come later."""
    return names.name("patient", f"study {study}".encode()) if study else names.name("file", *identity)


def find_patients(
    images: Sequence[Source],
    headers: Sequence[tuple[str | None, str | None]],
    from_name: NameReader | None,
    from_labels: bool,
    several_splits: bool = True,
) -> tuple[str, list[str | None]]:
    """How patients are known (pattern, csv, dicom, study, file), and each image's; None: it is alone.

    `headers`: each image's PatientID and StudyInstanceUID, where it has them. A study is of one patient, so
    its images are kept in one split where anonymisation has emptied PatientID.

    Raises UserError when all images are of one patient, but `several_splits` are asked for.
    """
    if from_name:
        patients: list[str | None] = [from_name(image) for image in images]
        origin = "pattern"
    elif from_labels and any(known(image.patient) for image in images):
        origin, patients = "csv", _by_labels(images, headers)
    else:
        origin, patients = _by_headers(headers)
    patients = _one_form_each(patients)
    if several_splits and len(images) > 1 and len(set(patients)) == 1 and patients[0] is not None:
        raise _one_patient(origin)
    return origin, patients


def _one_form_each(patients: Sequence[str | None]) -> list[str | None]:
    """`P001` also for `p1` where both are there: case and zeros before a number are lost in tables."""
    forms: dict[str, set[str]] = defaultdict(set)
    for patient in filter(None, patients):
        forms[re.sub(r"(?<![\d.])0+(?=\d)", "", patient.casefold())].add(patient)
    several = [sorted(written) for written in forms.values() if len(written) > 1]
    if several:
        print(
            f"{len(several)} patients are written in several ways, with other case or zeros before a number: "
            "each is taken as one",
            file=sys.stderr,
        )
    first = {patient: written[0] for written in several for patient in written}
    return [first.get(patient, patient) if patient else None for patient in patients]


def check_several_patients(images: Sequence[Source], from_name: NameReader | None, from_labels: bool) -> None:
    """Raise UserError, before anything is scanned, when all images are of one patient.

    Headers are read up to the first that shows a second patient.
    """
    if len(images) < 2:
        return
    seen: set[object] = set()
    from_labels = from_labels and any(known(image.patient) for image in images)
    for image in images:
        if from_name:
            seen.add(from_name(image))
        elif from_labels:
            seen.add(known(image.patient))
        else:
            patient, study = _read_header(image.path)
            seen.add(known(patient) or study or (UNKNOWN if patient else image.identity))
        if len(seen) > 1:
            return
    raise _one_patient("pattern" if from_name else "csv" if from_labels else "dicom")


def _one_patient(origin: str) -> UserError:
    cause = {
        "pattern": "--patient-pattern finds the same patient in every name",
        "csv": "the label file gives all images the same patient",
    }.get(origin, "all images have the same PatientID, or none and the same StudyInstanceUID")
    return UserError(
        f"{cause}, so they can't be split by patient: give --patient-pattern ('(.+)' where each file is of "
        "another patient), a patient column in --labels, or --split train=1"
    )


def _read_header(path: str) -> tuple[str | None, str | None]:
    """PatientID and StudyInstanceUID without the pixels; (None, None) for what is no readable DICOM file."""
    try:
        with open_plain(path) as file:
            start = file.read(HEAD_BYTES)
            file.seek(0)
            if not starts_like_dicom(start) or DEFLATED in start:
                return None, None
            from pydicom import dcmread  # not before a file needs it

            header = dcmread(file, force=True, stop_before_pixels=True, specific_tags=list(HEADERS_READ))
            patient, study = (str(header.get(name) or "").strip() or None for name in HEADERS_READ)
            return patient, study
    except Exception:  # noqa: BLE001  the scan tells what is wrong with it
        return None, None


def _by_labels(
    images: Sequence[Source], headers: Sequence[tuple[str | None, str | None]]
) -> list[str | None]:
    """Where the label file has no patient: that of another image of the study, else one for all of them."""
    named = [known(image.patient) for image in images]
    studies = [study for _, study in headers]
    of_study = {study: patient for patient, study in zip(named, studies, strict=True) if study and patient}
    patients: list[str | None] = [
        patient or of_study.get(study or "") or UNKNOWN for patient, study in zip(named, studies, strict=True)
    ]
    if unknown := patients.count(UNKNOWN):
        print(
            f"{unknown} images have no patient in the label file (an empty cell, or a placeholder such as "
            "nan): they are taken as of one unknown patient and stay in one split, so that nobody is in two",
            file=sys.stderr,
        )
    return patients


def _by_headers(headers: Sequence[tuple[str | None, str | None]]) -> tuple[str, list[str | None]]:
    named = [(known(patient), study) for patient, study in headers]
    placeholder = [bool(patient) and not name for (patient, _), (name, _) in zip(headers, named, strict=True)]
    of_study = _patients_of_studies(named)
    patients = [
        patient or of_study.get(study or "") or (UNKNOWN if empty and not study else None)
        for (patient, study), empty in zip(named, placeholder, strict=True)
    ]
    for line in _lines(headers, named, patients, sum(placeholder)):
        print(line, file=sys.stderr)
    if any(patient for patient, _ in named):
        return "dicom", patients
    return ("study" if any(patients) else "file"), patients


def _lines(
    headers: Sequence[tuple[str | None, str | None]],
    named: Sequence[tuple[str | None, str | None]],
    patients: Sequence[str | None],
    placeholders: int,
) -> list[str]:
    """What to say of images whose PatientID names nobody, where any image has a header."""
    if not any(patient or study for patient, study in headers):
        return []
    lines = []
    unnamed = sum(patient is None for patient, _ in named)
    none = "no known PatientID" if placeholders else "no PatientID"
    if placeholders:
        lines.append(
            f"{placeholders} images have a PatientID that names nobody, such as ANONYMOUS or 0: their "
            "patient is unknown"
        )
    unknown, alone = patients.count(UNKNOWN), patients.count(None)
    if by_study := unnamed - unknown - alone:
        lines.append(
            f"{by_study} images have {none}: those of one study (StudyInstanceUID) are taken as of one "
            "patient, who may have other studies; a patient column in --labels knows better"
        )
    if unknown:
        lines.append(
            f"{unknown} images have {none} and no study: they are taken as of one unknown patient and "
            "stay in one split, so that nobody is in two"
        )
    if alone:
        lines.append(f"{alone} images have {none}: each is taken as a patient of its own")
    return lines


def _patients_of_studies(headers: Sequence[tuple[str | None, str | None]]) -> dict[str, str]:
    """A patient for each study of several images: the PatientID that one of them has, else the study's."""
    images = Counter(study for _, study in headers if study)
    patients: dict[str, str] = {}
    for patient, study in headers:
        if study and images[study] > 1:
            patients[study] = patient or patients.get(study, f"study {study}")
    return patients
