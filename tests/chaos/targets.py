"""What is started and disturbed: how, and what an undisturbed start of it leaves."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from helpers import jobs
from helpers.hosts import TwoHosts
from helpers.shard_server import ShardServer
from helpers.xray_files import class_folders, contents

from chaos.sandbox import Disk
from chaos.scene import Planted, Scene, plant_answers
from chaos.schedule import Trial

TIMEOUT = 10
"""control.timeout, in seconds."""
ROOT = Path(__file__).parents[2]
EXAMPLES = {"evaluate": ["--samples", "64", "--pairs", "16"], "generate": ["--n", "40"]}


@dataclass
class Lab:
    """Where trials happen: `base` on the machine's disk, `disk` and `shm` to be filled, hosts to be cut."""

    base: Path
    shards: Path
    disk: Disk
    shm: Disk
    hosts: TwoHosts | None


class Target:
    """One trial's command. `result` is where it leaves what is kept, on the small disk."""

    def __init__(self, lab: Lab, trial: Trial, folder: Path) -> None:
        """`folder`: an empty one, on the small disk."""
        self.lab, self.trial, self.folder = lab, trial, folder
        self.log = lab.base / f"{folder.name}.log"
        self.log.touch()

    def start(self, disturbed: bool) -> Scene:
        """Start the command; what is planted is there only in a start that is to be disturbed."""
        raise NotImplementedError

    def is_complete(self) -> bool:
        """Whether what was asked for is there under its final name."""
        raise NotImplementedError

    def check_same(self, undisturbed: "Target") -> None:
        """Assert that what is there is, byte for byte, what an undisturbed start left, and nothing else."""
        raise NotImplementedError

    def around(self) -> Iterator[None]:
        """What must be there while it runs."""
        yield

    def remove(self) -> None:
        """Take away what it left."""
        shutil.rmtree(self.folder)

    def _scene(self, pids: list[int], codes: Callable[[], list[int | None]]) -> Scene:
        return Scene(pids, codes, self.log, self.lab.disk, self.lab.shm)

    def _ranks(self, words: list[str], size: int, disturbed: bool) -> Scene:
        kinds = {fault.kind for fault in self.trial.faults}
        hosts = self.lab.hosts if disturbed and "cut link" in kinds else None
        quiet = Trial(self.trial.seed, self.trial.target, size, ())
        fault = Planted(self.trial if disturbed else quiet, tuple(hosts.spaces) if hosts else ())
        job = jobs.start(words, self.log, size, fault)
        scene = self._scene([rank.pid or 0 for rank in job.ranks], lambda: [r.exitcode for r in job.ranks])
        scene.hosts = hosts
        return scene

    def _command(self, words: list[str]) -> Scene:
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", *words],
                stdout=log,
                stderr=log,
                cwd=ROOT,
                start_new_session=True,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
        return self._scene([process.pid], lambda: [process.poll()])


class Train(Target):
    """`chexdist train` at one, two or four ranks."""

    @property
    def run(self) -> Path:
        return self.folder / "run"

    def words(self) -> list[str]:
        """Those after `chexdist`; batches come through /dev/shm where that is filled."""
        workers = int(any(fault.kind == "full shm" for fault in self.trial.faults))
        more = ["--control.timeout", str(TIMEOUT), "--data.workers", str(workers)]
        return jobs.small(self.lab.shards, self.run, "vanilla", *more)

    def start(self, disturbed: bool) -> Scene:
        return self._ranks(self.words(), self.trial.size, disturbed)

    def is_complete(self) -> bool:
        return (self.run / "status.json").exists() and jobs.status(self.run)["state"] == "done"

    def check_same(self, undisturbed: Target) -> None:
        assert isinstance(undisturbed, Train)
        jobs.same_result(self.run, undisturbed.run)
        assert _names(self.run) == _names(undisturbed.run)


class Launched(Train):
    """The same, under a launcher that is hit in place of its ranks."""

    def start(self, disturbed: bool) -> Scene:
        launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(self.trial.size), "-m"]
        scene = self._command([*launcher, "chexdist", *self.words()])
        scene.is_launched = True
        return scene


class Remote(Train):
    """Training on shards behind a server that goes wrong, with a cache on the small disk."""

    def around(self) -> Iterator[None]:
        with ShardServer(self.lab.shards) as self.server:
            yield

    def words(self) -> list[str]:
        remote = ["--data.shards", self.server.url, "--data.cache", str(self.folder / "cache")]
        return [*super().words(), *remote, "--data.timeout", "2", "--data.memory", "0"]

    def start(self, disturbed: bool) -> Scene:
        self.server.answers.clear()
        if disturbed:
            plant_answers(self.trial, self.server)
        return super().start(disturbed)

    def check_same(self, undisturbed: Target) -> None:
        super().check_same(undisturbed)
        cached = {path.name for path in (self.folder / "cache").iterdir()}
        assert not [name for name in cached if "partial" in name], cached


