"""From the findings that readers marked in an image to its class: a finding, none, or left out."""

import difflib
from collections.abc import Collection, Iterable

from shards.errors import UserError
from shards.labels.labels import FINDING, NO_FINDING
from shards.labels.table import quoted
from shards.sources import class_name

RULES = {
    "any": lambda marked, readers: marked > 0,
    "majority": lambda marked, readers: 2 * marked > readers,
    "all": lambda marked, readers: marked == readers,
}


def classify(readers: Collection[Collection[str]], rule: str, finding: str | None = None) -> str | None:
    """The class of an image by the findings that each of its readers marked; it has at least one reader.

    `no_finding` when too few readers for `rule` marked anything, whatever it was. Otherwise `finding`, unless
    one is asked for and too few readers marked that: then None, the image is of neither class.
    """
    holds = RULES[rule]
    if not holds(sum(bool(marked) for marked in readers), len(readers)):
        return NO_FINDING
    if finding is None or holds(sum(finding in marked for marked in readers), len(readers)):
        return FINDING
    return None


def known_finding(asked: str | None, names: Iterable[str]) -> str | None:
    """Which of the finding `names` the option --finding means; case, dashes and underscores don't count.

    Raises UserError with the nearest ones when it is none of them.
    """
    if asked is None:
        return None
    known = {class_name(name): name for name in names}
    wanted = class_name(asked)
    if wanted in known:
        return known[wanted]
    if wanted == NO_FINDING:
        raise UserError(f"--finding {quoted(asked)}: name a finding; images without one are the other class")
    near = ", ".join(known[name] for name in difflib.get_close_matches(wanted, known, n=3, cutoff=0.0))
    raise UserError(
        f"--finding {quoted(asked)}: no image has this finding; the nearest are: {near or 'none'}"
    )
