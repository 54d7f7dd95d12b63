"""Which images say that a generative model drew them: no generator is to be trained or measured on those.

Only what a file says of itself is seen: a picture whose header or text was lost passes.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydicom import Dataset

PNG_TITLE = "Synthetic chest X-ray"
"""How the title of a PNG starts that `chexdist generate` wrote."""


def dicom_says_synthetic(dataset: "Dataset") -> bool:
    """Whether Synthetic Data (0008,001C) is YES (DICOM PS3.3 C.12.1)."""
    value = dataset.get("SyntheticData")
    values = [value] if isinstance(value, str) else value or []
    return any(str(text).strip().upper() == "YES" for text in values)


def title_says_synthetic(title: object) -> bool:
    """Whether the title of a PNG (None: it has none) is that of one that `chexdist generate` wrote."""
    return isinstance(title, str) and title.strip().lower().startswith(PNG_TITLE.lower())