class Build(Target):
    """`chexdist-shards build` with one to three workers."""

    @property
    def sources(self) -> Path:
        """Made once: 120 images of 60 patients."""
        folder = self.lab.base / "sources"
        return folder if folder.exists() else class_folders(folder, 60, 2)

    def start(self, disturbed: bool) -> Scene:
        key = self.folder / "out.key"
        if not key.exists():
            key.write_text("5e" * 32)
            key.chmod(0o600)
        options = ["--size", "256", "--samples-per-shard", "20", "--workers", str(self.trial.size)]
        pattern = ["--patient-pattern", "^([0-9]+)_"]
        return self._command(
            ["shards", "build", str(self.sources), "--out", str(self.folder / "out"), *options, *pattern]
        )

    def is_complete(self) -> bool:
        return (self.folder / "out").exists()

    def check_same(self, undisturbed: Target) -> None:
        assert contents(self.folder / "out") == contents(undisturbed.folder / "out")
        assert _names(self.folder) == _names(undisturbed.folder)


class Once(Target):
    """`evaluate` or `generate` of a finished run."""

    @property
    def run(self) -> Path:
        return self.folder / "run"

    @property
    def shards(self) -> Path:
        """A copy of its own, which can be damaged."""
        copy = self.lab.base / f"{self.folder.name}-shards"
        if not copy.exists():
            shutil.copytree(self.lab.shards, copy)
        return copy

    def start(self, disturbed: bool) -> Scene:
        if not self.run.exists():
            trained = self.lab.base / "trained"
            if not trained.exists():
                jobs.run(jobs.small(self.lab.shards, trained, "vanilla"), self.log)
            shutil.copytree(trained, self.run)
        self._damage(disturbed)
        out = ["--out", str(self.folder / "out")] if self.trial.target == "generate" else []
        shards = ["--shards" if self.trial.target == "generate" else "--data.shards", str(self.shards)]
        words = [self.trial.target, str(self.run), *EXAMPLES[self.trial.target], *out, *shards]
        return self._ranks(words, 1, disturbed)

    def remove(self) -> None:
        super().remove()
        shutil.rmtree(self.shards)

    def _damage(self, disturbed: bool) -> None:
        """A shard that is to be corrupt and lost is lost."""
        kinds = {fault.kind for fault in self.trial.faults}
        for name in ("train-000001.tar", "val-000000.tar"):
            file = self.shards / name
            if not disturbed:
                shutil.copy(self.lab.shards / name, file)
            elif "lost shard" in kinds:
                file.unlink()
            elif "corrupt shard" in kinds:
                content = bytearray(file.read_bytes())
                content[len(content) // 3] ^= 1
                file.write_bytes(content)

    def is_complete(self) -> bool:
        made = "out" if self.trial.target == "generate" else "run/evaluations/*/evaluation.json"
        return any(self.folder.glob(made))

    def check_same(self, undisturbed: Target) -> None:
        ours, theirs = (_without_times(each.folder) for each in (self, undisturbed))
        assert ours.keys() == theirs.keys(), {*ours} ^ {*theirs}
        assert [name for name, content in theirs.items() if ours[name] != content] == []


MACHINE_S = ("fetched.jsonl", "ranks.jsonl")
"""What says how often, by whom and on which machine it was started."""


def _names(folder: Path) -> set[str]:
    """What is in a folder at any depth, but for `MACHINE_S`."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.name not in MACHINE_S}


def _without_times(folder: Path) -> dict[str, bytes]:
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for name, content in found.items():
        if name.endswith("evaluation.json"):
            document = json.loads(content)
            document["metrics"] = [{**each, "time": 0} for each in document["metrics"]]
            found[name] = json.dumps(document).encode()
    return found


TARGETS: dict[str, type[Target]] = {
    "train": Train,
    "launched": Launched,
    "remote": Remote,
    "build": Build,
    "evaluate": Once,
    "generate": Once,
}


@contextmanager
def target(lab: Lab, trial: Trial, folder: Path) -> Iterator[Target]:
    """The trial's target, in a folder of its own that is made."""
    folder.mkdir(parents=True)
    made = TARGETS[trial.target](lab, trial, folder)
    with contextmanager(made.around)():
        yield made
