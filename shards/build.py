"""What `build` does, in order: list, draw, scan, plan, write, and only then give the directory its name."""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

from shards import manifest, plan
from shards.content import shards_digest
from shards.copies import linking
from shards.copies.search import search
from shards.errors import UserError
from shards.files import flush_to_disk
from shards.gather import Image, gather, scan_options
from shards.identity import Names, load_or_make_key
from shards.journal import Finished, read_record, scan_folder, stamp, work_folder
from shards.labels import LabelOptions, read_labels
from shards.labels.matching import list_with_labels
from shards.manifest import Manifest, Split
from shards.memory import check_memory, memory_there
from shards.options import Options
from shards.pixels import render
from shards.progress import Progress
from shards.quarantine import Code, counts_by_code, write_list
from shards.refusals import check_address, check_drawn, check_empty, check_enough, check_names, check_out
from shards.report import (
    report,
    report_classes,
    report_copies,
    report_folders,
    report_labels,
    report_near_copies,
    report_synthetic,
)
from shards.sources.listing import Listing, check_apart, list_class_folders
from shards.sources.patients import (
    NameReader,
    check_several_patients,
    find_patients,
    name_alone,
    name_reader,
)
from shards.upload import Publish
from shards.workers import Workers
from shards.write import Packed, ShardTask, described, write_shard


def build(options: Options, publish: Publish | None = None) -> int:
    """Build the shard directory; returns the exit code: 0, or 1 when more was set aside than allowed.

    `publish`: done with it at the end; where that fails, the same command does it again.

    Raises UserError and WorkError; then, and when interrupted, what was found so far stays in `DIR.work`,
    from which the same command resumes. Of the rest only the key file and the quarantine list are left.
    """
    check_address(options.out)
    out = Path(os.path.abspath(options.out))
    check_out(out)
    memory = memory_there()
    with Workers(options.workers) as workers:
        workers.start()  # they import what they need while the files are listed
        return _build(workers, memory, out, options, publish)


def _build(workers: Workers, memory: int | None, out: Path, options: Options, publish: Publish | None) -> int:
    """As `build`; `memory`: bytes that there were for this process and the workers before these began."""
    label_settings, listing = list_sources(options)
    classes, pattern = listing.classes(), options.patient_pattern
    from_name = name_reader(pattern, listing.images) if pattern is not None else None
    check_names(classes)
    check_enough(listing, options.per_class)
    if several_splits(options):
        check_several_patients(listing.images, from_name, listing.has_patients)
    out.parent.mkdir(parents=True, exist_ok=True)
    names = load_or_make_key(options.key_file or Path(f"{out}.key"))
    with work_folder(out) as work:
        finished = Finished(work, out, request(options, label_settings, listing, names))
        if finished.is_done():
            result = manifest.read(out)
        else:
            check_empty(out)
            check_memory(listing.images, options.workers, memory)
            folder = fresh_folder(work)
            spool = scan_folder(work, scan_options(options))
            result = _written(
                workers, listing, classes, names, label_settings, from_name, folder, spool, options
            )
            manifest.write(folder, result)
            finished.note(folder)
            os.rename(folder, out)
            flush_to_disk(out.parent)
        code = report(result, listing, list_of(out), out, options.allow_quarantine, options.allow_missing)
        if publish:
            publish(out, code)
        finished.clear(keep=code != 0)
    return code


def _written(
    workers: Workers,
    listing: Listing,
    classes: list[str],
    names: Names,
    label_settings: dict[str, str] | None,
    from_name: NameReader | None,
    folder: Path,
    spool: Path,
    options: Options,
) -> Manifest:
    """Scan, plan, and write all shards into `folder`; the manifest that they need."""
    images, refused = gather(workers, listing, names, spool, options)
    entries = listing.quarantine + refused
    quarantine_list = list_of(options.out)
    write_list(quarantine_list, entries)
    report_synthetic(sum(entry.code == Code.SYNTHETIC for entry in refused))
    sources = [image.source for image in images]
    check_drawn(listing, sources, options.per_class, quarantine_list)
    origin, patients = find_patients(
        sources,
        [(image.scanned.dicom_patient, image.scanned.dicom_study) for image in images],
        from_name,
        listing.has_patients,
        several_splits(options),
    )
    origin = "name" if origin == "csv" and label_settings is None else origin
    report_copies([(image.source, image.scanned) for image in images], patients)
    linked = find_duplicates(workers, images, spool)
    report_near_copies(sources, patients, linked)
    samples, clusters = describe(names, images, patients, classes, linked)
    split = plan.split_samples(samples, len(classes), options.split, options.seed)
    plan.check_train(split, classes)
    splits = write_splits(workers, split, images, classes, folder, spool, options)
    return Manifest(
        classes=classes,
        render=render.settings(options.size, options.bits, options.fit, options.window),
        build={
            **_build_settings(options, label_settings, names, origin, clusters),
            "synthetic": sum(image.scanned.synthetic for image in images),
        },
        splits=splits,
        quarantine={"total": len(entries), "codes": counts_by_code(entries)},
    )


def fresh_folder(work: Path) -> Path:
    """Where the shards are written: those of a build that was stopped are there, without what it cut off."""
    folder = work / "shards"
    folder.mkdir(exist_ok=True)
    (work / "noted").mkdir(exist_ok=True)
    for partial in [*folder.glob(".*.partial-*"), *(work / "noted").glob(".*.partial-*")]:
        partial.unlink()
    return folder


