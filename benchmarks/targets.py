"""`targets`: what chexdist is to reach, beside the newest results that are kept of the other benchmarks."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import record
from benchmarks.encodings import ENCODINGS
from chexdist.errors import UserError

COLUMNS = ("target", "measured", "least to greatest", "reached", "result")
LIMIT = 0.8
"""A training step is as fast as it can be where convolutions, a library's, are so much of it."""
NOTES = (
    "Each row is of the newest result of its benchmark; its median decides, whatever the spread.",
    f"at the limit: convolutions, a library's, are at least {LIMIT:.0%} of the step, by `profile`.",
)

Document = dict[str, Any]
Found = tuple[float, float, float]
"""What was measured: median, least, greatest."""


def _row(document: Document, name: str) -> dict[str, Any]:
    for each in document["rows"]:
        if each["name"] == name:
            return dict(each)
    raise UserError(
        f"the result of {document['benchmark']} of {document['date']} has no row {name}: measure it again"
    )


def _ratio(document: Document, row: str) -> Found:
    """Of a table of ratios."""
    found = _row(document, row)
    return found["ratio"], found["low"], found["high"]


def _efficiency(document: Document, row: str) -> Found:
    """Of `scaling`, images/s of ranks against trainings apart."""
    cells = _row(document, row)["cells"]
    least, greatest = cells[-1].split(" to ")
    return float(cells[-2]), float(least), float(greatest)


def _host(document: Document, row: str) -> Found:
    """Of `profile`, milliseconds of the host; at most is what counts."""
    least, most = (1e3 * document["host"][row][name] for name in ("least", "most"))
    return most, least, most


@dataclass(frozen=True)
class Target:
    """A number of a row of a benchmark, and what it is to be: `least`, or at most.

    native: what it is to be where the machine computes in bf16, and training with it.
    """

    benchmark: str
    row: str
    value: float
    found: Callable[[Document, str], Found] = _ratio
    least: bool = True
    native: float | None = None

    def wanted(self, document: Document) -> float:
        """The target on the machine that was measured."""
        bf16 = str(document["settings"].get("precision", "")).startswith("bf16")
        return self.native if self.native is not None and bf16 else self.value

    def cells(self, document: Document, profile: Document | None) -> list[str]:
        """The cells of its row."""
        median, low, high = self.found(document, self.row)
        wanted = self.wanted(document)
        reached = "yes" if (median >= wanted if self.least else median <= wanted) else "missed"
        share = convolutions(profile, self.row.split(" ")[0]) if self.benchmark == "step" else 0.0
        if reached == "missed" and share >= LIMIT:
            reached = f"at the limit: convolutions {share:.0%}"
        bound = f"{'at least' if self.least else 'at most'} {wanted:g}"
        when = f"{document['date'][:10]}, {document['commit']}"
        return [bound, f"{median:.2f}", f"{low:.2f} to {high:.2f}", reached, when]


TARGETS = (
    *(
        Target("step", f"{name} as shipped / {other}", 1.3, native=2.0)
        for name, other in (
            ("dcgan", "notebook RGB"),
            ("wgan-gp", "notebook RGB"),
            ("residual", "plain, R1 and R2"),
        )
    ),
    Target("stream", "each sample decoded, exact order / WebDataset, shuffle buffer", 1.05),
    Target("stream", "first epoch / notebook, 1024 px PNGs", 20),
    Target("stream", "later epochs, from memory / notebook, 1024 px PNGs", 200),
    *(Target("scaling", f"weak, width {width}, 2 ranks", 0.95, _efficiency) for width in (32, 64)),
    *(Target("profile", name, 0.5, _host, least=False) for name in ("dcgan", "wgan-gp", "residual")),
    *(Target("build", f"{name}: two workers / one", 1.9) for name in ENCODINGS),
    Target("build", "decode RG1 (1955 x 1841) / pydicom, whole", 8),
    Target("build", "decode RG3 (1760 x 1760) / pydicom, whole", 8),
)
TITLES = {"profile": "host time of a step of {}, 64 images, ms"}


def convolutions(profile: Document | None, name: str) -> float:
    """Their share of a step of a configuration; 0 where it was not measured."""
    if profile is None or name not in profile["operators"]:
        return 0.0
    within = sum(each["seconds"] for key, each in profile["operators"][name].items() if "convolution" in key)
    total = _row(profile, "a batch")["cells"][list(profile["phases"]).index(name)]
    return 1e3 * within / float(total.replace(",", ""))


@dataclass(frozen=True)
class Result:
    """The newest documents, by benchmark."""

    documents: dict[str, Document]

    def document(self, about: dict[str, Any]) -> Document:
        """The table, as it is written; `about` says when, where and how. Nothing is timed for it."""
        return {
            "benchmark": "targets",
            **about,
            "busy": False,
            "unit": "beside what was measured",
            "settings": {"targets": len(TARGETS)},
            "columns": list(COLUMNS),
            "rows": list(self._rows()),
            "notes": list(NOTES),
        }

    def _rows(self) -> Iterator[dict[str, Any]]:
        for target in TARGETS:
            title = TITLES.get(target.benchmark, f"{target.benchmark}: {{}}").format(target.row)
            yield {
                "name": title,
                "cells": target.cells(self.documents[target.benchmark], self.documents.get("profile")),
            }


def newest(folder: Path) -> Result:
    """What is kept in `folder`.

    Raises:
        UserError: a benchmark that has a target has no result there.
    """
    documents = {}
    for name in dict.fromkeys(target.benchmark for target in TARGETS):
        files = sorted(folder.glob(f"{name}-*.json"))
        if not files:
            raise UserError(f"{folder} has no result of {name}: python -m benchmarks {name} --out {folder}")
        documents[name] = record.read(files[-1])
    return Result(documents)
