"""`python -m benchmarks step stream`: measures side by side, shows a table, writes all timings as JSON."""

import argparse
import math
import os
import sys
import tempfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console

from chexdist.errors import UserError, WorkError
from shards.errors import WorkError as ShardsWorkError

ALL = ("step", "stream", "scaling", "profile", "build", "targets")
"""What `all` stands for: speed, on any machine, from nothing."""
RESULTS = Path(__file__).parent / "results"
BENCHMARKS = {
    "step": "training: chexdist's step against a notebook's loop, same networks, images and batches",
    "stream": "reading: chexdist's loader against stock WebDataset and against a notebook's PNG folder",
    "scaling": "training: 1, 2 and 4 DDP ranks beside as many trainings apart and a formula; more GPUs by it",
    "profile": "training: where the time of a step goes, by phase and by operator, and what the host takes",
    "gpu": "what to run on a GPU and send back: speed, memory, launches of every shipped configuration",
    "build": "shards by encoding: two worker processes against one and decoding alone; memory; JPEG 2000 "
    "against pydicom's full decode",
    "exactness": "samples lost and doubled over two nodes, a kill and a restart: chexdist against WebDataset "
    "with Accelerate",
    "planted": "metrics: which number sees images played back, mirrored, of the wrong class (--data.shards)",
    "copies": "near-duplicates: which kinds of planted copies the shard builder finds (--source)",
    "quality": "KID after as many images: a chexdist run (--run) against a notebook's training on its shards",
    "targets": "what is to be reached, beside the newest results in --out",
    "peers": "KID after as many images: other projects' GANs trained on --data.shards, kept in --work",
}


def parser() -> argparse.ArgumentParser:
    """Every option."""
    top = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Side-by-side timings on this machine."
    )
    top.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="; ".join(f"{k}: {v}" for k, v in BENCHMARKS.items()) + f"; all: {' '.join(ALL)}, over an hour",
    )
    top.add_argument(
        "--rounds", type=int, default=7, help="counted rounds, in each of which every side has its turn"
    )
    top.add_argument("--seconds", type=float, default=1.0, help="least seconds of a side in a round")
    top.add_argument(
        "--batch",
        type=int,
        default=16,
        help="batch of `step`, and of a rank in `scaling`, a multiple of 8 (16 is what is shipped)",
    )
    top.add_argument(
        "--gbit", type=float, default=100.0, help="of `scaling`: Gbit/s between GPUs that are assumed"
    )
    top.add_argument(
        "--latency", type=float, default=10.0, help="of `scaling`: microseconds of a message, assumed"
    )
    top.add_argument(
        "--workers",
        type=int,
        help="loader processes of every side of `stream` (default: 1) and `exactness` (2)",
    )
    _add_inputs(top)
    top.add_argument("--dry-run", action="store_true", help="of `gpu`: the least of everything, on the CPU")
    top.add_argument(
        "--tiny", action="store_true", help="the least of everything: shows that it runs, measures nothing"
    )
    top.add_argument(
        "--out", type=Path, default=RESULTS, help="where NAME-DATE.json goes (default: benchmarks/results)"
    )
    top.add_argument(
        "--markdown", nargs="+", type=Path, metavar="JSON", help="only print these results as Markdown"
    )
    return top


def _add_inputs(top: argparse.ArgumentParser) -> None:
    """What `copies`, `planted`, `quality` and `peers` are measured on."""
    top.add_argument("--source", type=Path, metavar="DIR", help="of `copies`: a folder of pictures")
    top.add_argument(
        "--patient-pattern",
        metavar="REGEX",
        help="of `copies`: group 1 of the match on a file's name is the patient (default: each has its own)",
    )
    top.add_argument(
        "--run", type=Path, metavar="RUN", help="of `quality`: a run directory with its metrics.jsonl"
    )
    top.add_argument(
        "--data.shards",
        "--shards",
        dest="shards",
        metavar="DIR",
        help="of `quality`: the shards that the run was trained on; of `planted`: those that are measured; "
        "of `peers`: those that are trained on",
    )
    top.add_argument(
        "--images",
        type=int,
        default=0,
        help="of `quality`: where to end (default: where the run did); of `peers`: the same (20,000)",
    )
    top.add_argument("--every", type=int, default=10_000, help="of `peers`: images between measurements")
    top.add_argument("--peers", metavar="NAME,NAME", help="of `peers`: which ones (default: all)")
    top.add_argument(
        "--work", type=Path, help="of `peers`: for environments, states and pictures; it continues from there"
    )


