"""`chexdist evaluate`: the metrics of a run's averaged generator, or of a folder of pictures, beside real
images, as table and file.
"""

import argparse
import os
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
    import torch

    from chexdist.data.manifest import Manifest
    from chexdist.evaluation.findings import Findings
    from chexdist.evaluation.measure import EvaluationOptions
    from chexdist.metrics.extractor import Extractor
    from chexdist.metrics.value import Metric
    from chexdist.run.trained import Loaded

LIMITS = {"samples": (64, 50_000), "pairs": (16, 50_000), "seed": (0, 2**63 - 1)}
MOST_IMAGES = 10**12
WIDTH = 120
MORE_PATIENTS = (
    "for more held-out patients, build the shards from more images, or with "
    "--split train=0.6,val=0.2,test=0.2"
)


def run(options: argparse.Namespace, settings: list[str]) -> int:
    """Exit code 0, or 1 when nothing could be measured; raises `UserError` and `WorkError`."""
    _check(options)
    world = World.detect()
    if world.size > 1:
        raise UserError("evaluate is the work of one process: start it without a launcher")

    import torch

    from chexdist.distributed.devices import Visible, choose, use
    from chexdist.evaluation.measure import EvaluationOptions

    plan = EvaluationOptions(options.split, options.samples, options.pairs, options.seed)
    chosen = choose(os.environ, Visible.here(), world)
    use(chosen, world)  # in training's arithmetic: its evaluations give the same numbers
    device = torch.device(chosen)
    folder, found = (_of_pictures if options.pictures else _of_run)(options, plan, device)
    _show(folder, found)
    return 0 if found.metrics else 1


def _check(options: argparse.Namespace) -> None:
    """Raises UserError for options that are out of their range or exclude each other."""
    if bool(options.run) == bool(options.pictures):
        raise UserError("give either RUN or --pictures DIR; see `chexdist evaluate --help`")
    for name, (least, most) in LIMITS.items():
        if not least <= getattr(options, name) <= most:
            raise UserError(f"--{name} {getattr(options, name)}: must be {least} to {most}")
    if options.pictures:
        if options.checkpoint:
            raise UserError("--checkpoint is of a run, not of pictures")
        if not options.shards:
            raise UserError("--pictures needs --data.shards DIR, the X-rays that they are compared with")
        if options.images is not None and not 0 <= options.images <= MOST_IMAGES:
            raise UserError(f"--images {options.images}: must be 0 to {MOST_IMAGES}")
    for name in ("out", "images"):
        if options.run and getattr(options, name) is not None:
            raise UserError(f"--{name} is for --pictures; a run's evaluations are in the run directory")


def _of_run(
    options: argparse.Namespace, plan: "EvaluationOptions", device: "torch.device"
) -> tuple[Path, "Findings"]:
    """Measure a run's generator: where it is recorded, and what was found."""
    from chexdist.evaluation import record
    from chexdist.evaluation.measure import evaluate
    from chexdist.evaluation.source import GeneratorSource
    from chexdist.run.trained import load

    if not Path(options.run).is_dir():
        raise UserError(f"{options.run}: there is no such run directory")
    loaded = load(options.run, options.checkpoint)
    if loaded.run is None:
        raise UserError(
            f"{options.run} is a generator alone, and evaluations are recorded in a run directory: give "
            f"that, put the checkpoint into RUN/{layout.CHECKPOINTS}/ beside the run's {layout.CONFIG}, "
            "or measure its pictures: `chexdist generate`, then `chexdist evaluate --pictures`"
        )
    for line in loaded.passed_over:
        print(f"chexdist: {line}", file=sys.stderr)
    manifest = _shards(options, loaded)
    _say_too_few(manifest, options.split, options.samples)
    extractors = _extractors(options, loaded.config.eval.extractor)
    loaded.generator.to(device)
    source = GeneratorSource(loaded, plan.seed)
    found = evaluate(source, manifest, extractors, plan, device)
    origin: dict[str, object] = {"checkpoint": layout.after(loaded.images)}
    return record.write(loaded.run, origin, source, manifest, plan, found), found


