"""How the findings of all ranks become one list."""

from collections.abc import Iterator

from chexdist.doctor.finding import Finding, Verdict, listed

SHOWN = 4


def merge(everyone: list[list[Finding]], hosts: list[str]) -> list[Finding]:
    """Rank 0's findings, and under each check what only other ranks warn of, with who says so."""
    main, others = everyone[0], _only_elsewhere(everyone)
    merged: list[Finding] = []
    for name in dict.fromkeys(finding.check for findings in everyone for finding in findings):
        merged += [finding for finding in main if finding.check == name]
        merged += _elsewhere(
            [(finding, ranks) for finding, ranks in others.items() if finding.check == name], hosts
        )
    return merged


def _only_elsewhere(everyone: list[list[Finding]]) -> dict[Finding, list[int]]:
    """Warnings and faults that rank 0 does not have, with the ranks that do."""
    found: dict[Finding, list[int]] = {}
    for rank, findings in enumerate(everyone):
        for finding in findings:
            if finding.verdict in (Verdict.WARNING, Verdict.FAULT) and finding not in everyone[0]:
                found.setdefault(finding, []).append(rank)
    return found


def _elsewhere(findings: list[tuple[Finding, list[int]]], hosts: list[str]) -> Iterator[Finding]:
    for finding, ranks in findings[:SHOWN]:
        who = f"rank{'s' if len(ranks) > 1 else ''} {listed([str(rank) for rank in ranks])}"
        where = listed(sorted({hosts[rank] for rank in ranks}))
        yield Finding(finding.check, finding.verdict, f"{who} on {where}: {finding.text}", finding.cure)
    if more := [finding for finding, _ in findings[SHOWN:]]:
        worst = (
            Verdict.FAULT if any(finding.verdict == Verdict.FAULT for finding in more) else Verdict.WARNING
        )
        yield Finding(more[0].check, worst, f"{len(more)} more like these on other ranks", "as above")
