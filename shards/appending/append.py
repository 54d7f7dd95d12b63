"""What `append` does: new images into a set that stays as it is, each patient in one split.

The set's manifest gives how pictures are rendered, labels read and images divided; its key file, how they are
named. Shards that are there keep their bytes; new ones follow them, and the manifest that names them is
replaced last (see `pending`). What an image belongs to, the set itself tells: patients by their keyed hashes,
copies by the pictures (see `newcomers`).
"""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from shards import build, manifest
from shards.appending import pending
from shards.appending.held import read_held
from shards.appending.newcomers import divide, nearly_held, newcomers
from shards.errors import UserError
from shards.gather import Image, gather, scan_options
from shards.identity import Names, load_key
from shards.journal import Finished, scan_folder, work_folder
from shards.manifest import Manifest, Split, clusters_of_several
from shards.memory import check_memory, memory_there
from shards.options import Options
from shards.pixels import render
from shards.quarantine import Code, Entry, counts_by_code, write_list
from shards.refusals import ADDRESS
from shards.report import (
    PATIENTS,
    report_appended,
    report_copies,
    report_near_copies,
    report_newcomers,
    report_quarantine,
    report_synthetic,
)
from shards.sources.listing import Listing
from shards.sources.patients import NameReader, find_patients, name_reader
from shards.workers import Workers
from shards.write import Packed

BY_HEADERS = ("dicom", "study", "file")
"""Ways to know patients by which the same patient has the same name."""
ASKED = {
    "pattern": "--patient-pattern, as the build had it",
    "csv": "--labels with a patient column",
    "name": "the files under the names that the public set gave them",
}


def append(folder: Path | str, given: Mapping[str, Any]) -> int:
    """Put new images into the set `folder`; returns the exit code: 1 when more was set aside than allowed.

    `given`: the fields of `Options` that the set does not decide. Raises UserError (also for an
    address) and WorkError; then, and when interrupted, the set is as it was, and the same command resumes
    from `DIR.work`.
    """
    if ADDRESS.match(str(folder)):
        raise UserError(
            f"{folder} is no folder of this machine: copy the set here, append, copy new shards back, "
            "manifest.json last"
        )
    out = Path(os.path.realpath(folder))
    content = manifest.read(out)
    options = _options(out, content, given)
    names = _names(out, content, options)
    label_settings, listing = _list(out, content, options)
    pattern = options.patient_pattern
    from_name = name_reader(pattern, listing.images) if pattern is not None else None
    quarantine_list = Path(f"{out}.append.quarantine.csv")
    with work_folder(out) as work:
        fresh = build.fresh_folder(work)
        pending.take_back(fresh, out)
        content = manifest.read(out)
        finished = Finished(work, out, build.request(options, label_settings, listing, names))
        if finished.is_done():
            codes = content.build["appends"][-1]["quarantine"]["codes"]
            print(f"{out}: these {content.build['appends'][-1]['images']} images were appended before")
        else:
            check_memory(listing.images, options.workers, memory_there())
            with Workers(options.workers) as workers:
                result, entries = _extended(
                    workers, content, out, work, options, names, label_settings, listing, from_name
                )
            write_list(quarantine_list, entries)
            codes = counts_by_code(entries)
            if result:
                manifest.write(fresh, result)
                finished.note(fresh)
                pending.place(fresh, out, _added(content, result))
            report_appended(out, content, result)
        code = report_quarantine(codes, quarantine_list, options.allow_quarantine, options.allow_missing)
        finished.clear(keep=code != 0)
    return code


def _options(out: Path, content: Manifest, given: Mapping[str, Any]) -> Options:
    """The options of the build that made the set, with those given for this append.

    Raises UserError where this release would render other pictures.
    """
    look, made = content.render, content.build
    options = Options(
        **given,
        out=out,
        size=look["size"],
        bits=look["bits"],
        fit=look.get("fit", "pad"),
        window=look.get("window", "auto"),
        samples_per_shard=made["samples_per_shard"],
        per_class=None,
        split=made["split"],
        seed=made["seed"],
        many_classes=True,
        **_label_options(made.get("labels", {}) if given["labels"] else {}),
    )
    ours = render.settings(options.size, options.bits, options.fit, options.window)
    if differing := sorted(name for name in ours.keys() | look.keys() if ours.get(name) != look.get(name)):
        raise UserError(
            f"{out} was rendered by another release, whose {', '.join(differing)} differ: new pictures would "
            "look otherwise; build a new set of all images"
        )
    return options


def _label_options(settings: Mapping[str, str]) -> dict[str, Any]:
    """How the set's label file was read, as options."""
    finding = settings.get("finding")
    return {
        "label_rule": settings.get("rule"),
        "finding": finding.split("|") if finding else None,
        "uncertain": settings.get("uncertain"),
        "view": settings.get("view"),
    }


def _names(out: Path, content: Manifest, options: Options) -> Names:
    path = options.key_file or Path(f"{out}.key")
    if not path.exists():
        raise UserError(
            f"{path} is not there: patients in {out} are known by the key file of its build alone; "
            "give it with --key-file"
        )
    names = load_key(path)
    if names.key_id != content.build["key_id"]:
        raise UserError(
            f"{path} is another key than that of {out}, so its patients would not be known again: give the "
            "key file of its build with --key-file"
        )
    return names


