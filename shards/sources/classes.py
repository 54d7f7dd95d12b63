"""Whether the names of classes can be meant: not people's names or ids, no typo of another, no two of one.

Names of classes are in every sample and in the manifest. A hospital's export is `SOURCE/DOE_JANE/*.dcm`, so
folders (and labels of a plain file) that look like people are refused unless --many-classes says that they
are classes.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from itertools import combinations

from shards.errors import UserError
from shards.sources.vocabulary import GIVEN_NAMES, ID_WORDS, PERSON_TITLES, TERMS

MANY_CLASSES = 10
FEW_IMAGES = 20
MOST_COMPARED = 300  # classes, each with each
SHOWN = 3  # names in a message
ID_DIGITS = 3  # a name of as many digits, or of these behind a few letters, is an id: 1000452, P001
SURNAMES = 3  # as many names of one word that isn't known of classes, with few images each: patients


def check_classes(written: Mapping[str, int], what: str = "folders in SOURCE") -> None:
    """Refuse names that look like patients. `written`: images by name as it is written; `what` the names are.

    Raises:
        UserError: more than `MANY_CLASSES` names, half of which have fewer than `FEW_IMAGES` images; or half
            of the names (one with ^ is enough) look like people's names or ids.
    """
    cure = "names of classes are in every sample. " + (
        "Give --one-class if all images are of one class, name classes with --labels FILE.csv"
        if "folders" in what
        else "Write other names there"
    )
    cure += ", or give --many-classes if these are classes"
    few = sum(count < FEW_IMAGES for count in written.values())
    if len(written) > MANY_CLASSES and 2 * few > len(written):
        raise UserError(
            f"{len(written)} {what}, {few} of them with fewer than {FEW_IMAGES} images: they look like "
            f"patients, not classes, and {cure}"
        )
    strange = sum(_is_strange(name) for name in written)
    if strange >= SURNAMES and 2 * strange >= len(written) and 2 * few > len(written):
        raise UserError(
            f"{strange} of {len(written)} {what} are words that are not known as names of classes, {few} of "
            f"them with fewer than {FEW_IMAGES} images: they may be patients' names, and {cure}"
        )
    people = [name for name in written if looks_like_a_person(name)]
    if people and (2 * len(people) >= len(written) or any("^" in name for name in people)):
        raise UserError(
            f"{len(people)} of {len(written)} {what} look like people's names or ids, not classes, such as "
            f"{people[0][:60]!r}, and {cure}"
        )


def looks_like_a_person(name: str) -> bool:
    """Whether a name may be a person's or an id: JANE^DOE, Doe_Jane, Jane Doe, 1000452, PAT00017."""
    if "^" in name:
        return True
    words = re.findall(r"[^\W\d_]+", name.lower())
    if re.fullmatch(r"[\d.\s_-]+", name) and len(re.sub(r"\D", "", name)) >= ID_DIGITS:
        return True
    if re.search(r"\d{5}", name) or re.fullmatch(r"[0-9a-fA-F-]{16,}", name):
        return True
    if words and words[0] in ID_WORDS and re.search(r"\d", name):
        return True
    if any(word in TERMS for word in words):
        return False
    if re.fullmatch(rf"[A-Za-z]{{1,4}}[\s_-]?\d{{{ID_DIGITS},}}", name):
        return True
    if any(word in GIVEN_NAMES or word in PERSON_TITLES for word in words):
        return True
    return 2 <= len(words) <= 4 and all(len(word) > 1 for word in words)


def _is_strange(name: str) -> bool:
    """Whether a name is one word of three letters or more that is not known of classes: Miller."""
    return name.isalpha() and len(name) > 2 and name.lower() not in TERMS


def class_notes(written: Mapping[str, int], classes: Mapping[str, str]) -> list[str]:
    """What to say of names that are one class, or nearly: `classes` gives each written name's class."""
    spellings: dict[str, list[str]] = defaultdict(list)
    counts: Counter[str] = Counter()
    for name, images in written.items():
        spellings[classes[name]].append(name)
        counts[classes[name]] += images
    lines = [
        f"{' and '.join(map(repr, sorted(names)[:SHOWN]))} are one class, {name}: "
        + ", ".join(f"{written[spelling]} images {spelling!r}" for spelling in sorted(names)[:SHOWN])
        for name, names in sorted(spellings.items())
        if len(names) > 1
    ]
    compared = sorted(counts) if len(counts) <= MOST_COMPARED else []
    for first, second in combinations(compared, 2):
        if nearly_equal(first, second):
            rare, common = sorted((first, second), key=lambda name: (counts[name], name))
            lines.append(
                f"class {rare} ({counts[rare]} images) is nearly called like class {common} "
                f"({counts[common]}): if it is a typo, write the same; both are classes now"
            )
    return lines


def nearly_equal(first: str, second: str) -> bool:
    """Whether one may be a typo of the other: one edit, two in 8 letters; numbers and letters aside."""
    if re.sub(r"\d", "", first) == re.sub(r"\d", "", second):
        return False
    words = list(zip(first.split("_"), second.split("_"), strict=False))
    differing = [(one, other) for one, other in words if one != other]
    if first.count("_") == second.count("_") and all(max(map(len, pair)) < 3 for pair in differing):
        return False  # class_a and class_b, no_tb and pa_tb
    shorter = min(len(first), len(second))
    return shorter > 3 and edits(first, second, most=2) <= (2 if shorter >= 8 else 1)


def edits(first: str, second: str, most: int) -> int:
    """Letters to add, drop, change or swap with a neighbour (optimal string alignment); most + 1 for more."""
    if abs(len(first) - len(second)) > most:
        return most + 1
    before: list[int] = []
    above = list(range(len(second) + 1))
    for i, letter in enumerate(first, start=1):
        row = [i]
        for j, other in enumerate(second, start=1):
            row.append(min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (letter != other)))
            if i > 1 and j > 1 and letter == second[j - 2] and first[i - 2] == other:
                row[j] = min(row[j], before[j - 2] + 1)
        before, above = above, row
    return min(above[-1], most + 1)