def check(options: argparse.Namespace) -> None:
    """Refuse what can't be measured before anything is.

    Raises:
        UserError: with the option and the rule.
    """
    unknown = [name for name in options.names if name not in BENCHMARKS]
    if unknown or not options.names:
        raise UserError(
            f"{unknown[0] if unknown else 'no name'}: give one or more of {', '.join(BENCHMARKS)}, or all"
        )
    if "quality" in options.names and not (options.run and options.shards):
        raise UserError("quality needs --run and --shards")
    if "planted" in options.names and not options.shards:
        raise UserError("planted needs --data.shards")
    if "copies" in options.names and not (options.source and options.source.is_dir()):
        raise UserError("copies needs --source, a folder of pictures")
    if "peers" in options.names and not (options.shards and options.work):
        raise UserError("peers needs --data.shards and --work")
    if options.dry_run and options.names != ["gpu"]:
        raise UserError("--dry-run is of gpu, alone: --tiny shows of the others that they run")
    for name in ("rounds", "batch", "workers"):
        if (value := getattr(options, name)) is not None and value < 1:
            raise UserError(f"--{name} {value} must be 1 or more")
    for name in ("gbit", "latency"):
        if not 0 < (value := getattr(options, name)) < math.inf:
            raise UserError(f"--{name} {value} must be a number above 0")
    if options.batch % 8:
        raise UserError(
            f"--batch {options.batch} must be a multiple of 8, the group of the shipped configurations"
        )


class Result(Protocol):
    """What a benchmark measured."""

    def document(self, about: dict[str, Any]) -> dict[str, Any]:
        """Everything, as it is written; `about` says when, where and how."""


def measured(name: str, options: argparse.Namespace, work: Path) -> Result:
    """What one benchmark measures, in a folder of its own."""
    from benchmarks import (
        build,
        copies,
        exactness,
        gpu,
        planted,
        profiling,
        quality,
        scaling,
        step,
        stream,
        targets,
    )
    from benchmarks.alternate import Effort
    from benchmarks.peers import measure as peers

    tiny = options.tiny or options.dry_run
    effort = Effort(1, 0.0) if tiny else Effort(options.rounds, options.seconds)
    if name == "step":
        return step.measure(effort, step.TINY if tiny else step.Setting(batch=options.batch))
    if name == "profile":
        return profiling.measure(effort, profiling.TINY if tiny else profiling.SHIPPED)
    if name == "gpu":
        return gpu.measure(effort, replace(gpu.TINY if tiny else gpu.SHIPPED, dry_run=options.dry_run))
    if name == "stream":
        return stream.measure(
            effort, work, stream.TINY if tiny else stream.Setting(workers=options.workers or 1)
        )
    if name == "scaling":
        cluster = scaling.Ring(options.gbit / 8 * 1e9, options.latency * 1e-6)
        wanted_scaling = scaling.TINY if tiny else scaling.Setting(options.batch)
        return scaling.measure(effort, replace(wanted_scaling, cluster=cluster))
    if name == "build":
        return build.measure(effort, work, build.TINY if tiny else build.SHIPPED)
    if name == "exactness":
        wanted = exactness.TINY if tiny else exactness.Setting(workers=options.workers or 2)
        return exactness.measure(work, wanted)
    if name == "planted":
        return planted.measure(replace(planted.TINY if tiny else planted.Setting(""), shards=options.shards))
    if name == "copies":
        return copies.measure(copies.Setting(options.source, 4 if tiny else 20, options.patient_pattern))
    if name == "targets":
        return targets.newest(options.out)
    if name == "peers":
        return peers.measure(peers.setting(options))
    return quality.measure(quality.Setting(options.run, options.shards, options.images))


def run(options: argparse.Namespace) -> int:
    """Measure, show and write."""
    if options.names == ["all"]:
        options.names = list(ALL)
    check(options)
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # torch.profiler talks to the screen
    from benchmarks import gpu, profiling, record
    from benchmarks.machine import BUSY, commit, machine

    if "gpu" in options.names and not options.dry_run:
        gpu.require_gpu()
    about, source = machine(), commit()
    for name in options.names:
        date = datetime.now(UTC).isoformat(timespec="seconds")
        with tempfile.TemporaryDirectory(prefix="chexdist-benchmarks-") as work:
            result = measured(name, options, Path(work))
        document = result.document(
            {
                "date": date,
                "commit": source,
                "command": sys.argv[1:],
                "machine": about,
                "busy": about["load"] > BUSY * about["cores"],
            }
        )
        record.show(document, Console(width=None if sys.stdout.isatty() else 130))
        written = record.write(document, options.out)
        print(written, flush=True)
        if isinstance(result, profiling.Result):
            print(record.write_picture(result.picture(), written), flush=True)
        if isinstance(result, gpu.Result):
            print(gpu.DRY_RUN if options.dry_run else gpu.SEND)
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Run; returns the exit code."""
    try:
        options = parser().parse_args(arguments)
        if not options.markdown:
            return run(options)
        from benchmarks import record

        print("\n".join(record.markdown(record.read(path)) for path in options.markdown), end="")
        return 0
    except (UserError, WorkError, ShardsWorkError) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2 if isinstance(error, UserError) else 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
