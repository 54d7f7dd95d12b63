"""In which order runs stand, in the report and in `chexdist compare`: by paired differences, seeds as one
row, unequal budgets named, an edited evaluation behind the log, extractors side by side.
"""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.html_page import Page
from helpers.run_files import FIELDS, MakeRun, evaluate, metric, protocol
from safetensors.torch import save_file

from chexdist.__main__ import main
from chexdist.metrics import METRICS
from chexdist.metrics.difference import DRAWS
from chexdist.run import draws

Capture = pytest.CaptureFixture[str]
HASH = protocol()[0]
SHARED = np.random.default_rng(0).standard_normal(DRAWS) * 80
"""What the patients of the reference do to every number."""


def of(value: float, own: float, seed: int) -> np.ndarray:
    """Draws of a number that varies with the patients, and by `own` with its images."""
    return value + SHARED + np.random.default_rng(seed).standard_normal(DRAWS) * own


def line(name: str, value: float, images: int, **fields: Any) -> dict[str, Any]:
    return metric(name, value, images, 157.0, protocol=HASH, floor=-10.0, **fields)


Measured = Callable[..., Path]


@pytest.fixture
def measured(make_run: MakeRun) -> Measured:
    """`measured("a", 600.0)` -> a run with KID at its end, and draws that vary by `own` too."""

    def make(
        name: str,
        value: float,
        *settings: str,
        own: float = 3.0,
        images: int = 1000,
        with_draws: bool = True,
        step: int = 0,
    ) -> Path:
        lines = [line("kid_x1000/real", -10.0, 0), line("kid_x1000/mean_image", 1225.0, 0)]
        lines.append(line("kid_x1000", value, images, step=step))
        run = make_run(name, "dcgan", *settings, images=images, lines=lines)
        if with_draws:
            write(run, f"images-{images}", {"kid_x1000": of(value, own, sum(name.encode()))})
            flat = {"kid_x1000/mean_image": of(1225.0, 1.0, 99), "kid_x1000/real": of(-10.0, 1.0, 98)}
            write(run, "real", flat)
        return run

    return make


def write(run: Path, name: str, found: dict[str, np.ndarray], protocol: str = HASH) -> None:
    (run / "draws").mkdir(exist_ok=True)
    tensors = {(protocol, key): torch.from_numpy(values) for key, values in found.items()}
    draws.write(run / f"draws/{name}.safetensors", tensors)


def report(*runs: Path) -> Page:
    out = runs[0].parent / "report.html"
    assert main(["report", *map(str, runs), "--out", str(out)]) == 0
    return Page(out.read_text(encoding="utf-8"))


def order(page: Page) -> list[list[str]]:
    return next(table for table in page.tables if table[0][:2] == ["run", "order"])[1:]


def compared(capsys: Capture, *words: object, code: int = 0) -> str:
    capsys.readouterr()
    assert main(["compare", *map(str, words)]) == code, capsys.readouterr()
    out, err = capsys.readouterr()
    return out + err


def test_a_paired_difference_settles_what_two_intervals_do_not(measured: Measured) -> None:
    page = report(measured("b", 1301.0), measured("a", 1248.0))
    first, second = order(page)
    assert first[:3] == ["a", "1", "1,248 [1,091, 1,405]"] and second[:2] == ["b", "2"]
    assert second[3].startswith("53.0 [") and second[4] == "yes: a is better"
    assert "a is nearest to held-out patients" in page.text
    assert "; b has 53.0 [" in page.text and "more against the same patients" in page.text
    assert "not settled" not in page.text


def test_a_difference_that_may_be_0_is_not_settled(measured: Measured) -> None:
    page = report(measured("a", 600.0, own=40), measured("b", 610.0, own=40))
    first, second = order(page)
    assert first[1] == second[1] == "1 to 2" and second[4] == "not settled"
    assert "the 95 % interval of its paired difference holds 0 for b, so their order" in page.text


def test_without_draws_intervals_decide_and_the_page_says_so(measured: Measured) -> None:
    page = report(measured("a", 600.0), measured("b", 610.0, with_draws=False))
    assert order(page)[1][3:5] == ["–", "not settled, no draws"]
    assert "its 95 % interval overlaps that of b, so their order is not settled" in page.text
    assert "settles less" in page.text and "chexdist evaluate" in page.text


def test_three_runs_of_which_two_are_not_told_apart(measured: Measured) -> None:
    runs = [measured("a", 600.0), measured("b", 800.0, own=60), measured("c", 810.0, own=60)]
    assert [row[1] for row in order(report(*runs))] == ["1", "2 to 3", "2 to 3"]


def test_unequal_budgets_are_named_beside_the_order(measured: Measured, capsys: Capture) -> None:
    runs = [measured(*each) for each in (("a", 600.0), ("b", 700.0), ("c", 800.0))]
    assert "Unequal budgets" not in report(*runs).text + compared(capsys, *runs)
    unequal = [*runs[:2], measured("d", 500.0, images=2000)]
    words = "Unequal budgets (images seen): d 2,000, a 1,000 and b 1,000."
    page = report(*unequal)
    assert page.text.count(words) == 2  # in the first sentences and below the order
    assert "Unequal budgets (images seen): a 1,000, b 1,000 and d 2,000." in compared(capsys, *unequal)


