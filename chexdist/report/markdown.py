"""The tables as GitHub Markdown, the same bytes for the same runs."""

import re

from chexdist.report.tables import Table

SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~$@&])")


def as_markdown(notices: list[str], tables: list[Table]) -> str:
    """The notices, and each table under its title.

    Texts from the runs can't become markup, links or mentions.
    """
    parts = [f"> {escaped(notice)}\n" for notice in notices]
    for table in tables:
        alignment = ["---", *["---:" if table.numeric else "---"] * (len(table.columns) - 1)]
        lines = [_row([escaped(cell) for cell in table.columns]), _row(alignment)]
        lines += [_row([escaped(cell) for cell in row]) for row in table.rows]
        note = f"{escaped(table.note)}\n\n" if table.note else ""
        parts.append(f"**{escaped(table.title)}**\n\n{note}" + "\n".join(lines) + "\n")
    return "\n".join(parts)


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def escaped(text: str) -> str:
    """Text that Markdown shows as it is."""
    text = SPECIAL.sub(r"\\\1", text)
    return text.replace("://", r":\//").replace("www.", r"www\.")
