"""How an X-ray looks: stored values -> the square gray picture that is trained on. Nothing else decides it.

DICOM follows the grayscale pipeline of PS3.3 and PS3.4 N.2: padding set apart, modality LUT or rescale
(C.11.1), VOI LUT or window (C.11.2), and MONOCHROME1 inverted last, so that bone is bright in every picture:

- a VOI LUT sequence takes precedence over windows, the first one counts; of several windows the first counts;
- without either, black and white are the 0.5th and 99.5th percentiles of the values that are not padding;
- padding pixels (Pixel Padding Value, and its range limit) are black and do not take part in the percentiles;
- Presentation LUT Shape is not applied: INVERSE goes with MONOCHROME1 (C.11.6), which is inverted already.

JPEG 2000 is decoded at a lower level (see `reduced`) only where a window renders every pixel by itself:
without lookup tables, padding or percentiles. And only where the picture from half as many samples would
differ by a mean square of NO_DETAIL at most. On the radiographs, MR and phantoms that were tried, through
windows of many widths, the picture then agreed with that of the full decode to 55 dB and better (to 49 dB
where noise of 3 to 5 % of the window was added).

pydicom's own functions are not used for this: their lookup tables wrap at the table's depth, and their
windows turn around when the rescale slope is negative. PNG and JPEG are taken at full scale (255 or 65535).

Proportions are anatomy, so the whole field is kept, pixels that are not square are given their shape (see
`aspect`), and it is scaled to fit and centred on black. A field that is square within 1 % is scaled to the
square itself.
"""

import io
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from shards.limits import open_plain
from shards.pixels.aspect import pixel_aspect
from shards.pixels.codecs import JPEG_2000, NATIVE, RLE, decode_frame, read_frame, stored_bits
from shards.pixels.decode import is_dicom, native_values, read_dicom
from shards.pixels.lookup import look_up
from shards.pixels.raster import decode_raster
from shards.pixels.reduced import Reduced, decode_reduced, levels_for
from shards.pixels.synthetic import dicom_says_synthetic
from shards.quarantine import Code, Quarantined

if TYPE_CHECKING:
    from pydicom import Dataset

PNG_LEVEL = 4  # chest X-rays: as small as at 6, in half the time
PERCENTILES = (0.5, 99.5)
SQUARE_WITHIN = 0.01
NO_DETAIL = 1e-5

Field = np.ndarray | Reduced  # a picture [height, width], float32 in [0, 1], bone bright; or samples of it


class Rendered(NamedTuple):
    """The field of a file, and what else it says.

    `patient`, `study`: its DICOM PatientID and StudyInstanceUID if any. `synthetic`: whether it says so.
    `aspect`: of a pixel, height over width. `peak`: the largest value of a PNG of 16 bits. `notes`:
    contradictions in its header.
    """

    field: Field
    patient: str | None
    synthetic: bool
    aspect: float = 1.0
    peak: int | None = None
    notes: tuple[str, ...] = ()
    study: str | None = None


def settings(size: int, bits: int) -> dict[str, int | str]:
    """The render settings as the manifest holds them."""
    return {
        "version": 3,
        "size": size,
        "bits": bits,
        "resize": "float32 box filter (Pillow BOX) when shrinking, bicubic when enlarging; round half up",
        "square": "fit and centre on black, pixels that are not square in their shape; stretched when square "
        f"within {SQUARE_WITHIN:.0%}",
        "dicom": "modality LUT or rescale; first VOI LUT, else first window, else percentiles "
        f"{PERCENTILES[0]} to {PERCENTILES[1]}; MONOCHROME1 inverted; padding black; "
        "JPEG 2000 at a lower level where the window allows",
        "raster": "full scale of 8 or 16 bits; EXIF orientation applied",
        "png_level": PNG_LEVEL,
    }


