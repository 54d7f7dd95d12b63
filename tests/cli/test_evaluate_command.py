"""`chexdist evaluate` on checkpoints of untrained networks: what it measures, writes and shows."""

import fcntl
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.evaluated import ALONE, FEW, Evaluated, evaluate, make_gan
from PIL import Image

from chexdist.config.load import load_config
from chexdist.data.manifest import read_manifest
from chexdist.distributed.collectives import Collectives
from chexdist.metrics import computed_from
from chexdist.metrics.difference import percentiles
from chexdist.metrics.extractors import random_conv
from chexdist.run.draws import read as read_draws
from chexdist.training.validation import Validation

PAIR_METRICS = tuple(computed_from("pairs"))


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


def test_help_waits_for_nothing() -> None:
    script = (
        "import sys\nfrom chexdist.__main__ import main\ntry:\n    main(['evaluate', '--help'])\n"
        "except SystemExit as end:\n    assert not end.code\n"
        "heavy = {'torch', 'numpy', 'pydantic', 'rich'} & set(sys.modules)\nassert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
