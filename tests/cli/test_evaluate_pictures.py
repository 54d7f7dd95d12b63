"""`chexdist evaluate --pictures`: a folder's numbers are those of a run that drew it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.picture_folders import CLASSES, OPTIONS, draw, evaluate
from helpers.untrained import make_run

from chexdist.__main__ import main
from chexdist.distributed import devices
from chexdist.errors import WorkError
from chexdist.evaluation import measure as evaluation_measure


@pytest.fixture(scope="module")
def held_out(build_shards: Callable[..., Path]) -> Path:
    return build_shards(96, 20, split="train=0.75,val=0.25")


@pytest.fixture(scope="module")
def run(held_out: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("run"), held_out, "dcgan", True, lambda gan: None)


@pytest.fixture(scope="module")
def generated(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `chexdist generate` writes, of both classes; never to be changed."""
    folder = tmp_path_factory.mktemp("generated") / "pictures"
    assert main(["generate", str(run), "--n", "64", "--no-audit", "--out", str(folder)]) == 0
    return folder


def documents(owner: Path) -> list[dict[str, Any]]:
    return [json.loads(file.read_text()) for file in sorted(owner.glob("evaluations/*/evaluation.json"))]


@pytest.fixture(scope="module")
def measured(generated: Path, held_out: Path) -> Path:
    before = {path: path.stat().st_mtime_ns for path in generated.rglob("*")}
    assert evaluate(generated, held_out) == 0
    assert {path: path.stat().st_mtime_ns for path in generated.rglob("*")} == before
    return generated.with_name("pictures-evaluation")


def test_a_folder_s_numbers_are_those_of_the_run_that_drew_it(
    run: Path, measured: Path, held_out: Path
) -> None:
    """Under the same protocols: the pictures' 256 levels are those that metrics round to."""
    assert main(["evaluate", str(run), *OPTIONS]) == 0
    ((theirs,), (ours,)) = documents(measured), documents(run)
    numbers = [{metric["name"]: metric for metric in each["metrics"]} for each in (theirs, ours)]
    assert numbers[0].keys() == numbers[1].keys()
    for name in ("kid_x1000", "kid_x1000/real", "kid_x1000/mean_image"):
        mine, other = (each[name] for each in numbers)
        assert mine["protocol"] == other["protocol"] and mine["n"] == other["n"]
        assert mine["value"] == pytest.approx(other["value"], rel=1e-5)
    assert "kid_x1000/no_finding" in numbers[0]  # of fewer pictures: so many are of that class
    assert numbers[0]["kid_x1000/no_finding"]["n"] < 64 == numbers[1]["kid_x1000/no_finding"]["n"]
    assert {(metric["images"], metric["step"]) for metric in theirs["metrics"]} == {(0, 0)}
    assert (theirs["pictures"], theirs["split"], theirs["seed"]) == (64, "val", 0)


def test_a_report_and_a_comparison_set_pictures_beside_runs(
    run: Path, measured: Path, held_out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(run), *OPTIONS]) == 0
    for name in ("report.md", "report.html"):
        assert main(["report", str(run), str(measured), "--out", str(tmp_path / name)]) == 0
    text = (tmp_path / "report.md").read_text()
    tables = [part for part in text.split("\n**") if "KID × 1000 \\[95 %\\]" in part]
    assert tables and all(f"| {name} |" in tables[0] for name in (run.name, measured.name)), text
    assert "pictures, of whatever made them" in text
    assert "pictures-evaluation is pictures" not in text and "untrained" not in text
    capsys.readouterr()
    assert main(["compare", str(run), str(measured)]) == 0
    assert "pictures-evaluation" in capsys.readouterr().out


def test_the_seed_chooses_and_nothing_is_overwritten(generated: Path, held_out: Path, tmp_path: Path) -> None:
    owner = tmp_path / "numbers"
    words = ("--out", str(owner))
    for more in ((), ("--seed", "1"), ("--images", "60000"), ()):
        assert evaluate(generated, held_out, *words, *more) == 0
    found = documents(owner)
    assert sorted((each["images"], each["seed"]) for each in found) == [(0, 0), (0, 1), (60000, 0)]
    assert all((folder / "draws.safetensors").exists() for folder in (owner / "evaluations").iterdir())
    grids = {path.stem for path in owner.glob("evaluations/*/*.png")}
    assert grids == {*CLASSES}


