"""How a DICOM file becomes a data set: with or without preamble, with its syntax stated or not, deflated.

PS3.10, 7.1, asks for a preamble and a file meta group; what PACS and scanners leave often lacks them. Then
the first elements say how the rest is written (PS3.5, annex A): implicit or explicit, little or big endian.
"""

import io
import struct
import zlib
from typing import TYPE_CHECKING, BinaryIO

from shards.limits import MAX_FILE_BYTES, open_plain
from shards.pixels.codecs import JPEG_2000, JPEG_LS
from shards.pixels.codestream import JPEG_LS_FRAME, BadCodestream, Codestream, read_codestream
from shards.quarantine import Code, Quarantined
from shards.sources.listing import DICOM_MAGIC, DICOM_MAGIC_AT, FILE_META

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.tag import BaseTag

IMPLICIT, EXPLICIT, BIG_ENDIAN = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
DEFLATED, DEFLATED_FRAME = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.8.1"
RAW_DEFLATE = -15  # without zlib's header, for zlib.decompressobj
ITEM = b"\xfe\xff\x00\xe0"  # starts an encapsulated pixel element
JPEG_BASELINE, JPEG_EXTENDED, JPEG_LOSSLESS = (f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 57))


def read_data_set(path: str) -> "Dataset":
    """The data set, its transfer syntax stated in `file_meta` or found; raises as `decode.read_dicom`."""
    from pydicom import dcmread
    from pydicom.uid import UID

    with open_plain(path) as file:
        meta = _read_meta(file)
        syntax = str(meta.get("TransferSyntaxUID") or "")
        if syntax == DEFLATED:
            return _read_deflated(file.read(), meta)
    dataset = dcmread(path, force=True)
    if not syntax:
        dataset.file_meta.TransferSyntaxUID = UID(_found_syntax(dataset))
    return dataset


def _read_meta(file: BinaryIO) -> "Dataset":
    """The file meta group, empty when there is none; leaves the file at what follows it."""
    from pydicom.filereader import read_dataset

    def ends(tag: "BaseTag", vr: str | None, length: int) -> bool:
        return tag.group != FILE_META

    head = file.read(DICOM_MAGIC_AT + len(DICOM_MAGIC))
    if not head.endswith(DICOM_MAGIC):
        file.seek(0)
    start = file.read(2)
    file.seek(-len(start), io.SEEK_CUR)
    if start != struct.pack("<H", FILE_META):
        from pydicom import Dataset

        return Dataset()
    return read_dataset(file, is_implicit_VR=False, is_little_endian=True, stop_when=ends)


def _read_deflated(data: bytes, meta: "Dataset") -> "Dataset":
    """A deflated data set (PS3.5, A.5), as explicit little endian."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.filereader import read_dataset
    from pydicom.uid import UID

    plain = inflated(data, MAX_FILE_BYTES)
    dataset = FileDataset(
        io.BytesIO(),
        read_dataset(io.BytesIO(plain), is_implicit_VR=False, is_little_endian=True),
        file_meta=FileMetaDataset(meta),
        is_implicit_VR=False,
        is_little_endian=True,
    )
    dataset.file_meta.TransferSyntaxUID = UID(EXPLICIT)
    return dataset


def inflated(data: bytes, most: int) -> bytes:
    """Raw deflate data, unpacked; raises Quarantined beyond `most` bytes, which are all that is unpacked."""
    unpacker = zlib.decompressobj(RAW_DEFLATE)
    try:
        plain = unpacker.decompress(data, most + 1)
    except zlib.error as error:
        raise Quarantined(Code.CORRUPT, f"deflated: {error}") from None
    if len(plain) > most:
        raise Quarantined(Code.TOO_LARGE, f"deflated: more than {most} bytes once unpacked")
    if not unpacker.eof:
        raise Quarantined(Code.TRUNCATED, "the deflated data breaks off")
    return plain


def inflate_frame(dataset: "Dataset") -> None:
    """Replace a deflated frame (PS3.5, A.4.13) by its pixels, no more than the header calls for."""
    from pydicom.encaps import get_frame
    from pydicom.uid import UID

    stored = int(dataset.Rows) * int(dataset.Columns) * int(dataset.BitsAllocated) // 8
    frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
    dataset.PixelData = inflated(frame, stored + 1)
    dataset["PixelData"].is_undefined_length = False
    dataset.file_meta.TransferSyntaxUID = UID(EXPLICIT)


def _found_syntax(dataset: "Dataset") -> str:
    """The transfer syntax that a file does not state, by its elements and by its frame's first markers."""
    implicit, little = dataset.original_encoding
    pixels = dataset.get("PixelData")
    if isinstance(pixels, bytes) and pixels.startswith(ITEM):
        return _syntax_of_frame(pixels)
    if not little:
        return BIG_ENDIAN
    return IMPLICIT if implicit else EXPLICIT


def _syntax_of_frame(pixels: bytes) -> str:
    from pydicom.encaps import get_frame

    try:
        stream: Codestream = read_codestream(get_frame(pixels, 0, number_of_frames=1))
    except BadCodestream:
        raise Quarantined(
            Code.UNSUPPORTED_TRANSFER_SYNTAX, "the header names no transfer syntax, and the frame shows none"
        ) from None
    if stream.process == JPEG_LS_FRAME:
        return min(JPEG_LS)
    if not stream.process:
        return min(JPEG_2000)
    return {0xC0: JPEG_BASELINE, 0xC1: JPEG_EXTENDED}.get(stream.process, JPEG_LOSSLESS)
