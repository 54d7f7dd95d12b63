"""How a synthetic X-ray becomes a file: a gray PNG or a DICOM Secondary Capture image, marked as such.

Bytes are a function of the pixels and the facts about them: no clock, no random identifier, no path, no
data of a patient.
"""

import hashlib
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, PngImagePlugin

from chexdist import __version__

if TYPE_CHECKING:
    from pydicom import Dataset

STATEMENT = "Synthetic chest X-ray, drawn by a generative model: not a patient"


@dataclass(frozen=True)
class Origin:
    """What drew the pictures: the GAN, its checkpoint, the SHA-256 of its weights, the latents' seed."""

    model: str
    checkpoint: str
    weights: str
    seed: int


@dataclass(frozen=True)
class Picture:
    """One synthetic X-ray: pixels uint8 [S, S], its index under the seed, class or none, audit result."""

    pixels: np.ndarray
    index: int
    label: str | None
    audit: str

    def facts(self, origin: Origin) -> dict[str, str]:
        """All that its file says of the picture, in the words of the index."""
        return {
            "model": origin.model,
            "checkpoint": origin.checkpoint,
            "weights": origin.weights[:16],
            "seed": str(origin.seed),
            "index": str(self.index),
            "label": self.label or "",
            "audit": self.audit,
        }


def png(picture: Picture, origin: Origin) -> bytes:
    """An 8-bit gray PNG with the facts as text chunks."""
    text = PngImagePlugin.PngInfo()
    text.add_text("Title", STATEMENT)
    text.add_text("Software", f"chexdist {__version__}")
    for name, value in picture.facts(origin).items():
        text.add_text(name, value)
    buffer = io.BytesIO()
    Image.fromarray(picture.pixels).save(buffer, "PNG", pnginfo=text)
    return buffer.getvalue()


def dicom(picture: Picture, origin: Origin) -> bytes:
    """A DICOM file, Explicit VR Little Endian, 8 bits, bone bright."""
    buffer = io.BytesIO()
    _dataset(picture, origin).save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _dataset(picture: Picture, origin: Origin) -> "Dataset":
    """With the mandatory modules of the Secondary Capture Image IOD (DICOM PS3.3 A.8.1).

    Those of a radiograph would claim an exposure.
    """
    from pydicom import Dataset

    facts = picture.facts(origin)
    ds = Dataset()
    _identify(ds, picture, origin)
    ds.ImageType = ["DERIVED", "SECONDARY", "SYNTHETIC"]
    ds.ConversionType = "SYN"  # Synthetic Image (PS3.3 C.8.6.1)
    ds.SyntheticData = "YES"  # PS3.3 C.12.1
    ds.Manufacturer, ds.SoftwareVersions = "chexdist", __version__
    ds.DerivationDescription = STATEMENT
    ds.ImageComments = f"{STATEMENT}. " + ", ".join(
        f"{name} {value}" for name, value in facts.items() if value
    )
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = picture.pixels.shape
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
    ds.WindowCenter, ds.WindowWidth = 128, 256  # all of 0 to 255 by PS3.3 C.11.2.1.2.1
    ds.PixelData = picture.pixels.tobytes()
    ds["PixelData"].VR = "OB"
    return ds


def _identify(ds: "Dataset", picture: Picture, origin: Origin) -> None:
    """An invented patient of one study, series and image; other pixels or facts, other identifiers."""
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

    identity = [*picture.facts(origin).values(), hashlib.sha256(picture.pixels.tobytes()).hexdigest()]
    instance, study, series = (
        generate_uid(entropy_srcs=[*identity, kind]) for kind in ("image", "study", "series")
    )
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = SecondaryCaptureImageStorage
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = instance
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = study, series
    ds.PatientName = f"Synthetic^{picture.index}"
    ds.PatientID = f"SYNTHETIC-{origin.weights[:8]}-{origin.seed}-{picture.index}"
    ds.PatientBirthDate = ds.PatientSex = ""
    ds.StudyDate = ds.StudyTime = ds.AccessionNumber = ds.ReferringPhysicianName = ""
    ds.Modality, ds.StudyID, ds.SeriesNumber, ds.InstanceNumber = "OT", "1", 1, 1
    ds.BodyPartExamined = "CHEST"
    ds.PatientOrientation = ""
