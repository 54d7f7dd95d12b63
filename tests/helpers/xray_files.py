"""Makes the files that the tests of `shards` feed in: class folders of PNGs, and DICOM images."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

CR_STORAGE = UID("1.2.840.10008.5.1.4.1.1.1")


def smooth(seed: int, height: int = 48, width: int = 48) -> np.ndarray:
    """A random smooth field in [0, 1]; two seeds give unlike pictures."""
    coarse = np.random.default_rng(seed).random((12, 12)).astype(np.float32)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)).clip(0, 1)


def write_png(path: Path, seed: int, side: int = 48) -> None:
    """An 8-bit gray PNG of `smooth(seed)`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((smooth(seed, side, side) * 255).astype(np.uint8)).save(path)


def class_folders(root: Path, patients: int = 12, images: int = 2) -> Path:
    """`root/{Finding,No_finding}/{patient}_{image}.png`, the classes mixed within patients."""
    for patient in range(patients):
        for image in range(images):
            folder = ("Finding", "No_finding")[(patient + image) % 2]
            write_png(root / folder / f"{patient:04d}_{image}.png", patient * images + image)
    return root


def batch(root: Path, patients: range, image: int) -> Path:
    """`root/{Finding,No_finding}/{patient}_{image}.png`: one image of each of these patients."""
    for patient in patients:
        folder = ("Finding", "No_finding")[(patient + image) % 2]
        write_png(root / folder / f"{patient:04d}_{image}.png", 1000 * image + patient)
    return root


def dicom(stored: np.ndarray, bits: int = 16, **elements: Any) -> Dataset:
    """A MONOCHROME2 image of `stored` values; `elements` are set last (or, when None, removed)."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = CR_STORAGE
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = generate_uid(
        entropy_srcs=["test"]
    )
    dataset.PatientID = "patient-1"
    dataset.Modality = "CR"
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = stored.shape[-2:]
    dataset.BitsAllocated = 8 * stored.dtype.itemsize
    dataset.BitsStored, dataset.HighBit = bits, bits - 1
    dataset.PixelRepresentation = int(np.issubdtype(stored.dtype, np.signedinteger))
    dataset.PixelData = stored.tobytes()
    for name, value in elements.items():
        if value is None:
            delattr(dataset, name)
        else:
            setattr(dataset, name, value)
    return dataset


def dicom_bytes(dataset: Dataset) -> bytes:
    """The data set as a DICOM Part 10 file."""
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def write_dicom(path: Path, dataset: Dataset) -> Path:
    """Write the data set as a file, making its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(dicom_bytes(dataset))
    return path


def contents(folder: Path) -> dict[str, bytes]:
    """The bytes of every file of a folder, by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}