def _list(out: Path, content: Manifest, options: Options) -> tuple[dict[str, str] | None, Listing]:
    """The images to append; their label file is read as the set's was, their classes are the set's."""
    said = content.build.get("labels")
    try:
        settings, listing = build.list_sources(options, every_class=False)
    except UserError as error:
        if not (said and options.labels):
            raise
        raise UserError(f"{error} (label files are read as those of {out}: {said})") from None
    if settings is not None and said and settings != said:
        raise UserError(
            f"{options.labels} is read as {settings}, the labels of {out} were as {said}: give a file of "
            "that format, or the images in folders SOURCE/ClassName/"
        )
    if strange := sorted(set(listing.classes()) - set(content.classes)):
        raise UserError(
            f"class {strange[0]} is none of those in {out}, {', '.join(content.classes)}: write it as there, "
            "or build a new set"
        )
    return settings, listing


def _patients(
    images: Sequence[Image],
    listing: Listing,
    label_settings: dict[str, str] | None,
    content: Manifest,
    from_name: NameReader | None,
) -> tuple[str, list[str | None]]:
    """How patients are known, and each image's. Raises UserError where the set knows them otherwise."""
    origin, patients = find_patients(
        [image.source for image in images],
        [(image.scanned.dicom_patient, image.scanned.dicom_study) for image in images],
        from_name,
        listing.has_patients,
        several_splits=False,
    )
    origin = "name" if origin == "csv" and label_settings is None else origin
    known = content.build["patients"]
    if origin != known and not {origin, known} <= set(BY_HEADERS):
        asked = ASKED.get(known, "DICOM files with PatientID, without --patient-pattern or a patient column")
        raise UserError(
            f"the set knows patients {PATIENTS[known]}, these images {PATIENTS[origin]}: a patient in both "
            f"would not be known again; give {asked}"
        )
    return origin, patients


def _extended(
    workers: Workers,
    content: Manifest,
    out: Path,
    work: Path,
    options: Options,
    names: Names,
    label_settings: dict[str, str] | None,
    listing: Listing,
    from_name: NameReader | None,
) -> tuple[Manifest | None, list[Entry]]:
    """The manifest with the new images, their shards written (None: there are none); what is set aside."""
    spool = scan_folder(work, scan_options(options))
    images, refused = gather(workers, listing, names, spool, options)
    origin, patients = _patients(images, listing, label_settings, content, from_name)
    held = read_held(workers, out, content, work / "held")
    new = newcomers(images, patients, held, names, content.classes)
    near = build.find_duplicates(workers, new.images, spool) if new.images else []
    near_held = nearly_held(new.images, held, spool, options)
    split = divide(new, near, near_held, held, names, content.classes, options)
    entries = [*listing.quarantine, *refused, *new.aside]
    report_synthetic(sum(entry.code == Code.SYNTHETIC for entry in refused))
    if new.images:
        report_copies([(image.source, image.scanned) for image in new.images], new.named)
        report_near_copies([image.source for image in new.images], new.named, near)
    report_newcomers(new, near_held, held)
    if not any(split.values()):
        return None, entries
    before = {
        name: Packed(part.shards, [held.pixels[row] for row, own in enumerate(held.split) if own == name])
        for name, part in content.splits.items()
    }
    fresh = build.fresh_folder(work)
    splits = build.write_splits(workers, split, new.images, content.classes, fresh, spool, options, before)
    keys = {sample.key for samples in split.values() for sample in samples}
    packed = [image for image in new.images if image.key in keys]
    said = {
        "images": len(packed),
        **({"labels": label_settings} if label_settings is not None else {}),
        "patients": origin,
        "quarantine": {"total": len(entries), "codes": counts_by_code(entries)},
    }
    return _described(content, splits, said, sum(image.scanned.synthetic for image in packed)), entries


def _described(content: Manifest, splits: dict[str, Split], said: dict[str, Any], synthetic: int) -> Manifest:
    """The set's manifest with these splits; `said`: of this append; `synthetic`: such images in it."""
    build_block = {
        **content.build,
        "duplicates": {**content.build["duplicates"], "clusters": clusters_of_several(splits)},
        "synthetic": content.build.get("synthetic", 0) + synthetic,
        "appends": [*content.build.get("appends", []), said],
    }
    codes = Counter(content.quarantine["codes"]) + Counter(said["quarantine"]["codes"])
    aside = {"total": sum(codes.values()), "codes": dict(sorted(codes.items()))}
    return replace(
        content, created_by=manifest.CREATED_BY, splits=splits, build=build_block, quarantine=aside
    )


def _added(before: Manifest, after: Manifest) -> dict[str, str]:
    """The shards that came to a set, with their SHA-256."""
    return {
        shard.file: shard.sha256
        for name, split in after.splits.items()
        for shard in split.shards[len(before.splits[name].shards) :]
    }
