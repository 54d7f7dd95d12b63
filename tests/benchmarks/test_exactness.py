"""`exactness` finds what is lost and doubled, calls an endless wait hung; chexdist does none of it."""

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks.__main__ import main
from benchmarks.nodes import Patience, start
from benchmarks.tally import Count, Trained, contributed, count, name_of
from chexdist.errors import WorkError

PICTURES = np.random.default_rng(0).integers(0, 256, (24, 4, 4), np.uint8)
SPLIT = [name_of(picture) for picture in PICTURES]
BATCH = 4


def train(folder: Path, ranks: list[list[int]], first: int = 0) -> Path:
    """A start's records: on each rank these samples, an equal share of each batch, from batch `first` on."""
    folder.mkdir()
    share = BATCH // len(ranks)
    for rank, samples in enumerate(ranks):
        trained = Trained(folder, rank, kill_at=None)
        for number in range(0, len(samples), share):
            t = first + number // share
            trained.before(t)
            trained.after(t, PICTURES[samples[number : number + share]])
    return folder


def test_an_epoch_by_two_nodes_is_counted_whole(tmp_path: Path) -> None:
    batches = contributed([train(tmp_path / "1", [list(range(0, 24, 2)), list(range(1, 24, 2))])])
    assert batches[0] == [SPLIT[sample] for sample in (0, 2, 1, 3)]  # rank after rank
    assert list(batches) == [0, 1, 2, 3, 4, 5]
    assert count(SPLIT, batches) == Count(lost=0, doubled=0)


def test_a_planted_loss_and_a_planted_double_are_found(tmp_path: Path) -> None:
    samples = list(range(24))
    samples[7] = samples[19]
    assert count(SPLIT, contributed([train(tmp_path / "1", [samples])])) == Count(lost=1, doubled=1)
    assert count(SPLIT, contributed([train(tmp_path / "2", [samples[:-4]])])) == Count(lost=5, doubled=1)
    assert count(SPLIT, contributed([train(tmp_path / "3", [[*range(24), 5, 5, 5, 6]])])) == Count(0, 4)


def test_what_came_after_the_checkpoint_does_not_count(tmp_path: Path) -> None:
    """Killed in batch 4, resumed from batch 2 by one node instead of two: its first 2 and 3 don't count."""
    killed = train(tmp_path / "1", [[0, 1, 4, 5, 8, 9, 12, 13], [2, 3, 6, 7, 10, 11, 14, 15]])
    exact = train(tmp_path / "2", [list(range(8, 24))], first=2)
    assert count(SPLIT, contributed([killed, exact])) == Count(0, 0)
    late = train(tmp_path / "3", [list(range(12, 24))], first=2)  # resumes behind what was discarded
    assert count(SPLIT, contributed([killed, late])) == Count(lost=4, doubled=0)
    short = train(tmp_path / "5", [list(range(8, 12))], first=2)  # ends before the first start did
    assert count(SPLIT, contributed([killed, short])) == Count(lost=12, doubled=0)
    again = train(tmp_path / "4", [list(range(24))], first=2)  # begins the epoch again
    assert count(SPLIT, contributed([killed, again])) == Count(lost=0, doubled=8)


def test_a_picture_of_another_split_is_refused(tmp_path: Path) -> None:
    batches = contributed([train(tmp_path / "1", [list(range(24))])])
    with pytest.raises(WorkError, match="1 of the pictures"):
        count(SPLIT[:-1], batches)


def waits_for_ever(rank: int, folder: Path, kill_at: int | None) -> None:
    Trained(folder, rank, kill_at).after(0, PICTURES[:BATCH])
    if rank:
        time.sleep(600)


def fails(rank: int, folder: Path, kill_at: int | None) -> None:
    raise RuntimeError(f"rank {rank} of {os.environ.get('WORLD_SIZE', '1')}")


def is_killed(rank: int, folder: Path, kill_at: int | None) -> None:
    trained = Trained(folder, rank, kill_at)
    for t in range(5):
        trained.before(t)
        trained.after(t, PICTURES[:BATCH])


def test_how_a_start_ended_is_reported(tmp_path: Path) -> None:
    assert start(waits_for_ever, 2, tmp_path / "hung", None, Patience(next=1.0)) == "hung"
    patience = Patience()
    assert start(fails, 2, tmp_path / "failed", None, patience) == "failed"
    assert "of 2" in (tmp_path / "failed" / "log").read_text()
    assert start(is_killed, 1, tmp_path / "killed", 3, patience) == "killed"
    assert list(contributed([tmp_path / "killed"])) == [0, 1, 2]
    assert start(is_killed, 1, tmp_path / "done", None, patience) == "done"


def test_chexdist_loses_and_doubles_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command itself, least size: real processes, really killed."""
    assert main(["exactness", "--tiny", "--out", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    (file,) = tmp_path.iterdir()
    document = json.loads(file.read_text())
    for scenario, result in document["outcomes"]["chexdist"].items():
        assert (result["state"], result["lost"], result["doubled"]) == ("done", 0, 0), scenario
        assert result["batches"] == 6
        assert result.get("kept") == result.get("after restart")
    assert document["outcomes"]["chexdist"]["then on one"]["kept"] == 4  # from the checkpoint after batch 2
    theirs = document["outcomes"]["shards, with_epoch"]["then on one"]
    assert theirs["lost"] > 0 and theirs["state"] == "done"
    assert {"machine", "date", "commit", "settings", "rows", "notes"} <= set(document)
    assert str(tmp_path.parent) not in json.dumps({**document, "command": None})
    assert main(["--markdown", str(file)]) == 0
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len(table) == 2 + 2
    for row in document["rows"]:
        assert row["name"] in shown
        assert f"| {' | '.join([row['name'], *row['cells']])} |" in table
