"""The formula of `scaling` against a ring that is played through, and what its rows say."""

import json
from pathlib import Path

import pytest
import torch

from benchmarks import scaling
from benchmarks.__main__ import main
from benchmarks.scaling import BEYOND, KINDS, WORLDS, Place, Ring, Setting
from benchmarks.step import Ours, draw_pixels
from benchmarks.worlds import Processes, Traffic
from chexdist.doctor.launches import ARITHMETIC, Work
from chexdist.doctor.peers import SUMMED

NETWORK = Ring(bandwidth=2e9, latency=5e-5)


@pytest.mark.parametrize("ranks", [2, 3, 8])
def test_the_formula_is_what_a_ring_takes(ranks: int) -> None:
    """Chunks go round and are added up, then sums go round; in each round all ranks send one at once."""
    held = [[float(rank * ranks + chunk) for chunk in range(ranks)] for rank in range(ranks)]
    rounds = 0
    for turn in range(ranks - 1):
        sent = [(rank, (rank - turn) % ranks) for rank in range(ranks)]
        for rank, chunk, value in [(rank, chunk, held[rank][chunk]) for rank, chunk in sent]:
            held[(rank + 1) % ranks][chunk] += value
        rounds += 1
    for turn in range(ranks - 1):
        sent = [(rank, (rank + 1 - turn) % ranks) for rank in range(ranks)]
        for rank, chunk, value in [(rank, chunk, held[rank][chunk]) for rank, chunk in sent]:
            held[(rank + 1) % ranks][chunk] = value
        rounds += 1
    assert held == [[sum(rank * ranks + chunk for rank in range(ranks)) for chunk in range(ranks)]] * ranks
    taken = rounds * (NETWORK.latency + SUMMED / ranks / NETWORK.bandwidth)
    assert NETWORK.seconds(ranks, Traffic(1, SUMMED)) == pytest.approx(taken)
    twice = NETWORK.seconds(ranks, Traffic(2, SUMMED)) - NETWORK.seconds(ranks, Traffic(1, SUMMED))
    assert twice == pytest.approx(rounds * NETWORK.latency)


@pytest.mark.parametrize("ranks", [2, 4])
def test_constants_are_found_from_two_sizes(ranks: int) -> None:
    few, many = (NETWORK.seconds(ranks, Traffic(1, size)) for size in (4, SUMMED))
    found = Ring.between(ranks, few, many)
    assert found.bandwidth == pytest.approx(NETWORK.bandwidth, rel=1e-3)
    assert found.latency == pytest.approx(NETWORK.latency, rel=1e-3)


def test_rows_have_the_measured_beside_the_formula() -> None:
    """Of ranks that take exactly what the formula says: 10 ms an image on each, and the sums."""
    traffic, rings = Traffic(4, 2**22), dict.fromkeys(WORLDS[1:], NETWORK)
    rates = {}
    for place in scaling.measured(16, 32):
        apart = place.share * 0.01
        rates[place.apart] = [place.batch / apart] * 3
        if place.ranks > 1:
            rates[place.joined] = [place.batch / (apart + NETWORK.seconds(place.ranks, traffic))] * 3
    rows = [row for kind in KINDS for row in scaling.rows_of(kind, 32, 16, rates, rings, traffic)]
    assert [row["cells"][0] for row in rows] == ["16", "16", "16", "32", "16", "8"]
    assert [row["computing"] for row in rows] == pytest.approx([0.16, 0.16, 0.16, 0.32, 0.16, 0.08])
    assert [row["summing"] for row in rows[:2]] == pytest.approx([0, NETWORK.seconds(2, traffic)])
    for row in rows:
        assert row["measured"] == pytest.approx(row["computing"] + row["summing"])
        assert row["cells"][3] == row["cells"][4]
        assert row["cells"][5] in (f"{row['ratio']:.2f}", "1.00")


def test_what_is_extrapolated_says_so() -> None:
    work, traffic, setting = Work(1000, 1e9), Traffic(4, 2**22), Setting(cluster=NETWORK)
    rows = list(scaling.beyond(32, setting, work, traffic))
    assert len(rows) == len(KINDS) * len(BEYOND)
    assert all(row["name"].startswith("EXTRAPOLATED") and row["cells"][4] == "" for row in rows)
    assert {row["computing"] for row in rows[:3]} == {work.launching}  # 16 images launch for longer
    assert rows[3]["computing"] == 1024 * work.arithmetic / ARITHMETIC
    assert [row["cells"][0] for row in rows[3:]] == ["1,024", "128", "8"]


@pytest.mark.parametrize("ranks", BEYOND)
def test_sums_are_cheap_from_so_many_images(ranks: int) -> None:
    work, traffic = Work(1000, 1e9), Traffic(4, 2**22)
    enough = scaling.cheap_from(ranks, work, NETWORK, traffic)
    sums = NETWORK.seconds(ranks, traffic)
    tenth = [sums / (sums + n * work.arithmetic / ARITHMETIC) for n in (enough, enough - 1)]
    assert tenth[0] <= 0.1 < tenth[1]
    assert scaling.cheap_from(ranks, work, Ring(1e30, 0.0), traffic) == work.enough


@pytest.mark.slow
def test_ranks_are_timed_beside_trainings_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scaling", "--tiny", "--gbit", "8", "--out", str(tmp_path)]) == 0
    (file,) = tmp_path.iterdir()
    document = json.loads(file.read_text())
    measured = [row for row in document["rows"] if not row["name"].startswith("EXTRAPOLATED")]
    assert len(measured) == 2 * len(KINDS) * len(WORLDS) and len(document["rows"]) == 2 * len(measured)
    assert all(0 < row["low"] <= row["ratio"] <= row["high"] for row in measured)
    assert all((row["summing"] > 0) == (" 1 rank" not in row["name"]) for row in measured)
    assert document["settings"]["assumed bandwidth"] == "1 GB/s"
    assert main(["--markdown", str(file)]) == 0
    assert sum(line.startswith("|") for line in capsys.readouterr().out.splitlines()) == 2 + 2 * len(measured)


@pytest.mark.slow
def test_traffic_is_the_gradients_of_both_networks() -> None:
    place = Place(width=2, ranks=2, share=16)
    config = scaling.configured(scaling.TINY, place.width, place.batch)
    world = Processes(place.ranks, True, {"tiny": config}, draw_pixels(config.model.size))
    try:
        world.wait()
        world.ask(2, "train", "tiny", 3)
        first, second = world.ask(2, "traffic", "tiny")
    finally:
        world.kill()
    gan = Ours(config, torch.zeros(32, 32, 32, dtype=torch.uint8)).gan
    weights = [*gan.generator.parameters(), *gan.critic.parameters()]
    assert first == second == Traffic(2, 4 * sum(weight.numel() for weight in weights))
