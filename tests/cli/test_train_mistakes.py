"""A mistake on the command line of `chexdist`: exit code 2, one line with the cure, and nothing begun."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chexdist.__main__ import main

WGAN = (
    "train",
    "--config",
    "wgan-gp",
    "--data.shards",
    "{shards}",
    "--model.size",
    "32",
    "--run.dir",
    "{tmp}/run",
)
DCGAN = tuple(word.replace("wgan-gp", "dcgan") for word in WGAN)

MISTAKES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "no command": ((), ("COMMAND", "--help")),
    "unknown command": (("trian",), ("trian", "train")),
    "no config": (("train",), ("--config", "--help")),
    "unknown option": ((*WGAN, "--epochs", "5"), ("--epochs", "--section.key value")),
    "option of another command": (("demo", "--train.batch", "5"), ("--train.batch", "--help")),
    "stray word": ((*WGAN, "batch=5"), ("batch=5", "--section.key value")),
    "key": ((*WGAN, "--train.bacth", "5"), ("train.bacth", "nearest is train.batch")),
    "key of a section": (
        (*WGAN, "--optim.critic.rl", "1"),
        ("optim.critic.rl", "nearest is optim.critic.lr"),
    ),
    "section": ((*WGAN, "--trian.batch", "5"), ("trian", "nearest is train")),
    "no section": ((*WGAN, "--train.batch.size", "5"), ("train.batch",)),
    "no value": ((*WGAN, "--train.batch"), ("--train.batch", "value must follow")),
    "no value before another": (
        (*WGAN, "--train.batch", "--train.seed", "5"),
        ("--train.batch", "value must follow"),
    ),
    "word for a number": ((*WGAN, "--train.batch", "many"), ("train.batch", "many", "integer")),
    "zero batch": ((*WGAN, "--train.batch", "0"), ("train.batch", "greater than or equal to 1")),
    "negative seed": ((*WGAN, "--train.seed", "-1"), ("train.seed", "greater than or equal to 0")),
    "negative rate": ((*WGAN, "--optim.critic.lr", "-1"), ("optim.critic.lr", "a number above 0 or a ramp")),
    "rate is no number": ((*WGAN, "--optim.critic.lr", "nan"), ("optim.critic.lr", "nan")),
    "infinite rate": ((*WGAN, "--optim.critic.lr", ".inf"), ("optim.critic.lr", "inf")),
    "infinite half-life": ((*WGAN, "--ema.halflife", "inf"), ("ema.halflife", "inf")),
    "betas": ((*WGAN, "--optim.critic.betas", "[0.5]"), ("optim.critic.betas",)),
    "unknown GAN": ((*WGAN, "--model.name", "stylegan"), ("model.name", "vanilla", "wgan", "dcgan")),
    "unknown loss": ((*WGAN, "--loss.name", "lsgan"), ("loss.name", "hinge")),
    "size": ((*WGAN, "--model.size", "100"), ("model.size", "100", "256")),
    "fp16": ((*WGAN, "--train.precision", "fp16"), ("train.precision", "fp16", "bf16")),
    "batch norm and gp": ((*WGAN, "--model.norm", "batch"), ("model.norm batch", "none")),
    "batch norm and r1": (
        (*DCGAN, "--model.norm", "batch"),
        ("model.norm batch", "r1", "per sample", "none"),
    ),
    "batch and group": (
        (*WGAN, "--train.batch", "20", "--train.group", "8"),
        ("train.batch 20", "train.group 8"),
    ),
    "accumulate": ((*WGAN, "--train.accumulate", "3"), ("train.accumulate 3", "lower train.accumulate")),
    "other size than the shards": ((*WGAN, "--model.size", "64"), ("model.size 64", "32 px", "--size 64")),
    "no shards": ((*WGAN[:3], "--run.dir", "{tmp}/run"), ("data.shards is not set", "chexdist-shards build")),
    "shards are nowhere": (
        (*WGAN, "--data.shards", "{tmp}/none"),
        ("{tmp}/none", "no directory", "chexdist-shards build"),
    ),
    "shards are empty": (
        (*WGAN, "--data.shards", "{tmp}"),
        ("{tmp}", "no manifest.json", "chexdist-shards build"),
    ),
    "shards are a file": ((*WGAN, "--data.shards", "{tmp}/file"), ("{tmp}/file", "chexdist-shards build")),
    "no run": (WGAN[:-2], ("run.dir is not set", "--run.dir")),
    "run is a file": ((*WGAN, "--run.dir", "{tmp}/file"), ("{tmp}/file is a file", "another")),
    "run is below a file": ((*WGAN, "--run.dir", "{tmp}/file/run"), ("{tmp}/file/run",)),
    "config nowhere": (("train", "--config", "{tmp}/none.yaml"), ("{tmp}/none.yaml", "No such file")),
    "config name": (("train", "--config", "wgan_gp"), ("wgan_gp", "wgan-gp", "dcgan", "vanilla")),
    "config is a directory": (("train", "--config", "{tmp}"), ("{tmp}", "directory")),
    "config is no YAML": (("train", "--config", "{tmp}/bad.yaml"), ("{tmp}/bad.yaml", "not YAML", "line 2")),
    "config is a list": (("train", "--config", "{tmp}/list.yaml"), ("{tmp}/list.yaml", "sections")),
    "config is binary": (("train", "--config", "{tmp}/binary.yaml"), ("{tmp}/binary.yaml", "UTF-8")),
    "config has an unknown key": (
        ("train", "--config", "{tmp}/key.yaml"),
        ("model.nmae", "nearest is model.name"),
    ),
    "config lacks a section": (("train", "--config", "{tmp}/short.yaml"), ("loss", "must be set")),
    "config has a date": ((*WGAN, "--config", "{tmp}/date.yaml"), ("train.images",)),
}


def write_files(folder: Path) -> None:
    (folder / "file").write_text("text")
    (folder / "bad.yaml").write_text("model: {name: dcgan}\nloss: {name: [\n")
    (folder / "list.yaml").write_text("- model\n")
    (folder / "binary.yaml").write_bytes(b"\xff\xfe\x00model")
    (folder / "key.yaml").write_text("model: {nmae: dcgan}\nloss: {name: hinge}\n")
    (folder / "short.yaml").write_text("model: {name: dcgan}\n")
    (folder / "date.yaml").write_text(
        "model: {name: dcgan}\nloss: {name: hinge}\ntrain: {images: 2024-01-01}\n"
    )


def refusal(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What is said on stderr: one or two lines, with exit code 2."""
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("chexdist: ") and 1 <= err.count("\n") <= 2
    return err


