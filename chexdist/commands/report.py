"""`chexdist report`: runs side by side as one HTML file that needs no network, or as Markdown tables."""

import argparse
from pathlib import Path

from chexdist.errors import UserError
from shards.files import replace_file

SUFFIXES = (".html", ".md")


def run(options: argparse.Namespace, settings: list[str]) -> int:
    """Exit code 0; raises `UserError`."""
    out = Path(options.out)
    if out.suffix not in SUFFIXES:
        raise UserError(f"--out {out}: must end in .html, for the page, or .md, for its tables alone")
    if out.is_dir() or not out.parent.is_dir():
        raise UserError(f"--out {out}: {'is a folder' if out.is_dir() else f'{out.parent} is no folder'}")
    if options.with_real and out.suffix == ".md":
        raise UserError("--with-real: Markdown has no pictures; leave it out, or give --out a name in .html")

    from chexdist.report.collect import collect
    from chexdist.report.compare import compare

    runs = collect(options.runs)
    measured = compare(runs)
    if out.suffix == ".md":
        from chexdist.report.health import ill
        from chexdist.report.markdown import as_markdown
        from chexdist.report.page import page_tables

        text = as_markdown(ill(runs), page_tables(runs, measured))
    else:
        from chexdist.report.page import as_page

        text = as_page(runs, measured, options.with_real)
    _replace(out, text)
    what = "run" if len(runs) == 1 else "runs"
    print(f"{out}: {len(runs)} {what}, {out.stat().st_size / 1000:,.0f} kB")
    return 0


def _replace(out: Path, text: str) -> None:
    try:
        replace_file(out, text)
    except OSError as error:
        raise UserError(f"--out {out}: {error.strerror}") from None
