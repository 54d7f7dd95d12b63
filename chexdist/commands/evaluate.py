"""`chexdist evaluate`: the metrics of a run's averaged generator beside real images, as table and file."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

from chexdist.distributed.world import World
from chexdist.errors import UserError
from chexdist.metrics import METRICS
from chexdist.run import layout

if TYPE_CHECKING:
    from chexdist.data.manifest import Manifest
    from chexdist.evaluation.findings import Findings
    from chexdist.metrics.value import Metric
    from chexdist.run.trained import Loaded

LIMITS = {"samples": (64, 50_000), "pairs": (16, 50_000), "seed": (0, 2**63 - 1)}
WIDTH = 120


def run(options: argparse.Namespace, settings: list[str]) -> int:
    """Exit code 0, or 1 when nothing could be measured; raises `UserError` and `WorkError`."""
    for name, (least, most) in LIMITS.items():
        if not least <= getattr(options, name) <= most:
            raise UserError(f"--{name} {getattr(options, name)}: must be {least} to {most}")
    if World.detect().size > 1:
        raise UserError("evaluate is the work of one process: start it without a launcher")

    import torch

    from chexdist.evaluation import record
    from chexdist.evaluation.measure import EvaluationOptions, evaluate
    from chexdist.evaluation.source import GeneratorSource
    from chexdist.metrics.extractor import load_extractor
    from chexdist.run.trained import load_run

    loaded = load_run(options.run, options.checkpoint)
    for line in loaded.passed_over:
        print(f"chexdist: {line}", file=sys.stderr)
    manifest = _shards(options, loaded)
    names = dict.fromkeys(options.extractor or [loaded.config.eval.extractor])
    extractors = [load_extractor(name) for name in names]
    plan = EvaluationOptions(options.split, options.samples, options.pairs, options.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    loaded.generator.to(device)
    source = GeneratorSource(loaded, plan.seed)
    found = evaluate(source, manifest, extractors, plan, device)
    origin: dict[str, object] = {"checkpoint": layout.after(loaded.images)}
    folder = record.write(Path(options.run), origin, source, manifest, plan, found)
    _show(folder, found)
    return 0 if found.metrics else 1


def _shards(options: argparse.Namespace, loaded: "Loaded") -> "Manifest":
    """The shards that the run was trained on, wherever they are now.

    Raises:
        UserError: they can't be read, are other ones, or hold nothing out.
    """
    from chexdist.data.manifest import read_manifest

    try:
        manifest = read_manifest(options.shards or loaded.config.data.shards, loaded.config.data)
    except UserError as error:
        cure = "" if options.shards else "; if they have moved, give --data.shards DIR"
        raise UserError(f"{error}{cure}") from None
    directory = manifest.directory
    if manifest.digest != loaded.manifest:
        raise UserError(
            f"{options.run} was trained on shards with manifest {loaded.manifest[:12]}, but {directory} has "
            f"{manifest.digest[:12]}: give --data.shards the directory that it was trained on"
        )
    if manifest.classes != tuple(loaded.classes):
        raise UserError(
            f"{options.run} has the classes {', '.join(loaded.classes)}, not those of {directory}"
        )
    if not len(manifest.splits.get(options.split, ())):
        raise UserError(
            f"--split {options.split}: the shards in {directory} have {', '.join(manifest.splits) or 'none'}"
        )
    for name in manifest.classes:
        if not name.isprintable() or Path(f"{name}.png").name != f"{name}.png":
            raise UserError(f"{directory}: class {name!r} can't be a file's name; build the shards again")
    shared = {*manifest.splits["train"].patient.tolist()} & {*manifest.splits[options.split].patient.tolist()}
    if shared:
        raise UserError(
            f"{directory}: {len(shared)} patients are in train and in {options.split}, so nothing is held "
            "out; build the shards again"
        )
    return manifest


def _show(folder: Path, found: "Findings") -> None:
    """The table: each number beside the same of real images, then what is missing and why."""
    console = Console(width=None if sys.stdout.isatty() else WIDTH, markup=False)
    if found.metrics:
        console.print(str(folder), highlight=False, soft_wrap=True)
        console.print(_table(found))
    reasons: dict[str, list[str]] = {}
    for name, reason in found.refused.items():
        reasons.setdefault(reason, []).append(name)
    for reason, names in reasons.items():
        console.print(f"not computed: {', '.join(names)}: {reason}", highlight=False, soft_wrap=True)
    missing = {name.partition("/")[0] for name in found.refused if not name.endswith(" interval")}
    if any(METRICS[name].in_training for name in missing):
        cure = (
            "for more held-out patients, build the shards from more images, or with "
            "--split train=0.6,val=0.2,test=0.2"
        )
        console.print(cure, highlight=False, soft_wrap=True)


def _table(found: "Findings") -> Table:
    """A row for each number, those of one extractor below its name where there are several."""
    real = {
        (metric.protocol, metric.name.removesuffix("/real")): metric
        for metric in found.metrics
        if metric.name.endswith("/real")
    }
    table = Table(
        caption="95 % intervals; real X-rays: the same between real images of different patients",
        box=box.SIMPLE_HEAD,
        pad_edge=True,
    )
    table.add_column("metric", overflow="fold")
    for column in ("value", "real X-rays", "n", "n real\n(patients)"):
        table.add_column(column, justify="right", no_wrap=True)
    extractors = {str(fields["extractor"]) for fields in found.protocols.values() if "extractor" in fields}
    before = None
    for metric in found.metrics:
        if metric.name.endswith("/real"):
            continue
        extractor = found.protocols[metric.protocol or ""].get("extractor")
        if len(extractors) > 1 and extractor != before:
            table.add_section()
            table.add_row(f"features of {extractor}" if extractor else "", *[""] * 4)
            before = extractor
        beside = real.get((metric.protocol, metric.name))
        baseline = "" if metric.real_baseline is None else f"{metric.real_baseline:.4g}"
        shown = _text(beside) if beside else baseline
        table.add_row(metric.name, _text(metric), shown, str(metric.n), _behind(metric))
    return table


def _behind(metric: "Metric") -> str:
    """`800 (640)`: real images, and their patients where those count."""
    if metric.n_real is None:
        return ""
    return f"{metric.n_real}" + ("" if metric.patients is None else f" ({metric.patients})")


def _text(metric: "Metric") -> str:
    interval = "" if metric.low is None else f" [{metric.low:.4g}, {metric.high:.4g}]"
    return f"{metric.value:.4g}{interval}"