@pytest.mark.parametrize("case", MISTAKES)
def test_mistake_is_one_line(
    case: str, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_files(tmp_path)
    before = sorted(tmp_path.iterdir())
    words, expected = (
        [word.format(tmp=tmp_path, shards=shards) for word in words] for words in MISTAKES[case]
    )
    said = refusal(words, capsys)
    assert [part for part in expected if part not in said] == [], said
    assert sorted(tmp_path.iterdir()) == before


def train_part(document: dict[str, Any]) -> Any:
    return document["splits"]["train"]["shards"]


def relabel(document: dict[str, Any]) -> None:
    for shard in train_part(document):
        shard["index"]["label"] = [0] * shard["samples"]


def set_first(name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def edit(document: dict[str, Any]) -> None:
        train_part(document)[0]["index"][name][0] = value

    return edit


def set_shard(name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def edit(document: dict[str, Any]) -> None:
        train_part(document)[0][name] = value

    return edit


MANIFESTS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "schema of tomorrow": (lambda document: document.update(schema=99), "schema 99"),
    "no schema": (lambda document: document.pop("schema"), "schema None"),
    "no splits": (lambda document: document.pop("splits"), "damaged"),
    "splits are a list": (lambda document: document.update(splits=[]), "damaged"),
    "no image to evaluate against": (
        lambda document: document["splits"]["val"].update(shards=[], samples=0),
        "has no image in it",
    ),
    "no training split": (lambda document: document["splits"].pop("train"), "no training samples"),
    "a class is missing": (relabel, "no sample of class"),
    "no validation split": (lambda document: document["splits"].pop("val"), "eval.split val"),
    "other bits": (lambda document: document["render"].update(bits=12), "bits"),
    "size is text": (lambda document: document["render"].update(size="big"), "damaged"),
    "size is endless": (lambda document: document["render"].update(size=float("inf")), "damaged"),
    "shard elsewhere": (set_shard("file", "../../etc/passwd"), "leaves the directory"),
    "shard is its parent": (set_shard("file", ".."), "shard"),
    "shard is gone": (set_shard("file", "train-999999.tar"), "train-999999.tar"),
    "shard is longer": (set_shard("bytes", 5), "its manifest says 5"),
    "fewer samples": (set_shard("samples", 3), "columns"),
    "samples are text": (set_shard("samples", "many"), "damaged"),
    "offset beyond the end": (set_first("offset", 10**9), "outside the file"),
    "offset before the start": (set_first("offset", -1), "outside the file"),
    "offset is enormous": (set_first("offset", 2**70), "damaged"),
    "offset is text": (set_first("offset", "0"), "damaged"),
    "offset is none": (set_first("offset", None), "damaged"),
    "size of nothing": (set_first("size", 0), "outside the file"),
    "size is enormous": (set_first("size", 2**62), "outside the file"),
    "label of no class": (set_first("label", 7), "labels outside"),
    "label below zero": (set_first("label", -1), "labels outside"),
}


@pytest.mark.parametrize("case", MANIFESTS)
def test_a_manifest_that_can_t_be_is_one_line(
    case: str, edited: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit, expected = MANIFESTS[case]
    copy = edited(edit)
    words = [word.format(tmp=tmp_path, shards=copy) for word in WGAN]
    assert expected in refusal(words, capsys)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b"\xff\xfe", b'{"schema": 1', b"[" * 100_000])
def test_a_manifest_that_is_none_is_one_line(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "manifest.json").write_bytes(content)
    words = [word.format(tmp=tmp_path, shards=tmp_path) for word in WGAN]
    assert str(tmp_path / "manifest.json") in refusal(words, capsys)


def test_a_shard_that_is_gone_or_cut_is_named(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = shutil.copytree(shards, tmp_path / "copy")
    words = [word.format(tmp=tmp_path, shards=copy) for word in WGAN]
    shard = copy / "train-000001.tar"
    shard.write_bytes(shard.read_bytes()[:-512])
    said = refusal(words, capsys)
    assert str(shard) in said and "bytes" in said and "copy it here again" in said
    shard.unlink()
    said = refusal(words, capsys)
    assert str(shard) in said and "copy it here again" in said


LAUNCHES: dict[str, tuple[dict[str, str], tuple[str, ...]]] = {
    "more ranks than groups": (
        {"RANK": "0", "WORLD_SIZE": "3", "LOCAL_RANK": "0"},
        ("3 ranks", "2 groups", "train.group 8", "raise train.batch"),
    ),
    "a rank too many": ({"RANK": "2", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}, ("RANK 2", "WORLD_SIZE 2")),
    "no local rank": ({"RANK": "0", "WORLD_SIZE": "2"}, ("LOCAL_RANK", "launcher")),
    "no number": ({"RANK": "one", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}, ("one", "launcher")),
    "Slurm tasks without ranks": ({"SLURM_NTASKS": "4"}, ("Slurm", "4 processes", "world of 1")),
    "another world than asked for": ({"CHEXDIST_WORLD_SIZE": "2"}, ("CHEXDIST_WORLD_SIZE", "2 processes")),
}


@pytest.mark.parametrize("case", LAUNCHES)
def test_a_wrong_world_is_one_line(
    case: str,
    shards: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    environment, expected = LAUNCHES[case]
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    said = refusal([word.format(tmp=tmp_path, shards=shards) for word in WGAN], capsys)
    assert [part for part in expected if part not in said] == [], said


def test_only_rank_0_prints(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    words = [word.format(tmp=tmp_path, shards=shards) for word in WGAN]
    assert main([*words, "--train.seed", "-1"]) == 2
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["2024", "1e3", "no", "null", "2024-05-01", "[a]", "a: b", "~"])
@pytest.mark.parametrize("key", ["run.dir", "data.shards"])
def test_any_name_is_a_directory_s_name(
    key: str,
    name: str,
    shards: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What a shell completes to is a name, even where YAML would read a number, a date or a list."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).symlink_to(shards)
    words = [word.format(tmp=tmp_path, shards=shards) for word in WGAN]
    code = main([*words, f"--{key}", name, "--dry-run"])
    assert (code, capsys.readouterr().err) == (0, "")


HEAVY = "torch", "accelerate", "torchvision", "pydicom", "torchmetrics"


def test_mistakes_load_nothing_heavy(shards: Path, tmp_path: Path) -> None:
    """Every mistake above in one fresh process: after each, torch is not loaded."""
    write_files(tmp_path)
    cases = [[word.format(tmp=tmp_path, shards=shards) for word in words] for words, _ in MISTAKES.values()]
    script = (
        "import json, sys, types\nfrom chexdist.__main__ import main\nresult = []\n"
        "sys.modules['chexdist.training.trainer'] = types.SimpleNamespace(train=lambda *_: 0)\n"
        "for words in json.load(sys.stdin):\n"
        f"    result.append((main(words), [name for name in {HEAVY} if name in sys.modules]))\n"
        "print(json.dumps(result))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], input=json.dumps(cases), capture_output=True, text=True, check=True
    )
    result = dict(zip(MISTAKES, json.loads(done.stdout), strict=True))
    assert {case: found for case, found in result.items() if found != [2, []]} == {}


@pytest.mark.parametrize("case", ["unknown command", "key", "shards are nowhere"])
def test_the_command_itself(case: str, shards: Path, tmp_path: Path) -> None:
    words, expected = (
        [word.format(tmp=tmp_path, shards=shards) for word in words] for words in MISTAKES[case]
    )
    begun = time.process_time()
    done = subprocess.run(
        [sys.executable, "-m", "chexdist", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and all(part in done.stderr for part in expected)
    assert time.process_time() - begun < 2