def render_file(path: str, side: int | None = None) -> Rendered:
    """The field of a file and what its header says; `side`, when given: no picture will be larger.

    Raises Quarantined when the file can't be used, and for a broken one whatever its decoder raises.
    """
    with open_plain(path) as file:
        if not is_dicom(file):
            raster = decode_raster(file)
            values = raster.values.astype(np.float32) / np.float32(raster.full_scale)
            peak = int(raster.values.max()) if raster.full_scale == 65535 else None
            return Rendered(values, None, raster.synthetic, peak=peak)
    dataset = read_dicom(path)
    patient, study = (
        str(dataset.get(name) or "").strip() or None for name in ("PatientID", "StudyInstanceUID")
    )
    aspect, disagreement = pixel_aspect(dataset)
    field = _render_dicom(dataset, side if aspect == 1 else None)
    notes = [note for note in (disagreement, _polarity_note(dataset)) if note]
    synthetic = dicom_says_synthetic(dataset)
    return Rendered(field, patient, synthetic, aspect, notes=tuple(notes), study=study)


def _polarity_note(dataset: "Dataset") -> str | None:
    """A contradiction of PresentationLUTShape and PhotometricInterpretation (PS3.3 C.11.6)."""
    shape = str(dataset.get("PresentationLUTShape") or "").strip().upper()
    photometric = str(dataset.PhotometricInterpretation).strip().upper()
    if {"INVERSE": "MONOCHROME2", "IDENTITY": "MONOCHROME1"}.get(shape) != photometric:
        return None
    return f"PresentationLUTShape {shape} contradicts {photometric}, which is taken"


def _render_dicom(dataset: "Dataset", side: int | None) -> Field:
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax in NATIVE or syntax == RLE:
        return dicom_field(dataset, native_values(dataset))
    frame, stream = read_frame(dataset, syntax)
    signed = dataset.get("PixelRepresentation") == 1
    plain = stream.signed == signed and stream.bits <= stored_bits(dataset)[0]  # no overlay above them
    if side and syntax in JPEG_2000 and plain and _only_windowed(dataset):
        for level in levels_for(stream, side):
            reduced = decode_reduced(frame, stream, level)
            if reduced is None:
                break
            field = _render_reduced(dataset, reduced)
            change = to_square(field, side) - to_square(_render_reduced(dataset, reduced.coarser()), side)
            if np.mean(np.square(change)) <= NO_DETAIL:
                return field
    return dicom_field(dataset, decode_frame(dataset, syntax, frame, stream))


def _render_reduced(dataset: "Dataset", reduced: Reduced) -> Reduced:
    return replace(reduced, samples=dicom_field(dataset, reduced.samples))


def _only_windowed(dataset: "Dataset") -> bool:
    """Whether a window alone makes the picture of each pixel by itself."""
    others = ("VOILUTSequence", "ModalityLUTSequence", "PixelPaddingValue")
    if any(dataset.get(name) is not None for name in others):
        return False
    center, width = _first(dataset, "WindowCenter"), _first(dataset, "WindowWidth")
    return center is not None and width is not None and width > 0


def dicom_field(dataset: "Dataset", stored: np.ndarray) -> np.ndarray:
    """Stored values [rows, columns] -> float32 in [0, 1], bone bright. Raises as `render_file` does."""
    padding = _padding(dataset, stored)
    values = _modality(dataset, stored)
    if not np.isfinite(values).all():
        raise Quarantined(Code.NOT_FINITE, "NaN or infinite values after rescaling")
    field = _voi(dataset, values, ~padding)
    if str(dataset.PhotometricInterpretation).strip().upper() == "MONOCHROME1":
        field = 1 - field
    field[padding] = 0
    return field.astype(np.float32, copy=False)


def to_square(field: Field, size: int, aspect: float = 1.0) -> np.ndarray:
    """The whole field, proportions kept, centred on black: float32 [size, size] in [0, 1].

    `aspect`: of a pixel of the field, height over width.
    """
    height, width = field.shape[0] * aspect, field.shape[1]
    longer = max(height, width)
    if abs(height - width) <= SQUARE_WITHIN * longer:
        return resize(field, size, size)
    rows, columns = (max(1, round(size * side / longer)) for side in (height, width))
    square = np.zeros((size, size), np.float32)
    top, left = (size - rows) // 2, (size - columns) // 2
    square[top : top + rows, left : left + columns] = resize(field, rows, columns)
    return square


