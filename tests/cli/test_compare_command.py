"""`chexdist compare` on what `train` and `evaluate` leave: checkpoints, runs, output for programs."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import jobs
from rich.box import HEAVY_HEAD

from chexdist.__main__ import main
from chexdist.metrics.difference import Sample, paired_difference
from chexdist.report.numbers import with_interval
from chexdist.run import draws

Capture = pytest.CaptureFixture[str]
SHORT = ("--train.images", "48", "--eval.every", "16", "--checkpoint.every", "16", "--checkpoint.keep", "5")
EVALUATE = ("--samples", "64", "--pairs", "48")


@pytest.fixture(scope="module")
def runs(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two seeds and another loss; never change them."""
    folder = tmp_path_factory.mktemp("runs")
    settings = {"s0": (), "s1": ("--train.seed", "1"), "hinge": ("--loss.name", "hinge")}
    for name, more in settings.items():
        jobs.run(jobs.small(shards, folder / name, "dcgan", *SHORT, *more), folder / f"{name}.log")
    return {name: folder / name for name in settings}


def compare(capsys: Capture, *words: object, code: int = 0) -> str:
    capsys.readouterr()
    assert main(["compare", *map(str, words)]) == code, capsys.readouterr()
    out, err = capsys.readouterr()
    return out + err


def by_log(run: Path, images: int) -> tuple[float, Sample]:
    """KID after so many images, and with its draws."""
    line = next(line for line in jobs.metrics(run) if (line["name"], line["images"]) == ("kid_x1000", images))
    found = draws.read(run / f"draws/images-{images}.safetensors")[line["protocol"], "kid_x1000"]
    return line["value"], Sample(line["value"], found)


def test_two_checkpoints_of_one_run(runs: dict[str, Path], capsys: Capture) -> None:
    run = runs["s0"]
    out = compare(capsys, f"{run}@images-16", f"{run}@images-48")
    one, other = (by_log(run, images)[1] for images in (16, 48))
    first, second = sorted((one, other), key=lambda sample: sample.value)
    found = paired_difference(second, first)
    assert with_interval(found.value, found.low, found.high) in out
    assert "s0@images-16" in out and "s0@images-48" in out
    assert "Unequal budgets (images seen): s0@images-16 16 and s0@images-48 48." in out
    better = "<".join(f"s0@images-{16 if sample is one else 48}" for sample in (first, second))
    code = compare(
        capsys, f"{run}@images-16", f"{run}@images-48", "--require", better, code=int(found.sign < 1)
    )
    assert f"required {better} by KID × 1000: {'shown' if found.sign == 1 else 'NOT shown'}" in code


def test_seeds_and_another_configuration(runs: dict[str, Path], capsys: Capture) -> None:
    out = compare(capsys, *runs.values())
    assert "s0 and s1" in out and ", 2 seeds)" in out and "Settings that differ: " in out
    assert "loss.name" in out and "Unequal budgets" not in out


def test_for_programs_it_is_plain(runs: dict[str, Path]) -> None:
    """One line a row, however long, and no frames; the exit code says whether what is required is shown."""
    words = [sys.executable, "-m", "chexdist", "compare", *map(str, runs.values())]
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == ""
    assert not set(done.stdout) & set(str(HEAVY_HEAD) + "\x1b") - {" ", "\n"}
    refused = subprocess.run([*words, "--require", "s0<s0"], check=False, capture_output=True, text=True)
    assert refused.returncode == 2 and "must be A<B, with two of" in refused.stderr


def test_what_evaluate_measures_is_compared_too(
    runs: dict[str, Path], tmp_path: Path, capsys: Capture
) -> None:
    copies = [Path(shutil.copytree(runs[name], tmp_path / name)) for name in ("s0", "hinge")]
    for run in copies:
        assert main(["evaluate", str(run), *EVALUATE, "--extractor", "random-conv"]) == 0
    out = compare(capsys, *copies)
    assert "SSIM" in out and "no draws" not in out.partition("Better than")[0]
    assert "the log counts" not in out
    document = next((copies[0] / "evaluations").glob("*/evaluation.json"))
    edited = json.loads(document.read_text())
    for each in edited["metrics"]:
        if each["name"] == "kid_x1000":
            each.update(value=-5000.0, low=-5001.0, high=-4999.0)
    document.write_text(json.dumps(edited))
    again = compare(capsys, *copies)
    assert "the log counts" in again and again.count("5,000") == 1


def test_unlike_protocols_are_not_compared(runs: dict[str, Path], tmp_path: Path, capsys: Capture) -> None:
    copies = [Path(shutil.copytree(runs[name], tmp_path / name)) for name in ("s0", "hinge")]
    (copies[0] / "metrics.jsonl").unlink()
    assert main(["evaluate", str(copies[0]), "--samples", "70", "--pairs", "48"]) == 0
    said = compare(capsys, *copies, code=2)
    assert "no two of these runs have a number under one protocol" in said and said.count("\n") == 1


MISTAKES: dict[str, tuple[tuple[str, ...], str]] = {
    "one run": (("s0",), "one run alone"),
    "twice": (("s0", "s0"), "is given twice"),
    "a checkpoint twice": (("s0@images-16", "s0@images-16"), "is given twice"),
    "never measured": (("s0@images-17", "s0"), "nothing was measured then"),
    "no run": (("s0", "nothing"), "is no directory"),
    "an unknown name": (("s0", "hinge", "--require", "s0<wgan"), "with two of s0, hinge"),
    "no requirement": (("s0", "hinge", "--require", "s0"), "must be A<B"),
    "an unknown metric": (("s0", "hinge", "--metric", "is", "--require", "s0<hinge"), "share no such number"),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_a_mistake_is_one_line(what: str, runs: dict[str, Path], capsys: Capture) -> None:
    words, expected = MISTAKES[what]
    folder = runs["s0"].parent
    known = [str(folder / word) if word.partition("@")[0] in (*runs, "nothing") else word for word in words]
    said = compare(capsys, *known, code=2)
    assert expected in said and said.count("\n") == 1
