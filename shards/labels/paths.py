r"""Which path of a label file is which image file, where it isn't simply its name within SOURCE.

Absolute paths inside a SOURCE, Windows' backslashes, and paths that all begin with a folder that is not below
SOURCE, such as CheXpert's `CheXpert-v1.0-small/train/` where SOURCE is that folder. Nothing here opens a
file: a path can only be matched to one of the image files that were listed below SOURCE.
"""

import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from shards.sources.listing import one_form

DRIVE = re.compile(r"[A-Za-z]:/")


def match_paths(
    paths: Collection[str], names: Collection[str], folders: Sequence[Path]
) -> tuple[dict[str, str], list[str]]:
    """(path of the label file -> one of the files' posix `names` within its SOURCE, what to say of it)."""
    exact = set(names)
    matched = {path: path for path in paths if path in exact}
    left = [path for path in paths if path not in matched]
    roots = {root for folder in folders for root in (os.path.abspath(folder), os.path.realpath(folder))}
    plain = {path: _relative(path, roots) for path in left}
    forms = Counter(map(one_form, names))
    known = {one_form(name): name for name in names if forms[one_form(name)] == 1}
    matched |= {path: known[name] for path, name in plain.items() if name in known}
    notes = []
    if found := sum(path in matched for path in left):
        notes.append(
            f"{found} paths are absolute, or have backslashes or accents otherwise than the files: taken "
            "relative to SOURCE"
        )
    left = [path for path in left if path not in matched and ".." not in plain[path].split("/")]
    free = known.keys() - {one_form(name) for name in matched.values()}
    prefix = _common_prefix([plain[path] for path in left], free, [folder.name for folder in folders])
    if prefix is None:
        return matched, notes
    rest = {path: plain[path].removeprefix(f"{prefix}/") for path in left}
    stripped = {path: known[name] for path, name in rest.items() if name in free and name != plain[path]}
    notes.append(
        f"{len(stripped)} paths begin with {prefix!r}, which is not below SOURCE: taken without it, such as "
        f"{next(iter(stripped.values()))!r}"
    )
    return matched | stripped, notes


def _relative(path: str, roots: Iterable[str]) -> str:
    """The path with slashes, and relative to one of the absolute `roots` where it is below one."""
    path = os.path.normpath(one_form(path))
    for root in roots:
        if path.startswith(f"{one_form(root)}/"):
            return path[len(one_form(root)) + 1 :]
    return path


def _common_prefix(paths: Sequence[str], names: Collection[str], folders: Sequence[str]) -> str | None:
    """The leading folders without which most `paths` are `names`; first one that ends with a SOURCE's name.

    None when no path is a name then, or two prefixes are as good: X/a.png and Y/a.png can't both be a.png.
    """
    votes: Counter[str] = Counter()
    for path in paths:
        parts = path.split("/")
        for start in range(1, len(parts)):
            if "/".join(parts[start:]) in names:
                votes["/".join(parts[:start])] += 1
                break
    best = sorted(((prefix.split("/")[-1] in folders, count), prefix) for prefix, count in votes.items())
    if not best or (len(best) > 1 and best[-1][0] == best[-2][0]):
        return None
    return best[-1][1]


def is_outside(path: str) -> bool:
    """Whether a path that matched no file is absolute, or leads up."""
    plain = path.replace("\\", "/")
    return os.path.isabs(plain) or bool(DRIVE.match(plain)) or plain.split("/")[0] == ".."
