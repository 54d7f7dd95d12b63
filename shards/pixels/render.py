"""How an X-ray looks: a file -> the square gray picture that is trained on, and the record that explains it.

Nothing else decides it. DICOM goes through its grayscale pipeline (see `grayscale`); PNG and JPEG are taken
at full scale (2**bits - 1). How the field gets into the square: see `fit`.

JPEG 2000 is decoded at a lower level (see `reduced`) only where a window renders every pixel by itself:
without lookup tables, padding or percentiles. And only where the picture from half as many samples would
differ by a mean square of NO_DETAIL at most. On the radiographs, MR and phantoms that were tried, through
windows of many widths, the picture then agreed with that of the full decode to 55 dB and better (to 49 dB
where noise of 3 to 5 % of the window was added).
"""

import io
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from shards.limits import open_plain
from shards.pixels.aspect import pixel_aspect
from shards.pixels.codecs import JPEG_2000, NATIVE, decode_frame, read_frame, stored_bits
from shards.pixels.decode import is_dicom, native_values, read_dicom
from shards.pixels.fit import SQUARE_WITHIN, Field, fitting, to_square
from shards.pixels.grayscale import AUTO, PERCENTILES, Record, dicom_field, only_windowed, window_note
from shards.pixels.raster import decode_raster
from shards.pixels.reduced import Reduced, decode_reduced, levels_for
from shards.pixels.stated import BURNED_IN, REFUSABLE, stated
from shards.pixels.synthetic import dicom_says_synthetic
from shards.quarantine import Code, Quarantined

if TYPE_CHECKING:
    from pydicom import Dataset

PNG_LEVEL = 4  # chest X-rays: as small as at 6, in half the time
NO_DETAIL = 1e-5
VERSION = 4
"""Of the render settings; from 4 on each sample has a record."""


class Rendered(NamedTuple):
    """The field of a file, and what else it says.

    `patient`, `study`: its DICOM PatientID and StudyInstanceUID if any. `synthetic`: whether it says so.
    `aspect`: of a pixel, height over width. `peak`: the largest value of a PNG of 16 bits. `notes`:
    contradictions in its header. `record`: what was chosen for it, without what `picture` adds. `stated`:
    which of `stated.REFUSABLE` its header says.
    """

    field: Field
    patient: str | None
    synthetic: bool
    aspect: float = 1.0
    peak: int | None = None
    notes: tuple[str, ...] = ()
    study: str | None = None
    record: Record = {}  # noqa: RUF012  never changed in place
    stated: tuple[str, ...] = ()


def settings(size: int, bits: int, fit: str = "pad", window: str = AUTO) -> dict[str, int | str]:
    """The render settings as the manifest holds them."""
    return {
        "version": VERSION,
        "size": size,
        "bits": bits,
        "fit": fit,
        "window": window,
        "resize": "float32 box filter (Pillow BOX) when shrinking, bicubic when enlarging; round half up",
        "square": f"{FIT_SAYS[fit]}, pixels that are not square in their shape; stretched when square within "
        f"{SQUARE_WITHIN:.0%}",
        "dicom": f"modality LUT or rescale; {_window_says(window)}; MONOCHROME1 inverted; padding black; "
        "JPEG 2000 at a lower level where the window allows",
        "raster": "full scale of 8 or 16 bits; EXIF orientation applied",
        "png_level": PNG_LEVEL,
    }


FIT_SAYS = {
    "pad": "the whole field, centred on black",
    "crop": "the square in the middle of the field",
    "stretch": "the whole field, out of proportion",
}


def _window_says(window: str) -> str:
    percentiles = f"percentiles {PERCENTILES[0]} to {PERCENTILES[1]}"
    auto = f"first VOI LUT, else first window, else {percentiles}"
    if window == "percentile":
        return percentiles
    return auto if window == AUTO else f"window {window}, else {auto}"


def render_file(path: str, side: int | None = None, fit: str = "pad", window: str = AUTO) -> Rendered:
    """The field of a file and what its header says; `side`, when given: no picture will be larger.

    Raises Quarantined when the file can't be used, and for a broken one whatever its decoder raises.
    """
    with open_plain(path) as file:
        if not is_dicom(file):
            raster = decode_raster(file)
            values = raster.values.astype(np.float32) / np.float32(raster.full_scale)
            peak = int(raster.values.max()) if raster.full_scale == 65535 else None
            record = {
                "source": "raster",
                "bits": raster.full_scale.bit_length(),
                "orientation": raster.orientation,
                "voi": "full scale",
                "inverted": False,
            }
            return Rendered(values, None, raster.synthetic, peak=peak, record=record)
    dataset = read_dicom(path)
    patient, study = (
        str(dataset.get(name) or "").strip() or None for name in ("PatientID", "StudyInstanceUID")
    )
    aspect, disagreement = pixel_aspect(dataset)
    field, record = _render_dicom(dataset, side if aspect == 1 else None, fit, window)
    said = stated(dataset)
    notes = [note for note in (disagreement, _polarity_note(dataset), window_note(dataset, window)) if note]
    notes += [f"{REFUSABLE[name][1]}; --refuse {name} sets them aside" for name in said]
    record = {"source": "dicom", "bits": stored_bits(dataset)[0], **record}
    if BURNED_IN in said:
        record["burned_in"] = True
    synthetic = dicom_says_synthetic(dataset)
    return Rendered(
        field, patient, synthetic, aspect, notes=tuple(notes), study=study, record=record, stated=said
    )


