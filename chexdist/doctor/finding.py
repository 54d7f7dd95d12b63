"""What a check says: a finding with its verdict and, for a fault, its cure; and a check that breaks is a
finding too.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from chexdist.errors import UserError, WorkError

T = TypeVar("T")


class Verdict(StrEnum):
    """How a finding is meant; only faults make the exit code 1."""

    OK = "ok"
    WARNING = "warning"
    FAULT = "fault"
    SKIPPED = "not checked"


@dataclass(frozen=True)
class Finding:
    """One line of the answer. `cure` is what to do; empty where nothing is to be done or the text has it."""

    check: str
    verdict: Verdict
    text: str
    cure: str = ""

    def __str__(self) -> str:
        return f"{self.verdict:<11}  {self.check}: {self.text}" + (
            f"; cure: {self.cure}" if self.cure else ""
        )


class Note:
    """Where a check writes its findings, under its name."""

    def __init__(self, check: str, findings: list[Finding]) -> None:
        self._check, self._findings = check, findings

    def ok(self, text: str) -> None:
        self._add(Verdict.OK, text)

    def warning(self, text: str, cure: str) -> None:
        self._add(Verdict.WARNING, text, cure)

    def fault(self, text: str, cure: str = "") -> None:
        self._add(Verdict.FAULT, text, cure)

    def skipped(self, text: str) -> None:
        self._add(Verdict.SKIPPED, text)

    def _add(self, verdict: Verdict, text: str, cure: str = "") -> None:
        self._findings.append(Finding(self._check, verdict, " ".join(text.split()), cure))


class Findings:
    """The findings of one rank, in the order of its checks."""

    def __init__(self) -> None:
        self.found: list[Finding] = []

    def check(self, name: str, work: Callable[[Note], T]) -> T | None:
        """What `work` returns; None after a fault that it raised. `UserError` and `WorkError` say their cure
        themselves.
        """
        note = Note(name, self.found)
        try:
            return work(note)
        except (UserError, WorkError) as error:
            note.fault(str(error))
        except Exception as error:  # noqa: BLE001 - a doctor who faints helps nobody
            note.fault(
                f"the check itself broke: {type(error).__name__}: {error}",
                "if nothing here explains it, report it with this line",
            )
        return None


def amount(size: float) -> str:
    """Bytes for the eye: 1.5 GiB."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            break
        size /= 1024
    return f"{size:,.0f} {unit}" if size >= 100 or unit == "bytes" else f"{size:.1f} {unit}"


def counted(number: int, thing: str) -> str:
    """1 rank, 2 ranks, 1,024 ranks."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def listed(words: list[str]) -> str:
    """At most four of them, and how many more there are."""
    return ", ".join(words[:4]) + (f" and {len(words) - 4} more" if len(words) > 4 else "")
