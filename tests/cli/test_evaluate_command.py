"""`chexdist evaluate` on checkpoints of untrained networks: what it measures, writes, shows and refuses."""

import fcntl
import hashlib
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from PIL import Image
from safetensors.torch import load_file, save_file

from chexdist.__main__ import main
from chexdist.config.load import load_config
from chexdist.config.rules import frozen
from chexdist.data.manifest import read_manifest
from chexdist.distributed.collectives import Collectives
from chexdist.distributed.world import World
from chexdist.metrics import computed_from
from chexdist.metrics.difference import percentiles
from chexdist.metrics.extractors import random_conv
from chexdist.run import checkpoint
from chexdist.run.directory import RunDirectory
from chexdist.run.draws import read as read_draws
from chexdist.run.provenance import machine
from chexdist.training.networks import Gan
from chexdist.training.validation import Validation

ALONE = World(0, 1, 0, 0)
PAIR_METRICS = tuple(computed_from("pairs"))
SMALL = ("--model.size=32", "--model.width=4", "--model.latent=8", "--train.batch=4", "--train.group=2")
OPTIONS = ("--samples", "64", "--pairs", "48", "--extractor", "random-conv")
IMAGES = (40, 80)


def make_gan(shards: Path, run: Path, conditional: bool) -> Gan:
    settings = [*SMALL, f"--data.shards={shards}", f"--run.dir={run}", f"--model.conditional={conditional}"]
    settings += ["--eval.extractor=random-conv", "--eval.samples=64"]
    gan = Gan(
        load_config("dcgan", settings),
        read_manifest(str(shards)).class_counts("train"),
        Accelerator(cpu=True),
    )
    with torch.no_grad():  # else the average would be the weights, and most of an untrained image is gray
        for number, parameter in enumerate(gan.ema.parameters()):
            noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number))
            parameter.add_(0.05 * noise)
    return gan