def picture(rendered: Rendered, size: int, bits: int, fit: str = "pad") -> tuple[np.ndarray, Record]:
    """The gray levels [size, size] of a field, and its whole record; raises Quarantined for a single one."""
    field = rendered.field
    levels = to_levels(to_square(field, size, rendered.aspect, fit), bits)
    shape = (field.shape[0], field.shape[1])
    plan = fitting(shape, size, rendered.aspect, fit)
    placed = {
        "shape": list(shape),
        "aspect": float(f"{rendered.aspect:.6g}"),
        "fit": fit,
        "from": [round(edge, 2) for edge in plan.source],
        "to": list(plan.target),
    }
    return levels, rendered.record | placed


def _polarity_note(dataset: "Dataset") -> str | None:
    """A contradiction of PresentationLUTShape and PhotometricInterpretation (PS3.3 C.11.6)."""
    shape = str(dataset.get("PresentationLUTShape") or "").strip().upper()
    photometric = str(dataset.PhotometricInterpretation).strip().upper()
    if {"INVERSE": "MONOCHROME2", "IDENTITY": "MONOCHROME1"}.get(shape) != photometric:
        return None
    return f"PresentationLUTShape {shape} contradicts {photometric}, which is taken"


def _render_dicom(dataset: "Dataset", side: int | None, fit: str, window: str) -> tuple[Field, Record]:
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax in NATIVE:
        return dicom_field(dataset, native_values(dataset), window)
    frame, stream = read_frame(dataset, syntax)
    signed = dataset.get("PixelRepresentation") == 1
    plain = stream.signed == signed and stream.bits <= stored_bits(dataset)[0]  # no overlay above them
    if side and syntax in JPEG_2000 and plain and only_windowed(dataset, window):
        shorter, longer = sorted((stream.height, stream.width))
        for level in levels_for(stream, -(-side * longer // shorter) if fit == "crop" else side):
            reduced = decode_reduced(frame, stream, level)
            if reduced is None:
                break
            field, record = _render_reduced(dataset, reduced, window)
            coarser, _ = _render_reduced(dataset, reduced.coarser(), window)
            change = to_square(field, side, fit=fit) - to_square(coarser, side, fit=fit)
            if np.mean(np.square(change)) <= NO_DETAIL:
                return field, record | {"level": level}
    whole, record = dicom_field(dataset, decode_frame(dataset, syntax, frame, stream), window)
    return whole, record | ({"level": 0} if syntax in JPEG_2000 else {})


def _render_reduced(dataset: "Dataset", reduced: Reduced, window: str) -> tuple[Reduced, Record]:
    samples, record = dicom_field(dataset, reduced.samples, window)
    return replace(reduced, samples=samples), record


def to_levels(square: np.ndarray, bits: int) -> np.ndarray:
    """A square of values in [0, 1] -> gray levels, uint8 or uint16. Raises Quarantined for a single level."""
    levels = np.floor(square.astype(np.float64) * (2**bits - 1) + 0.5).astype(
        np.uint16 if bits == 16 else np.uint8
    )
    if levels.min() == levels.max():
        raise Quarantined(Code.CONSTANT, f"every pixel is {levels.min()} once rendered")
    return levels


def encode_png(levels: np.ndarray) -> bytes:
    """A gray PNG of 8 or 16 bits without metadata; same levels, same bytes."""
    buffer = io.BytesIO()
    Image.fromarray(levels).save(buffer, "PNG", compress_level=PNG_LEVEL)
    return buffer.getvalue()


def decode_png(png: bytes, size: int, bits: int) -> np.ndarray:
    """The gray levels [size, size] of a picture in a shard, uint8 or uint16.

    Raises ValueError that says what is wrong when it does not decode to this many gray pixels of `bits` bits.
    """
    try:
        with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
            found, mode = image.size, image.mode
            right = found == (size, size) and mode == ("I;16" if bits == 16 else "L")
            levels = np.asarray(image) if right else None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"it does not decode: {error}") from None
    if levels is None:
        raise ValueError(
            f"it is {found[0]} x {found[1]} of mode {mode}, not {size} x {size} of {bits} bits gray"
        )
    return levels
