"""Plain label files as people and spreadsheets write them: encodings, separators, paths, numbers."""

import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.errors import UserError
from shards.labels import LabelOptions, Labels, read_labels
from shards.labels.matching import list_with_labels, summary
from shards.labels.paths import match_paths
from shards.labels.plain import patient_columns
from shards.quarantine import Code
from shards.sources.listing import Listing

CELLS = [["path", "label", "patient"], ["a.png", "Finding", "00123"], ["ü/b.png", "No finding", "7"]]
FOUND = {"a.png": ("finding", "00123"), "ü/b.png": ("no_finding", "7")}


def written(separator: str = ",", end: str = "\n", rows: list[list[str]] = CELLS) -> str:
    return end.join(separator.join(row) for row in rows) + end


def read(folder: Path, text: str | bytes, options: LabelOptions = LabelOptions()) -> Labels:  # noqa: B008
    path = folder / "labels.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_labels(path, options)


def found(labels: Labels) -> dict[str, tuple[str | None, str | None]]:
    assert not any(image.conflict for image in labels.images.values())
    return {path: (image.label, image.patient) for path, image in labels.images.items()}


def listed(folder: Path, labels: Labels, *names: str, source: str = "in") -> Listing:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return list_with_labels([folder / source], labels)


WAYS: dict[str, str | bytes] = {
    "commas": written(),
    "semicolons": written(";"),
    "tabs": written("\t"),
    "lines of Windows": written(";", "\r\n"),
    "lines of old Macs": written(",", "\r"),
    "byte order mark": b"\xef\xbb\xbf" + written().encode(),
    "UTF-16, little endian": b"\xff\xfe" + written().encode("utf-16-le"),
    "UTF-16, big endian": b"\xfe\xff" + written("\t").encode("utf-16-be"),
    "UTF-16, gzipped": gzip.compress(written("\t", "\r\n").encode("utf-16")),
    "sep": "sep=;\r\n" + written(";", "\r\n"),
    "sep and a mark": b"\xef\xbb\xbfsep=;\r\n" + written(";", "\r\n").encode(),
    "sep of tabs": "SEP=\t\n" + written("\t"),
    "empty columns at the end": written(rows=[[*row, "", "", ""] for row in CELLS]),
    "empty columns at the end, semicolons": written(";", "\r\n", [[*row, ""] for row in CELLS]),
    "empty rows": written(rows=[CELLS[0], ["", "", ""], *CELLS[1:], [], ["", "  ", ""]]),
    "all quoted": written(rows=[[f'"{cell}"' for cell in row] for row in CELLS]),
    "spaces": written(rows=[[f" {cell}\u00a0" for cell in row] for row in CELLS]),
    "guarded digits": written(rows=[CELLS[0], ["a.png", "Finding", '="00123"'], CELLS[2]]),
    "other columns": written(
        ";", rows=[["age", *CELLS[0], "h, w"], ["1,5", *CELLS[1], "1"], ["", *CELLS[2], ""]]
    ),
    "no end of the last line": written().rstrip("\n"),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_table_as_programs_write_it(tmp_path: Path, way: str) -> None:
    labels = read(tmp_path, WAYS[way])
    assert found(labels) == FOUND and labels.has_patients


FAULTS: dict[str, tuple[str | bytes, str]] = {
    "workbook": (b"PK\x03\x04" + bytes(40), "save it as CSV"),
    "gzipped workbook": (gzip.compress(b"PK\x03\x04" + bytes(40)), "save it as CSV"),
    "UTF-16 without a mark": (written().encode("utf-16-le"), "UTF-8 or UTF-16|fit no format"),
    "UTF-16, odd": (b"\xff\xfe" + written().encode("utf-16-le") + b"\n", "UTF-8 or UTF-16"),
    "UTF-16, half a pair": (b"\xff\xfe" + written().encode("utf-16-le") + b"\x00\xd8", "UTF-8 or UTF-16"),
    "latin-1": (written().encode("latin-1"), "UTF-8 or UTF-16"),
    "sep alone": ("sep=;\n", "fit no format"),
    "semicolon in a cell": (
        written(";") + "c;d.png;Finding;8\n",
        "line 4: 4 cells, but 3 columns: quote a cell's semicolon",
    ),
    "line after sep": (
        "sep=;\n" + written(";") + "c.png;;8\n",
        "line 5: an empty cell; each row needs its label",
    ),
    "UTF-16 lines": (b"\xff\xfe" + ("path,label\n" + "x" * 2_000_000).encode("utf-16-le"), "more than"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_table_that_is_none(tmp_path: Path, fault: str) -> None:
    text, expected = FAULTS[fault]
    with pytest.raises(UserError, match=expected) as caught:
        read(tmp_path, text)
    assert len(str(caught.value)) < 1500


@given(st.binary(max_size=200), st.sampled_from(["utf-16", "utf-8", "utf-16-be"]), st.sampled_from(",;\t"))
def test_any_bytes_behind_a_head_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, body: bytes, encoding: str, separator: str
) -> None:
    try:
        read(tmp_path_factory.mktemp("any"), written(separator).encode(encoding) + body)
    except UserError as refused:
        assert 10 < len(str(refused)) < 1500


NUMBERS = {
    "0 1": ("0 1 1 0", None, "0 1 1 0"),
    "floats": ("0.0 1.0 1 0", None, "0 1 1 0"),
    "decimal commas": ("0,0 1,0 1 0", None, "0 1 1 0"),
    "grades": ("0 1 2.0 3.00", None, "0 1 2 3"),
    "codes": ("01 1.5 007 1", None, "01 1.5 007 1"),
    "uncertain": ("0 1 1.0 -1", None, "0 1 1 None"),
    "uncertain floats": ("0.0 1.0 -1.0 -1", None, "0 1 None None"),
    "dropped": ("0 1 -1 -1", "drop", "0 1 None None"),
    "as 1": ("0 1 -1 -1,0", "finding", "0 1 1 1"),
    "as 0": ("0 1 -1 -1.0", "no_finding", "0 1 0 0"),
    "minus for no": ("1 -1 1 -1", "no_finding", "1 0 1 0"),
    "grades with -1": ("0 1 2 -1", None, "0 1 2 None"),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_labels_that_are_numbers(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    given_labels, rule, expected = NUMBERS[name]
    rows = [["path", "label"], *([f"{i}.png", label] for i, label in enumerate(given_labels.split()))]
    labels = read(tmp_path, written("\t", rows=rows), LabelOptions(uncertain=rule))
    assert [str(image.label) for image in labels.images.values()] == expected.split()
    uncertain = "-1" in given_labels
    assert labels.settings == {"form": "plain", **({"uncertain": rule or "drop"} if uncertain else {})}
    assert ("is uncertain" in capsys.readouterr().err) == uncertain
    listing = listed(tmp_path, labels, *(f"in/{i}.png" for i in range(4)))
    assert ("uncertain, left out" in summary(labels, listing)[0]) == ("None" in expected)
    assert all(name and not name.startswith("_") for name in listing.classes())


@pytest.mark.parametrize("text", ["a,1\nb,-1\n", "a,-1\n", "a,1.0\nb,-1.0\n", "a,yes\nb,-1\n"])
def test_minus_one_without_0_is_asked_for(tmp_path: Path, text: str) -> None:
    with pytest.raises(UserError, match="--uncertain drop, finding or no_finding"):
        read(tmp_path, f"path,label\n{text}")


def test_uncertain_labels_that_are_not_there_are_not_asked_for(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--uncertain needs labels that may be uncertain"):
        read(tmp_path, "path,label\na,1\nb,0\n", LabelOptions(uncertain="drop"))


@pytest.mark.parametrize("column", ["patinet", "pateint_id", "subjet", "paitent ID", "particpant"])
def test_a_mistyped_column_of_patients_is_refused(tmp_path: Path, column: str) -> None:
    with pytest.raises(UserError, match="is nearly called"):
        read(tmp_path, f"path,label,{column}\na,b,c\n")


@pytest.mark.parametrize(
    "column", ["age", "PatientAge", "patient_sex", "object", "reason", "project", "view", "parent"]
)
def test_other_columns_are_no_mistakes(column: str) -> None:
    assert patient_columns(["path", "label", column]) == []


PATHS = {
    "as they are": ("{n}", "in/sub/{n}", "in"),
    "absolute": ("{t}/in/{n}", "in/{n}", "in"),
    "absolute, of another machine": ("/data/old/in/{n}", "in/{n}", "in"),
    "absolute, of Windows": ("C:\\data\\xray\\{n}", "in/{n}", "in"),
    "absolute, below": ("{t}/in/a b/{n}", "in/a b/{n}", "in"),
    "backslashes": ("sub\\deep\\{n}", "in/sub/deep/{n}", "in"),
    "a dot and a backslash": (".\\sub\\{n}", "in/sub/{n}", "in"),
    "CheXpert": ("CheXpert-v1.0-small/train/patient1/{n}", "in/train/patient1/{n}", "in"),
    "CheXpert, a folder below": ("CheXpert-v1.0-small/train/patient1/{n}", "train/patient1/{n}", "train"),
    "the source's own name": ("in/{n}", "in/{n}", "in"),
    "file addresses' folders": ("images/all/{n}", "in/all/{n}", "in"),
    "double slashes": ("x//all/./{n}", "in/all/{n}", "in"),
}


@pytest.mark.parametrize("some", [False, True])
@pytest.mark.parametrize("way", list(PATHS)[1:])
def test_paths_are_understood_and_reported(tmp_path: Path, way: str, some: bool) -> None:
    """All rows in this form, or two of twelve."""
    row, file, source = PATHS[way]
    names = [f"{number}.png" for number in range(12)]
    files = [file.format(n=name) for name in names]
    plain = [name.removeprefix(f"{source}/") for name in files]
    rows = [row.format(n=name, t=tmp_path) for name in names]
    rows = [*plain[:10], *rows[10:]] if some else rows
    table = [["path", "label"], *([path, "ab"[i % 2]] for i, path in enumerate(rows))]
    labels = read(tmp_path, written("\t", rows=table))
    listing = listed(tmp_path, labels, *files, source=source)
    assert {image.name: image.label for image in listing.images} == {
        p: "ab"[i % 2] for i, p in enumerate(plain)
    }
    assert not listing.quarantine and len(listing.notes) == (0 if rows[-1] in ("sub/11.png",) else 1)


def test_a_path_is_never_guessed(tmp_path: Path) -> None:
    names = ["0.png", "1.png"]
    assert match_paths(["train/0.png", "test/0.png"], names, [tmp_path]) == ({}, [])  # which of the two?
    own = match_paths(["train/0.png", "test/0.png"], names, [tmp_path / "test"])
    assert own[0] == {"test/0.png": "0.png"}
    assert match_paths(["../0.png", "a/../../0.png", "/etc/passwd"], names, [tmp_path]) == ({}, [])
    assert match_paths(["0.png", "x/0.png"], names, [tmp_path])[0] == {"0.png": "0.png"}


def test_one_file_by_two_paths_is_one_image(tmp_path: Path) -> None:
    text = f"path,label\na.png,x\n{tmp_path}/in/a.png,x\nb.png,x\n{tmp_path}/in/b.png,y\nc.png,y\n"
    listing = listed(tmp_path, read(tmp_path, text), "in/a.png", "in/b.png", "in/c.png")
    assert {image.name: image.label for image in listing.images} == {"a.png": "x", "c.png": "y"}
    assert [(entry.path, entry.code) for entry in listing.quarantine] == [("b.png", Code.CONFLICTING_LABEL)]


def test_outside_paths_name_the_cure(tmp_path: Path) -> None:
    labels = read(tmp_path, "path,label\na.png,x\n../b.png,x\n/far/c.png,x\nD:\\d.png,x\n")
    listing = listed(tmp_path, labels, "in/a.png", "b.png")
    outside = [entry for entry in listing.quarantine if entry.code == Code.OUTSIDE_SOURCE]
    assert len(outside) == 3 and all("give its folder as SOURCE" in entry.detail for entry in outside)


def test_no_match_at_all_names_the_folder_to_give(tmp_path: Path) -> None:
    labels = read(tmp_path, "path,label\na.png,x\n")
    with pytest.raises(UserError, match="paths are relative to SOURCE, so give .*/in/images/all"):
        listed(tmp_path, labels, "in/images/all/a.png")


@given(st.lists(st.text("ab/\\.", max_size=8), max_size=6), st.lists(st.text("ab/", max_size=6), max_size=6))
def test_matches_are_files_that_are_there(paths: list[str], names: list[str]) -> None:
    matched, _ = match_paths(paths, names, [Path("/x/a")])
    assert set(matched) <= set(paths) and set(matched.values()) <= set(names)
