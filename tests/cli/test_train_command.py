"""`chexdist train --dry-run` says what would happen and does nothing; `--help` waits for nothing."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from chexdist.__main__ import main
from chexdist.config.load import load_config
from chexdist.data.manifest import read_manifest
from chexdist.data.order import batch_samples


@pytest.mark.parametrize("size", [1, 2, 4])
def test_dry_run_says_what_each_rank_reads(
    size: int,
    shards: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Resolved configuration, then the ranks, whose keys are those of the first batch; nothing is made."""
    if size > 1:
        for name, value in {"RANK": "0", "WORLD_SIZE": str(size), "LOCAL_RANK": "0"}.items():
            monkeypatch.setenv(name, value)
    settings = ["--data.shards", str(shards), "--model.size", "32", "--run.dir", str(tmp_path / "run")]
    settings += ["--train.batch=8", "--train.group=2", "--train.images=100", "--train.seed=3"]
    assert main(["train", "--config", "wgan-gp", *settings, "--dry-run"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    described, _, rest = out.partition("\n\n")
    assert load_config("wgan-gp", settings).model_dump(mode="json") == yaml.safe_load(described)
    split = read_manifest(str(shards)).splits["train"]
    first = split.key[batch_samples(split.shard_sizes, 3, 0, 8, 0)].tolist()
    lines = [line for line in rest.splitlines() if line.startswith("rank ")]
    share = 8 // size
    assert len(lines) == size
    for rank, line in enumerate(lines):
        assert line.startswith(f"rank {rank}: images {rank * share} to {(rank + 1) * share - 1} ")
        shown = line.split(" is ")[1].removesuffix(" ...").split()
        assert shown and shown == first[rank * share :][: len(shown)]
    assert f"{len(split)} training samples in {len(split.files)} shards" in rest
    assert "13 batches of 8 in groups of 2; an epoch is 9 of them" in rest
    assert not list(tmp_path.iterdir())


def test_a_dry_run_of_the_world_to_come(
    shards: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many ranks as CHEXDIST_WORLD_SIZE, without a launcher; too many for the batch are a line."""
    words = ["train", "--config", "dcgan", "--data.shards", str(shards), "--model.size=32", "--dry-run"]
    words += ["--train.batch=16", "--train.group=4"]
    monkeypatch.setenv("CHEXDIST_WORLD_SIZE", "4")
    assert main(words) == 0
    ranks = [line for line in capsys.readouterr().out.splitlines() if line.startswith("rank ")]
    assert [line.split(":")[0] for line in ranks] == [f"rank {rank}" for rank in range(4)]
    monkeypatch.setenv("CHEXDIST_WORLD_SIZE", "5")
    assert main(words) == 2
    assert "5 ranks, but train.batch 16 has 4 groups of train.group 4" in capsys.readouterr().err


def test_other_ranks_of_a_dry_run_are_silent(
    shards: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    assert (
        main(["train", "--config", "dcgan", "--data.shards", str(shards), "--model.size=32", "--dry-run"])
        == 0
    )
    assert capsys.readouterr() == ("", "")


def test_a_file_of_settings_and_the_command_line(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command line wins over the file, the file over the defaults; a number may be written as 1e-4."""
    (tmp_path / "mine.yaml").write_text(
        "model: {name: vanilla, size: 32}\nloss: {name: hinge}\ntrain: {batch: 24, seed: 4, precision: no}\n"
        f"data: {{shards: {shards}}}\n"
    )
    words = ["--train.seed", "9", "--optim.critic.lr", "1e-4", "--optim.critic.betas", "[0.1, 0.2]"]
    assert main(["train", "--config", str(tmp_path / "mine.yaml"), *words, "--dry-run"]) == 0
    found = yaml.safe_load(capsys.readouterr().out.partition("\n\n")[0])
    assert (found["train"]["batch"], found["train"]["seed"], found["train"]["precision"]) == (24, 9, "no")
    assert found["optim"]["critic"] == {"lr": 1e-4, "betas": [0.1, 0.2]}
    assert found["optim"]["generator"]["lr"] == 2e-4


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["train", "--help"], ["demo", "--help"]])
def test_help_waits_for_nothing(words: list[str]) -> None:
    script = (
        "import sys\nfrom chexdist.__main__ import main\ntry:\n    main(sys.argv[1:])\n"
        "except SystemExit as end:\n    assert not end.code\n"
        "needed = {'pydantic'} if 'train' in sys.argv else set()  # it reads the settings\n"
        "heavy = {'torch', 'numpy', 'pydicom', 'accelerate'} | ({'pydantic'} - needed)\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "chexdist" in done.stdout


def test_a_folder_does_not_hide_the_configuration_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a folder of runs, each named after its configuration."""
    (tmp_path / "dcgan").mkdir()
    monkeypatch.chdir(tmp_path)
    assert load_config("dcgan", ["--model.size", "32"]).model.name == "dcgan"


def test_training_starts_without_what_only_evaluate_needs() -> None:
    """torchmetrics alone would be a third of the seconds that a rank takes to import."""
    script = (
        "import sys, chexdist.commands.train, chexdist.training.start, chexdist.training.trainer\n"
        "print({'torch', 'torchmetrics', 'torchvision', 'matplotlib'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "{'torch'}\n"