def make_run(shards: Path, run: Path, conditional: bool) -> Path:
    """What `train` leaves, without training: two checkpoints of one generator."""
    manifest, gan = read_manifest(str(shards)), make_gan(shards, run, conditional)
    directory = RunDirectory(run)
    (run / "samples").mkdir(parents=True)
    directory.describe(gan.config, manifest, ALONE, None)
    directory.status("running", IMAGES[-1])
    (run / "metrics.jsonl").write_text("")
    classes = dict(zip(manifest.classes, manifest.class_counts("train"), strict=True))
    for images in IMAGES:
        settings = frozen(gan.config)
        state = checkpoint.State(images // 4, images, settings, manifest.digest, classes, machine(ALONE))
        checkpoint.save(run, checkpoint.snapshot(gan.state()), state)
    return run


@dataclass
class Evaluated:
    """What one call of the command left."""

    run: Path
    folder: Path
    out: str

    @property
    def document(self) -> dict[str, Any]:
        return dict(json.loads((self.folder / "evaluation.json").read_text()))

    @property
    def metrics(self) -> dict[str, dict[str, Any]]:
        return {metric["name"]: metric for metric in self.document["metrics"]}

    @property
    def numbers(self) -> list[dict[str, Any]]:
        return [{**metric, "time": 0} for metric in self.document["metrics"]]


@pytest.fixture(scope="module")
def runs(build_shards: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """A conditional and an unconditional run; never to be changed."""
    shards = build_shards(96, 20, split="train=0.75,val=0.25")
    folder = tmp_path_factory.mktemp("runs")
    return {
        conditional: make_run(shards, folder / str(conditional), conditional) for conditional in (True, False)
    }


FEW = ("--pairs", "16")
"""Too few for each class's pair metrics, but quick."""


def evaluate(run: Path, *words: str, images: int = 80) -> Evaluated:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main(["evaluate", str(run), *OPTIONS, *words])
    assert code == 0 and "features of real images, " in err.getvalue(), err.getvalue()
    folder = next(line for line in out.getvalue().splitlines() if line.startswith(str(run / "evaluations")))
    assert Path(folder).name.startswith(f"images-{images}-val-s")
    return Evaluated(run, Path(folder), out.getvalue())


@pytest.fixture(scope="module")
def evaluations(runs: dict[bool, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Evaluated]:
    """The command run once on a copy of each run; never to be changed."""
    folder = tmp_path_factory.mktemp("evaluated")
    return {kind: evaluate(Path(shutil.copytree(run, folder / str(kind)))) for kind, run in runs.items()}


@pytest.fixture(params=[True, False], ids=["conditional", "unconditional"])
def evaluated(request: pytest.FixtureRequest, evaluations: dict[bool, Evaluated]) -> Evaluated:
    return evaluations[request.param]


def test_the_file_is_as_agreed(evaluated: Evaluated) -> None:
    document = evaluated.document
    head = {key: document.pop(key) for key in ("checkpoint", "images", "split", "samples", "pairs", "seed")}
    given = {"split": "val", "samples": 64, "pairs": 48, "seed": 0}
    assert head == {"checkpoint": "images-80", "images": 80} | given
    assert list(document) == ["protocols", "metrics", "refused", "closest"]
    pairs = document["closest"]
    assert len(pairs) == 8 and all(set(pair) == {"image", "training", "likeness"} for pair in pairs)
    assert (evaluated.folder / "real/closest.png").is_file()
    for metric in document["metrics"]:
        assert metric["protocol"] in document["protocols"] and metric["floor"] is not None
        assert metric["low"] <= metric["value"] <= metric["high"] and metric["unit"]
        assert (metric["images"], metric["step"]) == (80, 20)
    assert not (evaluated.run / "metrics.jsonl").read_text()
    assert not list(evaluated.folder.glob(".*"))


def test_what_is_measured(evaluated: Evaluated) -> None:
    """24 held-out images: 8 with a finding, too few for its metrics."""
    conditional = (evaluated.folder / "finding.png").exists()
    metrics, refused = evaluated.metrics, evaluated.document["refused"]
    for name in ("kid_x1000", *PAIR_METRICS):
        assert metrics[name]["floor"] == metrics[f"{name}/real"]["value"]
        assert (f"{name}/no_finding" in metrics) == conditional
        if conditional:
            protocol = evaluated.document["protocols"][metrics[f"{name}/no_finding"]["protocol"]]
            assert protocol["reference_split"] == "val, class no_finding"
            assert metrics[f"{name}/no_finding"]["value"] != metrics[name]["value"]
        assert ("8 " if conditional else "unconditional") in refused[f"{name}/finding"]
    assert "kid_x1000/mean_image" in metrics
    assert "its 256 features need 512" in refused["fid"]
    assert "between 64 and 64 images: its 256 features need 512" in refused["fid_train"]
    for name in ("precision_k5", "recall_k5", "density_k5", "coverage_k5"):
        assert metrics[name]["floor"] == metrics[f"{name}/real"]["value"] > 0
        assert metrics[name]["n"] == metrics[f"{name}/real"]["n"] == metrics[name]["n_real"] == 32
        fields = evaluated.document["protocols"][metrics[name]["protocol"]]
        assert fields["reference_split"] == "train, half of the patients" and fields["n"] == 32
    for name in ("feature_distance", "kid_all_pairs_x1000", "ms_ssim_own_pairs_256px"):
        assert metrics[name]["floor"] == metrics[f"{name}/real"]["value"] != metrics[name]["value"]
    for name in ("precision_k5", "feature_distance", "kid_all_pairs_x1000"):
        assert (f"{name}/no_finding" in metrics) == conditional
    assert metrics["ms_ssim_own_pairs_256px"]["n"] == 24
    assert ("over 12 pairs" if conditional else "unconditional") in refused["ms_ssim_own_pairs_256px/finding"]
    assert metrics["mse_random_pairs_256px"]["n"] == 48
    assert metrics["mse_random_pairs_256px/real"]["n"] == 48
    pictures = {path.stem for path in evaluated.folder.glob("*.png")}
    assert pictures == ({"finding", "no_finding"} if conditional else {"all"})
    for path in evaluated.folder.glob("*.png"):
        with Image.open(path) as picture:
            assert picture.size == (8 * 34 + 2, 4 * 34 + 2)


def test_the_table_shows_it(evaluated: Evaluated) -> None:
    for name, metric in evaluated.metrics.items():
        if not name.endswith("/real"):
            row = next(line for line in evaluated.out.splitlines() if f" {name} " in line)
            assert f"{metric['value']:.4g} [{metric['low']:.4g}, {metric['high']:.4g}]" in row
            assert f"{metric['floor']:.4g}" in row
            patients = f" ({metric['patients']})" if "patients" in metric else ""
            last = f"{metric['n']} {metric['n_real']}{patients}".split()
            assert row.split()[-len(last) :] == last, row
    assert "copies of training images: no sign of copies; 64 images audited" in evaluated.out
    table = [line for line in evaluated.out.splitlines()[1:] if line.startswith(" ")]
    assert len(table) > 6 and max(map(len, table)) <= 120
    for reason in evaluated.document["refused"].values():
        assert evaluated.out.count(f": {reason}\n") == 1


def test_kid_is_what_training_measures(evaluated: Evaluated) -> None:
    """Of the averaged weights, under the same protocol; the real baseline to the last bit."""
    config = load_config(str(evaluated.run / "config.yaml"), [])
    gan = make_gan(Path(config.data.shards), evaluated.run, config.model.conditional)
    evaluator = Validation(gan, read_manifest(config.data.shards), Collectives(ALONE, 60))
    baselines = evaluator.baselines()
    measured, _, _ = evaluator.evaluate(80)
    for theirs in (*baselines.metrics, *measured.metrics):
        ours = evaluated.metrics[theirs.name]
        assert ours["protocol"] == theirs.protocol
        assert ours["value"] == pytest.approx(theirs.value, rel=1e-4)
    assert evaluated.metrics["kid_x1000/real"]["value"] == baselines.metrics[0].value


@pytest.fixture
def run(runs: dict[bool, Path], tmp_path: Path) -> Path:
    """A conditional run to be changed."""
    return Path(shutil.copytree(runs[True], tmp_path / "run"))


def test_the_draws_are_those_of_the_numbers(evaluated: Evaluated) -> None:
    draws = read_draws(evaluated.folder / "draws.safetensors")
    kid = evaluated.metrics["kid_x1000"]
    found = draws[kid["protocol"], "kid_x1000"]
    assert percentiles(found) == (kid["low"], kid["high"])
    names = {metric["name"] for metric in evaluated.document["metrics"]}
    assert {name for _, name in draws} <= names
    assert {protocol for protocol, _ in draws} <= evaluated.document["protocols"].keys()


def test_an_evaluation_replaces_only_itself(run: Path) -> None:
    """Of 64 samples, of another seed, of other pairs, of another extractor; and an old folder stays."""
    old = run / "evaluations/images-80-val/evaluation.json"
    old.parent.mkdir(parents=True)
    old.write_text("of an earlier release")
    words = [
        (),
        ("--samples", "65"),
        ("--seed", "1"),
        ("--pairs", "17"),
        ("--extractor", "efficientnet-lite0"),
    ]
    done = [evaluate(run, *FEW, *each) for each in words]
    assert len({each.folder for each in done}) == len(words)
    numbers = [each.numbers for each in done]
    again = evaluate(run, *FEW)
    assert again.folder == done[0].folder and again.numbers == numbers[0]
    assert [each.numbers for each in done] == numbers
    assert len(list((run / "evaluations").iterdir())) == len(words) + 1
    assert old.read_text() == "of an earlier release"


def test_several_extractors_at_once(run: Path, evaluations: dict[bool, Evaluated]) -> None:
    """Their numbers have one name and two protocols; those of one are what it gives alone."""
    both = evaluate(run, "--extractor", "efficientnet-lite0")  # OPTIONS name random-conv
    kids = [metric for metric in both.document["metrics"] if metric["name"] == "kid_x1000"]
    fields = [both.document["protocols"][metric["protocol"]] for metric in kids]
    assert [each["extractor"] for each in fields] == ["random-conv", "efficientnet-lite0"]
    alone = evaluations[True].metrics["kid_x1000"]
    assert (kids[0]["value"], kids[0]["protocol"]) == (alone["value"], alone["protocol"])
    assert "256 features" in both.document["refused"]["fid"] and "1280" in both.document["refused"]["fid"]
    for name in ("random-conv", "efficientnet-lite0"):
        assert f" features of {name} " in both.out


def test_the_seed_decides(run: Path, evaluations: dict[bool, Evaluated]) -> None:
    first = evaluations[True].numbers
    assert evaluate(run).numbers == first
    other = evaluate(run, "--seed", "1").numbers
    assert [metric["name"] for metric in other] == [metric["name"] for metric in first]
    drawn = [metric for metric in first if metric["name"] in ("kid_x1000", *PAIR_METRICS)]
    assert len(drawn) == 4 and not [metric for metric in drawn if metric in other]


def test_a_live_run_is_only_read(run: Path) -> None:
    """The lock is held by another process, and a checkpoint is half written."""
    (run / "checkpoints/images-120").mkdir()
    (run / "checkpoints/.partial-images-160").mkdir()
    script = "import fcntl, sys\nfile = open(sys.argv[1], 'w')\n"
    script += "fcntl.lockf(file, fcntl.LOCK_EX)\nprint(flush=True)\ninput()"
    holder = subprocess.Popen(
        [sys.executable, "-c", script, run / "lock"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert holder.stdout and holder.stdout.readline()
        with (run / "lock").open("w") as lock, pytest.raises(OSError):
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()}
        evaluate(run, *FEW)
        after = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()}
    finally:
        holder.communicate(b"\n")
    assert before.items() <= after.items()
    written = {path.relative_to(run) for path in after.keys() - before.keys()}
    (folder,) = {path.parts[:2] for path in written}
    assert folder[0] == "evaluations" and all(len(path.parts) > 2 for path in written)


def test_an_older_checkpoint_and_moved_shards(
    run: Path, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = Path(shutil.copytree(shards, tmp_path / "moved"))
    text = (run / "config.yaml").read_text().replace(str(shards), str(tmp_path / "gone"))
    (run / "config.yaml").write_text(text)
    assert main(["evaluate", str(run), *OPTIONS]) == 2
    assert "--data.shards DIR" in capsys.readouterr().err
    words = ("--checkpoint", "images-40", "--data.shards", str(moved), *FEW)
    assert evaluate(run, *words, images=40).document["checkpoint"] == "images-40"


@pytest.mark.slow
def test_a_checkpoint_in_its_run_is_that_of_the_run(run: Path) -> None:
    assert main(["evaluate", str(run / "checkpoints/images-40"), *OPTIONS, *FEW]) == 0
    (found,) = run.glob("evaluations/images-40-*/evaluation.json")
    assert json.loads(found.read_text())["checkpoint"] == "images-40"


def test_a_checkpoint_without_its_run(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Refused before anything is measured: there would be nowhere to record it."""
    alone = shutil.copytree(run / "checkpoints/images-40", tmp_path / "images-40")
    assert main(["evaluate", str(alone), *OPTIONS]) == 2
    err = capsys.readouterr().err
    assert "RUN/checkpoints/ beside the run's config.yaml" in err and len(err.splitlines()) == 1


def test_a_damaged_newest_checkpoint_is_passed_over(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spoil(run / "checkpoints/images-80")
    assert main(["evaluate", str(run), *OPTIONS, *FEW]) == 0
    assert "images-80 is damaged" in capsys.readouterr().err
    assert len(list(run.glob("evaluations/images-40-val-s64-seed0-*/evaluation.json"))) == 1
    assert main(["evaluate", str(run), *OPTIONS, "--checkpoint", "images-80"]) == 1
    assert "images-80 is damaged" in capsys.readouterr().err


def spoil(path: Path) -> None:
    """Flip a bit of the averaged weights."""
    content = bytearray((path / "ema.safetensors").read_bytes())
    content[-1] ^= 1
    (path / "ema.safetensors").write_bytes(content)


def test_weights_that_are_not_finite(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = run / "checkpoints/images-80"
    tensors = load_file(path / "ema.safetensors")
    save_file(
        {name: torch.full_like(value, torch.nan) for name, value in tensors.items()}, path / "ema.safetensors"
    )
    state = json.loads((path / "state.json").read_text())
    state["files"]["ema.safetensors"] = hashlib.sha256((path / "ema.safetensors").read_bytes()).hexdigest()
    (path / "state.json").write_text(json.dumps(state))
    assert main(["evaluate", str(run), *OPTIONS]) == 1
    assert "not finite" in capsys.readouterr().err and not (run / "evaluations").exists()


def test_fid_where_there_are_enough_images(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """12 features need 24 images, which the held-out split has."""
    network = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten())
    monkeypatch.setattr(random_conv, "FEATURES", 12)
    monkeypatch.setattr(random_conv, "load", lambda: (network, "digest"))
    evaluated = evaluate(run, *FEW)
    fid = evaluated.metrics["fid"]
    assert fid["value"] > fid["floor"] > 0 and fid["low"] is None
    assert "bias" in evaluated.document["refused"]["fid interval"]
    to_training = evaluated.metrics["fid_train"]
    assert to_training["n_real"] == 72 > to_training["n"] == 64 and to_training["value"] != fid["value"]
    protocol = evaluated.document["protocols"][to_training["protocol"]]
    assert protocol["reference_split"] == "train"


def test_fid_to_training_images_alone(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """30 features need 60 images, which the 24 held-out ones are not, nor is there a baseline of them."""
    network = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d((2, 5)), torch.nn.Flatten())
    monkeypatch.setattr(random_conv, "FEATURES", 30)
    monkeypatch.setattr(random_conv, "load", lambda: (network, "digest"))
    evaluated = evaluate(run, *FEW)
    assert evaluated.metrics["fid_train"]["floor"] is None and "fid" not in evaluated.metrics
    refused = evaluated.document["refused"]
    assert "between 72 and 24 images" in refused["fid_train/real"]
    assert "between 24 and 64 images" in refused["fid"]
    (row,) = (line for line in evaluated.out.splitlines() if line.split()[:1] == ["fid_train"])
    assert row.split()[1:] == [f"{evaluated.metrics['fid_train']['value']:.4g}", "64", "72"]


MISTAKES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "no run": ((), ("RUN", "--help")),
    "nowhere": (("{tmp}/nowhere",), ("{tmp}/nowhere", "no such run directory")),
    "a file": (("{tmp}/file",), ("{tmp}/file", "no such run directory")),
    "other checkpoint": (("{run}", "--checkpoint", "images-50"), ("images-50", "images-40, images-80")),
    "checkpoint elsewhere": (
        ("{run}", "--checkpoint", "../images-40"),
        ("../images-40", "images-40, images-80"),
    ),
    "split": (("{run}", "--split", "train"), ("train", "val", "test")),
    "split that is not there": (("{run}", "--split", "test"), ("--split test", "train, val")),
    "few samples": (("{run}", "--samples", "3"), ("--samples 3", "64")),
    "no pairs": (("{run}", "--pairs", "0"), ("--pairs 0", "16")),
    "seed": (("{run}", "--seed", "-1"), ("--seed -1",)),
    "word for a number": (("{run}", "--pairs", "many"), ("--pairs", "many")),
    "extractor": (("{run}", "--extractor", "inception"), ("inception", "random-conv", "FILE:size=N")),
    "extractor's file": (("{run}", "--extractor", "{tmp}/none.pt:size=32,range=-1..1"), ("{tmp}/none.pt",)),
    "extractor's range": (("{run}", "--extractor", "{tmp}/file:size=32"), ("range=-1..1",)),
    "unknown option": (("{run}", "--epochs", "3"), ("--epochs", "evaluate --help")),
    "shards nowhere": (("{run}", "--data.shards", "{tmp}/none"), ("{tmp}/none", "no directory")),
    "other shards": (("{run}", "--data.shards", "{other}"), ("{other}", "{digest}", "{otherdigest}")),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistake_is_one_line(
    case: str,
    runs: dict[bool, Path],
    shards: Path,
    build_shards: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "file").write_text("text")
    other = build_shards(24, 20)
    digests = [read_manifest(str(directory)).digest[:12] for directory in (shards, other)]
    names = {"tmp": tmp_path, "run": runs[True], "other": other}
    names |= {"digest": digests[0], "otherdigest": digests[1]}
    words, expected = ([word.format(**names) for word in part] for part in MISTAKES[case])
    assert main(["evaluate", *words]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("chexdist: ") and err.count("\n") == 1
    assert [part for part in expected if part not in err] == [], err
    assert not (runs[True] / "evaluations").exists()


def test_a_launcher_is_refused(
    runs: dict[bool, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    assert main(["evaluate", str(runs[True])]) == 2
    assert "without a launcher" in capsys.readouterr().err


def test_a_class_that_is_no_file_name(
    run: Path, edited: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    shards = edited(lambda document: document.update(classes=["../../escaped", "finding"]))
    for path in (run / "checkpoints").glob("*/state.json"):
        state = json.loads(path.read_text())
        state["manifest"] = read_manifest(str(shards)).digest
        state["classes"] = {"../../escaped": 1, "finding": 1}
        path.write_text(json.dumps(state))
    assert main(["evaluate", str(run), "--data.shards", str(shards)]) == 2
    assert "../../escaped" in capsys.readouterr().err


def test_help_waits_for_nothing() -> None:
    script = (
        "import sys\nfrom chexdist.__main__ import main\ntry:\n    main(['evaluate', '--help'])\n"
        "except SystemExit as end:\n    assert not end.code\n"
        "heavy = {'torch', 'numpy', 'pydantic', 'rich'} & set(sys.modules)\nassert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
