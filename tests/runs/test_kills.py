"""Restart: killed at any instant, the same command resumes, and ends with the bytes of an undisturbed run.

Each kill says where it hit: from the call stacks of the process that died, not from where it was aimed.
"""

import itertools
import json
import signal
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from helpers import jobs
from helpers.faults import DELETE, DESCRIBE, FLUSH, RENAME, REPLACE, SNAPSHOT, STEP, WRITE, Both, Kill, Slow
from rich.console import Console
from rich.table import Table

from chexdist.metrics import METRICS

RAMP = "{{start: {start}, end: {end}, images: 160, shape: {shape}}}"
GANS: dict[str, list[str]] = {
    "vanilla": [],
    "wgan-gp": ["--train.accumulate", "2"],
    "dcgan": ["--penalty.every", "32"],
    "residual": [
        *("--train.precision", "bf16", "--model.width", "1", "--penalty.every", "32", "--ema.ramp", "0.5"),
        *("--optim.generator.lr", RAMP.format(start=1e-3, end=1e-4, shape="cosine")),
        *("--optim.critic.lr", RAMP.format(start=1e-3, end=2e-3, shape="linear")),
        *("--penalty.weight", RAMP.format(start=1, end=0.1, shape="cosine")),
        *("--augment.probability", RAMP.format(start=0, end=0.9, shape="linear")),
    ],
}
"""Of the last one, everything moves that may."""
SIZES = (1, 2, 4)
EVALUATOR, RUN = "chexdist.training.validation", "chexdist.run.directory:RunDirectory"
ANY_RANK = -1
MEASURED = sum(metric.in_training for metric in METRICS.values())
AIMS: dict[str, list[Kill]] = {
    "save": [
        *(Kill(WRITE, call) for call in (2, 3, 5, 8, 11)),  # between two files of a checkpoint
        Kill(WRITE, 6),  # before its last file
        Kill(SNAPSHOT, 2),
        *(
            Kill(FLUSH, call) for call in (1, 8, 11, 16)
        ),  # 8, 16: it has its name, the directory is not flushed
        Kill(RENAME, 1),  # whole, but not under its name
        Kill(RENAME, 4),  # the first that is deleted still has its name,
        Kill(DELETE, 7),  # or has it no more
    ],
    "evaluation": [
        *(Kill(f"{EVALUATOR}:sample", call, ANY_RANK) for call in (3, 4, 6)),
        *(Kill(f"{EVALUATOR}:prepare", call, ANY_RANK) for call in (2, 3)),
        *(
            Kill("chexdist.evaluation.reference:Reference.measure", call * MEASURED + 1, ANY_RANK)
            for call in (2, 3)  # the first metric of an evaluation, after those of the mean image
        ),
        *(Kill(f"{RUN}.draw_samples", call) for call in (3, 4)),
    ],
    "step": [
        *(Kill(STEP, call, ANY_RANK) for call in (1, 2, 5, 6, 12)),
        *(Kill("chexdist.training.step:Step.update_critic", call, ANY_RANK) for call in (3, 7)),
        *(Kill("chexdist.training.step:Step.update_generator", call, ANY_RANK) for call in (2, 4)),
    ],
    "start-up": [
        Kill(f"{RUN}.lock", 1),
        Kill("chexdist.training.networks:Gan.__init__", 1, ANY_RANK),
        Kill("chexdist.training.step:Step.warm_up", 1, ANY_RANK),
        Kill("chexdist.run.checkpoint:load", 1, ANY_RANK),
        Kill(f"{RUN}.truncate", 1),
        Kill("chexdist.run.saver:prune", 1),
        Kill(DESCRIBE, 1),
        Kill(f"{EVALUATOR}:Validation.baselines", 1, ANY_RANK),
        Kill(REPLACE, 4),
    ],
}
"""What a kill is aimed at: a call, and the rank that dies just before it."""

STACKS = {
    "save": {"saver.start", "saver._write"},
    "evaluation": {"trainer.evaluate"},
    "step": {"step.__call__", "trainer.loop"},
}
"""Calls of which one is on the stack of what is hit there; before the loop begins, that is the start-up."""


@dataclass(frozen=True)
class Landed:
    """Where a kill hit, and what it cost: `lost` images were trained that have to be trained again.

    `files`: how many of the checkpoint that was being written there are, None when none was.
    """

    size: int
    gan: str
    rank: int
    place: str
    call: str
    code: int | None
    files: int | None
    lost: int


def place_of(here: list[str], main: list[str]) -> str:
    """From the stacks of the thread that was hit and of the one that trains."""
    if "trainer.loop" not in main:
        return "start-up"
    return next(place for place, calls in STACKS.items() if calls & {*here})


