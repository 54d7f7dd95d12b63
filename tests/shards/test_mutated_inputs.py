"""Mutated inputs in capped child processes: no crash, no hang, no stray file, no silently wrong picture."""

import json
import os
import re
import resource
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

ADDRESS_SPACE = 2**30
SECONDS_EACH = 10
TOLERANCE = 2.0  # grey levels of 255
SEED = 20
BUILT = re.compile(
    r"(\d+|all)(\.key|\.quarantine\.csv|\.missing\.csv|/manifest\.json|/train-000000\.tar|\.work/.*)"
)
"""The files that whole builds may leave."""


def outcomes(folder: Path, first: int, last: int) -> list[dict[str, Any]]:
    """What a child process says of the mutants; all its files are in `folder`."""
    folder.mkdir()
    (folder / "elsewhere").mkdir()
    tests = Path(__file__).parents[1]
    environment = {
        **os.environ,
        "PYTHONPATH": f"{tests.parent}:{tests}",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    child = subprocess.run(
        [sys.executable, "-m", "helpers.mutated_inputs", folder, str(SEED), str(first), str(last)],
        check=False,
        capture_output=True,
        text=True,
        cwd=folder / "elsewhere",
        env=environment,
        timeout=60 + SECONDS_EACH * (last - first),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE)),
    )
    found = [json.loads(line) for line in child.stdout.splitlines()]
    assert child.returncode == 0, f"after mutant {found[-1:]}: {child.stderr[-2000:]}"
    assert "Traceback" not in child.stderr, child.stderr[-2000:]
    assert found.pop() in ({"exit": 0}, {"exit": 1}), child.stderr[-2000:]  # the build of all pictures
    assert [item["number"] for item in found] == list(range(first, last))
    assert not list((folder / "elsewhere").iterdir())
    expected = {"in", "out", "out.key", "out.quarantine.csv", "spool", "elsewhere", "labels.csv"}
    expected |= {"mutants", "built"}
    assert {path.name for path in folder.iterdir() if not path.name.startswith("mutant.")} == expected
    assert {path.name for path in (folder / "out").iterdir()} == {"manifest.json", "train-000000.tar"}
    assert (folder / "built/all/manifest.json").is_file()
    left = {
        str(path.relative_to(folder / "built")) for path in (folder / "built").rglob("*") if path.is_file()
    }
    assert not [name for name in left if not BUILT.fullmatch(name)]
    return found


def wrong(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mutants that took too long, whose damage was missed, or that were accepted though a strict decoder
    refuses them or has other pixels; there are accepted and refused ones.
    """
    assert any(item.get("accepted") for item in found) and any("code" in item for item in found)
    late = [item for item in found if item["seconds"] >= SECONDS_EACH or item.get("missed")]
    accepted = [item for item in found if item.get("accepted") and "strict" in item]
    return late + [item for item in accepted if not item["strict"] or item["off"] > TOLERANCE]


def test_sixty_mutants(tmp_path: Path) -> None:
    assert wrong(outcomes(tmp_path / "child", 0, 60)) == []


@pytest.mark.slow
def test_two_thousand_mutants(tmp_path: Path) -> None:
    found = [
        item for first in range(0, 2000, 250) for item in outcomes(tmp_path / f"{first}", first, first + 250)
    ]
    for line in summary(found):
        print(line)
    assert wrong(found)[:20] == []


def summary(found: list[dict[str, Any]]) -> list[str]:
    """For each kind: how many were accepted, how far off at most, and how many refused by which code."""
    lines = []
    for kind in sorted({item["kind"] for item in found}):
        of_kind = [item for item in found if item["kind"] == kind]
        accepted = [item for item in of_kind if item.get("accepted")]
        codes = Counter(item["code"] for item in of_kind if "code" in item)
        worst = max((item["off"] for item in accepted if "off" in item), default=None)
        lines.append(
            f"{kind}: {len(of_kind)}, accepted {len(accepted)}, off by {worst} at most, {dict(codes)}"
        )
    return lines
