"""How wide a text of a chart is at most, since nobody measures it when the page is made."""

from unicodedata import east_asian_width

WIDE_LETTERS, NARROW_LETTERS = frozenset("mwMW@%…—"), frozenset("fijlrtI.,:;-'|!()[] ")
EM = {"narrow": 0.4, "usual": 0.57, "upper": 0.74, "wide": 1.0}
"""Widths of letters, as shares of the type's size, in the widest of the usual faces."""


def text_width(text: str, size: float) -> float:
    """Pixels at most, for type of this size."""
    return size * sum(_letter(each) for each in text)


def _letter(letter: str) -> float:
    if letter in WIDE_LETTERS or east_asian_width(letter) in "WFA" or ord(letter) > 0xFFFF:
        return EM["wide"]
    if letter in NARROW_LETTERS:
        return EM["narrow"]
    return EM["upper"] if letter.isupper() else EM["usual"]


def shortened(text: str, size: float, most: float) -> str:
    """The text where it is no wider than `most` pixels, else its beginning and its end: names of runs often
    differ in their last letters.
    """
    if text_width(text, size) <= most:
        return text
    for letters in range(len(text) - 1, 1, -1):
        head = letters - letters // 2
        cut = f"{text[:head].rstrip()}…{text[len(text) - letters // 2 :].lstrip()}"
        if text_width(cut, size) <= most:
            return cut
    return "…"


def apart(positions: list[float], texts: list[str], size: float, gap: float = 6.0) -> list[bool]:
    """Of centred texts in a row, from the left, those that can be written without running into one before."""
    shown, end = [], float("-inf")
    for position, text in zip(positions, texts, strict=True):
        half = text_width(text, size) / 2
        fits = position - half >= end + gap
        shown.append(fits)
        end = position + half if fits else end
    return shown