def request(options: Options, label_settings: dict[str, str] | None, listing: Listing, names: Names) -> str:
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
    rows = (
        [image.number, image.name, image.label, image.patient, _stamp(image.path)]
        for image in sorted(listing.images, key=lambda image: (image.number, image.name))
    )
    aside = sorted((entry.source, entry.path, entry.code) for entry in listing.quarantine)
    digest = hashlib.sha256()
    for part in chain((said, names.key_id, label_settings), rows, (aside,)):  # a row at a time
        digest.update(json.dumps(part, sort_keys=True, default=str).encode() + b"\n")
    return digest.hexdigest()


def _stamp(path: str) -> list[int]:
    try:
        return stamp(path)
    except OSError:  # the scan reports why
        return []


def several_splits(options: Options) -> bool:
    """Whether images are divided at all."""
    return sum(fraction > 0 for fraction in options.split.values()) > 1


def list_of(out: Path) -> Path:
    """Where the images that were set aside are listed."""
    return Path(f"{os.path.abspath(out)}.quarantine.csv")


def list_sources(options: Options, every_class: bool = True) -> tuple[dict[str, str] | None, Listing]:
    """The images with their classes, by the label file when there is one, of which a summary is printed.

    With it come the settings that the label file was read by; its rows are not needed any more.

    `every_class`: refuse a class of the label file that has no image.
    """
    check_apart(options.sources)
    label_options = LabelOptions(
        options.label_rule, tuple(options.finding or ()), options.uncertain, options.view
    )
    if options.labels and options.one_class:
        raise UserError("--one-class says that no image has another class, --labels names classes: leave one")
    if options.labels:
        labels = read_labels(options.labels, label_options)
        report_classes(labels.written, "labels in the label file", options.many_classes)
        wanted = labels if every_class else replace(labels, classes=())
        listing = list_with_labels(options.sources, wanted)
        report_labels(labels, listing)
        return labels.settings, listing
    if label_options != LabelOptions():
        raise UserError(
            "--label-rule and --finding choose from a label file: class folders name neither readers nor "
            "findings; give --labels, as for --uncertain and --view"
        )
    listing = list_class_folders(options.sources, options.one_class)
    report_classes(listing.written, "folders in SOURCE", options.many_classes)
    report_folders(listing)
    return None, listing


def find_duplicates(workers: Workers, images: Sequence[Image], spool: Path) -> list[tuple[int, int]]:
    """The near-duplicates among the images, as pairs of indices."""
    content = hashlib.sha256(b"".join(image.scanned.content for image in images)).hexdigest()
    fingerprints = (read_record(spool, image.scanned.spooled)[1] for image in images)
    return search(workers, spool / f"copies-{content[:16]}", fingerprints, len(images))


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
        own = name_alone(names, image.source.identity, image.scanned.dicom_study)
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
    before: Mapping[str, Packed] | None = None,
) -> dict[str, Split]:
    """Write all shards in parallel, one shard a task; shards of another plan are removed from `folder`.

    Those of `before` stand first in each split, and are not written.
    """
    scanned = {image.key: image.scanned for image in images}
    held = {name: (before or {}).get(name, Packed()) for name in plan.SPLITS}
    tasks = [
        ShardTask(
            file=f"{name}-{number:06d}.tar",
            split=name,
            samples=shard,
            scanned=[scanned[sample.key] for sample in shard],
            classes=classes,
            spool=spool,
            folder=folder,
            noted=folder.with_name("noted"),
        )
        for name, samples in split.items()
        for number, shard in enumerate(
            plan.make_shards(samples, options.samples_per_shard, options.seed), start=len(held[name].shards)
        )
    ]
    with Progress("write", sum(len(task.samples) for task in tasks), "images") as progress:
        shards = workers.run(
            write_shard,
            tasks,
            progress,
            units=lambda task: len(task.samples),
            suspects=lambda tasks: [task.file for task in tasks],
        )
    for path in folder.iterdir():  # of an earlier start with other samples, and of workers that died
        if path.name not in {task.file for task in tasks}:
            path.unlink()
    splits = {}
    for name in plan.SPLITS:
        own = [(task, shard) for task, shard in zip(tasks, shards, strict=True) if task.split == name]
        written = [described(task, shard) for task, shard in own]
        pixels = [found.pixels for task, _ in own for found in task.scanned]
        whole = held[name].shards + written
        content = shards_digest(classes, options.size, options.bits, held[name].pixels + pixels, whole)
        splits[name] = Split.of(whole, len(classes), content)
    return splits


def _build_settings(
    options: Options, label_settings: dict[str, str] | None, names: Names, origin: str, clusters: int
) -> dict[str, object]:
    """The manifest's `build` block."""
    return {
        **({"labels": label_settings} if label_settings is not None else {}),
        "seed": options.seed,
        "split": {name: options.split[name] for name in plan.SPLITS},
        "samples_per_shard": options.samples_per_shard,
        "per_class": options.per_class,
        "patients": origin,
        "duplicates": {"method": linking.METHOD, "threshold": linking.THRESHOLD, "clusters": clusters},
        "part": {"index": 0, "count": 1},
        "key_id": names.key_id,
    }