def test_generator_steps_are_a_budget_too(measured: Measured) -> None:
    page = report(measured("a", 600.0, step=100), measured("b", 700.0, step=20))
    assert "Unequal budgets (generator steps over 1,000 images): a 100 and b 20." in page.text


def test_pictures_of_others_have_no_budget(measured: Measured) -> None:
    runs = [measured("a", 600.0), measured("pictures", 500.0, images=2000)]
    (runs[1] / "status.json").write_text(json.dumps({"state": "pictures", "images": 0}))
    page = report(*runs)
    assert [row[0] for row in order(page)] == ["pictures", "a"] and "Unequal budgets" not in page.text


def seeds(measured: Measured, values: tuple[float, ...]) -> list[Path]:
    return [measured(f"s{n}", value, f"--train.seed={n}") for n, value in enumerate(values)]


def test_seeds_of_one_configuration_are_one_row(measured: Measured, capsys: Capture) -> None:
    runs = [*seeds(measured, (600.0, 640.0, 620.0)), measured("other", 700.0, "--optim.critic.lr=0.1")]
    first, second = order(report(*runs))
    assert first[:3] == ["s0, s1 and s2", "1", "620 (600 to 640, 3 seeds)"]
    assert second[0] == "other" and second[4] == "yes: s0, s1 and s2 is better"
    assert second[3].startswith("80.0 [")
    out = compared(capsys, *runs, "--require", "s0, s1 and s2<other", "--require", "s2<s1")
    assert out.count(": shown") == 2


def test_overlapping_seeds_settle_nothing(measured: Measured, capsys: Capture) -> None:
    """However narrow the paired interval is: patients say nothing of another seed."""
    runs = [*seeds(measured, (600.0, 720.0)), measured("other", 700.0, "--optim.critic.lr=0.1")]
    page = report(*runs)
    assert [row[1] for row in order(page)] == ["1 to 2", "1 to 2"]
    assert "not each of its seeds is better than each of other" in page.text
    compared(capsys, *runs, "--require", "s0 and s1<other", code=1)
    compared(capsys, *runs, "--require", "s0<other", code=0)


def test_other_images_or_a_copy_are_no_further_seeds(measured: Measured) -> None:
    copies = [measured("a", 600.0), measured("b", 620.0)]
    assert [row[0] for row in order(report(*copies))] == ["a", "b"]
    longer = [measured("c", 600.0), measured("d", 500.0, "--train.seed=1", images=2000)]
    assert [row[0] for row in order(report(*longer))] == ["d", "c"]


def test_better_than_the_mean_image_follows_the_same_rule(measured: Measured, capsys: Capture) -> None:
    runs = [measured("near", 1215.0, own=40), measured("better", 1190.0), measured("worse", 1260.0)]
    page = report(runs[0])
    assert "1,225, from which it can't be distinguished (difference −10" in page.text
    assert "which it does not beat" in report(runs[2]).text
    assert "not beat" not in report(runs[1]).text and "distinguished" not in report(runs[1]).text
    table = compared(capsys, *runs).partition("always drawing the mean image")[2]
    words = {row.split()[0]: row.split()[-1] for row in table.splitlines()[2:5]}
    assert words == {"near": "settled", "better": "yes", "worse": "no"}


def test_an_edited_evaluation_does_not_outrank_the_log(make_run: MakeRun, capsys: Capture) -> None:
    run, other = make_run("a", final=600.0), make_run("b", final=900.0)
    file = evaluate(run)
    honest = report(run, other)
    assert "the log counts" not in honest.text
    document = json.loads(file.read_text())
    for each in document["metrics"]:
        if each["name"] == "kid_x1000":
            each.update(value=100.0, low=90.0, high=110.0)
        elif each["name"] == "kid_x1000/real":
            each.update(value=50.0, low=40.0, high=60.0)
    file.write_text(json.dumps(document))
    edited = report(run, other)
    assert edited.tables == honest.tables
    said = "a: images-1000-val has kid_x1000 100 after 1,000 images, but the log has 600 under the same"
    assert said in edited.text and "kid_x1000/real 50 after 0 images, but the log has −10 " in edited.text
    assert said in compared(capsys, run, other)


def test_another_seed_may_differ_within_the_interval(make_run: MakeRun) -> None:
    """Of other latents it is another number, and the log counts all the same."""
    run = make_run("a", final=600.0)
    file = evaluate(run, shift=5.0, seed=3)
    assert "the log counts" not in report(run).text
    evaluate(run, shift=50.0, seed=3)
    page = report(run)
    assert "kid_x1000 650 after" in page.text and "the log counts" in page.text
    assert next(t for t in page.tables if t[0][1].startswith("KID"))[1][1] == "600 [590, 610]"
    assert file.exists()


