"""What `build` does, in order: list, draw, scan, plan, write, and only then give the directory its name."""

import hashlib
import json
import os
import tempfile
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shards import duplicates, manifest, plan
from shards.content import split_digest
from shards.errors import UserError, WorkError
from shards.files import flush_to_disk
from shards.identity import Names, load_or_make_key
from shards.journal import Finished, read_record, scan_folder, stamp, work_folder
from shards.labels import LabelOptions, Labels, read_labels
from shards.labels.matching import list_with_labels
from shards.manifest import Manifest, Split
from shards.patients import check_several_patients, find_patients, name_reader
from shards.pixels import render
from shards.progress import Progress
from shards.quarantine import Code, Entry, counts_by_code, write_list
from shards.refusals import check_address, check_drawn, check_empty, check_enough, check_names, check_out
from shards.registration import SIDE
from shards.report import (
    report,
    report_classes,
    report_copies,
    report_folders,
    report_labels,
    report_near_copies,
    report_synthetic,
)
from shards.scan import Scanned, ScanOptions, scan
from shards.sources import Listing, Source, check_apart, list_class_folders
from shards.workers import Workers
from shards.write import ShardTask, write_shard


@dataclass(frozen=True)
class Options:
    """The options of `build`, as on the command line.

    `split` has the keys train, val and test; `allow_missing` is math.inf for "all"; `part` is (I, N).
    """

    sources: list[Path]
    out: Path
    labels: Path | None
    label_rule: str | None
    finding: list[str] | None
    size: int
    bits: int
    workers: int
    samples_per_shard: int
    per_class: int | None
    split: dict[str, float]
    seed: int
    patient_pattern: str | None
    key_file: Path | None
    allow_quarantine: int
    allow_missing: float
    allow_synthetic: bool
    many_classes: bool
    uncertain: str | None = None
    view: str | None = None
    fit: str = "pad"
    window: str = "auto"
    refuse: tuple[str, ...] = ()
    part: tuple[int, int] | None = None


@dataclass(frozen=True)
class Image:
    """A usable image: where it came from, its keyed name, and what the scan found."""

    source: Source
    key: str
    scanned: Scanned


def build(options: Options) -> int:
    """Build the shard directory; returns the exit code: 0, or 1 when more was set aside than allowed.

    Raises UserError and WorkError; then, and when interrupted, what was found so far stays in `DIR.work`,
    from which the same command resumes. Of the rest only the key file and the quarantine list are left.
    """
    check_address(options.out)
    out = Path(os.path.abspath(options.out))
    quarantine_list = Path(f"{out}.quarantine.csv")
    check_out(out)
    labels, listing = list_sources(options)
    classes, pattern = listing.classes(), options.patient_pattern
    from_name = name_reader(pattern, listing.images) if pattern is not None else None
    check_names(classes)
    check_enough(listing, options.per_class)
    several_splits = sum(fraction > 0 for fraction in options.split.values()) > 1
    if several_splits:
        check_several_patients(listing.images, from_name, listing.has_patients)
    out.parent.mkdir(parents=True, exist_ok=True)
    names = load_or_make_key(options.key_file or Path(f"{out}.key"))
    with work_folder(out) as work:
        finished = Finished(work, out, _request(options, labels, listing, names))
        if finished.is_done():
            result = manifest.read(out)
        else:
            check_empty(out)
            folder = _fresh_folder(work)
            spool = scan_folder(work, scan_options(options))
            with Workers(options.workers) as workers:
                images, refused = gather(workers, listing, names, spool, options)
                entries = listing.quarantine + refused
                write_list(quarantine_list, entries)
                report_synthetic(sum(entry.code == Code.SYNTHETIC for entry in refused))
                check_drawn(listing, [image.source for image in images], options.per_class, quarantine_list)
                origin, patients = find_patients(
                    [image.source for image in images],
                    [(image.scanned.dicom_patient, image.scanned.dicom_study) for image in images],
                    from_name,
                    listing.has_patients,
                    several_splits,
                )
                origin = "name" if origin == "csv" and labels is None else origin
                report_copies([(image.source, image.scanned) for image in images], patients)
                linked = find_duplicates(images, spool)
                report_near_copies([image.source for image in images], patients, linked)
                samples, clusters = describe(names, images, patients, classes, linked)
                split = plan.split_samples(samples, len(classes), options.split, options.seed)
                plan.check_train(split, classes)
                splits = write_splits(workers, split, images, classes, folder, spool, options)
            result = Manifest(
                classes=classes,
                render=render.settings(options.size, options.bits, options.fit, options.window),
                build={
                    **_build_settings(options, labels, names, origin, clusters),
                    "synthetic": sum(image.scanned.synthetic for image in images),
                },
                splits=splits,
                quarantine={"total": len(entries), "codes": counts_by_code(entries)},
            )
            manifest.write(folder, result)
            finished.note(folder)
            os.rename(folder, out)
            flush_to_disk(out.parent)
        code = report(result, listing, quarantine_list, out, options.allow_quarantine, options.allow_missing)
        finished.clear(keep=code != 0)
    return code


