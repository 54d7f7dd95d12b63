"""`peers` trains each peer in chunks that continue exactly, and measures its pictures as `evaluate` does."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from benchmarks.__main__ import main
from benchmarks.peers import chunk, environment, measure
from benchmarks.peers.averaging import average
from benchmarks.peers.chunk import STATE, real_batches
from chexdist.data.manifest import read_manifest
from chexdist.errors import WorkError

PEER = "benchmarks.peers.notebook_gan:NotebookGan"


@pytest.fixture(scope="module")
def shards(build_shards: Callable[..., Path]) -> Path:
    return build_shards(96, 20, split="train=0.75,val=0.25")


def train(shards: Path, folder: Path, images: int) -> dict[str, torch.Tensor]:
    """A chunk up to so many images; the generator's weights after it."""
    folder.mkdir(exist_ok=True)
    words = {"peer": PEER, "shards": shards, "folder": folder, "images": images}
    words |= {"batch": 8, "pictures": 3, "seed": 1}
    assert chunk.main([word for name, value in words.items() for word in (f"--{name}", str(value))]) == 0
    weights: dict[str, torch.Tensor] = torch.load(folder / STATE)["peer"]["networks"]["generator"]
    return weights


def test_two_chunks_are_one(shards: Path, tmp_path: Path) -> None:
    once = train(shards, tmp_path / "once", 48)
    train(shards, tmp_path / "twice", 24)
    twice = train(shards, tmp_path / "twice", 48)
    assert all(torch.equal(once[name], twice[name]) for name in once)
    for ending in ("48-0", "48-1"):
        pictures = [sorted((tmp_path / side / ending).iterdir()) for side in ("once", "twice")]
        assert [file.name for file in pictures[0]] == ["00000.png", "00001.png", "00002.png"]
        assert [file.read_bytes() for file in pictures[0]] == [file.read_bytes() for file in pictures[1]]


def test_the_order_is_a_runs(shards: Path) -> None:
    manifest = read_manifest(str(shards))
    by_eight = torch.cat([*real_batches(manifest, 5, 8, 0, 48)])
    by_sixteen = torch.cat([*real_batches(manifest, 5, 16, 1, 48)])
    assert by_eight.shape == (48, 1, manifest.size, manifest.size)
    assert 0 <= by_eight.min() < by_eight.max() <= 1
    assert torch.equal(by_eight[16:], by_sixteen)


def test_the_average_is_a_copy_until_it_is_one() -> None:
    averaged, current = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)

    def after(steps: int, value: float) -> float:
        torch.nn.init.constant_(averaged.weight, 0.0)
        torch.nn.init.constant_(current.weight, value)
        average(averaged, current, steps, 0.75)
        return averaged.weight.item()

    assert [after(steps, 4.0) for steps in (0, 2, 1001, 1002, 20_000)] == [0, 4, 0, 4, 0]
    assert [after(steps, 4.0) for steps in (20_010, 20_011, 24_002, 25_002)] == [1, 0, 4, 0]


def check_table(words: list[str], folder: Path) -> None:
    """Run the benchmark: two points whose KID is the lower one of the two ways to draw."""
    assert main([*words, "--work", str(folder / "work"), "--out", str(folder / "out")]) == 0
    (file,) = (folder / "out").iterdir()
    document = json.loads(file.read_text())
    assert [row["cells"][0] for row in document["rows"]] == ["8", "16"]
    assert len({point["kid"]["value"] for point in document["values"]}) == 2
    for point in document["values"]:
        found = [
            json.loads(file.read_text())["metrics"]
            for file in (folder / "work/notebook").glob(f"{point['images']}-*/**/evaluation.json")
        ]
        values = [each["value"] for metrics in found for each in metrics if each["name"] == "kid_x1000"]
        assert len(values) == 2 and point["kid"]["value"] == min(values) and point["seconds"] > 0
    file.unlink()


def test_a_table_of_what_was_trained(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["peers", "--peers", "notebook", "--tiny", "--shards", str(shards)]
    trained: list[list[str]] = []

    def here(command: list[str], log: Path) -> None:
        trained.append(command)
        assert chunk.main(command[3:]) == 0

    monkeypatch.setattr(measure, "_run", here)
    check_table(words, tmp_path)
    assert len(trained) == 2
    check_table(words, tmp_path)
    assert len(trained) == 2, "what is measured is not trained again"
    capsys.readouterr()
    for other, expected in (
        ([*words, "--peers", "none", "--work", "x"], "--peers none: there are notebook, monai"),
        (["peers", "--shards", "x", "--work", "x", "--images", "20"], "--images 20 must be a multiple of 8"),
        ([*words[:3], "--shards", str(shards), "--work", str(tmp_path / "work")], "give another --work"),
        (["peers"], "peers needs --data.shards and --work"),
    ):
        assert main(other) == 2
        assert expected in capsys.readouterr().err


@pytest.mark.slow
def test_each_chunk_is_a_process(shards: Path, tmp_path: Path) -> None:
    check_table(["peers", "--peers", "notebook", "--tiny", "--shards", str(shards)], tmp_path)
    assert len(list((tmp_path / "work/notebook").rglob("training.log"))) > 0


def test_a_training_that_fails_is_said(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = measure.Entry("broken", "benchmarks.peers.peer:Peer")
    monkeypatch.setitem(measure.PEERS, "broken", entry)
    with pytest.raises(WorkError, match=r"training\.log\): NotImplementedError"):
        measure.measure(measure.Setting(("broken",), str(shards), tmp_path, 8, 8))


def test_an_environment_sees_this_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[list[str]] = []
    run = subprocess.run

    def no_network(words: list[str], **named: object) -> object:
        calls.append(words)
        return run(["true"], capture_output=True, text=True, check=False)

    monkeypatch.setattr(subprocess, "run", no_network)
    monkeypatch.setattr(environment.venv, "create", lambda folder, **_: make_bare(folder))
    python = environment.python_with(("some-package==1",), tmp_path / "its")
    assert python == str(tmp_path / "its/bin/python")
    assert calls == [[python, "-m", "pip", "install", "--quiet", "--no-deps", "some-package==1"]]
    (link,) = (tmp_path / "its").rglob("*.pth")
    site, root = link.read_text().split()
    assert (Path(site) / "torch").is_dir() and (Path(root) / "benchmarks/peers").is_dir()
    environment.python_with(("some-package==1",), tmp_path / "its")
    assert len(calls) == 1, "what is installed stays"
    environment.python_with(("some-package==2",), tmp_path / "its")
    assert len(calls) == 2


def make_bare(folder: Path) -> None:
    (folder / "lib/python3/site-packages").mkdir(parents=True, exist_ok=True)
