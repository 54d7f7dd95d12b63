"""How a label file is read safely: CSV as programs write it, which may be gzipped, in bounded memory.

UTF-8, or UTF-16 with its byte order mark; cells between commas, semicolons or tabs; and the habits of
spreadsheets: a first line `sep=;`, empty rows and columns at the end, ="00123" for a text of digits.
"""

import csv
import gzip
import io
import re
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

from shards.errors import UserError

SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab"}
SEPARATOR_LINE = re.compile(r'^"?sep=([,;\t])"?[\r\n]*$', re.IGNORECASE)
GUARDED = re.compile(r'="([^"]*)"')
UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")
WORKBOOK_MAGICS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")  # a zip archive, as .xlsx and .ods are; .xls
GZIP_MAGIC = b"\x1f\x8b"  # RFC 1952, section 2.3.1
MAX_LINE = 2**20  # characters
MAX_CHARACTERS = 2**28  # fifty times the label file of VinBigData; a gzipped file can hold far more


class Table:
    """A CSV file that is being read: its `columns`, then its rows, once."""

    def __init__(self, path: Path, text: io.TextIOWrapper) -> None:
        self.path = path
        lines = self._lines(text)
        first = next(lines, "")
        if "\0" in first:
            raise UserError(f"{path} is not a CSV file in UTF-8 or UTF-16: save it as CSV UTF-8")
        self._skipped = 0
        if said := SEPARATOR_LINE.match(first):
            first = next(lines, "")
            self._skipped = 1
        self._separator = said[1] if said else _separator(first)
        self._reader = csv.reader(chain([first], lines), strict=True, delimiter=self._separator)
        self.columns = [cell.strip() for cell in next(self._reader, [])]

    def rows(self, *wanted: str, may_be_empty: Collection[str] = ()) -> Iterator[list[str]]:
        """The cells of the `wanted` columns, row by row, without surrounding space.

        Raises UserError with the line for a row with an empty one of these cells, unless it `may_be_empty`,
        more cells than columns, or the names of the columns again.
        """
        for column in wanted:
            if self.columns.count(column) > 1:
                raise self.error(f"the column {column} is there more than once")
        positions = [self.columns.index(column) for column in wanted]
        for row in self._records():
            if not any(map(str.strip, row)):
                continue
            if [cell.strip() for cell in row] == self.columns:
                raise self.error(
                    "the names of the columns again: are two tables in one file? Remove the line"
                )
            if any(row[len(self.columns) :]):
                separator = SEPARATORS[self._separator]
                raise self.error(
                    f"{len(row)} cells, but {len(self.columns)} columns: quote a cell's {separator}"
                )
            cells = [_cell(row[i]) if i < len(row) else "" for i in positions]
            for column, cell in zip(wanted, cells, strict=True):
                if not cell and column not in may_be_empty:
                    raise self.error(f"an empty cell; each row needs its {column}")
            yield cells

    def _records(self) -> Iterator[list[str]]:
        begins = self._reader.line_num
        try:
            for row in self._reader:
                yield row
                begins = self._reader.line_num
        except csv.Error as error:
            line = begins + 1 + self._skipped
            raise UserError(
                f"{self.path} is not a CSV file: what begins in line {line}: {error}; is a quote not closed?"
            ) from None

    def error(self, text: str) -> UserError:
        """The error that the line last read has the fault `text`."""
        return UserError(f"{self.path}, line {self._reader.line_num + self._skipped}: {text}")

    def _lines(self, text: io.TextIOWrapper) -> Iterator[str]:
        left = MAX_CHARACTERS
        while line := text.readline(MAX_LINE + 1):
            left -= len(line)
            if len(line) > MAX_LINE or left < 0:
                raise UserError(
                    f"{self.path} is no label file: it has a line of more than {MAX_LINE} characters, "
                    f"or more than {MAX_CHARACTERS} in all"
                )
            yield line


@contextmanager
def open_table(path: Path) -> Iterator[Table]:
    """Open a label file. UserError, then and while it is read, when it is not readable, whole and CSV."""
    try:
        with open(path, "rb") as file:
            packed = file.peek(len(GZIP_MAGIC)).startswith(GZIP_MAGIC)
            stream = io.BufferedReader(gzip.GzipFile(fileobj=file)) if packed else file
            start = stream.peek(len(WORKBOOK_MAGICS[0]))
            if start.startswith(WORKBOOK_MAGICS):
                raise UserError(f"{path} is a spreadsheet or an archive, not a table of text: save it as CSV")
            encoding = "utf-16" if start.startswith(UTF_16_MARKS) else "utf-8-sig"
            with io.TextIOWrapper(stream, encoding=encoding, newline="") as text:
                yield Table(path, text)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{path} is a damaged gzip file: {error}") from None
    except OSError as error:
        raise UserError(f"can't read {path}: {error.strerror or error}") from None
    except UnicodeError as error:
        raise UserError(
            f"{path} is not a CSV file in UTF-8 or UTF-16: {error}; save it as CSV UTF-8"
        ) from None
    except csv.Error as error:
        raise UserError(f"{path} is not a CSV file: {error}") from None


def _separator(line: str) -> str:
    """What separates the columns that a first line names: the most frequent of SEPARATORS outside quotes."""
    bare = re.sub(r'"[^"]*"', "", line)
    return max(SEPARATORS, key=bare.count)


def _cell(text: str) -> str:
    """A cell without surrounding space, and without the ="..." by which spreadsheets guard digits."""
    text = text.strip()
    guarded = GUARDED.fullmatch(text)
    return guarded[1].strip() if guarded else text


def quoted(text: str, most: int = 60) -> str:
    """`text` for a message: in quotes, on one line, cut to `most` characters."""
    return repr(text if len(text) <= most else f"{text[:most]}...")
