"""How tests follow a job on the cluster."""

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from helpers import jobs
from helpers.cluster import Cluster, until

HERE = Path(__file__).parents[1] / "slurm"
TRAIN = HERE.parents[1] / "launch" / "slurm" / "train.sbatch"
EVALUATE = TRAIN.with_name("evaluate.sbatch")
BUILD = TRAIN.with_name("build-shards.sbatch")


@dataclass(frozen=True)
class SlurmJob:
    """One submitted job with its log and the files that name held ranks."""

    cluster: Cluster
    number: str
    folder: Path

    def task(self, number: int) -> "SlurmJob":
        """One job of this array."""
        return SlurmJob(self.cluster, f"{self.number}_{number}", self.folder)

    def log(self) -> str:
        path = self.folder / "log"
        return path.read_text() if path.exists() else ""

    def field(self, name: str) -> str:
        """One of the words of `scontrol show job`, such as JobState or ExitCode."""
        shown = self.cluster.run("scontrol", "show", "job", self.number)
        return next(word.partition("=")[2] for word in shown.split() if word.startswith(f"{name}="))

    def until_held(self, start: int, ranks: int = 2) -> list[str]:
        """Wait until all ranks are held in this start of the job; the names of their nodes, in rank order."""
        files = [self.folder / f"{rank}-{start}" for rank in range(ranks)]

        def held() -> bool:
            assert self.field("JobState") in ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING"), self.log()
            return all(path.exists() and path.read_text() for path in files)

        until(held, 300, self.log)
        return [path.read_text() for path in files]

    def until_restarted(self) -> None:
        """Wait until Slurm has put the job back into its queue."""
        until(lambda: self.field("Restarts") != "0", 300, self.log)

    def until_over(self) -> str:
        """Wait for the end; the job's last state and exit code, such as "COMPLETED 0"."""
        over = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")
        until(lambda: self.field("JobState") in over, 400, self.log)
        return f"{self.field('JobState')} {self.field('ExitCode').partition(':')[0]}"


Submit = Callable[..., SlurmJob]


def on_cpus(cluster: Cluster) -> dict[str, str]:
    """The variables with which a job finds these sources, and trains on CPUs."""
    return {
        "PATH": f"{Path(sys.executable).parent}:{cluster.environment['PATH']}",
        "PYTHONPATH": f"{HERE / 'held'}:{HERE.parents[1]}",
        "ACCELERATE_USE_CPU": "true",
    }


def tiny(shards: Path, run: Path, *more: str) -> list[str]:
    """The words of a run over two ranks, with an evaluation at its end alone."""
    return jobs.small(shards, run, "vanilla", "--eval.every", "0", "--control.timeout", "300", *more)[1:]


def sbatch_options(page: Path, number: int = 0) -> str:
    """Slurm's options in one of a page's `sbatch` lines of train.sbatch, as the page has them."""
    text = page.read_text().replace("\\\n", " ")
    found = re.findall(r"^ *sbatch (.*?) +launch/slurm/train\.sbatch", text, re.MULTILINE)
    return " ".join(found[number].split())
