"""What a label file says of the images: which form it has is told by its columns, each form has its reader.

A reader for another form is one more module with COLUMNS and `read`, and one more line in FORMS.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from shards.errors import UserError
from shards.labels import nih, plain, vinbigdata
from shards.labels.stated import Labels, Question
from shards.labels.table import Table, open_table, shown

__all__ = ["Labels", "Question", "read_labels"]


@dataclass(frozen=True)
class Form:
    """A form of label file: the columns by which it is known, and its reader."""

    name: str
    columns: tuple[str, ...]
    read: Callable[[Table, Question], Labels]


FORMS = (
    Form("VinBigData", vinbigdata.COLUMNS, vinbigdata.read),
    Form("NIH ChestX-ray14", nih.COLUMNS, nih.read),
    Form("plain", plain.COLUMNS, plain.read),
)


def read_labels(path: Path, question: Question) -> Labels:
    """Read the label file `path` (CSV in UTF-8, which may be gzipped).

    Raises UserError for a file that is damaged, too large or of no known form, for a row that can't be
    understood, and for a question that its form can't answer.
    """
    with open_table(path) as table:
        fitting = [form for form in FORMS if set(form.columns) <= set(table.columns)]
        if len(fitting) != 1:
            known = "; ".join(f"{','.join(form.columns)} ({form.name})" for form in FORMS)
            raise UserError(
                f"{path} has the columns {shown(','.join(table.columns), 200)}, which fit "
                f"{'more than one form' if fitting else 'no form'} of label file\n"
                f"give one of: {known.replace('path,label', 'path,label[,patient]')}"
            )
        return fitting[0].read(table, question)
