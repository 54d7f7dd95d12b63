"""The benchmarks run, compare like with like, and keep what they measured."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from pydicom import dcmread
from pydicom.data import get_testdata_file
from torch import Tensor

from benchmarks import build, encodings, notebook, record, step, stream
from benchmarks.__main__ import main
from benchmarks.alternate import Comparison, Effort, Side, alternate, compare
from chexdist.errors import UserError
from chexdist.training.step import Step

LEAST = Effort(rounds=1, seconds=0.0)
FIELDS = {
    "benchmark",
    "date",
    "commit",
    "command",
    "machine",
    "busy",
    "unit",
    "settings",
    "rows",
    "notes",
    "rates",
}


@pytest.fixture(scope="module")
def pixels() -> Tensor:
    return torch.randint(0, 256, (step.PICTURES, 32, 32), dtype=torch.uint8)


def trainable(*networks: torch.nn.Module) -> int:
    return sum(weight.numel() for network in networks for weight in network.parameters())


@pytest.mark.parametrize("name", ["dcgan", "wgan-gp"])
def test_both_sides_train_equally_many_parameters(name: str, pixels: Tensor) -> None:
    made = step.sides(name, step.TINY, pixels)
    ours = made[f"{name} batch norm" if name == "dcgan" else f"{name} bare"]
    gray, rgb = made[f"{name} notebook gray"], made[f"{name} notebook RGB"]
    assert isinstance(ours, step.Ours) and isinstance(gray, step.Theirs) and isinstance(rgb, step.Theirs)
    for network in ("generator", "critic"):
        mine, same, larger = (trainable(getattr(side, network)) for side in (ours.gan, gray.loop, rgb.loop))
        width = ours.gan.config.model.width
        assert mine == same == larger - 2 * width * 4 * 4  # two more channels, kernels of 4 x 4


def test_a_plain_loop_trains_the_residual_networks(pixels: Tensor) -> None:
    """With R1 and R2 or without, which changes what its critic learns."""
    made = step.sides("residual", step.TINY, pixels)
    ours, plain, penalised = (made[f"residual {kind}"] for kind in ("bare", "plain", "plain, R1 and R2"))
    assert isinstance(ours, step.Ours)
    assert isinstance(plain, step.Theirs) and isinstance(penalised, step.Theirs)
    for network in ("generator", "critic"):
        mine, same = (trainable(getattr(side, network)) for side in (ours.gan, plain.loop))
        assert mine == same
    for side in (plain, penalised):
        side.loop.critic.load_state_dict(ours.gan.critic.state_dict())
        side.loop.generator.load_state_dict(ours.gan.generator.state_dict())
        torch.manual_seed(0)
        side.train()
    weights = zip(plain.loop.critic.parameters(), penalised.loop.critic.parameters(), strict=True)
    assert not all(torch.equal(*pair) for pair in weights)


@pytest.mark.parametrize(
    ("name", "other"),
    [("dcgan", "notebook RGB"), ("wgan-gp", "notebook RGB"), ("residual", "plain")],
)
def test_both_sides_see_the_same_images(
    name: str, other: str, pixels: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, list[Tensor]] = {"ours": [], "theirs": []}
    loop = {"dcgan": notebook.Dcgan, "wgan-gp": notebook.WganGp, "residual": notebook.Residual}[name]
    monkeypatch.setattr(Step, "__call__", lambda self, t, images, labels: seen["ours"].append(images))
    monkeypatch.setattr(loop, "batch", lambda self, i, images: seen["theirs"].append(images))
    made = step.sides(name, step.TINY, pixels)
    for side in (f"{name} as shipped", f"{name} {other}"):
        for _ in range(10):  # more than the pictures last
            made[side].train()
    for mine, theirs in zip(seen["ours"], seen["theirs"], strict=True):
        assert mine.shape == (16, 1, 32, 32)
        assert torch.equal(mine.expand_as(theirs), theirs)
    assert not torch.equal(seen["ours"][0], seen["ours"][1])


@pytest.mark.parametrize("name", step.COMPARISONS)
def test_every_side_learns(name: str, pixels: Tensor) -> None:
    for side, training in step.sides(name, step.TINY, pixels).items():
        networks = training.gan if isinstance(training, step.Ours) else training.loop
        weights = [*networks.generator.parameters(), *networks.critic.parameters()]
        weights = [
            weight for weight in weights if weight.dim() == 4
        ]  # norms start at 1 and move less than its last bit
        before = [weight.detach().clone() for weight in weights]
        for _ in range(
            2
        ):  # the last convolution of a residual block begins at 0, and the first learns after it
            assert step.timed(training) > 0
        assert all(torch.isfinite(weight).all() for weight in weights), side
        assert not any(torch.equal(weight, old) for weight, old in zip(weights, before, strict=True)), side


def test_a_period_holds_what_is_scheduled(pixels: Tensor) -> None:
    shipped = step.sides("dcgan", step.TINY, pixels)["dcgan as shipped"]
    assert shipped.period == 8  # R1 comes every 128 images, batches have 16
    periods = {name: side.period for name, side in step.sides("wgan-gp", step.TINY, pixels).items()}
    assert periods["wgan-gp as shipped"] == 2  # the penalty comes every 32 images


def test_bare_leaves_the_average_alone(pixels: Tensor) -> None:
    made = step.sides("dcgan", step.TINY, pixels)
    for name, moves in (("dcgan as shipped", True), ("dcgan bare", False)):
        side = made[name]
        assert isinstance(side, step.Ours)
        before = [weight.clone() for weight in side.gan.ema.parameters()]
        side.train()
        moved = [not torch.equal(*pair) for pair in zip(before, side.gan.ema.parameters(), strict=True)]
        assert all(moved) if moves else not any(moved)


def test_sides_take_turns_and_ratios_are_taken_round_by_round() -> None:
    turns: list[str] = []

    def takes(name: str, seconds: list[float]) -> float:
        turns.append(name)
        return seconds.pop(0)

    ours, theirs = [1.0, 1.0, 2.0, 4.0], [1.0, 2.0, 4.0, 2.0]
    sides = [Side("a", 10, lambda: takes("a", ours)), Side("b", 10, lambda: takes("b", theirs))]
    rates = alternate("turns", sides, Effort(rounds=3, seconds=1.0))
    assert turns == ["a", "b"] * 4
    assert rates == {"a": [10.0, 5.0, 2.5], "b": [5.0, 2.5, 5.0]}
    row = compare(Comparison("a / b", "a", "b"), rates)
    assert row == {"name": "a / b", "ours": 5.0, "theirs": 5.0, "ratio": 2.0, "low": 0.5, "high": 2.0}


def test_a_quick_side_runs_until_its_seconds_are_full() -> None:
    runs: list[float] = []

    def quick() -> float:
        runs.append(0.25)
        return 0.25

    assert alternate("quick", [Side("a", 1, quick)], Effort(rounds=2, seconds=1.0)) == {"a": [4.0, 4.0]}
    assert len(runs) == 1 + 2 * 4


def test_a_long_side_needs_no_warming_up() -> None:
    long, short = iter([20.0, 10.0]), iter([1.0, 2.0, 4.0])
    sides = [Side("long", 40, lambda: next(long)), Side("short", 4, lambda: next(short))]
    rates = alternate("long", sides, Effort(rounds=2, seconds=1.0, long=10.0))
    assert rates == {"long": [2.0, 4.0], "short": [2.0, 1.0]}


def test_the_command_writes_what_it_shows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["step", "stream", "build", "--tiny", "--out", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    files = sorted(tmp_path.iterdir())
    assert [file.name.split("-")[0] for file in files] == ["build", "step", "stream"]
    for file in files:
        document = json.loads(file.read_text())
        assert set(document) == FIELDS
        assert {"cpu", "cores", "threads", "gpu", "torch", "load"} == set(document["machine"])
        assert all(len(rates) == 1 and rates[0] > 0 for rates in document["rates"].values())
        assert document["rows"] and all(row["low"] <= row["ratio"] <= row["high"] for row in document["rows"])
        assert all(row["name"] in shown for row in document["rows"])
    assert main(["--markdown", *map(str, files)]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = sum(map(len, step.COMPARISONS.values())) + len(stream.COMPARISONS)
    rows += len(build.comparisons(build.TINY.encodings))
    assert sum(line.startswith("|") for line in lines) == rows + 3 * 2  # and two lines of each head


def test_a_radiograph_is_the_same_in_each_encoding(tmp_path: Path) -> None:
    """To the last bit where nothing is lost; PNG has 8 bits, and so has baseline, which is lossy."""
    encodings.write_encodings(3, tmp_path, 64)
    files = {name: next((tmp_path / name).iterdir()) for name in encodings.ENCODINGS}
    levels = {name: encodings.decoded(file, 64) for name, file in files.items()}
    for name in ("RLE", "JPEG lossless", "JPEG-LS", "JPEG 2000"):
        np.testing.assert_array_equal(levels[name], levels["uncompressed"])
    assert np.abs(levels["JPEG baseline"].astype(int) - levels["PNG"]).max() <= 12
    syntaxes = {dcmread(file).file_meta.TransferSyntaxUID for file in files.values() if file.suffix == ".dcm"}
    assert len(syntaxes) == 6


@pytest.mark.parametrize("name", build.RADIOGRAPHS.values())
def test_both_decoders_draw_the_same_picture(name: str) -> None:
    """To 55 dB, and not to the last bit, since one of them has left out detail."""
    file = Path(str(get_testdata_file(name, download=False)))
    ours, theirs = (decode(file, 256) for decode in (build.as_built, build.whole))
    assert 0 < float(((ours - theirs) ** 2).mean()) < 10**-5.5


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "step, stream"),
        (["nothing"], "nothing: give one or more of step, stream"),
        (["step", "--batch", "12"], "multiple of 8"),
        (["step", "--rounds", "0"], "--rounds 0 must be 1 or more"),
        (["scaling", "--gbit", "0"], "--gbit 0.0 must be a number above 0"),
        (["scaling", "--latency", "nan"], "--latency nan must be a number above 0"),
        (["--markdown", "none.json"], "none.json: No such file"),
    ],
)
def test_mistakes_are_a_line(words: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    error = capsys.readouterr().err
    assert expected in error and error.count("\n") == 1


@pytest.mark.parametrize("text", ["", "[]", '{"rows": 3}', '{"machine": {}}'])
def test_other_files_are_no_results(text: str, tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(UserError, match="no benchmark's result"):
        record.read(path)