def resize(field: Field, rows: int, columns: int) -> np.ndarray:
    """Box filter when shrinking (area average at whole factors), else bicubic; float32 in [0, 1]."""
    if isinstance(field, Reduced):
        return field.resize(rows, columns).clip(0, 1)
    shrinks = rows <= field.shape[0] and columns <= field.shape[1]
    kernel = Image.Resampling.BOX if shrinks else Image.Resampling.BICUBIC
    image = Image.fromarray(np.ascontiguousarray(field, dtype=np.float32))
    return np.asarray(image.resize((columns, rows), kernel)).clip(0, 1)


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


def _padding(dataset: "Dataset", stored: np.ndarray) -> np.ndarray:
    """Where the pixels are padding (PS3.3 C.7.5.1.1.2): a bool array like `stored`."""
    first = dataset.get("PixelPaddingValue")
    if first is None:
        return np.zeros(stored.shape, bool)
    last = dataset.get("PixelPaddingRangeLimit")
    ends = [_as_stored(dataset, int(end)) for end in (first, first if last is None else last)]
    return (stored >= min(ends)) & (stored <= max(ends))


def _as_stored(dataset: "Dataset", value: int) -> int:
    """A padding value that was written as unsigned in an image of signed values."""
    bits = int(dataset.BitsAllocated)
    return value - 2**bits if dataset.get("PixelRepresentation") == 1 and value >= 2 ** (bits - 1) else value


def _modality(dataset: "Dataset", stored: np.ndarray) -> np.ndarray:
    """Modality LUT or rescale (PS3.3 C.11.1)."""
    if dataset.get("ModalityLUTSequence"):
        return look_up(stored, dataset.ModalityLUTSequence[0], dataset)[0]
    slope, intercept = _first(dataset, "RescaleSlope"), _first(dataset, "RescaleIntercept")
    if slope is None or intercept is None:
        return stored
    return stored.astype(np.float32) * np.float32(slope) + np.float32(intercept)


def _voi(dataset: "Dataset", values: np.ndarray, used: np.ndarray) -> np.ndarray:
    """VOI LUT, window, or percentiles of the pixels in `used`: values -> [0, 1] (PS3.3 C.11.2)."""
    if dataset.get("VOILUTSequence") and "LUTData" in dataset.VOILUTSequence[0]:
        looked_up, bits = look_up(values, dataset.VOILUTSequence[0], dataset)
        return looked_up.astype(np.float32) / np.float32(2**bits - 1)
    center, width = _first(dataset, "WindowCenter"), _first(dataset, "WindowWidth")
    if center is not None and width is not None and width > 0:
        return window(values, center, width, str(dataset.get("VOILUTFunction") or "LINEAR").strip().upper())
    if not used.any():
        raise Quarantined(Code.CONSTANT, "every pixel is padding")
    black, white = np.percentile(values[used], PERCENTILES)
    if black >= white:
        raise Quarantined(Code.CONSTANT, "without a window, and nearly every pixel has the same value")
    return ((values - np.float32(black)) / np.float32(white - black)).clip(0, 1)


def window(values: np.ndarray, center: float, width: float, function: str = "LINEAR") -> np.ndarray:
    """The VOI window functions of PS3.3 C.11.2.1.2 and C.11.2.1.3 with the output range [0, 1]; width > 0."""
    values = values.astype(np.float32)
    if function == "SIGMOID":
        return 1 / (1 + np.exp(np.clip(-4 * (values - np.float32(center)) / np.float32(width), -80, 80)))
    if function == "LINEAR" and width >= 1:
        center, width = center - 0.5, width - 1
    elif function not in ("LINEAR", "LINEAR_EXACT"):
        raise Quarantined(Code.UNSUPPORTED_PIXELS, f"VOI LUT function {function[:40]!r}")
    if width <= 0:  # LINEAR with a width of 1 is a threshold; less is not allowed, and read as LINEAR_EXACT
        return (values > center).astype(np.float32)
    return ((values - np.float32(center)) / np.float32(width) + np.float32(0.5)).clip(0, 1)


def _first(dataset: "Dataset", name: str) -> float | None:
    """The first of the element's numbers; None when it is absent or empty."""
    value = dataset.get(name)
    if value is None or value == "":
        return None
    number = float(value if isinstance(value, int | float | str) else value[0])
    if not np.isfinite(number):
        raise Quarantined(Code.NOT_FINITE, f"{name} is {number}")
    return number