def test_another_size_is_another_protocol(
    held_out: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Enlarged or reduced pictures are not those of a generator of the shards' size, and it is said."""
    for side in (32, 48):
        for number in range(64):
            draw(tmp_path / str(side) / f"{number}.png", number, side)
        assert evaluate(tmp_path / str(side), held_out) == 0
    assert "pictures of 48 px are brought to the shards' 32 px" in capsys.readouterr().err
    (same,), (other,) = (documents(tmp_path / f"{side}-evaluation") for side in (32, 48))
    assert not same["protocols"].keys() & other["protocols"].keys()
    assert all(fields["pictures"].startswith("brought from 48 px") for fields in other["protocols"].values())
    owners = [str(tmp_path / f"{side}-evaluation") for side in (32, 48)]
    assert main(["report", *owners, "--out", str(tmp_path / "report.md")]) == 0


def test_without_classes_numbers_are_of_all(
    held_out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three pictures: no numbers, exit code 1, and each is said to be missing; the rest is not touched."""
    for number in range(3):
        draw(tmp_path / "pictures" / f"{number}.png", number)
    (tmp_path / "pictures" / "notes\n.txt").write_text("not a picture")
    (tmp_path / "pictures" / ".hidden").write_text("")
    code = evaluate(tmp_path / "pictures", held_out)
    out, err = capsys.readouterr()
    assert "3 pictures, of no class" in err and "1 other files are not measured: 'notes\\n.txt'" in err
    (document,) = documents(tmp_path / "pictures-evaluation")
    assert "kid_x1000" in document["refused"] and "not computed: kid_x1000" in out
    assert code == (0 if document["metrics"] else 1)


def test_too_few_for_kid_is_said_before_anything_is_measured(
    held_out: Path,
    build_shards: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Of real patients and of pictures; and with enough of both nothing is said."""

    def measure(*_: object) -> None:
        raise WorkError("measuring")

    monkeypatch.setattr(evaluation_measure, "evaluate", measure)
    pictures, few = tmp_path / "pictures", build_shards(24, 20, split="train=0.5,val=0.5")
    for number in range(64):
        draw(pictures / f"{number}.png", number)
    assert evaluate(pictures, few) == 1
    err = capsys.readouterr().err
    assert "val has 12 patients and train has 12 patients: they will not be computed" in err
    assert "--split train=0.6" in err and err.index("12 patients") < err.index("measuring")
    assert evaluate(pictures, held_out) == 1
    assert "patients" not in capsys.readouterr().err
    for number in range(10, 64):
        (pictures / f"{number}.png").unlink()
    assert evaluate(pictures, held_out) == 1
    assert "there are 10 generated images" in capsys.readouterr().err


def test_a_gpu_that_can_t_be_used_is_refused(
    generated: Path, held_out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As training refuses it: an evaluation on the CPU would take hours of a job that has a GPU."""
    monkeypatch.delenv("ACCELERATE_USE_CPU", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr(devices.Visible, "here", lambda: devices.Visible(0, "torch sees none"))
    words = ["evaluate", "--pictures", str(generated), "--data.shards", str(held_out), *OPTIONS]
    assert main(words) == 2
    err = capsys.readouterr().err
    assert "this job has GPUs (CUDA_VISIBLE_DEVICES=0), but torch sees none" in err and err.count("\n") == 1


def test_a_class_without_pictures(held_out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(64):
        draw(tmp_path / "pictures" / "Finding" / f"{number}.png", number)
    assert evaluate(tmp_path / "pictures", held_out) == 0
    assert "no picture is of class no_finding" in capsys.readouterr().err
    (document,) = documents(tmp_path / "pictures-evaluation")
    assert "kid_x1000" in {metric["name"] for metric in document["metrics"]}
    assert "kid_x1000/finding" in document["refused"]


MISTAKES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "neither": ((), ("RUN", "--pictures")),
    "both": (("{run}", "--pictures", "{pictures}"), ("either RUN or --pictures",)),
    "no shards": (("--pictures", "{pictures}"), ("--data.shards",)),
    "checkpoint": (("--pictures", "{pictures}", "--checkpoint", "best"), ("--checkpoint",)),
    "out of a run": (("{run}", "--out", "{tmp}/x"), ("--out", "--pictures")),
    "images of a run": (("{run}", "--images", "3"), ("--images", "--pictures")),
    "negative": (
        ("--pictures", "{pictures}", "--data.shards", "{shards}", "--images", "-1"),
        ("--images -1",),
    ),
    "nowhere": (("--pictures", "{tmp}/none", "--data.shards", "{shards}"), ("{tmp}/none", "no such folder")),
    "a file": (("--pictures", "{tmp}/file", "--data.shards", "{shards}"), ("{tmp}/file", "no such folder")),
    "split": (
        ("--pictures", "{pictures}", "--data.shards", "{shards}", "--split", "test"),
        ("--split test", "train, val"),
    ),
    "out inside": (
        ("--pictures", "{pictures}", "--data.shards", "{shards}", "--out", "{pictures}/numbers"),
        ("among the pictures",),
    ),
    "out of another": (
        ("--pictures", "{pictures}", "--data.shards", "{shards}", "--out", "{tmp}"),
        ("something else",),
    ),
    "out in a run": (
        ("--pictures", "{pictures}", "--data.shards", "{shards}", "--out", "{run}"),
        ("something else",),
    ),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_one_line(
    case: str,
    run: Path,
    generated: Path,
    held_out: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "file").write_text("text")
    pictures = Path(shutil.copytree(generated, tmp_path / "pictures"))
    names = {"tmp": tmp_path, "run": run, "shards": held_out, "pictures": pictures}
    words, expected = ([word.format(**names) for word in part] for part in MISTAKES[case])
    capsys.readouterr()
    assert main(["evaluate", *words]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("chexdist: ") and err.count("\n") == 1
    assert [part for part in expected if part not in err] == [], err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "pictures"]
