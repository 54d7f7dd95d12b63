"""Each line of docs/faults.md names a test that exists."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROWS = [line for line in (ROOT / "docs/faults.md").read_text().splitlines() if line.startswith("| ")][1:]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip())
def test_the_test_of_each_fault_exists(row: str) -> None:
    assert row.count("|") == 6
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", row.split("|")[5])
    assert named
    for file, test in named:
        source = (ROOT / "tests" / file).read_text()
        assert re.search(rf"^def {test}\(", source, re.MULTILINE), f"{file} has no {test}"