def test_an_evaluation_of_the_same_gives_an_old_run_its_draws(measured: Measured, capsys: Capture) -> None:
    runs = [measured("a", 600.0, with_draws=False), measured("b", 640.0)]
    assert "--checkpoint images-1000 --split val --samples 512 --seed 0` makes them" in compared(
        capsys, *runs
    )
    file = evaluate(runs[0])
    tensors = {(HASH, "kid_x1000"): torch.from_numpy(of(600.0, 3.0, 7))}
    draws.write(file.parent / "draws.safetensors", tensors)
    assert "b has 40.0 [" in report(*runs).text and "makes them" not in compared(capsys, *runs)


def test_draws_that_can_t_be_of_the_number_are_left_out(measured: Measured) -> None:
    runs = [measured("a", 600.0), measured("b", 640.0)]
    write(runs[1], "images-1000", {"kid_x1000": of(6000.0, 3.0, 7)})
    assert order(report(*runs))[1][4] == "not settled, no draws"


WRONG: dict[str, Callable[[Path], object]] = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-8]),
    "empty": lambda path: path.write_bytes(b""),
    "a pickle": lambda path: torch.save({"x": torch.zeros(3)}, path),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "a pipe": lambda path: (path.unlink(), os.mkfifo(path)),
    "large": lambda path: os.truncate(path, 2**27),
    "few": lambda path: draws.write(path, {(HASH, "kid_x1000"): torch.zeros(7, dtype=torch.float64)}),
    "float32": lambda path: draws.write(path, {(HASH, "kid_x1000"): torch.zeros(DRAWS)}),
    "bfloat16": lambda path: bfloat16(path),
}


def bfloat16(path: Path) -> None:
    save_file({f"{HASH}/kid_x1000": torch.zeros(DRAWS, dtype=torch.bfloat16)}, path)


@pytest.mark.parametrize("what", WRONG)
def test_damaged_draws_are_one_line(what: str, measured: Measured, capsys: Capture) -> None:
    runs = [measured("a", 600.0), measured("b", 640.0)]
    WRONG[what](runs[0] / "draws/images-1000.safetensors")
    said = compared(capsys, *runs, code=2)
    assert said.count("\n") == 1 and "images-1000.safetensors" in said and "Traceback" not in said


def test_values_that_are_not_finite_are_never_written(tmp_path: Path) -> None:
    good, bad = torch.ones(DRAWS, dtype=torch.float64), torch.ones(DRAWS, dtype=torch.float64)
    bad[3] = float("nan")
    draws.write(tmp_path / "x.safetensors", {("p", "good"): good, ("p", "bad"): bad})
    assert [*draws.read(tmp_path / "x.safetensors")] == [("p", "good")]
    assert draws.read(tmp_path / "none.safetensors") == {}


def by_extractors(run: Path, values: dict[str, float], seed: int) -> None:
    """An evaluation with KID in the features of several extractors."""
    protocols, metrics, tensors = {}, [], {}
    for extractor, value in values.items():
        name, fields = protocol(**{**FIELDS, "extractor": extractor, "digest": extractor})
        protocols[name] = fields
        metrics.append(metric("kid_x1000", value, 1000, 157.0, protocol=name, floor=-10.0))
        tensors[name, "kid_x1000"] = torch.from_numpy(of(value, 2.0, seed))
    file = evaluate(run, protocols=protocols, metrics=metrics)
    draws.write(file.parent / "draws.safetensors", tensors)


def test_extractors_that_disagree_are_shown(make_run: MakeRun, capsys: Capture) -> None:
    runs = [make_run(name, lines=None) for name in "abc"]
    for seed, (run, one, other) in enumerate(
        zip(runs, (600.0, 650.0, 651.0), (650.0, 600.0, 700.0), strict=True)
    ):
        by_extractors(run, {"lite": one, "random": other, "same": one}, seed)
    rows = next(table for table in report(*runs).tables if table[0][0] == "metric")
    assert rows[0] == ["metric", "lite", "random", "same", "they"]
    assert rows[1] == ["KID × 1000", "a < b ≈ c", "b < a < c", "a < b ≈ c", "disagree on a and b"]
    assert "disagree on a and b" in compared(capsys, *runs)
    assert "several extractors" not in compared(capsys, *[make_run(name) for name in "xy"])


def test_higher_may_be_better(measured: Measured, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setitem(METRICS, "kid_x1000", replace(METRICS["kid_x1000"], better="higher"))
    runs = [measured("a", 600.0), measured("b", 640.0)]
    rows = order(report(*runs))
    assert [row[0] for row in rows] == ["b", "a"] and rows[1][4] == "yes: b is better"
    compared(capsys, *runs, "--require", "a<b")
    compared(capsys, *runs, "--require", "b<a", code=1)


def test_near_real_is_compared_by_distance(
    measured: Measured, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setitem(METRICS, "kid_x1000", replace(METRICS["kid_x1000"], better="near real"))
    runs = [measured("a", -100.0), measured("b", 30.0)]
    rows = order(report(*runs))
    assert [row[0] for row in rows] == ["b", "a"] and rows[1][3].startswith("50.0 [")
    compared(capsys, *runs, "--require", "b<a")
    compared(capsys, *runs, "--require", "a<b", code=1)
