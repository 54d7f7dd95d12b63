"""The README shows what the commands that it names print, and links to what is there."""

import re
from pathlib import Path

import pytest

from benchmarks.__main__ import BENCHMARKS
from benchmarks.__main__ import main as benchmarks
from chexdist.__main__ import main

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def sections(name: str) -> list[str]:
    """What stands between `<!-- name -->` and `<!-- end -->`, cut before each bold heading."""
    found = re.search(rf"<!-- {name} -->\n(.*?)<!-- end -->", README, re.DOTALL)
    assert found, f"README.md has no place for {name}"
    parts = re.split(r"(?m)^(?=\*\*)", found[1].strip())
    return [part.strip() for part in parts if part.strip()]


def test_results_are_the_report_of_the_runs(tmp_path: Path) -> None:
    runs = sorted(str(path) for path in (ROOT / "docs/nih64").iterdir())
    assert main(["report", *runs, "--out", str(tmp_path / "report.md")]) == 0
    report, shown = (tmp_path / "report.md").read_text(), sections("results")
    assert len(runs) == 4 and len(shown) == 2
    for section in shown:
        assert section + "\n" in report


def test_measurements_are_what_was_measured(capsys: pytest.CaptureFixture[str]) -> None:
    shown = re.findall(r"<!-- (benchmarks/results/(\w+)-\S+) -->\n(.*?)<!-- end -->", README, re.DOTALL)
    assert {name for _, name, _ in shown} == set(BENCHMARKS)
    for file, _, text in shown:
        assert benchmarks(["--markdown", str(ROOT / file)]) == 0
        assert capsys.readouterr().out.strip() == text.strip()


def test_links_lead_somewhere() -> None:
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", README)]
    assert len(links) > 20
    for link in links:
        assert not link or link.startswith("https://") or (ROOT / link).exists(), link
