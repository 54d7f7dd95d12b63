"""From the findings that readers marked in an image to its class: a finding, none, or left out."""

import difflib
from collections.abc import Collection, Iterable, Sequence

from shards.errors import UserError
from shards.labels.labels import FINDING, NO_FINDING, OTHER_FINDINGS, SEVERAL_FINDINGS
from shards.labels.table import quoted
from shards.sources.listing import class_name

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


def image_class(
    readers: Collection[Collection[str]], rule: str, asked: Sequence[str]
) -> tuple[str | None, str]:
    """The class of an image by what its readers marked, or None and why it is left out.

    With several findings `asked` for, each is a class of its own, of the images with that one alone of them.
    """
    if len(asked) < 2:
        return classify(readers, rule, asked[0] if asked else None), OTHER_FINDINGS
    if classify(readers, rule) == NO_FINDING:
        return NO_FINDING, ""
    found = [name for name in asked if classify(readers, rule, name) == FINDING]
    if len(found) == 1:
        return class_name(found[0]), ""
    return None, SEVERAL_FINDINGS if found else OTHER_FINDINGS


def asked_classes(asked: Sequence[str]) -> tuple[str, ...]:
    """The classes of a file of findings: two, or with several findings asked for one more than these."""
    return (NO_FINDING, *map(class_name, asked)) if len(asked) > 1 else (NO_FINDING, FINDING)


def known_findings(asked: Iterable[str], names: Iterable[str]) -> list[str]:
    """Each of the --finding options as the file writes it, once; raises as `known_finding`."""
    names = list(names)
    return list(dict.fromkeys(name for each in asked if (name := known_finding(each, names)) is not None))


def finding_settings(asked: Sequence[str]) -> dict[str, str]:
    """--finding for the manifest: the findings asked for, with | between."""
    return {"finding": "|".join(asked)} if asked else {}


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