def scan_options(options: Options) -> ScanOptions:
    """What decides how a picture looks."""
    return ScanOptions(
        options.size,
        options.bits,
        options.allow_synthetic,
        options.fit,
        options.window,
        tuple(sorted(options.refuse)),
    )


def _fresh_folder(work: Path) -> Path:
    """Where the shards are written: those of a build that was stopped are there, without what it cut off."""
    folder = work / "shards"
    folder.mkdir(exist_ok=True)
    (work / "noted").mkdir(exist_ok=True)
    for partial in [*folder.glob(".*.partial-*"), *(work / "noted").glob(".*.partial-*")]:
        partial.unlink()
    return folder


def _request(options: Options, labels: Labels | None, listing: Listing, names: Names) -> str:
    """SHA-256 of what is asked for, apart from what may be set aside: options, key, files and labels."""
    said = {
        name: value
        for name, value in vars(options).items()
        if name
        not in (
            "workers",
            "allow_quarantine",
            "allow_missing",
            "out",
            "labels",
            "key_file",
            "sources",
            "part",
        )
    }
    rows = sorted(
        (image.number, image.name, image.label, image.patient, _stamp(image.path)) for image in listing.images
    )
    aside = sorted((entry.source, entry.path, entry.code) for entry in listing.quarantine)
    settings = labels.settings if labels else None
    text = json.dumps([said, names.key_id, settings, rows, aside], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _stamp(path: str) -> list[int]:
    try:
        return stamp(path)
    except OSError:  # the scan reports why
        return []


def list_sources(options: Options) -> tuple[Labels | None, Listing]:
    """The images with their classes, by the label file when there is one, of which a summary is printed."""
    check_apart(options.sources)
    label_options = LabelOptions(
        options.label_rule, tuple(options.finding or ()), options.uncertain, options.view
    )
    if options.labels:
        labels = read_labels(options.labels, label_options)
        report_classes(labels.written, "labels in the label file", options.many_classes)
        listing = list_with_labels(options.sources, labels)
        report_labels(labels, listing)
        return labels, listing
    if label_options != LabelOptions():
        raise UserError(
            "--label-rule and --finding choose from a label file: class folders name neither readers nor "
            "findings; give --labels, as for --uncertain and --view"
        )
    listing = list_class_folders(options.sources)
    report_classes(listing.written, "folders in SOURCE", options.many_classes)
    report_folders(listing)
    return None, listing


def gather(
    workers: Workers, listing: Listing, names: Names, spool: Path, options: Options
) -> tuple[list[Image], list[Entry]]:
    """Scan all images, or as many as `--per-class` needs; the next in draw order replaces an unusable one.

    The images come in the order of their content: neither that of the files nor one by the key.
    """
    sources = {source.identity: source for source in listing.images}
    if len({names.name("sample", *identity) for identity in sources}) < len(listing.images):
        raise WorkError("two images got the same keyed name: use another --key-file")
    batch, waiting = first_draw(listing, options)
    missing = Counter(source.label for source in batch)
    images: list[Image] = []
    refused: list[Entry] = []
    while batch:
        what = "scan" if not images and not refused else "scan replacements"
        results = scan(workers, batch, spool, scan_options(options), what)
        for source, result in zip(batch, results, strict=True):
            if isinstance(result, Entry):
                refused.append(result)
            else:
                images.append(Image(source, names.name("sample", *source.identity), result))
                missing[source.label] -= 1
        batch = [
            waiting[label].pop() for label in waiting for _ in range(min(missing[label], len(waiting[label])))
        ]
    return sorted(images, key=lambda image: (image.scanned.content, image.source.identity)), refused


def first_draw(listing: Listing, options: Options) -> tuple[list[Source], dict[str, list[Source]]]:
    """The images to scan first, and by class those that replace unusable ones, the next in turn last."""
    sources = {source.identity: source for source in listing.images}
    waiting: dict[str, list[Source]] = defaultdict(list)
    for identity in reversed(plan.draw_order(sources, options.seed)):
        waiting[sources[identity].label].append(sources[identity])
    drawn = []
    for left in waiting.values():
        drawn += [left.pop() for _ in range(min(options.per_class or len(left), len(left)))]
    return drawn, waiting


def find_duplicates(images: Sequence[Image], spool: Path) -> list[tuple[int, int]]:
    """The near-duplicates among the images, as pairs of indices; their fingerprints stay on disk."""
    with tempfile.TemporaryFile(dir=spool) as file:
        for image in images:
            file.write(read_record(spool, image.scanned.spooled)[1])
        file.flush()
        prints = np.memmap(file, np.uint8, "r", shape=(len(images), SIDE, SIDE))
        with Progress("near-duplicates", len(images), "images") as progress:
            return duplicates.pairs(prints, progress.advance)


def describe(
    names: Names,
    images: Sequence[Image],
    patients: Sequence[str | None],
    classes: list[str],
    linked: Sequence[tuple[int, int]],
) -> tuple[list[plan.Sample], int]:
    """The samples to plan with, and how many near-duplicate clusters have more than one image.

    `linked`: the near-duplicates, as pairs of indices of images.
    """
    first = plan.connected(len(images), linked)
    samples = []
    for image, patient, cluster in zip(images, patients, first, strict=True):
        own = names.name("file", *image.source.identity)
        samples.append(
            plan.Sample(
                key=image.key,
                label=classes.index(image.source.label),
                patient=names.name("patient", patient.encode("utf-8", "surrogateescape")) if patient else own,
                cluster=names.name("cluster", images[cluster].key.encode()),
                content=image.scanned.content,
            )
        )
    return samples, sum(size > 1 for size in Counter(first).values())


def write_splits(
    workers: Workers,
    split: dict[str, list[plan.Sample]],
    images: Sequence[Image],
    classes: list[str],
    folder: Path,
    spool: Path,
    options: Options,
) -> dict[str, Split]:
    """Write all shards in parallel, one shard a task; shards of another plan are removed from `folder`."""
    scanned = {image.key: image.scanned for image in images}
    tasks = [
        ShardTask(
            file=f"{name}-{number:06d}.tar",
            split=name,
            samples=shard,
            records=[scanned[sample.key].spooled for sample in shard],
            pixels=[scanned[sample.key].pixels for sample in shard],
            classes=classes,
            spool=spool,
            folder=folder,
            noted=folder.with_name("noted"),
        )
        for name, samples in split.items()
        for number, shard in enumerate(plan.make_shards(samples, options.samples_per_shard, options.seed))
    ]
    for path in folder.iterdir():
        if path.name not in {task.file for task in tasks}:
            path.unlink()
    with Progress("write", len(images), "images") as progress:
        shards = workers.run(
            write_shard,
            tasks,
            progress,
            units=lambda task: len(task.samples),
            suspects=lambda tasks: [task.file for task in tasks],
        )
    splits = {}
    for name in plan.SPLITS:
        samples = [sample for task in tasks if task.split == name for sample in task.samples]
        content = split_digest(
            classes,
            options.size,
            options.bits,
            pixels=[scanned[sample.key].pixels for sample in samples],
            labels=[sample.label for sample in samples],
            patients=[sample.patient for sample in samples],
            clusters=[sample.cluster for sample in samples],
        )
        written = [shard for task, shard in zip(tasks, shards, strict=True) if task.split == name]
        splits[name] = Split.of(written, len(classes), content)
    return splits


def _build_settings(
    options: Options, labels: Labels | None, names: Names, origin: str, clusters: int
) -> dict[str, object]:
    """The manifest's `build` block."""
    return {
        **({"labels": labels.settings} if labels else {}),
        "seed": options.seed,
        "split": {name: options.split[name] for name in plan.SPLITS},
        "samples_per_shard": options.samples_per_shard,
        "per_class": options.per_class,
        "patients": origin,
        "duplicates": {"method": duplicates.METHOD, "threshold": duplicates.THRESHOLD, "clusters": clusters},
        "part": {"index": 0, "count": 1},
        "key_id": names.key_id,
    }
