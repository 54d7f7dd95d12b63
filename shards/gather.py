"""Which images a build uses: those drawn, scanned, with others in the place of unusable ones."""

from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

from shards import plan
from shards.copies.equal import in_two_classes
from shards.errors import WorkError
from shards.identity import Names
from shards.options import Options
from shards.quarantine import Entry
from shards.scan import Scanned, ScanOptions, scan
from shards.sources.listing import Listing, Source
from shards.workers import Workers


@dataclass(frozen=True, slots=True)
class Image:
    """A usable image: where it came from, its keyed name, and what the scan found."""

    source: Source
    key: str
    scanned: Scanned


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


def gather(
    workers: Workers, listing: Listing, names: Names, spool: Path, options: Options
) -> tuple[list[Image], list[Entry]]:
    """Scan all images, or as many as `--per-class` needs; the next in draw order replaces an unusable one.

    So are those whose picture is in two classes. The images come in the order of their content: neither that
    of the files nor one by the key.
    """
    keys = {names.name("sample", *source.identity) for source in listing.images}
    if len(keys) < len(listing.images):
        raise WorkError("two images got the same keyed name: use another --key-file")
    batch, waiting = first_draw(listing, options)
    asked = Counter(source.label for source in batch)
    images: list[Image] = []
    refused: list[Entry] = []
    in_two: dict[int, Entry] = {}
    while batch:
        what = "scan" if not images and not refused else "scan replacements"
        results = scan(workers, batch, spool, scan_options(options), what)
        for source, result in zip(batch, results, strict=True):
            if isinstance(result, Entry):
                refused.append(result)
            else:
                images.append(Image(source, names.name("sample", *source.identity), result))
        in_two = in_two_classes(
            [image.source for image in images], [image.scanned.pixels for image in images]
        )
        missing = asked - Counter(image.source.label for i, image in enumerate(images) if i not in in_two)
        batch = [
            waiting[label].pop() for label in waiting for _ in range(min(missing[label], len(waiting[label])))
        ]
    usable = [image for i, image in enumerate(images) if i not in in_two]
    refused += in_two.values()
    return sorted(usable, key=lambda image: (image.scanned.content, image.source.identity)), refused


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
