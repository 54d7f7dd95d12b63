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

Pixels = np.ndarray
"""uint8 or uint16 [S, S], black 0."""


@dataclass(frozen=True)
class Origin:
    """What drew the pictures: the GAN, its checkpoint, the SHA-256 of its weights, the seed of the latents
    (`3`, or `3-7` on the way from one to the other), and what the latents were multiplied by.
    """

    model: str
    checkpoint: str
    weights: str
    seed: str
    truncation: float = 1.0

    def facts(self) -> dict[str, str]:
        """All that a file says of it, in the words of the index."""
        facts = {
            "model": self.model,
            "checkpoint": self.checkpoint,
            "weights": self.weights[:16],
            "seed": self.seed,
        }
        return facts if self.truncation == 1 else facts | {"truncation": str(self.truncation)}


@dataclass(frozen=True)
class Picture:
    """One synthetic X-ray: its index under the seed, or of the step between two seeds; class or none; audit
    result.
    """

    pixels: Pixels
    index: int
    label: str | None
    audit: str

    def facts(self, origin: Origin) -> dict[str, str]:
        """All that its file says of the picture, in the words of the index."""
        own = {"index": str(self.index), "label": self.label or "", "audit": self.audit}
        return origin.facts() | own


def preview(pixels: Pixels) -> Pixels:
    """The same in 8 bits."""
    return pixels if pixels.dtype == np.uint8 else ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)


def marked_png(image: Image.Image, facts: dict[str, str]) -> bytes:
    """A PNG that says that it is synthetic, and `facts`, as text chunks."""
    text = PngImagePlugin.PngInfo()
    text.add_text("Title", STATEMENT)
    text.add_text("Software", f"chexdist {__version__}")
    for name, value in facts.items():
        text.add_text(name, value)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", pnginfo=text)
    return buffer.getvalue()


def png(picture: Picture, origin: Origin) -> bytes:
    """A gray PNG of 8 or 16 bits with the facts as text chunks."""
    return marked_png(Image.fromarray(picture.pixels), picture.facts(origin))


def dicom(picture: Picture, origin: Origin) -> bytes:
    """A DICOM file, Explicit VR Little Endian, 8 or 16 bits, bone bright."""
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
    bits = 8 * picture.pixels.dtype.itemsize
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = picture.pixels.shape
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = bits, bits, bits - 1, 0
    ds.WindowCenter, ds.WindowWidth = 2 ** (bits - 1), 2**bits  # all values, by PS3.3 C.11.2.1.2.1
    ds.PixelData = picture.pixels.astype(f"<u{bits // 8}").tobytes()
    ds["PixelData"].VR = "OB" if bits == 8 else "OW"
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
