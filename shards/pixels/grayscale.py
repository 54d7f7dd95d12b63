"""DICOM's grayscale pipeline: stored values -> gray in [0, 1], and the record of what was chosen on the way.

PS3.3 and PS3.4 N.2: padding set apart, modality LUT or rescale (C.11.1), VOI LUT or window (C.11.2), and
MONOCHROME1 inverted last, so that bone is bright in every picture:

- `auto`: a VOI LUT sequence takes precedence over windows, the first one counts, and the first window;
- `first`, or a number from 1: that window, whatever LUT there is; as `auto`, with a note, where it is
  missing;
- without either, and by `percentile`, black and white are the 0.5th and 99.5th percentiles of the values that
  are not padding;
- padding pixels (Pixel Padding Value, and its range limit) are black and do not take part in the percentiles;
- Presentation LUT Shape is not applied: INVERSE goes with MONOCHROME1 (C.11.6), which is inverted already.

pydicom's own functions are not used for this: their lookup tables wrap at the table's depth, and their
windows turn around when the rescale slope is negative.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from shards.pixels.lookup import look_up
from shards.quarantine import Code, Quarantined

if TYPE_CHECKING:
    from pydicom import Dataset

PERCENTILES = (0.5, 99.5)
AUTO, FIRST, PERCENTILE = "auto", "first", "percentile"
EACH_PIXEL_NEEDS_MORE = ("ModalityLUTSequence", "PixelPaddingValue")

Record = dict[str, Any]
"""What was chosen for a picture, as the `render` of its JSON: see `record.schema.json`."""


class Window(NamedTuple):
    """One of `of` windows, the `number`th from 1; `width` is above 0."""

    center: float
    width: float
    number: int
    of: int


def dicom_field(dataset: "Dataset", stored: np.ndarray, rule: str = AUTO) -> tuple[np.ndarray, Record]:
    """Stored values [rows, columns] -> float32 in [0, 1], bone bright, and the record.

    Raises Quarantined, and for a broken header nearly anything.
    """
    padding = _padding(dataset, stored)
    values, record = _modality(dataset, stored)
    if not np.isfinite(values).all():
        raise Quarantined(Code.NOT_FINITE, "NaN or infinite values after rescaling")
    field, chosen = _voi(dataset, values, ~padding, rule)
    inverted = str(dataset.PhotometricInterpretation).strip().upper() == "MONOCHROME1"
    if inverted:
        field = 1 - field
    field[padding] = 0
    record |= chosen | {"inverted": inverted, "padding": int(np.count_nonzero(padding))}
    return field.astype(np.float32, copy=False), record


def only_windowed(dataset: "Dataset", rule: str = AUTO) -> bool:
    """Whether a window alone makes the picture of each pixel by itself."""
    if rule == PERCENTILE or any(dataset.get(name) is not None for name in EACH_PIXEL_NEEDS_MORE):
        return False
    if chosen_window(dataset, rule):
        return True
    return dataset.get("VOILUTSequence") is None and _window(dataset, 1) is not None


def chosen_window(dataset: "Dataset", rule: str) -> Window | None:
    """The window that `first` or a number names; None where that rule names none, or the file has none."""
    if rule in (AUTO, PERCENTILE):
        return None
    return _window(dataset, 1 if rule == FIRST else int(rule))


def window_note(dataset: "Dataset", rule: str) -> str | None:
    """What to say of a file that lacks the window that was asked for."""
    if rule in (AUTO, PERCENTILE) or chosen_window(dataset, rule):
        return None
    return f"no window for --window {rule}: rendered as by auto"


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


def _modality(dataset: "Dataset", stored: np.ndarray) -> tuple[np.ndarray, Record]:
    """Modality LUT or rescale (PS3.3 C.11.1)."""
    if dataset.get("ModalityLUTSequence"):
        return look_up(stored, dataset.ModalityLUTSequence[0], dataset)[0], {"modality": "lut"}
    slope, intercept = number_at(dataset, "RescaleSlope"), number_at(dataset, "RescaleIntercept")
    if slope is None or intercept is None:
        return stored, {"modality": "none"}
    values = stored.astype(np.float32) * np.float32(slope) + np.float32(intercept)
    return values, {"modality": "rescale", "slope": _short(slope), "intercept": _short(intercept)}


def _voi(dataset: "Dataset", values: np.ndarray, used: np.ndarray, rule: str) -> tuple[np.ndarray, Record]:
    """VOI LUT, window, or percentiles of the pixels in `used`: values -> [0, 1] (PS3.3 C.11.2)."""
    window = chosen_window(dataset, rule)
    tables = dataset.get("VOILUTSequence")
    if not window and rule != PERCENTILE:
        if tables and "LUTData" in tables[0]:
            looked_up, bits = look_up(values, tables[0], dataset)
            field = looked_up.astype(np.float32) / np.float32(2**bits - 1)
            return field, {"voi": "lut", "number": 1, "of": len(tables), "table_bits": bits}
        window = _window(dataset, 1)
    if window:
        function = str(dataset.get("VOILUTFunction") or "LINEAR").strip().upper()
        return apply_window(values, window.center, window.width, function), {
            "voi": "window",
            "center": _short(window.center),
            "width": _short(window.width),
            "function": function,
            "number": window.number,
            "of": window.of,
        }
    if not used.any():
        raise Quarantined(Code.CONSTANT, "every pixel is padding")
    black, white = np.percentile(values[used], PERCENTILES)
    if black >= white:
        raise Quarantined(Code.CONSTANT, "without a window, and nearly every pixel has the same value")
    field = ((values - np.float32(black)) / np.float32(white - black)).clip(0, 1)
    return field, {"voi": "percentiles", "black": _short(black), "white": _short(white)}


def _window(dataset: "Dataset", number: int) -> Window | None:
    """The `number`th window from 1; None when the file has no such, or its width is not above 0."""
    center = number_at(dataset, "WindowCenter", number - 1)
    width = number_at(dataset, "WindowWidth", number - 1)
    if center is None or width is None or width <= 0:
        return None
    of = min(_length(dataset.WindowCenter), _length(dataset.WindowWidth))
    return Window(center, width, number, of)


def apply_window(values: np.ndarray, center: float, width: float, function: str = "LINEAR") -> np.ndarray:
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


def _length(value: Any) -> int:
    return 1 if isinstance(value, int | float | str) else len(value)


def number_at(dataset: "Dataset", name: str, index: int = 0) -> float | None:
    """One of the element's numbers; None when the element is absent or has none there."""
    value = dataset.get(name)
    if value is None or value == "" or index >= _length(value):
        return None
    number = float(value if isinstance(value, int | float | str) else value[index])
    if not np.isfinite(number):
        raise Quarantined(Code.NOT_FINITE, f"{name} is {number}")
    return number


def _short(number: float) -> float:
    """Six digits: the record is for people, and the same on every machine."""
    return float(f"{number:.6g}")