def killed(words: list[str], log: Path, size: int, kill: Kill, besides: jobs.Fault | None = None) -> Landed:
    """One start that ends in `kill -9`: of the rank that is aimed at, then of those that are left."""
    kill = replace(kill, rank=kill.call % size if kill.rank == ANY_RANK else 0, note=log.with_suffix(".note"))
    job = jobs.start(words, log, size, Both(besides, kill) if besides else kill)
    job.until(lambda: job.ranks[kill.rank].exitcode is not None)
    code = job.ranks[kill.rank].exitcode
    job.kill()
    assert code == -signal.SIGKILL, job.output
    note = json.loads(kill.note.read_text())
    folder = Path(words[words.index("--run.dir") + 1]) / "checkpoints"
    saved = max((int(path.parent.name[7:]) for path in folder.glob("images-*/state.json")), default=0)
    partial = [len(list(path.iterdir())) for path in folder.glob(".partial-*")]
    return Landed(
        size=size,
        gan=words[words.index("--config") + 1],
        rank=kill.rank,
        place=place_of(note["here"], note["main"]),
        call=f"{note['here'][-1]}, before {kill.target.rpartition(':')[2]}",
        code=code,
        files=partial[0] if partial else None,
        lost=jobs.BATCH * note["batches"] - saved if note["batches"] else 0,
    )


SMALL: dict[str, tuple[int, str, list[tuple[str, int]]]] = {
    "vanilla, 1 rank": (1, "vanilla", [("start-up", 6), ("save", 1), ("step", 2), ("evaluation", 5)]),
    "wgan, 2 ranks": (2, "wgan-gp", [("step", 2), ("save", 2)]),
    "dcgan, 4 ranks": (4, "dcgan", [("step", 3)]),
    "residual, 2 ranks": (2, "residual", [("step", 3), ("save", 4)]),
}


@pytest.mark.parametrize("case", SMALL)
def test_killed_run_ends_with_the_same_bits(
    case: str, shards: Path, undisturbed: Callable[..., Path], tmp_path: Path
) -> None:
    size, gan, aims = SMALL[case]
    words = jobs.small(shards, tmp_path / "run", gan, *GANS[gan])
    for place, number in aims:
        landed = killed(words, tmp_path / "log", size, AIMS[place][number])
        assert landed.place == place
        if place == "save":
            assert landed.files in range(1, 5)
    jobs.run(words, tmp_path / "log", size)
    jobs.same_result(tmp_path / "run", undisturbed(gan, size, *GANS[gan]))


def test_the_log_says_where_moving_settings_are(undisturbed: Callable[..., Path]) -> None:
    """In each line of the losses: as they were for its last batch."""
    log = jobs.metrics(undisturbed("residual", 2, *GANS["residual"]))
    found = {
        name: {line["images"]: line["value"] for line in log if line["name"] == f"schedule/{name}"}
        for name in ("augment.probability", "optim.critic.lr", "ema.decay", "penalty.weight")
    }
    logged = [line["images"] for line in log if line["name"] == "loss/critic"]
    done = {images: min(1, (images - jobs.BATCH) / 160) for images in logged}
    assert {32, 96, 160, 192} < done.keys()
    assert found["augment.probability"] == pytest.approx({images: 0.9 * t for images, t in done.items()})
    assert found["optim.critic.lr"] == pytest.approx({images: 1e-3 * (1 + t) for images, t in done.items()})
    assert found["ema.decay"] == pytest.approx({images: 0.5 ** (32 / (images - 16)) for images in done})
    assert found["penalty.weight"][192] == 0.1


def fifty() -> Iterator[tuple[int, str, str, Kill]]:
    """World, GAN, place and aim of each kill: every place in every GAN at every world size, in turn."""
    aims = {place: itertools.cycle(kills) for place, kills in AIMS.items()}
    every = itertools.cycle(itertools.product(AIMS, GANS, SIZES))
    for place, gan, size in itertools.islice(every, 50):
        yield size, gan, place, next(aims[place])


def show(landed: Iterable[Landed]) -> None:
    """The table."""
    table = Table("world", "GAN", "rank", "place", "in", "files", "code", "images lost")
    for kill in landed:
        files = "" if kill.files is None else f"{kill.files} of 6"
        table.add_row(
            str(kill.size),
            kill.gan,
            str(kill.rank),
            kill.place,
            kill.call,
            files,
            str(kill.code),
            str(kill.lost),
        )
    Console(width=130).print(table)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_fifty_killed_runs_end_with_the_same_bits(
    shards: Path, undisturbed: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A start-up that resumes is that of a run killed before. Steps are hit while a save is pending."""
    found: list[Landed] = []
    try:
        for number, (size, gan, place, kill) in enumerate(fifty()):
            run, log = tmp_path / f"run-{number}", tmp_path / f"log-{number}"
            words = jobs.small(shards, run, gan, *GANS[gan])
            if place == "start-up" and kill.target != f"{RUN}.lock":
                killed(words, log, size, Kill(STEP, 8))
            found.append(killed(words, log, size, kill, Slow(FLUSH, 0.05) if place == "step" else None))
            jobs.run(words, log, size)
            jobs.same_result(run, undisturbed(gan, size, *GANS[gan]))
            assert found[-1].place == place, found[-1]
    finally:
        with capsys.disabled():
            print()
            show(found)
    places = Counter(kill.place for kill in found)
    assert sorted(places) == sorted(AIMS) and min(places.values()) >= 8
    assert {kill.code for kill in found} == {-signal.SIGKILL}
    assert any(kill.call == "checkpoint._save, before _write" and kill.files in range(1, 5) for kill in found)
    assert any(kill.place == "step" and kill.files is not None for kill in found)
