"""Faults in label files of public sets: named with their line, whatever the bytes are."""

from pathlib import Path

import pytest
from helpers.public_tables import (
    CHEXPERT,
    CHEXPERT_ROWS,
    MIMIC,
    MIMIC_ROWS,
    PADCHEST,
    PADCHEST_FILE,
    RSNA,
    RSNA_ROWS,
    SIIM,
    UID,
    F,
    N,
    padchest_row,
    read,
)
from hypothesis import given
from hypothesis import strategies as st

from shards.errors import UserError
from shards.labels import LabelOptions, observations, padchest, read_labels
from shards.labels.matching import list_with_labels


@pytest.mark.parametrize(
    ("text", "options", "expected"),
    [
        (
            CHEXPERT + "a.jpg,F,1,Frontal,AP,1,,,,,x,,,,,,,,\n",
            {},
            "line 2: Edema is 'x', not 1, 0, -1 or empty",
        ),
        (CHEXPERT + "a.jpg,F,1,Frontal,AP,2.0,,,,,,,,,,,,,\n", {}, "No Finding is '2.0'"),
        (CHEXPERT + ",F,1,Frontal,AP,1,,,,,,,,,,,,,\n", {}, "each row needs its Path"),
        (CHEXPERT + CHEXPERT_ROWS, {"findings": ("Edemma",)}, "the nearest are: Edema"),
        (CHEXPERT + CHEXPERT_ROWS, {"rule": "all"}, "--label-rule needs several readers"),
        (MIMIC + "p1,2,,,,,,,,,1.0,,,,,\n", {}, "'p1' is not a number of subject"),
        (MIMIC + "1,../2,,,,,,,,,1.0,,,,,\n", {}, "'../2' is not a number"),
        (PADCHEST + padchest_row(1, "a.png", "1", "PA", "normal"), {}, "not a list"),
        (PADCHEST + padchest_row(1, "a.png", "1", "PA", "['a' 'b']"), {}, "not a list"),
        (PADCHEST + padchest_row(1, "a.png", "1", "PA", "[__import__('os')]"), {}, "not a list"),
        (PADCHEST + padchest_row(1, "a/b.png", "1", "PA", "['a']"), {}, "not a file's name"),
        (PADCHEST_FILE, {"uncertain": "drop"}, "--uncertain needs labels that may be uncertain"),
        (RSNA + "a,,,,,2\n", {}, "Target '2' not 0 or 1"),
        (RSNA + RSNA_ROWS, {"view": "frontal"}, "--view needs a column"),
        ("patientId,class\na,Sick\n", {}, "none of RSNA's three"),
        (SIIM + "a, 1 2 3\n", {}, "neither -1 nor run lengths"),
        (SIIM + "a, 1e9\n", {}, "neither -1 nor run lengths"),
        (SIIM + "a,\n", {}, "each row needs its EncodedPixels"),
        ("path,label,patientId,class\na,b,c,Normal\n", {}, "fit more than one format"),
    ],
)
def test_faults_are_named(tmp_path: Path, text: str, options: dict[str, object], expected: str) -> None:
    with pytest.raises(UserError, match=expected) as caught:
        read(tmp_path, text, **options)
    assert len(str(caught.value)) < 800


HEADS = [CHEXPERT, MIMIC, PADCHEST, RSNA, SIIM, "patientId,class\n"]


@given(st.binary(max_size=200), st.sampled_from(HEADS))
def test_any_bytes_behind_a_head_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, body: bytes, head: str
) -> None:
    path = tmp_path_factory.mktemp("any") / "labels.csv"
    path.write_bytes(head.encode() + body)
    try:
        read_labels(path, LabelOptions())
    except UserError as refused:
        assert 10 < len(str(refused)) < 1500


TABLES = [CHEXPERT + CHEXPERT_ROWS, MIMIC + MIMIC_ROWS, PADCHEST_FILE, RSNA + RSNA_ROWS, SIIM + f"{UID},-1\n"]


@given(
    st.sampled_from(TABLES),
    st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=3), st.integers(0, 40)), max_size=4),
)
def test_a_damaged_table_is_read_or_refused_and_matches_no_file_outside(
    tmp_path_factory: pytest.TempPathFactory, text: str, changes: list[tuple[float, bytes, int]]
) -> None:
    """Bytes put in for others anywhere: what is still read names images of known classes only."""
    content = text.encode()
    for where, new, dropped in changes:
        at = int(where * len(content))
        content = content[:at] + new + content[at + dropped :]
    folder = tmp_path_factory.mktemp("any")
    (folder / "labels.csv").write_bytes(content)
    (folder / "in").mkdir()
    (folder / "in" / "a.png").write_bytes(b"")
    (folder / "1_a.png").write_bytes(b"")
    try:
        labels = read_labels(folder / "labels.csv", LabelOptions())
        assert {image.label for image in labels.images.values()} <= {N, F, None}
        listing = list_with_labels([folder / "in"], labels)
        assert {image.name for image in listing.images} <= {"a.png"}
    except UserError:
        pass


@given(
    st.fixed_dictionaries({name: st.sampled_from(["", "0", "1", "-1"]) for name in observations.FINDINGS}),
    st.sampled_from([(), ("Edema",), ("Edema", "Fracture")]),
)
def test_a_rule_for_uncertain_labels_is_that_of_the_labels_it_stands_for(
    cells: dict[str, str], asked: tuple[str, ...]
) -> None:
    """U-Ones and U-Zeroes are 1 and 0 in their stead; dropping never gives a class that both deny."""

    def label(said: dict[str, str], rule: str) -> str | None:
        return observations.label_of(said, None, asked, rule).label

    said = {name: cell for name, cell in cells.items() if cell}
    ones, zeroes = ({n: ("10"[i] if c == "-1" else c) for n, c in said.items()} for i in (0, 1))
    assert label(said, "finding") == label(ones, "drop")
    if "-1" not in {cell for name, cell in said.items() if name != "Support Devices"}:
        assert label(said, "no_finding") == label(zeroes, "drop")
    assert label(said, "drop") in (None, label(said, "finding"), label(said, "no_finding"))


@given(st.lists(st.text("ab'\",[] \\", max_size=6), max_size=4))
def test_a_list_of_labels_is_read_as_python_writes_it(names: list[str]) -> None:
    plain = [name for name in names if "\\" not in repr(name)]
    found = padchest._names(None, repr(plain))  # type: ignore[arg-type]
    assert found == {name.strip().lower() for name in plain} - padchest.SAYS_NOTHING
