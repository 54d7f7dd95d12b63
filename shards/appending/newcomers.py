"""Which images are new to a set, what of it they belong to, and so which split they go into.

An image is in the set already if a picture of the same patient is the same pixel by pixel (of any patient,
where its own is not known). Its name may be taken by another picture: two folders may both have an `001.png`.
Then its keyed name is made of its content as well.
"""

import tempfile
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from shards import plan
from shards.appending.held import Held, print_of
from shards.appending.joining import settle
from shards.copies.linking import pairs_between
from shards.copies.registration import SIDE
from shards.gather import Image
from shards.identity import Names
from shards.journal import read_record
from shards.options import Options
from shards.pixels.render import decode_png
from shards.progress import Progress
from shards.quarantine import Code, Entry
from shards.sources.patients import name_alone

KEPT = "shards that are written stay as they are; build anew to change it"
LEAST_SIDE = 32
"""Pixels from which a picture in a shard has the detail by which the whole X-ray is known again."""


@dataclass
class Newcomers:
    """The new images; `patients` as keyed hashes, `named` as they are known (None: not).

    `aside`: those that can't be taken. `held`: how many images were in the set already. `renamed`: how many
    have the file name of another picture in the set.
    """

    images: list[Image] = field(default_factory=list)
    patients: list[str] = field(default_factory=list)
    named: list[str | None] = field(default_factory=list)
    aside: list[Entry] = field(default_factory=list)
    held: int = 0
    renamed: int = 0


def newcomers(
    images: Sequence[Image],
    patients: Sequence[str | None],
    held: Held,
    names: Names,
    classes: Sequence[str],
) -> Newcomers:
    """Those of the images that are not in the set. `patients`: of each image, None where unknown."""
    taken = set(held.key)
    same: dict[str, list[int]] = defaultdict(list)
    for number, digest in enumerate(held.pixels):
        same[digest].append(number)
    found = Newcomers()
    for image, patient in zip(images, patients, strict=True):
        hashed = names.name("patient", patient.encode("utf-8", "surrogateescape")) if patient else None
        label = classes.index(image.source.label)
        copies = same[image.scanned.pixels]
        others = [held.label[row] for row in copies if held.label[row] != label]
        if others:
            detail = f"the same picture is in the set as {classes[others[0]]}: {KEPT}"
            found.aside.append(_entry(image, Code.CONFLICTING_LABEL, detail))
            continue
        if any(hashed in (None, held.patient[row]) for row in copies):
            found.held += 1
            continue
        identity: tuple[bytes, ...] = image.source.identity
        if names.name("sample", *identity) in taken:
            identity = (*identity, image.scanned.content)
        found.renamed += len(identity) > len(image.source.identity)
        found.images.append(Image(image.source, names.name("sample", *identity), image.scanned))
        found.patients.append(hashed or name_alone(names, identity, image.scanned.dicom_study))
        found.named.append(patient)
    return found


def nearly_held(new: Sequence[Image], held: Held, spool: Path, options: Options) -> list[tuple[int, int]]:
    """The near-duplicates of new images in the set, as pairs (index in new, row of the set), sorted."""
    same: dict[str, list[int]] = defaultdict(list)
    for row, digest in enumerate(held.pixels):
        same[digest].append(row)
    found = {(index, row) for index, image in enumerate(new) for row in same[image.scanned.pixels]}
    as_packed = options.size < LEAST_SIDE or options.fit == "crop"
    with tempfile.TemporaryFile(dir=spool) as file:
        for image in new:
            record, fingerprint, png = read_record(spool, image.scanned.spooled)
            if as_packed:
                levels = decode_png(png, options.size, options.bits)
                fingerprint = print_of(levels, options.bits, record["render"]["to"])
            file.write(fingerprint)
        file.flush()
        shape = (len(new), SIDE, SIDE)
        prints = np.memmap(file, np.uint8, "r", shape=shape) if new else np.zeros(shape, np.uint8)
        with Progress("near-duplicates in the set", len(new), "images") as progress:
            found |= set(pairs_between(prints, held.prints, progress.advance))
    return sorted(found)


def divide(
    new: Newcomers,
    near: Sequence[tuple[int, int]],
    near_held: Sequence[tuple[int, int]],
    held: Held,
    names: Names,
    classes: Sequence[str],
    options: Options,
) -> dict[str, list[plan.Sample]]:
    """The new images by split; those that are tied to two go to `new.aside`.

    `near`: pairs of new images that are near-duplicates; `near_held`: see `nearly_held`.
    """
    of_patient = dict(zip(held.patient, held.split, strict=True))
    ties = [{of_patient[patient]} if patient in of_patient else set() for patient in new.patients]
    for index, row in near_held:
        ties[index].add(held.split[row])
    splits, aside = settle(new.patients, near, ties)
    for index, tied in sorted(aside.items()):
        where = " and ".join(sorted(tied))
        detail = f"images of its patient, and near-duplicates of these or of it, are in {where}"
        new.aside.append(_entry(new.images[index], Code.TWO_SPLITS, detail))
    kept = [pair for pair in near if not aside.keys() & set(pair)]
    clusters = _clusters(new.images, kept, near_held, held, names)
    divided: dict[str, list[plan.Sample]] = {name: [] for name in plan.SPLITS}
    free: list[plan.Sample] = []
    counts = Counter(zip(held.split, held.label, strict=True))
    for index, (image, split) in enumerate(zip(new.images, splits, strict=True)):
        if index in aside:
            continue
        label = classes.index(image.source.label)
        sample = plan.Sample(image.key, label, new.patients[index], clusters[index], image.scanned.content)
        if split is None:
            free.append(sample)
        else:
            divided[split].append(sample)
            counts[split, label] += 1
    already = {name: [counts[name, label] for label in range(len(classes))] for name in plan.SPLITS}
    chosen = plan.split_samples(free, len(classes), options.split, options.seed, already)
    return {name: divided[name] + chosen[name] for name in plan.SPLITS}


def _clusters(
    new: Sequence[Image],
    near: Sequence[tuple[int, int]],
    near_held: Sequence[tuple[int, int]],
    held: Held,
    names: Names,
) -> list[str]:
    """The cluster of each new image: the first of the set that its near-duplicates lead to, or a new one."""
    groups = plan.connected(len(new), near)
    rows: dict[int, int] = {}
    for index, row in near_held:
        rows[groups[index]] = min(row, rows.get(groups[index], row))
    return [
        held.cluster[rows[group]] if group in rows else names.name("cluster", new[group].key.encode())
        for group in groups
    ]


def _entry(image: Image, code: Code, detail: str) -> Entry:
    return Entry(image.source.number, image.source.name, code, detail)
