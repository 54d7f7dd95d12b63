"""Mutated DICOM, PNG, JPEG, label files and tars: what the product and strict decoders make of them.

`run` is the main program of a child process: `python -m helpers.mutated_inputs FOLDER SEED FIRST LAST` prints
a line of JSON for each mutant. Its address space is capped by the parent.
"""

import io
import json
import random
import shutil
import sys
import time
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import simplejpeg
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import UID

from helpers import strict_decoders
from helpers.xray_files import class_folders, dicom, dicom_bytes, smooth
from shards import manifest
from shards.__main__ import main
from shards.checking.verify import verify
from shards.errors import UserError, WorkError
from shards.labels import LabelOptions, read_labels
from shards.labels.matching import list_with_labels
from shards.pixels.render import picture, render_file
from shards.quarantine import Entry
from shards.scan import ScanOptions, scan_one
from shards.sources.listing import Source

SIDE = 64
OPTIONS = ("--size", "8", "--workers", "1", "--patient-pattern", "^(....)", "--split", "train=1")
BUILT = 30  # of so many mutants one, a label file, goes through a whole build
KINDS = ("dicom", "dicom", "png", "jpeg", "csv", "tar")
NATIVE = {"explicit": "1.2.840.10008.1.2.1", "implicit": "1.2.840.10008.1.2"}
BASELINE, LOSSLESS, JPEG_2000 = (f"1.2.840.10008.1.2.4.{number}" for number in (50, 70, 90))
JPEG_LS = ("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81")
RLE = "1.2.840.10008.1.2.5"
CODED: dict[str, Callable[[np.ndarray], bytes]] = {
    "1.2.840.10008.1.2.4.70": lambda x: imagecodecs.jpeg8_encode(x, lossless=True, bitspersample=12),
    "1.2.840.10008.1.2.4.57": lambda x: imagecodecs.jpeg8_encode(
        x, lossless=True, bitspersample=12, predictor=6
    ),
    "1.2.840.10008.1.2.4.80": lambda x: imagecodecs.jpegls_encode(x),
    "1.2.840.10008.1.2.4.81": lambda x: imagecodecs.jpegls_encode(x // 2, level=2),
    "1.2.840.10008.1.2.5": strict_decoders.encode_rle,
    "1.2.840.10008.1.2.4.90": lambda x: imagecodecs.jpeg2k_encode(
        x, level=0, reversible=True, codecformat="j2k", bitspersample=12
    ),
    "1.2.840.10008.1.2.4.50": lambda x: simplejpeg.encode_jpeg(
        np.ascontiguousarray((x >> 4).astype(np.uint8)[..., None]), 90, "GRAY"
    ),
}
FIELD = (smooth(4, SIDE, SIDE) * 4095).astype(np.uint16)


def originals() -> dict[str, list[bytes]]:
    """The files that are mutated, by kind."""
    files: dict[str, list[bytes]] = {"dicom": [], "png": [], "jpeg": []}
    for syntax in NATIVE.values():
        dataset = dicom(FIELD, 12, WindowCenter=2000, WindowWidth=3900)
        dataset.file_meta.TransferSyntaxUID = UID(syntax)
        files["dicom"].append(dicom_bytes(dataset))
    for syntax, encode in CODED.items():
        small = syntax.endswith(".50")
        stored = (FIELD >> 4).astype(np.uint8) if small else FIELD
        dataset = dicom(
            stored,
            8 if small else 12,
            WindowCenter=125 if small else 2000,
            WindowWidth=240 if small else 3900,
        )
        dataset.file_meta.TransferSyntaxUID = UID(syntax)
        dataset.PixelData = encapsulate([encode(FIELD)])
        dataset["PixelData"].is_undefined_length = True
        files["dicom"].append(dicom_bytes(dataset))
    notes = PngInfo()
    notes.add_text("Comment", "a chunk in which changes leave the picture as it is " * 20)
    for values in ((FIELD >> 4).astype(np.uint8), FIELD * 16):
        for level in (1, 9):
            buffer = io.BytesIO()
            Image.fromarray(values).save(buffer, "PNG", compress_level=level, pnginfo=notes)
            files["png"].append(buffer.getvalue())
    for options in (
        {"quality": 90},
        {"quality": 60, "progressive": True},
        {"quality": 80, "restart_marker_rows": 1},
    ):
        buffer = io.BytesIO()
        Image.fromarray((FIELD >> 4).astype(np.uint8)).save(buffer, "JPEG", **options)
        files["jpeg"].append(buffer.getvalue())
    return files


def mutate(data: bytes, rng: random.Random) -> bytes:
    """One to three changes: bits, bytes, stretches, lengths; half of them near the start."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 3))):
        if not changed:
            break
        end = len(changed) if rng.random() < 0.5 else min(len(changed), 1200)
        at = rng.randrange(end)
        kind = rng.randrange(7)
        if kind == 0:
            changed[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            changed[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        elif kind == 2:
            del changed[at : at + rng.randrange(1, 60)]
        elif kind == 3:
            changed[at:at] = rng.randbytes(rng.randrange(1, 30))
        elif kind == 4:
            changed[at : at + 4] = rng.choice((b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff", rng.randbytes(4)))
        elif kind == 5:
            del changed[rng.randrange(len(changed)) :]
        else:
            start = rng.randrange(len(changed))
            changed[at:at] = changed[start : start + rng.randrange(1, 200)]
    return bytes(changed)


def repaired(data: bytes) -> bytes:
    """A PNG whose chunks have the checksums of what is in them, as a program with a fault writes it."""
    fixed, position = bytearray(data), 8
    while position + 12 <= len(fixed):
        end = position + 8 + int.from_bytes(fixed[position : position + 4], "big")
        fixed[end : end + 4] = zlib.crc32(fixed[position + 4 : end]).to_bytes(4, "big")[: len(fixed) - end]
        position = end + 4
    return bytes(fixed)


def strict_picture(path: Path, kind: str) -> np.ndarray | None:
    """The picture in [0, 1] of a decoder that accepts the file without a warning; None where none does."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            if kind == "png":
                return _checked_png(path.read_bytes())
            if kind == "jpeg":
                data = path.read_bytes()
                return simplejpeg.decode_jpeg(data, "GRAY", strict=True)[..., 0] / 255
            return _dicom(path)
        except Exception:  # noqa: BLE001  any refusal is one
            return None


def _checked_png(data: bytes) -> np.ndarray:
    """libpng's pixels, where all checksums are right: it only warns of some."""
    position, compressed = 8, b""
    while position + 12 <= len(data):
        end = position + 8 + int.from_bytes(data[position : position + 4], "big")
        chunk = data[position + 4 : end]
        if zlib.crc32(chunk).to_bytes(4, "big") != data[end : end + 4]:
            raise ValueError("CRC")
        position = end + 4
        if chunk[:4] == b"IHDR" and any(chunk[14:16]):
            raise ValueError("method")
        compressed += chunk[4:] if chunk[:4] == b"IDAT" else b""
        if chunk[:4] == b"IEND":
            break
    unpacker = zlib.decompressobj()
    unpacker.decompress(compressed)
    if not unpacker.eof or unpacker.unused_data:
        raise ValueError("IDAT")
    values = imagecodecs.png_decode(data)
    full = 2 ** (8 * values.dtype.itemsize) - 1
    return (values if values.ndim == 2 else values[..., 0]) / full


def _dicom(path: Path) -> np.ndarray:
    """pydicom's pixels, and the window by the formula of PS3.3 C.11.2.1.2."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the header; those of pixels count
        dataset = dcmread(path, force=True)
    if "TransferSyntaxUID" not in dataset.file_meta:
        dataset.file_meta.TransferSyntaxUID = UID(_syntax_of(dataset))
    values = _stored_values(dataset).astype(float) * float(dataset.get("RescaleSlope", 1) or 1) + float(
        dataset.get("RescaleIntercept", 0) or 0
    )
    if "WindowCenter" in dataset and "WindowWidth" in dataset:
        center, width = (
            float(np.atleast_1d(dataset[name].value)[0]) for name in ("WindowCenter", "WindowWidth")
        )
        field = ((values - (center - 0.5)) / max(width - 1, 1e-9) + 0.5).clip(0, 1)
    else:
        black, white = np.percentile(values, [0.5, 99.5])
        field = ((values - black) / (white - black)).clip(0, 1)
    return 1 - field if dataset.PhotometricInterpretation == "MONOCHROME1" else field


def _stored_values(dataset: Dataset) -> np.ndarray:
    """By a decoder that is not the product's, where there is one; only the bits that are stored."""
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax == JPEG_2000:  # bits are allocated in multiples of 8, whatever the header says of a coded frame
        dataset.BitsAllocated += -dataset.BitsAllocated % 8
    if syntax not in CODED or syntax == JPEG_2000:
        return dataset.pixel_array
    frame = next(iter(generate_frames(dataset.PixelData, number_of_frames=1)))
    if syntax == RLE:
        values = strict_decoders.rle(frame, dataset.Rows, dataset.Columns, dataset.BitsAllocated // 8)
    elif syntax == BASELINE:
        values = simplejpeg.decode_jpeg(frame, "GRAY", strict=True)[..., 0]
    else:
        decode = strict_decoders.jpeg_ls if syntax in JPEG_LS else strict_decoders.lossless_jpeg
        values = decode(frame)
    bits = dataset.BitsStored
    values = values.astype(np.int64) & (2**bits - 1)
    return values - ((values >> (bits - 1) << bits) if dataset.PixelRepresentation else 0)


def _syntax_of(dataset: Dataset) -> str:
    """By the frame's first markers."""
    if not dataset["PixelData"].is_undefined_length:
        return NATIVE["implicit" if dataset.original_encoding[0] else "explicit"]
    frame = next(iter(generate_frames(dataset.PixelData, number_of_frames=1)))
    if frame.startswith(b"\xff\x4f"):
        return JPEG_2000
    if b"\xff\xf7" in frame[:100]:
        return JPEG_LS[0]
    return LOSSLESS if b"\xff\xc3" in frame[:700] else BASELINE


def picture_outcome(path: Path, kind: str, spool: Path) -> dict[str, Any]:
    """What the scan says; for an accepted file how far it is from the strict decoder, in levels of 255."""
    result = scan_one(Source(0, path.name, str(path), "a"), spool, ScanOptions(SIDE, 8))
    if isinstance(result, Entry):
        return {"code": str(result.code)}
    rendered = render_file(str(path), SIDE)
    levels, _ = picture(rendered, SIDE, 8)
    strict = strict_picture(path, kind)
    if strict is None:
        return {"accepted": True, "strict": False}
    if strict.shape != tuple(rendered.field.shape):
        return {"accepted": True, "strict": True, "off": 255.0}
    away = np.abs(np.asarray(rendered.field) - strict).max() if strict.shape != levels.shape else None
    off = away * 255 if away is not None else np.abs(levels.astype(float) - strict * 255).max()
    return {"accepted": True, "strict": True, "off": round(float(off), 2)}


def label_outcome(path: Path, source: Path) -> dict[str, Any]:
    """What reading a label file gives."""
    try:
        labels = read_labels(path, LabelOptions())
        listing = list_with_labels([source], labels)
    except (UserError, WorkError) as error:
        return {"code": "refused", "said": str(error)[:80]}
    return {"accepted": True, "images": len(listing.images)}


def build_outcome(source: Path, out: Path, *more: str) -> dict[str, Any]:
    """The exit code of a whole build; which files it leaves is for the parent to look at."""
    return {"exit": main(["build", str(source), "--out", str(out), *OPTIONS, *more])}


def tar_outcome(folder: Path, file: str, data: bytes) -> dict[str, Any]:
    """Whether `verify` finds that a shard or the manifest was changed."""
    right = (folder / file).read_bytes()
    (folder / file).write_bytes(data)
    try:
        code = verify(folder)
    except (UserError, WorkError):
        code = 1
    finally:
        (folder / file).write_bytes(right)
    return {"code": "found"} if code or data == right else {"missed": True}


def run(folder: Path, seed: int, first: int, last: int) -> None:
    """Make and try the mutants from `first` to before `last`; the same for the same seed."""
    warnings.simplefilter("ignore")
    files = originals()
    source = class_folders(folder / "in", 3)
    rows = [
        f"{path.relative_to(source)},{path.parent.name},{path.name[:4]}"
        for path in sorted(source.rglob("*.png"))
    ]
    table = "\n".join(["path,label,patient", *rows]).encode()
    sys.stdout, kept = io.StringIO(), sys.stdout
    assert main(["build", str(source), "--out", str(folder / "out"), *OPTIONS]) == 0
    (folder / "spool").mkdir()
    (folder / "mutants").mkdir()
    for number in range(first, last):
        rng = random.Random(f"{seed} {number}")
        kind = KINDS[number % len(KINDS)]
        started = time.monotonic()
        if kind == "tar":
            name = rng.choice(("train-000000.tar", manifest.FILE))
            outcome = tar_outcome(folder / "out", name, mutate((folder / "out" / name).read_bytes(), rng))
        elif kind == "csv":
            (folder / "labels.csv").write_bytes(mutate(table, rng))
            outcome = label_outcome(folder / "labels.csv", source)
            if number % BUILT == 4:
                words = ("--labels", str(folder / "labels.csv"), "--allow-missing", "all")
                outcome |= build_outcome(source, folder / "built" / str(number), *words)
        else:
            which = rng.randrange(len(files[kind]))
            path = folder / f"mutant.{kind}"
            changed = mutate(files[kind][which], rng)
            path.write_bytes(repaired(changed) if kind == "png" and rng.random() < 0.5 else changed)
            outcome = picture_outcome(path, kind, folder / "spool") | {"of": which}
            shutil.copyfile(path, folder / "mutants" / f"{number:04d}.{kind}")
        outcome |= {"number": number, "kind": kind, "seconds": round(time.monotonic() - started, 2)}
        print(json.dumps(outcome), file=kept, flush=True)
    outcome = build_outcome(folder / "mutants", folder / "built/all")
    print(json.dumps(outcome), file=kept, flush=True)


if __name__ == "__main__":
    run(Path(sys.argv[1]), *map(int, sys.argv[2:5]))
