"""`python -m benchmarks profile`: each part of the production step counts as what it is, and once."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks import operators, phases, profiling, step
from benchmarks.__main__ import main
from benchmarks.phases import Clock, watched

ONE_RANK = [phase for phase in phases.PHASES if phase != phases.ALL_REDUCE]


@pytest.fixture(scope="module")
def pixels() -> Tensor:
    return torch.randint(0, 256, (step.PICTURES, 32, 32), dtype=torch.uint8)


class Operators(TorchDispatchMode):
    """Names of operators by the phase in which they are dispatched."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock, self.seen = clock, {phase: Counter[str]() for phase in ["", *phases.PHASES]}

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen[self.clock.now][operator._schema.name.removeprefix("aten::")] += 1
        return operator(*args, **(kwargs or {}))


def operators_by_phase(name: str, pixels: Tensor) -> tuple[dict[str, Counter[str]], dict[str, Counter[str]]]:
    """Of a batch without penalty, and of one with it, after two that made the optimizers' moments."""
    training = step.Ours(step.configuration(name, step.TINY, "--penalty.every", "32"), pixels)
    clock, found = Clock(on_gpu=False), []
    with watched(training, clock):
        for _ in range(4):
            with Operators(clock) as counted:
                training.train()
            found.append(counted.seen)
    return found[2], found[3]


@pytest.mark.parametrize("name", profiling.GANS)
def test_each_part_of_a_step_counts_as_what_it_is(name: str, pixels: Tensor) -> None:
    plain, penalised = operators_by_phase(name, pixels)
    assert not plain[""] and not penalised[""]
    for phase in (phases.BATCH, phases.DRAWS, phases.AUGMENTATION, phases.CRITIC, phases.GENERATED):
        assert plain[phase], phase
    assert plain[phases.OPTIMIZER]["_fused_adam_"] == 2
    assert not plain[phases.PENALTY] and penalised[phases.PENALTY]
    for phase in (phases.CRITIC_BACKWARD, phases.GENERATOR_BACKWARD):
        assert plain[phase]["convolution_backward"] >= 3
    for phase in (phases.CRITIC, phases.GENERATED, phases.GENERATOR):
        assert plain[phase]["convolution"] >= 3 and not plain[phase]["convolution_backward"]
    through_both = plain[phases.GENERATED]["convolution"] + plain[phases.CRITIC]["convolution"]
    assert plain[phases.GENERATOR]["convolution"] >= through_both
    elsewhere = [phase for phase in ONE_RANK if "average" not in phase]
    assert not any("_foreach_lerp_" in plain[phase] for phase in elsewhere)


@pytest.mark.parametrize("name", profiling.GANS)
def test_a_penalty_adds_to_no_other_phase(name: str, pixels: Tensor) -> None:
    """Its part of the backward pass ends where that of the critic's loss begins."""
    plain, penalised = operators_by_phase(name, pixels)
    for phase in (phases.GENERATED, phases.AUGMENTATION, phases.GENERATOR, phases.GENERATOR_BACKWARD):
        assert plain[phase] == penalised[phase], phase
    convolutions = plain[phases.CRITIC_BACKWARD]["convolution_backward"]
    assert penalised[phases.CRITIC_BACKWARD]["convolution_backward"] == convolutions
    assert penalised[phases.PENALTY]["convolution_backward"] >= 2 * convolutions


def test_watching_changes_no_number(pixels: Tensor) -> None:
    config = step.configuration("dcgan", step.TINY, "--penalty.every", "32")
    alone, seen = step.Ours(config, pixels), step.Ours(config, pixels)
    clock = Clock(on_gpu=False)
    for _ in range(3):
        alone.train()
        with watched(seen, clock):
            seen.train()
    for mine, other in zip(alone.gan.critic.parameters(), seen.gan.critic.parameters(), strict=True):
        assert torch.equal(mine, other)


def test_no_second_is_counted_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds: Iterator[float] = iter([0.0, 1.0, 3.0, 7.0, 15.0])
    monkeypatch.setattr(phases, "time", SimpleNamespace(perf_counter=lambda: next(seconds)))
    clock = Clock(on_gpu=False)
    with clock.phase(phases.CRITIC), clock.phase(phases.PENALTY):
        clock.become(phases.DRAWS)
    taken = {phase: found for phase, found in clock.take().items() if found}
    assert taken == {phases.CRITIC: 1.0 + 8.0, phases.PENALTY: 2.0, phases.DRAWS: 4.0}
    assert not any(clock.seconds.values())


def test_the_host_is_timed_without_networks(pixels: Tensor) -> None:
    """On 64 images, through the production step with its noise, augmentation and penalty."""
    training = operators.without_networks("dcgan", step.TINY, pixels)
    assert len(training.step.share) == 64 and training.period == 2
    names = set(operators.by_operator(training, of_device=False)[0])
    assert not [name for name in names if "conv" in name] and "aten::_fused_adam_" in names
    least, most = operators.host_time(training, rounds=2)
    assert 0 <= least <= most < 5 and most > 0


def test_the_command_writes_a_table_and_a_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profiling, "_all_reduce", lambda *given: [0.25])
    assert main(["profile", "--tiny", "--out", str(tmp_path)]) == 0
    picture, document = sorted(tmp_path.iterdir(), key=lambda path: path.suffix, reverse=True)
    assert (picture.suffix, document.suffix) == (".svg", ".json")
    shown = capsys.readouterr().out
    assert picture.name in shown.replace("\n", "")
    found = json.loads(document.read_text())
    assert found["columns"] == list(profiling.GANS) and "batches 16 16 8" in shown.replace("\n", " ")
    rows = {row["name"]: row["cells"] for row in found["rows"]}
    assert [*ONE_RANK, "a batch"] == list(rows)[: len(ONE_RANK) + 1]
    assert rows["all-reduce, 2 ranks"] == ["250.0"] * 3
    (host,) = (cells for name, cells in rows.items() if "host, 64 images" in name)
    assert all(re.fullmatch(r"[\d.]+ to [\d.]+", cell) for cell in host)
    assert sum(name.startswith("aten::") for name in rows) == profiling.SHOWN
    for number, name in enumerate(profiling.GANS):
        total = sum(float(rows[phase][number].split()[0]) for phase in ONE_RANK)
        assert total == pytest.approx(float(rows["a batch"][number]), abs=0.1)
        assert len(found["phases"][name]) == 1 and found["operators"][name]
    text = "".join(ElementTree.fromstring(picture.read_text()).itertext())
    assert all(name in text for name in (*ONE_RANK, *profiling.GANS))


@pytest.mark.slow
def test_two_ranks_sum_their_gradients_up(pixels: Tensor) -> None:
    (seconds,) = profiling._all_reduce("dcgan", step.TINY, pixels, rounds=1)
    assert 0 < seconds < 60