def _of_pictures(
    options: argparse.Namespace, plan: "EvaluationOptions", device: "torch.device"
) -> tuple[Path, "Findings"]:
    """Measure a folder of pictures: where it is recorded, and what was found."""
    from chexdist.config.tree import Eval
    from chexdist.data.manifest import read_manifest
    from chexdist.evaluation import record
    from chexdist.evaluation.measure import evaluate
    from chexdist.evaluation.pictures_source import PicturesSource, read_pictures

    folder = Path(os.path.abspath(options.pictures))
    owner = Path(options.out) if options.out else layout.evaluation_of_pictures(folder)
    record.check_owner(owner, folder)
    manifest = read_manifest(options.shards)
    _check_held_out(manifest, options.split)
    extractors = _extractors(options, Eval().extractor)
    pictures = read_pictures(folder, manifest.classes)
    source = PicturesSource(
        pictures, len(manifest.classes), manifest.size, options.images or 0, plan.seed, device
    )
    _say_too_few(manifest, options.split, min(options.samples, len(pictures.files)))
    for line in source.remarks(manifest.classes):
        print(f"chexdist: {line}", file=sys.stderr)
    found = evaluate(source, manifest, extractors, plan, device)
    record.describe_pictures(owner, source, manifest, plan.split)
    origin: dict[str, object] = {"pictures": len(pictures.files), "sha256": pictures.sha256}
    return record.write(owner, origin, source, manifest, plan, found), found


def _extractors(options: argparse.Namespace, own: str) -> "list[Extractor]":
    """Those that are named, each once, else the one that is `own`."""
    from chexdist.metrics.extractor import load_extractor

    return [load_extractor(name) for name in dict.fromkeys(options.extractor or [own])]


def _shards(options: argparse.Namespace, loaded: "Loaded") -> "Manifest":
    """The shards that the run was trained on, wherever they are now.

    Raises:
        UserError: they can't be read, are other ones, or hold nothing out.
    """
    from chexdist.data.manifest import read_manifest

    try:
        data = loaded.config.data
        manifest = read_manifest(options.shards or data.shards, data, loaded.manifest)
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
    _check_held_out(manifest, options.split)
    return manifest


def _check_held_out(manifest: "Manifest", split: str) -> None:
    """Raises UserError where the split is empty or not held out, or a class can't be a file's name."""
    directory = manifest.directory
    for needed in ("train", split):
        if not len(manifest.splits.get(needed, ())):
            raise UserError(
                f"--split {split}: the shards in {directory} have {', '.join(manifest.splits) or 'none'}, "
                f"and no image in {needed}"
            )
    for name in manifest.classes:
        if not name.isprintable() or Path(f"{name}.png").name != f"{name}.png":
            raise UserError(f"{directory}: class {name!r} can't be a file's name; build the shards again")
    shared = {*manifest.splits["train"].patient.tolist()} & {*manifest.splits[split].patient.tolist()}
    if shared:
        raise UserError(
            f"{directory}: {len(shared)} patients are in train and in {split}, so nothing is held "
            "out; build the shards again"
        )


def _say_too_few(manifest: "Manifest", split: str, generated: int) -> None:
    """Print what can't be measured for want of images or patients, before measuring takes its time."""
    from chexdist.metrics.sides import MIN_UNITS

    patients = {name: len({*manifest.splits[name].patient.tolist()}) for name in (split, "train")}
    few = [f"{name} has {count} patients" for name, count in patients.items() if count < MIN_UNITS]
    if generated < MIN_UNITS:
        few.append(f"there are {generated} generated images")
    if few:
        print(
            f"chexdist: KID and the like need {MIN_UNITS} patients of real images and {MIN_UNITS} generated "
            f"images, but {' and '.join(few)}: they will not be computed, the rest will; {MORE_PATIENTS}",
            file=sys.stderr,
        )


def _show(folder: Path, found: "Findings") -> None:
    """The table: each number beside the same of real images, then what is missing and why."""
    console = Console(width=None if sys.stdout.isatty() else WIDTH, markup=False)
    if found.metrics:
        console.print(str(folder), highlight=False, soft_wrap=True)
        console.print(_table(found))
    for rate in (metric for metric in found.metrics if metric.name == "near_copy_rate"):
        from chexdist.metrics.near_copy_rate import verdict

        said = f"{rate.n} images audited, judged by the interval of {rate.name}"
        console.print(f"copies of training images: {verdict(rate)}; {said}", highlight=False, soft_wrap=True)
    reasons: dict[str, list[str]] = {}
    for name, reason in found.refused.items():
        reasons.setdefault(reason, []).append(name)
    for reason, names in reasons.items():
        console.print(f"not computed: {', '.join(names)}: {reason}", highlight=False, soft_wrap=True)
    missing = {name.partition("/")[0] for name in found.refused if not name.endswith(" interval")}
    if any(METRICS[name].in_training for name in missing):
        console.print(MORE_PATIENTS, highlight=False, soft_wrap=True)


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
        padding=(0, 1, 0, 0),  # the longest names and numbers just fit into WIDTH
        pad_edge=False,
        collapse_padding=True,
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
