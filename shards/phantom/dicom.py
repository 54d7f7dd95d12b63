"""How a phantom picture is written: as DICOM Computed Radiography, in the variants of real archives."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    generate_uid,
)

DETECTOR_MM = 360.0


@dataclass(frozen=True)
class Encoding:
    """How stored values stand for brightness."""

    bits: int  # stored, of 16 allocated
    inverted: bool  # MONOCHROME1: low values are bright
    window: bool  # with WindowCenter and WindowWidth
    rescale: tuple[float, float] | None  # modality LUT: slope, intercept

    @property
    def span(self) -> tuple[int, int]:
        """Stored values of the picture's ends. A file without a window has to use the whole range."""
        top = 2**self.bits - 1
        return (round(0.04 * top), round(0.85 * top)) if self.window else (0, top)


@dataclass(frozen=True)
class Header:
    """Who and when; everything is invented. `entropy` makes the image's UIDs, and `patient` its PatientID."""

    patient: int
    image: int
    female: bool
    birth_year: int
    study_day: int  # counted from 1 January 2001
    entropy: str


def draw_encoding(rng: np.random.Generator) -> Encoding:
    """Draws one of the variants."""
    rescale = (
        (float(rng.choice([0.5, 1.0, 2.0])), float(rng.integers(-1024, 1024)))
        if rng.random() < 0.35
        else None
    )
    return Encoding(
        bits=int(rng.choice([12, 14])),
        inverted=bool(rng.random() < 0.35),
        window=bool(rng.random() < 0.65),
        rescale=rescale,
    )


def stored_values(film: np.ndarray, encoding: Encoding) -> np.ndarray:
    """Brightness in [0, 1] as the uint16 values of the file."""
    low, high = encoding.span
    value = np.rint(low + film.astype(np.float64) * (high - low))
    return (low + high - value if encoding.inverted else value).astype(np.uint16)


def chest_dataset(film: np.ndarray, encoding: Encoding, header: Header) -> Dataset:
    """The DICOM dataset of one image with the mandatory modules of the CR Image IOD (DICOM PS3.3 A.2.3)."""
    ds = Dataset()
    _identify(ds, header)
    low, high = encoding.span
    ds.ImageType = ["ORIGINAL", "PRIMARY"]
    ds.BurnedInAnnotation = "NO"  # the side marker names no patient (PS3.3 C.7.6.1)
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME1" if encoding.inverted else "MONOCHROME2"
    ds.Rows, ds.Columns = film.shape
    ds.ImagerPixelSpacing = [f"{DETECTOR_MM / side:.5f}" for side in film.shape]
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, encoding.bits, encoding.bits - 1
    ds.PixelRepresentation = 0
    slope, intercept = encoding.rescale or (1.0, 0.0)
    if encoding.rescale:
        ds.RescaleSlope, ds.RescaleIntercept, ds.RescaleType = slope, intercept, "US"
    if encoding.window:
        # Inverse of PS3.3 C.11.2.1.2.1: the ends lie (width - 1) / 2 from (center - 0.5), in modality units.
        ds.WindowCenter = slope * (low + high) / 2 + intercept + 0.5
        ds.WindowWidth = slope * (high - low) + 1
    ds.PixelData = stored_values(film, encoding).astype("<u2").tobytes()
    ds["PixelData"].VR = "OW"
    return ds


def _identify(ds: Dataset, header: Header) -> None:
    """SOP common, patient, study, series and equipment, with UIDs that depend on the entropy alone."""
    instance, study, series = (
        generate_uid(entropy_srcs=[header.entropy, kind]) for kind in ("image", "study", "series")
    )
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = ComputedRadiographyImageStorage
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = instance
    day = str(np.datetime64("2001-01-01") + header.study_day).replace("-", "")
    ds.PatientName = f"Phantom^{header.patient:04d}"
    ds.PatientID = f"PHANTOM-{header.patient:04d}"
    ds.PatientBirthDate = f"{header.birth_year}0101"
    ds.PatientSex = "F" if header.female else "M"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = study, series
    ds.StudyDate = ds.ContentDate = day
    ds.StudyTime = ds.ContentTime = "120000"
    ds.StudyID = str(header.image)
    ds.AccessionNumber = ds.ReferringPhysicianName = ""
    ds.Modality, ds.SeriesNumber, ds.InstanceNumber = "CR", 1, 1
    ds.BodyPartExamined, ds.ViewPosition = "CHEST", "PA"
    ds.PatientOrientation = ["L", "F"]
    ds.Manufacturer = "Phantom"


def write_dicom(
    path: Path, film: np.ndarray, encoding: Encoding, header: Header, compressed: bool = False
) -> None:
    """Writes an image in Explicit VR Little Endian, or `compressed`, with preamble and file meta data."""
    ds = chest_dataset(film, encoding, header)
    if compressed:
        _compress(ds, stored_values(film, encoding))
    ds.save_as(path, enforce_file_format=True)


def _compress(ds: Dataset, values: np.ndarray) -> None:
    """JPEG 2000 with the reversible wavelet, in one fragment (PS3.5 A.4.4)."""
    import imagecodecs

    codestream = imagecodecs.jpeg2k_encode(
        values, codecformat="j2k", reversible=True, bitspersample=ds.BitsStored, numthreads=1
    )
    ds.file_meta.TransferSyntaxUID = JPEG2000Lossless
    ds.PixelData = encapsulate([bytes(codestream)])
    ds["PixelData"].VR = "OB"
